"""Methods of classics, which other papers compare themselves against."""

from common.methods.adversarial import Adversarial
from common.methods.cross_entropy import CrossEntropy
from common.methods.dist import DIST
from common.methods.dkd import DKD
from common.methods.glnn import GLNN
from common.methods.kd import KD
from common.methods.labelled import LabelledCrossEntropy
from common.methods.robust import MART, PGDAT, TRADES
from common.methods.robust_distillation import ARD, AdaAD

__all__ = [
    "ARD",
    "DIST",
    "DKD",
    "GLNN",
    "KD",
    "MART",
    "PGDAT",
    "TRADES",
    "AdaAD",
    "Adversarial",
    "CrossEntropy",
    "LabelledCrossEntropy",
]
