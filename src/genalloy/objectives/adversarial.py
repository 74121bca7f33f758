r"""Adversarial objectives: a critic tells real points from fake ones, the model moves the fake ones.

The default is the regularised relativistic game (Huang et al., 2024, R3GAN): paired scores, and zero-centred gradient
penalties on both sides,

.. math:: R_1 = \tfrac\gamma2 \mathbb E |\nabla C(x)|^2, \qquad R_2 = \tfrac\gamma2 \mathbb E |\nabla C(y)|^2

(Mescheder, Geiger & Nowozin, 2018, for the first), under which the game converges locally. Between points of d standardised
dimensions a critic changes by order one over a distance of order sqrt(d), so |grad C|^2 is of order 1/d: gamma is chosen
proportional to d unless it is given.

GAN, adversarial autoencoder, FlowGAN and adversarial score matching differ only in their two ports.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, both, tree_map
from genalloy.core.spec import Value
from genalloy.objectives.objective import Objective, Play, Player
from genalloy.objectives.payoffs import Payoff, Relativistic
from genalloy.objectives.sources import Data, PointSource, Sample

GAMMA_PER_DIM = 0.05


class Penalty(Value, ABC):
    """A term of the critic's loss made of the gradient norms at some points."""

    @abstractmethod
    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        r"""Where gradients are taken, (B, \*E); returning `real` or `fake` itself costs no further evaluation."""

    @abstractmethod
    def value(self, square: Tensor, dims: int) -> Tensor:
        """Scalar, from the squared gradient norms (B,) at the points; dims: size of an event."""


@dataclass(frozen=True)
class R1(Penalty):
    """gamma/2 E |grad C|^2 on the real points; gamma None: GAMMA_PER_DIM times the dimension."""

    gamma: float | None = None

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        return real

    def value(self, square: Tensor, dims: int) -> Tensor:
        gamma = GAMMA_PER_DIM * dims if self.gamma is None else self.gamma
        return 0.5 * gamma * square.mean()


@dataclass(frozen=True)
class R2(R1):
    """gamma/2 E |grad C|^2 on the fake points."""

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake


@dataclass(frozen=True)
class GradientPenalty(Penalty):
    """weight E (|grad C| - 1)^2 on lines between real and fake points (Gulrajani et al., 2017)."""

    weight: float = 10.0

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        share = torch.rand(len(real), *(1,) * (real.dim() - 1), dtype=real.dtype, device=real.device)
        return real + share * (fake - real)

    def value(self, square: Tensor, dims: int) -> Tensor:
        return self.weight * ((square + 1e-12).sqrt() - 1).square().mean()


class Critic(Player):
    """A network that scores points, its penalties, and its pace; it judges the one Adversarial that holds it.

    network: points (B, \\*E), or both(points, context) where conditional -> (B, 1). penalties: of its own loss.
    turns: its steps before each of the model's. rate: its learning rate relative to the model's.
    """

    def __init__(
        self,
        network: nn.Module,
        penalties: tuple[Penalty, ...] = (R1(), R2()),
        turns: int = 1,
        rate: float = 1.0,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.penalties, self.turns, self.rate = network, tuple(penalties), turns, rate
        self.conditional = conditional
        self.game: tuple[Payoff, PointSource, PointSource] | None = None

    def judge(self, payoff: Payoff, real: PointSource, fake: PointSource) -> None:
        """Settle what is judged. Raises ValueError where another game was settled before."""
        if self.game not in (None, (payoff, real, fake)):
            raise ValueError(f"one critic judges one game; it has {self.game}, give {(payoff, real, fake)} a critic of its own")
        self.game = (payoff, real, fake)

    def score(self, points: Tensor, context: Context = None) -> Tensor:
        """C(points), (B,)."""
        return self.network(both(points, context) if self.conditional else points).squeeze(-1)

    def loss(self, play: Play) -> Tensor:
        """payoff.critic plus penalties, on points made without gradient to the model."""
        payoff, real, fake = self.points(play)
        special = [penalty.points(real, fake) for penalty in self.penalties]
        sets = [real, fake, *(s for s in special if s is not real and s is not fake)]
        scores, squares = self.graded(sets, play.batch.context, bool(special))
        place = {id(s): i for i, s in enumerate(sets)}
        total = payoff.critic(scores[0], scores[1])
        for penalty, points in zip(self.penalties, special, strict=True):
            total = total + penalty.value(squares[place[id(points)]], points[0].numel())
        return total

    def graded(self, sets: list[Tensor], context: Context, graded: bool = True) -> tuple[Any, Any]:
        """Scores and squared gradient norms at several sets of points: one pass, and one differentiable gradient."""
        joined = torch.cat(sets).requires_grad_(graded)
        sizes = [len(s) for s in sets]
        scores = self.score(joined, tree_map(lambda c: torch.cat([c] * len(sets)), context))
        if not graded:
            return scores.split(sizes), None
        (gradient,) = torch.autograd.grad(scores.sum(), joined, create_graph=True)
        return scores.split(sizes), gradient.flatten(1).square().sum(-1).split(sizes)

    def points(self, play: Play) -> tuple[Payoff, Tensor, Tensor]:
        """The payoff, and real and fake points without gradient."""
        if self.game is None:
            raise ValueError("this critic has no game yet; pass it to Adversarial(critic, ...)")
        payoff, real, fake = self.game
        with torch.no_grad():
            return payoff, real(play).detach(), fake(play).detach()


class Adversarial(Objective):
    """The model's payoff against a critic. `w * Adversarial(...)` scales this and leaves the critic's problem alone.

    real, fake: ports. The gradient flows through both, since an encoder may live on the real side. Raises Unavailable
    before step 0 where the samples of the fake port carry no gradient, naming the remedy.
    """

    def __init__(
        self,
        critic: Critic,
        payoff: Payoff = Relativistic(),  # noqa: B008
        real: PointSource = Data(),  # noqa: B008
        fake: PointSource = Sample(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.critic, self.payoff, self.real, self.fake = critic, payoff, real, fake
        critic.judge(payoff, real, fake)

    def forward(self, play: Play) -> Tensor:
        context = play.batch.context
        real = self.critic.score(self.real(play), context)
        fake = self.critic.score(self.fake(play), context)
        return self.payoff.model(real, fake)

    def check(self, play: Play) -> None:
        real, fake = self.real(play), self.fake(play)
        if real.shape[1:] != fake.shape[1:]:
            raise ValueError(f"{self!r}: real points have shape {tuple(real.shape)}, fake ones {tuple(fake.shape)}")
        self.critic.score(fake, play.batch.context)


@dataclass(frozen=True)
class Health:
    """Vital signs of the game at one batch.

    margin: mean C(real) - C(fake). real_slope, fake_slope: root mean square |grad C|. spread: mean distance of two fake
    points over that of two real ones.
    """

    margin: float
    real_slope: float
    fake_slope: float
    spread: float

    def words(self) -> str:
        """What the numbers say, and what to do."""
        found = []
        if self.spread < 0.5:
            found.append(f"fake points lie at {self.spread:.2f} of the real ones' distances: collapse; raise gamma or the batch")
        if self.margin > 5:
            found.append(f"the critic leads by {self.margin:.1f}: it is too strong; raise gamma or lower its rate")
        if max(self.real_slope, self.fake_slope) > 10:
            found.append(f"the critic's slope is {max(self.real_slope, self.fake_slope):.1f}: gamma is too small")
        return "; ".join(found) or f"healthy: margin {self.margin:.2f}, spread {self.spread:.2f}"


def health(objective: Adversarial, play: Play) -> Health:
    """The game's vital signs on a play of its own; nothing is trained."""
    critic = objective.critic
    _, real, fake = critic.points(play)
    with torch.enable_grad():
        scores, squares = critic.graded([real, fake], play.batch.context)
    slopes = [float(s.detach().mean().sqrt()) for s in squares]
    spread = _distance(fake) / max(_distance(real), 1e-12)
    return Health(float((scores[0] - scores[1]).detach().mean()), slopes[0], slopes[1], spread)


def _distance(x: Tensor) -> float:
    """Mean distance between rows and their neighbours in the batch's order."""
    return float((x - x.roll(1, 0)).flatten(1).norm(dim=-1).mean())
