"""Sources of targets. A method sees ``Outputs`` and cannot tell which source they came from."""

from common.core.teacher import Teacher
from common.teachers.ensemble import ProbabilityEnsemble
from common.teachers.frozen import Frozen
from common.teachers.recorded import Recorded

__all__ = ["Frozen", "ProbabilityEnsemble", "Recorded", "Teacher"]
