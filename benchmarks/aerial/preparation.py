"""Patches of large aerial images: ``motes data prepare`` against the published scripts' way, in turns, same files.

    python benchmarks/aerial/preparation.py

Writes ``preparation.json`` beside this file and the second table of ``docs/benchmarks/aerial.md``. Fails if the files,
their pixels or the ids are not the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sides import REPOSITORY, Side, circumstances, described, in_turns, load, publish, share, table  # noqa: E402

PAGE = REPOSITORY / "docs" / "benchmarks" / "aerial.md"
NAMES = {
    "published": "Pillow and numpy, as the published scripts",
    "lean": "the same tools, masks converted and windows written once",
    "motes": "**motes data prepare**",
}
GOAL, SIZE = 2.0, 0.05
"""Times as fast as published on two cores; total size of the files within this part of the published one."""
MAKE_SCENES = """
import sys
from motes.data.aerial_scenes import write_aerial
count, height, width = map(int, sys.argv[2:])
write_aerial(sys.argv[1], "isaid", count, (height, width))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="unpacked iSAID files instead of synthetic scenes")
    parser.add_argument("--count", type=int, default=8, help="scenes; every fourth one is of test and has no mask")
    parser.add_argument("--size", type=int, nargs=2, default=(2000, 2600), help="height and width of a scene, px")
    parser.add_argument("--patch", type=int, default=896, help="side of a patch, px")
    parser.add_argument("--stride", type=int, default=512, help="from one patch to the next, px")
    parser.add_argument("--rounds", type=int, default=3, help="timed preparations of each side")
    parser.add_argument("--threads", type=int, default=0, help="of motes; default: one a core, as the command")
    parser.add_argument("--output", type=Path, default=HERE / "preparation.json")
    parser.add_argument("--no-page", action="store_true", help="leave the manual's page as it is")
    options = parser.parse_args()
    facts = circumstances(("pillow", "opencv-python-headless", "numpy"))
    with tempfile.TemporaryDirectory(prefix="motes-benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        source = options.data or folder / "scenes"
        if options.data is None:
            subprocess.run(
                [sys.executable, "-c", MAKE_SCENES, str(source), *map(str, (options.count, *options.size))], check=True
            )
        sides = [
            Side(HERE / "preparation_side.py", n, source, folder, options.patch, options.stride, options.threads)
            for n in NAMES
        ]
        for side in sides:
            side.ask("warm")
        times = in_turns(sides, "timed", options.rounds)
        memory = {side.name: side.ask("peak") for side in sides}
        for side in sides:
            side.close()
        written = {n: files(folder / n) for n in NAMES}
        differences = {n: compare(written["published"], written[n]) for n in NAMES if n != "published"}
        sizes = {n: {k: sum(f.stat().st_size for f in of(kind, k)) for k in KINDS} for n, kind in written.items()}
    facts["load_after"] = load()
    result = {
        "circumstances": facts,
        "source": options.data.name if options.data else f"synthetic scenes of {options.size[1]}x{options.size[0]} px",
        "patch": options.patch,
        "stride": options.stride,
        "rounds": options.rounds,
        "threads": options.threads or os.cpu_count() or 1,
        "patches": len(of(written["published"], "images")),
        "times": times,
        "memory": memory,
        "bytes": sizes,
        "differences": differences,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = report(result)
    print(text)
    if not options.no_page:
        publish(PAGE, text, "preparation")
    speed = times["published"]["median_ms"] / times["motes"]["median_ms"]
    size = sum(sizes["motes"].values()) / sum(sizes["published"].values())
    reached = "reached" if speed >= GOAL and abs(size - 1) <= SIZE else "NOT reached"
    print(f"\n{speed:.2f}x as fast, {size:.3f} of the size; goals {reached}")
    if any(differences.values()):
        raise SystemExit(f"the sides disagree: {differences}")


KINDS = ("images", "masks")


def files(target: Path) -> dict[str, Path]:
    """``train/images/P0003_0_896_0_896.png`` -> file."""
    found = (p for split in ("train", "val") for kind in KINDS for p in sorted((target / split / kind).glob("*")))
    return {p.relative_to(target).as_posix(): p for p in found}


def of(found: dict[str, Path], kind: str) -> list[Path]:
    return [p for p in found.values() if p.parent.name == kind]


def compare(expected: dict[str, Path], found: dict[str, Path]) -> list[str]:
    """Files that one of the two lacks, or whose pixels differ."""
    from PIL import Image

    wrong = sorted(expected.keys() ^ found.keys())
    for name in sorted(expected.keys() & found.keys()):
        with Image.open(expected[name]) as a, Image.open(found[name]) as b:
            if a.mode != b.mode or not np.array_equal(np.asarray(a), np.asarray(b)):
                wrong.append(name)
    return wrong


def report(result: dict[str, Any]) -> str:
    times, sizes, first = result["times"], result["bytes"], result["times"]["published"]
    whole = sum(sizes["published"].values())
    rows = [
        [
            NAMES[name],
            f"{here['median_ms'] / 1e3:.1f}",
            f"{1e3 * result['patches'] / here['median_ms']:.1f}",
            f"{first['median_ms'] / here['median_ms']:.2f}x",
            f"{first['best_ms'] / here['best_ms']:.2f}x",
            *(f"{sizes[name][kind] / 1e6:.1f} MB" for kind in KINDS),
            f"{100 * (sum(sizes[name].values()) / whole - 1):+.1f} %",
            f"{result['memory'][name] / 1e9:.2f} GB",
            share(here["others"]),
        ]
        for name, here in times.items()
    ]
    columns = [
        f"{result['patches']} patches", "median s", "patches/s", "speed", "speed, best runs", "images", "masks",
        "size", "peak memory", "others",
    ]  # fmt: skip
    wrong = {n: len(w) for n, w in result["differences"].items()}
    return "\n\n".join(
        [
            described(result["circumstances"]),
            f"Source: {result['source']}; rule split, {result['patch']} px every {result['stride']} px. Medians of "
            f"{result['rounds']} preparations, in turns; motes with {result['threads']} threads. Goal: {GOAL:g}x on "
            f"two cores, size within {100 * SIZE:g} %. *Others*: share of the machine that others used meanwhile.",
            table(columns, rows),
            f"Files that are missing, too many, or hold other pixels or ids than the published way's: {wrong['motes']} "
            f"of {2 * result['patches']} (of the lean way: {wrong['lean']}).",
        ]
    )


if __name__ == "__main__":
    main()
