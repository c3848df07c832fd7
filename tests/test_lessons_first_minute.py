"""Notebook 00's first picture shows a run that anybody can make again."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.collapse import count_responses
from rlhf_lab.language import decode
from rlhf_lab.lessons.first_minute import AFTER, BEFORE, ITERATIONS, SEED, FirstMinute, alt, draw

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "00_start_here.ipynb"


def test_its_words_and_numbers_are_those_of_the_run():
    world = load_world()
    trainer = Trainer(world, PPOConfig(eta=0.0, beta=0.0, seed=SEED, dtype="float64"))
    for iteration in range(1, ITERATIONS + 1):
        stats, batch = trainer.step(), trainer.rollout
        moment = {1: BEFORE, ITERATIONS: AFTER}.get(iteration)
        if moment:
            said = decode(count_responses(batch.responses, batch.mask)[0][0])
            assert (said, stats.score) == (moment.says, pytest.approx(moment.score, abs=5e-4))


def test_the_notebook_shows_it_before_anything_else_and_trains_the_same_run():
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert "FirstMinute()" in "".join(cells[1]["source"])
    shown = cells[1]["outputs"][0]["data"]
    assert "".join(shown["text/html"]) == FirstMinute()._repr_mimebundle_()["text/html"]
    code = "".join("".join(cell["source"]) for cell in cells)
    assert re.search(rf"eta=0\.0, beta=0\.0, seed={SEED}\b", code)
    assert f"range({ITERATIONS})" in code


@pytest.mark.parametrize("narrow", [False, True])
def test_the_sentence_is_the_largest_text(narrow):
    texts = ElementTree.fromstring(draw(narrow)).findall(".//{http://www.w3.org/2000/svg}text")
    sizes = {"".join(t.itertext()): float(t.get("font-size")) for t in texts}
    largest = {text for text, size in sizes.items() if size == max(sizes.values())}
    assert " ".join(largest).count("great") >= 3
    assert min(sizes.values()) >= 15
    assert max(sizes.values()) >= (34 if narrow else 50)


def test_its_words_say_the_same():
    for part in ("“great .”", "“great great great great great”", "−0.1", "+1.7"):
        assert part in alt()


def test_it_gives_no_guess_away():
    assert "reader" not in alt() + draw()
    assert "−2.0" not in alt() + draw()
