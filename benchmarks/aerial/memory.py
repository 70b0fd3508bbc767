"""Resident memory of this process, in bytes."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_bytes() -> int:
    """The most since the program began. On Linux ``getrusage`` would also count the parent before the program began."""
    found = _status("VmHWM")
    if found:
        return found
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def resident_bytes() -> int:
    """Now, on Linux; elsewhere the most so far."""
    return _status("VmRSS") or peak_bytes()


def _status(key: str) -> int:
    file = Path("/proc/self/status")
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{key}:"):
                return 1024 * int(line.split()[1])
    return 0
