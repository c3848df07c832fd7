"""The settings of a PPO run, in one place that rejects what is misspelt or impossible."""

import dataclasses
import operator
from typing import Any, Literal, Self, get_args

from rlhf_lab._checks import require_coefficient
from rlhf_lab.kl import KLMode
from rlhf_lab.rewards import AdaptiveKLController, FixedKLController


def _setting(default: Any, help: str) -> Any:
    """A field whose help is both its documentation and the command line's."""
    return dataclasses.field(default=default, metadata={"help": help})


# Advantages are whitened over the batch, and one token alone has no variance: hence two responses.
_LEAST = {"iterations": 1, "batch_size": 2, "minibatches": 1, "epochs": 1, "seed": 0}


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
        "float32", "float64 is 1.5 times slower, but its runs agree between machines"
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # NumPy's numbers become Python's
            value = getattr(self, field.name)
            if field.type is float or (field.name == "kl_target" and value is not None):
                value = require_coefficient(field.name, value)
                object.__setattr__(self, field.name, value)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not hasattr(value, "__index__") or not least <= operator.index(value) < 2**63:
                raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
            object.__setattr__(self, name, operator.index(value))
        for name in ("gamma", "lam"):
            if getattr(self, name) > 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.minibatches > self.batch_size:
            raise ValueError(
                f"{self.minibatches} minibatches of {self.batch_size} responses leave some empty"
            )
        for name, allowed in {"kl_mode": get_args(KLMode), "dtype": ("float32", "float64")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
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

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Self:
        """Build from names and values, as read from a file; a misspelt name is a `ValueError`."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}; PPOConfig has {', '.join(known)}")
        return cls(**settings)


def kl_controller(config: PPOConfig) -> FixedKLController | AdaptiveKLController:
    """The controller that holds η: fixed, or adaptive if `kl_target` is set."""
    if config.kl_target is None:
        return FixedKLController(config.eta)
    return AdaptiveKLController(config.eta, config.kl_target, config.horizon)
