"""PPO live: steer η and β while a policy trains, and compare it with the exact optimum.

The run stays here, in its worker thread; the page gets numbers and words, and draws them: see
front/cockpit.js.
"""

import dataclasses
import math
import os
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import anywidget
import traitlets

from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.kl import KLMode
from rlhf_lab.language import PROMPTS
from rlhf_lab.progress import doing
from rlhf_lab.trainer import Trainer
from rlhf_lab.translation import page_words, tr
from rlhf_lab.ui.branch import Branch
from rlhf_lab.ui.charts import front_file
from rlhf_lab.ui.dashboard import flight_figure, frontier
from rlhf_lab.ui.engine import CockpitState, Engine
from rlhf_lab.ui.image import Picture, show
from rlhf_lab.ui.optima import BETA_POSITIONS, ETA_POSITIONS, compared_policy
from rlhf_lab.ui.runner import Job, wait
from rlhf_lab.world import World, response_text

PANELS = ("curves", "landscape", "regret", "samples")
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
EVERY = 0.05
"""Seconds between two news of a running loop, about as many as an eye can follow."""
UNHEARD, SELDOM = 50, 10.0
"""After so many news that no page has heard, there is one every so many seconds."""
PATIENCE, SLOWLY = 20.0, 0.22
"""Seconds until a run that no page hears pauses; seconds of rest after each slow iteration,
so that there are about four a second."""
_ROWS = 6
_SCRIPTS = ("parts.js", "optimum.js", "cockpit.js", "kernel.js")
_START = "\nexport default { render: rlhfKernel.render(rlhfCockpit.mount, rlhfKernel.cockpit) };\n"


class Cockpit(anywidget.AnyWidget):
    """A PPO run with controls. Building it starts nothing; `run(n)` is Start without a mouse.

    Args:
        world: from `load_world()`.
        config: the settings of the run; `limit` replaces `config.iterations`.
        policy: the policy to start from; π_SFT if None. The reference is π_SFT in any case.
        panels: what to show: any of "curves", "landscape", "regret", "samples".
        limit: a run that nobody stops ends by itself after this number of iterations.

    Raises:
        ValueError: `panels` is empty or holds an unknown name.
    """

    _esm = "".join(map(front_file, _SCRIPTS)) + _START
    _css = front_file("front.css")
    _ipython_display_ = None  # that of ipywidgets 7 would leave our words out
    constants: Any = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        world: World,
        config: PPOConfig | None = None,
        *,
        policy: GPT2 | None = None,
        panels: Sequence[str] = PANELS,
        limit: int = 2_000,
    ) -> None:
        if not panels or not set(panels) <= set(PANELS):
            raise ValueError(f"panels must be some of {PANELS}, got {tuple(panels)}")
        self.world, self.config, self.limit = world, config or PPOConfig(), limit
        self.panels = tuple(panels)
        self._serial = self._heard = self._run = 0
        self._sent: tuple[Branch | None, int, Branch | None, int] = (None, 0, None, 0)
        self._told_at, self._by_code, self._withheld = -math.inf, False, False
        self._heard_at = -math.inf
        self._moved: dict[str, int] = {}
        self.news: dict[str, Any] = {}
        """What the page was told last."""
        best = [list(m) for m in reversed(frontier(world))]
        super().__init__(
            constants={
                "etas": list(ETA_POSITIONS), "betas": list(BETA_POSITIONS),
                "prompts": list(PROMPTS), "panels": list(panels),
                "klModes": list(get_args(KLMode)), "rates": list(RATES), "frontier": best,
                "first": _first(world, policy), "folder": "runs/cockpit", "messages": page_words(),
            }
        )  # fmt: skip
        self._engine = Engine(world, self.config, policy, self._tell)
        self.on_msg(self._order)
        self._engine.draw()

    def __repr__(self) -> str:
        k, eta, beta = self.trainer.iteration, self.trainer.eta, self.trainer.beta
        return f"Cockpit(iteration={k}, eta={eta:g}, beta={beta:g})"

    @property
    def trainer(self) -> Trainer:
        """The trainer itself; leave it alone while the cockpit is running."""
        return self._engine.branch.trainer

    @property
    def parent(self) -> Branch | None:
        """The run that this one was forked from; it goes on beside it."""
        return self._engine.parent

    @property
    def state(self) -> CockpitState:
        """All numbers, as of the last finished iteration."""
        return self._engine.state

    # Each method below returns when its work is done, measured exactly and shown.

    def set(self, *, eta: float | None = None, beta: float | None = None) -> None:
        """Move the sliders to any values; they act from the next iteration on.

        Raises:
            ValueError: a coefficient is negative or not finite.
        """
        given = (("eta", eta), ("beta", beta))
        self._engine.now(partial(self._move, {name: x for name, x in given if x is not None}))

    def run(self, n: int) -> None:
        """Run n iterations, as the Start button does.

        Raises:
            NonFiniteError: a loss or weight became NaN or infinite; the last good state is kept.
        """
        self.pause()
        # While a cell runs, nobody can say that he has heard.
        self._by_code = True
        try:
            wait(
                self._engine.start(n),
                lambda: doing("cockpit, iteration {n}", n=self.trainer.iteration),
            )
        finally:
            self.pause()  # after Ctrl-C, too
            self._by_code, self._heard = False, self._serial

    def pause(self) -> None:
        """Stop after the iteration that is under way."""
        self._engine.pause()
        self._engine.now(lambda: None)

    def reset(self) -> None:
        """Go back to the start, with the present settings, η and β."""
        self._engine.pause()
        self._engine.now(partial(self._restart, {}))

    def fork(self) -> None:
        """Let a copy go on with the present η and β, drawn in grey, while you steer this run."""
        self._engine.now(self._engine.fork)

    def save(self, folder: str | Path) -> None:
        """Save the run into a new folder, or over an earlier save of the same run.

        Raises:
            ValueError: the folder holds anything else.
        """
        self._engine.now(lambda: self._engine.save(Path(folder)))

    def load(self, folder: str | Path) -> None:
        """Continue the run in a folder from where it stopped.

        Raises:
            ValueError: the folder does not hold a complete run of this world.
        """
        self._engine.pause()
        self._engine.now(lambda: self._load(Path(folder)))

    def snapshot(self, alt: str) -> Picture:
        """The picture as a cell's output, which is visible even when no kernel is running.

        Raises:
            ValueError: `alt` is empty, or the cockpit has samples only.
        """
        drawn = [panel for panel in self.panels if panel != "samples"]
        if not drawn:
            raise ValueError("this cockpit has no picture: give it a panel besides the samples")
        images: list[Picture] = []

        def take() -> None:
            figure = flight_figure(drawn, frontier(self.world), self._engine.view())
            images.append(show(figure, alt))

        self._engine.now(take)
        return images[0]

    def _order(self, _: object, order: dict[str, Any], __: object) -> None:
        """Do what the page asks for; what goes wrong is shown there, in words."""
        self._heard, self._heard_at = self._serial, time.monotonic()
        engine, what = self._engine, order.get("do")
        if self._withheld:
            engine.ask(lambda: self._tell(True))
        jobs: dict[str, Job] = {
            "pause": lambda: None,
            "step": engine.step,
            "reset": lambda: self._restart(order),
            "fork": engine.fork,
            "save": lambda: engine.save(_allowed(Path(order["folder"]))),
            "load": lambda: self._load(_allowed(Path(order["folder"]))),
        }
        if what in ("pause", "step", "reset", "load"):
            engine.pause()
        if what == "start":
            farewell = tr("It stopped by itself after {n:,} iterations; press Go on.", n=self.limit)
            engine.start(self.limit, farewell)
        elif what in jobs:
            engine.ask(jobs[what])
        elif "slow" in order:
            engine.ask(lambda: setattr(engine, "rest", SLOWLY if order["slow"] else 0.0))
        elif "move" in order:
            engine.ask(lambda: self._move_for(order.get("page", ""), order))
        elif "all" in order:
            engine.ask(self._tell_all)

    def _move_for(self, page: str, order: dict[str, Any]) -> None:
        """Do a move of a page, and let it know which of its moves that was."""
        self._moved[page] = order.get("asked", 0)
        self._move(order["move"])

    def _move(self, wished: dict[str, float]) -> None:
        wished = {name: float(wished[name]) for name in ("eta", "beta") if name in wished}
        PPOConfig.from_dict(wished)  # raises
        self._engine.moved.update(wished)
        self._engine.steer()
        self._tell(True)

    def _restart(self, order: dict[str, Any]) -> None:
        """Start again with the settings of the page; those that it leaves out stay."""
        settings = dict(order.get("settings", {}))
        for name, read in (("seed", int), ("kl_target", float), ("lr", float)):
            if name in settings:
                settings[name] = _as_number(name, read, settings[name])
        trainer = self.trainer
        for name, now in (("eta", trainer.eta), ("beta", trainer.beta)):
            wished = order.get(name)
            settings[name] = now if wished is None else float(wished)
        self._engine.restart(dataclasses.replace(trainer.config, **settings))
        self.config = self.trainer.config

    def _load(self, folder: Path) -> None:
        self._engine.load(folder)
        self.config = self.trainer.config

    def _tell(self, urgent: bool) -> None:
        """Send news to the page; runs on the engine's thread."""
        now = time.monotonic()
        if not urgent and now < self._told_at + EVERY:
            return
        unheard = not self._by_code and self._serial - self._heard > UNHEARD
        if unheard and self._engine.running and now > self._heard_at + PATIENCE:
            self._engine.pause()
            self._engine.note = tr(
                "It paused by itself: no page has heard it for {seconds:.0f} seconds. Press Go on.",
                seconds=PATIENCE,
            )
        self._withheld = unheard and now < self._told_at + SELDOM
        if self._withheld:
            return
        self._told_at = now
        self.news = self._news()
        self.send(self.news)

    def _tell_all(self) -> None:
        self._sent = (None, 0, None, 0)
        self._tell(True)

    def _news(self) -> dict[str, Any]:
        """What has happened since the last news: rows are [score, gold, KL, H], one an update."""
        engine, state, branch = self._engine, self.state, self._engine.branch
        parent = engine.parent
        told, start, told_parent, parent_start = self._sent
        self._run += told is not branch
        start = start if told is branch else 0
        parent_start = parent_start if told_parent is parent else 0
        rows, parents = (
            list(branch.seen[start:]),
            list(parent.seen[parent_start:] if parent else ()),
        )
        self._sent = (branch, start + len(rows), parent, parent_start + len(parents))
        self._serial += 1
        config = branch.trainer.config
        return {
            "serial": self._serial, "run": self._run, "from": start, "parentFrom": parent_start,
            "rows": [_row(m) for m in rows], "parent": [_row(m) for m in parents],
            "allExact": [[k, *_row(m)] for k, m in branch.exact.items()],
            "moves": [list(move) for move in branch.moves()],
            "moved": dict(self._moved), "forked": branch.forked, "slow": engine.rest > 0,
            "running": state.running, "iteration": state.iteration,
            "status": _status(state), "note": engine.note, "error": state.error,
            "eta": state.eta, "beta": state.beta, "optimum": _row(state.optimum),
            "exact": _row(state.exact), "exactAt": state.exact_iteration,
            "batch": _row(branch.seen[-1]) if branch.seen else None,
            "distinct": state.batch.distinct if state.batch else None,
            "regret": state.regret, "estimate": _number(state.regret_estimate),
            "reviews": {prompt: branch.reviews(prompt, _ROWS) for prompt in PROMPTS},
            "written": {prompt: branch.written(prompt) for prompt in PROMPTS},
            "settings": {
                name: getattr(config, name) for name in ("kl_mode", "lr", "seed", "kl_target")
            },
        }  # fmt: skip

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return bundle if data is None else ({**data, "text/plain": repr(self)}, metadata)


def _status(state: CockpitState) -> str:
    """One sentence on what the cockpit is doing."""
    k = f"{state.iteration:,}"
    if state.running:
        return tr("Running, iteration {k}.", k=k)
    if state.error:
        return tr("That did not work. The run is kept as it was after iteration {k}.", k=k)
    if state.iteration == 0:
        return tr("Ready.")
    return tr("Paused at iteration {k}.", k=k)


def _first(world: World, policy: GPT2 | None) -> dict[str, list[list[float | str]]]:
    """What the first policy says most often of each prompt: probability, review, gold score."""
    found = {}
    for prompt in PROMPTS:
        most = compared_policy(world, prompt, policy).logprobs.exp().topk(_ROWS)
        numbers = zip(most.values, most.indices.tolist(), strict=True)
        golds = world.tables(prompt).golds
        found[prompt] = [[p.item(), response_text(i), golds[i].item()] for p, i in numbers]
    return found


def _row(metrics: Iterable[float]) -> list[float | None]:
    return [_number(x) for x in metrics]


def _number(x: float | None) -> float | None:
    """JSON knows no NaN, and a run folder holds no gold scores."""
    return None if x is None or not math.isfinite(x) else x


def _as_number(name: str, read: type, value: Any) -> Any:
    """What somebody typed into a field; an empty one means that no target is wanted."""
    if name == "kl_target" and value in ("", None):
        return None
    try:
        return read(value)
    except ValueError:
        said = (
            tr("{name} must be a whole number, got {value!r}", name=name, value=value)
            if read is int
            else tr("{name} must be a number, got {value!r}", name=name, value=value)
        )
        raise ValueError(said) from None


def _allowed(folder: Path) -> Path:
    """The folder that somebody typed, unless a visitor of a served page leaves the runs folder."""
    served = os.environ.get("SERVER_SOFTWARE", "").startswith("voila")  # set by Voilà
    home = Path("runs").resolve()
    if served and home not in folder.resolve().parents:
        raise ValueError(
            tr("on this page runs are kept in {home}; name a folder such as runs/mine", home=home)
        )
    return folder
