"""The course's colours, light and dark, its cast, and pictures in SVG that follow the page's theme.

An SVG in an <img> cannot see the page's styles. It is told light or dark by the CSS property
color-scheme of that <img>, and so carries both colours of everything.
"""

import base64
import html
import math
import textwrap
import unicodedata

from rlhf_lab.translation import language, tr

COLOURS = {
    "bg": ("#ffffff", "#121317"),
    "sunk": ("#f5f4f0", "#1c1e24"),
    "line": ("#dcdad3", "#3a3d46"),
    "ink": ("#1a1a1c", "#edece8"),
    "soft": ("#5a5a60", "#b3b4ba"),
    "ghost": ("#84848a", "#83868f"),
    "score": ("#0072b2", "#6cc3f5"),
    "score-tint": ("#d6e9f5", "#17364a"),
    "liked": ("#007a5a", "#43cca0"),
    "liked-fill": ("#009e73", "#1fb487"),
    "liked-tint": ("#cdebdf", "#12392f"),
    "bad": ("#b54800", "#ff9450"),
    "bad-fill": ("#d55e00", "#f0731b"),
    "bad-tint": ("#fadfcd", "#4a2714"),
    "leash": ("#835a00", "#f3ba45"),
    "leash-fill": ("#e69f00", "#e69f00"),
    "leash-line": ("#a87200", "#e69f00"),
    "leash-dark": ("#a87200", "#8a5f00"),
    "leash-tint": ("#fbecc9", "#40310f"),
    "many": ("#93457a", "#e6a3cb"),
    "many-fill": ("#cc79a7", "#cc79a7"),
    "many-tint": ("#f2dfeb", "#40263a"),
    "cool-tint": ("#e4e5e8", "#2b2e36"),
}
"""By the names of front.css, and two more: on a light page, on a dark one."""
_PAGES = (
    "<style>img.rlhf-drawing{{max-width:100%;height:auto}}{}</style>",
    ':is([data-jp-theme-light="{}"],[data-theme="{}"],[theme="{}"],.vscode-{}) img.rlhf-drawing'
    "{{color-scheme:{}}}",
)
THEMES = _PAGES[0].format(
    "".join(
        _PAGES[1].format(str(name == "light").lower(), *[name] * 4) for name in ("light", "dark")
    )
    + '@media (prefers-color-scheme:dark){[data-theme="auto"] img.rlhf-drawing'
    + "{color-scheme:dark}}"
)
"""How JupyterLab, the site, Colab and VS Code say which theme they have; others leave it out."""


def ui() -> str:
    """The family for labels, as the site has it. A catalogue names fonts for "sans-serif"."""
    known = "Inter, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', Arial"
    return f"{known}, {tr('sans-serif')}"


def voice() -> str:
    """The family for what a model says."""
    return f"Georgia, Gelasio, 'Iowan Old Style', 'Noto Serif', {tr('serif')}"


def lang() -> str:
    """An attribute for an SVG's first element: the shape of a Chinese letter hangs on it."""
    return "" if language() == "en" else f' xml:lang="{tr("en")}"'  # "zh-CN" in the catalogue


def wrapped(text: str, letters: int) -> list[str]:
    """The lines of a text, for room for so many Latin letters; a Chinese one takes that of two."""
    wide = any(unicodedata.east_asian_width(letter) == "W" for letter in text)
    return textwrap.wrap(text, letters // 2 if wide else letters)


def variables() -> str:
    """A style sheet that gives an SVG a variable for each colour, as in `fill="var(--ink)"`."""
    light, dark = (
        "".join(f"--{name}:{both[k]};" for name, both in COLOURS.items()) for k in (0, 1)
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def lowered(text: str) -> str:
    """A text for an SVG's <text>, in which the SFT of π_SFT is a subscript.

    >>> lowered("KL to π_SFT")
    'KL to π<tspan dy=".25em" font-size="72%">SFT</tspan>'
    """
    first, *rest = text.split("_SFT")
    low = '<tspan dy=".25em" font-size="72%">SFT</tspan>'
    # What follows is as much higher, in its own size: 72% of .25 em.
    up = [f'<tspan dy="-.18em">{after}</tspan>' if after else "" for after in rest]
    return first + "".join(low + after for after in up)


def gauge(score: float) -> str:
    """The reward model: a square whose needle is the score. Shapes within ±1, as in parts.js."""
    angle = 1.2 * max(-1.0, min(1.0, score / 2.4))
    tip = f"{0.8 * math.sin(angle):.2f} {0.48 - 0.8 * math.cos(angle):.2f}"
    return (
        '<g stroke="var(--score)" fill="none" stroke-linecap="round"><rect x="-.92" y="-.92" '
        'width="1.84" height="1.84" rx=".36" fill="var(--score-tint)" stroke-width=".12"/>'
        '<path d="M-.62.36a.66.66 0 0 1 1.24 0" stroke-width=".11" opacity=".55"/>'
        f'<path d="M0 .48L{tip}" stroke-width=".17"/></g>'
        '<circle cy=".48" r=".17" fill="var(--score)"/>'
    )


def face(gold: float) -> str:
    """Careful readers: a face whose mouth is the gold score. Shapes within ±1, as in parts.js."""
    mood = max(-1.0, min(1.0, gold / 2.4))
    colour = liking(gold)
    mouth = f"M-.48 {0.36 - 0.12 * mood:.2f}q.48 {0.56 * mood:.2f} .96 0"
    brows = '<path d="M-.56-.46l.34.14M.56-.46l-.34.14" stroke-width=".1"/>' if gold < -1 else ""
    return (
        f'<g fill="none" stroke="var(--{colour})" stroke-width=".15" stroke-linecap="round">'
        f'<circle r=".92" fill="var(--{colour}-tint)"/>{brows}<path d="{mouth}"/></g>'
        f'<g fill="var(--{colour})"><circle cx="-.34" cy="-.14" r=".13"/>'
        '<circle cx=".34" cy="-.14" r=".13"/></g>'
    )


def liking(gold: float) -> str:
    """The colour of a gold score; one that is written 0.00 is not disliked."""
    return "bad" if gold <= -0.005 else "liked"


def picture(svg: str, alt: str, width: int, narrow: str = "") -> str:
    """An SVG as HTML for a cell's output.

    Args:
        svg: the picture, with the colours of `variables`.
        alt: what it shows, for those who cannot see it.
        width: in px; on a narrower page it shrinks.
        narrow: another SVG for windows below 620 px; "" for the same.
    """
    image = (
        f'<img class="rlhf-drawing" alt="{html.escape(alt)}" width="{width}" src="{_address(svg)}">'
    )
    if narrow:
        # Where <picture> is not allowed, what is in it stays, and <img> is in it.
        source = f'<source media="(max-width: 620px)" srcset="{_address(narrow)}">'
        image = f"<picture>{source}{image}</picture>"
    return image + THEMES


def _address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
