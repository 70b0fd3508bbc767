"""The same work on many files, by several threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_S = 0.002
"""Between two looks whether all threads have ended."""


def in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    advance: Callable[[], object] | None = None,
    count: int | None = None,
) -> list[Result]:
    """``function`` of every item, in the order of ``items``. Decoders and numpy let other threads run meanwhile.

    Not an executor of ``concurrent.futures``: Ctrl-C while it queues thousands of items can leave one of its locks
    taken, and then it never ends. Here the main thread only waits, and looks instead of joining: up to Python 3.12 a
    join that Ctrl-C ends takes its thread for dead (python/cpython#90882), and a half-written file would be left.

    Args:
        function: must be safe to call from several threads. The first exception stops all of them and is raised.
        items: its arguments.
        advance: called once an item is done, for a progress bar.
        count: of threads; default: four more than cores, for files wait for the disk.
    """
    work = list(items)
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}
    begun: list[None] = []
    ended: list[None] = []
    stop = threading.Event()
    turn, left = threading.Lock(), iter(range(len(work)))

    def run() -> None:
        begun.append(None)
        while not stop.is_set():
            with turn:
                i = next(left, None)
            if i is None:
                break
            try:
                results[i] = function(work[i])
                if advance:
                    advance()
            except BaseException as e:
                errors[i] = e
                stop.set()
        ended.append(None)

    most = min(32, (os.cpu_count() or 1) + 4) if count is None else count
    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(len(work), most))]
    try:
        for thread in threads:
            thread.start()
        while len(ended) < len(threads):
            time.sleep(POLL_S)
    finally:
        stop.set()  # after Ctrl-C each thread ends its item, and the thousand others are left
        while len(ended) < len(begun):
            time.sleep(POLL_S)
    if errors:
        raise errors[min(errors)]
    return [results[i] for i in range(len(work))]
