"""The Chinese site: what a reader in Wuhan meets, offline."""

import re

import pytest
from test_site import alive, visit  # noqa: F401

CHINESE = re.compile(r"[\u4e00-\u9fff]")


def test_the_front_page_collapses_in_chinese(visit):  # noqa: F811
    page = visit("zh/index.html")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    said = alive(page, "collapse").inner_text()
    assert "缰绳" in said
    assert not re.search(r"\b(?:the|leash|reward model|careful readers)\b", said)


@pytest.mark.parametrize("kind", ["explorer", "cockpit"])
def test_the_live_parts_of_a_notebook_speak_chinese(visit, kind):  # noqa: F811
    page = visit(f"zh/notebooks/{'00_start_here' if kind == 'explorer' else 'cockpit'}.html")
    said = alive(page, kind).inner_text()
    assert CHINESE.search(said)
    assert not re.search(r"\b(?:leash|readers|reward|nats|reviews)\b", said)


def test_each_page_leads_to_the_other_edition_and_back(visit):  # noqa: F811
    page = visit("zh/notebooks/04_the_leash.html")
    page.locator(".course-languages a[lang=en]").click()
    assert page.url.endswith("site/notebooks/04_the_leash.html")
    page.locator(".course-languages a[lang=zh]").click()
    assert page.url.endswith("site/zh/notebooks/04_the_leash.html")
    assert visit("zh/docs/note.html").locator(".course-languages a").count() == 0  # Chinese only


def test_a_guess_comes_before_its_answer_in_chinese_too(visit):  # noqa: F811
    page = visit("zh/notebooks/03_too_much_of_a_good_reward.html")
    assert page.locator(".rlhf-guess").count() >= 2
    questions = page.locator(".rlhf-guess").evaluate_all("all => all.map(e => e.dataset.question)")
    answers = page.locator(".rlhf-answer").evaluate_all("all => all.map(e => e.dataset.question)")
    assert set(questions) == set(answers)


@pytest.mark.parametrize("asked", ["缰绳", "奖励作弊", "KL 散度", "GRPO"])
def test_chinese_words_are_found(visit, asked):  # noqa: F811
    page = visit("zh/search.html", f"?q={asked}")
    page.wait_for_selector("ul.search li a")
    assert page.locator("ul.search li a").count() >= 2
