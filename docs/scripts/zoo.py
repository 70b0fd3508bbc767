"""Writes docs/zoo.md: for every network its paper, code, weights of its authors, published results, and what is ours.

    python docs/scripts/zoo.py           # after a card or a file in src/motes/weights has changed
    python docs/scripts/zoo.py --check   # exit code 1 if docs/zoo.md is out of date, nothing is written

All but AUTHORS_FILES comes from the cards: those of the networks and those inside the shipped .onnx files.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from motes.cards import Card, list_models, model_card
from motes.cli.models import HELD_OUT, held_out_cells
from motes.inference.backend import list_weights
from motes.inference.onnx_card import read_onnx_card

PAGE = Path(__file__).resolve().parents[1] / "zoo.md"

AUTHORS_FILES = {
    "abc": "no download page known to us; files of the authors' framework have the prefix `decode_head.`",
    "acm": "`params/0.7442-ResUNet_AsymBi_DENTIST_Puma1_GPU_0-IoU-288-best.params` in the repository (Gluon, variant "
    "`unet-tiny`); all six `port-*` combinations in "
    "https://github.com/Tianfang-Zhang/acm-pytorch (MIT)",
    "agpcnet": "no download page known to us; the authors' script saves whole pickled modules, which are not read "
    "([why](weights.md#nothing-is-executed)): save their `state_dict()`",
    "alcnet": "`params/BottomUpLocal_r_1_b_4_0.7614.params` in the repository (Gluon)",
    "deeplabv3": "none: a baseline, trained with the recipes here",
    "dnanet": 'linked from the repository\'s README ("Results and Trained Models")',
    "factseg": "`factseg50.pth` at https://drive.google.com/file/d/19cCWD3uSZJX_h_carMI1aW6lgAl32qZZ, from the "
    "repository's README; its ids 2 and 12 are exchanged against iSAID's (`motes convert --swap-classes`)",
    "farseg": "https://github.com/Z-Zheng/FarSeg/releases/download/v1.0/farseg50.pth, from the repository's README; "
    "its ids 2 and 12 are exchanged against iSAID's (`motes convert --swap-classes`)",
    "mtunet": "https://pan.baidu.com/s/1nwbNhIHBa1FZFcoF46AZig (code 0r4v), from the repository's README",
    "pfnet": "no download page known to us; the Jittor port's files are read too",
    "rdian": "`params/best.pth` in the repository (920,357 bytes, md5 6d1fc0438ee425d0db1fca5354d1ee2d)",
    "repisdnet": "three files in the repository: training, converted and merged form",
    "semantic_fpn": "none: the baseline of FarSeg's code",
    "serankdet": 'Baidu and OneDrive, linked from the repository\'s README ("Model Zoo", password grok)',
    "unet": "none: a baseline, trained with the recipes here",
    "upernet": "none: the baseline of PFNet's code",
    "uiunet": "https://pan.baidu.com/s/11JSqFKxq7XTvTzgOIWfdOg (code eu9f) and "
    "https://drive.google.com/file/d/1wZ_W5-Wj3wOt7kMB6nwa0xntZTD14sPZ, from the repository's README",
}
"""Where the authors' weights are, as their repositories say; not tried from here, since such pages move."""

DETECTORS_FILES = "none known to us of the DenseSIRST table; checkpoints of mmdetection for the same network are read"

MACS = {"macs_256": "", "macs_512": " (512x512)"}
"""Key of a card's cost -> what is said beside it."""

DATA = {"irstd": "sirst", "aerial": "isaid", "detection": "densesirst"}
"""Task -> the recipes that are named for a network without weights of ours."""

INTRODUCTION = """# Zoo

Every network with its paper, its authors' code and weights, its published results, and the weights that we trained.
Written by `docs/scripts/zoo.py` from the cards; do not edit it by hand.

Authors' weights are not shipped; some repositories state no licence. Fetch them from where this page says, then
`motes convert FILE -o x.safetensors` or `motes evaluate FILE --data ROOT` ([Weight files](weights.md)). The links are
those of the repositories, and not ours to keep alive.

Published numbers of different protocols cannot be compared: splits, sizes, thresholds and what counts as a hit differ
([Metrics and protocols](metrics.md)), and many were selected on the test split. IoU, mIoU and Pd are fractions, Fa is
in 1e-6 of the pixels; mIoU of iSAID is the mean of 16 classes, the background included.
"""

RESULTS = {
    "iou": "IoU",
    "niou": "nIoU",
    "pd": "Pd",
    "fa": "Fa, 1e-6",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "auc": "AUC",
    "miou": "mIoU",
    "map07": "mAP07",
    "map12": "mAP12",
    "score": "score",
}


def main() -> int:
    text = page()
    if sys.argv[1:] == ["--check"]:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != text:
            print(f"{PAGE} is out of date: run python docs/scripts/zoo.py", file=sys.stderr)
        return int(current != text)
    if sys.argv[1:]:
        print(f"unknown argument {sys.argv[1]} (known: --check)", file=sys.stderr)
        return 2
    PAGE.write_text(text, encoding="utf-8", newline="\n")
    return 0


def page() -> str:
    cards = [model_card(name) for name in list_models()]
    shipped = {name: (file, read_onnx_card(file)) for name, file in sorted(list_weights().items())}
    parts = [INTRODUCTION, overview(cards, shipped)]
    for card in cards:
        ours = {name: found for name, found in shipped.items() if found[1].name == card.name}
        parts.append(section(card, ours))
    return "\n".join(parts)


def overview(cards: Sequence[Card], shipped: Mapping[str, tuple[Path, Card]]) -> str:
    rows = []
    for card in cards:
        ours = [f"`{name}`" for name, (_, found) in shipped.items() if found.name == card.name]
        cost = card.complexity.get("deploy", card.complexity.get("train", {}))
        macs = next((f"{v / 1e9:.3g} G{tail}" for k, tail in MACS.items() if (v := cost.get(k))), "")
        rows.append(
            [
                f"[{card.title}](#{anchor(card.title)})",
                f"{card.venue} {card.year}" if card.paper else "ours",
                f"{cost['params'] / 1e6:.3g} M" if cost else "",
                macs,
                ", ".join(ours) or "none yet",
            ]
        )
    return table(["network", "paper", "parameters", "MACs, 256x256", "weights of ours"], rows)


def anchor(title: str) -> str:
    """As Markdown makes it of a heading."""
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def section(card: Card, ours: Mapping[str, tuple[Path, Card]]) -> str:
    doi = f", doi {card.doi}" if card.doi else ""
    elsewhere = DETECTORS_FILES if card.task == "detection" else "not known"
    lines = [
        f"## {card.title}",
        "",
        f"- Paper: *{card.paper}*, {card.venue} {card.year}{doi}",
        f"- Code: {card.url}",
        f"- Authors' weights: {AUTHORS_FILES.get(card.name, elsewhere)}",
    ]
    if not card.paper:
        lines[2:] = ["- A network of our own" + (f": [{card.title}]({page})" if (page := own_page(card)) else "")]
    if not ours:
        lines.append(f"- Ours: none yet: `motes train {card.name}_{DATA[card.task]}`")
    for name, (file, found) in ours.items():
        lines.append(f"- Ours: {shipped_file(name, file, found)}")
    lines.append("")
    if scores := [row for row in card.published if "data" in row]:
        lines += ["Published:", "", results(scores)]
    for row in (row for row in card.published if "params" in row):
        form = f", variant `{row['variant']}`" if "variant" in row else ""
        lines.append(
            f"Published cost{form}: {row['params']:,} parameters, {row['macs_512'] / 1e9:g} GFLOPs at 512x512 "
            f"({row['source']}).\n"
        )
    for name, (_, found) in ours.items():
        if rest := [row for row in found.measured if not row.get("held_out")]:
            lines += [f"Measured, `{name}`:", "", results(rest)]
        if rows := [row for row in found.measured if row.get("held_out")]:
            lines += [f"On [held-out frames](held-out.md), `{name}`:", "", held_out(rows)]
    return "\n".join(lines).rstrip("\n") + "\n"


def own_page(card: Card) -> str | None:
    """The page of the manual about a network of our own."""
    name = f"{card.title.lower()}.md"
    return name if (PAGE.parent / name).is_file() else None


def shipped_file(name: str, file: Path, card: Card) -> str:
    training = card.training
    form = f"{card.variant or card.form} form" if card.variant or card.form else ""
    facts = [
        f"`{name}`, in the package as `weights/{file.name}` ({form}, {file.stat().st_size:,} bytes)",
        f"SHA-256 `{hashlib.sha256(file.read_bytes()).hexdigest()}`",
    ]
    if "recipe" in training:
        facts.append(
            f"recipe `{training['recipe']}`, epoch {training.get('epochs', '?')}, {training.get('data', '?')} "
            f"`{training.get('split', '?')}`"
        )
    return "; ".join(facts)


def results(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = [key for key in RESULTS if any(key in row for row in rows)]
    notes = [key for key in ("frames", "source") if any(key in row for row in rows)]
    cells = [
        [*(str(row.get(k, "")) for k in ("data", "split", "protocol")), *(value(row, k) for k in keys)]
        + [str(row.get(k, "")) for k in notes]
        for row in rows
    ]
    return table(["data", "split", "protocol", *(RESULTS[k] for k in keys), *notes], cells)


def held_out(rows: Sequence[Mapping[str, Any]]) -> str:
    return table([c.lstrip(">") for c in HELD_OUT], [[cell or "" for cell in held_out_cells(row)] for row in rows])


def value(row: Mapping[str, Any], key: str) -> str:
    if key not in row:
        return ""
    if key == "fa":
        return f"{row[key] * 1e6:.4g}"
    text = f"{row[key]:.4f}"
    return f"{text} ({row['targets']})" if key == "pd" and "targets" in row else text


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
