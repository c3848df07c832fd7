"""What the explorer shows as HTML: the numbers of one optimum and its most probable responses.

A browser draws a table faster and sharper than matplotlib, and can read it aloud to those who
cannot see it.
"""

import html
import math

from rlhf_lab.collapse import effective_responses
from rlhf_lab.plots import RED, REGION_COLOURS, SKY, number
from rlhf_lab.ui.optima import DRAWS, REGIONS, ROWS, ExplorerState, Response

_MEANINGS = {
    "useful": "careful readers like it, and it has more than one thing to say",
    "frozen": "hardly different from π_SFT",
    "word salad": "more random than π_SFT, and careful readers dislike it",
}


def words(state: ExplorerState) -> str:
    """One sentence that describes the optimum, and its numbers."""
    score, gold, kl, entropy = state.metrics
    numbers = {
        "E[score]": number(score),
        "E[gold]": number(gold),
        "KL(π* ‖ π_SFT)": f"{number(kl)} nats",
        "H(π*)": f"{number(entropy)} nats",
        "exp H": f"{_count(effective_responses(entropy))} responses",
        f"different of {DRAWS}": _count(state.distinct),
    }
    items = "".join(f"<li>{name}<b>{text}</b></li>" for name, text in numbers.items())
    colour = REGION_COLOURS[REGIONS.index(state.region)]
    return (
        f'<p role="status">η = {state.eta:g}, β = {state.beta:g}: '
        f'<span class="rlhf-region" style="background: {colour}">{state.region}</span> '
        f"<br>{_meaning(state)}</p><ul>{items}</ul>"
    )


def _meaning(state: ExplorerState) -> str:
    if state.eta + state.beta == 0:
        return "nothing holds π*: it is the one response that scores highest"
    if state.region in _MEANINGS:
        return _MEANINGS[state.region]
    if state.metrics.gold < 0:
        return "few things to say, and careful readers dislike them"
    return "nearly always the same, though careful readers like it"


def alt(state: ExplorerState) -> str:
    """One sentence that says what the pictures show, for those who cannot see them."""
    score, gold, kl, _ = state.metrics
    return (
        f"At η = {state.eta:g}, β = {state.beta:g} the optimum has E[score] {number(score)} and "
        f"E[gold] {number(gold)}, {number(kl)} nats from π_SFT; region: {state.region}."
    )


def table(state: ExplorerState, policy: str) -> str:
    """The most probable responses; the bar is hatched where the gold score is negative.

    Args:
        state: what to show.
        policy: name of the policy to compare with; the marks on the bars show it.
    """
    policy = html.escape(policy)
    head = "".join(f"<th scope=col>{name}</th>" for name in ("π*", policy, "score", "gold"))
    rows = [_row(response) for response in state.responses]
    rows += ["<tr><td colspan=6>&nbsp;</td></tr>"] * (ROWS - len(rows))
    total = share(sum(response.probability for response in state.responses))
    return (
        f"<table><thead><tr><th scope=col>of “{state.prompt}” π* says</th>"
        f"<td class=rlhf-bar><i class=rlhf-compared></i>{policy}</td>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
        f"<p class=rlhf-note>These are {total} of what it says.</p>"
    )


def _row(response: Response) -> str:
    kind = "rlhf-bad" if response.gold < 0 else "rlhf-good"
    bar = (
        f'<i class="{kind}" style="width:{response.probability:.1%}"></i>'
        f'<i class=rlhf-compared style="left:{response.compared:.1%}"></i>'
    )
    shares = share(response.probability), share(response.compared)
    scores = number(response.score, 1, sign=True), number(response.gold, 1, sign=True)
    cells = "".join(f"<td>{cell}</td>" for cell in (*shares, *scores))
    return f"<tr><th scope=row>{response.text}</th><td class=rlhf-bar>{bar}</td>{cells}</tr>"


def share(p: float) -> str:
    """A probability in five characters: "31%", "0.4%", and below that "10⁻⁷".

    >>> share(0.307), share(0.0042), share(3e-7)
    ('31%', '0.4%', '10⁻⁷')
    """
    if p >= 0.0005 or p == 0:
        return f"{p:.0%}" if p >= 0.0995 or p == 0 else f"{p:.1%}"
    return "10⁻" + str(round(-math.log10(p))).translate(_RAISED)


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _count(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.1f}"


STYLE = f"""<style>
.rlhf-explorer {{ max-width: 1240px; color: var(--jp-content-font-color1, inherit); }}
.rlhf-explorer .widget-hbox {{ flex-wrap: wrap; overflow: visible; column-gap: 20px; }}
.rlhf-explorer .widget-html-content {{ line-height: 1.35; white-space: normal; }}
.rlhf-explorer .widget-toggle-buttons {{ display: flex; align-items: center; width: auto; }}
.rlhf-picture {{ position: relative; display: block; align-self: flex-start; overflow: hidden;
  border: 1px solid var(--jp-border-color2, #ccc); border-radius: 4px; }}
.rlhf-picture img {{ display: block; width: 100%; height: auto; margin: 0; }}
.rlhf-picture .rlhf-marks {{ position: absolute; inset: 0; height: auto; margin: 0;
  pointer-events: none; }}
.rlhf-marks svg {{ position: absolute; inset: 0; width: 100%; height: 100%; }}
.rlhf-says {{ font-size: var(--jp-content-font-size1, 14px); }}
.rlhf-says p {{ margin: 4px 0 10px; }}
.rlhf-region {{ color: #000; border-radius: 4px; padding: 1px 8px; font-weight: bold; }}
.rlhf-says ul {{ display: grid; gap: 6px 12px; margin: 0 0 14px; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(max(9em, 30%), 1fr)); }}
.rlhf-says li {{ margin: 0; color: var(--jp-ui-font-color2, #555); font-size: 0.92em; }}
.rlhf-says b {{ display: block; font-weight: normal; font-size: 1.25em;
  color: var(--jp-content-font-color1, inherit); font-variant-numeric: tabular-nums; }}
.rlhf-says table {{ table-layout: fixed; border-collapse: collapse; width: 100%;
  font-variant-numeric: tabular-nums; }}
.rlhf-says th, .rlhf-says td {{ padding: 2px 0; text-align: right; white-space: nowrap;
  font-weight: normal; width: 3.3em; }}
.rlhf-says thead, .rlhf-note {{ color: var(--jp-ui-font-color2, #555); font-size: 0.92em; }}
.rlhf-says th:first-child {{ text-align: left; width: 14.2em; }}
.rlhf-says td.rlhf-bar {{ position: relative; text-align: left; width: auto; }}
.rlhf-bar i {{ position: absolute; top: 3px; bottom: 3px; left: 0; }}
.rlhf-good {{ background: {SKY}; }}
.rlhf-bad {{ background: repeating-linear-gradient(135deg, {RED} 0 5px, #fff 5px 7px); }}
.rlhf-compared {{ border-left: 3px solid currentColor; }}
.rlhf-says thead .rlhf-bar {{ padding-left: 8px; }}
</style>"""
