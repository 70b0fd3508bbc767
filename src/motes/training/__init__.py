"""Recipes and the loop that runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from motes.errors import InterruptedRun, MissingExtraError, MotesError


def start(recipe: str | None, overrides: Sequence[str], resume: Path | None, runs: Path) -> Path | None:
    """Trains a recipe in a new run folder, or goes on with one; returns the folder (None in side processes)."""
    from motes.data.annotations import noted
    from motes.training.loop import check, make_fabric, train
    from motes.training.recipe import load_recipe
    from motes.training.report import write_report
    from motes.training.run import Run
    from motes.training.selection import check_frames, select_frames

    main = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0
    if resume is not None:
        run, chosen = Run.open(resume, quiet=not main)
        with naming(resume / "recipe.yaml"):
            check(chosen, run.begun)
        frames = select_frames(chosen)
        with noted():
            check_frames(frames, chosen.validation.protocol)
    else:
        chosen = load_recipe(recipe or "", overrides)
        with naming(Path(recipe or "")):
            check(chosen)
        frames = select_frames(chosen)
        with noted() as notes:
            check_frames(frames, chosen.validation.protocol)
        run = Run.create(chosen, runs, quiet=not main)
        if notes:
            more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
            run.note("warning:", f"{notes[0]}{more}", aloud=True)
    try:
        train(chosen, frames, run, make_fabric(chosen))
    except KeyboardInterrupt:
        raise InterruptedRun("interrupted and saved", f"motes train --resume {run.folder} goes on") from None
    if not main:
        return None
    write_report(chosen, frames, run)
    return run.folder


@contextmanager
def naming(recipe: Path) -> Iterator[None]:
    """Puts a recipe's file in front of what is wrong with it; a recipe known by name stands in the command already."""
    try:
        yield
    except MotesError as e:
        if recipe.is_file() and not isinstance(e, MissingExtraError):
            raise type(e)(f"{recipe}: {e.message}", e.hint) from None
        raise
