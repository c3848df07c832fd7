"""A page that is closed in the middle of a run: nothing grows, and nothing goes on for ever."""

import psutil
import pytest
import servers
from pages import Cockpit, Notebook, eventually


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server of its own, so that nobody else is listening."""
    with servers.lab(tmp_path_factory.mktemp("closed")) as address:
        yield address


def test_a_closed_page_leaves_neither_a_growing_server_nor_a_running_thread(lab, new_page):
    page = new_page()
    notebook = Notebook(page, lab.format("/lab/tree/notebooks/cockpit.ipynb"))
    notebook.run(until="cockpit")
    cockpit = Cockpit(page)
    notebook.python("setattr(cockpit, 'limit', 1_000_000)")  # nothing else shall end it
    kernel = psutil.Process(notebook.python("__import__('os').getpid()"))
    server = kernel.parent()
    cockpit.click_until("start", "Running")
    notebook.wait_for("cockpit.state.iteration >= 20")
    before = server.memory_info().rss
    page.close()
    worked = [sum(kernel.cpu_times()[:2])]

    def check():
        psutil.wait_procs([kernel], timeout=1.5)
        worked.append(sum(kernel.cpu_times()[:2]))
        assert worked[-1] - worked[-2] < 0.2, "seconds of work in one and a half"

    eventually(check, seconds=90)
    assert worked[-1] - worked[0] > 2, "it went on for a while, without anybody listening"
    assert server.memory_info().rss - before < 2_000_000
