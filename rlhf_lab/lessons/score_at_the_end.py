"""Notebook 01: the value of each prefix, and the part of the final score that each token gets."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from rlhf_lab import plots
from rlhf_lab.exact import Tables
from rlhf_lab.gpt2 import GPT2
from rlhf_lab.language import WORDS, encode
from rlhf_lab.masking import response_mask, terminal_reward
from rlhf_lab.ppo import gae
from rlhf_lab.translation import tr
from rlhf_lab.world import World


class Worth(NamedTuple):
    """What `prefix_values` returns: T tables each."""

    q: list[Tensor]
    """Q(s, a): the expected score once token a has followed prefix s, ((V−1)^t, V)."""
    values: list[Tensor]
    """V(s): the expected score at prefix s, ((V−1)^t,)."""


def prefix_values(policy: Tables, scores: Tables, discount: float = 1.0) -> Worth:
    """The exact expected score at every prefix, from the last depth to the first.

    Q(s, a) = score if a ends the response, else discount · V(sa);  V(s) = Σ_a π(a|s)·Q(s, a)

    Args:
        policy: T tables of log π(token | prefix), as `World.tables(prompt).tree`.
        scores: of each response, as `exact.unflatten` lays them out.
        discount: what is kept per token: 1 for V itself; γ, or λ with a critic that says 0.
    """
    q, values, follows = list[Tensor](), list[Tensor](), scores[-1]
    for t in reversed(range(len(policy))):
        q.insert(0, follows)
        values.insert(0, (policy[t].exp() * follows).sum(dim=1))
        if t:
            children = values[0].view(-1, policy[0].shape[1] - 1)
            follows = torch.cat([scores[t - 1], discount * children], dim=1)
    return Worth(q, values)


def along(tables: Tables, responses: Tensor) -> Tensor:
    """The entries of the tables along each response, (B, T); 0 behind its end.

    Args:
        tables: T tables with one number per prefix, ((V−1)^t,), or one per prefix and token,
            ((V−1)^t, V); then the response's own token is looked up.
        responses: (B, T), padded behind `<eos>` = 0.
    """
    words = len(tables[1])  # V − 1
    prefix, found = torch.zeros(len(responses), dtype=torch.long), []
    for table, token in zip(tables, responses.unbind(dim=1), strict=True):
        found.append(table[prefix] if table.dim() == 1 else table[prefix, token])
        prefix = prefix * words + (token - 1).clamp(min=0)
    return torch.stack(found, dim=1).masked_fill(~response_mask(responses, 0), 0.0)


def prefix_means(responses: Tensor, scores: Tensor, prefixes: Sequence[str]) -> Tensor:
    """Monte Carlo: the mean score of those responses that begin with each prefix; NaN if none does.

    Args:
        responses: (B, T).
        scores: (B,).
        prefixes: texts, "" for all responses.
    """
    means = []
    for prefix in map(encode, prefixes):
        begins = (responses[:, : len(prefix)] == torch.tensor(prefix, dtype=torch.long)).all(dim=1)
        means.append(scores[begins].double().mean() if begins.any() else torch.tensor(torch.nan))
    return torch.stack(means).double()


def prefix_worth(values: Tables, prefixes: Sequence[str]) -> Tensor:
    """The exact V of each prefix, (n,); texts as in `prefix_means`."""
    found = []
    for prefix in map(encode, prefixes):
        index = 0
        for token in prefix:
            index = index * len(values[1]) + token - 1
        found.append(values[len(prefix)][index])
    return torch.stack(found)


_VALUES = LinearSegmentedColormap.from_list("values", ("#e6b455", "#f6f2dc", "#6fb3dd"))
"""From below 0 to above; none of them is grey, so they stay as they are where the page is dark."""


def value_tree(ax: Axes, prefixes: Sequence[str], columns: dict[str, Tensor]) -> None:
    """Prefixes as a tree of rows with coloured cells for values; an empty one was never visited.

    Args:
        ax: where to draw.
        prefixes: texts, each parent before its children; "" is the root.
        columns: {name of the column: one value per prefix}.
    """
    values = torch.stack(list(columns.values()), dim=1)
    ax.pcolormesh(values.numpy(), cmap=_VALUES, vmin=-1.6, vmax=1.6, edgecolors="white", lw=2)
    for (row, column), value in zip(
        torch.cartesian_prod(*map(torch.arange, values.shape)).tolist(),
        values.flatten().tolist(),
        strict=True,
    ):
        text = "" if value != value else plots.number(value, 1, sign=True)
        ax.text(
            column + 0.5,
            row + 0.5,
            text,
            ha="center",
            va="center",
            color=plots.ON_COLOUR,
            fontsize=9,
        )
    labels = ["food: …", *(f"{'   ' * len(p.split())}└ {p.split()[-1]} …" for p in prefixes[1:])]
    ax.set_yticks([i + 0.5 for i in range(len(prefixes))], labels, ha="left")
    ax.tick_params(axis="y", pad=88, length=0)
    ax.set_xticks([i + 0.5 for i in range(len(columns))], list(map(tr, columns)))
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)
    ax.set_title("mean score after a prefix, by rollouts")
    ax.invert_yaxis()


def spread(
    ax: Axes, sizes: Sequence[int], means: Sequence[Tensor], exact: float, std: float
) -> None:
    """Estimates of one number from samples of several sizes, with the number itself ± std / √n.

    Args:
        ax: where to draw.
        sizes: n, responses per estimate.
        means: the estimates for each n, (repeats,).
        exact: the number that they estimate.
        std: standard deviation of one response's score.
    """
    for n, estimates in zip(sizes, means, strict=True):
        jitter = torch.linspace(0.85, 1.18, len(estimates)) * n
        label = "" if n > sizes[0] else tr("estimates")
        ax.plot(jitter.numpy(), estimates.numpy(), ".", color=plots.SKY, label=label)
    grid = torch.logspace(-0.1, 3.1, 60).numpy()
    for sign in (-1, 1):
        label = tr("exact ± std / √n") if sign == 1 else ""
        ax.plot(grid, exact + sign * std / grid**0.5, "--", color=plots.BLUE, lw=1.2, label=label)
    ax.axhline(exact, color=plots.BLACK, label="exact")
    ax.set(xscale="log", xlabel="rollouts n", ylabel="V(“food”), units of score")
    plots.powers(ax.xaxis)
    ax.set_title(tr("{count} estimates of V(food) for each n", count=len(means[0])))
    ax.legend(frameon=False, fontsize=9, loc="lower right")


def critic_values(critic: str, values: Tensor, mean: float, mask: Tensor) -> Tensor:
    """The values of the critic "zero", "constant" or "exact" at each token, (B, T).

    Args:
        critic: its name; "constant" predicts the mean score everywhere.
        values: the exact V(s_t), (B, T).
        mean: the mean score of π_SFT.
        mask: (B, T).
    """
    known = {"zero": 0.0 * values, "constant": torch.full_like(values, mean), "exact": values}
    if critic not in known:
        raise ValueError(f"critic must be one of {list(known)}, got {critic!r}")
    return known[critic].masked_fill(~mask, 0.0)


def credit(
    world: World, prompt: str, worth: Worth, review: str, critic: str, gamma: float, lam: float
) -> tuple[list[str], Tensor, Tensor]:
    """The words of a review, the advantage GAE gives each, and the exact Q − V; units of score.

    Args:
        world: gives the reward model.
        prompt: the prompt of the review.
        worth: the exact values under π_SFT.
        review: its words; a full stop is `<eos>`.
        critic, gamma, lam: as in `critic_values` and `gae`.
    """
    tokens = encode(review.replace(".", WORDS[0]))
    response = torch.tensor([tokens + [0] * (world.response_length - len(tokens))])
    mask = response_mask(response, world.eos_id)
    score = world.score(world.prompt(prompt).expand(1, 1), response).double()
    exact_v = along(worth.values, response)
    values = critic_values(critic, exact_v, worth.values[0].item(), mask)
    given = gae(terminal_reward(score, mask), values, mask, gamma=gamma, lam=lam).advantages
    return review.split(), given[mask], (along(worth.q, response) - exact_v)[mask]


def credit_knob(world: World, prompt: str, worth: Worth) -> Callable[..., tuple[Figure, str]]:
    """The drawing function of the credit knobs; arguments as in `credit`."""

    def draw(review: str, critic: str, gamma: float, lam: float) -> tuple[Figure, str]:
        words, given, due = credit(world, prompt, worth, review, critic, gamma, lam)
        margins = {"left": 0.1, "right": 0.98, "bottom": 0.12, "top": 0.95}
        figure, (ax,) = plots.new_figure(7, 3, margins=margins)
        draw_credit(ax, words, given, due)
        pairs = zip(words, given.tolist(), due.tolist(), strict=True)
        told = [
            f"{word} {plots.number(a, sign=True)} ({plots.number(b, sign=True)})"
            for word, a, b in pairs
        ]
        return figure, tr(
            "Advantage given to each token (and deserved): {each}.", each=", ".join(told)
        )

    return draw


def draw_credit(ax: Axes, words: Sequence[str], given: Tensor, due: Tensor) -> None:
    """Bars for the given advantages, marks for the exact Q − V; both per token, units of score."""
    x = range(len(words))
    ax.bar(x, given.tolist(), color=plots.SKY, width=0.6, label="advantage given")
    ax.plot(x, due.tolist(), "D", color=plots.BLACK, label="exact Q − V", ms=7)
    ax.axhline(0, color="0.6", lw=0.8)
    ax.set_xticks(list(x), words, fontsize=11)
    ax.set(ylabel="units of score", ylim=(-2.2, 2.6))
    ax.legend(frameon=False, loc="upper left", fontsize=9)


def length_runs(ax: Axes, runs: dict[str, list[float]]) -> None:
    """Mean length of reviews by iteration, one line a run; more than four are thin, as the last."""
    colours = (plots.BLACK, plots.SKY, plots.ORANGE, plots.PINK)
    for index, (name, lengths) in enumerate(runs.items()):
        look = min(index, 3)
        ax.plot(
            range(1, len(lengths) + 1), lengths, label=name if index == look else None,
            color=colours[look], marker="ov^s"[look], linestyle=("-", "-.", "--", ":")[look],
            linewidth=1.8 if index == look else 1, markersize=6 if index == look else 3,
        )  # fmt: skip
    ax.set(xlabel="iteration", ylabel="mean length, tokens", ylim=(0.8, 5.1))
    ax.set_title("every review gets the same score")
    ax.legend(frameon=False, fontsize=9, loc="lower left", ncols=2)


class ConstantScore:
    """A task in which every response gets the same score, so there is nothing to learn.

    Args:
        world: gives language, prompts and π_SFT.
        constant: the score of every response.
    """

    def __init__(self, world: World, constant: float) -> None:
        self.world, self.constant = world, constant
        self.eos_id: int | None = world.eos_id
        self.response_length = world.response_length

    @property
    def sft(self) -> GPT2:
        return self.world.sft

    @property
    def prompts(self) -> Tensor:
        return self.world.prompts

    def score(self, prompts: Tensor, responses: Tensor) -> Tensor:
        """The constant for every response: (B, P), (B, T) -> (B,)."""
        weight = self.world.reward_head.summary.weight
        return weight.new_full((len(responses),), self.constant)

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        return type(self)(self.world.to(device, dtype), self.constant)
