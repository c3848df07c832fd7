"""The last exercise of notebook 09: one whole iteration of PPO."""

import torch
from torch import Tensor

from rlhf_lab.exercises.exercise import Case, Exercise, Mistake
from rlhf_lab.lessons.ppo_loop import ppo_update, word_logprobs
from rlhf_lab.masking import masked_whiten
from rlhf_lab.ppo import policy_loss, returns_to_go
from rlhf_lab.rewards import compute_rewards

_POLICY = torch.tensor(
    [[0.3, -0.8, 1.1, 0.2], [1.4, 0.0, -0.6, 0.5], [-0.9, 0.7, 0.4, 1.2]], dtype=torch.float64
)
_REF = torch.tensor(
    [[1.2, 0.5, -0.4, 0.1], [-0.3, 0.9, 0.8, -0.7], [0.6, -1.0, 1.5, 0.0]], dtype=torch.float64
)
_RESPONSES = torch.tensor([[2, 0, 3], [1, 3, 1], [0, 0, 0], [3, 2, 0], [2, 1, 2], [2, 3, 3]])
_MASK = torch.tensor(
    [[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]], dtype=torch.bool
)
_SCORES = torch.tensor([1.3, -0.4, -1.1, 0.8, 0.2, -0.9], dtype=torch.float64)


def _case(name: str, eta: float, clip: float, lr: float, epochs: int) -> Case:
    inputs = (_POLICY, _REF, _RESPONSES, _MASK, _SCORES, eta, clip, lr, epochs)
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


UPDATE = Exercise(
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
            "π_ref belongs into the rewards only.",
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
            "Which of the arguments of ppo_update does no line of yours mention?",
        ),
        _mistake(
            "reference forgotten",
            18,
            "no reference",
            "η has no effect in your loop: log π is compared with itself, so the penalty is 0.",
            "Which two policies stand in the penalty?",
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
