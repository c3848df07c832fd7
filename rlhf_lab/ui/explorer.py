"""Sliders for η and β: every move computes the exact optimum over all 402,234 responses.

The page does that, from tables that it asks the kernel for, so a move needs no answer from Python:
see front/explorer.js. Here are the numbers for those who compute with them, `Explorer.state`.
"""

import copy
import json
from collections.abc import Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from torch import Tensor

from rlhf_lab.gpt2 import GPT2
from rlhf_lab.language import PROMPTS, WORDS
from rlhf_lab.translation import page_words, tr
from rlhf_lab.ui.charts import chart, front_file, to_json
from rlhf_lab.ui.explorer_still import PANELS, alt, check_panels, optimum_figure
from rlhf_lab.ui.image import show
from rlhf_lab.ui.optima import (
    BETA_POSITIONS,
    DRAWS,
    ETA_POSITIONS,
    SCORES,
    ComparedPolicy,
    ExplorerState,
    compared_policy,
    optima,
)
from rlhf_lab.world import World

_POSITIONS = {
    "prompt": PROMPTS,
    "eta": ETA_POSITIONS,
    "beta": BETA_POSITIONS,
    "score": SCORES,
}
_SCRIPTS = ("parts.js", "optimum.js", "explorer.js", "kernel.js")
_START = (
    "\nexport default { render: rlhfKernel.render(rlhfExplorer.mount, rlhfKernel.explorer) };\n"
)


def _synced(kind: type[traitlets.TraitType[Any, Any]]) -> Any:
    return kind().tag(sync=True)


class Explorer(anywidget.AnyWidget):
    """Two sliders, a prompt and a score. They show the optimum, not a trained policy.

    Args:
        world: from `load_world()`.
        prompt: "food" or "staff".
        eta, beta: first values of the sliders, among `ETA_POSITIONS` and `BETA_POSITIONS`.
        score: what π* maximises: the score of the "reward model", or the "gold" score.
        panels: which of "responses", "frontier" and "map" to draw.
        policy: a policy to compare with, such as `trainer.policy`; π_SFT if left out. A copy is
            kept, so later training does not change the picture.
        policy_name: its name, at most 6 letters.

    Raises:
        ValueError: there is no such prompt, score or panel, or no such position of a slider.

    `set` moves the controls from code, `state` reads what is shown:

        explorer = Explorer(load_world(), eta=0.3)
        explorer.set(beta=0.1, prompt="staff")
        explorer.state.metrics.gold
    """

    _esm = "".join(map(front_file, _SCRIPTS)) + _START
    _css = front_file("front.css")
    _ipython_display_ = None  # that of ipywidgets 7 would leave the still picture out

    prompt, score = _synced(traitlets.Unicode), _synced(traitlets.Unicode)
    eta, beta = _synced(traitlets.Float), _synced(traitlets.Float)
    constants = _synced(traitlets.Dict)

    def __init__(
        self,
        world: World,
        prompt: str = "food",
        eta: float = 0.3,
        beta: float = 0.0,
        *,
        score: str = "reward model",
        panels: Sequence[str] = PANELS,
        policy: GPT2 | None = None,
        policy_name: str = "π_SFT",
    ) -> None:
        check_panels(panels)
        wanted = {"prompt": prompt, "eta": eta, "beta": beta, "score": score}
        for name, value in wanted.items():
            _require_position(name, value)
        self.world, self.panels = world, tuple(panels)
        self._policy, self._policy_name = copy.deepcopy(policy), policy_name
        self._compared: dict[str, ComparedPolicy] = {}
        constants = {
            "prompts": PROMPTS, "scores": SCORES, "etas": ETA_POSITIONS, "betas": BETA_POSITIONS,
            "words": WORDS, "panels": self.panels, "comparedName": policy_name, "draws": DRAWS,
            "messages": page_words(),
        }  # fmt: skip
        super().__init__(**wanted, constants=json.loads(json.dumps(constants)))
        self.on_msg(self._answer)

    def __repr__(self) -> str:
        return f"Explorer({', '.join(f'{name}={getattr(self, name)!r}' for name in _POSITIONS)})"

    @property
    def state(self) -> ExplorerState:
        """The exact numbers for the present values of the controls."""
        logprobs = self._compared_with(self.prompt).logprobs
        return optima(self.world, self.prompt, self.score).state(self.eta, self.beta, logprobs)

    def set(
        self,
        *,
        eta: float | None = None,
        beta: float | None = None,
        prompt: str | None = None,
        score: str | None = None,
    ) -> None:
        """Move the controls from code; those that are left out stay where they are.

        Raises:
            ValueError: a control has no such position; the message names the nearest ones.
        """
        wanted = {"prompt": prompt, "eta": eta, "beta": beta, "score": score}
        moves = {name: value for name, value in wanted.items() if value is not None}
        for name, value in moves.items():
            _require_position(name, value)
        with self.hold_sync():
            for name, value in moves.items():
                setattr(self, name, value)

    @traitlets.validate(*_POSITIONS)
    def _only_positions(self, proposal: Any) -> Any:
        _require_position(proposal.trait.name, proposal.value)
        return proposal.value

    def _answer(self, _: object, question: dict[str, Any], __: object) -> None:
        """Send the page what it asks for; whatever goes wrong is shown there, in words."""
        answer: dict[str, Any] = {"answer": question.get("ask")}
        buffers: list[bytes] = []
        try:
            if "tables" in question:
                buffers = self._tables(question["tables"])
            else:
                answer["still"] = to_json(chart(self.world, question["still"], question["score"]))
        except Exception as error:  # Jupyter shows nobody what a callback raises
            said = f"{type(error).__name__}: {error}"
            answer["trouble"] = tr("Python could not compute this: {error}", error=said)
        self.send(answer, buffers)

    def _tables(self, prompt: str) -> list[bytes]:
        """log π_SFT, both scores, and log π of the policy to compare with if there is one."""
        tables = self.world.tables(prompt)
        columns = [tables.ref_logprobs, tables.scores, tables.golds]
        if self._policy is not None:
            columns.append(self._compared_with(prompt).logprobs)
        return [_float32(column) for column in columns]

    def _compared_with(self, prompt: str) -> ComparedPolicy:
        if prompt not in self._compared:
            self._compared[prompt] = compared_policy(
                self.world, prompt, self._policy, self._policy_name
            )
        return self._compared[prompt]

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and a picture of it for readers without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if data is None:
            return bundle
        figure = optimum_figure(
            self.world, self.prompt, self.eta, self.beta, self.score, self.panels
        )
        still, about = show(figure, alt(self.state))._repr_mimebundle_()
        return {**data, **still, "text/plain": repr(self)}, {**metadata, **about}


def _float32(column: Tensor) -> bytes:
    return column.detach().cpu().numpy().astype(np.float32).tobytes()


def _require_position(name: str, value: Any) -> None:
    positions: Sequence[Any] = _POSITIONS[name]
    if value in positions:
        return
    if isinstance(value, str) or isinstance(positions[0], str):
        raise ValueError(f"{name} must be one of {tuple(positions)}, got {value!r}")
    nearest = sorted(sorted(positions, key=lambda x: abs(x - value))[:2])
    raise ValueError(
        f"{name} = {value!r} is not a position of the slider; the nearest are "
        f"{' and '.join(f'{x:g}' for x in nearest)}"
    )
