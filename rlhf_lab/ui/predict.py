"""Prediction boxes: commit a guess before you run on, and see it beside the result afterwards.

Guesses are kept in `predictions.json` beside the notebook, so that a restart loses none of them. A
teacher collects the students' files and plots them with `class_figure`.
"""

import contextlib
import html
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import ipywidgets as widgets
from matplotlib.figure import Figure

from rlhf_lab import plots
from rlhf_lab.files import locked, write_whole

FILE = "predictions.json"
MOST_BYTES, MOST_BARS = 1_000_000, 12
"""A larger file is none of ours, and more different answers than that no figure can show."""
Guess = float | str


class Prediction(widgets.VBox):  # type: ignore[misc]
    """A question that takes one guess; a number between `low` and `high`, or one of `choices`.

    Args:
        name: of the question, unique in the course: "03_turn".
        question: what will happen?
        low, high: limits of a number.
        choices: or the answers to choose from.
        folder: where `predictions.json` lies.

    Raises:
        ValueError: neither limits nor choices, or both; or the file is damaged.
    """

    def __init__(
        self,
        name: str,
        question: str,
        *,
        low: float | None = None,
        high: float | None = None,
        choices: Sequence[str] = (),
        folder: str | Path = ".",
    ) -> None:
        if bool(choices) == (low is not None and high is not None):
            raise ValueError(f"prediction {name!r} needs either low and high or choices")
        self.name, self.file = name, Path(folder) / FILE
        if choices:
            self.control = widgets.RadioButtons(
                options=list(choices), value=None, layout=widgets.Layout(width="max-content")
            )
        else:
            # Empty at first: a number that stands there already would be committed unread.
            self.control = widgets.Text(
                placeholder=f"{low:g} to {high:g}",
                layout=widgets.Layout(width="140px"),
                continuous_update=False,  # else the click on Commit may overtake the last digits
            )
        self.low, self.high = low, high
        self.button = widgets.Button(description="Commit", tooltip="Keep this guess")
        self.button.on_click(self._commit)
        self._closed = False
        self.text = widgets.HTML()
        title = widgets.HTML(
            f"<div style='line-height: 1.4'><b>Predict.</b> {html.escape(question)}</div>"
        )
        super().__init__([title, widgets.HBox([self.control, self.button]), self.text])
        self.add_class("rlhf-prediction")
        kept = read_guesses(self.file).get(name)
        if kept is not None:
            self._show(kept["guess"])

    def __repr__(self) -> str:
        return f"Prediction({self.name!r})"  # without the guess: every student's output is the same

    @property
    def guess(self) -> Guess | None:
        """What was committed, if anything was."""
        kept = read_guesses(self.file).get(self.name)
        return kept["guess"] if kept else None

    def commit(self, guess: Guess) -> None:
        """Keep a guess; what the button does. The first one counts: a later one is refused.

        Raises:
            ValueError: a guess is kept already, or this is none of the answers.
        """
        if isinstance(self.control, widgets.RadioButtons):
            if guess not in self.control.options:
                raise ValueError(f"choose one of {self.control.options}")
        elif self.low is not None and self.high is not None:
            guess = _number(guess)
            if not self.low <= guess <= self.high:
                raise ValueError(f"{guess:g} is not between {self.low:g} and {self.high:g}")
        with _guesses(self.file) as guesses:
            if self.name in guesses:
                kept = guesses[self.name]["guess"]
                raise ValueError(f"you committed {kept!r} already; that one counts")
            guesses[self.name] = {"guess": guess}
        self._show(guess)

    def reveal(self, result: Guess) -> "Prediction":
        """Show the result beside the guess; make it the last expression of a cell."""
        guess, result = self.guess, result if isinstance(result, str) else float(result)
        said = f"Answer: <b>{_text(result)}</b>."
        if guess is None:
            self._close()  # to know the answer is not to predict it
            self.text.value = f"{said} You did not commit a guess."
            return self
        with _guesses(self.file) as guesses:
            guesses[self.name] = {"guess": guess, "result": result}
        self.text.value = f"{said} You guessed <b>{_text(guess)}</b>."
        return self

    def _commit(self, _: object) -> None:
        if self._closed:
            return
        try:
            if self.control.value in (None, ""):
                raise ValueError("Answer first.")
            self.commit(self.control.value)
        except (ValueError, OSError) as error:  # Jupyter shows what a callback raises to nobody
            self.text.value = html.escape(str(error))

    def _close(self) -> None:
        # The button stays enabled: disabled, it would throw the focus out of the notebook.
        self.control.disabled = self._closed = True

    def _show(self, guess: Guess) -> None:
        if isinstance(self.control, widgets.Text):
            self.control.value = _text(guess)
        elif guess in self.control.options:  # else the question has changed since
            self.control.value = guess
        self._close()
        self.text.value = f"You guessed <b>{_text(guess)}</b>. Run on to see."


def read_guesses(file: str | Path) -> dict[str, dict[str, Guess]]:
    """All guesses of one student: {name: {"guess": …, "result": … once it was revealed}}.

    Raises:
        ValueError: the file is not one that prediction boxes write.
    """
    file = Path(file)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        guesses = json.loads(file.read_text(encoding="utf-8"))
        if all(_is_entry(kept) for kept in guesses.values()):
            return dict(guesses)
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError, RecursionError):
        pass
    raise ValueError(f"{file} holds no predictions; rename it, and new ones will be kept")


def _is_entry(kept: dict[str, object]) -> bool:
    """Is this what is kept of one question: a guess, and a result or none?"""
    return "guess" in kept and all(
        key in ("guess", "result") and (isinstance(value, str) or _is_number(value))
        for key, value in kept.items()
    )


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # NaN is not


@contextlib.contextmanager
def _guesses(file: Path) -> Iterator[dict[str, dict[str, Guess]]]:
    """What is kept, to be changed; nobody else writes meanwhile, and all of it is kept or none."""
    with locked(file, wait=10):
        guesses = read_guesses(file)
        yield guesses
        write_whole(file, json.dumps(guesses, indent=1, ensure_ascii=False).encode())


def class_figure(name: str, files: Sequence[str | Path]) -> Figure:
    """What a class guessed: one bar per answer, or a mark per number, and the result if known.

    Args:
        name: of the question.
        files: the students' `predictions.json`. The result is what most of them hold as such.

    Raises:
        ValueError: nobody answered it, or a file is damaged.
    """
    kept = [answers[name] for file in files if name in (answers := read_guesses(file))]
    if not kept:
        raise ValueError(f"none of the {len(files)} files holds a guess for {name!r}")
    guesses = [answer["guess"] for answer in kept]
    results = Counter(answer["result"] for answer in kept if "result" in answer).most_common(1)
    figure, (ax,) = plots.new_figure(6.5, 2.8)
    numbers = [guess for guess in guesses if not isinstance(guess, str)]
    words = [guess for guess in guesses if isinstance(guess, str)]
    if len(words) > len(numbers):
        counts = Counter(map(_label, words)).most_common()[:MOST_BARS][::-1]
        ax.barh(range(len(counts)), [n for _, n in counts], color=plots.SKY)
        ax.set_yticks(range(len(counts)), [answer for answer, _ in counts])
        ax.set_xlabel("students")
    else:
        ax.hist(numbers, bins=20, color=plots.SKY, edgecolor="white")
        ax.set(xlabel="guess", ylabel="students")
        if results and not isinstance(results[0][0], str):
            ax.axvline(results[0][0], color=plots.RED, linestyle="--", label="result")
            ax.legend(frameon=False)
    result = f"; it is {_label(results[0][0])}" if results else ""
    other = min(len(words), len(numbers))
    left_out = f"; {other} of another kind not drawn" if other else ""
    title = f"{name}: {len(guesses)} guesses{result}{left_out}"
    ax.set_title(title, parse_math=False, wrap=True)
    return figure


def _label(value: Guess) -> str:
    """A guess as a line of a figure, whatever a student's file holds."""
    text = value if isinstance(value, str) else f"{value:g}"
    line = " ".join(text[:1000].encode(errors="replace").decode().split())[:60]
    return line.replace("$", r"\$")  # matplotlib would read a formula between two


def _number(text: Guess) -> float:
    try:
        return float(text)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a number; write it as 2.5 or -3") from None


def _text(value: Guess) -> str:
    return html.escape(value) if isinstance(value, str) else f"{value:g}"
