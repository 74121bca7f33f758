"""A diffusion's chosen path, parameterisation, sampler and estimator are right on a law with a known density.

The network is swapped for that law's exact denoiser, so nothing is trained and what errs is the choice itself; see
:mod:`genalloy.models.analytic`.
"""

from __future__ import annotations

from genalloy.models.analytic import Checked
from genalloy.models.diffusion import Diffusion


def check_diffusion(part: Diffusion) -> list[Checked]:
    """(what, value, target, ok) lines, in seconds; the part's own network is not touched."""
    return part.self_test()
