"""Exercises of notebook 09: the clipped loss, the critic's target, and the loop itself."""

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Attempt, Case, Choice, Exercise, Mistake
from rlhf_lab.exercises.ppo_loop_choices import DROPOUT, LOSS_ZERO
from rlhf_lab.exercises.ppo_loop_update import UPDATE
from rlhf_lab.lessons.ppo_loop import advantages_and_returns
from rlhf_lab.masking import masked_mean, masked_whiten
from rlhf_lab.ppo import gae, policy_loss, policy_terms

_MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
_OLD = -torch.tensor(
    [[0.9, 1.9, 0.7, 5.0], [2.2, 0.4, 9.0, 3.0], [1.1, 0.2, 2.5, 0.6]], dtype=torch.float64
)
_MOVED = torch.tensor(
    [[0.5, -0.6, 0.1, 1.0], [-0.7, 0.35, 2.0, -4.0], [-0.05, -0.9, 1.3, 0.4]], dtype=torch.float64
)
_ADVANTAGES = torch.tensor(
    [[1.2, 0.7, -0.4, 8.0], [-1.1, -0.9, 5.0, 6.0], [0.3, -1.6, 2.0, -0.2]], dtype=torch.float64
)
_REWARDS = torch.tensor(
    [[-0.3, 0.1, 1.8, 7.0], [0.2, -1.4, 4.0, -5.0], [0.0, 0.3, -0.2, 0.9]], dtype=torch.float64
)
_VALUES = torch.tensor(
    [[0.4, 0.6, 1.1, 9.0], [-0.2, -0.8, 3.0, 2.0], [0.5, 0.1, 0.2, 0.7]], dtype=torch.float64
)


def _loss_alone(attempt: Attempt, *inputs: object) -> object:
    """The package takes `clip` by name and also returns the share of clipped tokens."""
    if attempt is policy_loss:
        *tensors, clip = inputs
        return policy_loss(*tensors, clip=clip).loss  # type: ignore[arg-type]
    return attempt(*inputs)


def _parts(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    ratio = (logprobs - old_logprobs).exp()
    return -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)


_CLIPPED = Exercise(
    name="clipped_loss",
    section="09_the_ppo_loop: Two distances",
    minutes=8,
    reference=policy_loss,
    helpers=(policy_terms,),
    run=_loss_alone,
    cases=(
        Case("tokens within and beyond the band", (_OLD + _MOVED, _OLD, _ADVANTAGES, _MASK, 0.2),
             (0,)),
        Case("a policy that has not moved", (_OLD, _OLD, _ADVANTAGES, _MASK, 0.2), (0,)),
        Case("a wider band", (_OLD + _MOVED, _OLD, _ADVANTAGES, _MASK, 0.5), (0,)),
    ),
    mistakes=(
        Mistake(
            "clipped on the wrong side",
            22,
            lambda logprobs, old_logprobs, advantages, mask, clip: masked_mean(
                torch.minimum(*_parts(logprobs, old_logprobs, advantages, clip)), mask
            ),
            "You keep the smaller of the two losses. A token that has gone too far keeps its "
            "gradient, and one that went the wrong way loses it.",
            "PPO is pessimistic: is the larger or the smaller loss the worse one?",
        ),
        Mistake(
            "always clipped",
            22,
            lambda logprobs, old_logprobs, advantages, mask, clip: masked_mean(
                _parts(logprobs, old_logprobs, advantages, clip)[1], mask
            ),
            "You use the clipped ratio alone. A token that moved against its advantage then has "
            "no gradient to bring it back.",
            "A good token became rarer, ratio 0.5: should its gradient be 0?",
        ),
        Mistake(
            "never clipped",
            22,
            lambda logprobs, old_logprobs, advantages, mask, clip: masked_mean(
                _parts(logprobs, old_logprobs, advantages, clip)[0], mask
            ),
            "You never clip. Nothing tells a token that it has gone far enough on the strength of "
            "one rollout.",
            "What must the loss do beyond ratio 1.2 if the advantage is positive?",
        ),
        Mistake(
            "ratio upside down",
            22,
            lambda logprobs, old_logprobs, advantages, mask, clip: policy_loss(
                old_logprobs, logprobs, advantages, mask, clip=clip
            ),
            "Your ratio is π_old/π. Its gradient points the other way: good tokens become rarer.",
            "Which of the two policies is being trained?",
        ),
        Mistake(
            "the objective, not the loss",
            27,
            lambda logprobs, old_logprobs, advantages, mask, clip: (
                -policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
            ),
            "You return what PPO maximises. An optimiser minimises: it would unlearn the task.",
            "Where does the minus sign go?",
        ),
        Mistake(
            "padding included",
            8,
            lambda logprobs, old_logprobs, advantages, mask, clip: torch.maximum(
                *_parts(logprobs, old_logprobs, advantages, clip)
            ).mean(),
            "You average over the padding too. The step then depends on how long the longest "
            "response of the batch is.",
            "Which tokens did the policy choose?",
        ),
    ),
)  # fmt: skip


def _estimate(rewards: Tensor, values: Tensor, mask: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    estimate = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return estimate.advantages, estimate.returns


_TARGETS = Exercise(
    name="advantages_and_returns",
    section="09_the_ppo_loop: What the critic learns",
    minutes=6,
    reference=advantages_and_returns,
    cases=(
        Case("three responses of different length", (_REWARDS, _VALUES, _MASK, 0.95)),
        Case("λ = 1 and a critic that knows nothing", (_REWARDS, 0 * _VALUES, _MASK, 1.0)),
    ),
    mistakes=(
        Mistake(
            "returns of whitened advantages",
            24,
            lambda rewards, values, mask, lam: (
                (w := masked_whiten(_estimate(rewards, values, mask, lam)[0], mask)),
                (w + values).masked_fill(~mask, 0.0),
            ),
            "Your returns are whitened advantages + values. The critic then learns a number that "
            "has the score's scale and mean removed, and never predicts a reward.",
            "In what units must the critic's target be?",
        ),
        Mistake(
            "whitened with the padding",
            24,
            lambda rewards, values, mask, lam: (
                masked_whiten(
                    _estimate(rewards, values, mask, lam)[0], torch.ones_like(mask)
                ).masked_fill(~mask, 0.0),
                _estimate(rewards, values, mask, lam)[1],
            ),
            "Your mean and standard deviation count the zeros of the padding. A batch with one "
            "long response would give all the others other advantages.",
            "Over which tokens is the mean taken?",
        ),
        Mistake(
            "not whitened",
            24,
            lambda rewards, values, mask, lam: _estimate(rewards, values, mask, lam),
            "Your returns are right; the advantages are not whitened, so the size of a step "
            "depends on the scale of the score.",
            "Which of the two outputs goes to the policy?",
        ),
        Mistake(
            "both whitened",
            24,
            lambda rewards, values, mask, lam: tuple(
                masked_whiten(x, mask) for x in _estimate(rewards, values, mask, lam)
            ),
            "You whiten the returns too. The critic is asked for a number with mean 0 in every "
            "batch, however good the responses are.",
            "What should V say when all scores rise by 5?",
        ),
    ),
)

EXERCISES: tuple[Exercise | Choice, ...] = (DROPOUT, _CLIPPED, _TARGETS, LOSS_ZERO, UPDATE)
