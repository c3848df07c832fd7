"""The settings of a PPO run, in one place that rejects what is misspelt or impossible."""

import dataclasses
from typing import Any, Literal, Self, get_args

from rlhf_lab._checks import require_coefficient
from rlhf_lab.kl import KLMode
from rlhf_lab.rewards import AdaptiveKLController, FixedKLController


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig:
    """Every setting of a run. η and β may be moved while it runs; the rest stays."""

    eta: float = 0.1
    """η: weight of the KL penalty in the reward (`init_kl_coef` in TRL, often β elsewhere)."""
    beta: float = 0.0
    """β: weight of the entropy bonus in the loss."""
    kl_mode: KLMode = "kl"
    """Which penalty, see `rlhf_lab.kl`."""
    target_kl: float | None = None
    """Nats per response that η is adapted to reach; None keeps η."""
    horizon: float = 10_000
    """Speed of that adaptation, in responses."""
    iterations: int = 200
    batch_size: int = 128
    """Responses per iteration, shared evenly among the prompts."""
    minibatches: int = 1
    """Gradient steps per epoch."""
    epochs: int = 4
    lr: float = 1e-3
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    value_coef: float = 0.1
    seed: int = 0
    """Of the run's own generator, from which every response is drawn."""
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    """float64 is 1.5 times slower; its runs agree between machines, float32's drift apart."""

    def __post_init__(self) -> None:
        for name in ("eta", "beta", "lr", "clip", "value_clip", "value_coef"):
            require_coefficient(name, getattr(self, name))
        for name in ("iterations", "batch_size", "minibatches", "epochs"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.minibatches > self.batch_size:
            raise ValueError(
                f"{self.minibatches} minibatches of {self.batch_size} responses leave some empty"
            )
        for name, allowed in {"kl_mode": get_args(KLMode), "dtype": ("float32", "float64")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        kl_controller(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Self:
        """Build from names and values, as read from a file; a misspelt name is a `ValueError`."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}; PPOConfig has {', '.join(known)}")
        return cls(**settings)


def kl_controller(config: PPOConfig) -> FixedKLController | AdaptiveKLController:
    """The controller that holds η: fixed, or adaptive if `target_kl` is set."""
    if config.target_kl is None:
        return FixedKLController(config.eta)
    return AdaptiveKLController(config.eta, config.target_kl, config.horizon)
