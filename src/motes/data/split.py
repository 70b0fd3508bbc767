"""Splitting a set so that what looks alike stays together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from motes.errors import DataError


def hold_out(groups: Sequence[Sequence[str]], fraction: float, seed: int = 0) -> tuple[list[str], list[str]]:
    """Split groups of names into (kept, held out).

    The groups are put into the order of a hash of seed and first name, which no library version changes, and taken as
    long as they fit into the held-out share. A group never straddles, so one larger than the share is always kept.

    Args:
        groups: names that must stay together.
        fraction: the share of names to hold out, in [0, 1).
        seed: another seed, another split.

    Returns:
        Kept and held-out names, each in the order of ``groups``.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"a share of {fraction:g} cannot be held out", "give a fraction from 0 to below 1")
    room = round(fraction * sum(len(g) for g in groups))
    held: set[str] = set()
    for group in sorted(groups, key=lambda g: hashlib.sha256(f"{seed}/{g[0]}".encode()).digest()):
        if len(held) + len(group) <= room:
            held.update(group)
    names = [name for group in groups for name in group]
    return [n for n in names if n not in held], [n for n in names if n in held]
