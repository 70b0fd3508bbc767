"""Any backend over a data set: metrics, per-image table, galleries."""

from motes.evaluation.score import predict, score_samples

__all__ = ["predict", "score_samples"]
