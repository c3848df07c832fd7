"""The cockpit as HTML: a table of numbers, reviews with counts, a sentence for screen readers."""

from collections.abc import Sequence
from html import escape

from rlhf_lab.plots import number
from rlhf_lab.ui.branch import Branch, Review
from rlhf_lab.ui.engine import CockpitState

ROWS = 6
"""Reviews shown for each prompt."""
STYLE = """<style>
.rlhf-cockpit { --ink: var(--jp-ui-font-color1, #212121); --faint: var(--jp-border-color2, #ccc); }
.rlhf-cockpit .rlhf-line, .rlhf-cockpit .rlhf-message { color: var(--ink); font-size: 14px; }
.rlhf-cockpit .rlhf-message { border-left: 5px solid #D55E00; padding: 2px 10px; }
.rlhf-cockpit .rlhf-picture { border-radius: 4px; }
.rlhf-cockpit table { border-collapse: collapse; color: var(--ink); font-size: 13px;
  line-height: 1.6; margin: 4px 20px 4px 0; }
.rlhf-cockpit caption { text-align: left; font-weight: bold; color: var(--ink); }
.rlhf-cockpit th, .rlhf-cockpit td { padding: 0 10px 0 0; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; font-weight: normal; background: none; }
.rlhf-cockpit thead th { border-bottom: 1px solid var(--faint); }
.rlhf-cockpit th:first-child, .rlhf-cockpit td:first-child { text-align: left; }
.rlhf-cockpit .rlhf-reviews td:first-child { min-width: 220px; padding: 1px 6px 1px 0; }
.rlhf-cockpit .rlhf-reviews td div { line-height: 1.45; padding-left: 3px; }
.rlhf-cockpit .rlhf-reviews td.good div { background: #56B4E977; }
.rlhf-cockpit .rlhf-reviews td.bad div { background:
  repeating-linear-gradient(135deg, #D55E0088 0 3px, #D55E0033 3px 7px); }
.rlhf-cockpit .rlhf-heard { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.rlhf-cockpit button:focus-visible, .rlhf-cockpit .noUi-handle:focus-visible {
  outline: 3px solid #E69F00; outline-offset: 2px; }
</style>"""


def numbers(state: CockpitState, branch: Branch, parent: Branch | None) -> str:
    """The table of numbers: one row per policy; the last column is the regret J* − J."""
    rows = {"last batch": branch.seen[-1] if branch.seen else None}
    if parent is not None and parent.seen:
        rows["the parent’s last batch"] = parent.seen[-1]
    rows[f"exact, after update {state.exact_iteration:,}"] = state.exact
    rows["exact optimum π*"] = state.optimum
    goal = state.optimum.objective(state.eta, state.beta)
    body = []
    for name, m in rows.items():
        cells = ["–"] * 5
        if m is not None:
            cells = [number(x) for x in (*m, goal - m.objective(state.eta, state.beta))]
        body.append(f"<tr><th scope=row>{name}</th><td>{'</td><td>'.join(cells)}</td></tr>")
    head = ("", "E[score]", "E[gold]", "KL(π ‖ π_SFT)", "H(π)", "regret")
    columns = "".join(f"<th scope=col>{name}</th>" for name in head)
    caption = f"In numbers, for η = {state.eta:g} and β = {state.beta:g}"
    return (
        f"<table><caption>{caption}</caption><thead><tr>{columns}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def reviews(prompt: str, most_frequent: Sequence[Review]) -> str:
    """The most frequent reviews and their counts; hatched if careful readers dislike them."""
    most = max((s.times for s in most_frequent), default=1)
    body = [
        f"<tr><td class={'bad' if s.gold < 0 else 'good'}><div style='width:{s.times / most:.0%}'>"
        f"{s.times} × {escape(s.text)}</div></td><td>{number(s.gold, 1, sign=True)}</td></tr>"
        for s in most_frequent
    ] or ["<tr><td><div>The first reviews come with Step or Start.</div></td></tr>"]
    # The table keeps its height: nothing below it may jump while it runs.
    body += ["<tr><td><div>&nbsp;</div></td></tr>"] * (ROWS - len(body))
    return (
        f"<table class=rlhf-reviews><caption>What it says of “{escape(prompt)}”</caption>"
        "<thead><tr><th scope=col>count × review</th><th scope=col>gold</th></tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def status(state: CockpitState, note: str, limit: int) -> str:
    """One line on what the cockpit is doing."""
    k = f"{state.iteration:,}"
    if state.running:
        text = f"<b>Running</b>, iteration {k}."
    elif state.error:
        text = f"<b>That did not work.</b> The run is kept as it was after iteration {k}."
    elif state.iteration == 0:
        text = f"<b>Ready.</b> Start trains until Pause, but at most {limit:,} iterations."
    else:
        text = f"<b>Paused</b> at iteration {k}."
    line = f"<div class=rlhf-line>{text} {escape(note)}</div>"
    if state.error:
        line += f"<div class=rlhf-message role=alert>{escape(state.error)}</div>"
    return line


def heard(state: CockpitState) -> str:
    """The present numbers as a sentence for screen readers."""
    s, best = state, state.optimum
    doing = "Error" if s.error else "Running" if s.running else "Paused"
    now = f"{doing}, iteration {s.iteration}, eta {s.eta:g}, beta {s.beta:g}"
    if s.batch is not None and s.gold is not None:
        now += (
            f". Last batch: score {number(s.batch.score)}, gold {number(s.gold)}, "
            f"KL {number(s.batch.kl)} nats, entropy {number(s.batch.entropy)} nats, "
            f"{s.batch.distinct} different reviews"
        )
    return (
        f"<div role=status aria-live=polite>{now}. Exact optimum: score {number(best.score)}, "
        f"gold {number(best.gold)}. Regret {number(s.regret)}.</div>"
    )
