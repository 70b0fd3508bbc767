"""Keeps freed memory: with glibc, half the time of an eager CPU network goes into page faults of large tensors."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tells glibc's malloc never to map large blocks one by one nor to give them back; elsewhere does nothing.

    For a process of our own (training, evaluation), not for a library call inside somebody else's: it holds on to its
    peak memory.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))
    done = [mallopt(key, value) for key, value in settings]
    return all(done)
