"""What several of these scripts share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from motes.benchmark.standing import Standing, read_standing, slug
from motes.imaging import atomic_path
from motes.inference.backend import find_weights
from motes.inference.onnx_card import onnx_with_card, read_onnx_card


def digest(model: str | Path) -> str:
    """SHA-256 of a network and of what in its card decides what it answers: what was measured with it is left out.

    So that a card may be given new results, and all that was measured before is still known to be of this network.
    """
    file = find_weights(str(model))
    card = read_onnx_card(file).replace(measured=(), calibration={})
    return hashlib.sha256(onnx_with_card(file.read_bytes(), card, str(file))).hexdigest()


def into_page(page: Path, blocks: Mapping[str, str]) -> None:
    """Replaces what stands between the markers ``<!-- name -->`` and ``<!-- end of name -->``."""
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        assert found, f"{page}: no {start} ... {end}"
        text = f"{before}{start}\n{block}\n{end}{after}"
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")


def with_kept(rows: Sequence[Standing], folder: Path) -> list[Standing]:
    """The rows, and those that ``folder`` keeps of others."""
    have = {slug(row.label) for row in rows}
    kept = (read_standing(p) for p in sorted(folder.glob("*")) if p.name not in have)
    return [*rows, *(row for row in kept if row is not None)]
