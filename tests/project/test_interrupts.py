"""Ctrl-C that C code swallowed is not lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from motes.interrupts import raise_swallowed_interrupt, remember_interrupts


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_swallowed_interrupt_is_raised_by_the_next_item() -> None:
    before = signal.getsignal(signal.SIGINT)
    with remember_interrupts():
        raise_swallowed_interrupt()
        press()
        with pytest.raises(KeyboardInterrupt):
            raise_swallowed_interrupt()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with remember_interrupts():
        signal.raise_signal(signal.SIGINT)
        raise_swallowed_interrupt()


def test_the_next_command_does_not_remember_it() -> None:
    with remember_interrupts():
        press()
    with remember_interrupts():
        raise_swallowed_interrupt()
