"""``motes smoke``: train, evaluate, resume, merge, export and run a network, each step checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from motes.benchmark.smoke import Step

EXAMPLES = """Examples:

  motes smoke repisdnet                         one network, a minute

  motes smoke --all --seeds 1                   every network, a third of the time

  motes smoke uiunet --seeds 1 -o smoke         a large one; keeps run, export and log

  motes smoke factseg farseg pfnet --seeds 1    three of aerial images, on a small backbone

  motes smoke bafenet --variant small           a detector, as for targets of a few pixels
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("smoke", epilog=EXAMPLES)(smoke)


def smoke(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help="Networks of `motes models`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every network, and a table at the end.")] = False,
    variant: Annotated[str | None, typer.Option(help="One of its variants.")] = None,
    steps: Annotated[int, typer.Option(min=3, help="Optimiser steps of a training.")] = 80,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings from different initial weights.")] = 3,
    size: Annotated[
        int, typer.Option(min=16, help="Side of the frames in px, or the smallest the network takes.")
    ] = 64,
    lr: Annotated[
        float, typer.Option(help="Learning rate of AdamW; detectors: 1e-3 where none is given, pvt_t: 3e-4.")
    ] = 5e-3,
    backbone: Annotated[
        str,
        typer.Option(help="Of aerial networks, and of detectors in place of ResNet-50: one of timm's, or 'published'."),
    ] = "resnet18",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: as PyTorch decides.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Keep runs, exports and logs here.")
    ] = None,
) -> None:
    """Take a network from fresh weights to targets found by its exported file, every step checked.

    train (the loss must fall to 0.7 of its start, for every seed), evaluate, resume (bit-equal), merge, export, infer
    from the export alone. The first step that fails ends a network's chain; exit code 1 if one did.
    """
    import shutil
    import tempfile

    from motes.cards import list_models, model_card
    from motes.errors import MissingExtraError, MotesError

    if bool(models) == every:
        raise MotesError("give either a network or --all", "`motes models` lists the networks")
    if every and variant:
        raise MotesError(f"--variant {variant} is of one network, --all takes every network as published")
    if lr <= 0:
        raise MotesError(f"--lr is {lr:g}, expected a rate above 0")
    names = models or [name for task in ("irstd", "aerial", "detection") for name in list_models(task=task)]
    for name in names:
        model_card(name)
    try:
        import lightning.fabric  # noqa: F401
        import onnx  # noqa: F401
        import torch
    except ModuleNotFoundError:
        raise MissingExtraError("motes smoke", "train") from None
    from motes.benchmark.smoke import Settings
    from motes.benchmark.smoke import smoke as run

    if threads:
        torch.set_num_threads(threads)
    settings = Settings(steps, seeds, size, lr, None if backbone == "published" else backbone)
    tail = f"-{variant}" if variant else ""
    folders = [output / f"{name}{tail}" for name in names] if output is not None else []
    for folder in folders:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise MotesError(f"{folder} is not empty", "give -o a new folder")
    done: list[list[Step]] = []
    for name in names:
        folder = output / f"{name}{tail}" if output is not None else Path(tempfile.mkdtemp(prefix="motes-smoke-"))
        try:
            done.append(run(name, variant, folder, settings, typer.echo))
        finally:
            if output is None:
                shutil.rmtree(folder, ignore_errors=True)
    if len(names) > 1:
        typer.echo(f"\n{_table(done)}")
    if any(chain[-1].status == "failed" for chain in done):
        raise typer.Exit(1)


def _table(done: list[list[Step]]) -> str:
    from motes.benchmark.smoke import STEPS
    from motes.cli.tables import text_table

    rows = []
    for chain in done:
        found = {step.name: step.status for step in chain}
        seconds = sum(step.seconds for step in chain)
        rows.append([chain[0].model, *(found.get(name) for name in STEPS), f"{seconds:.1f}"])
    return text_table(["model", *STEPS, ">seconds"], rows)
