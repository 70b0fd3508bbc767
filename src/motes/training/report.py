"""report.md of a run: what was trained, on what, how it went."""

from __future__ import annotations

from motes.imaging import atomic_path
from motes.training.recipe import Recipe
from motes.training.run import Run
from motes.training.selection import Frames


def write_report(recipe: Recipe, frames: Frames, run: Run) -> None:
    """Writes ``report.md`` and, where matplotlib is installed, ``curves.png``."""
    rows = run.rows()
    validated = [r for r in rows if r["val_iou"]]
    lines = [f"# {recipe.name}", "", f"{recipe.note}".strip(), ""]
    lines += [
        f"- network: {recipe.model.name}" + (f" ({recipe.model.variant})" if recipe.model.variant else ""),
        f"- data: {frames.name}, {len(frames.train)} frames trained on, {len(frames.val)} select the best weights",
        f"- epochs done: {float(rows[-1]['epoch']):g} of {recipe.loop.epochs}" if rows else "- no step done",
        f"- protocol of validation: {recipe.validation.protocol}, metric: {recipe.validation.metric}",
    ]
    if recipe.validation.selects_on_test:
        lines.append("- **the best weights were selected on test frames, as the paper did: their score is optimistic**")
    if validated:
        metric = f"val_{recipe.validation.metric}"
        best = max(validated, key=lambda r: float(r.get(metric) or "-inf"))
        lines += ["", "| weights | epoch | IoU | nIoU | Pd | Fa |", "| --- | --- | --- | --- | --- | --- |"]
        for name, row in (("best", best), ("last", validated[-1])):
            cells = [row["val_iou"], row["val_niou"], row["val_pd"]]
            numbers = " | ".join(f"{float(c):.4f}" if c else "-" for c in cells)
            fa = f"{float(row['val_fa']) * 1e6:.2f}e-6" if row["val_fa"] else "-"
            lines.append(f"| {name} | {float(row['epoch']):g} | {numbers} | {fa} |")
        if _draw(rows, validated, run):
            lines += ["", "![curves](curves.png)"]
    with atomic_path(run.folder / "report.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _draw(rows: list[dict[str, str]], validated: list[dict[str, str]], run: Run) -> bool:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([float(r["epoch"]) for r in rows], [float(r["loss"]) for r in rows], lw=0.5, color="tab:blue")
    left.set(xlabel="epoch", ylabel="training loss")
    for key, label in (("val_iou", "IoU"), ("val_niou", "nIoU"), ("val_pd", "Pd")):
        shown = [r for r in validated if r[key]]
        right.plot([float(r["epoch"]) for r in shown], [float(r[key]) for r in shown], label=label)
    right.set(xlabel="epoch", ylabel="validation", ylim=(0, 1.02))
    right.legend(frameon=False)
    with atomic_path(run.folder / "curves.png") as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return True
