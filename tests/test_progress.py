"""A long cell says what it is doing, and says nothing any more when it has ended."""

import sys
import threading

import nbformat
import pytest
from nbclient import NotebookClient

from rlhf_lab import progress

CELLS = (
    "import rlhf_lab.progress as p\np.PATIENCE = p.EVERY = 0.0",
    """\
from rlhf_lab import PPOConfig, Trainer, load_world
trainer = Trainer(load_world(), PPOConfig(eta=0.3))
print("before")
for _ in range(3):
    trainer.step()
print("after")""",
)


@pytest.fixture
def line(monkeypatch):
    """A line, its clock, and all that it wrote."""
    line, written, clock = progress.Line(), [], [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        line, "_write", lambda text: (written.append(text), line.__dict__.update(_shown=1))
    )
    return line, clock, written


def test_it_appears_after_two_seconds_four_times_a_second_and_goes(line):
    line, clock, written = line
    line.begin()
    for clock[0] in (0.0, 1.9, 2.0, 2.1, 2.3):
        line.say(f"{clock[0]}")
    assert written == ["2.0 …", "2.3 …"]
    line.end()
    line.say("between cells")
    assert written == ["2.0 …", "2.3 …", ""]


def test_a_short_cell_leaves_nothing(line):
    line, _, written = line
    line.begin()
    line.say("training")
    line.end()
    assert written == []


def test_another_thread_says_nothing_below_a_cell_that_is_not_its_own(line):
    line, clock, written = line
    line.begin()
    clock[0] = 9.0
    thread = threading.Thread(target=line.say, args=["the cockpit"])
    thread.start()
    thread.join()
    assert written == []


class Reader(NotebookClient):
    """It keeps every text of a line that changes."""

    def process_message(self, message, cell, index):
        if message["msg_type"] in ("display_data", "update_display_data"):
            self.said.append(message["content"]["data"]["text/plain"])
        return super().process_message(message, cell, index)


@pytest.mark.parametrize("setting", ["", "off"])
def test_a_notebook_that_trains(monkeypatch, setting):
    monkeypatch.setenv("RLHF_LAB_PROGRESS", setting)
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    reader = Reader(nbformat.v4.new_notebook(cells=cells), kernel_name="python3")
    reader.said = []
    reader.execute()
    printed = [output.text for output in cells[1].outputs if output.output_type == "stream"]
    assert "".join(printed) == "before\nafter\n"
    shown = [output.data for output in cells[1].outputs if output.output_type == "display_data"]
    if setting == "off":
        assert (reader.said, shown) == ([], [])
    else:
        assert reader.said == [f"iteration {k} at η = 0.3, β = 0 …" for k in (1, 2, 3)] + [""]
        assert shown == [{"text/plain": ""}]


def test_outside_of_a_notebook_nothing_is_registered(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    progress.show_progress()
    progress.doing("a test")
