"""A results file keeps every row: nothing is lost, doubled, mixed, or changed by reading."""

import multiprocessing

import pytest
from outcomes import fake

from rlhf_lab.grids.results import COLUMNS, add_outcomes, read_outcomes
from rlhf_lab.grids.sweep import grid

GRID = grid([0.0, 0.3], [0.0], [0, 1])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "sweep" / "results.csv"


@pytest.mark.parametrize("lost", [1, 20, 40, 10**9])
def test_what_was_cut_off_stays_until_its_run_is_done_again(file, lost):
    """Also a row that lacks nothing but its end: nobody can see that it is whole."""
    add_outcomes(file, map(fake, GRID))
    whole = file.read_text("utf-8")
    row = whole.splitlines()[-1][:-lost]
    kept = whole[: whole.rstrip("\n").rfind("\n") + 1]
    file.write_text(kept + row, "utf-8")

    add_outcomes(file, map(fake, grid([9.0], [0.0], [0])))
    assert file.read_text("utf-8").endswith("\n" + row)
    assert len(read_outcomes(file)) == 4

    add_outcomes(file, [fake(GRID[-1])])
    assert len(read_outcomes(file)) == 5
    assert file.read_text("utf-8").endswith("\n")


def add_many(file, seeds):
    for seed in seeds:
        add_outcomes(file, map(fake, grid([0.0], [0.0], [seed])))


@pytest.mark.slow
def test_two_writers_neither_lose_nor_double_a_row(file):
    """Half of what each adds is what the other adds, too."""
    file.parent.mkdir()
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=add_many, args=(file, range(first, first + 40))) for first in (0, 20)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(outcome.config.seed for outcome in read_outcomes(file)) == list(range(60))
    assert len(file.read_text("utf-8").splitlines()) == 61


def test_a_row_that_stands_twice_counts_once(file):
    add_outcomes(file, map(fake, GRID))
    before = read_outcomes(file)
    again = ",".join(before[0]._replace(score=9.0).row)
    file.write_text(file.read_text("utf-8") + again + "\n", "utf-8")
    assert read_outcomes(file) == before


def test_a_result_that_is_there_is_replaced_only_where_that_is_asked_for(file):
    first = fake(GRID[0])
    second = first._replace(score=9.0)
    add_outcomes(file, [first])
    add_outcomes(file, [second])
    assert read_outcomes(file) == [first]
    add_outcomes(file, [second], over=True)
    assert read_outcomes(file) == [second]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *[("score", text) for text in ("abc", "", "=cmd|' /C calc'!A0", "nan", "inf", "1,2")],
        *[("distinct", "1.5"), ("eta", "None"), ("eta", "-1"), ("seed", "x"), ("kl_mode", "k9")],
        ("gold", "9" * 200_000),
    ],
)
def test_a_value_that_no_run_has_is_named(file, column, value):
    add_outcomes(file, map(fake, GRID))
    lines = file.read_text("utf-8").splitlines()
    row = dict(zip(COLUMNS, lines[2].split(","), strict=True)) | {column: value}
    lines[2] = ",".join(row.values())
    damaged = "\n".join(lines) + "\n"
    file.write_text(damaged, "utf-8")
    with pytest.raises(ValueError, match=r"results\.csv, line 3 is no result of a sweep"):
        read_outcomes(file)
    assert file.read_text("utf-8") == damaged


@pytest.mark.parametrize(
    "content", [b'{"my": "only copy"}', b"\xff\xfe", b"eta,beta,x", b"notes\n"]
)
def test_no_file_of_the_user_is_changed(file, content):
    file.parent.mkdir()
    file.write_bytes(content)
    for use in (read_outcomes, lambda f: add_outcomes(f, [fake(GRID[0])])):
        with pytest.raises(ValueError, match=r"results\.csv"):
            use(file)
    assert file.read_bytes() == content
