r"""The diffusion's variational bound in continuous time, at finite noise levels.

Kingma, Salimans, Poole & Ho, 2021, arXiv:2107.00630. For a window :math:`[\lambda_1, \lambda_0]` and any denoiser,

.. math:: \log p(x) \ge E\,[\log p(x \mid x_{t_0})] - KL(q(x_{t_1}|x) \,\|\, p(x_{t_1}))
          - \int_{\lambda_1}^{\lambda_0} E\,|\epsilon - \hat\epsilon|^2\, d\lambda .

The observation says what the first two terms are. For reals they are those of a reference model for which the bound is an
equality, so that :math:`\log p(x) \ge \log p_{ref}(x) - \int E\,[|\epsilon - \hat\epsilon|^2 - |\epsilon - \hat\epsilon_{ref}|^2]
\,d\lambda`: the reference's error is a control variate for the network's.

The integral is a mean over `times` strata of lambda, one fresh eps each. Not proper: noise enters the logarithm additively.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from genalloy.core.distribution import sum_event
from genalloy.core.evidence import Evidence, Kind
from genalloy.core.observations import leading
from genalloy.core.spec import Value
from genalloy.diffusion.paths import Diffuses, expand_time
from genalloy.diffusion.times import Times, UniformLambda


@dataclass(frozen=True)
class VariationalBound(Value):
    r"""The module's bound of :math:`\log p(x)`, nats, LOWER, with a standard error from differences of neighbouring strata.

    The error is conservative. times: noise levels per observation; spread: their distribution (importance sampling, Nichol &
    Dhariwal, 2021, arXiv:2102.09672).
    """

    times: int = 32
    spread: Times = field(default_factory=UniformLambda)

    def __call__(self, distribution: Diffuses, x: Tensor) -> Evidence:
        r"""The bound for x (\*B, \*E), an Evidence of shape (\*B); differentiable in the model."""
        leading(x, tuple(distribution.event_shape))
        y, ladj = distribution.embed(x)
        terms = self._terms(distribution, y)
        edge = distribution.observation.edge(distribution, x, y)
        return Evidence(
            edge + ladj - terms.mean(0),
            Kind.LOWER,
            f"variational bound, {self.times} noise levels",
            False,
            _stderr(terms),
            distribution.measure,
        )

    def _terms(self, distribution: Diffuses, y: Tensor) -> Tensor:
        r"""(times, \*S, \*B) importance-weighted excess errors, whose mean over the first axis is the integral."""
        dims = len(distribution.event_shape)
        batch = y.shape[: y.dim() - dims]
        strata = torch.arange(self.times, dtype=y.dtype, device=y.device).reshape(-1, *(1,) * len(batch))
        u = (strata + torch.rand((self.times, *batch), dtype=y.dtype, device=y.device)) / self.times
        lam, density = self.spread.quantile(u, distribution.path, distribution.window)
        t = distribution.path.time(lam)
        many = y.expand(self.times, *y.shape)
        eps = torch.randn_like(many)
        clean = distribution.denoise(distribution.path.noised(many, eps, expand_time(t, many, dims)), t)
        error = torch.exp(2 * lam) * sum_event((many - clean).square(), dims)
        return (error - distribution.observation.reference(many, eps, lam, dims)) / density


def _stderr(terms: Tensor) -> Tensor:
    """Strata are independent and their means vary smoothly: neighbours' differences overstate the variance a little."""
    count = terms.shape[0] // 2 * 2
    if count == 0:
        return torch.full_like(terms[0], torch.inf)
    gaps = terms[0:count:2] - terms[1:count:2]
    return (gaps.detach().square().sum(0) * (terms.shape[0] / count)).sqrt() / terms.shape[0]
