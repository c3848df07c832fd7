"""The cockpit's thread: there is at most one, it does every job in turn and loses no error."""

import threading

import pytest
from cockpits import PATIENCE, until, workers

from rlhf_lab.ui.runner import Runner, wait


class Log:
    """Records what a runner does; each turn lasts until `turn_ends` is set."""

    def __init__(self):
        self.lines, self.errors, self.threads = [], [], set()
        self.turn_ends = threading.Event()
        self.turn_ends.set()
        self.runner = Runner(self.turn, self.ended, self.errors.append)

    def turn(self):
        self.threads.add(threading.current_thread())
        assert self.turn_ends.wait(PATIENCE)
        self.lines.append("turn")

    def ended(self, reached):
        self.lines.append("limit" if reached else "paused")

    def note(self, text):
        return lambda: self.lines.append(text)


@pytest.fixture
def log():
    log = Log()
    yield log
    log.turn_ends.set()
    log.runner.pause()
    until(lambda: not workers())


def test_jobs_are_done_in_order_and_the_thread_goes_home(log):
    for i in range(20):
        log.runner.submit(log.note(i))
    wait(log.runner.submit(log.note("last")))
    assert log.lines == [*range(20), "last"]
    until(lambda: not workers())
    wait(log.runner.submit(log.note("again")))
    assert log.lines[-1] == "again"


def test_what_a_job_raises_is_told_and_raised_where_someone_waits(log):
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        wait(log.runner.submit(fail))
    assert [str(error) for error in log.errors] == ["no"]
    wait(log.runner.submit(log.note("still works")))
    assert log.lines == ["still works"]


def test_an_error_is_shown_before_the_one_who_waits_goes_on():
    may_fail, told = threading.Event(), []

    def fail():
        may_fail.wait(PATIENCE)
        raise ValueError("no")

    runner = Runner(lambda: None, lambda reached: None, lambda error: told.append(done.done()))
    done = runner.submit(fail)
    may_fail.set()
    with pytest.raises(ValueError, match="no"):
        wait(done)
    assert told == [False]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_that_cannot_be_shown_does_not_end_all_work():
    def cannot_show(error):
        raise RuntimeError("no ink")

    runner = Runner(lambda: None, lambda reached: None, cannot_show)
    with pytest.raises(ZeroDivisionError):
        wait(runner.submit(lambda: 1 / 0))
    until(lambda: not workers())
    runner.submit(lambda: None).result(timeout=PATIENCE)


def test_a_timeout_of_the_job_itself_is_not_mistaken_for_waiting(log):
    def fail():
        raise TimeoutError("the job's own")

    with pytest.raises(TimeoutError, match="the job's own"):
        wait(log.runner.submit(fail))


def test_the_loop_ends_by_itself(log):
    wait(log.runner.start(3))
    assert log.lines == ["turn", "turn", "turn", "limit"]
    assert not log.runner.running


def test_a_loop_of_no_turns_is_at_its_limit_at_once(log):
    wait(log.runner.start(0))
    assert log.lines == ["limit"]


def test_a_failing_turn_ends_the_loop(log):
    log.turn = None
    runner = Runner(lambda: 1 / 0, log.ended, log.errors.append)
    with pytest.raises(ZeroDivisionError):
        wait(runner.start(3))
    assert not runner.running
    assert len(log.errors) == 1
    assert log.lines == []


def test_pause_waits_for_the_turn_under_way_and_no_longer(log):
    log.turn_ends.clear()
    done = log.runner.start(1000)
    until(lambda: log.threads)
    log.runner.pause()
    assert not log.runner.running
    log.turn_ends.set()
    wait(done)
    assert log.lines == ["turn", "paused"]


def test_jobs_find_their_place_between_turns(log):
    log.turn_ends.clear()
    log.runner.start(10**9)
    until(lambda: log.threads)
    done = log.runner.submit(log.note("job"))
    log.turn_ends.set()
    wait(done)
    assert log.lines.index("job") <= 2
    assert log.runner.running


def test_start_while_running_begins_nothing(log):
    log.turn_ends.clear()
    first = log.runner.start(2)
    assert log.runner.start(1000) is first
    log.turn_ends.set()
    wait(first)
    assert log.lines == ["turn", "turn", "limit"]


def test_an_old_loop_does_not_wake_up_again(log):
    """Pause and Start between two turns: the first loop's next turn is still in the queue."""
    log.turn_ends.clear()
    first = log.runner.start(1000)
    until(lambda: log.threads)
    log.runner.pause()
    second = log.runner.start(2)
    log.turn_ends.set()
    wait(first)
    wait(second)
    assert log.lines.count("turn") == 3
    assert log.lines[-1] == "limit"


def test_hammering_leaves_one_thread(log):
    for _ in range(200):
        log.runner.start(10**6)
        log.runner.submit(log.note("x"))
        log.runner.pause()
        log.runner.start(10**6)
        assert len(workers()) <= 1
    until(lambda: "turn" in log.lines)
    assert len(workers()) == 1
    assert workers()[0].daemon
    log.runner.pause()
    until(lambda: not workers())


def test_many_threads_may_ask(log):
    askers = [
        threading.Thread(target=lambda: [log.runner.submit(log.note(1)) for _ in range(100)])
        for _ in range(8)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(PATIENCE)
    wait(log.runner.submit(log.note("last")))
    assert log.lines == [1] * 800 + ["last"]


def test_closing_forgets_the_queue_and_waits_for_the_thread(log):
    log.turn_ends.clear()
    log.runner.start(10**9)
    until(lambda: log.threads)
    log.runner.submit(log.note("never"))
    threading.Timer(0.1, log.turn_ends.set).start()
    log.runner.close(patience=PATIENCE)
    assert not workers()
    assert "never" not in log.lines
