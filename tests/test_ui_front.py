"""What the page computes is what Python computes: the very files that ship, run by V8."""

import itertools
import json
import math

import front
import pytest

from rlhf_lab import load_world
from rlhf_lab.language import PROMPTS, WORDS
from rlhf_lab.plots import number
from rlhf_lab.report import Metrics
from rlhf_lab.ui.charts import chart, computed_chart, front_file, to_json
from rlhf_lab.ui.explorer_still import share
from rlhf_lab.ui.optima import (
    ETA_POSITIONS,
    KINDS,
    SCORES,
    Point,
    kind,
    optima,
    region,
)
from rlhf_lab.world import response_text

ETAS = (*ETA_POSITIONS[::12], 0.014, 0.045)
BETAS = (0.0, 0.01, 0.1, 0.5, 2.0)


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def scripts(world):
    scripts = front.Scripts("parts.js", "optimum.js", "explorer.js", "cockpit.js")
    for prompt in PROMPTS:
        scripts.tables(prompt, world, prompt)
    scripts.v8.eval(f"var WORDS = {json.dumps(WORDS)}")
    return scripts


def solved(scripts, reference, prompt, score, eta, beta):
    numbers = json.dumps(reference._asdict())
    return scripts.value(
        f"rlhfOptimum.solve({prompt}, {json.dumps(score)}, {eta}, {beta}, {numbers})"
    )


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_page_finds_the_optimum_of_python(scripts, world, prompt, score):
    source, ref = optima(world, prompt, score), world.tables(prompt).ref_logprobs
    for eta, beta in itertools.product(ETAS, BETAS):
        state = source.state(eta, beta, ref)
        page = solved(scripts, source.reference, prompt, score, eta, beta)
        numbers = [page[name] for name in ("score", "gold", "kl", "entropy")]
        assert numbers == pytest.approx(list(state.metrics), abs=5e-6), (eta, beta)
        assert page["distinct"] == pytest.approx(state.distinct, abs=1e-4)
        assert page["kind"] == kind(Point(state.metrics, state.region))
        said = [(response_text(one["index"]), one["p"], one["gold"]) for one in page["said"]]
        assert [text for text, _, _ in said] == [one.text for one in state.responses]
        assert [p for _, p, _ in said] == pytest.approx(
            [one.probability for one in state.responses], rel=1e-5
        )
        assert [gold for _, _, gold in said] == pytest.approx([one.gold for one in state.responses])


def test_the_page_draws_the_borders_between_kinds_where_python_does(scripts):
    reference = Metrics(score=0.1, gold=0.2, kl=0.0, entropy=6.2)
    values = itertools.product(
        (-2.0, -1e-9, 0.0, 1.0), (0.0, 0.199, 0.2, 0.25, 9.0), (0.1, 0.69, 0.7, 6.19, 6.2, 6.21)
    )
    for gold, kl, entropy in values:
        point = Metrics(score=1.0, gold=gold, kl=kl, entropy=entropy)
        page = scripts.value(
            f"rlhfOptimum.kind({json.dumps(point._asdict())}, {json.dumps(reference._asdict())})"
        )
        assert page == kind(Point(point, region(point, reference))), point


def test_the_page_spells_every_response_as_python_does(scripts):
    numbers = [
        0,
        1,
        13,
        14,
        182,
        183,
        2379,
        2380,
        2381,
        2393,
        2394,
        402_233,
        *range(7, 400_000, 9973),
    ]
    texts = scripts.value(f"{numbers}.map((i) => rlhfOptimum.text(i, WORDS))")
    assert texts == [response_text(i) for i in numbers]


def test_numbers_are_written_as_python_writes_them(scripts):
    values = [0.0, -0.001, 1.234, -1.236, 12.3, 0.004, -2.0, 14.24, 1e-9]
    for digits, sign in itertools.product((0, 1, 2), (False, True)):
        page = scripts.value(
            f"{values}.map((x) => rlhfParts.number(x, {digits}, {json.dumps(sign)}))"
        )
        assert page == [number(x, digits, sign=sign) for x in values]
    assert scripts.value("rlhfParts.number(NaN)") == "–"
    shares = [1, 0.307, 0.0996, 0.099, 0.0042, 0.0004, 3e-7, 2e-12, 0]
    assert scripts.value(f"{shares}.map(rlhfParts.share)") == [share(p) for p in shares]
    assert scripts.value("[99.94, 382361.6].map(rlhfParts.count)") == ["99.9", "382,362"]


def test_what_is_rare_is_said_in_plain_words(scripts):
    shares = [1, 0.307, 0.0042, 0.0004, 3e-7, 1.2e-9, 2e-12, 0]
    assert scripts.value(f"{shares}.map(rlhfExplorer.rarely)") == [
        "100%", "31%", "0.4%", *(f"1\u00a0in\u00a0{n}" for n in ("3,000", "3,000,000",
        "800,000,000")), "practically never", "never",
    ]  # fmt: skip


@pytest.mark.parametrize("score", SCORES)
def test_random_draws_are_those_of_the_optimum(scripts, world, score):
    """Of 4000 draws the mean of both scores, within four standard errors."""
    eta, beta, draws = 0.05, 0.3, 4000
    tables = world.tables("food")
    r = tables.golds if score == "gold" else tables.scores
    p = ((eta * tables.ref_logprobs + r) / (eta + beta)).log_softmax(0).exp()
    reference = json.dumps(optima(world, "food", score).reference._asdict())
    found = scripts.value(
        f"rlhfExplorer.sample({{ tables: food }}, rlhfOptimum.solve(food, {json.dumps(score)}, "
        f"{eta}, {beta}, {reference}), {json.dumps(score)}, {draws}, rlhfExplorer.stream(1))"
    )
    for column in (tables.scores, tables.golds, tables.ref_logprobs):
        column = column.to(p.dtype)
        mean = p @ column
        error = ((p @ (column - mean) ** 2) / draws).sqrt()
        assert column[found].mean().item() == pytest.approx(mean.item(), abs=4 * error.item())


@pytest.mark.parametrize("p", [1.0, 0.501, 0.5, 0.26, 0.2, 0.1, 0.07, 0.011, 0.0009, 2e-6])
def test_a_bars_full_width_holds_the_largest_and_wastes_little(scripts, p):
    full = scripts.value(f"rlhfParts.scale({p})")
    assert p <= full < 2.5001 * p
    assert f"{full:.1e}"[:3] in {"1.0", "5.0", "2.5"}


def test_what_is_wrong_with_a_table_is_said_in_words(scripts):
    scripts.array("short", [0.0, 1.0])
    scripts.array("bad", [0.0, math.nan])
    ask = "rlhfOptimum.trouble({}, 'food')".format
    assert scripts.value(ask("food")) == ""
    assert "has no log π_SFT" in scripts.value(ask("undefined"))
    assert "The gold score of review 1 of “food” is not a number" in scripts.value(
        ask("{ ref: short, score: short, gold: bad }")
    )
    assert "not complete" in scripts.value(ask("{ ref: short, score: food_ref, gold: short }"))


@pytest.mark.parametrize(
    ("eta", "beta", "said"),
    [
        (0.0, 0.0, "Nothing holds π*"),
        (0.0, 0.5, "A nat of distance costs nothing, so π* goes <b>13.69</b> nats away and gains"),
        (0.014, 0.0, "costs almost nothing, <b>0.014</b>"),
        (0.1, 0.0, "costs <b>0.1</b>, so π* goes <b>2.67</b> nats away, pays"),
        (5.0, 0.0, "costs much, <b>5</b>"),
        (0.1, 0.1, "β adds"),
    ],
)
def test_the_line_that_changes_says_what_the_numbers_say(scripts, world, eta, beta, said):
    source = optima(world, "food")
    page = json.dumps(solved(scripts, source.reference, "food", "reward model", eta, beta))
    reference = json.dumps(source.reference._asdict())
    text = scripts.value(f"rlhfExplorer.bill({page}, {reference}, 'reward model')")
    assert said in text
    metrics = source.point(eta, beta).metrics
    if eta + beta:
        gained = number(metrics.score - source.reference.score, sign=True)
        assert f'gains <b class="gain">{gained}</b> of score' in text
    if eta:
        assert f'pays <b class="eta">{number(eta * metrics.kl)}</b>' in text


@pytest.mark.parametrize(("eta", "beta"), [(0.0, 0.0), (0.1, 0.0), (5.0, 0.0)])
def test_the_line_names_careful_readers_while_they_are_maximised(scripts, world, eta, beta):
    source = optima(world, "food")
    page = json.dumps(solved(scripts, source.reference, "food", "gold", eta, beta))
    reference = json.dumps(source.reference._asdict())
    text = scripts.value(f"rlhfExplorer.bill({page}, {reference}, 'gold')")
    assert (" of gold score" if eta else "the one review that careful readers like best") in text
    reached = {KINDS[k] for k in optima(world, "food", "gold").kinds().flat}
    assert "collapse" not in reached
    for name in reached:
        reason = scripts.value(f"rlhfExplorer.reasons('gold')[{json.dumps(name)}]")
        assert "reward" not in reason
        assert "overrates" not in reason


RISE = [(0.0, 0.0), (0.3, 0.2), (0.6, 0.8), (1.0, 1.3), (1.3, 1.5), (1.5, 1.7)]
FALL = [*RISE, (1.6, 0.4), (1.8, -1.7)]


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        ([], "Before training: neither likes nor dislikes it yet."),
        (RISE[:1], "Iteration 1: neither likes nor dislikes it yet."),
        (RISE, "Iteration 6: it learns, and both like it more and more."),
        ([*RISE, *RISE[-1:] * 6], "both like it."),
        ([*RISE, (1.2, 0.6)], "Iteration 7: both like it, but less than before."),
        (
            [*RISE, *[(1.5, 2.7)] * 7, *[(1.5, 1.0)] * 7, (1.5, 1.4)],
            "both like it, but less than before.",
        ),
        (FALL[:-1], "Iteration 7: readers turn away, the reward model has not noticed."),
        (FALL, "Iteration 8: readers have turned, the reward model has not noticed."),
        ([*FALL, *FALL[-1:] * 6], "the reward model is pleased, readers are not."),
        ([*FALL, *FALL[-1:] * 6, (1.7, -0.5)], "on its way back, and readers still dislike it."),
        ([*FALL, *FALL[-1:] * 6, (1.7, 1.6)], "it is back, and both like it."),
        ([(-0.5, -0.6)], "both dislike it."),
        ([(0.5, None)], "nobody asks careful readers here."),
    ],
)
def test_the_cockpit_says_what_happens(scripts, judged, said):
    rows = json.dumps([[score, gold, 1.0, 1.0] for score, gold in judged])
    assert said in scripts.value(f"rlhfCockpit.sentence({rows}, [0, 0, 0, 6])")


START, ALIKE, SALAD, HOME = [0, 0, 0, 6], [1.8, -2, 10, 0.5], [0.4, -1.5, 9, 9], [1.6, 1.7, 2, 3]
FINE = [1.8, 2.8, 4, 0.5]  # one sentence only, and readers like it
DOWN = [ALIKE] * 3  # for good


@pytest.mark.parametrize(
    ("rows", "eta", "done", "task", "control"),
    [
        ([], 0.3, 0, "Then pull η to 0", "start"),
        ([], 0.0, 0, "nothing holds it", "start"),
        ([START], 0.3, 0, "π learns on a leash.", ""),
        ([START] * 6, 0.3, 1, "Now pull η to 0", "eta"),
        ([START], 0.0, 1, "among its last 128: 57", ""),
        ([START, ALIKE, ALIKE, START, ALIKE], 0.0, 1, "among its last 128: 57", ""),
        ([START, *DOWN], 0.0, 2, "Mode collapse. Press Fork, then pull η up to 0.3.", "fork"),
        ([START, *[FINE] * 3], 0.0, 2, "Lucky: one good answer.", "again"),
        ([START, *DOWN], 0.3, 2, "Will readers like what π says?", ""),
        ([START, *[FINE] * 3], 0.3, 2, "Do different sentences come back?", ""),
        ([START, *DOWN, SALAD], 0.3, 2, "word salad. Where do they go?", ""),
        ([START, *DOWN, SALAD], 0.0, 2, "word salad. Pull η up to 0.3.", "eta"),
        ([START, *DOWN, *[HOME] * 4], 0.3, 3, "π is back.", ""),
        ([START, *DOWN, *[HOME] * 4], 0.0, 2, "Mode collapse.", "fork"),  # luck
        ([START, *DOWN, *[FINE] * 4], 0.3, 3, "π is back.", ""),
        ([START, *[FINE] * 9], 0.3, 2, "Do different sentences come back?", ""),
        ([START, *[FINE] * 3, *[HOME] * 4], 0.3, 3, "π is back.", ""),
        ([START, *DOWN, *[HOME, ALIKE] * 4], 0.3, 2, "The leash pulls.", ""),
        ([HOME, *DOWN], 0.3, 2, "The leash pulls.", ""),
        ([*[[1, None, 9, 0.5]] * 3, *[[1, None, 2, 4]] * 4], 0.3, 3, "π is back.", ""),
    ],
)
def test_the_cockpit_leads_through_a_collapse_and_back(scripts, rows, eta, done, task, control):
    now = {"eta": eta, "running": True, "exact": START, "distinct": 57}
    now["written"] = {"food": 64, "staff": 64}
    found = scripts.value(f"rlhfCockpit.guide({json.dumps(rows)}, {json.dumps(now)})")
    assert (found[0], found[2]) == (done, control)
    assert task in found[1]


def test_a_paused_run_is_led_to_start_and_a_collapsed_one_to_its_leash(scripts):
    now = {"eta": 0.3, "running": False, "exact": ALIKE, "distinct": 1, "written": {"food": 64}}
    assert scripts.value(f"rlhfCockpit.guide([], {json.dumps(now)})")[1:] == [
        "π says one thing only. Press Start, then pull η up.", "start",
    ]  # fmt: skip
    rows = json.dumps([START, *DOWN])
    assert scripts.value(f"rlhfCockpit.guide({rows}, {json.dumps(now)})")[2] == "start"


def test_beside_its_parent_a_collapsed_run_is_led_to_its_leash_only(scripts):
    now = {"eta": 0.0, "running": True, "exact": START, "distinct": 1, "written": {"food": 64}}
    rows = json.dumps([START, *DOWN])
    found = scripts.value(f"rlhfCockpit.guide({rows}, {json.dumps(now | {'parent': ALIKE})})")
    assert found == [2, "All sentences alike: mode collapse. Now pull η up to 0.3.", "eta"]


@pytest.mark.parametrize(("parent", "said"), [(ALIKE, "is not"), (HOME, "and so is")])
def test_the_end_says_whether_the_parent_is_back_too(scripts, parent, said):
    now = {"eta": 0.3, "running": True, "exact": START, "distinct": 57, "parent": parent}
    now["written"] = {"food": 64, "staff": 64}
    rows = json.dumps([START, *DOWN, *[HOME] * 4])
    assert said in scripts.value(f"rlhfCockpit.guide({rows}, {json.dumps(now)})")[1]


@pytest.mark.parametrize(
    ("moves", "eta", "free"),
    [
        ([], 0.0, True), ([], 0.3, False),
        ([[40, "η 0.3"]], 0.3, True), ([[6, "β 0.1"], [9, "η 0"], [40, "η 0.3"]], 0.3, False),
    ],
)  # fmt: skip
def test_a_page_that_comes_late_knows_how_the_run_began(scripts, moves, eta, free):
    assert scripts.value(f"rlhfCockpit.beganFree({json.dumps(moves)}, {eta})") is free


def test_who_neither_likes_nor_dislikes_it_is_grey(scripts):
    golds = [-2.0, -0.11, -0.09, 0.0, 0.09, 0.11, 2.0]
    assert scripts.value(f"{golds}.map(rlhfParts.liking)") == [
        "bad", "bad", "plain", "plain", "plain", "liked", "liked",
    ]  # fmt: skip
    flat = "q.48 0.00 .96 0"
    assert [flat in scripts.value(f"rlhfParts.face({gold})") for gold in golds] == [
        False, False, True, True, True, False, False,
    ]  # fmt: skip


def test_both_sides_know_the_same_kinds(scripts):
    assert scripts.value("rlhfExplorer.KINDS") == list(KINDS)


def test_the_charts_that_ship_are_those_of_the_optimum(world):
    """`tools/make_charts.py` writes them; here two of four are computed again."""
    shipped = json.loads(front_file("charts.json"))
    assert {prompt: set(scores) for prompt, scores in shipped.items()} == {
        prompt: set(SCORES) for prompt in PROMPTS
    }
    for prompt, score in (("food", "reward model"), ("staff", "gold")):
        fresh, kept = to_json(computed_chart(world, prompt, score)), shipped[prompt][score]
        assert fresh["map"] == kept["map"]
        for a, b in zip(
            [fresh["reference"], *fresh["curve"]], [kept["reference"], *kept["curve"]], strict=True
        ):
            assert a == pytest.approx(b, abs=1e-8)


def test_charts_of_another_world_are_computed(world, monkeypatch):
    shipped = chart(world, "food", "gold")
    moved = shipped._replace(reference=shipped.reference._replace(gold=0.5))
    monkeypatch.setattr("rlhf_lab.ui.charts._shipped", lambda: {"food": {"gold": moved}})
    found = chart.__wrapped__(world, "food", "gold")
    assert found.reference == optima(world, "food", "gold").reference
    assert (found.kinds == shipped.kinds).all()


def test_the_page_says_its_sentences_in_the_language_that_it_was_given():
    page = front.Scripts("parts.js")
    assert page.value('rlhfParts.tr("{n} updates", { n: 3 })') == "3 updates"
    assert page.value('rlhfParts.regionName("useful")') == "useful"
    page.v8.eval('rlhfParts.speak({ "{n} updates": "更新 {n} 次", useful: "有用" })')
    assert page.value('rlhfParts.tr("{n} updates", { n: 3 })') == "更新 3 次"
    assert page.value('rlhfParts.regionName("useful")') == "有用"
    assert page.value('rlhfParts.tr("{n} <b>of</b> {all}", { n: 0 })') == "0 <b>of</b> {all}"
    site = front.Scripts()
    site.v8.eval('globalThis.RLHF_MESSAGES = { useful: "有用" };' + front_file("parts.js"))
    assert site.value('rlhfParts.tr("useful")') == "有用"


def test_a_chinese_letter_has_the_room_that_it_takes(scripts):
    assert scripts.value('rlhfParts.letters("η → 0.3")') == 7
    assert scripts.value('rlhfParts.letters("分叉")') * 0.6 > 2
