"""Runs one ``motes`` command in a Python where importing the lab's packages fails loudly.

    python .ci/without_torch.py detect scene.tif -o out

The exit code is the command's. The error is no ImportError, so nobody can catch it by accident.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

LAB = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "lightning_fabric",
    "safetensors",
    "onnx",
    "onnxscript",
    "tensorboard",
)


class LabImportedError(RuntimeError):
    """The field half of ``motes`` tried to import a package of the lab."""


class Blocker:
    """A finder that stands first in ``sys.meta_path`` and finds nothing but trouble."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name.partition(".")[0] in LAB:
            raise LabImportedError(f"import of {name}")


def main() -> None:
    sys.meta_path.insert(0, Blocker())  # type: ignore[arg-type]
    from motes.cli.app import main as motes

    motes()


if __name__ == "__main__":
    main()
