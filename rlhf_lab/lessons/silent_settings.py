"""Notebook 11: five settings of TRL 1.16.0, each of which changes the leash without a word.

The numbers are those of this package's functions, which agree with TRL's trainers; so nothing of
TRL is needed to see them.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import plots
from rlhf_lab.aggregation import Denominator
from rlhf_lab.entropies import high_entropy_mask
from rlhf_lab.group_loss import cispo_loss, group_policy_loss, kl_in_loss
from rlhf_lab.groups import group_advantages, leave_one_out
from rlhf_lab.lessons.leash_today import Drawn
from rlhf_lab.translation import tr

ETA, BETA = 0.1, 0.01
"""Of the KL term and of the entropy bonus in cases A to C."""


class Pair(NamedTuple):
    """One number on a dashboard."""

    before: float
    after: float


Case = Mapping[str, Pair]
"""What is watched, by name, before and after somebody changed one setting."""


def watch(case: str, batch: Drawn) -> Case:
    """The dashboard of one case.

    Args:
        case: "A" to "E".
        batch: from `leash_today.drawn`; cases D and E have a group of four of their own.

    Raises:
        ValueError: there is no such case.
    """
    if case not in _CASES:
        raise ValueError(f"there is no case {case!r}; there are {', '.join(_CASES)}")
    return _CASES[case](batch)


def _length(loss: Callable[[Tensor], Tensor], at: Tensor) -> float:
    """The length of a loss's gradient by the log-probabilities of a batch."""
    leaf = at.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    return gradient.norm().item()


def _policy(batch: Drawn, how: Denominator = "tokens", limit: int | None = None) -> float:
    advantages = group_advantages(batch.scores, 8, scale="group")
    return _length(
        lambda x: group_policy_loss(
            x, None, advantages, batch.mask, how=how, total=_tokens(batch), length=limit
        ),
        batch.logprobs,
    )


def _leash(batch: Drawn, how: Denominator = "tokens", limit: int | None = None) -> float:
    return _length(
        lambda x: ETA * kl_in_loss(
            x, batch.ref_logprobs, batch.mask, estimator="k3_ratio", how=how,
            total=_tokens(batch), length=limit,
        ),
        batch.logprobs,
    )  # fmt: skip


def _bonus(batch: Drawn) -> float:
    """TRL's entropy bonus is a mean over tokens, whatever divides the rest."""
    return _length(lambda h: -BETA * h[batch.mask].mean(), batch.entropies)


def _tokens(batch: Drawn) -> float:
    return float(batch.mask.sum())


def _gradients(policy: Pair, leash: Pair, batch: Drawn) -> Case:
    """What pulls at the policy, by name; the bonus is the same in every case."""
    return {
        tr("gradient of the policy loss"): policy,
        tr("gradient of η · KL"): leash,
        tr("gradient of β · H"): Pair(_bonus(batch), _bonus(batch)),
    }


def _a(batch: Drawn) -> Case:
    advantages = group_advantages(batch.scores, 8, scale="group")
    cut = _length(
        lambda x: cispo_loss(
            x, None, advantages, batch.mask, clip_high=0.2, how="tokens", total=_tokens(batch)
        ),
        batch.logprobs,
    )
    return _gradients(Pair(_policy(batch), cut), Pair(_leash(batch), _leash(batch)), batch)


def _b(batch: Drawn) -> Case:
    policy = Pair(_policy(batch), _policy(batch, "constant", 256))
    return _gradients(policy, Pair(_leash(batch), _leash(batch, "constant", 256)), batch)


def _c(batch: Drawn) -> Case:
    # In so small a language many tokens share their entropy, and ties are all kept: draw others.
    generator = torch.Generator().manual_seed(0)
    entropies = torch.rand(batch.mask.shape, generator=generator, dtype=torch.float64)
    kept = high_entropy_mask(entropies, batch.mask, share=0.2)
    share = kept.sum().item() / _tokens(batch)
    return {
        tr("share of tokens that the score reaches"): Pair(1.0, share),
        tr("share of tokens that the KL reaches"): Pair(1.0, 1.0),
    }


def _d(batch: Drawn) -> Case:
    """The first of four answers was cut off: its tokens are masked, and its score is not."""
    hoped = group_advantages(torch.tensor([torch.nan, 1.0, 1.0, 0.0]), 4, scale="group")
    seen = group_advantages(torch.tensor([-5.0, 1.0, 1.0, 0.0]), 4, scale="group")
    names = tr("A of a right answer"), tr("A of the other"), tr("A of the wrong")
    pairs = zip(names, hoped.tolist()[1:], seen.tolist()[1:], strict=True)
    return {name: Pair(a, b) for name, a, b in pairs}


def _e(batch: Drawn) -> Case:
    """Four answers with the same score, and a KL of −1, 0, 1 and 2 nats."""
    kl, watched = torch.tensor([-1.0, 0.0, 1.0, 2.0]).double(), {}
    for eta in (0.01, 10.0):
        plain = leave_one_out(1.0 - eta * kl, 4)
        normalised = group_advantages(plain, 4, scale="batch")
        name = tr("largest advantage at η = {eta:g}", eta=eta)
        watched[name] = Pair(plain.max().item(), normalised.max().item())
    return watched


_CASES: dict[str, Callable[[Drawn], Case]] = {"A": _a, "B": _b, "C": _c, "D": _d, "E": _e}


def in_words(case: Case) -> str:
    """One line for each number: before → after."""
    width = max(map(len, case))
    return "\n".join(
        f"{name:{width}}  {_short(x.before):>8} → {_short(x.after):>8}" for name, x in case.items()
    )


def _short(x: float) -> str:
    return f"{x:.3g}".replace("-", "−")


def dashboard(batch: Drawn) -> Callable[[str], tuple[Figure, str]]:
    """The function that draws a case as bars, before and after; for `Knobs`."""

    def draw(case: str) -> tuple[Figure, str]:
        watched = watch(case, batch)
        figure, axes = plots.new_figure(9, 2.4, columns=len(watched))
        for ax, (name, (before, after)) in zip(axes, watched.items(), strict=True):
            bars = ax.bar([tr("before"), tr("after")], [before, after], width=0.6,
                          color=[plots.SKY, plots.ORANGE])  # fmt: skip
            bars[1].set_hatch("//")
            for bar, x in zip(bars, (before, after), strict=True):
                ax.text(bar.get_x() + 0.3, max(x, 0), _short(x), ha="center", va="bottom")
            ax.set_title(name, fontsize=10)
            ax.axhline(0, color="0.6", linewidth=0.8)
            ax.margins(y=0.2)
        each = [f"{name}: {_short(x.before)} → {_short(x.after)}" for name, x in watched.items()]
        return figure, tr("Case {case}. {each}", case=case, each="; ".join(each))

    return draw
