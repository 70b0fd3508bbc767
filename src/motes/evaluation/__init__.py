"""Any backend over a data set: metrics, per-image table, galleries."""

from motes.evaluation.run import Evaluation, evaluate
from motes.evaluation.score import Prediction, predict, score_samples

__all__ = ["Evaluation", "Prediction", "evaluate", "predict", "score_samples"]
