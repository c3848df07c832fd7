"""Notebook 00: what PPO makes of a policy that only the reward model pays, as one picture."""

from typing import Any, NamedTuple

from rlhf_lab import theme
from rlhf_lab.plots import number
from rlhf_lab.translation import tr


class Moment(NamedTuple):
    """A batch of 128 reviews in short."""

    says: str
    """The most frequent review."""
    score: float
    """The mean of the reward model."""


SEED, ITERATIONS = 3, 30
BEFORE = Moment("great .", -0.054)
AFTER = Moment("great great great great great", 1.666)
"""The first and the last batch of that run; a test trains it again."""


class FirstMinute:
    """Both moments, one above the other, as a cell's output."""

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        shown = theme.picture(draw(), alt(), 850, narrow=draw(narrow=True))
        return {"text/html": shown, "text/plain": alt()}


def alt() -> str:
    """The picture in words."""
    return tr(
        "Before training the policy says most often “{before}”; the reward model gives its reviews "
        "{score} on average. After {n} rounds of PPO it says “{after}”, and the reward model gives "
        "{then}.",
        before=BEFORE.says, score=number(BEFORE.score, 1), n=ITERATIONS, after=AFTER.says,
        then=number(AFTER.score, 1, sign=True),
    )  # fmt: skip


def draw(narrow: bool = False) -> str:
    """The picture as an SVG, 850 px wide or 340."""
    width, size = (340, 34) if narrow else (850, 56)
    shapes, y = "", 26.0
    for when, moment in (
        (tr("before training it says most often"), BEFORE),
        (tr("after {n} rounds of PPO", n=ITERATIONS), AFTER),
    ):
        shapes += f'<text x="16" y="{y}" font-size="15" class="soft">{when}</text>'
        lines = theme.wrapped(f"“{moment.says}”", 18 if narrow else 40)
        for line in lines:
            y += 1.15 * size
            shapes += f'<text x="16" y="{y:g}" class="voice" font-size="{size}">{line}</text>'
        means = tr("mean score of its 128 reviews")
        shapes += f'<text x="16" y="{y + 30:g}" font-size="15" class="soft">{means}</text>'
        shapes += _judge(moment, y + 72)
        y += 142
    height = y - 34
    style = (
        theme.variables()
        + f"text{{font-family:{theme.ui()};fill:var(--ink)}}.voice{{font-family:{theme.voice()}}}"
        + ".soft{fill:var(--soft)}.number{font-weight:650}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" '
        f'width="{width}" height="{height:g}" role="img"{theme.lang()}><title>{alt()}</title>'
        f"<style>{style}</style>"
        f'<rect width="{width}" height="{height:g}" rx="14" fill="var(--sunk)"/>{shapes}</svg>\n'
    )


def _judge(moment: Moment, y: float) -> str:
    """The mean score beside the reward model's gauge."""
    return (
        f'<g transform="translate(36 {y - 8}) scale(20)">{theme.gauge(moment.score)}</g>'
        f'<text x="68" y="{y}" font-size="27" class="number" style="fill:var(--score)">'
        f"{number(moment.score, 1, sign=True)}</text>"
        f'<text x="148" y="{y - 2}" font-size="15" class="soft">{tr("reward model")}</text>'
    )
