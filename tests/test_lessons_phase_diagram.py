"""Notebook 07's file of runs is complete, has today's settings, and agrees with training."""

import re
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from nbformat import read

from rlhf_lab import load_world, plots
from rlhf_lab.grids.sweep import Outcome, add_outcomes, grid, read_outcomes, run_one, sweep
from rlhf_lab.lessons import phase_diagram as phase
from rlhf_lab.lessons.phase_diagram import SHIPPED, Mark
from rlhf_lab.report import average, metrics, optimum_logprobs
from rlhf_lab.ui.optima import BETA_POSITIONS, ETA_POSITIONS, REGIONS, optima, region

ETAS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0)
BETAS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "07_entropy_bonus.ipynb"
NEW = "see the command in rlhf_lab/lessons/phase_diagram.py"


class Here:
    """An executor that runs at once."""

    def submit(self, run, config):
        future = Future()
        future.set_result(run(config))
        return future


def fake(config):
    return Outcome(config, 1 / 3, config.eta / 7, -0.0, 1e-300, 2.5, config.seed, 0.1)


def fakes(configs):
    return [fake(config) for config in configs]


@pytest.fixture
def shipped(tmp_path):
    file = tmp_path / "shipped.csv"
    add_outcomes(file, [fake(config) for config in grid([0.1, 0.3], [0.0, 0.2], [0])])
    return file


def test_every_pair_is_there_with_the_settings_of_today():
    """If a default setting has changed, the file must be made again."""
    held = [outcome.config for outcome in read_outcomes(SHIPPED)]
    assert len(held) == 64
    assert set(held) == set(grid(ETAS, BETAS, [0], iterations=150)), NEW


def test_the_file_is_what_its_numbers_say():
    """Regret is exact and never negative, H is at least 0, scores lie in their range."""
    world = load_world()
    top = max(world.tables(prompt).scores.max().item() for prompt in ("food", "staff"))
    for outcome in read_outcomes(SHIPPED):
        assert outcome.regret > 0
        assert 0 <= outcome.entropy < np.log(402_234)
        assert outcome.score < top
        assert 1 <= outcome.distinct <= outcome.config.batch_size


TOLERANCE = {"score": 0.1, "gold": 0.3, "kl": 0.3, "entropy": 0.8, "regret": 0.1}
"""Twice or more what these runs moved, 0.03, 0.13, 0.13, 0.34 and 0.01, when the first weights were
disturbed by one part in 10^7, as by another processor's rounding, or float64 was used."""


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.2, 0.5])
def test_training_still_gives_what_the_file_says(eta):
    """A whole run, at an η where rounding errors shrink in training instead of growing."""
    (config,) = grid([eta], [0.05], [0], iterations=150)
    known = {outcome.config: outcome for outcome in read_outcomes(SHIPPED)}[config]
    outcome = run_one(config)
    for name, tolerance in TOLERANCE.items():
        was, now = getattr(known, name), getattr(outcome, name)
        assert now == pytest.approx(was, abs=tolerance), f"{name}; {NEW}"


def test_the_command_is_the_same_everywhere():
    prose = "".join(c.source for c in read(NOTEBOOK, as_version=4).cells if "sweep --" in c.source)
    for text in (phase.__doc__, prose):
        for name, values in (("etas", ETAS), ("betas", BETAS)):
            (given,) = re.findall(rf"--{name} (\S+)", text)
            assert tuple(float(x) for x in given.split(",")) == values
        assert "--iterations 150" in text


def test_own_results_start_as_a_copy_and_keep_what_is_added(tmp_path, shipped):
    place = tmp_path / "runs" / "mine.csv"
    before = shipped.read_bytes()
    assert phase.own_results(place, shipped) == place
    assert place.read_bytes() == before
    (new,) = sweep(grid([0.1, 0.3, 0.5], [0.0], [0]), place, executor=Here(), run=fakes)
    again = phase.own_results(place, shipped)
    assert read_outcomes(again) == [*read_outcomes(shipped), new]
    assert shipped.read_bytes() == before


def test_newer_shipped_results_replace_older_ones(tmp_path, shipped):
    place = tmp_path / "mine.csv"
    mine = fake(*grid([7.0], [0.0], [0]))
    old = fake(*grid([0.3], [0.2], [0]))._replace(score=99.0)
    add_outcomes(place, [old, mine])
    phase.own_results(place, shipped)
    assert set(read_outcomes(place)) == {*read_outcomes(shipped), mine}


def test_what_is_complete_is_not_written_again(tmp_path, shipped):
    place = phase.own_results(tmp_path / "mine.csv", shipped)
    stamp = place.stat().st_ino
    phase.own_results(place, shipped)
    assert place.stat().st_ino == stamp


def test_where_nobody_may_write_the_copy_lies_elsewhere(tmp_path, shipped):
    blocked = tmp_path / "a file, not a folder"
    blocked.touch()
    file = phase.own_results(blocked / "mine.csv", shipped)
    assert read_outcomes(file) == read_outcomes(shipped)
    assert blocked.read_bytes() == b""


def test_somebody_elses_file_is_left_alone(tmp_path, shipped):
    place = tmp_path / "mine.csv"
    place.write_text("my,own\n1,2\n", "utf-8")
    with pytest.raises(ValueError, match="move it away"):
        phase.own_results(place, shipped)
    assert place.read_text("utf-8") == "my,own\n1,2\n"


def test_the_map_of_the_average_is_the_map_of_the_averages():
    """Compared with `report.metrics` at 40 pairs; at half of them the prompts differ."""
    world = load_world()
    both = [optima(world, prompt) for prompt in ("food", "staff")]
    start = average(prompt.reference for prompt in both)

    def index(eta, beta):
        point = average(prompt.point(eta, beta).metrics for prompt in both)
        return REGIONS.index(region(point, start))

    maps = [prompt.regions() for prompt in both]
    regions = phase.average_regions(ETA_POSITIONS, BETA_POSITIONS, maps, index)
    differ = np.argwhere(maps[0] != maps[1])
    agree = np.argwhere(maps[0] == maps[1])
    for row, column in [*differ[:: len(differ) // 20], *agree[:: len(agree) // 20]]:
        eta, beta = ETA_POSITIONS[column], BETA_POSITIONS[row]
        exact = metrics(world, optimum_logprobs(world, eta, beta))
        assert regions[row, column] == REGIONS.index(region(exact, start))


def test_phase_figure_marks_what_became_of_each_run():
    values = (0.0, 0.01, 0.1, 1.0)
    marks = [
        Mark(0.0, 0.0, "collapse", "collapse"),
        Mark(0.1, 1.0, "useful", "word salad"),
        Mark(0.1, 1.0, "word salad", "word salad"),
    ]
    figure = phase.phase_figure(values, values, np.zeros((4, 4), dtype=int), REGIONS, marks)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    x, y = plots.place(values, 0.1), plots.place(values, 1.0)
    assert lines["useful"].get_xydata().tolist() == [[x, y]]
    (second,) = lines["word salad"].get_xydata().tolist()  # another seed, beside the first
    assert second == [x + phase.BESIDE, y]
    assert lines["frozen"].get_xydata().tolist() == []
    assert lines["not what π* is"].get_xydata().tolist() == [[x, y]]
    assert len({line.get_marker() for name, line in lines.items() if name in REGIONS}) == 4


@pytest.mark.parametrize(("rows", "expected"), [([0, 4, 10], 7), ([0, 2, 6, 7], 4), ([3], 5)])
def test_names_of_regions_stand_between_rows_of_marks(rows, expected):
    name = Text(0, 5, "useful")
    phase._between([name], rows)
    assert name.get_position()[1] == expected


def test_the_figure_writes_names_between_its_rows():
    values = (0.0, *(0.01 * 2.0**k for k in range(8)))
    marks = [Mark(0.0, beta, "collapse", "collapse") for beta in values[2:]]
    figure = phase.phase_figure(values, values, np.zeros((9, 9), dtype=int), REGIONS, marks)
    (name,) = figure.axes[0].texts
    away = [abs(name.get_position()[1] - plots.place(values, mark.beta)) for mark in marks]
    assert min(away) == pytest.approx(0.5)


def test_where_word_salad_begins():
    marks = [Mark(0.1, 0.1, "useful", "useful"), Mark(0.1, 0.3, "useful", "word salad")]
    marks += [Mark(0.1, 0.5, "word salad", "word salad"), Mark(0.2, 0.2, "useful", "word salad")]
    assert phase.first_salad(marks, 0.1, "best") == 0.3
    assert phase.first_salad(marks, 0.1, "ppo") == 0.5
    assert phase.first_salad(marks, 0.2, "ppo") == float("inf")
