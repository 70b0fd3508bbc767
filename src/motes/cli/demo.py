"""``motes demo``: a scene made on the spot, its targets found, and the truth beside them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from motes.data.synthesize import Target
    from motes.inference import Detections


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for scene and results.")] = Path("motes-demo"),
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A .onnx file, a shipped network, or a training-free method.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another number makes another scene.")] = 7,
) -> None:
    """Make a 14-bit infrared scene and find its targets, offline.

    Writes the scene as a 16-bit TIFF and detects in that file, as 'motes detect' would.
    """
    from motes.data.synthesize import demo_scene
    from motes.imaging import write_image
    from motes.inference import Detector
    from motes.inference.run import FolderRun
    from motes.inference.sources import frames_of

    detector = Detector(model)
    scene = demo_scene(seed)
    path = out / "scene.tif"
    write_image(path, scene.pixels)
    summary = FolderRun(detector, out, overwrite=True).run(frames_of([path]))
    _report(path, scene.pixels, scene.targets, summary.results[0], detector.card.name, out)


def _report(path: Path, pixels: np.ndarray, truth: list[Target], found: Detections, network: str, out: Path) -> None:
    from motes.inference.writers import plain_table

    height, width = pixels.shape[:2]
    print(
        f"{path}: {width}x{height} px, counts {pixels.min()} to {pixels.max()} "
        f"({int(pixels.max()).bit_length()}-bit), {len(truth)} targets hidden in it\n"
    )
    print(
        plain_table(
            _rows(truth, found), ("true x", "true y", "SNR", "found x", "found y", "off by", "area", "score", "SCR")
        )
    )
    hits = len(_matches(truth, found))
    print(f"\n{network} found {hits} of {len(truth)} targets with {len(found) - hits} false alarms")
    print(f"look at {out / 'overlays' / 'scene.png'}; the table is {out / 'targets.csv'}")


def _rows(truth: list[Target], found: Detections) -> list[tuple[str, ...]]:
    """True targets beside what was found of them, then what is no target."""
    matches = _matches(truth, found)
    rows = found.to_rows()

    def of(i: int, true: Target | None) -> tuple[str, ...]:
        row = rows[i]
        off = "-" if true is None else f"{math.hypot(row['x'] - true.x, row['y'] - true.y):.2f} px"
        scr = "-" if row["scr"] is None else f"{row['scr']:.1f}"
        return (f"{row['x']:.2f}", f"{row['y']:.2f}", off, str(row["area"]), f"{row['score']:.3f}", scr)

    missed = ("-",) * 6
    table = [
        (f"{t.x:.2f}", f"{t.y:.2f}", f"{t.snr:.1f}", *(of(matches[i], t) if i in matches else missed))
        for i, t in enumerate(truth)
    ]
    return table + [("-", "-", "-", *of(i, None)) for i in range(len(found)) if i not in matches.values()]


def _matches(truth: list[Target], found: Detections) -> dict[int, int]:
    """True target -> detection, nearest pairs first, centroids less than 3 px apart."""
    pairs = sorted(
        ((t.x - x) ** 2 + (t.y - y) ** 2, i, j)
        for i, t in enumerate(truth)
        for j, (x, y) in enumerate(found.centroids.tolist())
    )
    matches: dict[int, int] = {}
    for distance, i, j in pairs:
        if distance < 9 and i not in matches and j not in matches.values():
            matches[i] = j
    return matches
