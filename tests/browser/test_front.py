"""The explorer on a page without kernel: how it looks at every width, and what hands can do."""

import itertools
import math

import pytest
import static
import truth
from axe_playwright_python.sync_playwright import Axe
from servers import RESULTS

from rlhf_lab import PPOConfig, load_world
from rlhf_lab.language import PROMPTS
from rlhf_lab.plots import number
from rlhf_lab.ui import Cockpit
from rlhf_lab.ui.explorer_still import share
from rlhf_lab.world import response_text

WIDTHS = (360, 800, 1280, 1920)
TOO_SMALL = """() => [...document.querySelectorAll("#root *")].filter((e) =>
  [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.checkVisibility()
  && !e.closest(".heard")
  && parseFloat(getComputedStyle(e).fontSize) < (e.matches("sub, tspan") ? 9 : 12)
).map((e) => e.outerHTML)"""
PLACES = """() => [".rows", ".nums", ".map", ".front"].map(
  (name) => document.querySelector(name).getBoundingClientRect().y)"""
LOOKS_OLD = "() => document.querySelector('#root').classList.contains('stale')"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return static.write(tmp_path_factory.mktemp("static"))


@pytest.fixture
def open_page(browser, address):
    """Opens the page in a window of its own; at the end none may have seen an error."""
    contexts, errors = [], []

    def open_page(width=1280, height=800, address=address, **context):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **context))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        page.goto(address)
        page.wait_for_function("() => root.draws > 0")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def settled(page):
    """What the page shows, once the last change has been drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return page.evaluate("() => root.state")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_can_be_read_at_every_width(open_page, width, theme):
    page = open_page(width, 780 if width == 360 else 900, color_scheme=theme)
    page.screenshot(path=RESULTS / f"front-{width}-{theme}.png", full_page=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(TOO_SMALL) == []
    bars = [bar.bounding_box()["width"] for bar in page.locator(".bar").all() if bar.is_visible()]
    assert len(bars) == (4 if width < 760 else 7)
    assert min(bars) >= (300 if width >= 800 else 240)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_used_by_those_who_see_or_hear_it_otherwise(open_page, theme):
    page = open_page(color_scheme=theme)
    found = Axe().run(page, context="#root").response["violations"]
    assert [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")] == []


def test_what_a_class_must_see_is_above_the_fold(open_page):
    page = open_page(1280, 800)
    for part in (".headline", ".judges", ".row:nth-child(7)", ".map", ".eta input", ".mark"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] <= 800, part


@pytest.mark.parametrize("longest", ["fresh but very fresh food"])
def test_nothing_jumps_when_words_and_numbers_grow(open_page, longest):
    page = open_page(1280, 800)
    before = page.evaluate(PLACES)
    page.locator(".typed").first.fill("0.014")
    page.keyboard.press("Enter")
    assert settled(page)["first"] == longest
    assert page.evaluate(PLACES) == before


def test_keys_move_ring_bars_and_words_together(open_page, measured):
    page = open_page()
    page.locator(".eta input[type=range]").focus()
    times = page.evaluate("""async () => {
      const times = [], slider = document.activeElement;
      for (let k = 0; k < 40; k++) {
        const began = performance.now();
        slider.value = Number(slider.value) + (k < 20 ? -1 : 1);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        times.push(performance.now() - began);
      }
      return times;
    }""")
    measured("explorer without kernel: move of a slider to painted", times)
    page.keyboard.press("ArrowLeft")
    state = settled(page)
    assert state["eta"] == 0.09
    assert page.locator(".eta .typed").input_value() == "0.09"
    assert state["first"] in page.locator(".headline").inner_text()
    assert "<b>0.09</b>" in page.locator(".bill").inner_html()
    page.keyboard.press("Home")
    assert settled(page)["eta"] == 0


@pytest.mark.parametrize(
    ("eta", "beta"), [("0", "0"), ("0.001", "0.001"), ("0.3", "0.1"), ("10", "2")]
)
def test_ring_and_thumbs_stand_at_the_same_place(open_page, eta, beta):
    page = open_page()
    places = {}
    for name, value, across in (("eta", eta, "x"), ("beta", beta, "y")):
        page.locator(f"[data-typed={name}]").fill(value)
        page.locator(f"[data-typed={name}]").press("Enter")
        slider = page.locator(f"[data-of={name}]")
        box, thumb = slider.bounding_box(), 24
        share = slider.evaluate("slider => slider.value / slider.max")
        size = box["width" if across == "x" else "height"] - thumb
        places[across] = box[across] + thumb / 2 + size * (share if across == "x" else 1 - share)
    settled(page)
    ring = page.locator(".ring circle").last.bounding_box()
    assert abs(ring["x"] + ring["width"] / 2 - places["x"]) < 1.5
    assert abs(ring["y"] + ring["height"] / 2 - places["y"]) < 1.5


def test_what_is_no_longer_said_stays_in_sight(open_page):
    """π_SFT's favourites, with the share that π* leaves them, which Python knows, too."""
    page = open_page()
    assert page.locator(".row.gone").count() == 0
    page.locator("[data-typed=eta]").fill("0.014")
    page.keyboard.press("Enter")
    settled(page)
    tables = load_world().tables("food")
    shares = truth.optimum(tables, 0.014, 0.0).exp()
    said = [row.inner_text().split("\n") for row in page.locator(".row.gone").all()]
    best = tables.ref_logprobs.topk(2)
    assert [row[0] for row in said] == [response_text(i) for i in best.indices.tolist()]
    assert max(shares[i].item() for i in best.indices) < 1e-9
    assert [row[1] for row in said] == [
        f"was {share(p)}, now practically never" for p in best.values.exp().tolist()
    ]
    assert go(page, "0") == "collapse"
    assert [row.inner_text().split("\n")[1][:3] for row in page.locator(".row.gone").all()] == [
        "was"
    ] * 5
    assert page.locator(".row.none").count() == 0


@pytest.mark.parametrize("beta", ["0", "0.5"])
def test_no_tick_stands_outside_its_scale(open_page, beta):
    page = open_page()
    page.locator("[data-typed=beta]").fill(beta)
    page.keyboard.press("Enter")
    state = settled(page)
    full = float(page.locator(".full").inner_text().split(" = ")[1].rstrip("%")) / 100
    compared = {
        response_text(one["index"]): one["compared"] for one in (*state["said"], *state["drawn"])
    }
    seen = 0
    for row in page.locator(".row:not(.gone)").all():
        box, tick = row.locator(".bar").bounding_box(), row.locator(".tick")
        if tick.is_visible():
            at = (tick.bounding_box()["x"] + 1 - box["x"]) / box["width"]
            text = row.locator(".text").inner_text()
            assert at == pytest.approx(compared[text] / full, abs=0.006)
            assert at <= 1.01
            behind = row.locator(".bar b").bounding_box()["x"]
            assert behind >= tick.bounding_box()["x"], "the number stands behind its tick"
            seen += 1
    assert seen >= 6


@pytest.mark.parametrize("width", [360, 1280])
def test_what_is_one_of_many_does_not_stand_for_all(open_page, width):
    page = open_page(width)
    assert page.locator(".row.rest").count() == 0
    page.locator("[data-typed=beta]").fill("0.5")
    page.keyboard.press("Enter")
    state = settled(page)
    assert state["said"][0]["p"] < 0.05
    drawn = state["drawn"]
    headline = page.locator(".headline").inner_text()
    assert headline == f"for instance, drawn at random:\n“{drawn[0]['text']}”"
    most = math.ceil(1000 * state["said"][0]["p"]) / 10
    assert page.locator(".of").inner_text() == (
        f"no single review is more than {most:g}% of what it says"
    )
    tables = load_world().tables("food")
    p = truth.optimum(tables, state["eta"], state["beta"]).exp()
    assert [one["p"] for one in drawn] == pytest.approx(
        [p[one["index"]].item() for one in drawn], rel=1e-4
    )
    taken = dict.fromkeys(one["index"] for one in drawn)
    frequent = [i for i in p.topk(7).indices.tolist() if i not in taken]
    shown = [*taken, *frequent][:6]
    others = 1 - p[shown].sum()
    gold = (p @ tables.golds.to(p.dtype) - p[shown] @ tables.golds[shown].to(p.dtype)) / others
    rest = page.locator(".row").first
    assert rest.locator(".text").inner_text() == f"the other {len(p) - 6:,}"
    assert rest.locator(".bar b").inner_text() == (
        f"{min(100 * others.item(), 99.9):.{0 if others < 0.995 else 1}f}%"
    )
    assert rest.locator(".gold").inner_text() == number(gold.item(), 1, sign=True)
    rows = [row.locator(".text").inner_text() for row in page.locator(".row").all()[1:]]
    assert [row for row in rows if row] == [response_text(i) for i in shown]


def test_each_move_in_a_salad_draws_others_and_each_visit_the_same(open_page):
    def visit():
        page, seen = open_page(), []
        for beta in ("0.5", "0.55", "0.5"):
            go(page, "0.05", beta)
            seen.append(page.locator(".headline").inner_text())
        page.set_viewport_size({"width": 900, "height": 800})  # no move
        settled(page)
        assert page.locator(".headline").inner_text() == seen[-1]
        return seen

    seen = visit()
    assert len(set(seen)) == 3
    assert visit() == seen


@pytest.mark.parametrize("eta", ["0.1", "0.05", "1", "0.014"])
def test_the_face_looks_at_the_line_and_hides_no_dot(open_page, eta):
    page = open_page()
    go(page, eta)
    face, dot = (page.locator(f".mark .{name}").bounding_box() for name in ("face", "dot"))
    middle = [box["x"] + box["width"] / 2 for box in (face, dot)]
    assert middle[0] == pytest.approx(middle[1], abs=0.6)
    assert abs(face["y"] + face["height"] / 2 - dot["y"] - dot["height"] / 2) >= 17


@pytest.mark.parametrize("width", [360, 800, 1280, 1920])
def test_each_number_stands_beside_its_own_slider(open_page, width):
    page = open_page(width)
    go(page, "0.0125", "0.0125")
    for field in page.locator(".typed").all():
        assert field.evaluate("field => field.scrollWidth <= field.clientWidth")
    if width < 760:
        return
    box = {
        name: page.locator(f"[data-{name.replace(' ', '=')}]").bounding_box()
        for name in ("typed eta", "typed beta", "of eta", "of beta")
    }
    eta, beta = box["typed eta"], box["typed beta"]
    assert eta["x"] + eta["width"] <= box["of eta"]["x"]
    assert abs(eta["y"] + eta["height"] / 2 - box["of eta"]["y"] - box["of eta"]["height"] / 2) < 2
    assert 0 <= box["of beta"]["y"] - beta["y"] - beta["height"] < 16
    assert beta["y"] + beta["height"] < eta["y"] - 100


def test_the_map_is_grey_until_a_place_is_found_or_all_are_shown(open_page):
    page = open_page()

    def seen():
        settled(page)
        areas = page.locator(".area").all()
        return {a.get_attribute("data-area") for a in areas if a.is_visible()}

    def names():
        return sorted(page.locator(".map .name").all_text_contents())

    assert seen() == {"useful"}
    assert names() == ["?", "?", "?", "useful"]
    assert page.locator(".goals b").first.inner_text().startswith("?")
    assert go(page, "0.014") == "collapse"
    assert seen() == {"useful", "collapse"}
    assert names() == ["?", "?", "collapse", "useful"]
    page.locator(".hint .all").click()
    assert seen() == {"useful", "collapse", "frozen", "word salad"}
    assert names() == ["collapse", "frozen", "useful", "word salad"]
    assert "2 of 5 found" in page.locator(".hint").inner_text()
    assert page.locator(".hint .all").count() == 0
    page.locator(".choice label", has_text="staff").click()
    page.wait_for_function("() => root.state.prompt === 'staff'")
    assert {"frozen", "word salad"} <= seen()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_place_is_flooded_except_for_those_who_want_no_motion(open_page, motion):
    page = open_page(reduced_motion=motion)
    moving = """() => document.querySelector('.map').getAnimations({ subtree: true })
      .filter((one) => one.effect.target.matches('.area')).length"""
    assert page.evaluate(moving) == 0
    page.evaluate("() => host.set('eta', 0.014, true)")
    assert page.evaluate(moving) == (1 if motion == "no-preference" else 0)


def test_the_ring_covers_no_name(open_page):
    page = open_page()
    page.locator(".hint .all").click()
    for eta, beta in (("0.05", "0.3"), ("0.05", "0.35"), ("0.045", "0.275"), ("0.018", "0.02")):
        go(page, eta, beta)
        ring = page.locator(".ring circle").nth(1).bounding_box()
        for name in page.locator(".map .name").all():
            box = name.bounding_box()
            apart = (
                box["y"] + box["height"] <= ring["y"] + 6
                or box["y"] >= ring["y"] + ring["height"] - 6
                or box["x"] + box["width"] <= ring["x"] + 6
                or box["x"] >= ring["x"] + ring["width"] - 6
            )
            assert apart, (name.text_content(), eta, beta)


def test_on_a_phone_it_speaks_of_sliders(open_page):
    assert "Slide η to the left" in open_page(360, 780).locator(".hint").inner_text()
    assert "Drag the ring" in open_page(1280, 800).locator(".hint").inner_text()


def test_the_black_button_is_what_to_try_first(open_page):
    page = open_page()
    ink = page.evaluate("() => getComputedStyle(document.querySelector('.tally')).backgroundColor")
    colour = "() => getComputedStyle(document.querySelector('.play')).backgroundColor"
    assert page.evaluate(colour) == ink
    page.locator(".play").click()
    page.locator(".play").click()
    page.mouse.move(0, 0)
    assert page.evaluate(colour) != ink


def test_where_nothing_holds_it_no_other_review_is_said(open_page):
    page = open_page()
    page.locator("[data-typed=eta]").fill("0")
    page.keyboard.press("Enter")
    assert settled(page)["said"][0]["p"] == 1
    others = len(load_world().tables("food").golds) - 1
    assert page.locator(".row.note .text").inner_text() == f"0 of the other {others:,}"
    assert page.locator(".by-readers.is-bad").count() == 1
    assert "before training:\u00a0practically never" in page.locator(".of").inner_text()


def test_on_a_phone_sentence_and_sliders_stay_in_sight(open_page):
    page = open_page(360, 780)
    page.evaluate("() => scrollTo(0, 600)")
    settled(page)
    for part in (".headline", ".by-readers b", "[data-of=eta]", "[data-of=beta]"):
        box = page.locator(part).bounding_box()
        assert 0 <= box["y"] <= 780 - box["height"], part


def test_the_places_to_find_are_above_the_fold(open_page):
    page = open_page(1280, 720)
    cards = page.locator(".goals li")
    assert cards.count() == 5
    assert max(box["y"] + box["height"] for box in (c.bounding_box() for c in cards.all())) < 120


def go(page, eta, beta="0"):
    for name, value in (("beta", beta), ("eta", eta)):
        page.locator(f"[data-typed={name}]").fill(value)
        page.keyboard.press("Enter")
    return settled(page)["kind"]


def test_it_says_what_to_try_next_until_all_is_found(open_page):
    page = open_page()
    hint = page.locator(".hint")
    found = 1
    for eta, beta, kind, next_one in (
        ("0.014", "0", "collapse", "to the right (more η)"),
        ("10", "0", "frozen", "up (more β)"),
        ("0.1", "0.9", "word salad", "Choose “careful readers” above"),
    ):
        assert go(page, eta, beta) == kind
        found += 1
        assert f"{found} of 5 found" in hint.inner_text()
        assert next_one in hint.inner_text()
    page.locator(".choice label", has_text="careful readers").click()
    settled(page)
    assert "until π* says one thing only" in hint.inner_text()
    assert go(page, "0") == "one good answer"
    assert "5 of 5 found" in hint.inner_text()
    assert "notebook 09" in hint.inner_text()


def test_a_card_leads_back_to_where_its_kind_was_seen_best(open_page):
    page = open_page()
    for eta in ("0.014", "0.04", "0.1"):
        go(page, eta)
    card = page.locator("[data-go=collapse]")
    assert page.locator(".goals .is-here b").inner_text() == "✓ useful"
    card.focus()
    page.keyboard.press("Enter")
    state = settled(page)
    assert (state["kind"], state["eta"]) == ("collapse", 0.014)
    assert page.locator(".goals .is-here b").inner_text() == "✓ collapse"


def test_the_arrow_that_says_where_to_drag_goes_with_the_first_move(open_page):
    page = open_page()
    assert page.locator(".cue").is_visible()
    page.locator(".eta input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    settled(page)
    assert not page.locator(".cue").is_visible()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_find_is_felt_except_by_those_who_want_no_motion(open_page, motion):
    page = open_page(reduced_motion=motion)
    moving = "() => document.querySelector('.goals').getAnimations({ subtree: true }).length"
    assert page.evaluate(moving) == 0
    page.evaluate("() => host.set('eta', 0.014, true)")
    assert page.evaluate(moving) == (1 if motion == "no-preference" else 0)


def test_everything_on_a_phone_is_large_enough_for_a_finger(open_page):
    page = open_page(360, 780)
    for part in (".choice label", ".play", ".typed", "input[type=range]", ".goals li > *"):
        for one in page.locator(part).all():
            assert one.bounding_box()["height"] >= 44, part


def test_a_find_moves_no_other_card(open_page):
    page = open_page()
    places = (
        "() => [...document.querySelectorAll('.goals li')].map((e) => e.getBoundingClientRect().x)"
    )
    before = page.evaluate(places)
    page.locator(".choice label", has_text="careful readers").click()
    page.locator("[data-typed=eta]").fill("0.001")
    page.keyboard.press("Enter")
    assert settled(page)["kind"] == "one good answer"
    assert page.evaluate(places) == before


@pytest.mark.parametrize("touch", [False, True])
def test_the_map_is_dragged_by_mouse_and_by_finger(open_page, touch):
    page = open_page(has_touch=touch)
    box = page.locator(".map svg").bounding_box()

    def at(across, down):
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    if touch:
        page.touchscreen.tap(*at(0.2, 0.2))
    else:
        page.mouse.move(*at(0.5, 0.8))
        page.mouse.down()
        page.mouse.move(*at(0.2, 0.2), steps=8)
        page.mouse.up()
    state = settled(page)
    assert state["kind"] == "word salad"
    ring = page.locator(".ring circle").last.bounding_box()
    x, y = at(0.2, 0.2)
    assert abs(ring["x"] + ring["width"] / 2 - x) < 6
    assert abs(ring["y"] + ring["height"] / 2 - y) < 6
    found = page.locator(".goals .found b").all_inner_texts()
    assert {"✓ useful", "✓ word salad"} <= set(found)
    assert len(page.locator(".trail").get_attribute("points").split()) >= 2


def test_a_number_can_be_typed_and_the_field_tells_the_truth(open_page):
    page = open_page()
    field, hint = page.locator(".eta .typed"), page.locator(".hint")
    for typed, kept, said in (
        ("0,3", "0.3", "Drag the ring"),
        ("0.43", "0.45", "The position nearest to 0.43 is 0.45"),
        ("a lot", "0.45", "“a lot” is not a number from 0 to 10"),
        ("-1", "0.45", "“-1” is not a number"),
    ):
        field.fill(typed)
        field.press("Enter")
        settled(page)
        assert field.input_value() == kept
        assert said in hint.inner_text()


def test_the_leash_is_let_go_until_somebody_stops_it(open_page):
    page = open_page()
    page.locator(".play").click()
    page.wait_for_function("() => root.state.eta < 8 && root.state.eta > 1", timeout=8000)
    page.keyboard.press("Shift")
    stopped = settled(page)["eta"]
    page.wait_for_timeout(300)
    assert settled(page)["eta"] == stopped > 0
    page.locator(".play").click()
    page.wait_for_function("() => root.state.eta === 0", timeout=8000)
    found = page.locator(".goals .found b").all_inner_texts()
    assert found == ["✓ collapse", "✓ useful", "✓ frozen"]
    assert page.locator(".play").get_attribute("aria-pressed") == "false"


def test_two_worlds_never_appear_at_once(open_page, tmp_path):
    """While another prompt is on its way the old picture is grey and whole."""
    page = open_page(address=static.write(tmp_path, before="wait = 1200"))
    before = page.locator(".headline").inner_text(), page.locator(".about").inner_text()
    page.locator(".choice label", has_text="staff").click()
    page.wait_for_function(LOOKS_OLD)
    assert page.locator(".wait").inner_text() == "Reading all reviews of “staff”"
    after = page.locator(".headline").inner_text(), page.locator(".about").inner_text()
    assert after == before
    page.wait_for_function("() => root.state.prompt === 'staff'")
    assert not page.evaluate(LOOKS_OLD)
    assert page.locator(".about").inner_text() == "what π* says of staff"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            "t => ({ ...t, gold: t.gold.map((x, i) => i === 7 ? NaN : x) })",
            "The gold score of review 7",
        ),
        ("t => ({ ref: t.ref, gold: t.gold })", "The table of “food” has no score"),
        ("t => { throw new Error('Python could not compute this.') }", "Python could not compute"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(browser, tmp_path, spoil, said):
    page = browser.new_page()
    page.goto(static.write(tmp_path, before=f"spoil = {spoil}"))
    page.wait_for_function("() => document.querySelector('.trouble').textContent")
    assert said in page.locator(".trouble").inner_text()
    assert page.evaluate("() => root.draws") is None
    page.close()


@pytest.fixture(scope="module")
def flight(tmp_path_factory):
    """A page that shows a collapse and, from a fork on, a rescue; and what it was sent."""
    cockpit, news = Cockpit(load_world(), PPOConfig(eta=0.0, seed=3)), []
    cockpit.send = news.append
    cockpit._handle_custom_msg({"all": True}, [])
    cockpit.run(40)
    cockpit.fork()
    cockpit.set(eta=0.3)
    cockpit.run(12)
    folder = tmp_path_factory.mktemp("flight")
    return static.write_cockpit(folder, news, cockpit.constants), news


def numbers(page):
    """The table, unfolded."""
    page.locator(".all summary").click()
    return page.locator(".numbers")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_cockpit_fits_and_can_be_read_at_every_width(open_page, flight, width, theme):
    page = open_page(width, 1080 if width == 1920 else 800, flight[0], color_scheme=theme)
    page.screenshot(path=RESULTS / f"front-cockpit-{width}-{theme}.png", full_page=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(TOO_SMALL) == []
    found = Axe().run(page, context="#root").response["violations"]
    assert [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")] == []
    if width >= 1280:
        for part in (".headline", ".judges", ".charts", ".of-regret"):
            box = page.locator(part).last.bounding_box()
            assert box["y"] + box["height"] <= (1080 if width == 1920 else 690), part


def test_the_cockpit_shows_the_last_news(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    said = page.locator(".said").first.inner_text()
    assert f"{last['reviews']['food'][0].times} of {last['written']['food']} reviews" in said
    assert last["status"] in page.locator(".status").inner_text()
    assert page.locator(".start").inner_text() == "Go on"
    rows = numbers(page).locator("tbody tr")
    assert rows.locator("th").all_inner_texts() == [
        "last batch", "the parent’s last batch", f"exact, after iteration {last['exactAt']}",
        "exact optimum π*",
    ]  # fmt: skip
    shown = rows.last.locator("td").all_inner_texts()
    assert shown == [*(number(x) for x in last["optimum"]), "0.00"]
    assert page.locator(".curves").get_by_text("fork, η → 0.3").count() == 1
    assert page.evaluate("() => root.run.rows.length") == last["iteration"] == 52


@pytest.mark.parametrize(("width", "above"), [(1280, 0.1), (1920, 0.1), (1920, 0.38)])
def test_each_star_has_its_label_and_none_lies_on_another(open_page, flight, width, above):
    page, last = open_page(width, 1080, address=flight[0]), flight[1][-1]
    score, _, *rest = last["optimum"]
    near = {"optimum": [score, score + above, *rest]}  # near: labels must step aside
    page.evaluate("news => hear(news)", {**last, "from": 52, "rows": [], **near})
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    labels = page.locator(".curves text.name").all()
    words = [label.text_content() for label in labels]
    assert words[:2] == ["π*: reward model", "π*: readers"]
    boxes = [label.bounding_box() for label in labels]
    stars = [star.bounding_box() for star in page.locator(".curves polygon").all()]
    assert len(stars) == 2
    assert abs(stars[0]["y"] - stars[1]["y"]) >= 20
    for box in boxes[:2]:
        assert box["x"] >= max(star["x"] + star["width"] for star in stars) - 2
    boxes += [flag.bounding_box() for flag in page.locator(".curves rect").all()]
    for one, other in itertools.combinations(boxes, 2):
        apart = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
        middles = [box["y"] + box["height"] / 2 for box in (one, other)]
        room = (one["height"] + other["height"]) / 2  # of lines, whose letters are lower
        assert apart or abs(middles[0] - middles[1]) >= 0.8 * room


def test_flags_dock_below_the_curves_and_do_not_hide_each_other(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    assert last["forked"] == 40
    moves = [[10, "η 0.1"], [11, "β 0.02"], [14, "η 0.02"], [25, "η 0.1"], [40, "η 0.3"]]
    page.evaluate("news => hear(news)", {**last, "from": 52, "rows": [], "moves": moves})
    page.wait_for_function("() => document.querySelectorAll('.curves rect').length === 3")
    flags = [flag.bounding_box() for flag in page.locator(".curves rect").all()]
    plot = page.locator(".curves svg").bounding_box()
    lowest = max(
        one["y"] + one["height"]
        for one in (p.bounding_box() for p in page.locator(".curves polyline").all())
    )
    for flag in flags:  # inside, and below all curves
        assert lowest <= flag["y"] + 3
        assert flag["y"] <= flag["y"] + flag["height"] <= plot["y"] + plot["height"]
        assert plot["x"] <= flag["x"] <= flag["x"] + flag["width"] <= plot["x"] + plot["width"]
    for one, other in itertools.combinations(flags, 2):
        apart = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
        assert apart or abs(one["y"] - other["y"]) >= one["height"]
    for words in ("η → 0.02, β → 0.02", "η → 0.1", "fork, η → 0.3"):  # those that are near are one
        assert page.locator(".curves").get_by_text(words, exact=True).count() == 1


def test_one_sentence_and_the_box_keeps_its_height(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    box = page.locator(".saying")
    before = box.bounding_box()["height"]
    said = page.locator(".sentence")
    assert said.inner_text().startswith("Iteration 52: ")
    one = {prompt: [[64, "great great great great great", -2.0]] for prompt in PROMPTS}
    fallen = [[1.8, -2.0, 10.5, 0.1]] * 9
    page.evaluate(
        "news => hear(news)",
        {
            **last,
            "run": 9,
            "from": 0,
            "rows": fallen,
            "parent": [],
            "parentFrom": 0,
            "batch": fallen[0],
            "reviews": one,
        },
    )
    page.wait_for_function("() => root.run.id === 9")
    settled(page)
    assert page.locator(".tells").inner_text().split("\n") == [
        "collapse",
        "Iteration 9: the reward model is pleased, readers are not.",
    ]
    assert box.bounding_box()["height"] == before


def test_steps_lead_through_a_run_and_can_be_hidden(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    guide = page.locator(".guide")
    assert guide.locator(".done").all_inner_texts() == ["✓\nTrain without a leash"]  # it began at 0
    assert guide.locator("[aria-current=step]").inner_text() == "2\nBring it back"
    target = {"settings": {**last["settings"], "kl_target": 3.0}}  # which moves η by itself
    for change, seen in ((target, False), ({}, True)):
        page.evaluate("news => hear(news)", {**last, "from": 52, "rows": [], **change})
        page.wait_for_function("seen => document.querySelector('.guide').hidden !== seen", arg=seen)
    high = page.locator(".guide").bounding_box()["height"]
    back = [[1.6, 1.7, 2.0, 3.0]] * 4
    page.evaluate("news => hear(news)", {**last, "from": 52, "rows": back})
    page.wait_for_function("() => document.querySelectorAll('.guide .done').length === 2")
    page.evaluate("news => hear(news)", {**last, "from": 56, "rows": [], "eta": 0.0})
    settled(page)
    assert guide.locator(".done").count() == 2  # whatever is tried after that
    page.get_by_role("button", name="Step", exact=True).click()
    settled(page)
    assert guide.bounding_box()["height"] == high  # what is below it stays where it is
    again = open_page(address=flight[0])
    again.get_by_role("button", name="Hide this guide").click()
    again.wait_for_function("() => document.querySelector('.guide').hidden")
    assert again.locator(".start").is_visible()


def test_on_a_phone_the_steps_stand_apart_and_a_finger_finds_them(open_page, flight):
    page, last = open_page(360, 780, address=flight[0]), flight[1][-1]
    began = {**last, "run": 9, "from": 0, "parent": [], "parentFrom": 0, "forked": None}
    began |= {"moves": [], "rows": []}
    falls = [[1.8, -2.0, 10.0, 0.3]] * 5
    for eta, steps in ((0.3, 3), (0.0, 2)):
        for rows in ([], falls):
            news = {**began, "run": 20 + steps, "rows": rows, "eta": eta}
            page.evaluate("news => hear(news)", news)
            settled(page)
            chips = [one.bounding_box() for one in page.locator(".guide button:visible").all()]
            assert len(chips) == steps + 1  # and the cross that hides the guide
            for one, other in itertools.combinations(chips, 2):
                beside = one["x"] + one["width"] <= other["x"]
                assert beside or one["y"] + one["height"] <= other["y"]
            assert max(chip["x"] + chip["width"] for chip in chips) <= 352
    for part in (".guide button", ".top button", ".pace label", ".typed", "[data-of]", "summary"):
        for one in page.locator(part).all():
            if one.is_visible():
                assert one.bounding_box()["height"] >= 44, part


def orders(page):
    """What the page asked the run to do, and where it moved η."""
    return page.evaluate(
        "() => told.flatMap((order) => order.do ?? (order.move ? `eta ${order.move.eta}` : []))"
    )


def test_a_slow_run_rests_when_a_step_is_done_until_eta_moves(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    began = {**last, "run": 9, "from": 0, "parent": [], "parentFrom": 0, "forked": None}
    began |= {"moves": [], "eta": 0.0, "running": True, "slow": True}
    learns, falls = [[0.5, 0.5, 1.0, 4.0]] * 9, [[1.8, -2.0, 10.0, 0.3]] * 3
    for fast in (True, False):
        for rows in ([], learns, [*learns, *falls]):
            news = {**began, "run": 20 + fast, "rows": rows, "slow": not fast}
            page.evaluate("news => hear(news)", news)
            settled(page)
        assert orders(page) == ([] if fast else ["pause"])
    page.evaluate("news => hear(news)", {**news, "running": False})
    settled(page)
    assert page.locator(".deck").get_attribute("data-next") == "fork"
    page.locator("[data-typed=eta]").fill("0.3")
    page.keyboard.press("Enter")
    assert orders(page) == ["pause", "eta 0.3", "start"]
    page.locator("[data-typed=eta]").fill("0.2")
    page.keyboard.press("Enter")
    assert orders(page)[3:] == ["eta 0.2"]  # only once


def test_parent_and_child_rest_until_they_differ(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    page.evaluate("news => hear(news)", {**last, "from": 52, "rows": [], "running": True})
    settled(page)
    page.get_by_role("button", name="Fork").click()
    assert orders(page) == ["fork", "pause"]
    page.evaluate("news => hear(news)", {**last, "from": 52, "rows": []})
    settled(page)
    assert "until then parent and child are the same" in page.locator(".task").inner_text()
    assert page.locator(".deck").get_attribute("data-next") == "eta"
    page.locator("[data-of=eta]").press("ArrowRight")
    settled(page)
    assert orders(page)[2:] == [f"eta {page.locator('[data-typed=eta]').input_value()}", "start"]
    assert "are the same" not in page.locator(".task").inner_text()


def test_a_step_is_done_by_a_click_and_bad_luck_is_one_click_away(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    lucky = {**last, "run": 9, "from": 0, "rows": [[1.8, 2.8, 4.0, 0.1]] * 5, "parent": []}
    lucky |= {"parentFrom": 0, "forked": None, "moves": [[2, "η 0"]], "eta": 0.0}
    page.evaluate("news => hear(news)", {**lucky, "rows": []})
    page.evaluate("news => hear(news)", lucky)
    page.wait_for_function("() => root.run.rows.length === 5")
    settled(page)
    assert page.locator(".task").inner_text().startswith("Lucky: one good answer.")
    page.locator("[data-take='1']").click()
    assert orders(page) == ["eta 1", "start"]  # so near, a strong one
    page.locator(".again").click()
    assert orders(page)[2:] == ["reset", "start"]
    wish = page.evaluate("() => told.findLast((order) => order.do === 'reset')")
    assert (wish["settings"]["seed"], wish["eta"]) == ("4", 0)


def test_a_click_that_brings_it_back_leaves_the_parent_where_it_fell(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    fell = {**last, "run": 9, "from": 0, "rows": [[1.8, -2.0, 10.0, 0.3]] * 5, "parent": []}
    fell |= {"parentFrom": 0, "forked": None, "moves": [], "eta": 0.0, "batch": fell["rows"][0]}
    page.evaluate("news => hear(news)", {**fell, "rows": []})
    page.evaluate("news => hear(news)", fell)
    page.wait_for_function("() => root.run.rows.length === 5")
    settled(page)
    assert page.locator(".task").inner_text().endswith("Press Fork, then pull η up to 0.3.")
    page.locator("[data-take='1']").click()
    assert orders(page) == ["fork", "eta 0.3", "start"]


def test_what_is_said_no_more_is_struck_out_and_bars_are_of_all(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    said = {prompt: [[48, "great great .", -2.0], [16, "great .", 2.0]] for prompt in PROMPTS}
    page.evaluate("news => hear(news)", {**last, "from": 52, "rows": [], "reviews": said})
    page.wait_for_function("() => document.querySelector('.said li').innerText.startsWith('48')")
    lines = page.locator(".said").first.locator("li")
    assert lines.count() == 4
    widths = [lines.nth(k).locator("i").get_attribute("style") for k in (0, 1)]
    assert widths == ["width:75.0%", "width:25.0%"]
    gone = lines.nth(2)
    assert gone.locator("s").inner_text() == "cold ."
    assert gone.inner_text().endswith("was 3.5%")


@pytest.mark.parametrize("width", [360, 480, 928, 1180, 1280, 1920])
def test_a_full_bar_is_long_and_no_name_is_cut(open_page, flight, width):
    page, last = open_page(width, 1080, address=flight[0]), flight[1][-1]
    said = [[40, "great great great great .", -2.0], [24, "great very great great great", 2.0]]
    news = {**last, "from": 52, "rows": [], "reviews": dict.fromkeys(PROMPTS, said)}
    page.evaluate("news => hear(news)", news)
    page.wait_for_function("() => document.querySelector('.said li').innerText.startsWith('40')")
    for bar in page.locator(".said li:not(.none) .bar").all():
        assert bar.bounding_box()["width"] >= 80
    for name in page.locator(".said li .voice").all():
        assert name.evaluate("name => name.scrollWidth <= name.clientWidth")


def test_of_many_exact_values_few_are_drawn(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    exact = [[k, 1.0, 1.0, 1.0, 1.0] for k in range(52)]
    page.evaluate("news => hear(news)", {**last, "from": 52, "rows": [], "allExact": exact})
    page.wait_for_function("() => root.run.exact.length === 52")
    settled(page)
    drawn = page.locator(".curves path[d='M0-1L1 0L0 1L-1 0Z']").count()
    assert drawn == 2 * 7  # both scores: 0, 10, … 50, and the last


def test_before_start_it_shows_what_the_first_policy_says(open_page, tmp_path):
    cockpit, news = Cockpit(load_world(), PPOConfig(eta=0.0, seed=3)), []
    cockpit.send = news.append
    cockpit._handle_custom_msg({"all": True}, [])
    cockpit.pause()  # all is told
    page = open_page(address=static.write_cockpit(tmp_path, news, cockpit.constants))
    for prompt, box in zip(PROMPTS, page.locator(".said").all(), strict=True):
        p, best = load_world().tables(prompt).ref_logprobs.max(dim=0)
        assert f"“{response_text(best.item())}”" in box.inner_text()
        assert share(p.exp().item()) in box.locator("li").first.inner_text()


def test_what_is_older_than_the_last_batch_is_grey(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    old = numbers(page).locator("tr.old")
    assert old.count() == 0
    page.evaluate("news => hear(news)", {**last, "iteration": 60, "from": 52, "rows": []})
    page.wait_for_function("() => document.querySelectorAll('.numbers tr.old').length === 1")
    assert "exact, after iteration 52" in old.inner_text()


def test_a_page_that_has_missed_news_asks_for_all(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    assert page.evaluate("() => told.length && told.filter((order) => order.all).length") == 1
    page.evaluate("news => hear(news)", {**last, "from": 70, "rows": [[1, 1, 1, 1]]})
    assert page.evaluate("() => told.filter((order) => order.all).length") == 2


def test_a_run_without_gold_scores_is_shown_without_them(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    rows = [[1.0, None, 0.5, 3.0]] * 5
    page.evaluate(
        "news => hear(news)",
        {
            **last,
            "run": 9,
            "from": 0,
            "rows": rows,
            "batch": rows[-1],
            "parent": [],
            "parentFrom": 0,
        },
    )
    page.wait_for_function("() => root.run.id === 9 && root.run.rows.length === 5")
    cells = numbers(page).locator("tbody tr").first.locator("td")
    page.wait_for_function(
        "() => document.querySelector('.numbers td:nth-child(3)').innerText === '–'"
    )
    assert cells.all_inner_texts()[:2] == ["1.00", "–"]


def test_orders_leave_the_page_as_they_were_given(open_page, flight):
    page = open_page(address=flight[0])
    page.evaluate("() => { told.length = 0; }")
    for name in ("step", "fork"):
        page.locator(f"button.{name}").click()
    page.locator(".pace label", has_text="slow").click()
    page.locator("[data-typed=eta]").fill("0,42")
    page.locator("[data-typed=eta]").press("Enter")
    page.locator("[data-typed=beta]").fill("-1")
    page.locator("[data-typed=beta]").press("Enter")
    assert "“-1” is not a number that is at least 0" in page.locator(".wrong").inner_text()
    page.locator(".settings summary").click()
    page.locator("[name=kl_target]").fill("0,5")
    page.locator("button.reset").click()
    settings = flight[1][-1]["settings"]
    told = page.evaluate("() => told")
    assert told == [
        {"do": "step"},
        {"do": "fork"},
        {"slow": True},
        {"move": {"eta": 0.42}, "page": told[3]["page"], "asked": 1},
        {
            "do": "reset", "eta": 0.42, "beta": 0,
            "settings": {**settings, "seed": "3", "kl_target": "0.5"},
        },
    ]  # fmt: skip


def test_news_that_are_older_than_a_move_do_not_move_the_slider_back(open_page, flight):
    page, last = open_page(address=flight[0]), flight[1][-1]
    slider, field = page.locator("[data-of=eta]"), page.locator("[data-typed=eta]")
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    moved = float(field.input_value())
    assert moved > last["eta"]
    me = page.evaluate("() => told.at(-1).page")
    again = {**last, "from": 52, "rows": [], "parent": [], "parentFrom": 52}
    for news, shown in (
        ({**again, "moved": {me: 1}}, moved),
        ({**again, "moved": {me: 2}, "eta": 0.7}, 0.7),
    ):
        page.evaluate("news => hear(news)", news)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        assert float(field.input_value()) == shown
