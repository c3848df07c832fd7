"""PPO live: steer η and β while a policy trains, and compare it with the exact optimum."""

import dataclasses
import functools
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as widgets
from IPython.display import Image

from rlhf_lab.config import PPOConfig
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.language import PROMPTS
from rlhf_lab.trainer import Trainer
from rlhf_lab.ui import cockpit_words as words
from rlhf_lab.ui.branch import Branch
from rlhf_lab.ui.controls import Controls, put
from rlhf_lab.ui.dashboard import Dashboard, frontier
from rlhf_lab.ui.engine import CockpitState, Engine
from rlhf_lab.ui.image import show
from rlhf_lab.ui.runner import Job, wait
from rlhf_lab.world import World

PANELS = ("curves", "landscape", "regret", "samples")


class Cockpit(widgets.VBox):  # type: ignore[misc]
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
        self._engine = Engine(world, self.config, policy, self._say, self._draw)
        drawn = [panel for panel in panels if panel != "samples"]
        self._dashboard = Dashboard(drawn, frontier(world)) if drawn else None
        self._quiet, self._heard_at = False, -math.inf
        self.controls = Controls(self.config, limit)
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
        self.status, self.numbers, self.heard = (widgets.HTML() for _ in range(3))
        self.reviews = [widgets.HTML() for _ in PROMPTS * ("samples" in panels)]
        super().__init__(self._arrange())
        self.add_class("rlhf-cockpit")
        self._connect()
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

    # Each method below returns when its work is done, measured exactly and drawn.

    def set(self, *, eta: float | None = None, beta: float | None = None) -> None:
        """Move the sliders to any values; they act from the next iteration on.

        Raises:
            ValueError: a coefficient is negative or not finite.
        """
        given = (("eta", eta), ("beta", beta))
        wished = {name: float(x) for name, x in given if x is not None}
        PPOConfig.from_dict(wished)  # raises
        for name, value in wished.items():
            self._quietly(functools.partial(put, getattr(self.controls, name), value))
        self._engine.moved.update(wished)
        self._engine.now(self._engine.steer)

    def run(self, n: int) -> None:
        """Run n iterations, as the Start button does.

        Raises:
            NonFiniteError: a loss or weight became NaN or infinite; the last good state is kept.
        """
        self.pause()
        try:
            wait(self._engine.start(n))
        finally:
            self.pause()  # after Ctrl-C, too

    def pause(self) -> None:
        """Stop after the iteration that is under way."""
        self._engine.pause()
        self._engine.now(lambda: None)

    def reset(self) -> None:
        """Go back to the start, with the settings of the fields and the η and β of the sliders."""
        self._engine.pause()
        self._engine.now(self._restart)

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

    def snapshot(self, alt: str) -> Image:
        """The picture as a cell's output, which is visible even when no kernel is running.

        Raises:
            ValueError: `alt` is empty, or the cockpit has samples only.
        """
        if self._dashboard is None:
            raise ValueError("this cockpit has no picture: give it a panel besides the samples")
        dashboard, images = self._dashboard, []

        def take() -> None:
            dashboard.update(self._engine.view())
            images.append(show(dashboard.figure, alt))
            dashboard.live.invalidate()

        self._engine.now(take)
        return images[0]

    def _connect(self) -> None:
        """Connect each control with the job that the engine does for it."""
        engine, c = self._engine, self.controls
        farewell = f"It stopped by itself after {self.limit:,} iterations; Start goes on."
        c.start.on_click(lambda _: engine.start(self.limit, farewell))
        for button, job, stops in (
            (c.pause, lambda: None, True),
            (c.step, engine.step, True),
            (c.reset, self._restart, True),
            (c.fork, engine.fork, False),
            (c.save, lambda: engine.save(_allowed(Path(c.folder.value))), False),
            (c.load, lambda: self._load(_allowed(Path(c.folder.value))), True),
        ):
            button.on_click(functools.partial(self._clicked, job, stops))
        for name in ("eta", "beta"):
            getattr(c, name).observe(functools.partial(self._slid, name), "value")

    def _clicked(self, job: Job, stops: bool, _: widgets.Button) -> None:
        if stops:
            self._engine.pause()
        self._engine.ask(job)

    def _slid(self, name: str, change: dict[str, float]) -> None:
        if not self._quiet:
            self._engine.moved[name] = change["new"]
            if not self._engine.running:  # a running engine looks by itself
                self._engine.ask(self._engine.steer)

    def _restart(self) -> None:
        c = self.controls
        self._engine.restart(
            dataclasses.replace(
                self.config, eta=c.eta.value, beta=c.beta.value,
                kl_mode=c.kl_mode.value, lr=c.rate.value, seed=c.seed.value,
            )
        )  # fmt: skip

    def _load(self, folder: Path) -> None:
        self._engine.load(folder)
        trainer = self._engine.branch.trainer
        self.config = trainer.config
        self._quietly(lambda: self.controls.show(trainer.config, trainer.eta, trainer.beta))

    def _quietly(self, change: Job) -> None:
        """Move the sliders without any effect on the run: on the way they may pass through 0."""
        self._quiet = True
        try:
            change()
        finally:
            self._quiet = False

    def _say(self) -> None:
        """Update status and numbers, which takes 1 ms; on the engine's thread, like `_draw`."""
        engine, state = self._engine, self.state
        self.status.value = words.status(state, engine.note, self.limit)
        self.numbers.value = words.numbers(state, engine.branch, engine.parent)
        self.controls.light(state.running)

    def _draw(self) -> None:
        """Update the picture, the reviews and the sentence for screen readers."""
        engine, state = self._engine, self.state
        if self._dashboard is not None:
            self.picture.value = self._dashboard.png(engine.view(), 1 if state.running else None)
        for html, prompt in zip(self.reviews, PROMPTS, strict=False):
            html.value = words.reviews(prompt, engine.branch.reviews(prompt, words.ROWS))
        # A screen reader would stumble over a sentence that changes five times a second.
        if not state.running or time.monotonic() > self._heard_at + 5:
            self._heard_at = time.monotonic()
            self.heard.value = words.heard(state)

    def _arrange(self) -> list[widgets.Widget]:
        buttons, sliders, settings = self.controls.rows()
        tables = widgets.Box(
            [self.numbers, *self.reviews],
            layout=widgets.Layout(display="flex", flex_flow="row wrap"),
        )
        for widget, name in (
            (self.status, "status"), (self.numbers, "numbers"), (self.heard, "heard"),
            (self.picture, "picture"), (tables, "tables"),
        ):  # fmt: skip
            widget.add_class(f"rlhf-{name}")
        pictures = [self.picture] if self._dashboard else []
        return [
            widgets.HTML(words.STYLE), buttons, sliders, settings, self.status, *pictures, tables,
            self.heard,
        ]  # fmt: skip


def _allowed(folder: Path) -> Path:
    """The folder that somebody typed, unless a visitor of a served page leaves the runs folder."""
    served = os.environ.get("SERVER_SOFTWARE", "").startswith("voila")  # set by Voilà
    home = Path("runs").resolve()
    if served and home not in folder.resolve().parents:
        raise ValueError(f"on this page runs are kept in {home}; name a folder such as runs/mine")
    return folder
