"""Prediction boxes: commit a guess before you run on, and see it beside the answer afterwards.

Guesses are kept in `predictions.json` beside the notebook, so that a restart loses none of them. A
teacher collects the students' files; `rlhf_lab.classroom.report` makes a page of them.
"""

import contextlib
import html
import json
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from rlhf_lab.files import locked, write_whole
from rlhf_lab.lessons.answers import ANSWERS
from rlhf_lab.translation import tr

FILE = "predictions.json"
MOST_BYTES, LARGEST = 1_000_000, 1e12
"""A larger file or number is none of ours."""
Guess = float | str


class _Readable:
    """A widget that is text and plain HTML where no kernel runs, as on GitHub."""

    _ipython_display_ = None  # that of ipywidgets 7, which Colab has, would keep our words back
    model_id: str

    def _static(self) -> tuple[str, str]:
        """Text and HTML: never the guess, so that what a notebook keeps is the same for all."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        text, static = self._static()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": static,
            "text/plain": text,
        }


class Prediction(_Readable, widgets.VBox):  # type: ignore[misc]
    """A question that takes one guess; a number between `low` and `high`, or one of `choices`.

    Args:
        name: of the question, unique in the course: "03_peak".
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
        self.name, self.question, self.file = name, question, Path(folder) / FILE
        self.choices, self.low, self.high = tuple(choices), low, high
        self.result: Guess | None = None
        self.control = self._control()
        self.button = widgets.Button(description=tr("Commit"), tooltip=tr("Keep this guess"))
        self.button.on_click(self._commit)
        self._closed = self._entered = False
        self.text = widgets.HTML().add_class("rlhf-said")
        title = widgets.HTML(f"{_STYLE}<div>{_asked(question)}</div>")
        row = widgets.HBox([self.control, self.button]).add_class("rlhf-answer")
        super().__init__([title, row, self.text])
        self.add_class("rlhf-prediction")
        if (guess := self.guess) is not None:
            self._show(guess)

    def _control(self) -> widgets.Widget:
        if self.choices:
            control = widgets.RadioButtons(options=self.choices, value=None)
        else:
            # Empty at first: a number that stands there already would be committed unread.
            control = widgets.Text(
                placeholder=_range("{low} to {high}", self.low, self.high),
                continuous_update=False,  # else the click on Commit may overtake the last digits
            )
            control.on_msg(self._enter)
        control.observe(self._changed, "value")
        return control

    def __repr__(self) -> str:
        return f"Prediction({self.name!r})"

    def _static(self) -> tuple[str, str]:
        options = self.choices or (_range("a number from {low} to {high}", self.low, self.high),)
        said = [] if self.result is None else [tr("Answer: {x}", x=_text(self.result))]
        lines = [f"{tr('Predict.')} {self.question}", *(f"- {option}" for option in options), *said]
        items = "".join(f"<li>{html.escape(option)}</li>" for option in options)
        static = f"<p>{_asked(self.question)}</p><ul>{items}</ul>"
        static += "".join(f"<p><b>{html.escape(line)}</b></p>" for line in said)
        return "\n".join(lines), static

    @property
    def guess(self) -> Guess | None:
        """What was committed, if anything was: a number, or one of the choices."""
        kept = read_guesses(self.file).get(self.name)
        return None if kept is None else _meaning(kept, kept["guess"], self.choices)

    def commit(self, guess: Guess) -> None:
        """Keep a guess; what the button does. The first one counts: a later one is refused.

        Raises:
            ValueError: a guess is kept already, or this is none of the answers.
        """
        entry: dict[str, Any] = {"question": self.question}
        if self.low is None or self.high is None:
            if guess not in self.choices:
                raise ValueError(f"choose one of {self.choices}")
            entry |= {"choices": [*self.choices], "guess": self.choices.index(str(guess))}
        else:
            guess = _number(guess, self.low, self.high)
            entry |= {"low": self.low, "high": self.high, "guess": guess}
        with _guesses(self.file) as guesses:
            if self.name in guesses:
                kept = guesses[self.name]
                said = _text(_meaning(kept, kept["guess"], self.choices))
                raise ValueError(tr("you committed “{x}” already; that one counts", x=said))
            guesses[self.name] = entry
        self._show(guess)

    def reveal(self, result: Guess | None = None) -> "Revealed":
        """Show the answer beside the guess; make it the last expression of a cell.

        Args:
            result: the number, or the choice, that the notebook has computed. None takes the
                choice that `lessons.answers` holds, so that no notebook needs to say it.

        Raises:
            ValueError: there is no such choice, or nobody knows the answer.
        """
        self.result = answer = self._answer(result)
        guess = self.guess
        if guess is None:
            self._close()  # to know the answer is not to predict it
            self.text.value = tr("The answer came first: there is no guess.")
            return Revealed(self, answer, None)
        with _guesses(self.file) as guesses:
            kept = guesses[self.name]
            if "choices" not in kept:
                if isinstance(answer, float) or "low" not in kept:
                    kept["result"] = answer
            elif len(kept["choices"]) == len(self.choices):  # else the question has changed since
                kept["result"] = self.choices.index(str(answer))
        self.text.value = tr("You guessed <b>{x}</b>.", x=html.escape(_text(guess)))
        return Revealed(self, answer, guess)

    def _answer(self, result: Guess | None) -> Guess:
        if result is None:
            index = ANSWERS[self.name].right if self.name in ANSWERS else None
            if not self.choices or index is None:
                raise ValueError(f"reveal of {self.name!r} needs the result: no table holds it")
            return self.choices[index]
        if not self.choices:
            return float(result)
        if result not in self.choices:
            result = tr(str(result))  # a name that the package knows in English
        if result not in self.choices:
            raise ValueError(f"{result!r} is none of the choices of {self.name!r}: {self.choices}")
        return result

    def _changed(self, _: object) -> None:
        if self._closed:
            return
        self.text.value = ""  # what was said about the old answer
        if self._entered:
            self._commit_entered()

    def _enter(self, _: object, content: dict[str, Any], __: object) -> None:
        """Enter was pressed. The page says so first and sends what was typed afterwards, if it
        has changed; so wait for it, and take what is there if nothing comes."""
        if content.get("event") == "submit":
            self._entered = True
            waiting = threading.Timer(0.3, self._commit_entered)
            waiting.daemon = True
            waiting.start()

    def _commit_entered(self) -> None:
        if self._entered:
            self._entered = False
            self._commit(None)

    def _commit(self, _: object) -> None:
        if self._closed:
            return
        try:
            if self.control.value in (None, ""):
                raise ValueError(tr("Answer first."))
            self.commit(self.control.value)
        except (ValueError, OSError) as error:  # Jupyter shows what a callback raises to nobody
            self.text.value = f"<span class=rlhf-error>⚠ {html.escape(str(error))}</span>"

    def _close(self) -> None:
        # The button stays enabled: disabled, it would throw the focus out of the notebook.
        self.control.disabled = self._closed = True
        self.add_class("rlhf-closed")

    def _show(self, guess: Guess) -> None:
        self._close()
        self.button.description, self.button.tooltip = tr("✓ Committed"), tr("This guess is kept")
        if isinstance(self.control, widgets.Text):
            self.control.value = _text(guess)
        elif guess in self.choices:  # else the question has changed since
            self.control.value = guess
        said = html.escape(_text(guess))
        self.text.value = tr("You guessed <b>{x}</b>. Run on to see.", x=said)


def _asked(question: str) -> str:
    return f"<b>{tr('Predict.')}</b> {html.escape(question)}"


class Revealed(_Readable, widgets.HTML):  # type: ignore[misc]
    """The strip that `Prediction.reveal` shows: the choices or a number line, with both marks."""

    def __init__(self, box: Prediction, answer: Guess, guess: Guess | None) -> None:
        self._question, self._answer, self._lead = box.question, _text(answer), tr("Answer.")
        note = "" if guess is not None else tr(" (you did not commit a guess)")
        if isinstance(guess, str) and guess not in box.choices:
            note = tr(" (you guessed “{x}”; the question has changed since)", x=guess)
        if box.low is None or box.high is None:
            marks = _choices(box.choices, answer, guess)
        else:
            marks = _number_line(box.low, box.high, float(answer), guess)
        lead = f"<b>{tr('Answer')}</b>{html.escape(note)}"
        super().__init__(f"{_STYLE}<div class=rlhf-strip><span>{lead}</span>{marks}</div>")
        self.add_class("rlhf-reveal")

    def __repr__(self) -> str:
        return f"{self._lead} {self._question} → {self._answer}"

    def _static(self) -> tuple[str, str]:
        question, answer = html.escape(self._question), html.escape(self._answer)
        return repr(self), f"<p><b>{self._lead}</b> {question} → <b>{answer}</b></p>"


_MARKS = {
    (True, True): "answer and your guess",
    (True, False): "answer",
    (False, True): "your guess",
    (False, False): "",
}
"""The word beside a choice: is it the answer, is it the guess?"""


def _choices(choices: Sequence[str], answer: Guess, guess: Guess | None) -> str:
    """The choices in their order; the right one and the guessed one have a sign and a word."""
    chips = []
    for choice in choices:
        says = _MARKS[choice == answer, choice == guess]
        small = f" <small>{tr(says)}</small>" if says else ""
        kind = "rlhf-right" if choice == answer else "rlhf-guessed" if choice == guess else ""
        sign = {"rlhf-right": "✓ ", "rlhf-guessed": "○ "}.get(kind, "")
        chips.append(f"<span class='rlhf-chip {kind}'>{sign}{html.escape(choice)}{small}</span>")
    return "".join(chips)


def _number_line(low: float, high: float, answer: float, guess: Guess | None) -> str:
    """A line from low to high; the guess is a ring with its number above, the answer a diamond
    with its number below, so that no label can touch another."""

    def mark(value: float, kind: str, word: str) -> str:
        left = min(max(100 * (value - low) / (high - low), 0), 100)
        # The label moves along its own width, so that it never leaves the line's ends.
        label = f"<span style='left: {left:.2f}%; transform: translateX(-{left:.2f}%)'>"
        return (
            f"<div class={kind}><i style='left: {left:.2f}%'></i>"
            f"{label}{word} <b>{_text(value)}</b></span></div>"
        )

    marks = mark(answer, "rlhf-right", tr("answer"))
    if isinstance(guess, float | int):
        marks = mark(float(guess), "rlhf-guessed", tr("your guess")) + marks
    return (
        f"<span class=rlhf-line><span>{_text(low)}</span><span class=rlhf-track>{marks}</span>"
        f"<span>{_text(high)}</span></span>"
    )


_STYLE = """<style>
.rlhf-prediction { padding: 4px 0; }
.rlhf-prediction .widget-html, .rlhf-prediction .widget-html-content,
.rlhf-reveal, .rlhf-reveal .widget-html-content { height: auto; line-height: 1.4;
  color: var(--jp-content-font-color1, inherit); }
.rlhf-prediction .rlhf-answer { flex-flow: row wrap; align-items: flex-end; gap: 6px 20px; }
.rlhf-prediction .widget-text { width: 140px; }
.rlhf-prediction .widget-radio { width: auto; max-width: 100%; }
.rlhf-prediction .widget-radio-box { height: auto; gap: 4px; margin-bottom: 0; max-width: 100%; }
.rlhf-prediction .widget-radio-box label { display: flex; flex-flow: row-reverse;
  justify-content: flex-end; gap: 6px; height: auto; margin: 0;
  line-height: 20px; white-space: normal; font-size: inherit; }
.rlhf-prediction .widget-radio-box input { flex: none; height: 20px; margin: 0; }
.rlhf-prediction button { margin: 2px 0; width: auto; }
.rlhf-closed button, .rlhf-closed button:hover { background: transparent; box-shadow: none;
  border: 1px solid var(--jp-border-color1, #999); color: inherit; cursor: default; }
.rlhf-prediction .rlhf-error { border-left: 4px solid #D55E00; padding-left: 8px; }
.rlhf-strip { display: flex; flex-flow: row wrap; align-items: center; gap: 6px 12px;
  border-left: 4px solid #009E73; padding: 4px 10px; }
.rlhf-chip { border: 1px dashed var(--jp-border-color1, #999); border-radius: 12px;
  padding: 1px 10px; }
.rlhf-chip small, .rlhf-track span { font-size: 85%; }
.rlhf-chip.rlhf-right { border: 2px solid #009E73; font-weight: bold; }
.rlhf-chip.rlhf-guessed { border: 2px dotted currentColor; }
.rlhf-line { display: flex; flex: 1 1 260px; max-width: 620px; align-items: center; gap: 10px; }
.rlhf-track { position: relative; flex: 1; height: 56px; white-space: nowrap;
  background: linear-gradient(currentColor, currentColor) center / 100% 1px no-repeat; }
.rlhf-track i { position: absolute; top: 50%; width: 10px; height: 10px; box-sizing: border-box;
  border: 2px solid currentColor; background: var(--jp-layout-color0, #fff); }
.rlhf-track .rlhf-guessed i { border-radius: 50%; width: 16px; height: 16px;
  margin: -8px 0 0 -8px; }
.rlhf-track .rlhf-right i { background: #009E73; transform: rotate(45deg);
  margin: -5px 0 0 -5px; }
.rlhf-track span { position: absolute; }
.rlhf-track .rlhf-guessed span { top: 0; }
.rlhf-track .rlhf-right span { bottom: 0; }
</style>"""


def read_guesses(file: str | Path) -> dict[str, dict[str, Any]]:
    """All guesses of one student, by the name of the question; {} if there is no such file.

    An entry is one of these, "result" once it was revealed:

    - {"question": str, "choices": [str, …], "guess": int, "result": int}, indices of choices;
    - {"question": str, "low": number, "high": number, "guess": number, "result": number};
    - {"guess": …, "result": …} with a number or a choice each, as files were before.

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


def _is_entry(kept: dict[str, Any]) -> bool:
    """Is this what is kept of one question: a guess, and a result or none?"""
    values = {key: value for key, value in kept.items() if key in ("guess", "result")}
    about = {key: value for key, value in kept.items() if key not in values}
    if "guess" not in values:
        return False
    if not about:
        return all(isinstance(x, str) or _is_number(x) for x in values.values())
    if not isinstance(about.get("question"), str):
        return False
    if about.keys() == {"question", "choices"}:
        choices = about["choices"]
        return (
            isinstance(choices, list)
            and all(isinstance(choice, str) for choice in choices)
            and all(type(x) is int and 0 <= x < len(choices) for x in values.values())
        )
    return (
        about.keys() == {"question", "low", "high"}
        and all(_is_number(x) for x in (about["low"], about["high"], *values.values()))
        and bool(about["low"] <= values["guess"] <= about["high"])
    )


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= LARGEST  # NaN is not


def _meaning(kept: dict[str, Any], value: Guess, choices: Sequence[str]) -> Guess:
    """A guess as a number or as the words of a choice, those of the present question if it has as
    many: they may be of another language."""
    if "choices" not in kept:
        return value
    same = len(choices) == len(kept["choices"])
    return str((choices if same else kept["choices"])[int(value)])


@contextlib.contextmanager
def _guesses(file: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """What is kept, to be changed; nobody else writes meanwhile, and all of it is kept or none."""
    with locked(file, wait=10):
        guesses = read_guesses(file)
        yield guesses
        write_whole(file, json.dumps(guesses, indent=1, ensure_ascii=False).encode())


def _number(text: Guess, low: float, high: float) -> float:
    """What somebody typed: "2.5", "2,5", "2。5", "−3"; "60%" where the range is one of shares."""
    plain = unicodedata.normalize("NFKC", str(text)).strip().replace("−", "-")
    percent = plain.endswith("%")
    if percent and (low < 0 or high not in (1, 100)):
        raise ValueError(_range("this is no share: write a number from {low} to {high}", low, high))
    try:
        number = float(re.sub("[,。]", ".", plain.removesuffix("%")))
    except (ValueError, OverflowError):
        says = tr("“{text}” is not a number; write it as 2.5 or −3", text=text)
        raise ValueError(says) from None
    number = number / 100 if percent and high == 1 else number
    if not low <= number <= high:
        raise ValueError(_range("{x} is not between {low} and {high}", low, high, x=_text(number)))
    return number


def _range(message: str, low: float | None, high: float | None, **values: str) -> str:
    """A sentence with both limits of a number."""
    return tr(message, low=_text(low), high=_text(high), **values)


def _text(value: Guess | None) -> str:
    """As readers see it: words, or a number with a real minus sign."""
    return value if isinstance(value, str) else f"{value:g}".replace("-", "−")
