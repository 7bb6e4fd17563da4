"""Methods of classics, which other papers compare themselves against."""

from common.methods.cross_entropy import CrossEntropy
from common.methods.dist import DIST
from common.methods.dkd import DKD
from common.methods.glnn import GLNN
from common.methods.kd import KD
from common.methods.labelled import LabelledCrossEntropy

__all__ = ["DIST", "DKD", "GLNN", "KD", "CrossEntropy", "LabelledCrossEntropy"]
