"""Tables on a terminal or in a pipe: aligned columns, never wrapped, nothing to import."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned text; a column whose title starts with ``>`` is aligned to the right, None is shown as ``-``."""
    titles = [c.lstrip(">") for c in columns]
    cells = [["-" if v is None else str(v) for v in row] for row in rows]
    widths = [max(len(line[i]) for line in [titles, *cells]) for i in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if c[0] == ">" else v.ljust(w) for v, w, c in zip(values, widths, columns, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join([line(titles), line(["-" * w for w in widths]), *map(line, cells)])


def size_of(number: float | None, unit: str) -> str | None:
    """Three digits of a large number in mega or giga: ``size_of(558530, "M")`` is ``0.559 M``."""
    if number is None:
        return None
    return f"{number / {'M': 1e6, 'G': 1e9}[unit]:.3g} {unit}"
