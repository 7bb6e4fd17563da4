"""Methods of classics, which other papers compare themselves against."""

from common.methods.cross_entropy import CrossEntropy
from common.methods.dist import DIST
from common.methods.dkd import DKD
from common.methods.kd import KD

__all__ = ["DIST", "DKD", "KD", "CrossEntropy"]
