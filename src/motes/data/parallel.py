"""The same work on many files, by several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], advance: Callable[[], object] | None = None
) -> list[Result]:
    """``function`` of every item, in the order of ``items``. Decoders and numpy let other threads run meanwhile.

    Args:
        function: must be safe to call from several threads.
        items: its arguments.
        advance: called once an item is done, for a progress bar.
    """

    def one(item: Item) -> Result:
        result = function(item)
        if advance:
            advance()
        return result

    pool = ThreadPoolExecutor()
    try:
        return list(pool.map(one, items))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # Ctrl-C does not wait for the thousand files still queued
