"""Where two rays come closest: depths of a point that two cameras see."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def closest_depths(
    turned: Float[np.ndarray, "M 3"], rays: Float[np.ndarray, "M 3"], translation: Float[np.ndarray, "*M 3"]
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Depths s, t that bring s `turned` + `translation` closest to t `rays`, and the sine of the rays' angle.

    All in the frame of the second camera: `turned` are the first camera's rays, turned into it. Depths are in
    the unit of the translation and count along each ray's own length.
    """
    aa, ab, bb = (turned * turned).sum(1), (turned * rays).sum(1), (rays * rays).sum(1)
    at, bt = (turned * translation).sum(1), (rays * translation).sum(1)
    determinant = np.maximum(aa * bb - ab * ab, 1e-12)
    s, t = (ab * bt - bb * at) / determinant, (aa * bt - ab * at) / determinant
    return s, t, np.sqrt(determinant / (aa * bb))
