"""Explorer and cockpit in a language with other letters: no English is left, no letter is a box."""

import json
import re

import pytest
import static

from rlhf_lab import PPOConfig, load_world
from rlhf_lab.language import PROMPTS, WORDS
from rlhf_lab.ui import Cockpit
from rlhf_lab.ui.charts import front_file

CALL = re.compile(r"""\btr\(\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
KEPT = re.compile(r"\{\w+\}|<[^>]*>|π_\w+")
SAME = {*WORDS, *PROMPTS, "SFT", "score", "gold", "full", "abs", "mse"}
"""What is the same in every language: the toy language, and names of formulas and settings."""
LETTERS = "() => root.innerText + [...root.querySelectorAll('svg text')].map((t) => t.textContent)"


def messages() -> dict[str, str]:
    """Each message of the page, and 中 in place of its words."""
    found = {}
    for name in ("parts.js", "optimum.js", "explorer.js", "cockpit.js"):
        for quoted in CALL.findall(front_file(name)):
            message = json.loads(quoted) if quoted[0] == '"' else quoted[1:-1]
            pieces = KEPT.split(message), [*KEPT.findall(message), ""]
            found[message] = "".join(
                re.sub(r"[A-Za-z]{2,}", "中", words) + kept
                for words, kept in zip(*pieces, strict=True)
            )
    return {**found, "en": "zh-CN"}


SPEAK = f"rlhfParts.speak({json.dumps(messages())})"


def shown(browser, address, then=lambda page: None):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.evaluate("document.documentElement.lang = 'zh-CN'")
    page.wait_for_function("() => root.draws > 0")
    then(page)
    text, fonts = page.evaluate(LETTERS), fonts_of(page, ".chip")
    page.close()
    assert errors == []
    return text, fonts


def fonts_of(page, selector):
    """The fonts that the browser has drawn an element's letters with."""
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    fonts = session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
    return {font["familyName"] for font in fonts}


def english(text):
    return sorted(set(re.findall(r"[A-Za-z]{3,}", text)) - SAME)


@pytest.mark.parametrize("start", [{}, {"eta": 0.0, "beta": 0.0}, {"beta": 1.0}])
def test_the_explorer_says_nothing_in_english(browser, tmp_path, start):
    text, fonts = shown(browser, static.write(tmp_path, before=SPEAK, **start))
    assert "中" in text
    assert english(text) == []
    assert any("CJK" in font or "Sans SC" in font for font in fonts), fonts


def test_the_cockpit_says_nothing_in_english_but_what_python_says(browser, tmp_path):
    cockpit, news = Cockpit(load_world(), PPOConfig(seed=0)), []
    # Python's own words are replaced as they come: after `run` the thread may tell once more.
    cockpit.send = lambda told, *_: news.append({**told, "status": "中", "note": "中"})
    cockpit.run(3)
    cockpit.fork()
    cockpit.set(eta=0.3)
    cockpit.run(2)
    address = static.write_cockpit(tmp_path, news, cockpit.constants, before=SPEAK)
    opened = "() => document.querySelectorAll('details').forEach((one) => { one.open = true; })"
    text, _ = shown(browser, address, lambda page: page.evaluate(opened))
    assert "中" in text
    assert set(english(text)) <= {"runs", "cockpit"}
