"""Everything that Python says can be said in another language, and nothing but words changes.

The other language here is English between marks, so that what no catalogue has been asked for
shows. It stands in the place of Chinese: notebooks of that language are laid out beside it.
"""

import json
import re
from collections import Counter

import nbformat
import pytest
from scripts import ROOT, load

from rlhf_lab import doctor, translation
from rlhf_lab.__main__ import main as command
from rlhf_lab.classroom import concept, handout, key, materials, questions, sandbox, slides
from rlhf_lab.classroom.__main__ import main as teach
from rlhf_lab.classroom.copies import MARK
from rlhf_lab.classroom.report import report
from rlhf_lab.exercises import EXERCISES, check, verdict_on
from rlhf_lab.exercises.exercise import Choice
from rlhf_lab.translation import set_language, tr
from rlhf_lab.ui.predict import FILE, Prediction, read_guesses

catalogue = load("tools/catalogue.py")
edition = load("tools/edition.py")


def marked(message):
    return f"⟦{message}⟧"


@pytest.fixture(scope="module")
def catalogues(tmp_path_factory):
    """A folder like `rlhf_lab/locale`, with every message of the package between marks."""
    folder = tmp_path_factory.mktemp("locale")
    (folder / "zh" / "LC_MESSAGES").mkdir(parents=True)
    pairs = {message.id: marked(message.id) for message in catalogue.template() if message.id}
    pairs |= {heading: marked(heading) for heading, _ in catalogue.headings("zh")}
    machine = catalogue._machine_readable(pairs)
    (folder / "zh" / "LC_MESSAGES" / "rlhf_lab.mo").write_bytes(machine)
    return folder


@pytest.fixture
def speak(catalogues, monkeypatch):
    """`set_language`, with the marked language in the place of Chinese; English at the end."""
    monkeypatch.setattr(translation, "_CATALOGUES", catalogues)
    monkeypatch.setattr(translation, "LANGUAGES", ("en", "zh"))
    yield set_language
    set_language("en")


def verdicts(exercise):
    if isinstance(exercise, Choice):
        attempts = [exercise.answer, None, "z", *(m.wrong for m in exercise.mistakes)]
    else:
        attempts = [
            exercise.reference, *(m.wrong for m in exercise.mistakes), lambda *_: None,
            lambda *_: 1 / 0, lambda *_: 3.0, lambda *x: x[0], lambda *_: (1, 2, 3),
        ]  # fmt: skip
    return [verdict_on(attempt, exercise) for attempt in attempts]


def plain(text):
    return text.replace("⟦", "").replace("⟧", "")


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_a_verdict_differs_in_words_alone(exercise, speak):
    """And every line of it is in the language."""
    english = verdicts(exercise)
    speak("zh")
    for before, after in zip(english, verdicts(exercise), strict=True):
        assert (after.status, after.mistake) == (before.status, before.mistake)
        # The widths of columns fit to what stands in them.
        assert plain(after.text).split() == before.text.split()
        assert outside_marks(after.text).strip() == "", after.text
        if before.text.startswith("Not yet. On"):
            assert re.match(r"⟦Not yet. On ⟦[^⟧]+⟧: ⟦", after.text), "no value is left in English"


def outside_marks(text):
    inner = None
    while inner != text:
        inner, text = text, re.sub(r"⟦[^⟦⟧]*⟧", "", text)
    return text


def test_a_reader_is_sent_to_a_heading_of_her_notebook(speak):
    speak("zh")
    said = check(EXERCISES["compute_rewards"].mistakes[0].wrong, "compute_rewards").text
    assert "06_compute_rewards: ⟦What TRL does, in four lines⟧" in said
    assert check(EXERCISES["compute_rewards"].reference, "compute_rewards").text.endswith(
        "exercises of this notebook are done.⟧"
    )


def answered(folder, question, choices, **limits):
    """The file after a guess at a choice and one at a number, each revealed."""
    box = Prediction("t_choice", question, choices=choices, folder=folder)
    box.commit(choices[1])
    box.reveal(choices[0])
    number = Prediction("t_number", question, low=0, high=10, folder=folder)
    number.control.value = "2。5"
    number.button.click()
    shown = (*box._static(), number.text.value, number.reveal(7).value, box.button.description)
    return read_guesses(folder / FILE), " ".join(shown)


def test_what_is_kept_of_a_guess_depends_on_no_language(tmp_path, speak):
    """But for the texts of the question itself, of which nothing is made."""
    for folder in ("en", "zh"):
        (tmp_path / folder).mkdir()
    ours, _ = answered(tmp_path / "en", "Up or down?", ["up", "down"])
    speak("zh")
    theirs, said = answered(tmp_path / "zh", "升还是降？", ["升", "降"])
    for kept in (*ours.values(), *theirs.values()):
        del kept["question"]
    assert ours["t_choice"].pop("choices") == ["up", "down"]
    assert theirs["t_choice"].pop("choices") == ["升", "降"]
    assert ours == theirs
    assert ours["t_number"] == {"low": 0, "high": 10, "guess": 2.5, "result": 7}
    for words in ("Predict.", "Commit", "You guessed", "answer", "your guess"):
        assert f"⟦{words}" in said or f"⟦✓ {words}" in said, said


@pytest.fixture
def course(tmp_path):
    """A course of three notebooks and of the same in the marked language."""
    there = tmp_path / "course" / "notebooks"
    (there / "zh").mkdir(parents=True)
    for stem in ("00_start_here", "03_too_much_of_a_good_reward", "07_entropy_bonus"):
        notebook = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
        nbformat.write(notebook, there / f"{stem}.ipynb")
        for cell in notebook.cells:
            change = edition.words.code if cell.cell_type == "code" else edition.words.markdown
            cell.source = change(cell.source, marked)
        nbformat.write(notebook, there / "zh" / f"{stem}.ipynb")
    return tmp_path / "course"


def test_a_mixed_class_is_counted_together(tmp_path, course, speak):
    """Whatever language the page has, and whatever language each student has seen."""
    english = questions.notebooks(course)
    asked = {q.name: q for n, book in english.items() for q in questions.predictions(n, book)}
    turn = asked["03_peak"]
    for student, (choices, guess) in enumerate(
        [(turn.choices, 0), (["甲", "乙", "丙"], 0), (["甲", "乙", "丙"], 2)]
    ):
        folder = tmp_path / "class" / str(student)
        folder.mkdir(parents=True)
        kept = {"question": "?", "choices": [*choices], "guess": guess}
        (folder / FILE).write_text(json.dumps({"03_peak": kept}), encoding="utf-8")
    one, two, three = turn.choices
    page = report(tmp_path / "class", course).page.decode()
    assert f"{one}: 2; {two}: 0; {three}: 1 (the answer)." in page
    assert '<html lang="en">' in page
    speak("zh")
    page = report(tmp_path / "class", course).page.decode()
    assert f"{marked(one)}: 2; {marked(two)}: 0; {marked(three)}: 1⟦ (the answer)⟧." in page
    assert "⟦3 of 3 students have guessed something.⟧" in page
    assert '<html lang="zh">' in page


def test_a_teachers_papers_have_the_same_parts(course, speak):
    def papers():
        made = {"key": key.key(course), **slides.files(course), **concept.files()}
        return {name: page.decode() for name, page in made.items() if not name.endswith(".zip")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slides, "CLASSES", (("00",), ("03", "07")))
        english = papers()
        speak("zh")
        ours = papers()
    assert ours.keys() == english.keys()
    for name, page in ours.items():
        tags = Counter(re.findall(r"<(?:section|li|ol|h2|h3|div|figure)\b", english[name]))
        assert Counter(re.findall(r"<(?:section|li|ol|h2|h3|div|figure)\b", page)) == tags, name
        assert "⟦" in page
    assert "<h3>⟦Before you start⟧</h3>" in ours["key"]
    assert "⟦Collapse: η = 0.01, β = 0." in ours["key"], "what students find"
    assert "⟦Guess first⟧" in ours["slides-03-07.html"]
    assert "<strong>Commit a guess</strong>" not in ours["slides-03-07.html"], "it says so itself"
    assert "⟦For teachers." in ours["concept-test-key.html"]
    moodle = ours["concept-test-moodle.gift.txt"]
    assert moodle.count("[html]⟦") == moodle.count("####⟦") == len(concept.questions())


def test_the_students_edition_is_that_of_the_language(course, speak):
    english = handout.files(course=course)
    speak("zh")
    ours = handout.files(course=course)
    assert ours.keys() == english.keys()
    assert ours["README.md"].decode().startswith("⟦# How does the reward")
    for name in ours.keys() - {"README.md"}:
        notebook = json.loads(ours[name])
        assert notebook["metadata"].keys() <= {"kernelspec", MARK}, "nothing English comes along"
        assert "⟦" in json.dumps(notebook, ensure_ascii=False)


def test_a_notebook_that_is_not_written_yet_is_named(course, speak):
    (course / "notebooks" / "zh" / "00_start_here.ipynb").unlink()
    speak("zh")
    with pytest.raises(
        ValueError, match=r"00_start_here\.ipynb is missing: run python3 course\.py"
    ):
        questions.notebooks(course)


def test_teachers_name_the_language(speak, tmp_path, monkeypatch):
    monkeypatch.setattr(materials, "files", lambda browser: {"x": tr("Answer key").encode()})
    parser = teach.__globals__["_parser"]
    monkeypatch.setitem(teach.__globals__, "LANGUAGES", ("en", "zh"))
    assert teach(["materials", str(tmp_path / "new"), "--language", "zh"]) == 0
    assert (tmp_path / "new" / "x").read_text(encoding="utf-8") == "⟦Answer key⟧"
    assert parser().parse_args(["key"]).language == "zh", "the language that is spoken already"


def test_what_a_grader_is_told_is_in_the_language(speak):
    speak("zh")
    cells = ["response_mask = 3", "check(mine, 'response_mask')", "def mine(*_): return None"]
    said = sandbox.examine(cells, "response_mask")
    assert said["message"].startswith("⟦check was called with mine.")
    assert sandbox.examine([], "response_mask")["message"].startswith("⟦neither defined")


def test_the_doctor_speaks_and_looks_for_fonts(speak, monkeypatch):
    english = {finding.name for finding in doctor.diagnose()}
    assert "fonts" not in english
    speak("zh")
    for fonts, status in (("", "note"), ("/x/NotoSansCJK.ttc: Noto Sans CJK SC\n", "ok")):
        monkeypatch.setattr(
            doctor.subprocess,
            "run",
            lambda *_, fonts=fonts, **__: type("Ran", (), {"stdout": fonts}),
        )
        found = {finding.name: finding for finding in doctor.diagnose()}
        assert found["⟦fonts⟧"].status == status
        words = [f.text for f in found.values() if not re.fullmatch(r"[\d.+a-z]+", f.text)]
        assert all(text.startswith("⟦") for text in words)
    lines = doctor.report(list(found.values())).splitlines()
    assert lines[-1].startswith("⟦problems: 0")
    assert (
        len({line.index(found[name].text) for line, name in zip(lines, found, strict=False)}) == 1
    )


def test_no_system_without_fontconfig_is_accused(speak, monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError("fc-list")

    speak("zh")
    monkeypatch.setattr(doctor.subprocess, "run", absent)
    assert doctor._fonts()[0] == "ok"


@pytest.mark.parametrize("word", ["train", "sweep"])
def test_the_command_line_explains_itself(word, speak, capsys):
    speak("zh")
    with pytest.raises(SystemExit):
        command(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "⟦The command line:" in said
    assert "⟦train a policy with PPO in review world⟧" in said
    with pytest.raises(SystemExit):
        command([word, "--help"])
    said = capsys.readouterr().out
    options = re.split(r"\n  (?=-)", said)[1:]
    assert len(options) > 10
    assert all("⟦" in option for option in options if "--help" not in option)
    assert "%(" not in said
