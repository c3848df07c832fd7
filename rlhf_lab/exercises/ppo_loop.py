"""Exercises of notebook 09: the clipped loss, the critic's target, and one whole iteration."""

from collections.abc import Callable

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
    reason="The same weights answer differently each time: here the ratio compares the whole "
    "network with a random part of it, and the clip acts on noise before anything was learned.",
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
            "Rounding moves a ratio by about 1e-6, even in float32. Here the ratios go from 0.52 "
            "to 2.39.",
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
_GAPS = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [1, 0, 1, 1]], dtype=torch.bool)
_OLD = -torch.tensor(
    [[0.913, 1.937, 0.719, 5.0], [2.251, 0.407, 9.0, 3.0], [1.129, 0.211, 2.543, 0.617]],
    dtype=torch.float64,
)
_MOVED = torch.tensor(
    [[0.523, -0.631, 0.109, 0.41], [-0.733, 0.357, 0.39, -4.0], [-0.053, -0.911, 1.319, 0.431]],
    dtype=torch.float64,
)
_ADVANTAGES = torch.tensor(
    [[1.213, 0.727, -0.419, 8.0], [-1.109, -0.937, 5.0, 6.0], [0.317, -1.621, 2.039, -0.223]],
    dtype=torch.float64,
)
_REWARDS = torch.tensor(
    [[-0.311, 0.127, 1.823, 7.0], [0.223, -1.439, 4.0, -5.0], [0.013, 0.317, -0.229, 0.941]],
    dtype=torch.float64,
)
_VALUES = torch.tensor(
    [[0.419, 0.631, 1.123, 9.0], [-0.227, -0.839, 3.0, 2.0], [0.509, 0.121, 0.239, 0.733]],
    dtype=torch.float64,
)


def _loss_alone(attempt: Attempt, *inputs: object) -> object:
    """The package takes `clip` by name and also returns the share of clipped tokens."""
    if getattr(attempt, "__name__", "") == "policy_loss":
        *tensors, clip = inputs
        return attempt(*tensors, clip=clip).loss
    return attempt(*inputs)


def _parts(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    ratio = (logprobs - old_logprobs).exp()
    return -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)


def _clamped(branches: Attempt) -> Attempt:
    """The loss with other branches, from ratio, advantages and clip."""
    return lambda logprobs, old_logprobs, advantages, mask, clip: masked_mean(
        torch.maximum(*branches((logprobs - old_logprobs).exp(), advantages, clip)), mask
    )


_CLIPPED = Exercise(
    name="clipped_loss",
    section="09_the_ppo_loop: Two distances",
    minutes=6,
    reference=policy_loss,
    helpers=(policy_terms,),
    run=_loss_alone,
    cases=(
        Case("tokens within and beyond the band", (_OLD + _MOVED, _OLD, _ADVANTAGES, _MASK, 0.2),
             (0,)),
        Case("a policy that has not moved", (_OLD, _OLD, _ADVANTAGES, _MASK, 0.2), (0,)),
        Case("a wider band", (_OLD + _MOVED, _OLD, _ADVANTAGES, _MASK, 0.45), (0,)),
        Case("a narrow band, padded on the left", (_OLD + _MOVED, _OLD, _ADVANTAGES, _GAPS, 0.07),
             (0,)),
    ),
    mistakes=(
        Mistake(
            "the product clamped",
            22,
            _clamped(
                lambda ratio, a, clip: (-a * ratio, (-a * ratio).clamp(1 - clip, 1 + clip))
            ),
            "You clamp the product of advantage and ratio. It is the ratio alone that must stay in "
            "its band.",
            "Which of the two says how far the policy has moved?",
        ),
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
        Mistake(
            "clipped around 0",
            22,
            _clamped(lambda ratio, a, clip: (-a * ratio, -a * ratio.clamp(-clip, clip))),
            "You clamp the ratio to −clip … clip. An unmoved token has ratio 1, so the band lies "
            "around 1.",
            "What is the ratio before the first step?",
        ),
        Mistake(
            "minus forgotten in the clipped branch",
            27,
            _clamped(
                lambda ratio, a, clip: (-a * ratio, a * ratio.clamp(1 - clip, 1 + clip))
            ),
            "Your clipped loss lacks the minus of the other one.",
            "In what should the two branches differ?",
        ),
        Mistake(
            "advantage forgotten",
            27,
            _clamped(
                lambda ratio, a, clip: (-a * ratio, -ratio.clamp(1 - clip, 1 + clip))
            ),
            "Your clipped loss lacks the advantage.",
            "In what should the two branches differ?",
        ),
        Mistake(
            "advantage and minus forgotten",
            27,
            _clamped(lambda ratio, a, clip: (-a * ratio, ratio.clamp(1 - clip, 1 + clip))),
            "Your clipped loss is the clipped ratio alone, without −A.",
            "In what should the two branches differ?",
        ),
        Mistake(
            "clipped on one side only",
            22,
            _clamped(lambda ratio, a, clip: (-a * ratio, -a * ratio.clamp(max=1 + clip))),
            "You clip from above only. A token with a negative advantage moves down, and must stop "
            "at 1 − clip.",
            "Which way does a bad token move?",
        ),
        Mistake(
            "clipped from below only",
            22,
            _clamped(lambda ratio, a, clip: (-a * ratio, -a * ratio.clamp(min=1 - clip))),
            "You clip from below only. A token with a positive advantage moves up, and must stop "
            "at 1 + clip.",
            "Which way does a good token move?",
        ),
        Mistake(
            "log-ratio clipped",
            22,
            _clamped(
                lambda ratio, a, clip: (-a * ratio, -a * ratio.log().clamp(-clip, clip).exp())
            ),
            "You clamp the log-ratio to ±clip. PPO clamps the ratio itself, to 1 ± clip.",
            "What is e^clip?",
        ),
        Mistake(
            "log-ratio for ratio",
            22,
            _clamped(
                lambda ratio, a, clip: (
                    -a * ratio.log(), -a * ratio.log().clamp(1 - clip, 1 + clip)
                )
            ),
            "You use the log-ratio. The ratio is its exponential.",
            "What is the ratio before the first step: 0 or 1?",
        ),
        Mistake(
            "advantages clipped",
            22,
            _clamped(
                lambda ratio, a, clip: (-a * ratio, -a.clamp(1 - clip, 1 + clip) * ratio)
            ),
            "You clamp the advantages. It is the ratio that must stay in its band.",
            "Which of the two says how far the policy has moved?",
        ),
        Mistake(
            "sum over the tokens",
            12,
            lambda logprobs, old_logprobs, advantages, mask, clip: (
                policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss * mask.sum()
            ),
            "You sum over the tokens. With a larger batch the step would be larger.",
            "What is averaged over the mask?",
        ),
        Mistake(
            "mean of means",
            12,
            lambda logprobs, old_logprobs, advantages, mask, clip: masked_mean(
                torch.maximum(*_parts(logprobs, old_logprobs, advantages, clip)), mask, 1
            ).mean(),
            "You average over each response first. Here each token counts the same.",
            "How much should a token of a long response weigh?",
        ),
        Mistake(
            "padding set to 0, and averaged",
            8,
            lambda logprobs, old_logprobs, advantages, mask, clip: (
                torch.maximum(*_parts(logprobs, old_logprobs, advantages, clip)) * mask
            ).mean(),
            "You divide by all places, padding included.",
            "How many tokens did the policy choose?",
        ),
        Mistake(
            "cut at 0",
            22,
            _clamped(lambda ratio, a, clip: (-a * ratio, 0 * ratio)),
            "Where the clip acts, your loss is 0. It should stay at its value at the edge.",
            "What is the loss of a token with ratio 1.3 and advantage 1?",
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
    outputs=("advantages", "returns"),
    cases=(
        Case("three responses of different length", (_REWARDS, _VALUES, _MASK, 0.95)),
        Case("λ = 1 and a critic that knows nothing", (_REWARDS, 0 * _VALUES, _MASK, 1.0)),
        Case("λ = 0.7, padded on the left", (_REWARDS, _VALUES, _GAPS, 0.7)),
    ),
    mistakes=(
        Mistake(
            "rewards whitened",
            24,
            lambda rewards, values, mask, lam: (
                masked_whiten(
                    (e := _estimate(masked_whiten(rewards, mask), values, mask, lam))[0], mask
                ),
                e[1],
            ),
            "You whiten the rewards first. The critic's target then has another scale.",
            "In what units must the critic's target be?",
        ),
        Mistake(
            "rewards whitened, means kept",
            24,
            lambda rewards, values, mask, lam: (
                masked_whiten(
                    (
                        e := _estimate(
                            masked_whiten(rewards, mask, shift_mean=False), values, mask, lam
                        )
                    )[0],
                    mask,
                    shift_mean=False,
                ),
                e[1],
            ),
            "You whiten the rewards first, so the critic's target has another scale; and your "
            "advantages keep their mean.",
            "In what units must the critic's target be, and what is the mean of your advantages?",
        ),
        Mistake(
            "returns of whitened advantages",
            24,
            lambda rewards, values, mask, lam: (
                (w := masked_whiten(_estimate(rewards, values, mask, lam)[0], mask)),
                (w + values).masked_fill(~mask, 0.0),
            ),
            "Your returns are whitened advantages + values. Each rollout then moves the critic's "
            "guess by about 1, whatever the scale of the rewards, and their mean is lost.",
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
        Mistake(
            "whitened with the padding, as it stands",
            24,
            lambda rewards, values, mask, lam: (
                (lambda a: (a - a.mean()) / (a.std() + 1e-8))(
                    _estimate(rewards, values, mask, lam)[0]
                ),
                _estimate(rewards, values, mask, lam)[1],
            ),
            "Your mean and standard deviation count the zeros of the padding, and whitened padding "
            "is no longer 0.",
            "Over which tokens is the mean taken?",
        ),
        Mistake(
            "Monte-Carlo returns",
            24,
            lambda rewards, values, mask, lam: (
                masked_whiten(_estimate(rewards, values, mask, lam)[0], mask),
                returns_to_go(rewards, mask),
            ),
            "Your returns are the sums of rewards, without the critic. That is λ = 1. With another "
            "λ the target is advantages + values.",
            "Where does λ come into your returns?",
        ),
        Mistake(
            "both Monte-Carlo",
            24,
            lambda rewards, values, mask, lam: (
                masked_whiten((returns_to_go(rewards, mask) - values) * mask, mask),
                returns_to_go(rewards, mask),
            ),
            "You use the sums of rewards without λ.",
            "Which argument have you not used?",
        ),
        Mistake(
            "the values themselves",
            30,
            lambda rewards, values, mask, lam: (
                masked_whiten(_estimate(rewards, values, mask, lam)[0], mask),
                values.masked_fill(~mask, 0.0),
            ),
            "You return the critic's own values as its target: it would learn nothing.",
            "What should the critic have said?",
        ),
        Mistake(
            "the advantages as returns",
            30,
            lambda rewards, values, mask, lam: (
                masked_whiten(_estimate(rewards, values, mask, lam)[0], mask),
                _estimate(rewards, values, mask, lam)[0],
            ),
            "Your returns are the advantages. What the critic has said already must be added.",
            "advantage = return − value: solve it for the return.",
        ),
        Mistake(
            "mean kept",
            24,
            lambda rewards, values, mask, lam: (
                masked_whiten(_estimate(rewards, values, mask, lam)[0], mask, shift_mean=False),
                _estimate(rewards, values, mask, lam)[1],
            ),
            "You divide by the standard deviation and keep the mean. Whitened advantages have "
            "mean 0.",
            "What is the mean of your advantages?",
        ),
        Mistake(
            "mean removed, not divided",
            24,
            lambda rewards, values, mask, lam: (
                (
                    _estimate(rewards, values, mask, lam)[0]
                    - masked_mean(_estimate(rewards, values, mask, lam)[0], mask)
                ).masked_fill(~mask, 0.0),
                _estimate(rewards, values, mask, lam)[1],
            ),
            "You subtract the mean and do not divide by the standard deviation.",
            "What is the standard deviation of your advantages?",
        ),
        Mistake(
            "values subtracted",
            2,
            lambda rewards, values, mask, lam: (
                masked_whiten(_estimate(rewards, values, mask, lam)[0], mask),
                (_estimate(rewards, values, mask, lam)[0] - values).masked_fill(~mask, 0.0),
            ),
            "You subtract the values. advantage = return − value.",
            "Solve that for the return.",
        ),
    ),
)

_LOSS_ZERO = Choice(
    name="loss_zero",
    section="09_the_ppo_loop: What the loss does not tell",
    minutes=2,
    curious=True,
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
    held = None if bug == "no reference" else word_logprobs(ref, responses)
    counted = torch.ones_like(mask) if bug == "padding" else mask

    def prepare(now: Tensor) -> tuple[Tensor, Tensor]:
        rewards = compute_rewards(scores, now, now if held is None else held, mask, eta).rewards
        to_go = rewards if bug == "own reward" else returns_to_go(rewards, mask)
        return now, to_go if "not whitened" in bug else masked_whiten(to_go, counted)

    old, advantages = prepare(word_logprobs(policy, responses))
    total, optimiser = torch.zeros_like(policy), _OPTIMISERS.get(bug.split(",")[0])
    weights = policy.clone().requires_grad_(True)
    descent = optimiser([weights], lr) if optimiser else None
    for _ in range(1 if bug == "one epoch" else epochs):
        logprobs = word_logprobs(weights, responses)
        if bug in ("rewards anew", "all anew"):
            anew, advantages = prepare(logprobs.detach())
            old = anew if bug == "all anew" else old
        anchors = {"old moves": logprobs.detach(), "same graph": logprobs}
        anchors["to reference"] = word_logprobs(ref, responses)
        band = 0.2 if bug == "clip forgotten" else clip
        loss = policy_loss(logprobs, anchors.get(bug, old), advantages, mask, clip=band).loss
        (slope,) = torch.autograd.grad(loss, weights)
        if descent:
            weights.grad = slope
            descent.step()
            continue
        total = total + slope if bug == "never zeroed" else slope
        step = -lr * total if bug == "ascends" else lr * total
        weights = (weights - step).detach().requires_grad_(True)
    return weights.detach()


_OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": lambda weights, lr: torch.optim.Adam(weights, lr=lr),
    "adamw": lambda weights, lr: torch.optim.AdamW(weights, lr=lr),
    "momentum": lambda weights, lr: torch.optim.SGD(weights, lr=lr, momentum=0.9),
}


def _mistake(name: str, row: int, bug: str, diagnosis: str, hint: str) -> Mistake:
    return Mistake(name, row, lambda *inputs: _variant(*inputs, bug=bug), diagnosis, hint)


_UPDATE = Exercise(
    name="ppo_update",
    section="09_the_ppo_loop: Your own loop",
    minutes=12,
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
            "The policy does not move at all. Either your old_logprobs carry the same gradient as "
            "the new ones, and the two cancel, or your steps are lost and you return the logits "
            "that you were given.",
            "What is the derivative of exp(x − x), and which name holds the new logits?",
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
        _mistake(
            "rewards recomputed in every epoch",
            22,
            "rewards anew",
            "You compute rewards and advantages anew in every epoch, from the policy as it is now. "
            "They belong to the rollout: its tokens were written by π_old, and what they earned "
            "does not change while π moves.",
            "Which lines belong before the loop?",
        ),
        _mistake(
            "everything recomputed in every epoch",
            22,
            "all anew",
            "You compute old_logprobs, rewards and advantages anew in every epoch. Then the ratio "
            "is always 1, the clip never acts, and the rewards are those of a policy that has "
            "written nothing.",
            "Which lines belong before the loop?",
        ),
        _mistake(
            "not whitened",
            24,
            "not whitened",
            "Your advantages are not whitened: the size of a step depends on the scale of the "
            "score.",
            "What does the text say about the advantages?",
        ),
        _mistake(
            "only its own reward",
            11,
            "own reward",
            "You whiten the rewards themselves, so a word is not paid for what comes after it.",
            "What do returns_to_go add up?",
        ),
        _mistake(
            "gradient never zeroed",
            22,
            "never zeroed",
            "You never set the gradient to 0: backward() *adds* to .grad, so each step also takes "
            "all the steps before it once more.",
            "Which call belongs before every backward()?",
        ),
        _mistake(
            "Adam for plain descent",
            22,
            "adam",
            "You use Adam. The text asks for plain descent, policy − lr · gradient: Adam rescales "
            "every number, and its first step is lr wherever the gradient is not 0.",
            "What does SGD do with the gradient?",
        ),
        _mistake(
            "Adam, and not whitened",
            22,
            "adam, not whitened",
            "You use Adam where plain descent is asked for, and your advantages are not whitened.",
            "What does SGD do with the gradient, and what does the text say about the advantages?",
        ),
        _mistake(
            "AdamW for plain descent",
            22,
            "adamw",
            "You use AdamW. The text asks for plain descent, policy − lr · gradient.",
            "What does SGD do with the gradient?",
        ),
        _mistake(
            "momentum",
            22,
            "momentum",
            "You use SGD with momentum. The text asks for plain descent.",
            "What does momentum add to a step?",
        ),
        _mistake(
            "one step only",
            22,
            "one epoch",
            "You take one step, whatever `epochs` is.",
            "Is the step inside the loop, and does it start from the last policy?",
        ),
    ),
    slips=1,
)

EXERCISES: tuple[Exercise | Choice, ...] = (_DROPOUT, _CLIPPED, _TARGETS, _LOSS_ZERO, _UPDATE)
