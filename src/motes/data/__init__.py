"""Data sets: layouts, splits, index, check, synthesis."""

from motes.data.dataset import Dataset, Sample, open_dataset

__all__ = ["Dataset", "Sample", "open_dataset"]
