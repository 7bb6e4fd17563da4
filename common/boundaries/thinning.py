"""Thinning to lines of one pixel, and how wide edges were before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Morphological thinning until nothing changes (Guo and Hall, as MATLAB's ``bwmorph(mask, 'thin', Inf)``). [H, W].

    ``skimage.morphology.skeletonize`` is another algorithm and leaves another number of pixels.

    Raises:
        UserError: scikit-image is missing.
    """
    try:
        from skimage.morphology import thin as thinned
    except ImportError as error:
        raise UserError(
            'thinning of edge maps needs scikit-image: pip install "distillery[edges]"'
        ) from error
    return thinned(mask)
