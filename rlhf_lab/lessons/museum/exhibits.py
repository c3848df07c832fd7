"""The exhibits by letter: the step that each one replaces, and the settings to run it with."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from rlhf_lab.lessons.museum import variants
from rlhf_lab.lessons.museum.steps import CLEAN, Steps
from rlhf_lab.lessons.museum.trainer import Settings
from rlhf_lab.translation import tr

PLAIN = Settings()
IN_LOSS = Settings(eta=0.0, loss_eta=1.0)
"""The KL penalty is in the loss; its weight 1 is in units of whitened advantages."""
WITH_BONUS = Settings(beta=0.5)
ADAPTIVE = Settings(kl_target=1.5)


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A trainer that is wrong in one line."""

    letter: str
    step: str
    """The field of `Steps` that is replaced."""
    variant: Callable[..., Any]
    name: str
    """The name on the placard."""
    row: int
    """Its number in docs/mistakes.md."""
    settings: Settings = PLAIN

    @property
    def title(self) -> str:
        """The name, in the reader's language."""
        return tr(self.name)

    @property
    def steps(self) -> Steps:
        """The trainer itself."""
        return dataclasses.replace(CLEAN, **{self.step: self.variant})

    @property
    def lines(self) -> tuple[str, str]:
        """The line of the clean trainer, and the wrong line in its place."""
        ((right, wrong),) = changed_lines(getattr(CLEAN, self.step), self.variant)
        return right, wrong


EXHIBITS = {
    exhibit.letter: exhibit
    for exhibit in (
        Exhibit("A", "next_reference", variants.moving_reference, "the reference moves along", 22),
        Exhibit("B", "penalty", variants.sign_turned, "the penalty's sign is turned", 2),
        Exhibit("C", "surrogate", variants.ratio_to_reference, "the ratio is taken to π_ref", 22),
        Exhibit("D", "shaped_rewards", variants.score_on_every_token, "score on every token", 11),
        Exhibit("E", "sample", variants.warm_sampling,
                "sampled at temperature 1.5, scored at 1", 4),
        Exhibit("F", "advantages_and_returns", variants.whitened_targets,
                "returns of whitened advantages", 24),
        Exhibit("G", "penalty", variants.one_for_all, "one KL for the whole batch", 13),
        Exhibit("H", "next_eta", variants.steered_the_wrong_way, "η steered the wrong way", 25,
                ADAPTIVE),
        Exhibit("I", "token_logprobs", variants.one_place_off, "log-probs one place off", 6),
        Exhibit("J", "bonus", variants.order_rewarded, "entropy bonus with the wrong sign", 19,
                WITH_BONUS),
        Exhibit("K", "which_tokens", variants.padding_counts, "padding counts", 8),
        Exhibit("L", "loss_penalty", variants.k1_in_loss, "k1 in the loss", 16, IN_LOSS),
        Exhibit("M", "advantages_and_returns", variants.discounted, "γ = 0.7", 28),
        Exhibit("N", "next_eta", variants.nats_per_token, "η steered by nats per token", 25,
                ADAPTIVE),
        Exhibit("O", "forward", variants.dropout_left_on, "dropout left on", 5),
        Exhibit("P", "penalty", variants.never_negative, "k3 in the reward", 17),
        Exhibit("Q", "surrogate", variants.better_instead_of_worse,
                "clipped on the wrong side", 22),
        Exhibit("R", "total_loss", variants.logged_not_added, "entropy logged, never added", 21,
                WITH_BONUS),
        Exhibit("S", "shaped_rewards", variants.score_in_last_column,
                "score in the last column", 9),
        Exhibit("T", "advantages_and_returns", variants.whitened_rewards, "rewards whitened", 28),
        Exhibit("U", "loss_penalty", variants.constant_in_loss, "penalty without gradient", 14,
                IN_LOSS),
        Exhibit("V", "advantages_and_returns", variants.whitened_with_padding,
                "whitened with the padding", 24),
        Exhibit("W", "bonus", variants.surprise_rewarded, "bonus of the sampled token only", 20,
                WITH_BONUS),
        Exhibit("X", "total_loss", variants.penalised_twice, "penalty in reward and loss", 18),
    )
}  # fmt: skip


def changed_lines(right: Callable[..., Any], wrong: Callable[..., Any]) -> list[tuple[str, str]]:
    """The statements in which two functions differ, pairwise; docstrings do not count.

    Raises:
        ValueError: they do not have the same number of statements.
    """
    pairs = list(zip(_statements(right), _statements(wrong), strict=True))
    return [pair for pair in pairs if pair[0] != pair[1]]


def source(function: Callable[..., Any]) -> str:
    """The source of a function, as it stands in its module."""
    return textwrap.dedent(inspect.getsource(function))


def _statements(function: Callable[..., Any]) -> list[str]:
    """Every simple statement and loop head of a function, in order."""
    definition = ast.parse(source(function)).body[0]
    lines = ast.unparse(definition).splitlines()[1:]
    if ast.get_docstring(definition) is not None:  # type: ignore[arg-type]
        start = ast.unparse(definition.body[0]).count("\n") + 1  # type: ignore[attr-defined]
        lines = lines[start:]
    return [line.strip() for line in lines]
