"""Ctrl-C that C code swallowed is not lost."""

from __future__ import annotations

import signal

import pytest

from motes.interrupts import raise_swallowed_interrupt, remember_interrupts


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


def test_the_next_command_does_not_remember_it() -> None:
    with remember_interrupts():
        press()
    with remember_interrupts():
        raise_swallowed_interrupt()
