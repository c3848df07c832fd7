"""Ctrl-C comes when it may, once, and never gets lost."""

import signal
import threading

import pytest

from rlhf_lab.interrupts import Interrupts


def press():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_waits_for_the_end_of_the_block():
    done = []

    def block():
        with Interrupts():
            press()
            press()
            done.append("still here")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["still here"]
    with pytest.raises(KeyboardInterrupt):
        press()  # the usual handler is back


@pytest.mark.parametrize("before", [True, False])
def test_where_it_is_allowed_it_comes_at_once_and_then_no_more(before):
    done = []

    def block():
        with Interrupts() as interrupts:
            if before:
                press()
            try:
                with interrupts.allowed():
                    press()
                    done.append("not reached")
            finally:
                press()
                press()
                done.append("cleared up")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["cleared up"]


def test_an_error_does_not_swallow_it():
    def block():
        with Interrupts():
            press()
            raise ValueError("first")

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert isinstance(caught.value.__context__, ValueError)


def test_without_an_interrupt_nothing_happens():
    usual = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts, interrupts.allowed():
        pass
    assert signal.getsignal(signal.SIGINT) is usual


def test_other_threads_are_left_alone():
    done = []

    def work():
        with Interrupts() as interrupts, interrupts.allowed():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]
