r"""Denoising score matching (Vincent, 2011; Ho et al., 2020): :math:`E_t\, w(\lambda_t)\, |D(x_t, t) - y|^2`.

With the weight ``Likelihood()`` the value is minus the variational bound up to a constant, under any time distribution;
``Unit()`` is plain regression of the network's output.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from genalloy.core.distribution import sum_event
from genalloy.diffusion.parameterisations import Parameterisation
from genalloy.diffusion.paths import Path, Window, expand_time, stratified
from genalloy.diffusion.times import Times, UniformLambda
from genalloy.diffusion.weights import Likelihood, Weight
from genalloy.objectives.objective import Objective, Play


class DenoisingScoreMatching(Objective):
    """Mean over the batch, one stratified time a row; nats with the weight Likelihood().

    Works on a Diffusion and through fixed preprocessing around it. Warns where low noise is starved (x0 prediction with
    unit weight): samples are fine, and the likelihood can be ten nats off.
    """

    needs = ("denoise",)

    def __init__(self, weight: Weight = Likelihood(), times: Times = UniformLambda()) -> None:  # noqa: B008
        super().__init__()
        self.weight, self.times = weight, times

    def check(self, play: Play) -> None:
        super().check(play)
        part = play.reach("denoise").distribution.part
        share = _share_at_low_noise(self, part.parameterisation, part.path, part.window)
        if share < 0.01:
            warnings.warn(
                f"{self.weight!r} with {part.parameterisation!r} gives low noise levels {share:.0e} of the weight that a "
                "likelihood needs: samples look fine and the likelihood can be ten nats off; use weight=Likelihood(), or regress "
                "the output of Edm(), V() or Velocity()",
                stacklevel=2,
            )

    def forward(self, play: Play) -> Tensor:
        distribution, x, _ = play.reach("denoise")
        y, _ = distribution.embed(x)
        path, dims = distribution.path, len(distribution.event_shape)
        lead = y.shape[: y.dim() - dims]
        u = stratified(lead.numel(), y).reshape(lead)
        lam, density = self.times.quantile(u, path, distribution.window)
        t = path.time(lam)
        x_t = path.noised(y, torch.randn_like(y), expand_time(t, y, dims))
        error = sum_event((distribution.denoise(x_t, t) - y).square(), dims)
        return (self.weight(lam, density, distribution.part.parameterisation.unit_weight(path, t)) * error).mean()


def _share_at_low_noise(objective: DenoisingScoreMatching, head: Parameterisation, path: Path, window: Window) -> float:
    """Weight at the window's clean end over the bound's own, relative to lambda = 0."""
    u = torch.tensor([0.5], dtype=torch.float64)
    shares = []
    for lam in (min(max(0.0, window[0]), window[1]), window[1]):
        level = torch.full_like(u, lam)
        unit = head.unit_weight(path, path.time(level))
        shares.append(float(objective.weight(level, u, unit) / torch.exp(2 * level)))
    return shares[1] / shares[0]
