"""Data sets: layouts, splits, index, check, synthesis."""

from typing import TYPE_CHECKING

from motes.data.classes import ClassTable, class_table
from motes.data.dataset import Dataset, Sample, open_dataset

if TYPE_CHECKING:
    from motes.data.checks import check
    from motes.data.findings import Finding
    from motes.data.near import near_twins
    from motes.data.splitting import split
    from motes.data.summary import info

__all__ = [
    "ClassTable",
    "Dataset",
    "Finding",
    "Sample",
    "check",
    "class_table",
    "info",
    "near_twins",
    "open_dataset",
    "split",
]

_LATER = {"check": "checks", "Finding": "findings", "info": "summary", "near_twins": "near", "split": "splitting"}
"""Imported on first use: opening a data set needs no pixels."""


def __getattr__(name: str) -> object:
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"motes.data.{_LATER[name]}"), name)
    raise AttributeError(f"module 'motes.data' has no attribute '{name}'")
