"""Measurements of a trained network, kept apart from training so that they can be repeated from its weights."""

from common.evaluators.base import Evaluation, evaluate
from common.evaluators.calibration import CalibrationError
from common.evaluators.classification import Accuracy, NegativeLogLikelihood
from common.evaluators.fidelity import Fidelity
from common.evaluators.robust import FGSM, Confidence, PGDAccuracy, RobustGap

__all__ = [
    "FGSM",
    "Accuracy",
    "CalibrationError",
    "Confidence",
    "Evaluation",
    "Fidelity",
    "NegativeLogLikelihood",
    "PGDAccuracy",
    "RobustGap",
    "evaluate",
]
