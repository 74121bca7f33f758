r"""Payoffs: what a critic C and a model minimise, given the scores of real and fake points.

At its best response the critic's loss measures a divergence between the two laws (Nowozin, Cseke & Tomioka, 2016,
arXiv:1606.00709), here p of the real and q of the fake points:

=============== ============================================ ================================ ==========================
payoff          critic minimises                             value at the best C              estimate
=============== ============================================ ================================ ==========================
NonSaturating   E softplus(-C(x)) + E softplus(C(y))         2 log 2 - 2 JS(p, q)             JS(p, q), nats
LeastSquares    E (C(x) - 1)^2 + E C(y)^2                    sum p q / (p + q)                sum (p - q)^2 / (p + q)
Hinge           E max(0, 1 - C(x)) + E max(0, 1 + C(y))      2 - 2 TV(p, q)                   TV(p, q)
Wasserstein     E C(y) - E C(x), C 1-Lipschitz               -W1(p, q)                        W1(p, q)
Relativistic    E softplus(-(C(x) - C(y)))                   log 2 at p = q, less elsewhere   0 at p = q, more elsewhere
=============== ============================================ ================================ ==========================

`estimate` reads the divergence off the scores: a lower bound of it, in expectation, for any critic.
Where the model lives on both sides (an encoder on the real side) its payoff moves both, so every model() has a real term; for
plain data it is a constant.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from genalloy.core.spec import Value


class Payoff(Value, ABC):
    """Two functions of the scores (B,) of real and fake points, each a scalar to minimise.

    `critic` is the critic's loss and `model` the model's, which are not opposites in general; `estimate` reads the divergence of
    the two laws off the same scores (f-GAN: Nowozin et al., 2016, arXiv:1606.00709). Sizes of real and fake may differ, except
    for :class:`Relativistic`, which pairs them.

    apart: whether the model's loss is a sum of a term of the real scores and one of the fake scores. Where the model does not
    make the real points, their term is then a constant, and `model` is called with real = None: a pass of the critic is saved.
    """

    apart: bool = False

    @abstractmethod
    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's loss, a scalar, at its scores (B,) of real and fake points."""

    @abstractmethod
    def model(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """The model's loss, a scalar, at the critic's scores (B,) of real and fake points; real is None only if `apart`."""

    @abstractmethod
    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        """The divergence of the laws of real and fake points that these scores (B,) show, see the module's table; a scalar."""


@dataclass(frozen=True)
class Relativistic(Payoff):
    r"""Pairs each real point with a fake one: :math:`E\,\mathrm{softplus}(-(C(x) - C(y)))`; no mode comes free.

    The model minimises the same with x and y exchanged. Jolicoeur-Martineau, 2018, arXiv:1807.00734; Huang et al., 2024,
    arXiv:2501.05441.
    """

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        r""":math:`E\,\mathrm{softplus}(C(y) - C(x))`, nats; scores (B,), paired by row."""
        return F.softplus(fake - real).mean()

    def model(self, real: Tensor | None, fake: Tensor) -> Tensor:
        r""":math:`E\,\mathrm{softplus}(C(x) - C(y))`, nats: the critic's loss with the two sides exchanged."""
        if real is None:
            raise ValueError("a relativistic loss pairs fake points with real ones; found no scores of real ones")
        return F.softplus(real - fake).mean()

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        r""":math:`\log 2` minus the critic's loss, nats: 0 where the scores cannot order a pair."""
        return math.log(2) - self.critic(real, fake)


@dataclass(frozen=True)
class NonSaturating(Payoff):
    r""":math:`E\,\mathrm{softplus}(-C(x)) + E\,\mathrm{softplus}(C(y))`, the logistic loss of D = sigmoid(C).

    The model minimises :math:`-E \log D(y)` instead of :math:`E \log(1 - D(y))`, whose gradient vanishes while the critic leads
    (Goodfellow et al., 2014, arXiv:1406.2661), and the same on the real side with the labels exchanged.
    """

    apart = True

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        r""":math:`-E \log D(x) - E \log(1 - D(y))`, nats, D = sigmoid(C); scores (B,)."""
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def model(self, real: Tensor | None, fake: Tensor) -> Tensor:
        r""":math:`-E \log D(y) - E \log(1 - D(x))`, nats; the second part is a constant where the real points are data."""
        return F.softplus(-fake).mean() + (0.0 if real is None else F.softplus(real).mean())

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        r""":math:`\log 2` minus half the critic's loss: at most JS(p, q) in expectation, nats."""
        return math.log(2) - self.critic(real, fake) / 2


@dataclass(frozen=True)
class Hinge(Payoff):
    r""":math:`E \max(0, 1 - C(x)) + E \max(0, 1 + C(y))`; scores beyond the margin of 1 cost nothing.

    Lim & Ye, 2017, arXiv:1705.02894; Miyato et al., 2018, arXiv:1802.05957.
    """

    apart = True

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        r""":math:`E \max(0, 1 - C(x)) + E \max(0, 1 + C(y))`; scores (B,)."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def model(self, real: Tensor | None, fake: Tensor) -> Tensor:
        r""":math:`E\,C(x) - E\,C(y)`, without a margin: the model's gradient never goes out."""
        return (0.0 if real is None else real.mean()) - fake.mean()

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        """1 minus half the critic's loss: at most the total variation TV(p, q) in expectation."""
        return 1 - self.critic(real, fake) / 2


@dataclass(frozen=True)
class Wasserstein(Payoff):
    r""":math:`E\,C(y) - E\,C(x)`, minus the Kantorovich dual of W1 where C is 1-Lipschitz; keep it so with GradientPenalty().

    Arjovsky, Chintala & Bottou, 2017, arXiv:1701.07875.
    """

    apart = True

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        r""":math:`E\,C(y) - E\,C(x)`; unbounded below unless the critic's slope is bounded. Scores (B,)."""
        return fake.mean() - real.mean()

    def model(self, real: Tensor | None, fake: Tensor) -> Tensor:
        r""":math:`E\,C(x) - E\,C(y)`, minus the critic's loss: this game is zero-sum."""
        return (0.0 if real is None else real.mean()) - fake.mean()

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        r""":math:`E\,C(x) - E\,C(y)`: at most W1(p, q) in expectation for a 1-Lipschitz critic, in units of x."""
        return -self.critic(real, fake)


@dataclass(frozen=True)
class LeastSquares(Payoff):
    r""":math:`E (C(x) - 1)^2 + E\,C(y)^2`, targets 1 and 0 (Mao et al., 2016, arXiv:1611.04076)."""

    apart = True

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        r""":math:`E (C(x) - 1)^2 + E\,C(y)^2`; scores (B,)."""
        return (real - 1).square().mean() + fake.square().mean()

    def model(self, real: Tensor | None, fake: Tensor) -> Tensor:
        r""":math:`E (C(y) - 1)^2 + E\,C(x)^2`: the critic's loss with the targets exchanged."""
        return (fake - 1).square().mean() + (0.0 if real is None else real.square().mean())

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        r"""2 minus four times the critic's loss: at most :math:`\sum (p - q)^2 / (p + q)` in expectation, between 0 and 2."""
        return 2 - 4 * self.critic(real, fake)
