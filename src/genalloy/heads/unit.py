r"""Heads for reals in the open interval (0, 1): Beta, Kumaraswamy, logit-normal. Outside it the density is -inf.

.. math:: \text{Beta: } \frac{x^{a-1}(1-x)^{b-1}}{B(a, b)}, \qquad \text{Kumaraswamy: } a b\, x^{a-1} (1 - x^a)^{b-1},
          \qquad \text{logit-normal: } \frac{N(\operatorname{logit} x; \mu, s^2)}{x (1 - x)}.

Kumaraswamy's distribution function :math:`1 - (1 - x^a)^b` has a closed inverse, so that it is a Beta look-alike with cheap
samples. Samples that would round to 0 or 1 are moved to the nearest number inside.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Beta as TorchBeta

from genalloy.core.distribution import Shape
from genalloy.heads.gaussian import HALF_LOG_2PI
from genalloy.heads.head import Factorised, Head, positive


def _on_unit(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`log_prob` of x where it lies in (0, 1), -inf elsewhere."""
    outside = ~((x > 0) & (x < 1))
    return log_prob(x.masked_fill(outside, 0.5)).masked_fill(outside, -torch.inf)


def _inside(x: Tensor) -> Tensor:
    limits = torch.finfo(x.dtype)
    return x.clamp(limits.tiny, 1 - limits.eps / 2)


class Beta(Head):
    """:math:`x^{a-1} (1 - x)^{b-1} / B(a, b)` on (0, 1), from (raw a, raw b); width 2. Samples carry gradients.

    a, b = floor + softplus; the gradients are implicit ones (Figurnov et al., 2018, arXiv:1805.08498). floor: least a and b. Far
    below one the mass lies nearer to 0 and 1 than floating-point numbers do.
    """

    has_rsample = True
    width = 2

    def __init__(self, floor: float = 0.1) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, parameters: Tensor, event_dims: int) -> BetaDistribution:
        r"""Parameters (\*B, \*E, 2) -> distribution on (0, 1), (\*B, \*E)."""
        a, b = positive(parameters, self.floor).unbind(-1)
        return BetaDistribution(a, b, event_dims)


class BetaDistribution(Factorised):
    r"""Independent Betas; a and b (\*B, \*E)."""

    inside = 0.5

    def __init__(self, a: Tensor, b: Tensor, event_dims: int) -> None:
        super().__init__(tuple(a.shape), event_dims)
        self.a, self.b = a, b

    @property
    def mean(self) -> Tensor:
        r"""a / (a + b), (\*B, \*E)."""
        return self.a / (self.a + self.b)

    def element_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`(a - 1) \log x + (b - 1) \log(1 - x) - \log B(a, b)`, nats an element; -inf outside (0, 1)."""
        return _on_unit(self._log_prob, x)

    def _log_prob(self, x: Tensor) -> Tensor:
        log_beta = torch.lgamma(self.a) + torch.lgamma(self.b) - torch.lgamma(self.a + self.b)
        return (self.a - 1) * x.log() + (self.b - 1) * torch.log1p(-x) - log_beta

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Draws (\*S, \*B, \*E) strictly inside (0, 1), with gradients."""
        return _inside(TorchBeta(self.a, self.b, validate_args=False).rsample(torch.Size(sample_shape)))


class Kumaraswamy(Head):
    r""":math:`a b\,x^{a-1} (1 - x^a)^{b-1}` on (0, 1), from (raw a, raw b); width 2 (Kumaraswamy, 1980).

    a, b = floor + softplus. Samples carry gradients, in closed form.
    """

    has_rsample = True
    width = 2

    def __init__(self, floor: float = 0.1) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, parameters: Tensor, event_dims: int) -> KumaraswamyDistribution:
        r"""Parameters (\*B, \*E, 2) -> distribution on (0, 1), (\*B, \*E)."""
        a, b = positive(parameters, self.floor).unbind(-1)
        return KumaraswamyDistribution(a, b, event_dims)


class KumaraswamyDistribution(Factorised):
    r"""Independent Kumaraswamys; a and b (\*B, \*E)."""

    inside = 0.5

    def __init__(self, a: Tensor, b: Tensor, event_dims: int) -> None:
        super().__init__(tuple(a.shape), event_dims)
        self.a, self.b = a, b

    @property
    def mean(self) -> Tensor:
        r""":math:`b\, B(1 + 1/a, b)`."""
        c = 1 + 1 / self.a
        return (self.b.log() + torch.lgamma(c) + torch.lgamma(self.b) - torch.lgamma(c + self.b)).exp()

    def element_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log(a b) + (a - 1) \log x + (b - 1) \log(1 - x^a)`, nats an element; -inf outside (0, 1)."""
        return _on_unit(self._log_prob, x)

    def _log_prob(self, x: Tensor) -> Tensor:
        log_x = x.log()
        rest = torch.log(-torch.expm1(self.a * log_x))
        return self.a.log() + self.b.log() + (self.a - 1) * log_x + (self.b - 1) * rest

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r""":math:`(1 - e^{-\epsilon / b})^{1/a}`, (\*S, \*B, \*E), with :math:`\epsilon = -\log(1 - u)` standard exponential."""
        e = self.a.new_empty((*sample_shape, *self.a.shape)).exponential_().clamp(min=torch.finfo(self.a.dtype).tiny)
        log_x = torch.log(-torch.expm1(-e / self.b)) / self.a
        return _inside(log_x.exp())


class LogitNormal(Head):
    r""":math:`N(\mathrm{logit}\,x; \mu, s^2) / (x (1 - x))` on (0, 1), from (mean, raw scale) of logit x; width 2.

    scale = floor + softplus (Aitchison & Shen, 1980). Samples carry gradients.
    """

    has_rsample = True
    width = 2

    def __init__(self, floor: float = 1e-3) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, parameters: Tensor, event_dims: int) -> LogitNormalDistribution:
        r"""Parameters (\*B, \*E, 2) -> distribution on (0, 1), (\*B, \*E)."""
        loc, raw = parameters.unbind(-1)
        return LogitNormalDistribution(loc, positive(raw, self.floor), event_dims)


class LogitNormalDistribution(Factorised):
    r"""Independent logit-normals; mean and scale of the logit (\*B, \*E)."""

    inside = 0.5

    def __init__(self, loc: Tensor, scale: Tensor, event_dims: int) -> None:
        super().__init__(tuple(loc.shape), event_dims)
        self.loc, self.scale = loc, scale

    @property
    def mean(self) -> Tensor:
        r"""(\*B, \*E); no closed form: the trapezoidal rule over 8 standard deviations, within 1e-4 up to scale 20."""
        eps = torch.linspace(-8, 8, 161, dtype=self.loc.dtype, device=self.loc.device)
        weights = (-0.5 * eps.square()).softmax(0)
        return torch.sigmoid(self.loc.unsqueeze(-1) + self.scale.unsqueeze(-1) * eps) @ weights

    def element_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log N(\mathrm{logit}\,x; \mu, s^2) - \log x - \log(1 - x)`, nats an element; -inf outside (0, 1)."""
        return _on_unit(self._log_prob, x)

    def _log_prob(self, x: Tensor) -> Tensor:
        log_x, log_rest = x.log(), torch.log1p(-x)
        u = (log_x - log_rest - self.loc) / self.scale
        return -0.5 * u.square() - self.scale.log() - HALF_LOG_2PI - log_x - log_rest

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r""":math:`\sigma(\mu + s \epsilon)`, (\*S, \*B, \*E), strictly inside (0, 1), with gradients."""
        eps = torch.randn((*sample_shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)
        return _inside(torch.sigmoid(self.loc + self.scale * eps))
