"""The settings of a run, PPO's or a group's, in one place that rejects what cannot be meant."""

import dataclasses
from typing import Any, Literal, Self, get_args

from rlhf_lab._checks import require, takes
from rlhf_lab._require import said
from rlhf_lab.aggregation import Denominator
from rlhf_lab.kl import KLMode
from rlhf_lab.ratios import Level
from rlhf_lab.rewards import AdaptiveKLController, FixedKLController


def _setting(default: Any, help: str) -> Any:
    """A field whose help is both its documentation and the command line's."""
    return dataclasses.field(default=default, metadata={"help": help})


_MAY_BE = {
    **dict.fromkeys(("eta", "beta", "horizon", "lr", "adam_eps", "vf_coef"), "coefficient"),
    **dict.fromkeys(("cliprange", "cliprange_value"), "coefficient"),
    "kl_target": "coefficient or None",
    "gamma": "fraction",
    "lam": "fraction",
    "iterations": "count",
    # Advantages are whitened over the batch, and one token alone has no variance: so a batch needs
    # at least two responses. A million of them do not fit into memory.
    "batch_size": "count 2..1000000",
    "epochs": "count",
    "minibatches": "count",
    "seed": "count 0..",
    "kl_mode": KLMode,
    "device": str,
    "dtype": Literal["float32", "float64"],
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig:
    """Every setting of a run. η and β may be moved while it runs; the rest stays.

    Names are those of TRL 0.11.4 and lm-human-preferences where both agree: `cliprange`,
    `cliprange_value`, `vf_coef`, `gamma`, `lam`, `horizon`. What TRL calls `target`, the KL that an
    adaptive η steers to, is `kl_target`; `target_kl` means early stopping elsewhere, which is not
    here. Gradients are not clipped and the learning rate does not fall, on purpose: a step of Adam
    hardly grows with the gradient, and a run that has stopped moving should have arrived.
    """

    eta: float = _setting(0.1, "η, weight of the KL penalty in the reward (elsewhere often β)")
    beta: float = _setting(0.0, "β, weight of the entropy bonus in the loss")
    kl_mode: KLMode = _setting("kl", "penalty per token: kl, abs, mse or full; see rlhf_lab.kl")
    kl_target: float | None = _setting(None, "nats per response that η is adapted to reach")
    horizon: float = _setting(10_000, "speed of that adaptation, in responses")
    iterations: int = _setting(200, "rollouts, each followed by an update")
    batch_size: int = _setting(128, "responses per iteration, shared among the prompts")
    epochs: int = _setting(4, "passes over each rollout")
    minibatches: int = _setting(1, "gradient steps per epoch")
    lr: float = _setting(1e-3, "step size of Adam")
    # torch's 1e-8 turns the rounding noise of gradients that are truly 0 (GPT-2's key biases) into
    # steps of size lr, and a collapsed policy, whose gradients vanish, into a random walk.
    adam_eps: float = _setting(1e-5, "Adam's ε; OpenAI's PPO uses 1e-5, TRL torch's 1e-8")
    gamma: float = _setting(1.0, "discount γ; a reward at the end wants 1")
    lam: float = _setting(0.95, "λ of GAE")
    cliprange: float = _setting(0.2, "PPO's clip of the ratio")
    cliprange_value: float = _setting(0.2, "clip of the value head's prediction, in units of score")
    vf_coef: float = _setting(0.1, "weight of the value loss")
    seed: int = _setting(0, "of the generator that draws every response")
    device: str = _setting("cpu", "cpu or cuda")
    dtype: Literal["float32", "float64"] = _setting(
        "float32", "float64 takes 1.5 times as long, but its runs agree between machines"
    )

    def __post_init__(self) -> None:
        for name, kind in _MAY_BE.items():  # NumPy's numbers become Python's
            object.__setattr__(self, name, require(name, getattr(self, name), kind))
        if self.minibatches > self.batch_size:
            raise ValueError(
                f"{self.minibatches} minibatches of {self.batch_size} responses leave some empty"
            )
        if self.kl_target is not None:
            self._check_adaptation(self.kl_target)

    def _check_adaptation(self, kl_target: float) -> None:
        """As `AdaptiveKLController` would, but in the names of the settings."""
        for name, value in {
            "kl_target": kl_target,
            "eta": self.eta,
            "horizon": self.horizon,
        }.items():
            if value == 0:
                raise ValueError(
                    f"{name} must be > 0 where kl_target is set: η moves by factors, from eta on"
                )
        least = AdaptiveKLController.MAX_ERROR * self.batch_size
        if self.horizon <= least:
            raise ValueError(
                f"horizon {self.horizon:g} is too small for batch_size {self.batch_size}: η could "
                f"reach 0 in one iteration; use more than {least:g}"
            )

    @takes(eta="coefficient", beta="coefficient")
    def overflow_remedy(self, eta: float, beta: float) -> str:
        """What to change after a number has overflowed: the setting that is furthest off."""
        set_to = {"eta": eta, "beta": beta, "vf_coef": self.vf_coef, "lr": self.lr}
        return _furthest_off(set_to, self.adam_eps)

    @classmethod
    @takes(settings=dict)
    def from_dict(cls, settings: dict[str, Any]) -> Self:
        """Build from names and values, as read from a file; a misspelt name is a `ValueError`."""
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            raise ValueError(
                f"unknown setting {said(unknown[0])}; PPOConfig has {', '.join(known)}"
            )
        return cls(**settings)


Leash = Literal["reward", "k3_ratio", "k3", "k2"]
AdvantageRule = Literal["leave_one_out", "none", "group", "batch"]

_GROUP_MAY_BE = {
    **{name: _MAY_BE[name] for name in ("eta", "beta", "lr", "adam_eps", "iterations", "epochs")},
    **{name: _MAY_BE[name] for name in ("minibatches", "seed", "device", "dtype", "batch_size")},
    "group_size": "count 2..1000000",
    "advantage": AdvantageRule,
    "level": Level,
    "how": Denominator,
    "clip": "coefficient or None",
    "clip_high": "coefficient or None",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfig:
    """Every setting of a run without a critic; as it stands, RLOO. `GroupConfig.grpo()` is GRPO.

    What a setting is called elsewhere: η is TRL's `beta`; leash "reward" is RLOO's KL, "k3_ratio"
    GRPO's `use_bias_correction_kl`, "k3" the same without; advantage is `scale_rewards`, how
    `loss_type`, see `rlhf_lab.aggregation`. There is one leash, because a KL in the reward and in
    the loss would be charged twice.
    """

    eta: float = _setting(0.1, "η, weight of the KL term, wherever it stands")
    beta: float = _setting(0.0, "β, weight of the entropy bonus in the loss, a mean per token")
    leash: Leash = _setting(
        "reward", "where the KL stands: reward, or k3_ratio, k3, k2 in the loss"
    )
    group_size: int = _setting(8, "responses to one prompt")
    advantage: AdvantageRule = _setting("leave_one_out", "leave_one_out, none, group or batch")
    level: Level = _setting("product", "of the ratio: token, sequence or product")
    how: Denominator = _setting("response", "what the loss is divided by")
    clip: float | None = _setting(None, "half-width of the ratio's band; None does not clip")
    clip_high: float | None = _setting(None, "its upper half, where that is another one")
    iterations: int = _setting(200, "rollouts, each followed by an update")
    batch_size: int = _setting(128, "responses per iteration, in groups, shared among the prompts")
    epochs: int = _setting(1, "passes over each rollout")
    minibatches: int = _setting(1, "gradient steps per epoch")
    lr: float = _setting(1e-3, "step size of Adam")
    adam_eps: float = _setting(1e-5, "Adam's ε")
    seed: int = _setting(0, "of the generator that draws every response")
    device: str = _setting("cpu", "cpu or cuda")
    dtype: Literal["float32", "float64"] = _setting("float32", "float64 takes 1.5 times as long")

    def __post_init__(self) -> None:
        if not isinstance(self.leash, str) or self.leash not in get_args(Leash):
            raise ValueError(
                f"leash must be one of {get_args(Leash)}, got {said(self.leash)}: the KL is "
                "charged once, in the reward or in the loss; in both, it would be charged twice"
            )
        for name, kind in _GROUP_MAY_BE.items():
            object.__setattr__(self, name, require(name, getattr(self, name), kind))
        if self.batch_size % self.group_size:
            groups = max(self.batch_size // self.group_size, 1)
            raise ValueError(
                f"group_size {self.group_size} does not divide batch_size {self.batch_size}: the "
                f"last group would not be whole; use {groups * self.group_size}"
            )
        if self.minibatches > self.batch_size:
            raise ValueError(
                f"{self.minibatches} minibatches of {self.batch_size} responses leave some empty"
            )
        if self.clip_high is not None and self.clip is None:
            raise ValueError(f"clip_high = {self.clip_high:g} needs clip, the band's lower half")
        if self.clip is not None and self.epochs * self.minibatches == 1:
            raise ValueError(
                f"clip = {self.clip:g} cannot act: with one gradient step per rollout π is what "
                "sampled, and every ratio is 1; raise epochs or minibatches, or leave clip at None"
            )

    @classmethod
    def grpo(cls, **settings: Any) -> Self:
        """GRPO as TRL 1.16.0 has it, with η (there it is 0 unless it is set); `settings` on top."""
        trl = {"leash": "k3_ratio", "advantage": "group", "level": "token", "how": "tokens"}
        return cls(**{**trl, **settings})

    @takes(eta="coefficient", beta="coefficient")
    def overflow_remedy(self, eta: float, beta: float) -> str:
        """What to change after a number has overflowed: the setting that is furthest off."""
        return _furthest_off({"eta": eta, "beta": beta, "lr": self.lr}, self.adam_eps)


def _furthest_off(set_to: dict[str, float], adam_eps: float) -> str:
    usual = {"eta": 100.0, "beta": 100.0, "vf_coef": 100.0, "lr": 0.1}
    worst = max(set_to, key=lambda name: set_to[name] / usual[name])
    if set_to[worst] > usual[worst]:
        return f"Lower {worst}: it is {set_to[worst]:g}"
    if adam_eps < 1e-12:
        return f"Raise adam_eps: at {adam_eps:g} a gradient of 0 is divided by 0"
    return "Lower lr, or the scale of the scores"


@takes(config=PPOConfig)
def kl_controller(config: PPOConfig) -> FixedKLController | AdaptiveKLController:
    """The controller that holds η: fixed, or adaptive if `kl_target` is set."""
    if config.kl_target is None:
        return FixedKLController(config.eta)
    return AdaptiveKLController(config.eta, config.kl_target, config.horizon)
