"""The cockpit without a browser: what it trains, how it is steered, and what it shows."""

import dataclasses
import json
import time

import cockpits
import pytest
import torch
from cockpits import SMALL, order, until, weights, workers

from rlhf_lab import Trainer
from rlhf_lab.language import PROMPTS, decode
from rlhf_lab.report import metrics, optimum_at, optimum_logprobs
from rlhf_lab.ui.cockpit import Cockpit
from rlhf_lab.ui.dashboard import flight_figure, frontier

world, cockpit = cockpits.world, cockpits.cockpit


def test_building_it_starts_nothing(cockpit):
    assert not workers()
    assert not cockpit.state.running
    assert cockpit.state.iteration == 0
    assert cockpit.state.batch is None
    assert "Ready" in cockpit.news["status"]
    assert repr(cockpit) == "Cockpit(iteration=0, eta=0.1, beta=0)"


def test_run_is_the_trainer_itself_bit_for_bit(world, cockpit):
    plain = Trainer(world, SMALL)
    for _ in range(6):
        plain.step()
    assert cockpit.run(6) is None
    assert cockpit.trainer.history == plain.history
    assert torch.equal(weights(cockpit.trainer), weights(plain))


def test_a_slider_acts_from_the_next_iteration_on(world, cockpit):
    plain = Trainer(world, SMALL)
    plain.step()
    plain.eta, plain.beta = 0.5, 0.05
    plain.step()
    cockpit.run(1)
    order(cockpit, move={"eta": 0.5})
    order(cockpit, move={"beta": 0.05})
    cockpit.run(1)
    assert cockpit.trainer.history == plain.history
    assert cockpit.state[1:3] == (0.5, 0.05)


def test_a_slider_acts_on_a_running_loop(cockpit):
    order(cockpit, do="start")
    until(lambda: cockpit.state.iteration >= 2)
    order(cockpit, move={"eta": 1.0})
    moved_at = cockpit.state.iteration
    until(lambda: cockpit.state.iteration >= moved_at + 3)
    cockpit.pause()
    assert [s.eta for s in cockpit.trainer.history[:2]] == [0.1, 0.1]
    assert {s.eta for s in cockpit.trainer.history[moved_at + 1 :]} == {1.0}


def test_a_slider_shows_its_effect_before_the_next_piece_of_work(cockpit, monkeypatch):
    cockpit.fork()
    own_step, shown = cockpit.trainer.step, []

    def moved_meanwhile():
        cockpit._engine.moved["eta"] = 0.5
        return own_step()

    monkeypatch.setattr(cockpit.trainer, "step", moved_meanwhile)
    monkeypatch.setattr(cockpit.parent, "step", lambda: shown.append(cockpit.news["eta"]))
    cockpit.run(1)
    assert shown == [0.5]
    assert cockpit.trainer.history[0].eta == 0.1


def test_set_takes_any_value_and_moves_the_slider(cockpit):
    cockpit.set(eta=0.123, beta=0.0)
    assert cockpit.news["eta"] == cockpit.state.eta == 0.123
    with pytest.raises(ValueError, match=r"beta.*-1"):
        cockpit.set(eta=0.2, beta=-1)
    assert cockpit.state.eta == 0.123


def test_what_it_calls_exact_is_exact(world, cockpit):
    cockpit.set(eta=0.2, beta=0.1)
    cockpit.run(2)
    state = cockpit.state
    parts = [world.evaluate(cockpit.trainer.policy, prompt) for prompt in PROMPTS]
    assert state.exact_iteration == state.iteration == 2
    assert state.exact.kl == pytest.approx(sum(p.kl.item() for p in parts) / 2, rel=1e-9)
    regrets = []
    for prompt in PROMPTS:
        logprobs = world.logprobs(cockpit.trainer.policy, prompt).detach()
        best = optimum_at(world.tables(prompt), 0.2, 0.1)
        regrets.append((0.2 + 0.1) * (logprobs.exp() @ (logprobs - best)).item())
    assert state.regret == pytest.approx(sum(regrets) / 2, rel=1e-6)
    assert (cockpit.news["exactAt"], cockpit.news["regret"]) == (2, state.regret)
    assert cockpit.news["exact"] == list(state.exact)


def test_the_optimum_follows_the_sliders(world, cockpit):
    before = cockpit.news["optimum"]
    order(cockpit, move={"eta": 0.5})
    cockpit.pause()  # waits for what the slider asked for
    best = metrics(world, optimum_logprobs(world, 0.5, 0.0))
    assert cockpit.state.optimum == best
    assert cockpit.news["optimum"] == list(best) != before
    cockpit.set(eta=0.0)
    assert cockpit.state.optimum.score == pytest.approx(frontier(world)[0].score)


def test_the_last_batch_has_a_regret_of_its_own(cockpit):
    cockpit.run(2)
    state, batch = cockpit.state, cockpit._engine.view().seen[-1]
    goal = state.optimum.objective(state.eta, state.beta)
    assert state.regret_estimate == pytest.approx(goal - batch.objective(state.eta, state.beta))
    assert state.regret_estimate != state.regret
    assert cockpit._engine.view().regret == state.regret_estimate


def test_exact_values_come_on_the_way_too(cockpit, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.engine.EXACT_EVERY", 13)
    cockpit.run(39)
    assert list(cockpit._engine.branch.exact) == [0, 13, 26, 39]


def test_an_exact_value_on_the_way_is_that_of_its_own_policy(world, cockpit, monkeypatch):
    """Which is trained on while it is measured."""
    monkeypatch.setattr("rlhf_lab.ui.engine.EXACT_EVERY", 13)
    cockpit.run(25)
    at_rest = Cockpit(world, SMALL)
    at_rest.run(13)
    assert cockpit._engine.branch.exact[13] == at_rest.state.exact


def test_reviews_are_grouped_and_counted(world, cockpit):
    assert cockpit.news["reviews"]["food"] == []
    cockpit.run(2)
    rollout = cockpit.trainer.rollout
    food = rollout.tokens[rollout.tokens[:, 0] == world.prompt("food")]
    said = cockpit._engine.branch.reviews("food", most=6)
    everything = cockpit._engine.branch.reviews("food", most=99)
    assert sum(s.times for s in everything) == len(food)
    assert {s.text for s in everything} == {decode(tokens[1:]) for tokens in food}
    assert [s.times for s in said] == sorted((s.times for s in said), reverse=True)
    assert cockpit.news["reviews"]["food"] == said
    assert cockpit.news["written"]["food"] == len(food)


def test_one_drag_of_a_slider_is_one_move(cockpit):
    cockpit.run(1)
    for eta in (0.2, 0.3, 0.5):
        cockpit.set(eta=eta)
        cockpit.run(1)
    cockpit.run(6)
    cockpit.set(eta=0.1, beta=0.2)
    cockpit.run(1)
    assert cockpit._engine.view().moves == [(3, "η 0.5"), (10, "η 0.1"), (10, "β 0.2")]


def test_an_eta_that_moves_by_itself_is_no_move_of_a_slider(world):
    cockpit = Cockpit(world, dataclasses.replace(SMALL, kl_target=0.01, horizon=50))
    cockpit.run(3)
    assert len({stats.eta for stats in cockpit.trainer.history}) == 3
    assert cockpit._engine.view().moves == []


def test_an_eta_that_moves_by_itself_is_left_alone_after_a_slider(world):
    cockpit = Cockpit(world, dataclasses.replace(SMALL, kl_target=0.01, horizon=50))
    cockpit.set(eta=0.5)
    cockpit.run(3)
    first, *later = [stats.eta for stats in cockpit.trainer.history]
    assert first == 0.5
    assert len({first, *later}) == 3


@pytest.mark.parametrize("panels", [("curves",), ("landscape", "regret"), ("regret",)])
def test_panels_and_snapshots(world, panels):
    cockpit = Cockpit(world, SMALL, panels=panels)
    cockpit.run(1)
    assert cockpit.snapshot("what it shows").alt == "what it shows"
    with pytest.raises(ValueError, match="alt must say"):
        cockpit.snapshot(" ")


def test_samples_only(world):
    cockpit = Cockpit(world, SMALL, panels=("samples",))
    cockpit.run(1)
    with pytest.raises(ValueError, match="no picture"):
        cockpit.snapshot("nothing")
    with pytest.raises(ValueError, match="panels must be some of"):
        Cockpit(world, SMALL, panels=("curve",))


def test_the_still_figure_shows_the_numbers(world, cockpit):
    cockpit.run(3)
    cockpit.fork()
    cockpit.set(eta=1.0)
    cockpit.run(2)
    view = cockpit._engine.view()
    axes = flight_figure(["curves", "landscape", "regret"], frontier(world), view).axes
    score, landscape, gauge = axes[0], axes[4], axes[5]
    lines = [[list(line.get_xdata()), list(line.get_ydata())] for line in score.lines]
    for run in (view.seen, view.parent):
        assert [list(range(len(run))), [m.score for m in run]] in lines
    assert [list(view.exact), [m.score for m in view.exact.values()]] in lines
    assert cockpit.state.optimum.kl in [line.get_xdata()[0] for line in landscape.lines]
    assert gauge.patches[0].get_width() == pytest.approx(max(cockpit.state.regret_estimate, 0))
    for shown, forked in ((view, True), (view._replace(parent=()), False)):
        (legend,) = flight_figure(["curves"], frontier(world), shown).legends
        assert ("parent of a fork" in [text.get_text() for text in legend.get_texts()]) == forked


def test_pictures_are_the_same_each_time(world):
    def picture():
        cockpit = Cockpit(world, SMALL)
        cockpit.run(4)
        return cockpit.snapshot("x").data

    assert picture() == picture()


@pytest.fixture
def sent(cockpit, monkeypatch):
    """What the page is sent, as it arrives there."""
    messages = []
    monkeypatch.setattr(cockpit, "send", lambda news: messages.append(json.loads(strict(news))))
    return messages


def strict(news):
    """JSON as browsers read it, without NaN."""
    return json.dumps(news, allow_nan=False)


def test_the_page_is_sent_each_row_once_and_can_ask_for_all(cockpit, sent):
    order(cockpit, all=True)
    cockpit.run(7)
    cockpit.fork()
    cockpit.run(3)
    seen, parent = cockpit._engine.branch.seen, cockpit.parent.seen
    rows = [row for news in sent for row in news["rows"]]
    assert rows == [list(m) for m in seen]
    assert [row for news in sent for row in news["parent"]] == [list(m) for m in parent]
    starts = [news["from"] for news in sent]
    assert starts == sorted(starts)
    order(cockpit, all=True)
    cockpit.pause()
    whole = next(news for news in sent[len(starts) :] if news["from"] == 0)
    assert (whole["rows"], whole["parent"]) == (rows, [list(m) for m in parent])
    assert whole["allExact"] == [[k, *m] for k, m in cockpit._engine.branch.exact.items()]


def test_a_new_run_has_a_new_number(cockpit, sent):
    cockpit.run(2)
    cockpit.reset()
    assert sent[-1]["run"] == sent[0]["run"] + 1
    assert sent[-1]["iteration"] == 0
    cockpit.run(1)
    assert [row for news in sent if news["run"] == sent[-1]["run"] for row in news["rows"]] == [
        list(m) for m in cockpit._engine.branch.seen
    ]


def test_news_of_a_running_loop_are_not_more_than_an_eye_can_follow(cockpit, sent, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.cockpit.EVERY", 1e9)
    cockpit.run(20)
    assert len(sent) < 8  # the start, and what was measured at the end
    assert sent[-1]["iteration"] == 20


def test_a_page_that_does_not_answer_is_sent_little(cockpit, sent, monkeypatch):
    """Else a server keeps all that it cannot deliver, for as long as the kernel lives."""
    monkeypatch.setattr("rlhf_lab.ui.cockpit.EVERY", 0.0)
    monkeypatch.setattr("rlhf_lab.ui.cockpit.UNHEARD", 5)
    order(cockpit, do="start")
    until(lambda: cockpit.state.iteration >= 25)
    assert len(sent) <= 6
    order(cockpit, heard=sent[-1]["serial"])
    heard = len(sent)
    until(lambda: len(sent) > heard)
    cockpit.pause()


def test_a_run_that_no_page_hears_pauses_and_says_so(cockpit, sent, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.cockpit.EVERY", 0.0)
    monkeypatch.setattr("rlhf_lab.ui.cockpit.UNHEARD", 3)
    monkeypatch.setattr("rlhf_lab.ui.cockpit.PATIENCE", 0.3)
    order(cockpit, do="start")
    until(lambda: cockpit.state.iteration > 0 and not cockpit.state.running)
    assert cockpit.state.iteration < cockpit.limit
    order(cockpit, all=True)  # the page is opened again
    until(lambda: "no page has heard it" in sent[-1]["note"])
    order(cockpit, do="start")
    until(lambda: cockpit.state.running)
    cockpit.pause()


def test_it_goes_on_slowly_for_those_who_want_to_watch(cockpit, sent, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.cockpit.SLOWLY", 0.2)
    order(cockpit, slow=True)
    until(lambda: sent and sent[-1]["slow"])
    began = time.monotonic()
    cockpit.run(4)
    assert time.monotonic() - began >= 4 * 0.2
    order(cockpit, slow=False)
    until(lambda: not sent[-1]["slow"])


def test_who_hears_again_is_told_what_was_withheld(cockpit, sent, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.cockpit.UNHEARD", 3)
    for k in range(8):
        cockpit.set(eta=0.1 * k)
    assert sent[-1]["eta"] < cockpit.state.eta == 0.7000000000000001
    order(cockpit, heard=sent[-1]["serial"])
    until(lambda: sent[-1]["eta"] == cockpit.state.eta)


def test_a_cell_that_runs_it_is_shown_without_an_answer(cockpit, sent, monkeypatch):
    monkeypatch.setattr("rlhf_lab.ui.cockpit.EVERY", 0.0)
    monkeypatch.setattr("rlhf_lab.ui.cockpit.UNHEARD", 5)
    cockpit.run(12)
    assert len(sent) >= 12
    assert sent[-1]["iteration"] == sent[-1]["exactAt"] == 12
