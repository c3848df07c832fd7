"""Exercises of notebook 09: the clipped loss, the critic's target, and one whole iteration."""

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Attempt, Case, Choice, Exercise, Mistake
from rlhf_lab.lessons.ppo_loop import advantages_and_returns, ppo_update, word_logprobs
from rlhf_lab.masking import masked_mean, masked_whiten
from rlhf_lab.ppo import gae, policy_loss, policy_terms, returns_to_go
from rlhf_lab.rewards import compute_rewards

_DROPOUT = Choice(
    name="dropout_ratio",
    section="09_the_ppo_loop: What holds before the first step",
    minutes=2,
    answer="b",
    reason="The same weights answer differently each time: the ratio compares two random "
    "sub-networks, and the clip acts on noise before anything was learned.",
    mistakes=(
        Mistake(
            "the policy has learned",
            5,
            "a",
            "No gradient step has been taken: the weights are those that sampled.",
            "How many steps lie between the two forward passes?",
        ),
        Mistake(
            "rounding",
            5,
            "c",
            "Rounding moves a ratio by 1e-6 in float32, not by several per cent.",
            "How large is the deviation that was printed?",
        ),
        Mistake(
            "the reference has moved",
            22,
            "d",
            "π_ref does not occur in PPO's ratio at all: that is π/π_old. And it is frozen.",
            "Which two policies does the ratio compare?",
        ),
    ),
)

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
            "You never clip. Nothing stops a token that has moved far enough for one rollout.",
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
            "Your mean and standard deviation count the zeros of the padding. One long response "
            "would change the advantages of all others in the batch.",
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
            "What should V predict when all scores rise by 5?",
        ),
    ),
)

_LOSS_ZERO = Choice(
    name="loss_zero",
    section="09_the_ppo_loop: What the loss does not tell",
    minutes=2,
    answer="c",
    reason="Ratio 1 times advantages of mean 0 is 0, whatever the policy is worth; each token's "
    "gradient is its own advantage, and those are not 0.",
    mistakes=(
        Mistake(
            "nothing is learned",
            27,
            "a",
            "A step follows the gradient, not the loss. The cell above printed both.",
            "Two numbers add up to 0: are they 0?",
        ),
        Mistake(
            "advantages are zero",
            27,
            "b",
            "Their mean is 0, by whitening. If all were 0 the gradient would be 0 too.",
            "What does whitening set to 0: the advantages or their mean?",
        ),
        Mistake(
            "converged",
            27,
            "d",
            "The loss is 0 at the first step of every rollout, even of the very first one.",
            "What was the loss before any training?",
        ),
    ),
)

_POLICY = torch.tensor(
    [[0.3, -0.8, 1.1, 0.2], [1.4, 0.0, -0.6, 0.5], [-0.9, 0.7, 0.4, 1.2]], dtype=torch.float64
)
_REF = torch.tensor(
    [[1.2, 0.5, -0.4, 0.1], [-0.3, 0.9, 0.8, -0.7], [0.6, -1.0, 1.5, 0.0]], dtype=torch.float64
)
_RESPONSES = torch.tensor([[2, 0, 3], [1, 3, 1], [0, 0, 0], [3, 2, 0], [2, 1, 2], [2, 3, 3]])
_CHOSEN = torch.tensor(
    [[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]], dtype=torch.bool
)
_SCORES = torch.tensor([1.3, -0.4, -1.1, 0.8, 0.2, -0.9], dtype=torch.float64)


def _case(name: str, eta: float, clip: float, lr: float, epochs: int) -> Case:
    inputs = (_POLICY, _REF, _RESPONSES, _CHOSEN, _SCORES, eta, clip, lr, epochs)
    return Case(name, inputs)


def _variant(
    policy: Tensor,
    ref: Tensor,
    responses: Tensor,
    mask: Tensor,
    scores: Tensor,
    eta: float,
    clip: float,
    lr: float,
    epochs: int,
    *,
    bug: str,
) -> Tensor:
    """`ppo_update` with one of the mistakes below."""
    old, ref_logprobs = (word_logprobs(x, responses) for x in (policy, ref))
    held = old if bug == "no reference" else ref_logprobs
    rewards = compute_rewards(scores, old, held, mask, eta).rewards
    counted = torch.ones_like(mask) if bug == "padding" else mask
    advantages = masked_whiten(returns_to_go(rewards, mask), counted)
    for _ in range(epochs):
        policy = policy.detach().requires_grad_(True)
        logprobs = word_logprobs(policy, responses)
        anchor = {"to reference": ref_logprobs, "old moves": logprobs.detach()}.get(bug, old)
        if bug == "same graph":
            anchor = logprobs
        band = 0.2 if bug == "clip forgotten" else clip
        loss = policy_loss(logprobs, anchor, advantages, mask, clip=band).loss
        step = lr * torch.autograd.grad(loss, policy)[0]
        policy = policy + step if bug == "ascends" else policy - step
    return policy.detach()


def _mistake(name: str, row: int, bug: str, diagnosis: str, hint: str) -> Mistake:
    return Mistake(name, row, lambda *inputs: _variant(*inputs, bug=bug), diagnosis, hint)


_UPDATE = Exercise(
    name="ppo_update",
    section="09_the_ppo_loop: Your own loop",
    minutes=15,
    reference=ppo_update,
    cases=(
        _case("one gradient step", 0.3, 0.2, 0.5, 1),
        _case("four large steps, so that a wider clip acts", 0.3, 0.5, 4.0, 4),
        _case("a strong leash", 2.0, 0.2, 1.0, 3),
    ),
    mistakes=(
        _mistake(
            "ratio to the reference",
            22,
            "to reference",
            "Your ratio is π/π_ref. PPO's trust region is around π_old, the policy that sampled; "
            "π_ref belongs in the rewards only.",
            "Which ratio is 1 at the first of the epochs?",
        ),
        _mistake(
            "old moves along",
            22,
            "old moves",
            "You compute old_logprobs anew in every epoch. The ratio is then always 1, and the "
            "clip can never act.",
            "Which of the log-probs stay fixed while the policy moves?",
        ),
        _mistake(
            "ratio of a tensor to itself",
            22,
            "same graph",
            "Your old_logprobs carry the same gradient as the new ones. The two cancel, and the "
            "policy does not move at all.",
            "What is the derivative of exp(x − x)?",
        ),
        _mistake(
            "clip forgotten",
            22,
            "clip forgotten",
            "Your loop does not use `clip`: policy_loss takes 0.2 if you do not say otherwise.",
            "Which argument of ppo_update do you never use?",
        ),
        _mistake(
            "reference forgotten",
            18,
            "no reference",
            "η has no effect in your loop: log π is compared with itself, so the penalty is 0.",
            "Which two policies does the penalty compare?",
        ),
        _mistake(
            "whitened with the padding",
            24,
            "padding",
            "Your advantages are whitened over the padding too.",
            "Which mask does masked_whiten need?",
        ),
        _mistake(
            "ascends the loss",
            27,
            "ascends",
            "You add the gradient of the loss. policy_loss is to be minimised.",
            "Is policy_loss large or small when things go well?",
        ),
    ),
)

EXERCISES: tuple[Exercise | Choice, ...] = (_DROPOUT, _CLIPPED, _TARGETS, _LOSS_ZERO, _UPDATE)
