r"""Denoising score matching (Vincent, 2011; Ho et al., 2020, arXiv:2006.11239): :math:`E_t\, w(\lambda_t)\, |D(x_t, t) - y|^2`.

With the weight ``Likelihood()`` the value is minus the variational bound up to a constant, under any time distribution;
``Unit()`` is plain regression of the network's output.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from genalloy.core.distribution import sum_event
from genalloy.diffusion.parameterisations import Parameterisation
from genalloy.diffusion.paths import Path, Window, expand_time, stratified
from genalloy.diffusion.times import Times, UniformLambda
from genalloy.diffusion.weights import Likelihood, Weight
from genalloy.objectives.objective import Objective, Play


class DenoisingScoreMatching(Objective):
    r""":math:`E\,w(\lambda_t)\,|D(x_t, t) - y|^2`, one stratified time a row; nats with the weight Likelihood().

    Vincent, 2011 (Neural Computation); Ho et al., 2020, arXiv:2006.11239. Works on a Diffusion and through fixed preprocessing
    around it. The noised batch and its denoised points are kept in the play, so that summed terms share one evaluation. Warns
    where an end of the window is starved (x0 prediction with unit weight of its clean end, the score on a variance-exploding path
    of its noisy one): samples are fine, and the likelihood can be ten nats off.

    weight: of the squared error, a function of lambda. times: the distribution of noise levels.
    """

    needs = ("denoise",)

    def __init__(self, weight: Weight = Likelihood(), times: Times = UniformLambda()) -> None:  # noqa: B008
        super().__init__()
        self.weight, self.times = weight, times

    def check(self, play: Play) -> None:
        """Raises Unavailable where the model has no denoiser; warns where the weight starves an end of the window."""
        super().check(play)
        part = play.reach("denoise").distribution.part
        for end, share in _shares(self, part.parameterisation, part.path, part.window).items():
            if share < 0.01:
                warnings.warn(
                    f"{self.weight!r} with {part.parameterisation!r} on {part.path!r} gives {end} noise levels {share:.0e} "
                    f"of the weight "
                    "that a likelihood needs: samples look fine and the likelihood can be ten nats off; use "
                    "weight=Likelihood(), or "
                    "regress the output of Edm(), V() or Velocity()",
                    stacklevel=2,
                )

    def forward(self, play: Play) -> Tensor:
        """The weighted mean squared error of the denoised points, a scalar."""
        noised = noised_batch(play, self.times)
        unit = play.reach("denoise").distribution.part.parameterisation.unit_weight(noised.path, noised.t)
        return (self.weight(noised.lam, noised.density, unit) * noised.error).mean()


class NoisedBatch(NamedTuple):
    r"""One noised evaluation: y, eps, x_t and D (\*B, \*E); lambda, its density, t and :math:`|D - y|^2` (\*B)."""

    path: Path
    y: Tensor
    eps: Tensor
    x_t: Tensor
    clean: Tensor
    lam: Tensor
    density: Tensor
    t: Tensor
    error: Tensor


def noised_batch(play: Play, times: Times) -> NoisedBatch:
    r"""The play's batch (\*B, \*E) at one stratified time a row, denoised once for all terms that ask for these times."""
    return play.once(("noised", times), lambda: _noised(play, times))


def _noised(play: Play, times: Times) -> NoisedBatch:
    distribution, x, _ = play.reach("denoise")
    y, _ = distribution.embed(x)
    path, dims = distribution.path, len(distribution.event_shape)
    lead = y.shape[: y.dim() - dims]
    lam, density = times.quantile(stratified(lead.numel(), y).reshape(lead), path, distribution.window)
    t, eps = path.time(lam), torch.randn_like(y)
    x_t = path.noised(y, eps, expand_time(t, y, dims))
    clean = distribution.denoise(x_t, t)
    return NoisedBatch(path, y, eps, x_t, clean, lam, density, t, sum_event((clean - y).square(), dims))


def _shares(objective: DenoisingScoreMatching, head: Parameterisation, path: Path, window: Window) -> dict[str, float]:
    """Weight at either end of the window over the bound's own, relative to lambda = 0."""
    u = torch.tensor([0.5], dtype=torch.float64)

    def over_bound(lam: float) -> float:
        level = torch.full_like(u, lam)
        return float(objective.weight(level, u, head.unit_weight(path, path.time(level))) / torch.exp(2 * level))

    middle = over_bound(min(max(0.0, window[0]), window[1]))
    return {"low": over_bound(window[1]) / middle, "high": over_bound(window[0]) / middle}
