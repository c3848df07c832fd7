"""Notebook 02: a reward model of 196 numbers, and where any reward model is right."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import exact, plots
from rlhf_lab.language import RESPONSE_LENGTH, WORDS, encode
from rlhf_lab.masking import masked_sum, response_mask
from rlhf_lab.pretrain import standardise
from rlhf_lab.progress import doing
from rlhf_lab.translation import tr
from rlhf_lab.world import World, WorldTables

V = len(WORDS)
COMMON = 9.0
"""Nats: a response is *common* if −log π_SFT(y) is below this, and *rare* otherwise."""


class Pairs(NamedTuple):
    """Pairs of reviews to compare, and the gold score of each review."""

    a: Tensor
    """First review of each pair, (n, T)."""
    b: Tensor
    """Second review of each pair, (n, T)."""
    gold_a: Tensor
    """Gold scores of `a`, (n,)."""
    gold_b: Tensor
    """Gold scores of `b`, (n,)."""


def draw_pairs(world: World, prompt: str, n: int, generator: torch.Generator) -> Pairs:
    """`n` pairs of reviews that π_SFT wrote."""
    a, b = (world.sample(prompt, n, generator).responses for _ in range(2))
    prompts = world.prompt(prompt).expand(n, 1)
    return Pairs(a, b, world.gold(prompts, a), world.gold(prompts, b))


def sort_pairs(pairs: Pairs, prefers_a: Tensor) -> tuple[Tensor, Tensor]:
    """The chosen and the rejected reviews, (n, T) each; `prefers_a` is (n,), bool."""
    first = prefers_a.unsqueeze(1)
    return torch.where(first, pairs.a, pairs.b), torch.where(first, pairs.b, pairs.a)


def neighbours(responses: Tensor) -> Tensor:
    """A number for each pair of neighbours, V·(word before) + word, (n, T); `<eos>` comes first."""
    before = torch.nn.functional.pad(responses[:, :-1], (1, 0))
    return V * before + responses


def word_pair_scores(weights: Tensor, responses: Tensor) -> Tensor:
    """A review's score: the sum of one number for each pair of neighbouring words, (n,).

    Args:
        weights: (V, V), word before × word.
        responses: (n, T), padded behind `<eos>`.
    """
    return masked_sum(weights.flatten()[neighbours(responses)], response_mask(responses, 0), dim=1)


def fit_word_pairs(
    chosen: Tensor, rejected: Tensor, *, ridge: float = 1e-3, steps: int = 7
) -> Tensor:
    """The weights that minimise the Bradley–Terry loss + ½·ridge·‖w‖², (V, V), by Newton's method.

    Args:
        chosen, rejected: the preferred and the other reviews, (n, T).
        ridge: keeps the weight of a pair that was never seen at 0.
        steps: of Newton's method; the problem is convex.
    """
    counts = [
        torch.zeros(len(r), V * V, dtype=torch.float64).scatter_add_(
            1, neighbours(r), response_mask(r, 0).double()
        )
        for r in (chosen, rejected)
    ]
    x, w = counts[0] - counts[1], torch.zeros(V * V, dtype=torch.float64)
    for _ in range(steps):
        wrong = torch.sigmoid(-(x @ w))  # the probability given to the reader's other choice
        gradient = ridge * w - x.T @ wrong / len(x)
        curvature = (x.T * (wrong * (1 - wrong))) @ x / len(x) + ridge * torch.eye(V * V)
        w = w - torch.linalg.solve(curvature, gradient)
    return w.view(V, V)


def strongest(weights: Tensor, k: int) -> str:
    """The `k` largest and the `k` smallest weights with their words; "·" is a review's start."""
    names = ["·", *WORDS[1:]], [".", *WORDS[1:]]
    order = weights.flatten().argsort(descending=True).tolist()
    lines = []
    for title, chosen in {"best": order[:k], "worst": order[: -k - 1 : -1]}.items():
        pairs = [
            f"{names[0][i // V]} {names[1][i % V]} {weights.flatten()[i]:+.1f}" for i in chosen
        ]
        lines.append(f"{title:6}" + " | ".join(pairs))
    return "\n".join(lines)


class Bins(NamedTuple):
    """Responses sorted by how rarely π_SFT says them."""

    nats: Tensor
    """Middle of each bin, −log π_SFT(y), (K,)."""
    bin_of: Tensor
    """Each response's bin, (N,)."""

    def total(self, x: Tensor) -> Tensor:
        """The sum of `x`, (N,), in each bin: (K,)."""
        return x.new_zeros(len(self.nats)).index_add(0, self.bin_of, x)

    def quantiles(self, x: Tensor, q: float) -> Tensor:
        """A quantile of `x`, (N,), in each bin: (K,)."""
        return torch.stack([x[self.bin_of == k].quantile(q) for k in range(len(self.nats))])


def rarity(ref_logprobs: Tensor, width: float = 3.0) -> Bins:
    """Bins of `width` nats of −log π_SFT(y); empty ones are left out."""
    bins, index = (-ref_logprobs / width).floor().unique(return_inverse=True)
    return Bins((bins + 0.5) * width, index)


def draw_errors(ax: Axes, bins: Bins, errors: Tensor) -> None:
    """Median and 10 to 90 % band of |error| by rarity; over all responses."""
    nats = bins.nats.numpy()
    low, middle, high = (bins.quantiles(errors.abs(), q).numpy() for q in (0.1, 0.5, 0.9))
    ax.fill_between(nats, low, high, color=plots.SKY, alpha=0.4, label="10 to 90 %")
    ax.plot(nats, middle, "o-", color=plots.BLUE, label="median")
    ax.set(xlabel="−log π_SFT(y), nats: rarer →", ylabel="|score − gold|, std of π_SFT")
    ax.set(ylim=(0, 3.2), title="how wrong the reward model is")
    ax.legend(frameon=False, fontsize=9, loc="lower right")


def draw_shares(ax: Axes, bins: Bins, p: Tensor) -> None:
    """The share of π_SFT's probability and the share of all responses, by rarity."""
    nats, said = bins.nats.numpy(), bins.total(p).numpy()
    exist = (bins.total(torch.ones_like(p)) / len(p)).numpy()
    ax.bar(nats - 0.6, said, 1.2, color=plots.BLACK, label="of what π_SFT says")
    ax.bar(
        nats + 0.6, exist, 1.2, color=plots.PINK, hatch="///", edgecolor="white",
        label="of all responses",
    )  # fmt: skip
    ax.set(xlabel="−log π_SFT(y), nats: rarer →", ylabel="share")
    ax.set_title("where π_SFT speaks, and where responses are")
    ax.legend(frameon=False, fontsize=9)


def judged(tables: WorldTables, review: str) -> str:
    """What the reward model, the careful reader and π_SFT make of one review, in words.

    Args:
        tables: the exact tables of the prompt.
        review: up to five words; a full stop ends a shorter one.

    Raises:
        ValueError: it is longer than a review, or goes on behind a full stop.
    """
    words = review.replace(".", f" {WORDS[0]} ").split()
    if len(words) > RESPONSE_LENGTH or WORDS[0] in words[:-1]:
        raise ValueError(
            f"a review has at most {RESPONSE_LENGTH} tokens, and a full stop only at its end, "
            f"got {review!r}"
        )
    tokens = encode(" ".join(words))
    response = torch.tensor(tokens + [0] * (RESPONSE_LENGTH - len(tokens)))
    index = int((_all_responses(RESPONSE_LENGTH) == response).all(dim=1).nonzero().item())
    score, rarity = tables.scores[index].item(), -tables.ref_logprobs[index].item()
    return tr(
        "score {score}, gold {gold}, {rarity:.1f} nats rare; {above} of {all} responses score "
        "higher",
        score=plots.number(score, 2, sign=True),
        gold=plots.number(tables.golds[index].item(), 1, sign=True),
        rarity=rarity, above=f"{int((tables.scores > score).sum()):,}",
        all=f"{len(tables.scores):,}",
    )  # fmt: skip


class Quality(NamedTuple):
    """Medians of |score − gold|, in units of the standard deviation under π_SFT."""

    common: float
    """Over the common responses, all counting alike."""
    rare: float
    """Over the rare ones."""
    by_rarity: Tensor
    """Within each bin of rarity, (K,)."""


class Trials:
    """Fits of the word-pair model to several numbers of comparisons and shares of wrong labels.

    Args:
        tables: the exact tables of the prompt.
        pairs: all comparisons.
        generator: decides which labels are wrong.
    """

    def __init__(self, tables: WorldTables, pairs: Pairs, generator: torch.Generator) -> None:
        self.pairs, self.ref_logprobs = pairs, tables.ref_logprobs
        self.golds = standardise(tables.golds, tables.ref_logprobs)
        self.bins = rarity(tables.ref_logprobs)
        self.responses = _all_responses(pairs.a.shape[1])
        self.uniforms = torch.rand(len(pairs.a), generator=generator, dtype=torch.float64)
        self.scores = functools.cache(self._scores)
        """The scores of all responses by a fit, (N,): `scores(comparisons, wrong_labels)`."""
        self.gpt2 = self.measure(tables.scores)
        """The quality of the world's own reward model."""

    def _scores(self, comparisons: int, wrong_labels: float) -> Tensor:
        doing("a fit to {n} comparisons", n=comparisons)
        prefers_a = (self.pairs.gold_a >= self.pairs.gold_b) ^ (self.uniforms < wrong_labels)
        chosen, rejected = sort_pairs(self.pairs, prefers_a)
        weights = fit_word_pairs(chosen[:comparisons], rejected[:comparisons])
        return word_pair_scores(weights, self.responses)

    def fit(self, comparisons: int, wrong_labels: float) -> Quality:
        """The quality of a fit to so many comparisons, with a share of labels turned round."""
        return self.measure(self.scores(comparisons, wrong_labels))

    def measure(self, scores: Tensor) -> Quality:
        """How far some scores of all responses, (N,), are from gold."""
        errors = (standardise(scores, self.ref_logprobs) - self.golds).abs()
        common = -self.ref_logprobs < COMMON
        return Quality(
            errors[common].median().item(),
            errors[~common].median().item(),
            self.bins.quantiles(errors, 0.5),
        )


@functools.lru_cache(maxsize=1)
def _all_responses(depth: int) -> Tensor:
    return exact.enumerate_responses(V, depth)


def draw_quality(ax: Axes, trials: Trials, quality: Quality) -> None:
    """The median error by rarity, beside that of the world's own reward model."""
    nats, known = trials.bins.nats.numpy(), trials.gpt2.by_rarity.numpy()
    ax.plot(nats, quality.by_rarity.numpy(), "o-", color=plots.BLUE, label="word pairs")
    ax.plot(nats, known, "--", color=plots.BLACK, label="the world's GPT-2")
    ax.set(xlabel="−log π_SFT(y), nats: rarer →", ylabel="median |score − gold|, std")
    ax.set_ylim(0, 3.2)
    ax.legend(frameon=False, fontsize=9, loc="upper left")


def quality_knob(trials: Trials) -> Callable[..., tuple[Figure, str]]:
    """The drawing function of the knobs; it takes the comparisons and the share of wrong labels."""

    def draw(comparisons: int, wrong_labels: float) -> tuple[Figure, str]:
        quality = trials.fit(comparisons, wrong_labels)
        margins = {"left": 0.1, "right": 0.98, "bottom": 0.18, "top": 0.95}
        figure, (ax,) = plots.new_figure(7, 3.2, margins=margins)
        draw_quality(ax, trials, quality)
        return figure, tr(
            "{comparisons} comparisons, {wrong:.0%} labels wrong: median error {common:.2f} for "
            "common reviews, {rare:.2f} for rare ones. The world's GPT-2: {gpt2:.2f} and "
            "{gpt2_rare:.2f}.",
            comparisons=comparisons, wrong=wrong_labels, common=quality.common, rare=quality.rare,
            gpt2=trials.gpt2.common, gpt2_rare=trials.gpt2.rare,
        )  # fmt: skip

    return draw


def pairwise_accuracy(scores: Sequence[Tensor], golds: Sequence[Tensor]) -> float:
    """How often the higher gold score has the higher score, over pairs of different gold.

    Args:
        scores: of the first and of the second response of each pair, (n,) twice.
        golds: their gold scores, (n,) twice.
    """
    differ = golds[0] != golds[1]
    agree = (scores[0] > scores[1]) == (golds[0] > golds[1])
    return agree[differ].double().mean().item()
