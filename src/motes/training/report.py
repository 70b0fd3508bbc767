"""report.md of a run: what was trained, on what, how it went."""

from __future__ import annotations

from motes.imaging import atomic_path
from motes.training.recipe import Recipe
from motes.training.run import SHOWN, Run
from motes.training.selection import Frames

TITLES = {
    "iou": "IoU", "niou": "nIoU", "pd": "Pd", "fa": "Fa", "miou": "mIoU", "miou_foreground": "mIoU without background",
    "oa": "OA", "map12": "mAP12", "map07": "mAP07", "recall": "recall",
}  # fmt: skip


def write_report(recipe: Recipe, frames: Frames, run: Run) -> None:
    """Writes ``report.md`` and, where matplotlib is installed, ``curves.png``."""
    rows, keys = run.rows(), SHOWN[recipe.task]
    validated = [r for r in rows if r[f"val_{keys[0]}"]]
    lines = [f"# {recipe.name}", "", f"{recipe.note}".strip(), ""]
    lines += [
        f"- network: {recipe.model.name}" + (f" ({recipe.model.variant})" if recipe.model.variant else ""),
        f"- data: {frames.name}, {len(frames.train)} frames trained on, {len(frames.val)} select the best weights",
        done(recipe, rows),
        f"- protocol of validation: {recipe.validation.protocol}, metric: {recipe.validation.metric}",
    ]
    if recipe.task != "irstd":
        lines.insert(-3, f"- starts from {run.facts().get('starts from', 'weights that are not known')}")
    if frames.windows:
        part = recipe.data.windows
        how = f"rule {part.rule}, {part.patch} px every {part.stride}" if part else ""
        lines.insert(-2, f"- windows: {len(frames.windows)}, {how}")
    if recipe.validation.selects_on_test:
        lines.append("- **the best weights were selected on test frames, as the paper did: their score is optimistic**")
    if validated:
        metric = f"val_{recipe.validation.metric}"
        best = max(validated, key=lambda r: float(r.get(metric) or "-inf"))
        lines += ["", "| weights | epoch | " + " | ".join(TITLES[k] for k in keys) + " |"]
        lines.append("| --- " * (2 + len(keys)) + "|")
        for name, row in (("best", best), ("last", validated[-1])):
            numbers = " | ".join(number(k, row[f"val_{k}"]) for k in keys)
            lines.append(f"| {name} | {float(row['epoch']):g} | {numbers} |")
        if _draw(rows, validated, keys, run):
            lines += ["", "![curves](curves.png)"]
    with atomic_path(run.folder / "report.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def done(recipe: Recipe, rows: list[dict[str, str]]) -> str:
    if not rows:
        return "- no step done"
    if recipe.loop.steps:
        return f"- steps done: {rows[-1]['step']} of {recipe.loop.steps}, {float(rows[-1]['epoch']):g} epochs"
    return f"- epochs done: {float(rows[-1]['epoch']):g} of {recipe.loop.epochs}"


def number(key: str, text: str) -> str:
    if not text:
        return "-"
    return f"{float(text) * 1e6:.2f}e-6" if key == "fa" else f"{float(text):.4f}"


def _draw(rows: list[dict[str, str]], validated: list[dict[str, str]], keys: tuple[str, ...], run: Run) -> bool:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([float(r["epoch"]) for r in rows], [float(r["loss"]) for r in rows], lw=0.5, color="tab:blue")
    left.set(xlabel="epoch", ylabel="training loss")
    for key in keys:
        if key != "fa":
            shown = [r for r in validated if r[f"val_{key}"]]
            epochs, values = ([float(r[c]) for r in shown] for c in ("epoch", f"val_{key}"))
            right.plot(epochs, values, label=TITLES[key])
    right.set(xlabel="epoch", ylabel="validation", ylim=(0, 1.02))
    right.legend(frameon=False)
    with atomic_path(run.folder / "curves.png") as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return True
