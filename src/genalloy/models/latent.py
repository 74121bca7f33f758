r"""Latent-variable models: prior, likelihood, posterior, each any Part of any family.

.. math:: \log p(x) \ge \mathbb E_{z \sim r(z|x)} [\log p(x|z) + \log p(z) - \log r(z|x)]

(Kingma & Welling, 2014; Rezende, Mohamed & Wierstra, 2014). The single-sample value is proper, E exp(value) = p(x), so
k of them average inside a logarithm (Burda, Grosse & Salakhutdinov, 2016). For the model's own sample the roles turn:
(x, z) ~ p and log p(x, z) - log r(z|x) lies above log p(x) in expectation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.contexts import Context, Shapes, batch_of, both, shapes_of
from genalloy.core.distribution import Distribution, Shape, density, draw, kl, measure_of, needs_gradient
from genalloy.core.evidence import Evidence, Measure
from genalloy.core.observations import event, leading, observation, repeat
from genalloy.core.part import Part, declared_measure, declared_rsample, evaluating
from genalloy.core.traces import Term, Trace, surfaced, surfacing


class LatentVariable(Part):
    r"""p(x | c) with an inference network (Kingma & Welling, 2014, arXiv:1312.6114; Rezende et al., 2014, arXiv:1401.4082).

    .. math:: p(x | c) = \int p(x | z, c)\, p(z | c)\, dz, \qquad
              \log p(x | c) \ge E_{r(z | x, c)} [\log p(x | z, c) + \log p(z | c) - \log r(z | x, c)]

    prior: Part over z, given c. likelihood: Part over x, given both(z, c). posterior: Part over z, given both(x, c).
    event_shape: shape of x, a dict of shapes for records; by default the likelihood's own. context_shapes: event shapes of c's
    parts. Averages of k samples inside the logarithm: Burda et al., 2016, arXiv:1509.00519.
    """

    def __init__(
        self,
        prior: nn.Module,
        likelihood: Any,
        posterior: nn.Module,
        event_shape: Any = None,
        context_shapes: Shapes = (),
    ) -> None:
        super().__init__()
        self.prior, self.likelihood, self.posterior = prior, likelihood, posterior
        self.event_shape = event(event_shape if event_shape is not None else likelihood.event_shape)
        self.context_shapes = shapes_of(context_shapes)

    @property
    def measure(self) -> Measure | None:  # type: ignore[override]
        """The likelihood's, where it declares one."""
        return declared_measure(self.likelihood)

    @property
    def has_rsample(self) -> bool | None:  # type: ignore[override]
        """Whether both prior and likelihood do."""
        return declared_rsample(self.prior, self.likelihood)

    def forward(self, context: Context = None) -> LatentDistribution:
        r"""The distribution of x given c, with events (\*E) and the prior's batch; the context's where the prior has none."""
        return LatentDistribution(self, context)


class LatentDistribution(Distribution):
    """See :class:`LatentVariable`. Capabilities: infer, trace, decode, encode, reconstruct."""

    def __init__(self, part: LatentVariable, context: Context = None) -> None:
        self.part = part
        self.context = context if part.context_shapes else None
        self.prior: Any = part.prior(self.context)
        self.missing = () if self.prior.batch_shape else batch_of(context, part.context_shapes)
        super().__init__(tuple(self.prior.batch_shape) or self.missing, part.event_shape, Measure())
        self._asked: Any = None

    @property
    def measure(self) -> Measure:
        """The likelihood's, as it declares it; an undeclared one is asked at one latent, in eval mode."""
        declared = self.part.measure
        return measure_of(self._likelihood()) if declared is None else declared

    @measure.setter
    def measure(self, value: Measure) -> None:
        """The likelihood decides; nothing is stored."""

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether samples of both prior and likelihood carry gradients."""
        declared = getattr(self.part.likelihood, "has_rsample", None)
        return bool(self.prior.has_rsample and (self._likelihood().has_rsample if declared is None else declared))

    def _likelihood(self) -> Any:
        """The likelihood at one latent, once; batch statistics do not see it."""
        if self._asked is None:
            with torch.no_grad(), evaluating(self.part.likelihood):
                self._asked = self.decode(self.prior.sample(self.missing))
        return self._asked

    def decode(self, z: Tensor) -> TorchDistribution:
        r"""likelihood(x | z, c); z (\*S, \*B, \*Z)."""
        return self.part.likelihood(both(z, self.context))

    def infer(self, x: Any) -> Any:
        r"""posterior(z | x, c): one encoding, which all samples and all terms of an objective share."""
        return self.part.posterior(both(observation(x), self.context))

    def trace(self, x: Any, k: int = 1, encoding: Any = None) -> Trace:
        r"""k samples of z from one encoding of x (\*B, \*E); every term has shape (k, \*B).

        Where prior or likelihood is a latent model itself, its terms follow this model's own.
        """
        x = observation(x)
        leading(x, self.event_shape)
        encoding = self.infer(x) if encoding is None else encoding
        needs_gradient(encoding, "posterior")
        z, log_posterior = draw(encoding, (k,))
        decoded = self.decode(z)
        log_prior, above = surfacing(self.prior, z, "z")
        matched, inside = surfaced(decoded, repeat(x, k), "x")
        term = Term("z", z, log_prior, log_posterior, lambda: kl(encoding, self.prior))
        return Trace(matched, (term, *above, *inside), decoded)

    def density(self, x: Any) -> Evidence:
        r"""log p(x, z) - log r(z | x) at one draw of z, (\*B), nats: LOWER and proper where its terms are EXACT."""
        return self.trace(x, 1).log_weights().at(0)

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        r"""x (\*S, \*B, \*E) by prior and likelihood, with log p(x, z) - log r(z | x) of its own z: UPPER."""
        z, log_prior = draw(self.prior, (*sample_shape, *self.missing))
        x, log_likelihood = draw(self.decode(z))
        joint = log_likelihood + (log_prior - density(self.infer(x), z))
        return x, joint.above("latent model's own sample")

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples x (\*S, \*B, \*E) by prior and likelihood; each passes gradients on where it has any."""
        shape = (*sample_shape, *self.missing)
        z = self.prior.rsample(shape) if self.prior.has_rsample else self.prior.sample(shape)
        likelihood = self.decode(z)
        return likelihood.rsample() if likelihood.has_rsample else likelihood.sample()

    def encode(self, x: Tensor) -> Tensor:
        r"""Posterior mean, (\*B, \*Z): in closed form where there is one, otherwise over 16 draws."""
        return posterior_mean(self.infer(x))

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""Mean of the likelihood at the code of x, (\*B, \*E); a sample where the likelihood has no mean."""
        decoded = self.decode(self.encode(x))
        try:
            return decoded.mean
        except NotImplementedError:
            return decoded.sample()


def posterior_mean(posterior: TorchDistribution, draws: int = 16) -> Tensor:
    r"""Mean (\*B, \*Z) of a distribution over codes; over `draws` samples where it has no closed form."""
    try:
        return posterior.mean
    except NotImplementedError:
        return posterior.sample((draws,)).mean(0)
