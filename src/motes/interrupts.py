"""Ctrl-C that gets through.

Python turns Ctrl-C into an exception at the next opportunity, which may be inside a callback of C code that clears
whatever its callback raised: then it is lost, and the command goes on. So it is remembered, and loops ask once an item.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_pressed = False


@contextmanager
def remember_interrupts() -> Iterator[None]:
    """While inside, Ctrl-C raises KeyboardInterrupt as always, and is remembered.

    Nothing where Ctrl-C does something else already (a program in the background ignores it), or in other threads.
    """
    global _pressed
    _pressed = False
    mine = threading.current_thread() is threading.main_thread()
    mine = mine and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    before = signal.signal(signal.SIGINT, _press) if mine else None
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)


def raise_swallowed_interrupt() -> None:
    """Raises KeyboardInterrupt if there was one before; to be called by loops, once an item."""
    if _pressed:
        raise KeyboardInterrupt


def _press(*_: object) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt
