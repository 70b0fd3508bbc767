"""Writes docs/leaderboards/isaid.md and gaofen.md: what others published, by the cards, and what was measured here.

    python docs/scripts/aerial_leaderboards.py           # after a card or a measured file has changed
    python docs/scripts/aerial_leaderboards.py --check   # exit code 1 if a page is out of date, nothing is written

Measured rows are the metrics.json files that `motes evaluate -o` writes, kept in docs/leaderboards/aerial under a name
that begins with that of the data set: isaid-factseg.json, gaofen-img-pfnet.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motes.benchmark.page import Block, Heading, Points, Table, Text, as_html, as_markdown
from motes.benchmark.standing import published
from motes.cards import list_models, model_card

PAGES = Path(__file__).resolve().parents[1] / "leaderboards"


@dataclass(frozen=True)
class Page:
    """One page: what is in it beside the numbers."""

    name: str
    file: str
    data: tuple[tuple[str, str], ...]
    """Name of a data set in the cards, and its class set."""
    metric: tuple[str, str]
    """Key of a card's rows and its title."""
    keys: Mapping[str, str]
    """Of metrics.json: key -> title."""
    about: str
    commands: tuple[str, ...]
    caveats: tuple[str, ...]


ISAID = Page(
    name="iSAID",
    file="isaid",
    data=(("iSAID", "16, background included"),),
    metric=("miou", "mIoU, %"),
    keys={"miou": "mIoU of 16, %", "miou_foreground": "mIoU of 15, %"},
    about="Sixteen classes of objects in aerial images of 800 to 13,000 px; 458 images of the split `val` are scored.",
    commands=(
        "motes train factseg_isaid data.root=ISAID",
        "motes evaluate RUN --data ISAID --split val -p window -o OUT",
        "motes evaluate RUN --data ISAID --split val -p pfnet -o OUT",
    ),
    caveats=(
        "`window`: whole images, windows of 896 px every 512 px, probabilities averaged. `patch`: patches of 896 px, "
        "overlaps counted repeatedly. `pfnet`: the same patches, each resized to 896x896 px. One set of weights scored "
        "62.56 by patches and 63.09 by whole images: rows of different protocols cannot be compared.",
        "mIoU over 16 classes counts the background, whose IoU is near 99: it is about two points above the mean over "
        "the 15 classes of objects. `motes evaluate` prints both.",
        "FactSeg and FarSeg exchange storage tank (2) and roundabout (12) in their weights; their mean is not changed.",
        "The evaluation of FarSeg and FactSeg adds pixels up in float32, which stops counting at 2^24 an image and "
        "class pair.",
        "FactSeg and FarSeg were retrained in Paddle by others; those rows say so.",
    ),
)

GAOFEN = Page(
    name="GaoFen contest 2021",
    file="gaofen",
    data=(("gaofen-img", "2: background, sea ice"), ("gaofen-sar", "2: background, fish farm")),
    metric=("score", "score of the submission, %"),
    keys={"fwiou": "frequency-weighted IoU, %", "miou": "mIoU, %"},
    about="Two tracks of one class each: sea ice in optical images (gaofen-img), fish farms in SAR (gaofen-sar).",
    commands=(
        "motes train pfnet_gaofen_img data.root=GAOFEN/img",
        "motes evaluate RUN --data GAOFEN/img --split val -p gaofen -o OUT",
        "motes contest gaofen IN OUT --weights RUN/best.safetensors",
    ),
    caveats=(
        "The scores are the organiser's, on images that were never given out: no command here can give them. A split "
        "of one's own gives the measured columns.",
        "What the score is was not published. A participant of the ice track calls it frequency-weighted IoU in "
        "percent (best entries about 97.8); for the SAR track nothing is known.",
        "The validation numbers of the published training are of images that it trained on, and are left out here.",
        "The contest's images may not be passed on.",
    ),
)

SETS = (ISAID, GAOFEN)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        old = [path for path, text in pages() if not path.exists() or path.read_text(encoding="utf-8") != text]
        for path in old:
            print(f"{path} is out of date: run python docs/scripts/aerial_leaderboards.py", file=sys.stderr)
        return int(bool(old))
    if sys.argv[1:]:
        print(f"unknown argument {sys.argv[1]} (known: --check)", file=sys.stderr)
        return 2
    write_pages()
    return 0


def write_pages() -> list[tuple[str, Path]]:
    """Writes all pages; returns (name, Markdown file) of each."""
    for path, text in pages():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return [(page.name, PAGES / f"{page.file}.md") for page in SETS]


def pages() -> Iterator[tuple[Path, str]]:
    """Every file and its text."""
    for page in SETS:
        blocks = page_blocks(page, measured(page))
        yield PAGES / f"{page.file}.md", as_markdown(blocks)
        yield PAGES / f"{page.file}.html", as_html(blocks, page.name)


def page_blocks(page: Page, rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    blocks: list[Block] = [Heading(1, page.name), Text(page.about), Heading(2, "Measured here")]
    if rows:
        blocks.append(Table(["network", "data", "split", "protocol", *(f">{t}" for t in page.keys.values())], [
            [r["run"].get("model"), r["data"], r["run"].get("split"), r["run"].get("protocol"),
             *(_percent(_value(r, key)) for key in page.keys)]
            for r in rows
        ]))  # fmt: skip
    else:
        blocks.append(Text("**Not measured here**: the images are not at hand where this page was made."))
    blocks += [
        Text("These commands measure:"),
        Points([f"`{command}`" for command in page.commands]),
        Text(
            "The `metrics.json` of an evaluation, copied to "
            f"`docs/leaderboards/aerial/{page.data[0][0].lower()}-NAME.json`, becomes a row by "
            "`python docs/scripts/aerial_leaderboards.py`."
        ),
    ]
    columns = ["network", "data", "split", "protocol", "classes", f">{page.metric[1]}", ">measured here", "source"]
    return [
        *blocks,
        Heading(2, "Published by others"),
        Table(columns, published_rows(page, rows)),
        Heading(2, "Read this before comparing"),
        Points(page.caveats),
    ]


def published_rows(page: Page, rows: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    """Of every card, the best of a data set first; beside each what the same network gave here under its protocol."""
    key = page.metric[0]
    found: list[list[object]] = []
    for data, classes in page.data:
        claims = [(r, name) for name in list_models("aerial") for r in published(name, data) if key in r]
        for row, name in sorted(claims, key=lambda claim: -claim[0][key]):
            card = model_card(name)
            title = f"{card.title}, {row['variant']}" if "variant" in row else card.title
            same = (name, row.get("variant"), row.get("protocol"))
            ours = [
                _value(r, key)
                for r in rows
                if r["data"] == data and tuple(r["run"].get(k) for k in ("model", "variant", "protocol")) == same
            ]
            digits = 4 if key == "score" else 2
            found.append([
                title, data, row.get("split"), row.get("protocol"), classes, f"{row[key] * 100:.{digits}f}",
                _percent(max(filter(None, ours), default=None)) or "not measured here", row.get("source"),
            ])  # fmt: skip
    return found


def measured(page: Page) -> list[Mapping[str, Any]]:
    """The metrics.json files of a page's data sets, each with the ``data`` that its name says."""
    return [
        {**json.loads(path.read_text(encoding="utf-8")), "data": data}
        for data, _ in page.data
        for path in sorted((PAGES / "aerial").glob(f"{data.lower()}*.json"))
    ]


def _value(row: Mapping[str, Any], key: str) -> float | None:
    value: float | None = row["metrics"].get(key, {}).get("value")
    return value


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value * 100:.2f}"


if __name__ == "__main__":
    sys.exit(main())
