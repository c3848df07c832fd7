# fmt: off
# ruff: noqa
"""Students' answers, notebook 09."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf_lab import compute_rewards
from rlhf_lab.lessons import ppo_loop as loop
from rlhf_lab.masking import masked_mean, masked_whiten
from rlhf_lab.ppo import gae, policy_loss, returns_to_go

# ---------------------------------------------------------------- clipped_loss


def clipped_loss__smaller_one(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    worse = torch.where(unclipped > clipped, clipped, unclipped)  # min, as in the paper
    return masked_mean(worse, mask)


def clipped_loss__around_zero(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(-clip, clip)
    worse = torch.where(unclipped > clipped, unclipped, clipped)
    return masked_mean(worse, mask)


def clipped_loss__product_clamped(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, (-advantages * ratio).clamp(1 - clip, 1 + clip)
    worse = torch.where(unclipped > clipped, unclipped, clipped)
    return masked_mean(worse, mask)


def clipped_loss__always_clipped(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    clipped = -advantages * torch.clamp(ratio, 1 - clip, 1 + clip)
    return masked_mean(clipped, mask)


def clipped_loss__ratio_turned(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (old_logprobs - logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    worse = torch.where(unclipped > clipped, unclipped, clipped)
    return masked_mean(worse, mask)


def clipped_loss__objective_of_the_paper(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    surr1 = ratio * advantages
    surr2 = torch.clamp(ratio, 1 - clip, 1 + clip) * advantages
    return masked_mean(torch.min(surr1, surr2), mask)


def clipped_loss__upper_side_only(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(max=1 + clip)
    worse = torch.where(unclipped > clipped, unclipped, clipped)
    return masked_mean(worse, mask)


def clipped_loss__minus_forgotten_and_rectangle(logprobs, old_logprobs, advantages, mask, clip):
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)
    worse = torch.where(unclipped > clipped, unclipped, clipped)
    return (worse * mask).mean()


def clipped_loss__stable_baselines_right(logprobs, old_logprobs, advantages, mask, clip):
    ratio = torch.exp(logprobs - old_logprobs)
    surr1 = advantages * ratio
    surr2 = advantages * torch.clamp(ratio, 1 - clip, 1 + clip)
    return -torch.min(surr1, surr2)[mask.bool()].mean()


def clipped_loss__cases_right(logprobs, old_logprobs, advantages, mask, clip):
    ratio = torch.exp(logprobs - old_logprobs)
    good = -advantages * ratio.clamp(max=1 + clip)  # A > 0: no more than 1 + clip
    bad = -advantages * ratio.clamp(min=1 - clip)
    return masked_mean(torch.where(advantages > 0, good, bad), mask)


# ---------------------------------------------------------------- advantages_and_returns


def advantages_and_returns__whitened_plus_values(rewards, values, mask, lam=0.95):
    advantages, _ = gae(rewards, values, mask, gamma=1.0, lam=lam)
    advantages = masked_whiten(advantages, mask)
    returns = advantages + values.masked_fill(~mask.bool(), 0.0)
    return advantages, returns


def advantages_and_returns__order(rewards, values, mask, lam=0.95):
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return returns, masked_whiten(advantages, mask)


def advantages_and_returns__as_gae_gives(rewards, values, mask, lam=0.95):
    return gae(rewards, values, mask, gamma=1.0, lam=lam)


def advantages_and_returns__both_whitened(rewards, values, mask, lam=0.95):
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return masked_whiten(advantages, mask), masked_whiten(returns, mask)


def advantages_and_returns__lam_ignored(rewards, values, mask, lam=0.95):
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=0.95)
    return masked_whiten(advantages, mask), returns


def advantages_and_returns__whitened_by_hand(rewards, values, mask, lam=0.95):
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=lam)
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    return advantages.masked_fill(~mask.bool(), 0.0), returns


def advantages_and_returns__monte_carlo(rewards, values, mask, lam=0.95):
    advantages = gae(rewards, values, mask, gamma=1.0, lam=lam).advantages
    rewards = rewards.masked_fill(~mask.bool(), 0.0)
    returns = rewards.flip(1).cumsum(1).flip(1).masked_fill(~mask.bool(), 0.0)
    return masked_whiten(advantages, mask), returns


def advantages_and_returns__rewards_whitened_too(rewards, values, mask, lam=0.95):
    rewards = masked_whiten(rewards, mask, shift_mean=False)
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return masked_whiten(advantages, mask, shift_mean=False), returns


def advantages_and_returns__by_name_right(rewards, values, mask, lam=0.95):
    estimate = gae(rewards, values, mask, gamma=1.0, lam=lam)
    return masked_whiten(estimate.advantages, mask), estimate.returns


def advantages_and_returns__delta_loop_right(rewards, values, mask, lam=0.95):
    keep = mask.bool()
    r, v = (torch.where(keep, x, 0.0).detach() for x in (rewards, values))
    A, last = torch.zeros_like(r), torch.zeros_like(r[:, 0])
    for t in reversed(range(r.shape[1])):
        next_v = v[:, t + 1] if t + 1 < r.shape[1] else torch.zeros_like(last)
        last = r[:, t] + next_v - v[:, t] + lam * last
        A[:, t] = last
    A = torch.where(keep, A, 0.0)
    chosen = A[keep]
    white = (A - chosen.mean()) / (chosen.var() + 1e-8).sqrt()
    return torch.where(keep, white, 0.0), A + v


# ---------------------------------------------------------------- ppo_update


def ppo_update__ascent(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    old_logprobs = loop.word_logprobs(policy, responses)
    ref_logprobs = loop.word_logprobs(ref, responses)
    rewards = compute_rewards(scores, old_logprobs, ref_logprobs, mask, eta).rewards
    advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    for _ in range(epochs):
        policy = policy.detach().requires_grad_(True)
        logprobs = loop.word_logprobs(policy, responses)
        loss = policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
        (gradient,) = torch.autograd.grad(loss, policy)
        policy = policy + lr * gradient
    return policy.detach()


def ppo_update__old_moves(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    ref_logprobs = loop.word_logprobs(ref, responses)
    old_logprobs = loop.word_logprobs(policy, responses).detach()
    rewards = compute_rewards(scores, old_logprobs, ref_logprobs, mask, eta).rewards
    advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    for _ in range(epochs):
        policy = policy.detach().requires_grad_(True)
        logprobs = loop.word_logprobs(policy, responses)
        old_logprobs = logprobs.detach()
        loss = policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
        loss.backward()
        policy = policy - lr * policy.grad
    return policy.detach()


def ppo_update__rewards_move(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    old_logprobs = loop.word_logprobs(policy, responses).detach()
    ref_logprobs = loop.word_logprobs(ref, responses)
    for _ in range(epochs):
        policy = policy.detach().requires_grad_(True)
        logprobs = loop.word_logprobs(policy, responses)
        rewards = compute_rewards(scores, logprobs.detach(), ref_logprobs, mask, eta).rewards
        advantages = masked_whiten(returns_to_go(rewards, mask), mask)
        loss = policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
        (g,) = torch.autograd.grad(loss, policy)
        policy = policy - lr * g
    return policy.detach()


def ppo_update__ratio_to_ref(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    with torch.no_grad():
        old_logprobs = loop.word_logprobs(policy, responses)
        ref_logprobs = loop.word_logprobs(ref, responses)
        rewards = compute_rewards(scores, old_logprobs, ref_logprobs, mask, eta).rewards
        advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    theta = policy.clone()
    for _ in range(epochs):
        theta = theta.detach().requires_grad_(True)
        new = loop.word_logprobs(theta, responses)
        loss = policy_loss(new, ref_logprobs, advantages, mask, clip=clip).loss
        theta = theta - lr * torch.autograd.grad(loss, theta)[0]
    return theta.detach()


def ppo_update__returns_in_the_loop(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    old_logprobs = loop.word_logprobs(policy, responses)
    ref_logprobs = loop.word_logprobs(ref, responses)
    rewards = compute_rewards(scores, old_logprobs, ref_logprobs, mask, eta).rewards
    advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    for epoch in range(epochs):
        policy = policy.detach().requires_grad_(True)
        logprobs = loop.word_logprobs(policy, responses)
        loss = policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
        policy = policy - lr * torch.autograd.grad(loss, policy)[0]
        return policy.detach()


def ppo_update__rewards_as_advantages(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    old_logprobs = loop.word_logprobs(policy, responses)
    ref_logprobs = loop.word_logprobs(ref, responses)
    rewards = compute_rewards(scores, old_logprobs, ref_logprobs, mask, eta).rewards
    advantages = masked_whiten(rewards, mask)
    for _ in range(epochs):
        policy = policy.detach().requires_grad_(True)
        logprobs = loop.word_logprobs(policy, responses)
        loss = policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
        policy = policy - lr * torch.autograd.grad(loss, policy)[0]
    return policy.detach()


def ppo_update__clip_not_passed_on(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    old_logprobs, ref_logprobs = (loop.word_logprobs(x, responses) for x in (policy, ref))
    rewards = compute_rewards(scores, old_logprobs, ref_logprobs, mask, eta).rewards
    advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    new = policy.detach().clone()
    for _ in range(epochs):
        new.requires_grad_(True)
        loss = policy_loss(loop.word_logprobs(new, responses), old_logprobs, advantages, mask).loss
        (g,) = torch.autograd.grad(loss, new)
        new = (new - lr * g).detach()
    return new


def ppo_update__adam_and_not_whitened(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    old_logprobs = loop.word_logprobs(policy, responses).detach()
    ref_logprobs = loop.word_logprobs(ref, responses)
    rewards = compute_rewards(scores, old_logprobs, ref_logprobs, mask, eta).rewards
    advantages = returns_to_go(rewards, mask)
    params = policy.detach().clone().requires_grad_(True)
    adam = torch.optim.Adam([params], lr=lr)
    for _ in range(epochs):
        logprobs = loop.word_logprobs(params, responses)
        loss = policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
        adam.zero_grad()
        loss.backward()
        adam.step()
    return params.detach()


def ppo_update__policy_overwritten(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    old_logprobs = loop.word_logprobs(policy, responses).detach()
    ref_logprobs = loop.word_logprobs(ref, responses)
    rewards = compute_rewards(scores, old_logprobs, ref_logprobs, mask, eta).rewards
    advantages = masked_whiten(returns_to_go(rewards, mask), mask)
    policy.requires_grad_(True)
    for _ in range(epochs):
        logprobs = loop.word_logprobs(policy, responses)
        loss = policy_loss(logprobs, old_logprobs, advantages, mask, clip=clip).loss
        (gradient,) = torch.autograd.grad(loss, policy)
        with torch.no_grad():
            policy -= lr * gradient
    return policy.detach()


def ppo_update__sgd_right(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    with torch.no_grad():
        old = loop.word_logprobs(policy, responses)
        shaped = compute_rewards(scores, old, loop.word_logprobs(ref, responses), mask, eta)
        A = masked_whiten(returns_to_go(shaped.rewards, mask), mask)
    theta = torch.nn.Parameter(policy.detach().clone())
    sgd = torch.optim.SGD([theta], lr=lr)
    for _ in range(epochs):
        sgd.zero_grad()
        policy_loss(loop.word_logprobs(theta, responses), old, A, mask, clip=clip).loss.backward()
        sgd.step()
    return theta.detach()


def ppo_update__by_hand_right(policy, ref, responses, mask, scores, eta, clip, lr, epochs):
    keep = mask.bool()

    def log_pi(table):
        logp = table - table.logsumexp(dim=1, keepdim=True)
        columns = [logp[t, responses[:, t]] for t in range(responses.shape[1])]
        return torch.stack(columns, dim=1)

    old, sft = log_pi(policy).detach(), log_pi(ref).detach()
    pay = torch.where(keep, -eta * (old - sft), 0.0)
    for i in range(len(pay)):
        pay[i, keep[i].nonzero()[-1]] += scores[i]
    A = torch.where(keep, pay.flip(1).cumsum(1).flip(1), 0.0)
    A = (A - A[keep].mean()) / (A[keep].var() + 1e-8) ** 0.5
    new = policy.detach().clone()
    for _ in range(epochs):
        new.requires_grad_(True)
        ratio = (log_pi(new) - old).exp()
        loss = -torch.min(A * ratio, A * ratio.clamp(1 - clip, 1 + clip))[keep].mean()
        (slope,) = torch.autograd.grad(loss, new)
        new = (new - lr * slope).detach()
    return new


ANSWERS = [
    ("clipped_loss", "wrong", clipped_loss__smaller_one, "The smaller of the two losses: the paper's min is of two objectives; of two losses the worse is the larger."),
    ("clipped_loss", "wrong", clipped_loss__around_zero, "The ratio lies around 1, so the band is 1 - clip to 1 + clip, not -clip to clip."),
    ("clipped_loss", "wrong", clipped_loss__product_clamped, "The product with the advantage is clamped; only the ratio is."),
    ("clipped_loss", "wrong", clipped_loss__always_clipped, "Only the clipped loss: a token that went the wrong way loses its gradient and cannot come back."),
    ("clipped_loss", "wrong", clipped_loss__ratio_turned, "The ratio is pi_old / pi; it should be pi / pi_old."),
    ("clipped_loss", "wrong", clipped_loss__objective_of_the_paper, "The paper's objective, to be maximised; as a loss it needs a minus."),
    ("clipped_loss", "wrong", clipped_loss__upper_side_only, "Clipped above only: a bad token goes on getting rarer below 1 - clip."),
    ("clipped_loss", "wrong", clipped_loss__minus_forgotten_and_rectangle, "Two things: the clipped loss has lost its minus, and the mean is over the whole rectangle instead of over the mask."),
    ("clipped_loss", "right", clipped_loss__stable_baselines_right, "minus the minimum of two objectives, boolean indexing"),
    ("clipped_loss", "right", clipped_loss__cases_right, "by the sign of the advantage"),
    ("advantages_and_returns", "wrong", advantages_and_returns__whitened_plus_values, "The critic's target is built from the whitened advantages; it must be on the scale of the rewards."),
    ("advantages_and_returns", "wrong", advantages_and_returns__order, "Returned in the wrong order."),
    ("advantages_and_returns", "wrong", advantages_and_returns__as_gae_gives, "The advantages are not whitened."),
    ("advantages_and_returns", "wrong", advantages_and_returns__both_whitened, "The returns are whitened as well; the critic must predict rewards as they are."),
    ("advantages_and_returns", "wrong", advantages_and_returns__lam_ignored, "0.95 is written into the call: the argument lam is ignored."),
    ("advantages_and_returns", "wrong", advantages_and_returns__whitened_by_hand, "Mean and spread over the whole rectangle: the zeros off the mask are counted."),
    ("advantages_and_returns", "wrong", advantages_and_returns__monte_carlo, "The returns are plain sums of rewards (lambda = 1); gae's returns are its advantages plus the values."),
    ("advantages_and_returns", "wrong", advantages_and_returns__rewards_whitened_too, "Two things: the rewards are whitened before gae, so the returns have another scale, and the advantages keep their mean (shift_mean=False)."),
    ("advantages_and_returns", "right", advantages_and_returns__by_name_right, "by the names of gae's results"),
    ("advantages_and_returns", "right", advantages_and_returns__delta_loop_right, "gae and whitening by hand"),
    ("ppo_update", "wrong", ppo_update__ascent, "Plus: that is ascent on a loss."),
    ("ppo_update", "wrong", ppo_update__old_moves, "pi_old is set anew in every epoch: the ratio is always 1 and nothing is ever clipped."),
    ("ppo_update", "wrong", ppo_update__rewards_move, "Rewards and advantages are computed anew from the moving policy; they belong to the rollout and stay fixed."),
    ("ppo_update", "wrong", ppo_update__ratio_to_ref, "The ratio is taken to pi_ref; the clip belongs around pi_old, which sampled."),
    ("ppo_update", "wrong", ppo_update__returns_in_the_loop, "return stands inside the loop: one epoch, however many were asked for."),
    ("ppo_update", "wrong", ppo_update__rewards_as_advantages, "The rewards themselves are used as advantages; a token answers for all that comes after it: returns_to_go is missing."),
    ("ppo_update", "wrong", ppo_update__clip_not_passed_on, "clip is not passed on, so policy_loss takes its default 0.2."),
    ("ppo_update", "wrong", ppo_update__adam_and_not_whitened, "Two things: Adam instead of plain gradient descent, and the advantages are not whitened."),
    ("ppo_update", "wrong", ppo_update__policy_overwritten, "The numbers are right, but the steps are written into the caller's policy (and switch on its gradient): new logits were asked, the old ones should stay."),
    ("ppo_update", "right", ppo_update__sgd_right, "nn.Parameter and torch.optim.SGD"),
    ("ppo_update", "right", ppo_update__by_hand_right, "everything by hand, without the package"),
]
