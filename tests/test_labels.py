"""Figures speak the reader's language, in a font that has its letters, and without a warning."""

import ast
import importlib.util
import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.text import Text

from rlhf_lab import labels, plots, theme, translation
from rlhf_lab.language import PROMPTS, WORDS
from rlhf_lab.loop_drawing import Loop
from rlhf_lab.svg import themed_svg
from rlhf_lab.translation import set_language, tr

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rlhf_lab"
FONTS = sorted(PACKAGE.glob("locale/*/font.otf"))
WORDS_OF_ZH = {
    "reward model": "奖励模型",
    "careful readers": "细心的读者",
    "mean score": "平均得分",
    "iteration": "迭代",
    "sans-serif": "'PingFang SC', sans-serif",
    "en": "zh-CN",
    "the leash: η · KL": "缰绳：η · KL",
    "H, nats": "熵 H，nat",
}


@pytest.fixture
def zh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Chinese of few words, in the font that ships, and English again at the end."""
    catalogue = Catalog(locale="zh")
    for message, said in WORDS_OF_ZH.items():
        catalogue.add(message, said)
    folder = tmp_path / "zh" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / "rlhf_lab.mo").open("wb") as file:
        write_mo(file, catalogue)
    (tmp_path / "zh" / "page.json").write_text(json.dumps({}), encoding="utf-8")
    monkeypatch.setattr(translation, "_CATALOGUES", tmp_path)
    monkeypatch.setattr(translation, "LANGUAGES", ("en", "zh"))
    set_language("zh")
    yield
    set_language("en")


def figure() -> matplotlib.figure.Figure:
    drawn, (ax,) = plots.new_figure(5, 3)
    plots.score_and_gold(ax, [0, 1, 2], [0.0, 1.0, 1.5], [0.0, 1.0, -1.0], "iteration")
    ax.set_title("H, nats")
    ax.legend(title="mean score")
    return drawn


def said(drawn: matplotlib.figure.Figure) -> set[str]:
    return {text.get_text() for text in drawn.findobj(Text) if text.get_text()}


def test_a_figure_says_its_labels_in_the_language_in_which_it_is_drawn(zh: None) -> None:
    drawn = figure()
    assert "reward model" in said(drawn)
    plots.png(drawn)
    chinese = {"奖励模型", "细心的读者", "平均得分", "迭代", "熵 H，nat"}
    assert chinese <= said(drawn)
    assert not set(WORDS_OF_ZH) & said(drawn)


def test_the_layout_makes_room_for_what_is_said(zh: None) -> None:
    drawn = figure()
    drawn.canvas.draw()
    names = [text for text in drawn.axes[0].texts if text.get_text() in ("奖励模型", "细心的读者")]
    assert len(names) == 2
    assert all(text.get_window_extent().x1 < drawn.bbox.width for text in names)


def test_bold_and_other_letters_come_without_a_word_on_stderr(
    zh: None, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = figure()
    drawn.suptitle("H, nats", weight="bold")
    drawn.axes[0].set_ylabel("得分")  # the notebook says it, not the catalogue
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        themed_svg(drawn)  # it computes the layout before anything is drawn
        plots.png(drawn)
    assert caplog.records == []


def test_english_figures_know_of_no_other_font() -> None:
    drawn = figure()
    before = themed_svg(drawn)
    assert labels.FALLBACK not in before
    assert "lang" not in before
    assert {"reward model", "iteration"} <= said(drawn)


def test_an_svg_asks_for_the_fonts_that_the_catalogue_names(zh: None) -> None:
    text = themed_svg(figure())
    assert "'DejaVu Sans', Verdana, 'PingFang SC', sans-serif" in text
    assert labels.FALLBACK not in text
    assert ' xml:lang="zh-CN"><style>' in text
    loop = Loop("一个分数怎样付给每个 token", "rope").svg(narrow=True)
    assert "缰绳：η · KL" in loop
    assert "'PingFang SC'" in theme.ui()


def test_a_line_of_wide_letters_holds_half_as_many() -> None:
    assert theme.wrapped("one two three", 8) == ["one two", "three"]
    assert theme.wrapped("一个分数怎样付酬", 8) == ["一个分数", "怎样付酬"]


@pytest.mark.parametrize("file", FONTS, ids=lambda file: file.parent.name)
def test_a_font_has_every_character_of_the_catalogues(file: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_font", ROOT / "tools" / "make_font.py")
    make_font = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_font)
    font = TTFont(file)
    missing = make_font.wanted() - set(map(chr, font.getBestCmap()))
    assert missing == set(), "run tools/make_font.py again"
    assert font["name"].getDebugName(1) == make_font.FAMILY == labels.FALLBACK
    assert "Open Font License" in font["name"].getDebugName(13)
    assert file.stat().st_size < 1_000_000
    assert (file.parent / "LICENSE-font").read_text(encoding="utf-8").count("OPEN FONT LICENSE")


@pytest.mark.parametrize("language", translation.LANGUAGES)
def test_no_catalogue_translates_words_of_the_toy_language(language: str) -> None:
    """They are data: a figure with a review as its label must not change it."""
    set_language(language)
    try:
        assert [word for word in (*WORDS, *PROMPTS) if tr(word) != word] == []
    finally:
        set_language("en")


LABEL_CALLS = {"set_title", "set_xlabel", "set_ylabel", "set_label", "suptitle", "text", "annotate"}
LABEL_NAMES = {"title", "xlabel", "ylabel", "label"}


def composed(call: ast.Call) -> Iterator[str]:
    """Labels of a call that are put together with words in them."""
    given = [k.value for k in call.keywords if k.arg in LABEL_NAMES]
    if isinstance(call.func, ast.Attribute) and call.func.attr in LABEL_CALLS:
        given += call.args
    for value in given:
        if isinstance(value, ast.JoinedStr):
            fixed = " ".join(v.value for v in value.values if isinstance(v, ast.Constant))
            if re.search(r"[a-z]{2}", fixed):
                yield ast.unparse(value)


@pytest.mark.parametrize("folder", ["lessons", "ui", "."])
def test_no_label_is_composed_without_tr(folder: str) -> None:
    files = (PACKAGE / folder).glob("*.py") if folder == "." else (PACKAGE / folder).rglob("*.py")
    found = {
        f"{file.name}:{node.lineno}": label
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        for label in composed(node)
    }
    assert found == {}


def test_the_font_is_registered_once_and_only_when_it_is_needed(zh: None) -> None:
    plots.png(figure())
    plots.png(figure())
    ours = [font for font in font_manager.fontManager.ttflist if font.name == labels.FALLBACK]
    assert [font.weight for font in ours] == [400, 700]
    assert labels.FALLBACK not in str(matplotlib.rcParams["font.family"])
