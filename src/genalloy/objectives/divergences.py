r"""Variational inference: a model q fitted to a target known up to its normaliser, :math:`p(x) = \tilde p(x) / Z`.

Reverse KL needs draws of q alone, and no data:

.. math:: \mathrm{KL}(q\,\|\,p) = \mathbb E_q[\log q(x) - \log\tilde p(x)] + \ln Z.

With a reparameterised draw :math:`x = x_\theta(\epsilon)` the gradient of :math:`\log q_\theta(x_\theta)` has two parts. The one
that leaves x alone, :math:`\partial_\theta \log q_\theta(x)` at fixed x, has mean zero. Without it (the *path gradient*: Roeder,
Wu & Duvenaud, 2017, arXiv:1703.09194, "sticking the landing"; Vaitl et al., 2022) what remains is zero draw by draw once q = p.

Alpha divergences weight the draws with :math:`w = \tilde p / q` (Li & Turner, 2016, arXiv:1602.02311): over groups of K draws

.. math:: L_\alpha = \frac{1}{1 - \alpha} \log \frac1K \sum_k w_k^{1 - \alpha},

a lower bound of :math:`\ln Z` for :math:`\alpha > 0` (maximised), an upper one in the limit of large K for :math:`\alpha < 0`
(minimised; :math:`\alpha = -1` is chi-square of p against q, which covers every mode). Its doubly reparameterised gradient
(Tucker, Lawson, Gu & Maddison, 2019, arXiv:1810.04152) is :math:`\sum_k (\alpha \hat w_k + (1 - \alpha) \hat w_k^2)\,
\nabla_{path} \log w_k` with normalised weights :math:`\hat w \propto w^{1 - \alpha}`.

The training value is never a likelihood: without ln Z it says nothing of the distance.
"""

from __future__ import annotations

import math
from abc import ABC
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution
from torch.func import functional_call

from genalloy.core.contexts import Context
from genalloy.core.distribution import density, draw
from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.schedules import Number, number
from genalloy.objectives.objective import Objective, Play


class _Fixed(nn.Module):
    """log q(x | c) with the parameters as constants: gradients reach x only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return density(self.model(context), x).value

    def score(self, x: Tensor, context: Context) -> Tensor:
        values = {name: p.detach() for name, p in self.named_parameters()}
        return functional_call(self, values, (x, context))


def unnormalised(target: Any, x: Tensor, context: Context = None) -> Tensor:
    r""":math:`\log\tilde p(x)`, (\*B): minus the energy of a target, or of target(context); its density where there is no energy.

    Raises Unavailable where the density is not to be had.
    """
    if hasattr(target, "energy"):
        return -target.energy(x)
    distribution = target(context)
    return -distribution.energy(x) if hasattr(distribution, "energy") else density(distribution, x).available


class _Variational(ABC):
    """What the two share, beside :class:`Objective`: draws of the model, and what is asked of it and of the target before step
    0."""

    target: Any
    samples: int

    def _shape(self, play: Play, groups: bool) -> tuple[int, ...]:
        """(K,) or (K, rows), so that with the distribution's own batch there are K draws for a row of the batch."""
        if tuple(play.distribution.batch_shape):
            return (self.samples,)
        return (self.samples, len(play.batch)) if groups else (self.samples * len(play.batch),)

    def _path(self, play: Play, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """(x, log q(x)) with gradients through x alone."""
        x = play.distribution.rsample(shape)
        return x, _Fixed(play.model).score(x, play.batch.context)

    def _check(self, play: Play, path: bool) -> None:
        distribution: Any = play.distribution
        if not distribution.has_rsample:
            raise self._refusal(f"{type(distribution).__name__} draws samples that carry no gradient")
        if path:
            kind = density(distribution, distribution.sample(self._shape(play, False)).detach()).kind
            if kind is not Kind.EXACT:
                raise self._refusal(f"path gradients need an EXACT density; found {kind.value}; ReverseKL(path=False) needs none")
        kind = draw(distribution, self._shape(play, False))[1].kind
        if kind not in (Kind.EXACT, Kind.UPPER):
            raise self._refusal(f"a draw must come with log q, EXACT or UPPER; found {kind.value}")
        self._check_target(distribution, play.batch.context)

    def _check_target(self, distribution: TorchDistribution, context: Context) -> None:
        if any(p.requires_grad for p in getattr(self.target, "parameters", tuple)()):
            raise self._refusal("the target has parameters to train; freeze it: target.requires_grad_(False)")
        inner = self.target if hasattr(self.target, "energy") else self.target(context)
        if hasattr(inner, "energy"):
            return
        kind = density(inner, distribution.sample()).kind
        if kind not in (Kind.EXACT, Kind.LOWER):
            raise self._refusal(f"the target needs energy(x), or a density EXACT or LOWER; found {kind.value}")

    def _refusal(self, words: str) -> Unavailable:
        return Unavailable(f"{self!r} cannot train this model: {words}")


class ReverseKL(_Variational, Objective):
    r""":math:`E_q[\log q(x) - \beta \log\tilde p(x)]`, nats: KL(q || p) minus ln Z at beta = 1.

    target: anything with energy(x) (\*B, \*E) -> (\*B), or a Part whose distribution has one, or has a density; without trainable
    parameters. path: leave out the part of the gradient whose mean is zero (Roeder, Wu & Duvenaud, 2017, arXiv:1703.09194); costs
    one density. samples: draws for a row of the batch, whose values are not looked at. beta: inverse temperature, number or
    schedule; annealed from small values, the target is flat at first and no mode is lost before it was seen (Rezende & Mohamed,
    2015, arXiv:1505.05770).

    Refused before step 0 (Unavailable): a model without reparameterised samples or without log q, a trainable target.
    """

    def __init__(self, target: Any, path: bool = True, samples: int = 1, beta: Number = 1.0) -> None:
        super().__init__()
        self.target, self.path, self.samples, self.beta = target, path, samples, beta

    def forward(self, play: Play) -> Tensor:
        """The mean over draws, a scalar in nats; gradients through the draws, with `path` through them alone."""
        shape = self._shape(play, False)
        if self.path:
            x, log_q = self._path(play, shape)
        else:
            x, evidence = draw(play.distribution, shape)
            log_q = evidence.value
        log_p = unnormalised(self.target, x, play.batch.context)
        return (log_q - number(self.beta, play.step) * log_p).mean()

    def check(self, play: Play) -> None:
        """Raises Unavailable, see the class."""
        self._check(play, self.path)


class AlphaDivergence(_Variational, Objective):
    r""":math:`-L_\alpha` for :math:`\alpha > 0`, :math:`L_\alpha` for :math:`\alpha < 0`, nats, over groups of `samples` draws.

    Li & Turner, 2016, arXiv:1602.02311, doubly reparameterised after Tucker et al., 2019, arXiv:1810.04152; see the module. alpha
    near 1 is reverse KL (use it), 0.5 symmetric (Hellinger), negative covers mass. target: as for ReverseKL. A large \|1 -
    alpha\| needs many draws: the largest weight of a group decides.

    Raises ValueError for alpha 0 (nothing to optimise) and 1. Refused before step 0: as ReverseKL, and densities not EXACT.
    """

    def __init__(self, target: Any, alpha: float = 0.5, samples: int = 16) -> None:
        super().__init__()
        if alpha in (0.0, 1.0):
            raise ValueError(f"found alpha = {alpha:g}, expected any other number; alpha = 1 is ReverseKL(target)")
        self.target, self.alpha, self.samples = target, alpha, samples

    def forward(self, play: Play) -> Tensor:
        """The mean of the bound over groups, a scalar; its gradient is the doubly reparameterised one, not the value's own."""
        x, log_q = self._path(play, self._shape(play, True))
        log_w = unnormalised(self.target, x, play.batch.context) - log_q
        scaled = ((1 - self.alpha) * log_w).detach()
        share = scaled.softmax(0)
        weight = self.alpha * share + (1 - self.alpha) * share.square()
        value = (scaled.logsumexp(0) - math.log(self.samples)) / (1 - self.alpha)
        slope = (weight * (log_w - log_w.detach())).sum(0)
        return (value + slope).mean() * (-1.0 if self.alpha > 0 else 1.0)

    def check(self, play: Play) -> None:
        """Raises Unavailable, see :class:`ReverseKL`; path gradients are always asked for."""
        self._check(play, True)
