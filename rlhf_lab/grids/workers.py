"""Work for other processes, some of which may be killed: each item with its result or its error."""

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_executor(
    executor: Executor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result | Exception]]:
    """Each item as its work ends; what has not begun is cancelled when the caller breaks off."""
    futures = {executor.submit(work, item): item for item in items}
    try:
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except Exception as error:  # whatever ended this item must not end the others
                yield futures[future], error
    finally:
        for future in futures:
            future.cancel()


def in_processes(
    work: Callable[[Item], Result], items: list[Item]
) -> Iterator[tuple[Item, Result | Exception]]:
    """`in_executor` in processes of our own, one per core.

    A process that is killed takes the whole pool with it, and nobody can tell whose work it was. So
    what went down with it is tried alone until the one is found, and a new pool does the rest.
    """
    while items:
        killed = []
        with _pool(min(_cores(), len(items))) as pool:
            for item, result in in_executor(pool, work, items):
                if isinstance(result, BrokenProcessPool):
                    killed.append(item)
                else:
                    yield item, result
        items = yield from _one_by_one(work, killed)


def _one_by_one(
    work: Callable[[Item], Result], items: list[Item]
) -> Generator[tuple[Item, Result | Exception], None, list[Item]]:
    """Each in a process of its own, up to the first whose process is killed; returns the rest."""
    for done, item in enumerate(items, start=1):
        with _pool(1) as pool:
            ((_, result),) = in_executor(pool, work, [item])
        yield item, result
        if isinstance(result, BrokenProcessPool):
            return items[done:]
    return []


def _pool(workers: int) -> ProcessPoolExecutor:
    # A fork would copy torch's locks.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _cores() -> int:
    """How many this process may use: a class server gives a student fewer than it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
