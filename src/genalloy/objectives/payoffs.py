r"""Payoffs: what a critic C and a model minimise, given the scores of real and fake points.

At its best response the critic's loss measures a divergence between the two laws (Nowozin, Cseke & Tomioka, 2016), here
p of the real and q of the fake points:

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
    """Two functions of the scores (B,) of real and fake points, each a scalar to minimise."""

    @abstractmethod
    def critic(self, real: Tensor, fake: Tensor) -> Tensor: ...

    @abstractmethod
    def model(self, real: Tensor, fake: Tensor) -> Tensor: ...

    @abstractmethod
    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        """The divergence between the laws of real and fake points that these scores show, see the module's table."""


@dataclass(frozen=True)
class Relativistic(Payoff):
    """Pairs each real point with a fake one (Jolicoeur-Martineau, 2019; Huang et al., 2024): no mode comes free."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def model(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(real - fake).mean()

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        return math.log(2) - self.critic(real, fake)


@dataclass(frozen=True)
class NonSaturating(Payoff):
    """Goodfellow et al. (2014), with the generator's non-saturating loss -log D(G(z))."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def model(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean() + F.softplus(real).mean()

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        return math.log(2) - self.critic(real, fake) / 2


@dataclass(frozen=True)
class Hinge(Payoff):
    """Lim & Ye (2017); Miyato et al. (2018)."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def model(self, real: Tensor, fake: Tensor) -> Tensor:
        return real.mean() - fake.mean()

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        return 1 - self.critic(real, fake) / 2


@dataclass(frozen=True)
class Wasserstein(Payoff):
    """Arjovsky, Chintala & Bottou (2017); keep the critic Lipschitz with GradientPenalty()."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def model(self, real: Tensor, fake: Tensor) -> Tensor:
        return real.mean() - fake.mean()

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        return -self.critic(real, fake)


@dataclass(frozen=True)
class LeastSquares(Payoff):
    """Mao et al. (2017), targets 1 and 0."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real - 1).square().mean() + fake.square().mean()

    def model(self, real: Tensor, fake: Tensor) -> Tensor:
        return (fake - 1).square().mean() + real.square().mean()

    def estimate(self, real: Tensor, fake: Tensor) -> Tensor:
        return 2 - 4 * self.critic(real, fake)
