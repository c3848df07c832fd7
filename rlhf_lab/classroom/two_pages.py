"""The course on one sheet of paper, front and back: what students keep beside them."""

import html
import re
from collections.abc import Iterable
from pathlib import Path

from rlhf_lab.classroom import questions
from rlhf_lab.classroom.page import document, element
from rlhf_lab.classroom.slides import REMEMBER, picture
from rlhf_lab.translation import language, tr

TITLE = "The reward in PPO for language models"
NOTATION = (
    ("x, y", "a prompt and a response; y_t is its t-th token, T its length"),
    ("π", "the policy in training; π_old drew this batch"),
    ("π_SFT", "where π began, and the reference: π_ref in most code"),
    ("r(x, y)", "the reward model's score, one number for a whole response"),
    ("gold", "what careful readers think; training never sees it"),
    ("KL(π ‖ π_SFT)", "E_{y∼π}[log π(y) − log π_SFT(y)], in nats: the first policy writes"),
    ("H(π)", "entropy, E_{y∼π}[−log π(y)]; exp H is a number of equally likely responses"),
    ("η, β", "weights of the KL penalty and of the entropy bonus; TRL calls η beta"),
    ("γ, λ", "discount (1 here), and how far an advantage trusts the critic V (1: not at all)"),
    ("ρ, A", "π/π_old of a token, and its advantage"),
)  # fmt: skip
FORMULAS = (
    ("What is maximised", "J(π) = E_{y∼π}[r(x, y)] − η·KL(π ‖ π_SFT)"),
    ("What a token is paid", "r_t = −η·(log π(y_t) − log π_SFT(y_t)), and r(x, y) more at t = T"),
    ("Where it ends", "π*(y) = π_SFT(y)·exp(r(y)/η)/Z, J* = η·log Z, J* − J(π) = η·KL(π ‖ π*)"),
    ("What each token gets", "A_t = Σ_{k≥0} (γλ)^k·δ_{t+k}, δ_t = r_t + γ·V_{t+1} − V_t"),
    ("What is minimised", "mean of max(−A·ρ, −A·clip(ρ, 1 − ε, 1 + ε)) + c·(critic's loss) − β·H"),
)
DASHBOARD = (
    ("Is the KL possible?", "A mean below 0, or exactly 0 after training, is not."),
    ("Is the score worth its KL?", "Compare score − η·KL, and not the score alone."),
    ("What else moved?", "Length, entropy, how many responses differ, what they say. Read some."),
)  # fmt: skip
INVARIANTS = {
    "same twice": "Two passes with the same weights give the same log-probabilities.",
    "loss starts at 0":
        "Before the first gradient step the policy loss is 0: whitened advantages have mean 0.",
    "log-probs add up": "The sum of log π(y_t) over a response is log π(y).",
    "rewards add up": "Σ r_t = r − η·(log π(y) − log π_ref(y)) for each response.",
    "samples are π's": "The mean of π_ref(y)/π(y) over samples is 1.",
    "padding is nothing": "More padding changes no gradient.",
    "returns are returns": "γ = λ = 1: the critic's target is the sum of the rewards to come.",
    "π_ref stands still": "An update moves π, and not π_ref.",
    "update is ∇J": "The mean first update points along ∇J.",
    "KL loss has the right gradient":
        "A KL in the loss has the gradient of KL(π ‖ π_ref), token by token.",
    "bonus is −β·H": "β adds −β·∇H to the gradient of the loss.",
    "η finds its target": "At its target KL a controller keeps η; at twice that it raises η.",
    "clip on the right side":
        "Beyond the band only tokens that would move farther out lose their gradient.",
}  # fmt: skip
"""By the names of notebook 10."""
MAP = "07"
"""The notebook whose figure to remember is the map of η and β."""
MAP_TITLE = "Where η and β lead: the optimum, and what became of PPO's runs"
_STYLE = """\
body { font: 11pt/1.4 system-ui, "Noto Sans", sans-serif; margin: 0; color: #1a1a1c;
  background: #fff; }
section { box-sizing: border-box; width: 210mm; height: 296mm; padding: 14mm 16mm; margin: auto;
  overflow: hidden; break-after: page; display: flex; flex-direction: column; gap: 4mm;
  justify-content: space-between; }
h1, h2 { font-family: Georgia, "Noto Serif", serif; margin: 0; }
h1 { font-size: 20pt; } h2 { font-size: 13pt; margin-top: 2mm; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 1.6mm 5mm; margin: 0; }
dt { font-weight: 650; } dd { margin: 0; }
sub, sup { font-size: .75em; line-height: 0; }
.formulas { grid-template-columns: 1fr; gap: 1mm; }
.formulas dd { font: 13pt/1.5 Georgia, "Noto Serif", serif; padding: 0 0 2mm 5mm; }
figure { margin: 0; flex: 1 1 0; min-height: 0; text-align: center; }
img { width: 100%; height: 100%; object-fit: contain; }
@page { size: A4; margin: 0; }
"""


def files(course: Path = questions.COURSE) -> dict[str, bytes]:
    """The page, by the name of its file.

    Raises:
        ValueError: the course's notebooks are not there, or have no results.
    """
    name, notebook = next(
        (name, n) for name, n in questions.notebooks(course).items() if name.startswith(MAP)
    )
    if not (figure := picture(notebook, REMEMBER)):
        place = "notebooks" if language() == "en" else f"notebooks/{language()}"
        raise ValueError(f"{name} has no results: run python3 course.py run {place}/{name}.ipynb")
    front = [
        element("h1", TITLE),
        _table("Notation", NOTATION),
        _table("Five formulas", FORMULAS, "formulas"),
        _table("Three questions to every dashboard", DASHBOARD),
    ]
    back = [
        f"<h2>{tr(MAP_TITLE)}</h2>",
        figure,
        _table("Thirteen statements that hold in every correct trainer", INVARIANTS.items()),
    ]
    pages = "\n".join(f"<section>{''.join(parts)}</section>" for parts in (front, back))
    return {"two-pages.html": document(TITLE, _STYLE, pages)}


def _table(heading: str, rows: Iterable[tuple[str, str]], kind: str = "") -> str:
    pairs = "".join(f"<dt>{_set(tr(term))}</dt><dd>{_set(tr(text))}</dd>" for term, text in rows)
    return f'{element("h2", heading)}<dl class="{kind}">{pairs}</dl>'


def _set(text: str) -> str:
    """HTML with what stands behind _ and ^ low and high, as in π_SFT and E_{y∼π}."""
    text = html.escape(text, quote=False)
    for sign, name in (("_", "sub"), (r"\^", "sup")):
        text = re.sub(sign + r"(?:\{([^}]+)\}|(\w+))", rf"<{name}>\1\2</{name}>", text)
    return text
