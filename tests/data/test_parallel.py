"""Several threads on one list of work."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from motes.data.parallel import in_threads


def test_results_keep_the_order_and_the_first_error_ends_all() -> None:
    assert in_threads(lambda i: i * i, range(50), count=4) == [i * i for i in range(50)]

    def fails(i: int) -> None:
        if i == 3:
            raise ValueError(i)
        time.sleep(0.001)

    with pytest.raises(ValueError, match="3"):
        in_threads(fails, range(10_000), count=4)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to a thread here")
def test_ctrl_c_waits_for_what_was_begun() -> None:
    begun, ended = [], []

    def work(i: int) -> None:
        begun.append(i)
        if i == 0:
            main = threading.main_thread().ident
            assert main is not None
            time.sleep(0.1)  # until it waits
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.1 if i else 0.5)
        ended.append(i)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            in_threads(work, range(100), count=4)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(ended) == sorted(begun) and len(begun) < 100
