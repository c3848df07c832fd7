# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 09."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import PPOConfig, ScalarHead, Trainer, compute_rewards, load_world, sample
from rlhf_lab.lessons import ppo_loop as loop
from rlhf_lab.masking import masked_mean, masked_whiten
from rlhf_lab.ppo import gae, policy_loss, response_logprobs, returns_to_go, value_loss


# ---------------------------------------------------------------- clipped_loss
def clipped_loss__around_zero(logprobs, old_logprobs, advantages, mask, clip):
    """PPO's clipped policy loss, averaged over the mask, ()."""
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(-clip, clip)
    worse = torch.where(unclipped > clipped, clipped, unclipped)  # for each token
    return masked_mean(worse, mask)


def clipped_loss__no_minus(logprobs, old_logprobs, advantages, mask, clip):
    """PPO's clipped policy loss, averaged over the mask, ()."""
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)
    worse = torch.where(unclipped > clipped, unclipped, clipped)  # for each token
    return masked_mean(worse, mask)


def clipped_loss__upper_side_only(logprobs, old_logprobs, advantages, mask, clip):
    """PPO's clipped policy loss, averaged over the mask, ()."""
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(max=1 + clip)
    worse = torch.where(unclipped > clipped, unclipped, clipped)  # for each token
    return masked_mean(worse, mask)


def clipped_loss__named_borders(logprobs, old_logprobs, advantages, mask, clip):
    """PPO's clipped policy loss, averaged over the mask, ()."""
    ratio = (logprobs - old_logprobs).exp()
    low, high = 1.0 - clip, 1.0 + clip
    unclipped, clipped = -advantages * ratio, -(advantages * ratio.clamp(low, high))
    worse = torch.where(unclipped > clipped, unclipped, clipped)  # for each token
    return masked_mean(worse, mask)


# ---------------------------------------------------------------- advantages_and_returns
def advantages_and_returns__lam_forgotten(rewards, values, mask, lam=0.95):
    """Whitened advantages for the policy, and returns for the critic; (B, T) each."""
    advantages, returns = gae(rewards, values, mask)
    return masked_whiten(advantages, mask), returns


def advantages_and_returns__whitened_rewards(rewards, values, mask, lam=0.95):
    """Whitened advantages for the policy, and returns for the critic; (B, T) each."""
    rewards = masked_whiten(rewards, mask)
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return advantages, returns


def advantages_and_returns__over_the_padding(rewards, values, mask, lam=0.95):
    """Whitened advantages for the policy, and returns for the critic; (B, T) each."""
    out = gae(rewards, values, mask, gamma=1.0, lam=lam)
    a = out.advantages
    return (a - a.mean()) / a.std(), out.returns


def advantages_and_returns__names(rewards, values, mask, lam=0.95):
    """Whitened advantages for the policy, and returns for the critic; (B, T) each."""
    raw = gae(rewards, values, mask, gamma=1.0, lam=lam)
    for_policy = masked_whiten(raw.advantages, mask)
    for_critic = torch.where(mask.bool(), raw.advantages + values.detach(), 0.0)
    return for_policy, for_critic


# ---------------------------------------------------------------- ppo_update
def ppo_update__gradients_pile_up(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    """One iteration on one rollout: logits (T, V) -> new logits (T, V)."""
    old = loop.word_logprobs(policy, responses).detach()
    ref_logprobs = loop.word_logprobs(ref, responses)
    rewards = compute_rewards(scores, old, ref_logprobs, mask, eta).rewards
    advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    policy = policy.detach().clone().requires_grad_(True)
    for _ in range(epochs):
        new = loop.word_logprobs(policy, responses)
        loss = policy_loss(new, old, advantages, mask, clip=clip).loss
        loss.backward()
        with torch.no_grad():
            policy -= lr * policy.grad
    return policy.detach()


def ppo_update__ratio_to_ref(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    """One iteration on one rollout: logits (T, V) -> new logits (T, V)."""
    logprobs = loop.word_logprobs(policy, responses).detach()
    ref_logprobs = loop.word_logprobs(ref, responses).detach()
    rewards = compute_rewards(scores, logprobs, ref_logprobs, mask, eta).rewards
    advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    for _ in range(epochs):
        policy = policy.detach().requires_grad_()
        new = loop.word_logprobs(policy, responses)
        loss = policy_loss(new, ref_logprobs, advantages, mask, clip=clip).loss
        (grad,) = torch.autograd.grad(loss, policy)
        policy = policy - lr * grad
    return policy.detach()


def ppo_update__rewards_move_along(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    """One iteration on one rollout: logits (T, V) -> new logits (T, V)."""
    old_logprobs = loop.word_logprobs(policy, responses).detach()
    ref_logprobs = loop.word_logprobs(ref, responses).detach()
    for _ in range(epochs):
        policy = policy.detach().requires_grad_(True)
        logprobs = loop.word_logprobs(policy, responses)
        rewards = compute_rewards(scores, logprobs, ref_logprobs, mask, eta).rewards
        advantages = masked_whiten(returns_to_go(rewards, mask), mask)
        loss = policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
        (grad,) = torch.autograd.grad(loss, policy)
        policy = policy - lr * grad
    return policy.detach()


def ppo_update__sgd(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    """One iteration on one rollout: logits (T, V) -> new logits (T, V)."""
    with torch.no_grad():  # the rollout: fixed
        old = loop.word_logprobs(policy, responses)
        rewards = compute_rewards(
            scores, old, loop.word_logprobs(ref, responses), mask, eta
        ).rewards
        advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    weights = torch.nn.Parameter(policy.detach().clone())
    optimiser = torch.optim.SGD([weights], lr=lr)
    for _ in range(epochs):
        optimiser.zero_grad()
        policy_loss(loop.word_logprobs(weights, responses), old, advantages, mask, clip=clip).loss.backward()
        optimiser.step()
    return weights.detach()


ANSWERS = [
    ("clipped_loss", "wrong", clipped_loss__around_zero,
     "Two slips: the ratio is held around 0 and not around 1, between 1 − clip and 1 + clip, and of the two losses the smaller is taken, where PPO takes the worse, which is the larger."),
    ("clipped_loss", "wrong", clipped_loss__no_minus,
     "The clipped loss lacks the minus sign of the unclipped one, so the two cannot be compared."),
    ("clipped_loss", "wrong", clipped_loss__upper_side_only,
     "The ratio is clipped above only; a bad token whose ratio falls below 1 − clip must stop too."),
    ("clipped_loss", "right", clipped_loss__named_borders, "borders with names"),
    ("advantages_and_returns", "wrong", advantages_and_returns__lam_forgotten,
     "lam is not handed on to gae, so it is always 0.95."),
    ("advantages_and_returns", "wrong", advantages_and_returns__whitened_rewards,
     "The rewards are whitened, which also changes the critic's target, and the advantages, which should be, are not."),
    ("advantages_and_returns", "wrong", advantages_and_returns__over_the_padding,
     "Two slips: mean and deviation count the padding's zeros as advantages, and off the mask the result is no longer 0."),
    ("advantages_and_returns", "right", advantages_and_returns__names, "adds the values itself, masked with where"),
    ("ppo_update", "wrong", ppo_update__gradients_pile_up,
     "The gradient is never set to zero, so from the second epoch on the gradients of all earlier epochs are added again."),
    ("ppo_update", "wrong", ppo_update__ratio_to_ref,
     "The ratio is taken to π_ref; it belongs to π_old, the policy that wrote the rollout."),
    ("ppo_update", "wrong", ppo_update__rewards_move_along,
     "Rewards and advantages are computed anew in every epoch from the moving policy; they belong to the rollout and stay fixed."),
    ("ppo_update", "right", ppo_update__sgd, "torch.optim.SGD with a Parameter"),
]
