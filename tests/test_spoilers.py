"""No guess is spoiled: nothing in sight between a question and its reveal gives the answer away.

In sight are the names of variables, all sources (also collapsed ones: a click opens them, and pages
on the web show them), markdown, and the committed outputs with their alternative texts. The cell
that reveals is in sight with its source; what it prints comes together with the answer. The name
of a question ("03_peak") does not count: students' files hold it, so it cannot change.

What counts as giving the answer away:

- a literal in `reveal(…)`, any `assert`, and any picture, but for those of MAY_SHOW;
- the words of the right choice in their order, if the same cell names no other choice: a list of
  all cases tells nothing;
- a number that is the answer, when the more exact of the two is rounded like the other, and no more
  than a tenth of it away; also as a share or in per cent. Small whole numbers, up to 12, occur
  everywhere, in settings and headings. So they count only in a line that shares a word of five
  letters or more with the question, as does a whole number for an answer with decimals; and for a
  small whole answer no number with decimals counts;
- what TELLING holds: other words for the answer, by the name of the question.
"""

import ast
import copy
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from rlhf_lab.lessons.answers import ANSWERS

NOTEBOOKS = {
    path.stem[:2]: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
}
MAY_SHOW = {"10_silent", "10_better"}
"""Their pictures show single exhibits, and the answer is a number of exhibits."""
TELLING = {
    "00_different": "collapse|handful|nearly every",
    "00_reader": "leaves|falls|below zero|salad|hack",
    "00_leash": "more than one thing",
    "01_first_token": "whole score|all of it",
    "01_constant": "shorter|fewer|fall",
    "02_agree": "better than its teacher|average out",
    "02_triple": "longer|grow|farther|three times as",
    "02_random_words": "coin|half",
    "03_peak": "lower|rarer",
    "03_clip": "rises|tie|hardly ever",
    "03_best_of_4096": "turns|trick",
    "04_kl": "sevenfold|ceiling",
    "04_spread": "same total|equal|constant|none",
    "04_gap": "nearly all|most of",
    "05_spread": "by far",
    "06_home": "runs? away|comes? home|alone|does not move|frozen",
    "06_scale": "erase|same policy|no further",
    "07_sampled": "no push|cancel|worth nothing",
    "07_flatter": "lower|from above|fall",
    "07_empty": "every review",
    "07_alone": "salad|stays",
    "07_border": "larger|still collapse|part company",
    "08_ties": "rich|for ever|grow",
    "08_luck": "one dies|coin|nearly all",
    "08_clip": "higher|clip-higher|sides",
    "08_late": "sense|leash|salad",
    "09_loss": "zero|mean advantage",
    "09_batch": "halve|half",
    "10_strongest": "exact gradient|strongest is",
    "11_mean": "baseline, and|is a factor|same in all directions",
    "11_hundred": "does not know|lost|nothing is left",
    "11_sampled": "plateau|explor|stays? at|hold the run",
    "11_length": "cheaper|pays less|grow",
    "11_clip": "every ratio is|no clip|cannot act|equal",
    "12_direct": "arrives|log-ratio",
    "12_sharp": "β/s|half the leash|sharper",
    "12_certain": "only a speed|for ever|no leash|all of them end",
    "12_chosen": "falls|below|negative",
    "12_few": "runs? away|early|leash",
}
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip


class Guess(NamedTuple):
    """A question, and what stands between it and its answer: (where, kind, text) of each piece."""

    name: str
    question: str
    choices: list[str]
    limits: tuple[float, float] | None
    answer: str
    pieces: list[tuple[str, str, str]]


def text(lines):
    return "".join(lines)


def asked(source):
    """The variable and the arguments of the `Prediction` of a cell, or None."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            call = node.value
            if getattr(call.func, "id", "") == "Prediction":
                named = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
                return node.targets[0].id, [ast.literal_eval(a) for a in call.args], named
    return None


def shown(cell):
    """What the outputs of a cell say in words; a picture says at least that it is one."""
    for output in cell["outputs"]:
        yield "output", text(output.get("text", ""))
        for kind, data in output.get("data", {}).items():
            if kind.startswith("image/"):
                yield "picture", output["metadata"].get(kind, {}).get("alt", "")
            else:
                yield "output", text(data)


def pieces(cells, first, last, variable):
    yield f"[{first}]", "name", variable
    for at in range(first + 1, last + 1):
        kind = "markdown" if cells[at]["cell_type"] == "markdown" else "source"
        yield f"[{at}]", kind, text(cells[at]["source"])
        if kind == "source" and at < last:
            yield from ((f"[{at}]", *output) for output in shown(cells[at]))


def guesses(notebook):
    cells = notebook["cells"]
    code = {at: text(c["source"]) for at, c in enumerate(cells) if c["cell_type"] == "code"}
    for first, source in code.items():
        if not (found := asked(source)):
            continue
        variable, (name, question), named = found
        (last,) = (at for at in code if f"{variable}.reveal(" in code[at])
        said = [words for _, words in shown(cells[last]) if words.startswith("Answer. ")]
        answer = said[0].rpartition(" → ")[2]
        limits = (named["low"], named["high"]) if "low" in named else None
        between = list(pieces(cells, first, last, variable))
        yield Guess(name, question, named.get("choices", []), limits, answer, between)


def words(line):
    return " ".join(re.findall(r"[^\W_]+", line.lower()))


def says(line, phrase):
    return f" {words(phrase)} " in f" {words(line)} "


def value(number):
    return float(number.replace("−", "-").replace(",", ""))


def decimals(number):
    return len(number.partition(".")[2])


def numbers(line):
    """The numbers of a line, as they stand there; words for small ones, too."""
    yield from re.findall(r"(?<![\w.])[−-]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w.]*\d)", line)
    yield from (str(NUMBERS.index(word)) for word in words(line).split() if word in NUMBERS)


def same(number, answer, factor=1.0):
    few, right = min(decimals(number), decimals(answer)), factor * value(answer)
    near = abs(value(number) - right) <= abs(right) / 10
    return near and round(value(number), few) == round(right, few)


def names_number(guess, line):
    """The first number of a line that gives a numerical answer away, or None."""
    related = {w for w in words(guess.question).split() if len(w) > 4} & {*words(line).split()}
    for number in numbers(line):
        whole = "." not in number
        everywhere = whole and (abs(value(number)) <= 12 or "." in guess.answer)
        small = abs(value(guess.answer)) <= 12 and "." not in guess.answer
        if (everywhere and not related) or (small and not whole):
            continue
        if same(number, guess.answer):
            return number
        high = guess.limits[1] if guess.limits else None
        if high == 100 and not whole and same(number, f"{value(guess.answer) / 100:.2f}"):
            return number
        if high == 1 and f"{number}%" in line and same(number, guess.answer, 100):
            return number
    return None


def is_number(phrase):
    return re.fullmatch(r"[−-]?[\d.,]+", phrase) is not None


def spoilers(guess):
    """All that gives an answer away, in words."""
    for where, kind, piece in guess.pieces:
        plain = re.sub(rf"Prediction\((.|\n)*?\n\)|\"{guess.name}\"", "", piece)
        if kind == "picture" and guess.name not in MAY_SHOW:
            yield f"{where} shows a picture"
        if kind == "source" and re.search(r"^\s*assert\b", piece, re.M):
            yield f"{where} asserts something"
        if telling := re.search(TELLING.get(guess.name, "(?!)"), plain.lower()):
            yield f"{where} {kind} says {telling[0]!r}"
        if is_number(guess.answer):
            for line in plain.splitlines():
                if found := names_number(guess, line):
                    yield f"{where} {kind} names {found}: {line.strip()[:80]}"
        elif says(plain, guess.answer) and not any(
            says(plain, other) for other in guess.choices if other != guess.answer
        ):
            yield f"{where} {kind} says {guess.answer!r}"
        if kind == "source" and reveals_a_literal(piece):
            yield f"{where} reveals a literal"


def reveals_a_literal(source):
    return any(
        not isinstance(argument, ast.Call | ast.Name | ast.Attribute)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "reveal"
        for argument in node.args
    )


GUESSES = {guess.name: guess for nb in NOTEBOOKS.values() for guess in guesses(nb)}


def test_every_question_has_an_answer_and_every_answer_a_question():
    assert GUESSES.keys() == ANSWERS.keys()
    assert len(GUESSES) == sum(json.dumps(nb).count("= Prediction(") for nb in NOTEBOOKS.values())


@pytest.mark.parametrize("guess", GUESSES.values(), ids=lambda guess: guess.name)
def test_nothing_between_question_and_reveal_gives_the_answer_away(guess):
    assert list(spoilers(guess)) == []


@pytest.mark.parametrize("guess", GUESSES.values(), ids=lambda guess: guess.name)
def test_the_notebook_reveals_what_the_table_says(guess):
    right = ANSWERS[guess.name].right
    if guess.choices:
        assert guess.answer in guess.choices
        assert right is None or guess.choices[right] == guess.answer
    else:
        assert right is None
        assert guess.limits[0] <= value(guess.answer) <= guess.limits[1]


def plant(name, at, source=None, outputs=None, markdown=None):
    """The question after a change: of the first cell, from its own on, that holds a word; or with
    a new cell of markdown before that."""
    notebook = copy.deepcopy(NOTEBOOKS[name[:2]])
    cells = notebook["cells"]
    own = next(i for i, c in enumerate(cells) if f'"{name}"' in text(c["source"]))
    place = next(i for i in range(own, len(cells)) if at in text(cells[i]["source"]))
    if source:
        cells[place]["source"] = [source(text(cells[place]["source"]))]
    if outputs:
        cells[place]["outputs"] = outputs
    if markdown:
        cells.insert(place, {"cell_type": "markdown", "source": [markdown], "metadata": {}})
    return next(guess for guess in guesses(notebook) if guess.name == name)


def picture(alt):
    return [{"data": {"image/png": "…"}, "metadata": {"image/png": {"alt": alt}}}]


def stream(line):
    return [{"output_type": "stream", "text": [line]}]


PLANTED = {
    "a literal": ("06_home", "reveal", {"source": lambda s: 'home.reveal("kl alone")'}, "literal"),
    "an assert": ("00_different", "Trainer", {"source": lambda s: s + "\nassert x < y"}, "asserts"),
    "an alternative text": (
        "06_home", "flow", {"outputs": picture("abs and mse run away")}, "'run away'",
    ),
    "prose": ("07_flatter", "climb", {"markdown": "The flatter one: it **falls**."}, "it falls"),
    "a printed number": (
        "02_agree", "fit_word", {"outputs": stream("right in 78% of pairs")}, "names 78",
    ),
    "a rounded number": ("04_kl", "for eta", {"source": lambda s: s + "  # 1.9 nats"}, "1.9"),
    "a share": ("02_agree", "fit_word", {"outputs": stream("agrees: 0.78")}, "0.78"),
    "a number in words": (
        "00_different", "Trainer", {"markdown": "Five different reviews are left."}, "names 5",
    ),
    "a title": ("03_peak", "many", {"source": lambda s: s + "\nset_title('a lower η')"}, "'lower'"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "at", "change", "found"), PLANTED.values(), ids=PLANTED)
def test_a_planted_spoiler_is_found(name, at, change, found):
    found_all = list(spoilers(plant(name, at, **change)))
    assert any(found in spoiler for spoiler in found_all), found_all


def test_a_telling_variable_is_found():
    notebook = json.loads(json.dumps(NOTEBOOKS["09"]).replace("first_loss", "zero"))
    guess = next(guess for guess in guesses(notebook) if guess.name == "09_loss")
    assert any("name says 'zero'" in spoiler for spoiler in spoilers(guess))


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("00_different", "### Exercise (5 minutes)"), ("00_different", "Take 5 seeds."),
        ("08_late", "Either β = 0.5 or η = 0.3."), ("02_agree", "20,078 pairs, seed 7"),
        ("04_kl", "Three steps of 11.89 and −1.89."),
    ],
)  # fmt: skip
def test_no_false_alarm(name, harmless):
    assert list(spoilers(plant(name, "reveal", markdown=harmless))) == []
