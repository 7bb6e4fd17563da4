"""Measurements of a trained network, kept apart from training so that they can be repeated from its weights."""

from common.evaluators.autoattack import AutoAttack
from common.evaluators.base import Evaluation, evaluate
from common.evaluators.boundaries import BoundaryBenchmark
from common.evaluators.calibration import CalibrationError
from common.evaluators.classification import Accuracy, NegativeLogLikelihood
from common.evaluators.fidelity import Fidelity
from common.evaluators.latency import NodeLatency
from common.evaluators.masking import GradientMasking
from common.evaluators.robust import FGSM, Confidence, PGDAccuracy, RobustGap

__all__ = [
    "FGSM",
    "Accuracy",
    "AutoAttack",
    "BoundaryBenchmark",
    "CalibrationError",
    "Confidence",
    "Evaluation",
    "Fidelity",
    "GradientMasking",
    "NegativeLogLikelihood",
    "NodeLatency",
    "PGDAccuracy",
    "RobustGap",
    "evaluate",
]
