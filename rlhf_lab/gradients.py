"""The mean policy gradient on the tree of `exact`: what a penalty does depends on where it stands.

It is the first step of a PPO that does not whiten.

Write δ_t = log π(y_t|s_t) − log π_ref(y_t|s_t). In the *reward* a penalty φ(δ_t) is a number, and
log π of the sampled tokens is differentiated. In the *loss* the penalty itself is differentiated.
The sampling never is. By the product rule each is one half of a gradient:

    ∇E[Σ_t φ(δ_t)] = E[Σ_t ∇log π(y_t|s_t)·Σ_{k≥t} φ(δ_k)] + E[Σ_t φ′(δ_t)·∇log π(y_t|s_t)]
                     `kl_reward_gradient`                    `kl_loss_gradient`

======  =========================================================  ======================
mode    in the reward                                              in the loss
======  =========================================================  ======================
"kl"    ∇KL(π ‖ π_ref), exactly                                    0
"abs"   biased                                                     local ∇‖π − π_ref‖₁
"mse"   biased                                                     local ∇KL(π ‖ π_ref)
"k3"    ∇KL(π ‖ π_ref) − the loss half                             local ∇KL(π_ref ‖ π)
"full"  ∇KL(π ‖ π_ref) − the loss half; 0 on the last token        local ∇KL(π ‖ π_ref)
======  =========================================================  ======================

*Local*: the mean, over the prefixes that π visits, of ∇ of π(·|s) alone, as if a token did not
decide which prefixes come next. In the reward "mse", "k3" and "full" lose their force near π_ref,
and "abs" its direction. For T > 1 only the first row is the gradient of a function.

All gradients are with respect to the logits, T tables ((V−1)^t, V) like the policy itself; tokens
are summed over a response, γ = λ = 1, and every token is counted with its probability.
"""

from typing import Literal

import torch
from torch import Tensor

from rlhf_lab._checks import takes, unchecked
from rlhf_lab.exact import Tables
from rlhf_lab.kl import exact_kl, k2, k3

Penalty = Literal["kl", "abs", "mse", "k3", "full"]


_PAIR = {"logprobs": "logprobs tables", "ref_logprobs": "logprobs tables"}


@takes(logprobs="logprobs tables")
def visitation(logprobs: Tables) -> list[Tensor]:
    """d(s), the probability that a response passes through prefix s: T vectors ((V−1)^t,).

    >>> half = torch.full((1, 2), 0.5).log()
    >>> visitation([half, half])  # a second token is written unless the first was <eos>
    [tensor([1.]), tensor([0.5000])]
    """
    visits = [logprobs[0].new_ones(1)]
    for table in logprobs[:-1]:
        visits.append((visits[-1].unsqueeze(1) * table.exp())[:, 1:].reshape(-1))
    return visits


@takes(logprobs="logprobs tables", weights="float tables", result="finite")
def logprob_gradient(logprobs: Tables, weights: Tables) -> list[Tensor]:
    """E[Σ_t w(s_t, y_t)·∇log π(y_t|s_t)], which every update of this module comes down to.

    In the logit of token a at prefix s it is d(s)·π(a|s)·(w(s, a) − E_π[w(s, ·)]). So a weight
    that is the same for all tokens of a prefix is a baseline, and moves nothing.

    Args:
        logprobs: T tables of log π(token | prefix); −inf where a token is impossible.
        weights: w, T tables ((V−1)^t, V); anything at impossible tokens.
    """
    gradient = []
    for d, table, weight in zip(unchecked(visitation)(logprobs), logprobs, weights, strict=True):
        p, w = table.exp(), _possible(weight, table)
        gradient.append(d.unsqueeze(1) * p * (w - (p * w).sum(dim=1, keepdim=True)))
    return gradient


@takes(
    logprobs="logprobs tables",
    token_rewards="float tables",
    scores="scores ends or None",
    result="finite",
)
def policy_gradient(
    logprobs: Tables, token_rewards: Tables, scores: Tables | None = None
) -> list[Tensor]:
    """E[Σ_t ∇log π(y_t|s_t)·(reward-to-go of token t)], all rewards being constants; to ascend.

    d(s)·π(a|s)·(Q(s, a) − V(s)), where Q is the token's own reward and the value of what follows.
    What was paid before token t drops out, since E[∇log π(y_t|s_t) | s_t] = 0.

    Args:
        logprobs: T tables of log π(token | prefix).
        token_rewards: what each token is paid, T tables ((V−1)^t, V).
        scores: r of each response, paid on its last token, as tables (see `exact.unflatten`).

    >>> fair, unpaid = torch.full((1, 2), 0.5).log(), torch.zeros(1, 2)
    >>> policy_gradient([fair], [unpaid], scores=[torch.tensor([[0.0, 1.0]])])
    [tensor([[-0.2500,  0.2500]])]
    """
    q = unchecked(action_values)(logprobs, token_rewards, scores)
    return unchecked(logprob_gradient)(logprobs, q)


@takes(
    logprobs="logprobs tables",
    token_rewards="float tables",
    scores="scores ends or None",
)
def action_values(
    logprobs: Tables, token_rewards: Tables, scores: Tables | None = None
) -> list[Tensor]:
    """Q(s, a) = reward of the token + E_π[what follows], T tables ((V−1)^t, V); 0 if impossible.

    Arguments as in `policy_gradient`.

    >>> half, unpaid = torch.full((1, 2), 0.5).log(), torch.zeros(1, 2)
    >>> scores = [torch.ones(1, 1), torch.tensor([[0.0, 4.0]])]  # "<eos>", "1 <eos>", "1 1"
    >>> action_values([half, half], [unpaid, unpaid], scores)
    [tensor([[1., 2.]]), tensor([[0., 4.]])]
    """
    if scores is None:
        scores = [torch.zeros_like(table[:, :1]) for table in logprobs]
    V, q, follows = logprobs[0].shape[1], list[Tensor](), scores[-1]
    for t in reversed(range(len(logprobs))):
        q.insert(0, _possible(token_rewards[t] + follows, logprobs[t]))
        if t:
            value = (logprobs[t].exp() * q[0]).sum(dim=1)
            follows = torch.cat([scores[t - 1], value.view(-1, V - 1)], dim=1)
    return q


@takes(**_PAIR, mode=Penalty, result="finite")
def kl_reward_gradient(
    logprobs: Tables, ref_logprobs: Tables, mode: Penalty = "kl"
) -> list[Tensor]:
    """g_φ = E[Σ_t ∇log π(y_t|s_t)·Σ_{k≥t} φ(δ_k)]: the penalty as a number in the reward.

    It is the gradient of a penalty, so PPO descends η·g_φ. It lacks M_φ, `kl_loss_gradient`, which
    is 0 for "kl" and for no other mode.

    Args:
        logprobs: T tables of log π(token | prefix).
        ref_logprobs: log π_ref, same shapes.
        mode: a row of the table at the head of this module.

    Raises:
        ValueError: the tables are not those of a tree, or `mode` is unknown.

    >>> policy, ref = [torch.tensor([[0.4, 0.6]]).log()], [torch.tensor([[0.5, 0.5]]).log()]
    >>> kl_reward_gradient(policy, ref, "kl")  # descending it lowers .6, back to .5
    [tensor([[-0.0973,  0.0973]])]
    >>> kl_reward_gradient(policy, ref, "mse")  # raises it: .4 is further from .5 in log than .6
    [tensor([[ 0.0020, -0.0020]])]
    """
    pairs = zip(logprobs, ref_logprobs, strict=True)
    paid = [_penalty(table, ref, mode)[0] for table, ref in pairs]
    return unchecked(policy_gradient)(logprobs, paid)


@takes(**_PAIR, mode=Penalty, result="finite")
def kl_loss_gradient(logprobs: Tables, ref_logprobs: Tables, mode: Penalty) -> list[Tensor]:
    """M_φ = E[Σ_t φ′(δ_t)·∇log π(y_t|s_t)]: the penalty as a loss on the tokens that π sampled.

    Arguments and errors as in `kl_reward_gradient`. "full" and "mse" have the same mean here and
    differ in noise: the gradient of k2 at a sampled token estimates that of the exact KL there.

    >>> policy, ref = [torch.tensor([[0.4, 0.6]]).log()], [torch.tensor([[0.5, 0.5]]).log()]
    >>> kl_loss_gradient(policy, ref, "k3")  # π − π_ref
    [tensor([[-0.1000,  0.1000]])]
    >>> kl_loss_gradient(policy, ref, "kl")[0].abs() < 1e-6  # k1 as a loss never mentions π_ref
    tensor([[True, True]])
    """
    pairs = zip(logprobs, ref_logprobs, strict=True)
    slopes = [_penalty(table, ref, mode)[1] for table, ref in pairs]
    return unchecked(logprob_gradient)(logprobs, slopes)


@takes(logprobs="logprobs tables", result="finite")
def entropy_loss_gradient(logprobs: Tables) -> list[Tensor]:
    """E[Σ_t ∇H(π(·|s_t))], s_t held fixed: the ascent that −β·H in the loss brings about, over β.

    ∇H(π) is this and the credit of each token for the entropy it leads to,
    E[Σ_t ∇log π(y_t|s_t)·Σ_{k>t} H(π(·|s_k))]. To have both, put −β·log π(y_t|s_t) in the reward.

    >>> entropy_loss_gradient([torch.tensor([[0.4, 0.6]]).log()])
    [tensor([[ 0.0973, -0.0973]])]
    """
    return unchecked(logprob_gradient)(logprobs, [-table for table in logprobs])


def _penalty(logprobs: Tensor, ref_logprobs: Tensor, mode: Penalty) -> tuple[Tensor, Tensor]:
    """φ(δ) and φ′(δ) of every token at every prefix of one depth, each ((V−1)^t, V)."""
    delta = logprobs - ref_logprobs
    match mode:
        case "kl":
            return delta, torch.ones_like(delta)
        case "abs":
            return delta.abs(), delta.sign()
        case "mse":
            return unchecked(k2)(logprobs, ref_logprobs), delta
        case "k3":
            return unchecked(k3)(logprobs, ref_logprobs), -torch.expm1(-delta)
        case "full":  # for its own token a baseline; Σ_v π(v)·∇d(v) = 0 leaves Σ_v d(v)·∇π(v)
            kl = unchecked(exact_kl)(logprobs, ref_logprobs)
            return kl.unsqueeze(1).expand_as(delta), delta


def _possible(x: Tensor, logprobs: Tensor) -> Tensor:
    """`x` with 0 at impossible tokens, where it may be ∞ or NaN."""
    return x.masked_fill(logprobs == -torch.inf, 0.0)
