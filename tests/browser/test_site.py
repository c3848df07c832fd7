"""The site, opened as files and with the network off: every page, and what lives in it."""

import time

import pytest
import torch
import truth
from axe_playwright_python.sync_playwright import Axe
from servers import RESULTS

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.language import PROMPTS, encode, gold_scores
from rlhf_lab.report import metrics, optimum_logprobs
from rlhf_lab.ui import Cockpit
from rlhf_lab.ui.optima import optima
from rlhf_lab.world import response_text

FIRST = "notebooks/00_start_here.html"
NINE = "notebooks/09_the_ppo_loop.html"
WIDTHS = (360, 1280)
# the reward model's scores are rounded to 16 bits in the page
TOLERANCE = 2e-3
FRONT = "document.querySelector('.rlhf-collapse')"


@pytest.fixture
def visit(site, browser):
    """visit(page) opens a page of the site; nothing may be asked of any network."""
    contexts, wrong = [], []

    def request(asked):
        if not asked.url.startswith(("file:", "data:", "blob:")):
            wrong.append(asked.url)

    def failed(asked):
        if "ERR_ABORTED" not in asked.failure:  # the test went on to another page
            wrong.append(asked.url)

    def visit(path, query="", **options):
        options.setdefault("viewport", {"width": 1280, "height": 800})
        contexts.append(browser.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.on("request", request)
        page.on("requestfailed", failed)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: m.type == "error" and wrong.append(m.text))
        page.goto((site / path).as_uri() + query)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def alive(page, kind):
    """The root of a live part, once it shows something."""
    root = page.locator(f".rlhf-live[data-kind={kind}] > div").first
    page.locator(f".rlhf-live[data-kind={kind}]").first.scroll_into_view_if_needed()
    shows = "kind => document.querySelector(`.rlhf-live[data-kind=${kind}] > div`)?.state"
    page.wait_for_function(shows, arg=kind)
    return root


def test_every_page_fits_and_names_its_pictures(site, visit):
    pages = sorted(path.relative_to(site) for path in site.rglob("*.html"))
    assert len(pages) >= 25
    for width in WIDTHS:
        page = visit("index.html", viewport={"width": width, "height": 800})
        for path in pages:
            page.goto((site / path).as_uri())
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, (path, width)
            assert page.locator("img:not([alt]), img[alt='']").count() == 0, path
            assert page.locator("math merror").count() == 0, path


def test_the_front_page_collapses_while_somebody_reads(visit, measured):
    began = time.perf_counter()
    page = visit("index.html")
    alive(page, "collapse")
    measured("site: navigation to a living front page", [1e3 * (time.perf_counter() - began)])
    page.wait_for_function(
        "document.querySelector('.rlhf-collapse').state.records.at(-1)?.gold < -1", timeout=20_000
    )
    took = time.perf_counter() - began
    measured("site: navigation to a visible collapse", [1e3 * took])
    assert took > 8  # not before one has read the headline
    page.wait_for_function(f"{FRONT}.state.iteration === 45")
    records = page.evaluate("document.querySelector('.rlhf-collapse').state.records")
    trainer = Trainer(load_world(), PPOConfig(eta=0.0, seed=3))
    for record in records[:10]:
        stats = trainer.step()
        shown = [record[name] for name in ("score", "kl", "entropy", "length", "distinct")]
        expected = [stats.score, stats.kl, stats.entropy, stats.length, stats.distinct]
        assert shown == pytest.approx(expected, abs=TOLERANCE)
    page.screenshot(path=RESULTS / "site-front-1280.png")


def test_the_leash_on_the_front_page(visit):
    page = visit("index.html")
    root = alive(page, "collapse")
    page.wait_for_function("document.querySelector('.rlhf-collapse').state.iteration === 45")
    root.get_by_role("button", name="Put it on a leash").click()
    page.wait_for_function("document.querySelector('.rlhf-collapse').state.iteration === 100")
    state = page.evaluate("document.querySelector('.rlhf-collapse').state")
    assert state["eta"] == 0.3
    assert state["records"][-1]["gold"] > 1
    assert state["said"] in root.locator(".big").inner_text()
    slider = root.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")  # η = 0: from the start again, as all 100 iterations are over
    page.wait_for_function("document.querySelector('.rlhf-collapse').state.iteration < 46")


def act(root):
    """The words of the current act, the only one that is marked."""
    return root.locator(".stages [aria-current=step]").inner_text().replace("\n", " ")


def test_each_act_can_be_played(visit):
    page = visit("index.html", reduced_motion="reduce")
    root = alive(page, "collapse")
    state = lambda: page.evaluate(f"{FRONT}.state")  # noqa: E731
    acts = [root.locator(".stages button").nth(k) for k in range(3)]
    acts[2].click()
    page.wait_for_function(f"{FRONT}.state.iteration === 100")
    assert act(root) == "3 The leash brings it back"
    leashed = state()
    assert leashed["eta"] == 0.3
    assert "η → 0.3" in root.locator(".chart").inner_text()
    golds = [record["gold"] for record in leashed["records"]]
    assert golds[44] < -1.5
    assert golds[-1] > 1
    acts[1].click()
    page.wait_for_function(f"{FRONT}.state.iteration === 45")
    assert act(root) == "2 It collapses"
    assert state()["records"] == leashed["records"][:45]  # nothing but η differs, and that later
    acts[0].focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"{FRONT}.state.iteration in {{2: 1, 3: 1, 4: 1}}")
    assert act(root) == "1 It learns"
    acts[2].click()
    page.wait_for_function(f"{FRONT}.state.iteration > 20")
    root.locator(".again").click()
    assert root.locator(".again").inner_text() == "Go on"
    stopped = state()["iteration"]
    root.get_by_role("slider").fill("3")  # who moves the leash has it: no rescue by itself
    page.wait_for_function(f"{FRONT}.state.iteration > {stopped}")
    page.wait_for_function(f"{FRONT}.state.iteration >= 50")
    assert state()["eta"] == 0.03


def test_what_to_do_next_beats_after_the_fall_and_leads_on(visit):
    page = visit("index.html")
    root = alive(page, "collapse")
    # Once it has begun, nothing is to be done while it learns.
    page.wait_for_function("!document.querySelector('.rlhf-collapse .next')")
    page.wait_for_function("document.querySelector('.rlhf-collapse .next')")
    assert page.evaluate("document.querySelector('.rlhf-collapse').state.iteration") == 45
    assert act(root) == "2 It collapses"
    assert root.locator(".onward").is_hidden()
    root.locator(".next").click()
    page.wait_for_function("!document.querySelector('.rlhf-collapse .onward').hidden")
    assert root.locator(".next").count() == 0
    assert act(root) == "3 The leash brings it back"
    root.locator(".onward").click()
    assert page.url.endswith(f"{FIRST}#play")
    page.wait_for_function("document.querySelector('#play > .rlhf-explorer')?.state")
    page.goto(page.url.removesuffix("#play"))
    page.get_by_role("link", name="Play first: the explorer").click()
    at = "Math.abs(document.querySelector('#play').getBoundingClientRect().y - 30) < 50"
    page.wait_for_function(at)  # the page rolls there


def test_the_fall_can_be_paused_and_goes_on(visit):
    page = visit("index.html")
    root = alive(page, "collapse")
    page.wait_for_function(f"{FRONT}.state.iteration >= 14")
    button = root.locator(".again")
    assert button.inner_text() == "Pause"
    button.click()
    stopped = page.evaluate(f"{FRONT}.state.iteration")
    page.wait_for_timeout(500)
    assert page.evaluate(f"{FRONT}.state.iteration") == stopped < 20
    assert button.inner_text() == "Go on"
    root.locator(".big").click()  # from anywhere in the card, the space bar is the button
    page.keyboard.press(" ")
    page.wait_for_function(f"{FRONT}.state.iteration > {stopped}")
    page.keyboard.press(" ")
    assert button.inner_text() == "Go on"
    assert page.evaluate("scrollY") == 0
    root.get_by_role("button", name="Put it on a leash").click()
    assert button.inner_text() == "Pause"


def said(root):
    """The words below the quotation and below the picture, as they are shown."""
    return root.locator(".once").inner_text(), root.locator(".long").inner_text()


LISTEN = """window.told = {};
const root = document.querySelector(".rlhf-collapse");
new MutationObserver(() => {
  told[root.state.iteration] = root.querySelector(".long").textContent;
}).observe(root, { subtree: true, childList: true });"""


def test_the_fall_is_told_as_it_happens(visit):
    """The readers' turn is named when it comes, and the fatal sentence by how rare it was."""
    page, world = visit("index.html"), load_world()
    root = alive(page, "collapse")
    assert root.locator(".step").inner_text() == "before training"
    assert said(root) == ("", "This is what it says before training. Watch the face.")
    page.evaluate(LISTEN)
    page.wait_for_function(f"{FRONT}.state.iteration === 45")
    told = page.evaluate("told")
    assert told["14"].startswith("It learns")
    assert told["15"] == "Readers begin to turn away."
    assert told["17"].startswith("Nothing held it")
    which = next(i for i in range(9999) if response_text(i) == "great great .")
    p = sum(_ref(world, prompt)[which].exp().item() for prompt in PROMPTS) / len(PROMPTS)
    rare = f"{float(f'{1 / p:.2g}'):,.0f}"
    assert said(root)[0] == f"Before training: once in {rare} reviews. Now: 126 of 128."
    root.locator(".leash").click()
    page.wait_for_function(f"{FRONT}.state.iteration === 100")
    distinct = page.evaluate(f"{FRONT}.state.records.at(-1).distinct")
    assert said(root)[0] == f"Varied again: {distinct} different reviews. In the collapse: 3."


def test_on_a_wall_it_goes_on_or_waits_for_start(visit):
    page = visit("index.html", viewport={"width": 1920, "height": 1080})
    root = alive(page, "collapse")
    page.keyboard.press("f")  # what has not yet begun waits
    page.wait_for_function("document.fullscreenElement && innerHeight === 1080")
    page.wait_for_timeout(2500)
    assert page.evaluate(f"{FRONT}.state.iteration") == 1
    assert root.locator(".share b").inner_text() == "7"
    start = root.get_by_role("button", name="Start")
    box = start.bounding_box()
    assert (box["width"] >= 220, box["height"] >= 72) == (True, True)
    page.keyboard.press(" ")
    page.wait_for_function(f"{FRONT}.state.iteration > 2")
    page.keyboard.press("f")
    page.wait_for_function("!document.fullscreenElement")
    page.locator(".rlhf-live > .full").first.click()
    page.wait_for_function("document.fullscreenElement")
    page.wait_for_function(f"{FRONT}.state.iteration > 5")  # the run is kept, and goes on
    assert (
        root.evaluate("root => root.parentElement.scrollHeight - root.parentElement.clientHeight")
        <= 0
    )


def test_readers_turn_away_before_act_2_and_the_focus_goes_on_with_the_story(visit):
    page = visit("index.html")
    root = alive(page, "collapse")
    now, focused = root.locator("[aria-current]"), "document.activeElement.className"
    axis = "[...document.querySelectorAll('.chart text')].slice(0, 3).map(t => t.getAttribute('y'))"
    began = page.evaluate(axis)
    page.wait_for_function(f"{FRONT}.state.iteration === 15")  # they still like it, but less
    assert now.inner_text().split("\n")[-1] == "It learns"
    assert root.locator(".why .long").inner_text() == "Readers begin to turn away."
    page.wait_for_function(f"{FRONT}.state.iteration === 16")
    assert now.inner_text().split("\n")[-1] == "It collapses"
    root.locator(".again").focus()  # Pause, until the run ends
    page.wait_for_function(f"{focused}.startsWith('leash')")
    page.keyboard.press("Enter")
    page.wait_for_function(f"{FRONT}.state.iteration > 50")
    assert page.evaluate(axis) == began  # the flag has its room from the start
    page.wait_for_function(f"{FRONT}.state.iteration === 100 && {focused} === 'onward'")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("f")
    page.wait_for_function(f"document.fullscreenElement && {focused} === 'onward'")


def test_f_is_a_letter_where_somebody_types(visit):
    page = visit(FIRST)
    alive(page, "explorer")
    page.locator("[data-typed=eta]").first.press("f")
    page.locator(".rlhf-guess input").first.press("f")
    page.wait_for_timeout(200)
    assert page.evaluate("document.fullscreenElement") is None
    page.locator("#play").scroll_into_view_if_needed()
    page.locator("#play input[type=range]").first.press("f")
    page.wait_for_function("document.fullscreenElement?.id === 'play'")


def test_a_card_leads_to_what_can_be_played(visit):
    page = visit("index.html")
    plays = page.locator(".course-map .play")
    assert plays.count() >= 3
    for link in plays.evaluate_all("links => links.map((link) => link.href)"):
        page.goto(link)
        assert page.locator("#play.rlhf-live").count() == 1


def test_the_faces_are_the_reviews_of_the_last_batch(visit):
    page = visit("index.html")
    root = alive(page, "collapse")
    page.wait_for_function("document.querySelector('.rlhf-collapse').state.iteration === 45")
    faces = root.locator(".crowd use").evaluate_all(
        "uses => uses.map((u) => +u.href.baseVal.at(-1))"
    )
    assert len(faces) == 128
    state = page.evaluate("document.querySelector('.rlhf-collapse').state")
    moods = (-2, -1, 0, 1, 2)
    about = sum(moods[face] for face in faces) / 128
    assert about == pytest.approx(state["records"][-1]["gold"], abs=0.5)
    assert f"{faces.count(0)}" >= root.locator(".share b").inner_text() == "126"


@pytest.mark.parametrize(("path", "kind"), [("index.html", "collapse"), (FIRST, "explorer")])
def test_a_live_part_gets_the_whole_screen_and_gives_it_back(visit, path, kind):
    page = visit(path)
    root = alive(page, kind)
    width = root.evaluate("root => root.clientWidth")
    button = page.locator(".rlhf-live > .full").first
    button.click()
    page.wait_for_function("document.fullscreenElement?.matches('.rlhf-live')")
    page.wait_for_function(
        "document.querySelector('.rlhf-live > .full').textContent.includes('Leave')"
    )
    assert root.evaluate("root => root.clientWidth") > width
    button.click()
    page.wait_for_function("!document.fullscreenElement")


@pytest.mark.parametrize(
    ("path", "kind", "least"), [(FIRST, "explorer", 20), (NINE, "cockpit", 22)]
)
def test_on_a_wall_all_is_in_sight_and_large(visit, path, kind, least):
    page = visit(path, viewport={"width": 1920, "height": 1080})
    alive(page, kind)
    wall = page.locator(f".rlhf-live[data-kind={kind}]").first
    wall.locator("> .full").click()
    page.wait_for_function("document.fullscreenElement && innerHeight === 1080")
    page.wait_for_timeout(500)
    assert wall.evaluate("wall => wall.scrollHeight - wall.clientHeight") <= 0
    small = wall.locator(".rlhf-front *").evaluate_all(
        """(all, least) => all.filter((e) => e.checkVisibility() && !e.closest(".heard")
          && !e.matches("sub, tspan")
          && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())
          && parseFloat(getComputedStyle(e).fontSize) < least).map((e) => e.outerHTML)""",
        least,
    )
    assert small == []


def test_nothing_moves_by_itself_for_those_who_asked_for_that(visit):
    page = visit("index.html", reduced_motion="reduce")
    root = alive(page, "collapse")
    page.wait_for_timeout(2500)
    assert page.evaluate(f"{FRONT}.state.iteration") == 1  # what it says before training
    assert root.locator(".share b").inner_text() == "7"
    root.get_by_role("button", name="Start").click()
    page.wait_for_function("document.querySelector('.rlhf-collapse').state.iteration > 3")


def test_the_explorer_is_that_of_the_notebook(visit, measured):
    page, world = visit(FIRST), load_world()
    root = alive(page, "explorer")
    slider = root.get_by_role("slider").first
    slider.focus()
    times = []
    for k in range(20):
        prompt = ("food", "staff")[k // 10]
        root.get_by_text(prompt, exact=True).first.click()
        slider.evaluate("(slider, k) => { slider.value = k; }", 3 + 3 * k)
        slider.focus()
        draws = root.evaluate("root => root.draws")
        began = time.perf_counter()
        page.keyboard.press("ArrowLeft")
        page.wait_for_function(f"document.querySelector('.rlhf-explorer').draws > {draws}")
        times.append(1e3 * (time.perf_counter() - began))
        state = root.evaluate("root => root.state")
        assert state["prompt"] == prompt
        exact = optima(world, prompt).state(state["eta"], state["beta"], _ref(world, prompt))
        shown = [state[name] for name in ("score", "gold", "kl", "entropy")]
        assert shown == pytest.approx(tuple(exact.metrics), abs=TOLERANCE)
        best = truth.optimum(world.tables(prompt), state["eta"], 0.0).topk(7).indices.tolist()
        assert {one["index"] for one in state["said"]} == set(best)
    measured("site: a key to the explorer's new picture, through Playwright", times)


@pytest.mark.parametrize("width", [360, 1280, 1920])
def test_nothing_jumps_when_the_explorer_comes(visit, width):
    page = visit(FIRST, viewport={"width": width, "height": 900})
    place = page.locator(".rlhf-live[data-kind=explorer]").first
    before = place.bounding_box()["height"]
    alive(page, "explorer")
    assert place.bounding_box()["height"] == pytest.approx(before, abs=40)


def _ref(world, prompt):
    return world.tables(prompt).ref_logprobs


COCKPIT = "document.querySelector('.rlhf-cockpit')"


def steps(page, root, n):
    """Press Step n times; what the cockpit shows then."""
    if not root.locator(".step").is_visible():  # a phone folds it while the guide tells its story
        root.locator(".dismiss").click()
    for _ in range(n):
        k = page.evaluate(f"{COCKPIT}.state.iteration")
        root.locator(".step").click()
        page.wait_for_function(f"{COCKPIT}.state.iteration === {k + 1}")
    return page.evaluate(f"{COCKPIT}.state")


def test_the_cockpit_runs_as_the_notebook_s_does(visit):
    page, world = visit(NINE), load_world()
    root = alive(page, "cockpit")
    trainer = Trainer(world, PPOConfig(eta=0.3, seed=0))
    state = steps(page, root, 3)
    assert state.keys() == Cockpit(world).news.keys()  # run.js tells what cockpit.py tells
    expected = [trainer.step() for _ in range(3)]
    rows = page.evaluate(f"{COCKPIT}.run.rows")
    for (score, _, kl, entropy), stats in zip(rows, expected, strict=True):
        assert (score, kl, entropy) == pytest.approx(
            (stats.score, stats.kl, stats.entropy), abs=TOLERANCE
        )
    policies = {prompt: world.logprobs(trainer.policy, prompt).detach() for prompt in PROMPTS}
    assert state["exactAt"] == 3
    assert state["exact"] == pytest.approx(list(metrics(world, policies)), abs=TOLERANCE)
    best = metrics(world, optimum_logprobs(world, 0.3, 0.0))
    assert state["optimum"] == pytest.approx(list(best), abs=TOLERANCE)
    times, text, gold = state["reviews"]["food"][0]
    assert f"“{text}”" in root.locator(".said").first.inner_text()
    assert times <= state["written"]["food"] == 64
    tokens = torch.tensor([encode(text.replace(".", "<eos>"))])
    assert gold == pytest.approx(gold_scores(torch.tensor(encode("food")), tokens).item(), abs=1e-6)


def test_a_fork_goes_on_beside_its_parent_and_a_saved_run_comes_back(visit):
    page = visit(NINE)
    root = alive(page, "cockpit")
    root.locator(".settings summary").click()
    steps(page, root, 2)
    root.locator(".save").click()
    root.locator(".fork").click()
    page.wait_for_function(f"{COCKPIT}.state.note.includes('Forked at iteration 2')")
    root.locator("[data-typed=eta]").fill("0")
    page.keyboard.press("Enter")
    state = steps(page, root, 4)
    assert (state["eta"], state["moves"]) == (0, [[2, "η 0"]])
    run = page.evaluate(f"{COCKPIT}.run")
    assert run["rows"][:2] == run["parent"][:2]
    assert len(run["rows"]) == len(run["parent"]) == 6
    assert run["rows"][2] == run["parent"][2]  # written before the first update without a leash
    assert run["rows"][5] != run["parent"][5]
    root.locator(".load").click()
    page.wait_for_function(f"{COCKPIT}.state.iteration === 2")
    steps(page, root, 2)
    assert page.evaluate(f"{COCKPIT}.run.rows") == run["parent"][:4]
    root.locator("[name=folder]").fill("elsewhere")
    root.locator(".load").click()
    page.wait_for_function(f"{COCKPIT}.state.error?.includes('elsewhere')")


def test_settings_of_the_cockpit_are_checked_and_obeyed(visit):
    page = visit(NINE)
    root = alive(page, "cockpit")
    root.locator(".settings summary").click()
    for name, bad, word in (("seed", "x", "seed"), ("kl_target", "-1", "kl_target")):
        root.locator(f"[name={name}]").fill(bad)
        root.locator(".reset").click()
        page.wait_for_function(f"{COCKPIT}.state.error?.includes('{word}')")
        root.locator(f"[name={name}]").fill("3")
    root.locator(".reset").click()
    page.wait_for_function(f"{COCKPIT}.state.settings.kl_target === 3")
    state = steps(page, root, 4)
    trainer = Trainer(load_world(), PPOConfig(eta=0.3, seed=3, kl_target=3.0))
    for _ in range(4):
        trainer.step()
    assert state["eta"] == pytest.approx(trainer.eta, rel=1e-6)
    page.evaluate("rlhfEngine.Run.prototype.step = () => null")
    root.locator(".step").click()
    page.wait_for_function(f"{COCKPIT}.state.error?.includes('not finite')")
    assert page.evaluate(f"{COCKPIT}.state.iteration") == 4


def test_notebook_08_hands_its_cockpit_a_collapsed_policy(visit):
    page = visit("notebooks/08_mode_collapse.html")
    root = alive(page, "cockpit")
    state = steps(page, root, 1)
    assert state["distinct"] < 12
    assert state["batch"][2] > 5  # nats from π_SFT, before the first update


def test_a_guess_comes_before_its_answer(visit, site):
    page = visit(FIRST)
    box, answer = page.locator(".rlhf-guess").first, page.locator(".rlhf-answer").first
    outputs = page.get_by_text("115 × great great")  # printed between the two
    assert not answer.locator("p").first.is_visible()
    assert not outputs.is_visible()
    box.get_by_role("textbox").fill("900")
    box.get_by_role("button", name="Commit").click()
    assert "from 1 to 128" in box.get_by_role("status").inner_text()
    box.get_by_role("textbox").fill("12")
    box.get_by_role("button", name="Commit").click()
    assert "You guessed 12." in answer.inner_text()
    assert not outputs.is_visible()  # a second question stands before them
    second = page.locator(".rlhf-guess").nth(1)
    second.get_by_text("less and less").click()
    second.get_by_role("button", name="Commit").click()
    assert outputs.is_visible()
    page.reload()
    assert "You guessed 12." in answer.inner_text()


def test_an_answer_can_be_had_without_a_guess(visit):
    page = visit(FIRST)
    page.locator(".rlhf-guess .skip").first.click()
    answer = page.locator(".rlhf-answer").first
    assert answer.locator("p").first.is_visible()
    assert "You guessed" not in answer.inner_text()


def test_without_javascript_the_pictures_stay(visit):
    page = visit("index.html", java_script_enabled=False)
    assert page.locator(".rlhf-live img").is_visible()
    page = visit(FIRST, java_script_enabled=False)
    assert page.locator(".rlhf-answer p").first.is_visible()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "WebAssembly.compile = async () => { throw new WebAssembly.CompileError('no SIMD') }",
            "a browser of 2023 or later",
        ),
        ("delete window.DecompressionStream", "a browser of 2023 or later"),
    ],
    ids=["no-simd", "old"],
)
def test_an_old_browser_gets_one_sentence_and_the_picture(site, browser, fault, words):
    context = browser.new_context(offline=True)
    context.add_init_script(fault)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    page.wait_for_function("document.querySelector('.rlhf-live .says')?.textContent.length > 30")
    assert words in page.locator(".rlhf-live .says").inner_text()
    assert page.locator(".rlhf-live img").is_visible()
    context.close()


def test_a_number_that_overflows_is_said_in_one_sentence(visit):
    page = visit("index.html", reduced_motion="reduce")
    root = alive(page, "collapse")
    page.evaluate("rlhfEngine.Run.prototype.step = () => null")
    root.get_by_role("button", name="Start").click()
    page.wait_for_function(
        "document.querySelector('.rlhf-collapse .why').textContent.includes('too large')"
    )


def test_a_missing_file_is_said_in_one_sentence(site, browser):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.route("**/data.js*", lambda route: route.abort())
    page.goto((site / "index.html").as_uri())
    page.wait_for_function(
        "document.querySelector('.rlhf-live .says')?.textContent.includes('data.js is missing')"
    )
    assert page.locator(".rlhf-live img").is_visible()
    context.close()


def test_the_page_to_mail_needs_no_other_file(site, visit):
    mailed = site.parent / "rlhf_lab.html"
    assert mailed.stat().st_size <= 3_000_000
    page = visit("../rlhf_lab.html")
    alive(page, "collapse")
    alive(page, "explorer")


def test_search_works_from_files(visit):
    page = visit("search.html", "?q=leash")
    page.wait_for_selector("ul.search li a")
    assert page.locator("ul.search li a").count() >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("path", "kind"), [("index.html", "collapse"), (FIRST, "explorer"), (NINE, "cockpit")]
)
def test_axe_finds_nothing_serious(visit, path, kind, scheme):
    page = visit(path, color_scheme=scheme)
    root = alive(page, kind)
    if kind == "cockpit":
        steps(page, root, 2)
    page.wait_for_timeout(500)
    found = Axe().run(page, options={"preload": False}).response["violations"]
    serious = {
        one["id"]: [node["target"] for node in one["nodes"]][:3]
        for one in found
        if one["impact"] in ("serious", "critical")
    }
    assert serious == {}


@pytest.mark.parametrize("width", [360, 800, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_to_look_at(visit, width, scheme):
    """They end up in browser-test/, for people; here they must only be possible."""
    page = visit("index.html", viewport={"width": width, "height": 900}, color_scheme=scheme)
    for path, kind in (("index.html", "collapse"), (FIRST, "explorer"), (NINE, "cockpit")):
        page.goto(page.url.rsplit("site/", 1)[0] + f"site/{path}")
        root = alive(page, kind)
        if kind == "cockpit":
            steps(page, root, 2)
        page.wait_for_timeout(500)
        page.screenshot(path=RESULTS / f"site-{kind}-{width}-{scheme}.png")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


MOVES = """async (moves) => {
  const root = document.querySelector(".rlhf-explorer"), times = [];
  const slider = root.querySelector(".eta input[type=range]");
  for (let k = 0; k < moves; k++) {
    slider.value = 10 + (7 * k) % 50;
    const began = performance.now();
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    times.push(performance.now() - began);
  }
  return times;
}"""


@pytest.mark.parametrize(("times_slower", "moves"), [(1, 100), (4, 40)], ids=["here", "phone"])
def test_how_long_a_move_takes(visit, measured, times_slower, moves):
    """Measured, not judged: from the event to the painted picture, and once on a slow processor."""
    page = visit(FIRST)
    slow = page.context.new_cdp_session(page)
    slow.send("Emulation.setCPUThrottlingRate", {"rate": times_slower})
    began = time.perf_counter()
    page.reload()
    alive(page, "explorer")
    took = 1e3 * (time.perf_counter() - began)
    where = "site" if times_slower == 1 else f"site, processor {times_slower} times slower"
    measured(f"{where}: page to a living explorer", [took])
    found = page.evaluate(MOVES, moves)
    assert len(found) == moves
    measured(f"{where}: slider to painted picture", found)
