"""Exercises of notebook 06, second part: the KL as a loss, and the controller of η."""

from typing import Any

import torch

from rlhf_lab.exercises.exercise import Attempt, Case, Exercise, Mistake
from rlhf_lab.kl import k1, k2, k3, kl_loss
from rlhf_lab.masking import masked_mean, masked_sum
from rlhf_lab.rewards import AdaptiveKLController

_LOGPROBS = torch.tensor([[-1.6, -0.4, -2.1, -0.3], [-0.7, -2.4, -0.1, -0.2]], dtype=torch.float64)
_REF = torch.tensor([[-0.5, -1.9, -2.6, -1.1], [-1.8, -0.9, -0.4, -3.1]], dtype=torch.float64)
_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)


def _per_review(estimator: Attempt) -> Attempt:
    """A loss with another estimator than k2."""
    return lambda p, q, mask: masked_sum(estimator(p, q), mask, dim=1).mean()


_KL_LOSS = Exercise(
    name="kl_loss",
    section="06_compute_rewards: The missing half",
    minutes=8,
    reference=kl_loss,
    cases=(
        Case("two reviews of 4 and 2 tokens", (_LOGPROBS, _REF, _MASK), (0,)),
        Case("one review of 4 tokens", (_LOGPROBS[:1], _REF[:1], _MASK[:1]), (0,)),
    ),
    mistakes=(
        Mistake(
            "k1 as a loss",
            16,
            _per_review(k1),
            "Your loss has the right value and the wrong gradient: log π_ref is a constant and "
            "drops out, and E[∇log π] = 0. On average nothing happens.",
            "Exchange π_ref for another model: does the gradient of your loss change?",
        ),
        Mistake(
            "the KL as a constant",
            14,
            lambda p, q, mask: kl_loss(p.detach(), q, mask),
            "The number is right, but it has no gradient: a constant in the loss moves nothing, "
            "whatever stands in the log.",
            "Where does the path from the loss back to log π end?",
        ),
        Mistake(
            "k3 as a loss",
            17,
            _per_review(k3),
            "Differentiated, k3 has the mean gradient of KL(π_ref ‖ π), the other direction.",
            "Write the derivative by d of each candidate. Which one has the mean of d·∇log π?",
        ),
        Mistake(
            "half forgotten",
            17,
            lambda p, q, mask: 2 * kl_loss(p, q, mask),
            "Your loss is d², so its gradient is twice that of the KL, and η counts double.",
            "What is the derivative of d² by d?",
        ),
        Mistake(
            "padding counted",
            8,
            lambda p, q, mask: k2(p, q).sum(1).mean(),
            "The padding pulls on the policy: tokens that nobody chose get a gradient.",
            "Which positions does the mask select?",
        ),
        Mistake(
            "mean over tokens",
            12,
            lambda p, q, mask: masked_mean(k2(p, q), mask),
            "You averaged over tokens. The KL of a review is a sum; in a batch of longer reviews "
            "the same η would pull less.",
            "Sum over the tokens of a review, and then what?",
        ),
        Mistake(
            "sign turned",
            2,
            lambda p, q, mask: -kl_loss(p, q, mask),
            "A loss is minimised. With your sign the optimiser drives π away from π_ref.",
            "Should the loss of a policy far from home be large or small?",
        ),
    ),
)


def _updated(
    attempt: Attempt, eta: float, target: float, horizon: float, kls: tuple[float, ...], n: int
) -> Any:
    """η after several updates; None if the attempt leaves a stub's traces and nothing else."""
    controller = AdaptiveKLController(eta, target, horizon)
    values = []
    for kl in kls:
        returned = attempt(controller, kl, n)
        values.append(controller.value)
    untouched = all(value == eta for value in values)
    return returned if untouched and (returned is None or returned is ...) else values


def _moved(factor: Attempt) -> Attempt:
    """A wrong update: η times a factor of kl, target, and n_steps / horizon."""

    def update(self: Any, kl: float, n_steps: int) -> None:
        self.value *= factor(kl, self.target, n_steps / self.horizon)

    return update


def _clip(x: float) -> float:
    return min(max(x, -0.2), 0.2)


def _added(self: Any, kl: float, n_steps: int) -> None:
    self.value += _clip(kl / self.target - 1) * n_steps / self.horizon


_CONTROLLER = Exercise(
    name="controller_update",
    section="06_compute_rewards: A controller for η",
    minutes=6,
    reference=AdaptiveKLController.update,
    run=_updated,
    cases=(
        Case("KLs of 6.6, 12 and 6 nats", (0.2, 6.0, 10_000.0, (6.6, 12.0, 6.0), 256)),
        Case("KLs of 0.95, 0.3 and −0.1 nats", (3.0, 1.0, 2000.0, (0.95, 0.3, -0.1), 128)),
    ),
    mistakes=(
        Mistake(
            "turned round",
            25,
            _moved(lambda kl, target, share: 1 - _clip(kl / target - 1) * share),
            "Your controller loosens the leash when the policy is too far away. Then it goes "
            "further, and η falls to 0.",
            "The KL is twice its target: should η rise or fall?",
        ),
        Mistake(
            "not clipped",
            25,
            _moved(lambda kl, target, share: 1 + (kl / target - 1) * share),
            "You let the error through as it is. One batch with a wild KL would move η as much as "
            "a hundred ordinary ones.",
            "What is the largest relative change per horizon?",
        ),
        Mistake(
            "error in nats",
            25,
            _moved(lambda kl, target, share: 1 + _clip(kl - target) * share),
            "Your error is a difference in nats, not a share of the target: the same controller "
            "would be nervous at 20 nats and asleep at 0.05.",
            "What is the error relative to?",
        ),
        Mistake(
            "batch size left out",
            25,
            _moved(lambda kl, target, share: 1 + _clip(kl / target - 1)),
            "You move by up to 20 % at every update. The formula spreads these 20 % over a "
            "horizon of responses.",
            "Which share of the horizon has this batch covered?",
        ),
        Mistake(
            "added instead of multiplied",
            25,
            _added,
            "You add to η. Then a small η doubles in no time and a large one hardly moves, and "
            "nothing keeps it positive.",
            "Which operation treats η = 0.01 and η = 10 alike?",
        ),
        Mistake(
            "measured the other way round",
            25,
            _moved(lambda kl, target, share: 1 + _clip(target / kl - 1) * share),
            "You divided the target by the KL. Above its target the KL now lowers η.",
            "At KL = target both give 1. Which one grows with the KL?",
        ),
    ),
)

EXERCISES = (_KL_LOSS, _CONTROLLER)
