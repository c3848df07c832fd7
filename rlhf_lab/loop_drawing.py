"""The course's one drawing: π writes, a judge scores, tokens are paid, π moves; a rope holds π.

`python -m rlhf_lab.loop_drawing FOLDER` writes the two files that README and the site show.
"""

import html
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rlhf_lab import theme
from rlhf_lab.translation import tr

PARTS = ("rope", "writes", "judge", "paid", "moves", "readers")
SAYS, SCORE, GOLD = "very great .", 1.8, 2.8
"""A review of π_SFT and what both judges think of it; a test compares them with the tables."""
ALT = (
    "The loop: π writes reviews, the reward model scores them, tokens are paid, π moves. A rope, "
    "the leash, ties π to π_SFT. Careful readers stand beside it, and nobody asks them."
)
FILES = {"loop.svg": False, "loop-narrow.svg": True}
"""By name, whether it is the one for a narrow window."""


class Loop:
    """The drawing as a cell's output; make it the last expression of a cell.

    Args:
        about: what this notebook is about, in a few words, below the drawing.
        lit: some of PARTS, in colour; the others are pale. None for all.

    Raises:
        ValueError: a part has another name.
    """

    def __init__(self, about: str, *lit: str) -> None:
        if not set(lit) <= set(PARTS):
            raise ValueError(f"parts must be some of {PARTS}, got {lit}")
        self.about, self.lit = about, lit or PARTS

    @property
    def alt(self) -> str:
        """The drawing in words."""
        everything = set(self.lit) == set(PARTS)
        names = tr("everything") if everything else ", ".join(map(tr, self.lit))
        about = tr("In colour here: {names}. {about}.", names=names, about=self.about)
        return f"{tr(ALT)} {about}"

    def svg(self, narrow: bool = False) -> str:
        """The drawing: 850 px wide, or 340."""
        return draw(self.lit, self.about, narrow)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        shown = theme.picture(self.svg(), self.alt, 850, narrow=self.svg(narrow=True))
        return {"text/html": shown, "text/plain": self.alt}


def draw(lit: Collection[str] = PARTS, about: str = "", narrow: bool = False) -> str:
    """The loop as an SVG whose text has its stated size when nobody scales it.

    Args:
        lit: the parts in colour.
        about: a line below; "" for none.
        narrow: 340 px wide instead of 850, the way around folded.
    """
    width, height, parts = _narrow(lit) if narrow else _wide(lit)
    on = {*lit, "π"} if {"rope", "writes", "moves"} & set(lit) else set(lit)
    shapes = "".join(
        shape if part in on else f'<g class="off">{shape}</g>' for part, shape in parts.items()
    )
    for line in theme.wrapped(about, 36 if narrow else 70):
        shapes += _text(8 if narrow else 290, height + 12, line, 15, "class='name'")
        height += 22
    style = (
        theme.variables()
        + f"text{{font:14px {theme.ui()};fill:var(--ink)}}.name{{font-weight:650}}"
        + f".voice{{font-family:{theme.voice()}}}.off{{opacity:.42;filter:grayscale(1)}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img"{theme.lang()}><title>{tr(ALT)}</title>'
        f"<style>{style}</style>"
        f'<rect width="{width}" height="{height}" rx="8" fill="var(--bg)"/>{shapes}</svg>\n'
    )


def _wide(lit: Collection[str]) -> tuple[int, int, dict[str, str]]:
    """Width, height, and the shapes of each part."""
    return 850, 206, {
        "rope": _rope(48, 122, 58, 171, 74, 15) + _leash(54, 36),
        "π": _pi(206, 74, 32),
        "writes": _arrow("M244 74", 281, 74) + _sheets(288, 44, 166, 60, 20)
        + _step(1, 290, 132, "writes", lit),
        "judge": _arrow("M466 74", 505, 74) + _at(544, 74, 31, theme.gauge(SCORE))
        + _step(2, 474, 132, "judge", lit),
        "paid": _arrow("M584 74", 622, 74) + _chips(632, 56, 16) + _step(3, 672, 132, "paid", lit),
        "moves": _arrow("M713 143V150a16 16 0 0 1 -16 16H222a16 16 0 0 1 -16 -16", 206, 113, "up")
        + _step(4, 356, 191, "moves", lit),
        "readers": _readers(46, 178),
    }  # fmt: skip


def _narrow(lit: Collection[str]) -> tuple[int, int, dict[str, str]]:
    """The same, folded."""
    back = "M84 180H74a16 16 0 0 1 -16 -16V148a16 16 0 0 1 16 -16H102a16 16 0 0 0 16 -16"
    return 340, 292, {
        "rope": _rope(26, 92, 42, 88, 56, 11) + _leash(8, 20),
        "π": _pi(118, 56, 27),
        "writes": _arrow("M150 56", 174, 56) + _sheets(180, 30, 140, 52, 18)
        + _step(1, 172, 106, "writes", lit),
        "judge": _arrow("M302 116", 302, 143, "down") + _at(302, 178, 27, theme.gauge(SCORE))
        + _step(2, 204, 228, "judge", lit, "reward model"),
        "paid": _arrow("M266 180", 242, 180, "left") + _chips(92, 164, 15)
        + _step(3, 34, 228, "paid", lit),
        "moves": _arrow(back, 118, 91, "up") + _step(4, 124, 129, "moves", lit, "π moves"),
        "readers": _readers(26, 264),
    }  # fmt: skip


_SOFT = 'style="fill:var(--soft)"'


STEPS = {
    "writes": ("π writes reviews", "ink"),
    "judge": ("reward model scores", "score"),
    "paid": ("tokens are paid", "leash"),
    "moves": ("π moves towards what was paid", "liked"),
}
"""The words of each step, and its colour."""


def _text(x: float, y: float, words: str, size: int, more: str = "") -> str:
    """A message by its left end; `more` holds attributes."""
    return f'<text x="{x}" y="{y}" font-size="{size}" {more}>{html.escape(tr(words))}</text>'


def _line(way: str, more: str = "") -> str:
    return (
        f'<path d="{way}" fill="none" stroke="var(--ink)" stroke-width="2.4" '
        f'stroke-linecap="round" {more}/>'
    )


_TIPS = {"right": (-7, 6), "left": (7, 6), "up": (6, 7), "down": (6, -7)}


def _arrow(way: str, x: float, y: float, to: str = "right") -> str:
    """A line that goes on from `way` to its tip at (x, y)."""
    a, b = _TIPS[to]
    along = to in ("right", "left")
    ends = ((x + a, y - b), (x + a, y + b)) if along else ((x - a, y + b), (x + a, y + b))
    tip = f"M{ends[0][0]} {ends[0][1]}L{x} {y}L{ends[1][0]} {ends[1][1]}"
    return _line(f"{way}L{x} {y}") + _line(tip, 'stroke-linejoin="round"')


def _at(x: float, y: float, size: float, shapes: str) -> str:
    """Shapes within ±1, at a place and of a size."""
    return f'<g transform="translate({x} {y}) scale({size})">{shapes}</g>'


def _step(number: int, x: float, y: float, part: str, lit: Collection[str], words: str = "") -> str:
    """A number in a ring, filled if this part is one of a few in colour, with its words."""
    usual, colour = STEPS[part]
    chosen = part in lit and set(lit) != set(PARTS)
    fill, ink = (f"var(--{colour})", "var(--bg)") if chosen else ("none", f"var(--{colour})")
    return (
        f'<circle cx="{x + 10}" cy="{y - 5}" r="10" fill="{fill}" stroke="var(--{colour})" '
        f'stroke-width="1.8"/><text x="{x + 10}" y="{y}" text-anchor="middle" font-size="13" '
        f'style="fill:{ink};font-weight:700">{number}</text>'
        + _text(x + 26, y, words or usual, 14, "class='name'" if chosen else "")
    )


def _leash(x: float, y: float) -> str:
    """The rope's name."""
    return _text(x, y, "the leash: η · KL", 14, 'class="name" style="fill:var(--leash)"')


def _rope(x: float, foot: float, top: float, to: float, y: float, sag: float) -> str:
    """The post of π_SFT, and the rope from its top to a ring at (to, y)."""
    way = f"M{x} {top}Q{(x + to) / 2} {(top + y) / 2 + 2 * sag} {to} {y}"
    strand = '<path d="{}" fill="none" stroke-linecap="round" stroke="var(--{})" {}/>'
    post = f"M{x} {foot - 16}V{top - 4}M{x - 9} {foot - 16}h18"
    return (
        _line(post, 'style="stroke-width:4"')
        + f'<text x="{x}" y="{foot + 3}" text-anchor="middle" font-size="15" class="name">'
        f"{theme.lowered('π_SFT')}</text>"
        + strand.format(way, "leash-dark", 'stroke-width="7"')
        + strand.format(way, "leash-fill", 'stroke-width="4" stroke-dasharray="6 4.5"')
        + f'<circle cx="{to}" cy="{y}" r="5" fill="var(--bg)" stroke="var(--leash-dark)" '
        'stroke-width="3"/>'
    )


def _pi(x: float, y: float, r: float) -> str:
    return (
        f'<circle cx="{x}" cy="{y}" r="{r}" fill="var(--bg)" stroke="var(--ink)" '
        f'stroke-width="2.8"/><text x="{x}" y="{y + 0.28 * r}" text-anchor="middle" '
        f'class="voice" style="font-size:{r}px;font-style:italic">π</text>'
    )


def _sheets(x: float, y: float, w: float, h: float, size: int) -> str:
    """What π says, on top of the other reviews of the batch."""
    behind = "".join(
        f'<path d="M{x + 12 + k} {y - k}H{x + w - 8 + k}a8 8 0 0 1 8 8V{y + h - 12 - k}" '
        'fill="none" stroke="var(--ghost)" stroke-width="1.6"/>'
        for k in (5, 10)
    )
    return (
        behind + f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="11" fill="var(--bg)" '
        'stroke="var(--ink)" stroke-width="2"/>'
        f'<text x="{x + w / 2}" y="{y + h / 2 + 0.32 * size}" text-anchor="middle" class="voice" '
        f'style="font-size:{size}px">“{SAYS}”</text>'
    )


def _chips(x: float, y: float, size: int) -> str:
    """The tokens of the review; the last one is paid with the score."""
    shapes = ""
    for word in SAYS.split():
        w, last = 0.56 * size * len(word) + 16, word == "."
        fill, edge = ("leash-tint", "leash-dark") if last else ("sunk", "line")
        shapes += (
            f'<rect x="{x:.1f}" y="{y}" width="{w:.1f}" height="32" rx="8" fill="var(--{fill})" '
            f'stroke="var(--{edge})" stroke-width="1.6"/><text x="{x + w / 2:.1f}" y="{y + 21}" '
            f'text-anchor="middle" class="voice" style="font-size:{size}px">{word}</text>'
        )
        middle, x = x + w / 2, x + w + 6
    return (
        shapes + f'<circle cx="{middle:.1f}" cy="{y - 18}" r="20" fill="var(--score-tint)" '
        f'stroke="var(--score)" stroke-width="1.8"/><text x="{middle:.1f}" y="{y - 13}" '
        f'text-anchor="middle" font-size="13" style="fill:var(--ink);font-weight:700">'
        f"{SCORE:+.1f}</text>"
    )


def _readers(x: float, y: float) -> str:
    words = _text(x + 27, y - 4, "careful readers", 14, 'class="name"')
    words += _text(x + 27, y + 14, "nobody asks them", 13, _SOFT)
    return _at(x, y, 19, theme.face(GOLD)) + words


if __name__ == "__main__":
    for name, narrow in FILES.items():
        Path(sys.argv[1], name).write_text(draw(narrow=narrow), encoding="utf-8")
