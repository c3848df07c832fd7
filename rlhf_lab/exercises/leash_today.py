"""Exercises of notebook 11: groups, the leash in the loss, denominators, and silent settings."""

import inspect
from typing import Any

import torch
from torch import Tensor

from rlhf_lab.aggregation import aggregate
from rlhf_lab.exercises.exercise import Attempt, Case, Choice, Exercise, Mistake
from rlhf_lab.groups import group_advantages, leave_one_out, shaped_scores
from rlhf_lab.lessons.leash_today import kl_pull, rloo_advantages

_NOTEBOOK = "11_the_leash_today"
_GENERATOR = torch.Generator().manual_seed(11)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_GENERATOR, dtype=torch.float64)


def _batch(lengths: tuple[int, ...], T: int) -> tuple[Tensor, Tensor, Tensor]:
    """log π and log π_ref, with plausible numbers off the mask, and the mask."""
    mask = torch.arange(T) < torch.tensor(lengths).unsqueeze(1)
    return (
        -0.1 - 1.5 * _random(len(lengths), T).abs(),
        -0.1 - 1.5 * _random(len(lengths), T).abs(),
        mask,
    )


# RLOO's advantages


def _kl(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    return ((logprobs - ref_logprobs) * mask).sum(1).detach()


def _siblings(rewards: Tensor, G: int) -> Tensor:
    groups = rewards.view(-1, G)
    return (groups.sum(1, keepdim=True) - groups) / (G - 1)


def _loo(rewards: Tensor, G: int) -> Tensor:
    return (rewards.view(-1, G) - _siblings(rewards, G)).flatten()


def _rloo(
    scores: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    eta: float,
    group_size: int,
) -> Tensor:
    kl = ((logprobs - ref_logprobs) * mask).sum(dim=1).detach()
    rewards = (scores - eta * kl).view(-1, group_size)
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (group_size - 1)
    return (rewards - others).flatten()


def _with_kl(kl: Attempt) -> Attempt:
    """RLOO's advantages with another KL per response."""
    return lambda r, p, q, mask, eta, G: _loo(r - eta * kl((p - q).detach(), mask), G)


def _with_baseline(baseline: Attempt) -> Attempt:
    """RLOO's advantages with another number subtracted."""

    def attempt(r: Tensor, p: Tensor, q: Tensor, mask: Tensor, eta: float, G: int) -> Tensor:
        rewards = r - eta * _kl(p, q, mask)
        return (rewards.view(-1, G) - baseline(rewards, G)).flatten()

    return attempt


_RLOO = Exercise(
    name="rloo_advantages",
    section=f"{_NOTEBOOK}: The critic goes",
    minutes=7,
    reference=rloo_advantages,
    helpers=(shaped_scores, leave_one_out),
    simple=_rloo,
    # The share of tokens on the mask is not (G − 1)/G: else a response that is left in the mean
    # would look like a sum over the mask that is divided by all places.
    cases=(
        Case(
            "two groups of three reviews",
            (2 * _random(6), *_batch((4, 2, 1, 3, 4, 3), 4), 0.3, 3),
            (1,),
        ),
        Case(
            "two groups of four reviews",
            (2 * _random(8), *_batch((1, 3, 2, 3, 3, 1, 2, 2), 3), 0.7, 4),
            (1,),
        ),
    ),
    mistakes=(
        Mistake(
            "own score left in the mean", 32,
            _with_baseline(lambda x, G: x.view(-1, G).mean(1, keepdim=True)),
            "Your baseline is the mean of the whole group, and a response is part of it. Every "
            "advantage is (G − 1)/G of what it should be: that is GRPO's, not RLOO's.",
            "What do the *others* of its group score?",
        ),
        Mistake(
            "divided by G", 32,
            _with_baseline(lambda x, G: _siblings(x, G) * (G - 1) / G),
            "You add up the others and divide by G. There are only G − 1 of them.",
            "Give all of a group the same score: what should be left?",
        ),
        Mistake(
            "mean of the whole batch", 32,
            _with_baseline(lambda x, G: x.mean()),
            "You subtract one mean from all. Responses to an easy prompt then look good beside "
            "those to a hard one, whatever they say.",
            "Which rows belong to the same prompt?",
        ),
        Mistake(
            "mean of the rest of the batch", 32,
            _with_baseline(lambda x, G: ((x.sum() - x) / (len(x) - 1)).view(-1, G)),
            "You left the response itself out, but took the mean over the other prompts, too.",
            "Which rows belong to the same prompt?",
        ),
        Mistake(
            "groups across the rows", 32,
            lambda r, p, q, mask, eta, G: _loo(
                (r - eta * _kl(p, q, mask)).view(G, -1).T.flatten(), G
            ).view(-1, G).T.flatten(),
            "The rows of your groups stand far apart. Here G rows *in a row* answer one prompt.",
            "Which shape puts rows 0 to G − 1 into one row?",
        ),
        Mistake(
            "KL after the baseline", 18,
            lambda r, p, q, mask, eta, G: _loo(r, G) - eta * _kl(p, q, mask),
            "You take the KL off after the baseline. It belongs to the reward: else it has no "
            "baseline of its own, and the advantages of a group do not add up to 0.",
            "What should the advantages of a group add up to?",
        ),
        Mistake(
            "mean over tokens", 12,
            _with_kl(lambda d, m: (d * m).sum(1) / m.sum(1)),
            "You average the KL over the tokens. The longer a review, the weaker its leash; TRL's "
            "*metric* `kl` is such a mean, and its penalty is the sum.",
            "What adds up to log π(y) − log π_ref(y) of the whole review?",
        ),
        Mistake(
            "own score left in the mean, KL over tokens", 32,
            lambda r, p, q, mask, eta, G: _centred(
                r - eta * _kl(p, q, mask) / mask.sum(1), G
            ).flatten(),
            "Two things: your baseline is the mean of the whole group, the response included; and "
            "your KL is a mean over tokens, where the sum is meant.",
            "What do the *others* score, and what adds up to log π(y) − log π_ref(y)?",
        ),
        Mistake(
            "mean over the padded width", 12,
            _with_kl(lambda d, m: (d * m).mean(1)),
            "You average the KL over the padded width. What is meant is the sum over the review's "
            "own tokens.",
            "What adds up to log π(y) − log π_ref(y) of the whole review?",
        ),
        Mistake(
            "absolute values", 3,
            _with_kl(lambda d, m: (d * m).sum(1).abs()),
            "You took the absolute value of the KL of each review. Single ones may be negative, "
            "and those reviews are to be paid: the sign is the force that brings them back.",
            "What should happen to a review that π says too seldom?",
        ),
        Mistake(
            "the ratio, not its log", 1,
            _with_kl(lambda d, m: (d.exp() * m).sum(1)),
            "You add up ratios π/π_ref. The KL is the mean of their logarithms.",
            "What is the penalty where π = π_ref, and what should it be?",
        ),
        Mistake(
            "padding counted", 8,
            _with_kl(lambda d, m: d.sum(1)),
            "You add up the padding, too. The policy never chose those tokens.",
            "Which argument have you not used?",
        ),
        Mistake(
            "no penalty at all", 18,
            lambda r, p, q, mask, eta, G: _loo(r, G),
            "Only the scores are left: nothing holds the policy, whatever η is. (If you did take a "
            "KL off, it was the same for all reviews, and the baseline has taken it off again.)",
            "Whose log-ratios should a review pay for?",
        ),
        Mistake(
            "plus", 2,
            _with_kl(lambda d, m: -(d * m).sum(1)),
            "You add η·KL: the policy is paid for leaving π_ref.",
            "π says a review more often than π_ref does. Should it be paid for that?",
        ),
        Mistake(
            "not detached", 15,
            lambda r, p, q, mask, eta, G: _loo(r - eta * ((p - q) * mask).sum(1), G),
            "Your values are right, but a gradient flows through the advantage. It is a number "
            "that multiplies ∇log π; yours adds a second gradient.",
            "Which call makes a tensor a plain number for autograd?",
        ),
        Mistake(
            "the mean returned", 30,
            lambda r, p, q, mask, eta, G: _siblings(r - eta * _kl(p, q, mask), G).flatten(),
            "You return the baseline. The advantage is what is left of the reward without it.",
            "Is a response that scores more than the others of its group above 0 here?",
        ),
        Mistake(
            "divided by the spread", 24,
            lambda r, p, q, mask, eta, G: group_advantages(
                r - eta * _kl(p, q, mask), G, scale="group"
            ),
            "You divide by the standard deviation of the group. RLOO does not; what that changes "
            "is the subject of the next section.",
            "Make all scores ten times as large: what should happen to the advantages?",
        ),
        Mistake(
            "k3 for k1", 17,
            _with_kl(lambda d, m: ((torch.expm1(-d) + d) * m).sum(1)),
            "You used k3. As a number in the reward only k1 has the gradient of the KL "
            "(notebook 06).",
            "Which estimator's mean gradient in the reward is that of KL(π ‖ π_ref)?",
        ),
    ),
)  # fmt: skip


# GRPO's advantages


def _is(attempt: Attempt, function: Attempt) -> bool:
    """Is it the package's own, which wants some arguments by name?"""
    return inspect.unwrap(attempt) is inspect.unwrap(function)


def _run_scale(attempt: Attempt, rewards: Tensor, group_size: int, scale: str) -> Any:
    if group_size < 2:  # asked for by the search for slips; torch would warn the student
        raise ValueError("a group of one has no deviation")
    if _is(attempt, group_advantages):
        return attempt(rewards, group_size, scale=scale)
    return attempt(rewards, group_size, scale)


def _centred(rewards: Tensor, G: int) -> Tensor:
    groups = rewards.view(-1, G)
    return groups - groups.mean(1, keepdim=True)


def _scaled(group: Attempt, batch: Attempt | None = None, floor: float = 1e-4) -> Attempt:
    """GRPO's advantages with another deviation; `group` gets (K, G), `batch` (N,)."""

    def attempt(rewards: Tensor, group_size: int, scale: str) -> Tensor:
        x = _centred(rewards, group_size)
        if scale == "group":
            x = x / (group(rewards.view(-1, group_size)) + floor)
        elif scale == "batch":
            x = x / ((batch or (lambda r: r.std()))(rewards) + floor)
        return x.flatten()

    return attempt


def _group_std(groups: Tensor) -> Tensor:
    return groups.std(1, keepdim=True)


def _grpo(rewards: Tensor, group_size: int, scale: str) -> Tensor:
    groups = rewards.view(-1, group_size)
    advantages = groups - groups.mean(dim=1, keepdim=True)
    if scale == "group":
        advantages = advantages / (groups.std(dim=1, keepdim=True) + 1e-4)
    if scale == "batch":
        advantages = advantages / (rewards.std() + 1e-4)
    return advantages.flatten()


_R = torch.tensor([1.3, -0.4, 0.25, 2.1, 5.2, 5.2, 5.2, 5.2, -3.0, 0.7, 0.1, -1.9]).double()
_GRPO = Exercise(
    name="group_advantages",
    section=f"{_NOTEBOOK}: Divide by the spread",
    minutes=7,
    reference=group_advantages,
    run=_run_scale,
    simple=_grpo,
    arguments=("rewards", "group_size", "scale"),
    cases=(
        Case('three groups of four, scale "group"', (_R, 4, "group")),
        Case('three groups of four, scale "batch"', (_R, 4, "batch")),
        Case('three groups of four, scale "none"', (_R, 4, "none")),
        Case('two small gaps, scale "group"', (3 + 1e-3 * _R[:4].repeat(2), 4, "group")),
    ),
    mistakes=(
        Mistake(
            "floor left out", 31, _scaled(_group_std, floor=0.0),
            "You divide by the deviation alone. Where all of a group score the same it is 0, and "
            "0/0 is NaN: one such group ends a run.",
            "What is added to the deviation?",
        ),
        Mistake(
            "another floor", 24, _scaled(_group_std, floor=1e-8),
            "Your floor is smaller than 10⁻⁴. Then gaps that are next to nothing count in full, "
            "too: each library has its own, and it is part of the rule.",
            "Which number does the text add to the deviation?",
        ),
        Mistake(
            "the floor of other libraries", 24, _scaled(_group_std, floor=1e-6),
            "Your floor is 10⁻⁶, as in verl. Here, as in TRL, it is 10⁻⁴.",
            "Which number does the text add to the deviation?",
        ),
        Mistake(
            "population deviation", 24,
            _scaled(lambda x: x.std(1, keepdim=True, unbiased=False),
                    lambda r: r.std(unbiased=False)),
            "You divide the squares by G. TRL's deviation divides them by G − 1, as torch's "
            ".std() does of itself.",
            "Which option of .std() have you set, or which formula have you written?",
        ),
        Mistake(
            "deviation of the batch", 24, _scaled(lambda x: x.std()),
            "For scale \"group\" you divide by the deviation of the whole batch.",
            "Over which rewards is each of the two deviations taken?",
        ),
        Mistake(
            "deviation of what is left", 24,
            lambda r, G, scale: _scaled(_group_std, lambda x: _centred(x, G).std())(r, G, scale),
            "For scale \"batch\" you take the deviation of what is left after centring. It is "
            "smaller: what the groups differ by is gone. TRL takes that of the rewards.",
            "Of which numbers is the deviation taken: before or after the means are subtracted?",
        ),
        Mistake(
            "deviation of the group", 24,
            lambda r, G, scale: _scaled(_group_std)(r, G, "none" if scale == "none" else "group"),
            "For scale \"batch\" you divide by the deviation of each group.",
            "Over which rewards is each of the two deviations taken?",
        ),
        Mistake(
            "always divided", 24, lambda r, G, scale: _scaled(_group_std)(r, G, "group"),
            "You divide by the group's deviation, whatever `scale` says.",
            "What should scale \"none\" give?",
        ),
        Mistake(
            "variance", 24,
            _scaled(lambda x: x.var(1, keepdim=True), lambda r: r.var()),
            "You divide by the variance. The deviation is its root.",
            "Make all rewards ten times as large: should the advantages become a tenth?",
        ),
        Mistake(
            "floor under the root", 24,
            lambda r, G, scale: _scaled(
                lambda x: (x.var(1, keepdim=True) + 1e-4).sqrt(),
                lambda r: (r.var() + 1e-4).sqrt(), floor=0.0,
            )(r, G, scale),
            "Your floor stands under the root: it is added to the variance. There it is 0.01 in "
            "units of the deviation, a hundred times as much.",
            "Is 1e-4 added before the root or after it?",
        ),
        Mistake(
            "mean of the whole batch", 32,
            lambda r, G, scale: (
                (r - r.mean()).view(-1, G)
                / {"group": r.view(-1, G).std(1, keepdim=True) + 1e-4, "batch": r.std() + 1e-4,
                   "none": 1.0}[scale]
            ).flatten(),
            "You subtract the mean of the whole batch. A group is compared with itself alone.",
            "Over which rewards is the mean taken?",
        ),
        Mistake(
            "leave-one-out", 32,
            lambda r, G, scale: _scaled(_group_std)(r, G, scale) * G / (G - 1),
            "Your mean leaves the response itself out. That is RLOO's; GRPO's mean is that of the "
            "whole group.",
            "Is a response part of the mean that it is compared with?",
        ),
        Mistake(
            "groups across the rows", 32,
            lambda r, G, scale: _scaled(_group_std)(
                r.view(G, -1).T.flatten(), G, scale
            ).view(-1, G).T.flatten(),
            "The rows of your groups stand far apart. Here G rows *in a row* answer one prompt.",
            "Which shape puts rows 0 to G − 1 into one row?",
        ),
        Mistake(
            "not centred", 32,
            lambda r, G, scale: r.clone() if scale == "none" else (
                r.view(-1, G) / (_group_std(r.view(-1, G)) + 1e-4) if scale == "group"
                else r / (r.std() + 1e-4)
            ).flatten(),
            "You divide, but subtract nothing: a group that always scores high is pushed up "
            "whatever it says.",
            "What is the advantage of the best in a group whose scores are all negative?",
        ),
    ),
)  # fmt: skip


# What the KL multiplies ∇log π by


def _d(p: Tensor, q: Tensor, mask: Tensor) -> Tensor:
    return ((p - q) * mask).detach()


def _pulls(
    reward: Attempt = lambda d, m: d.flip(1).cumsum(1).flip(1) * m,
    k3_ratio: Attempt = lambda d, m: d,
    k3: Attempt = lambda d, m: -torch.expm1(-d),
) -> Attempt:
    """`kl_pull` with one of its parts exchanged."""
    rules = {"reward": reward, "k3_ratio": k3_ratio, "k3": k3}
    return lambda p, q, mask, place: rules[place](_d(p, q, mask), mask)


def _pull(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, place: str) -> Tensor:
    d = (logprobs - ref_logprobs) * mask
    if place == "reward":
        return d.flip(1).cumsum(1).flip(1) * mask
    if place == "k3_ratio":
        return d
    return 1 - (-d).exp()


_THREE = _batch((4, 2, 3), 4)
_PULL = Exercise(
    name="kl_pull",
    curious=True,
    section=f"{_NOTEBOOK}: The leash moves into the loss",
    minutes=7,
    reference=kl_pull,
    simple=_pull,
    cases=(
        Case("three reviews, KL in the reward", (*_THREE, "reward")),
        Case("the same, k3·ratio in the loss", (*_THREE, "k3_ratio")),
        Case("the same, k3 in the loss", (*_THREE, "k3")),
    ),
    mistakes=(
        Mistake(
            "the same everywhere", 33, _pulls(reward=lambda d, m: d),
            "In the reward you charge each token for itself alone, as the loss does. A reward "
            "goes to all tokens before it, too: token t pays for the d of t and of all later ones.",
            "Which rewards does the return of token t hold?",
        ),
        Mistake(
            "summed from the front", 11,
            _pulls(reward=lambda d, m: d.cumsum(1) * m),
            "You add up the d of the tokens *before* t. Token t cannot change what is past.",
            "Which rewards does the return of token t hold?",
        ),
        Mistake(
            "summed from the front, mask forgotten", 11,
            _pulls(reward=lambda d, m: d.cumsum(1)),
            "Your sum runs over the tokens before t; it must run over t and those after. (And it "
            "goes on into the padding.)",
            "Which rewards does the return of token t hold?",
        ),
        Mistake(
            "summed from the front, own d left out", 11,
            _pulls(reward=lambda d, m: (d.cumsum(1) - d) * m),
            "Your sum runs over the tokens before t; it must run over t itself and those after.",
            "Which rewards does the return of token t hold?",
        ),
        Mistake(
            "not flipped back", 11,
            _pulls(reward=lambda d, m: d.flip(1).cumsum(1) * m),
            "Your sums from the end stand in reverse: the last token has the sum of all.",
            "You flipped before adding up. What is missing after it?",
        ),
        Mistake(
            "own d left out", 11,
            _pulls(reward=lambda d, m: (d.flip(1).cumsum(1).flip(1) - d) * m),
            "You left out the d of token t itself.",
            "Which rewards does the return of the last token hold?",
        ),
        Mistake(
            "the whole sum on every token", 33,
            _pulls(reward=lambda d, m: d.sum(1, keepdim=True) * m),
            "You give each token the d of the whole review. On average that is right, too: what "
            "comes before t has mean 0 in the product. We want the sum from t on.",
            "Which of these d can token t still change?",
        ),
        Mistake(
            "padding counted", 8,
            lambda p, q, mask, place: {
                "reward": (p - q).flip(1).cumsum(1).flip(1), "k3_ratio": p - q,
                "k3": -torch.expm1(q - p),
            }[place].detach(),
            "There are numbers in your padding, and in the sums they reach the tokens before it.",
            "Which argument have you not used?",
        ),
        Mistake(
            "mask after the sum", 8,
            lambda p, q, mask, place: {
                "reward": (p - q).flip(1).cumsum(1).flip(1), "k3_ratio": p - q,
                "k3": -torch.expm1(q - p),
            }[place].detach() * mask,
            "You masked after adding up: the sums of a short review still hold its padding.",
            "In which order do mask and sum belong?",
        ),
        Mistake(
            "the value of k3", 14,
            _pulls(k3=lambda d, m: torch.expm1(-d) + d),
            "For k3 you give its value. What multiplies ∇log π is its derivative by log π.",
            "d/dd of e^−d − 1 + d is?",
        ),
        Mistake(
            "the values of both", 14,
            _pulls(
                k3_ratio=lambda d, m: torch.expm1(-d) + d, k3=lambda d, m: torch.expm1(-d) + d
            ),
            "In the loss you give the value of k3. What multiplies ∇log π is its derivative.",
            "d/dd of e^−d − 1 + d is? And with the ratio, whose derivative is 1, in front?",
        ),
        Mistake(
            "ratio forgotten", 17, _pulls(k3_ratio=lambda d, m: -torch.expm1(-d)),
            "For k3·ratio you left the derivative of the ratio out. On a fresh rollout the ratio "
            "is 1, but its derivative by log π is 1 as well, so k3 itself is added.",
            "(ρ·k3)′ = ρ′·k3 + ρ·k3′, and ρ = ρ′ = 1. What is the sum?",
        ),
        Mistake(
            "k3 as k3·ratio", 17, _pulls(k3=lambda d, m: d),
            "For k3 you give d. That is its pull with the ratio in front; without, it is another.",
            "d/dd of e^−d − 1 + d is?",
        ),
        Mistake(
            "k3 with its sign turned", 2, _pulls(k3=lambda d, m: torch.expm1(-d)),
            "Your k3 has the wrong sign: d e^−d/dd is −e^−d.",
            "A token that π says more often than π_ref has d > 0. Is it to be pulled down?",
        ),
        Mistake(
            "exponent with the wrong sign", 17, _pulls(k3=lambda d, m: -torch.expm1(d)),
            "Your exponential is e^d, π/π_ref. In k3 stands π_ref/π, e^−d.",
            "What is the limit of the pull as d → ∞?",
        ),
        Mistake(
            "ratio upside down", 17, _pulls(k3=lambda d, m: torch.expm1(d)),
            "Your exponential is π/π_ref. In k3 stands π_ref/π, e^−d.",
            "What is the limit of the pull as d → ∞?",
        ),
        Mistake(
            "d turned round", 2,
            lambda p, q, mask, place: _pulls()(q, p, mask, place),
            "Your d is log π_ref − log π.",
            "A token that π says more often than π_ref: is it to be pulled down?",
        ),
        Mistake(
            "added up everywhere", 33,
            _pulls(k3_ratio=lambda d, m: d.flip(1).cumsum(1).flip(1) * m),
            "In the loss you add up later tokens, too. There each token's term is differentiated "
            "by itself, and the sampling is not: later tokens do not come in.",
            "Of which log π does the k3 of a later token depend?",
        ),
    ),
)  # fmt: skip


# Denominators


def _run_how(
    attempt: Attempt, losses: Tensor, mask: Tensor, how: str, total: float, length: int
) -> Any:
    if _is(attempt, aggregate):
        return attempt(losses, mask, how, total=total, length=length)
    return attempt(losses, mask, how, total, length)


def _divided(losses: Tensor, mask: Tensor, how: str, total: float, length: int) -> Tensor:
    kept = losses.masked_fill(~mask.bool(), 0.0)
    if how == "response":
        return (kept.sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()
    if how == "tokens":
        return kept.sum() / total
    return kept.sum() / (len(mask) * length)


def _hows(**others: Attempt) -> Attempt:
    """`aggregate` with one of its ways exchanged; each gets (kept losses, mask, total, length)."""

    def attempt(losses: Tensor, mask: Tensor, how: str, total: float, length: int) -> Tensor:
        if how in others:
            return others[how](losses.masked_fill(~mask, 0.0), mask, total, length)
        return _divided(losses, mask, how, total, length)

    return attempt


def _ways(losses: Tensor, mask: Tensor) -> tuple[Case, ...]:
    inputs = (losses, mask)
    return (
        Case('reviews of 4, 2, 1 and 3 tokens, "response"', (*inputs, "response", 23.0, 6), (0,)),
        Case('the same, "tokens" of 23 in all', (*inputs, "tokens", 23.0, 6), (0,)),
        Case('the same, "constant" with a limit of 6', (*inputs, "constant", 23.0, 6), (0,)),
    )


_LOSSES = _random(4, 5)
_LINES = torch.arange(5) < torch.tensor([4, 2, 1, 3]).unsqueeze(1)
_CUT = torch.arange(5) < torch.tensor([4, 0, 1, 3]).unsqueeze(1)
_AGGREGATE = Exercise(
    name="aggregate",
    curious=True,
    section=f"{_NOTEBOOK}: Denominators",
    minutes=7,
    reference=aggregate,
    run=_run_how,
    simple=_divided,
    arguments=("losses", "mask", "how", "total", "length"),
    cases=(
        *_ways(_LOSSES, _LINES),
        Case("an answer whose tokens are all masked", (_LOSSES, _CUT, "response", 23.0, 6), (0,),
             edge=True),
    ),
    mistakes=(
        Mistake(
            "mean over the padded width", 8,
            _hows(response=lambda x, m, total, length: x.mean()),
            "For \"response\" you divide by the padded width. Each response has a length of its "
            "own, the sum of its mask.",
            "How many tokens does the third review have?",
        ),
        Mistake(
            "mean over tokens for mean of means", 34,
            _hows(response=lambda x, m, total, length: x.sum() / m.sum()),
            "For \"response\" you take the mean over all tokens. There each *response* counts the "
            "same, and a token of a long one counts less.",
            "Two means, one inside the other: over what is each?",
        ),
        Mistake(
            "the limit for the lengths", 34,
            _hows(response=lambda x, m, total, length: x.sum() / (len(m) * length)),
            "For \"response\" you divide by the length limit: that is \"constant\". Here each "
            "review is divided by its own tokens.",
            "How many tokens does the third review have?",
        ),
        Mistake(
            "responses added up", 12,
            _hows(response=lambda x, m, total, length: (x.sum(1) / m.sum(1).clamp(min=1)).sum()),
            "For \"response\" you add up the responses. Twice the batch would be twice the step.",
            "What happens to your number if every row comes twice?",
        ),
        Mistake(
            "always the mean over tokens", 34,
            lambda losses, mask, how, total, length: (
                losses.masked_fill(~mask, 0.0).sum() / mask.sum()
            ),
            "You take the mean over the tokens of this batch, whatever `how` says.",
            "By what should each of the three divide?",
        ),
        Mistake(
            "always the mean over the padded width", 8,
            lambda losses, mask, how, total, length: losses.masked_fill(~mask, 0.0).mean(),
            "You divide by all places, padded ones too, whatever `how` says.",
            "By what should each of the three divide?",
        ),
        Mistake(
            "tokens of this batch", 34,
            _hows(tokens=lambda x, m, total, length: x.sum() / m.sum()),
            "For \"tokens\" you divide by the tokens of this micro-batch. `total` counts those of "
            "the whole generation batch, so that a token weighs the same in each of them.",
            "Which argument have you not used?",
        ),
        Mistake(
            "tokens, and then the rows", 34,
            _hows(tokens=lambda x, m, total, length: x.sum() / total / len(m)),
            "For \"tokens\" you divide by the rows as well.",
            "How many denominators does \"tokens\" have?",
        ),
        Mistake(
            "the longest for the limit", 34,
            _hows(constant=lambda x, m, total, length: x.sum() / (len(m) * m.sum(1).max())),
            "For \"constant\" you divide by the longest of this batch. That moves with what was "
            "sampled; the limit does not.",
            "Which of your two numbers is the same in every batch?",
        ),
        Mistake(
            "the width for the limit", 34,
            _hows(constant=lambda x, m, total, length: x.sum() / m.numel()),
            "For \"constant\" you divide by the width of the padded batch, not by the limit.",
            "Which of your two numbers is the same in every batch?",
        ),
        Mistake(
            "total and length exchanged", 34,
            lambda losses, mask, how, total, length: _divided(losses, mask, how, length, total),
            "You exchanged `total` and `length`.",
            "Which of them counts tokens of the whole batch?",
        ),
        Mistake(
            "rows forgotten", 12,
            _hows(constant=lambda x, m, total, length: x.sum() / length),
            "For \"constant\" you divide by the limit of one response. There are B of them.",
            "What happens to your number if every row comes twice?",
        ),
        Mistake(
            "limit forgotten", 34,
            _hows(constant=lambda x, m, total, length: x.sum() / len(m)),
            "For \"constant\" you divide by the rows alone. That weighs tokens alike, too, but "
            "its step grows with the limit.",
            "Which argument have you not used?",
        ),
        Mistake(
            "padding counted", 8,
            lambda losses, mask, how, total, length: _divided(
                losses, torch.ones_like(mask), how, total, length
            ),
            "You add up the padding, too, and count it.",
            "Which tokens did the policy choose?",
        ),
        Mistake(
            "padding added", 8,
            lambda losses, mask, how, total, length: {
                "response": (losses.sum(1) / mask.sum(1)).mean(), "tokens": losses.sum() / total,
                "constant": losses.sum() / (len(mask) * length),
            }[how],
            "Your denominators are right, but what you add up holds the padding.",
            "Which tokens did the policy choose?",
        ),
        Mistake(
            "0/0", 31,
            _hows(response=lambda x, m, total, length: (x.sum(1) / m.sum(1)).mean()),
            "Right, until an answer was cut off and all of its tokens are masked: 0/0 is NaN. It "
            "should add 0.",
            "Which length, at least, can you divide by?",
        ),
        Mistake(
            "row left out", 34,
            _hows(response=lambda x, m, total, length: (
                x.sum(1) / m.sum(1).clamp(min=1))[m.any(1)].mean()),
            "You leave an answer without tokens out of the mean over rows. In TRL it stays in the "
            "denominator, so that masking one answer does not make the others weigh more.",
            "By how many rows does TRL divide?",
        ),
    ),
)  # fmt: skip


_ZERO = Choice(
    name="zero_loss",
    curious=True,
    section=f"{_NOTEBOOK}: Two logs that look broken",
    minutes=3,
    answer="c",
    reason="On a fresh rollout every ratio is 1, so the loss is minus a mean of advantages, and "
    "those of a group add up to 0. Its gradient, −A·∇log π, is not 0. What tells whether a run "
    "learns are the score, the KL and the share of dead groups.",
    mistakes=(
        Mistake(
            "nothing is learned", 27, "a",
            "The value of the loss is 0 and its gradient is not: the printed lengths show both. "
            "A gradient says what changes if π moves, not where π stands.",
            "What is the derivative of ρ at ρ = 1?",
        ),
        Mistake(
            "the clip", 27, "b",
            "A clip acts where a ratio has left its band. On the first step every ratio is 1.",
            "How many gradients did a clip of 1e-9 change?",
        ),
        Mistake(
            "converged", 27, "d",
            "The loss of 0 stands there from the first step on, long before anything is learned.",
            "What is the loss on a fresh batch at the start of a training, and at its end?",
        ),
    ),
)  # fmt: skip


_HUNT = f"{_NOTEBOOK}: Five silent settings"

_CASES = (
    Choice(
        name="case_a", section=_HUNT, minutes=2, curious=True, answer="b",
        reason="`loss_type=\"cispo\"` limits the ratio itself, not its distance from 1, and TRL "
        "takes the limit from epsilon, 0.2 by default. Every ratio is 1, so every weight is cut "
        "to a fifth; KL and bonus are not: the leash is five times as strong. The test that "
        "finds it: on a fresh rollout the policy gradient must be that of −A·log π.",
        mistakes=(
            Mistake(
                "learning rate", 35, "a",
                "A smaller learning rate shortens the step, which all three share. Here one "
                "gradient became shorter, and two did not.",
                "Which of the three terms of the loss has changed?",
            ),
            Mistake(
                "eta", 35, "c",
                "A larger η would make the KL's gradient longer. It is as before.",
                "Which of the three terms of the loss has changed?",
            ),
            Mistake(
                "dead groups", 35, "d",
                "Dead groups shorten the policy gradient of their rows to 0, and not that of "
                "every row to the same fraction, 0.200.",
                "Which number is exactly one fifth, and where does 0.2 stand in the settings?",
            ),
        ),
    ),
    Choice(
        name="case_b", section=_HUNT, minutes=2, curious=True, answer="d",
        reason="`loss_type=\"dr_grpo\"` divides policy loss and KL by rows × "
        "`max_completion_length`, here 256, while reviews have about three tokens. TRL's entropy "
        "bonus is always a mean per token: beside the rest it has become β · 256 over the mean "
        "length. The test: the same batch with another length limit must have the same "
        "proportions.",
        mistakes=(
            Mistake(
                "cispo again", 35, "a",
                "`cispo` cuts the policy gradient to a fifth and leaves the KL alone. Here both "
                "shrink, and by far more.",
                "Which terms shrink together, and which does not?",
            ),
            Mistake(
                "learning rate", 35, "b",
                "A learning rate would shrink all three.",
                "Which terms shrink together, and which does not?",
            ),
            Mistake(
                "beta", 35, "c",
                "A larger β makes the bonus's gradient longer. That one is as before; it is the "
                "others that became shorter.",
                "What are the policy loss and the KL divided by, and what the bonus?",
            ),
        ),
    ),
    Choice(
        name="case_c", section=_HUNT, minutes=2, curious=True, answer="a",
        reason="`top_entropy_quantile=0.2` keeps the policy loss of the most uncertain fifth of "
        "the tokens. The KL term is added after that mask: all other tokens feel the pull "
        "towards π_ref and nothing else. The test: with all scores equal, count the tokens that "
        "have a gradient; with η = 0, count again.",
        mistakes=(
            Mistake(
                "truncated answers masked", 35, "b",
                "`mask_truncated_completions` removes whole answers, from both losses. Here the "
                "KL still reaches every token.",
                "Which of the two terms of the loss does the mask touch?",
            ),
            Mistake(
                "clip", 35, "c",
                "On a fresh rollout every ratio is 1, so no clip stops anything.",
                "What do the tokens that are left have in common?",
            ),
            Mistake(
                "dead groups", 35, "d",
                "A dead group loses the policy gradient of whole answers. One fifth, whatever the "
                "scores are, is no accident.",
                "What do the tokens that are left have in common?",
            ),
        ),
    ),
    Choice(
        name="case_d", section=_HUNT, minutes=2, curious=True, answer="c",
        reason="`mask_truncated_completions=True` takes the tokens of an answer that was cut off "
        "out of the loss, but its score, −5, stays in the mean and the deviation of the group. "
        "So even a wrong answer lies above the mean. The test: change the score of a masked "
        "answer; the advantages of the others must not change.",
        mistakes=(
            Mistake(
                "batch deviation", 35, "a",
                "Another deviation rescales all advantages of a group alike. It cannot turn the "
                "sign of one of them.",
                "Against which mean is the wrong answer above 0?",
            ),
            Mistake(
                "leave-one-out", 35, "b",
                "Leave-one-out multiplies all advantages of a group by G/(G − 1). Signs stay.",
                "Against which mean is the wrong answer above 0?",
            ),
            Mistake(
                "reward clip", 35, "d",
                "A clip of the scores at −1 would keep the order and, here, nearly the mean of "
                "the three; the score of −5 would count less, not more.",
                "Who else is in the group?",
            ),
        ),
    ),
    Choice(
        name="case_e", section=_HUNT, minutes=2, curious=True, answer="b",
        reason="`normalize_advantages=True` divides by the spread of the whole batch. Where the "
        "scores tie, the KL is all the spread there is, and η cancels: a leash of 0.01 and one "
        "of 10 pull alike. The test: multiply η by 1,000; the update of a batch with equal "
        "scores must follow.",
        mistakes=(
            Mistake(
                "eta 0", 35, "a",
                "Without η the advantages would be 0: the scores are equal.",
                "Which number do the two advantages no longer depend on?",
            ),
            Mistake(
                "KL in the loss", 35, "c",
                "With the KL in the loss the advantages of equal scores are 0, whatever η is.",
                "What is the only thing in which the four answers differ?",
            ),
            Mistake(
                "group size", 35, "d",
                "A larger group changes RLOO's advantages a little, but leaves them proportional "
                "to η.",
                "Which number do the two advantages no longer depend on?",
            ),
        ),
    ),
)  # fmt: skip

EXERCISES = (_RLOO, _GRPO, _PULL, _AGGREGATE, _ZERO, *_CASES)
