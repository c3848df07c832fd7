"""A page that stands alone: one HTML file that loads nothing and runs nothing."""

import base64
import html

from rlhf_lab.translation import language, tr

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em;
  color: #111; background: #fff; }
img { max-width: 100%; }
figure { margin: 1.5em 0; }
section, figure, li { break-inside: avoid; }
.answer { border-left: 4px solid #009E73; padding-left: .8em; margin: .4em 0 1.2em; }
.note { color: #555; }
@counter-style letters { system: extends lower-alpha; prefix: "("; suffix: ") "; }
.letters { list-style: letters; }
"""
_FRAME = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
{style}</style></head>
<body>
{body}
</body></html>
"""


def document(title: str, style: str, body: str) -> bytes:
    """The file of a page with a style sheet of its own; `body` is HTML, the title is a message."""
    words = {"language": language(), "title": html.escape(tr(title))}
    return _FRAME.format(style=style, body=body, **words).encode()


def page(title: str, parts: list[str]) -> bytes:
    """The file of a page to be read; `parts` are HTML, the title is a message."""
    return document(title, _STYLE, "\n".join([element("h1", title), *parts]))


def element(name: str, text: str, kind: str = "") -> str:
    """An element around a message, which is escaped."""
    mark = f' class="{kind}"' if kind else ""
    return f"<{name}{mark}>{html.escape(tr(text))}</{name}>"


def picture(png: bytes, alt: str) -> str:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></figure>'
