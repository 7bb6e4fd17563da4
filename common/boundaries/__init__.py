"""The boundary benchmark of BSDS500 and crispness, on NumPy, SciPy and scikit-image alone.

``image_counts`` compares one soft edge map with its annotations, ``summarise`` turns the counts of many images into
ODS, OIS, AP and R50, ``average_crispness`` says how thin the edges are before any post-processing.
"""

from common.boundaries.counts import Counts, image_counts
from common.boundaries.crispness import Crispness, average_crispness, crispness
from common.boundaries.nms import Suppression, suppress
from common.boundaries.settings import Settings, levels
from common.boundaries.summary import Scores, summarise, total
from common.boundaries.thinning import thin

__all__ = [
    "Counts",
    "Crispness",
    "Scores",
    "Settings",
    "Suppression",
    "average_crispness",
    "crispness",
    "image_counts",
    "levels",
    "summarise",
    "suppress",
    "thin",
    "total",
]
