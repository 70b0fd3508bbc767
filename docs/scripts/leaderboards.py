"""Writes docs/leaderboards: every page, anew, from what is at hand.

    python docs/scripts/leaderboards.py DATA [--reference FOLDER] [--runs RUN ...] [--only PAGE ...]

DATA is the folder that holds ``sirst``, ``densesirst`` and, once made by ``motes data noisy``, ``noisy_sirst_10``,
``_20``, ``_30``. FOLDER is that of the reference material, whose published weights are scored beside ours. Runs of
detectors go to the page of DenseSIRST, others to the pages of targets. Rows are kept in docs/leaderboards/rows: what
was measured already is not measured again, and stays on its page without its weights; so a new network costs its own
time only. The rows of one that is gone for good are deleted by hand. PAGE is a folder below DATA.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import box_leaderboards as boxes  # beside this file
from aerial_leaderboards import write_pages  # beside this file
from common import with_kept
from rich.progress import track

from motes.benchmark.leaderboard import (
    entrant,
    make_board,
    measure_board,
    rows_folder,
    write_board_page,
    write_unmeasured_page,
)
from motes.benchmark.page import Heading, Points, Text, write_page
from motes.benchmark.standing import plain
from motes.classical import METHODS
from motes.data import open_dataset
from motes.inference import list_weights
from motes.metrics import protocol

PAGES = Path(__file__).resolve().parents[1] / "leaderboards"

PUBLISHED_WEIGHTS = {
    "RepISD-Net (authors)": "repisdnet/weights/deploy.pth.tar@repisdnet:deploy",
    "RDIAN (authors, trained on IRDST)": "rdian/best.pth@rdian",
    "ACM U-Net (acm-pytorch)": "acm/weights/acm-pytorch-unet-asymbi.pth@acm:port-unet",
    "ACM FPN (acm-pytorch)": "acm/weights/acm-pytorch-fpn-asymbi.pth@acm:port-fpn",
}
"""Weights of others, which are scored here and never shipped."""

SETS = (
    (
        "SIRST",
        "sirst",
        "test_v1",
        ("native", "repisdnet"),
        "Training-free rows were timed by the clock, beside other work. RDIAN learned in five trainings of 6 to 60 "
        "epochs, each begun with the weights of the one before, ALCNet in three of 22 to 40, DNANet in two of 50 and "
        "30; motes-seg in six and eight, as its experiment log says.",
    ),
    *(
        (
            f"NoisySIRST, sigma {sigma}",
            f"noisy_sirst_{sigma}",
            "test_v1",
            ("native",),
            f"SIRST with noise of {sigma} grey levels: `motes data noisy sirst noisy_sirst_{sigma} --sigma {sigma}`.",
        )
        for sigma in (10, 20, 30)
    ),
)
"""Name, folder below DATA, split, protocols, what to say."""

BUSY = "CPU ms: processor time of the method itself, on one core, median of the frames."

UNMEASURED = (("IRSTD-1k", "irstd1k"), ("SIRST-AUG", "sirst_aug"), ("NUDT-SIRST", "nudt_sirst"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--runs", nargs="*", default=[])
    parser.add_argument("--without", nargs="*", default=[], help="training-free methods to leave out")
    pages = [folder for _, folder, *_ in SETS] + [boxes.FOLDER]
    parser.add_argument("--only", nargs="*", choices=pages, default=pages, metavar="PAGE", help="pages to measure")
    options = parser.parse_args()
    detectors = [run for run in options.runs if boxes.is_detector(run)]
    targets = [*list_weights(), *(r for r in options.runs if r not in detectors)]
    targets += [m for m in METHODS if m not in options.without]
    if options.reference:
        found = {k: options.reference / v for k, v in PUBLISHED_WEIGHTS.items()}
        targets += [f"{label}={path}" for label, path in found.items()]
    links = []
    for name, folder, split, rules, note in SETS:
        root, page = options.data / folder, PAGES / f"{plain(name)}.md"
        if folder not in options.only or not root.is_dir():
            if folder in options.only:
                print(f"{root} is not there: its page stays as it is")
            links += [(name, page)] if page.exists() else []
            continue
        samples = open_dataset(root).split(split)
        entrants = [entrant(t) for t in track(targets, f"{name}: loading")]
        boards = []
        for rule in track(rules, name):
            board = measure_board(entrants, samples, name, split, protocol(rule), PAGES)
            rows = [*board.rows, *board.unfinished]
            boards.append(make_board(with_kept(rows, rows_folder(PAGES, name, split, rule))))
        # No frames are given to draw: SIRST states no licence, so its frames stay out of this repository.
        links.append((name, write_board_page(boards, (), PAGES, f"{note} {BUSY}".strip())))
    page = PAGES / f"{boxes.FOLDER}.md"
    if boxes.FOLDER in options.only:
        page = boxes.write_box_page(PAGES, options.data, detectors)
    links.append((boxes.NAME, page))
    links += [(name, write_unmeasured_page(name, recipe, PAGES)) for name, recipe in UNMEASURED]
    links += write_pages()
    write_page(
        [
            Heading(1, "Leaderboards"),
            Text(
                "Networks, detectors and training-free methods under named protocols. Every page says what was "
                "measured here and what others published. A number belongs to a data set, a split and a protocol; what "
                "a reader must know stands at the end of each page."
            ),
            Points([f"[{name}]({file.name})" for name, file in links]),
        ],
        PAGES / "index.md",
    )


if __name__ == "__main__":
    main()
