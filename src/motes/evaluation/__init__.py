"""Any backend over a data set: metrics, per-image table, galleries."""

from motes.evaluation.boxes import BoxEvaluation, BoxPrediction, evaluate_boxes, predict_boxes, score_boxes
from motes.evaluation.classes import ClassEvaluation, ClassPrediction, evaluate_classes, predict_classes, score_classes
from motes.evaluation.run import Evaluation, evaluate
from motes.evaluation.score import Prediction, predict, score_samples

__all__ = [
    "BoxEvaluation",
    "BoxPrediction",
    "ClassEvaluation",
    "ClassPrediction",
    "Evaluation",
    "Prediction",
    "evaluate",
    "evaluate_boxes",
    "evaluate_classes",
    "predict",
    "predict_boxes",
    "predict_classes",
    "score_boxes",
    "score_classes",
    "score_samples",
]
