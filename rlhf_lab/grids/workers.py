"""Work for other processes, some of which may be killed; every item gets a result or an error."""

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_executor(
    executor: Executor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result | Exception]]:
    """Each item with its result or error, as it ends.

    If the caller stops iterating, work that has not begun is cancelled.
    """
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

    A killed process breaks the whole pool and every item that is under way, and does not tell which
    item it was working on. Those items are tried one by one, each in a process of its own, until
    the one that gets its process killed is found; a new pool does the rest.
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
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this process when the one that started it ends, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)  # sys.exit would end this thread alone


def _cores() -> int:
    """The number that this process may use: a class server gives a student fewer than it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
