"""The museum's pictures: dashboards, and the matrix of bugs, symptoms and invariants."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_lab import plots
from rlhf_lab.lessons.museum.exhibits import EXHIBITS, Exhibit
from rlhf_lab.lessons.museum.invariants import INVARIANTS
from rlhf_lab.lessons.museum.symptoms import (
    EXCESS,
    THRESHOLDS,
    Symptoms,
    all_symptoms,
    clean_run,
    end,
    exhibit_run,
)
from rlhf_lab.lessons.museum.trainer import Record
from rlhf_lab.translation import tr

PANELS = {
    "score": ("mean score", "exact_score"),
    "kl": ("KL per response, nats", "exact_kl"),
    "entropy": ("H, nats", "exact_entropy"),
    "length": ("tokens per response", None),
    "value_loss": ("value loss", None),
    "eta": ("η", None),
}
"""Each number that a trainer logs: its axis label, and the name of the exact number."""
_MARGINS = {
    "left": 0.075, "right": 0.985, "bottom": 0.1, "top": 0.87, "wspace": 0.3, "hspace": 0.42,
}  # fmt: skip


def dashboard(records: list[Record], clean: list[Record], title: str, exact: bool = True) -> Figure:
    """Six panels: the log of a trainer beside the log of the clean run.

    Args:
        records: the log of the exhibit.
        clean: the log of the clean trainer with the same settings.
        title: of the figure.
        exact: also draw the exact numbers, which a real trainer could not compute.
    """
    figure, _ = plots.new_figure(9, 4.6, margins=_MARGINS)
    figure.clear()
    axes = figure.subplots(2, 3, gridspec_kw={k: _MARGINS[k] for k in ("wspace", "hspace")})
    figure.subplots_adjust(**_MARGINS)
    for ax, (name, (label, _)) in zip(axes.flat, PANELS.items(), strict=True):
        ax.spines[["top", "right"]].set_visible(False)
        _curves(ax, records, clean, name, exact)
        ax.set_title(label, fontsize=10)
        ax.tick_params(labelsize=8.5)
    for ax in axes[1]:
        ax.set_xlabel("iteration", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold")
    return figure


def exhibit_dashboard(exhibit: str, exact: bool = True) -> tuple[Figure, str]:
    """The dashboard of the exhibit with this letter, and its last numbers in a sentence."""
    records, clean = exhibit_run(exhibit), clean_run(EXHIBITS[exhibit].settings)
    a, b = end(records), end(clean)
    words = tr(
        "Exhibit {exhibit}, mean of the last 10 iterations (clean trainer in brackets): "
        "score {a.score:.2f} ({b.score:.2f}), logged KL {a.kl:.2f} ({b.kl:.2f}), "
        "H {a.entropy:.2f} ({b.entropy:.2f}), length {a.length:.2f} ({b.length:.2f}), "
        "value loss {a.value_loss:.2f} ({b.value_loss:.2f}), η {a.eta:.2f} ({b.eta:.2f}).",
        exhibit=exhibit, a=a, b=b,
    )  # fmt: skip
    if exact:
        words += " " + tr(
            "Exact: KL(π ‖ π_SFT) {a.exact_kl:.2f}, regret {a.regret:.2f} ({b.regret:.2f}).",
            a=a, b=b,
        )  # fmt: skip
    title = tr("exhibit {letter}", letter=exhibit)
    return dashboard(records, clean, title, exact), words


def room(exhibit: str, exact: str) -> tuple[Figure, str]:
    """The dashboard of an exhibit for `Knobs`; what is exact is "hidden" or "shown"."""
    return exhibit_dashboard(exhibit, exact=exact == "shown")


def panels_figure(panels: Sequence[tuple[str, str]], exact: bool = True) -> Figure:
    """Panels of a few dashboards side by side.

    Args:
        panels: for each the letter of the exhibit and one of `PANELS`.
        exact: also draw the exact numbers.
    """
    figure, axes = plots.new_figure(9, 3.1, columns=len(panels))
    for ax, (letter, name) in zip(axes, panels, strict=True):
        exhibit, (label, _) = EXHIBITS[letter], PANELS[name]
        _curves(ax, exhibit_run(letter), clean_run(exhibit.settings), name, exact)
        title = tr("exhibit {letter}", letter=letter)
        ax.set(title=title, xlabel="iteration", ylabel=label)
    fullest = max(axes, key=lambda ax: len(ax.lines))  # not every log has an exact counterpart
    handles, labels = fullest.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure


def _curves(ax: Axes, records: list[Record], clean: list[Record], name: str, exact: bool) -> None:
    """One panel: the clean log, this log and, where there is one, the exact number."""
    truth = PANELS[name][1]
    logs = [getattr(r, name) for r in clean], [getattr(r, name) for r in records]
    ax.plot(logs[0], color="0.55", linestyle=":", linewidth=2.2, label="clean trainer's log")
    ax.plot(logs[1], color=plots.BLUE, label="this trainer's log")
    if truth and exact:
        exact_numbers = [getattr(r, truth) for r in records]
        ax.plot(exact_numbers, color=plots.BLACK, linestyle="--", label="exact")


def matrix() -> Figure:
    """The matrix: for every bug, its signs in the log, its cost, and the invariants it breaks."""
    figure, (ax,) = plots.new_figure(9, 8.2)
    signs = [
        tr("score"),
        "KL",
        "H",
        tr("length"),
        tr("value loss"),
        tr("KL is wrong"),
        tr("regret"),
    ]
    invariants = [i.name for i in INVARIANTS]
    columns = [*signs, *map(tr, invariants)]
    table = all_symptoms()
    for row, seen in enumerate(table.values()):
        if row % 2 == 0:
            ax.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0, linewidth=0)
        if seen.silent:  # what one should remember: nothing on the left, a mark on the right
            ax.axhspan(row - 0.5, row + 0.5, color="#d6e9f5", zorder=0, linewidth=0)
        _signs(ax, row, seen)
        for name in seen.caught_by:
            column = len(signs) + invariants.index(name)
            ax.plot(column, row, "s", color=plots.BLACK, markersize=6)
    for edge in (len(THRESHOLDS), len(signs)):
        ax.axvline(edge - 0.5, color="0.4", linewidth=1)
    labels = [f"{EXHIBITS[letter].title}   {letter}" for letter in table]
    ax.set_yticks(range(len(table)), labels, fontsize=8.5)
    for text, seen in zip(ax.get_yticklabels(), table.values(), strict=True):
        text.set_fontweight("bold" if seen.silent else "normal")
    ax.set_xticks(range(len(columns)), columns, rotation=60, ha="left", fontsize=8.5)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(table) - 0.5, -0.5))
    ax.spines[:].set_visible(False)
    ax.set_xlabel("its log: ▲ higher, ▼ lower than the clean run   |   exact: ✕   |   "
                  "invariants it breaks: ■", fontsize=9, labelpad=14)  # fmt: skip
    _counts(ax, len(signs), table)
    return figure


def _counts(ax: Axes, first: int, table: dict[str, Symptoms]) -> None:
    """Below the column of each invariant the number of bugs that break it."""
    for column, invariant in enumerate(INVARIANTS, first):
        n = sum(invariant.name in seen.caught_by for seen in table.values())
        ax.text(column, len(table) - 0.1, str(n), ha="center", va="center", fontsize=9)


def _signs(ax: Axes, row: int, seen: Symptoms) -> None:
    """The left part of one row of the matrix."""
    for column, sign in enumerate(seen.signs.values()):
        if sign:
            marker, colour = ("^", plots.ORANGE) if sign > 0 else ("v", plots.BLUE)
            ax.plot(column, row, marker, color=colour, markersize=7)
    for column, bad in enumerate((seen.kl_is_wrong, seen.regret > EXCESS), len(THRESHOLDS)):
        if bad:
            ax.plot(column, row, "x", color=plots.RED, markersize=6, markeredgewidth=2)


def two_tests(first: str, second: str) -> tuple[Figure, str]:
    """Which exhibits two invariants catch, for `Knobs`; the invariants by their titles."""
    figure, (ax,) = plots.new_figure(9, 2.1)
    chosen, table = {i.name for i in INVARIANTS if i.title in (first, second)}, all_symptoms()
    through = [letter for letter, seen in table.items() if not chosen & set(seen.caught_by)]
    for place, (letter, seen) in enumerate(table.items()):
        at, free = (place % 12, -(place // 12)), letter in through
        ax.plot(*at, "s", markersize=30, color="none" if free else "#d6e9f5",
                markeredgecolor=plots.RED if free else "0.8", markeredgewidth=2)  # fmt: skip
        ax.text(*at, letter, ha="center", va="center", fontweight="bold" if free else "normal")
        if seen.regret > EXCESS:
            ax.plot(at[0] + 0.19, at[1] + 0.15, "x", color=plots.RED, markersize=5)
    ax.set(xlim=(-0.6, 11.6), ylim=(-1.6, 0.6), xticks=[], yticks=[])
    ax.set_xlabel("blue: caught   |   framed: gets through   |   ✕: costs regret", fontsize=9)
    ax.spines[:].set_visible(False)
    names = ", ".join(f"{letter} ({EXHIBITS[letter].title})" for letter in through)
    caught = len(table) - len(through)
    return figure, tr(
        "{n} of {total} are caught. These get through: {names}.",
        n=caught, total=len(table), names=names,
    )  # fmt: skip


def placard(exhibit: Exhibit) -> str:
    """The text for an exhibit once its case is open: the name, the right and the wrong line."""
    right, wrong = exhibit.lines
    return tr(
        "{letter}: {name} ({step})\n  clean  {right}\n  here   {wrong}",
        letter=exhibit.letter, name=exhibit.title, step=exhibit.step, right=right, wrong=wrong,
    )  # fmt: skip
