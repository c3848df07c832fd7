"""Each lesson tells one true story, short, in a box of its own, with its source."""

import json
import re
from pathlib import Path

import pytest

LESSONS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.ipynb"))
STORY = re.compile(r"\A> \*\*A true story\.\*\* (.+)\Z", re.S)


def stories(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    return [found[1] for text in texts if (found := STORY.match(text))]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_one_story_of_at_most_80_words_with_its_source(path):
    (story,) = stories(path)
    words = re.sub(r"\]\([^)]*\)", "", story).split()
    assert len(words) <= 80
    assert re.search(r"\(.*\[[^\]]+\]\(https://\S+\).*\)\Z", story)


def test_no_story_is_told_twice():
    sources = [
        set(re.findall(r"\]\((https://\S+?)\)", story)) for p in LESSONS for story in stories(p)
    ]
    assert sum(map(len, sources)) == len(set.union(*sources))
