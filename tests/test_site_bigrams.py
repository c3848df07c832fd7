"""A question is split as the index is, so that what stands on a page is found."""

import json

import pytest
from py_mini_racer import MiniRacer
from scripts import load

pytest.importorskip("sphinx")
bigrams = load("site/bigrams.py")

TEXTS = {
    "奖励模型 r(x, y)：熵": ["奖励", "励模", "模型", "r", "x", "y", "熵"],
    "KL散度、PPO_2": ["KL", "散度", "PPO_2"],
    "the π_SFT of 402,234": ["the", "π_SFT", "of", "402", "234"],
    "": [],
}


@pytest.mark.parametrize("text", TEXTS)
def test_index_and_question_are_split_alike(text):
    browser = MiniRacer()
    browser.eval(bigrams.SearchChinese.js_splitter_code)
    asked = json.loads(browser.eval(f"JSON.stringify(splitQuery({json.dumps(text)}))"))
    assert asked == bigrams.SearchChinese({}).split(text) == TEXTS[text]
