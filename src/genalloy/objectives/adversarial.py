r"""Adversarial objectives: a critic tells real points from fake ones, the model moves the fake ones.

The default is the regularised relativistic game (Huang et al., 2024, arXiv:2501.05441, R3GAN): paired scores, and zero-centred
gradient penalties on both sides,

.. math:: R_1 = \tfrac\gamma2 \mathbb E |\nabla C(x)|^2, \qquad R_2 = \tfrac\gamma2 \mathbb E |\nabla C(y)|^2

(Mescheder, Geiger & Nowozin, 2018, arXiv:1801.04406, for the first), under which the game converges locally. Between points of d
standardised dimensions a critic changes by order one over a distance of order sqrt(d), so :math:`|\nabla C|^2` is of order 1/d:
gamma is chosen proportional to d unless it is given.

GAN, adversarial autoencoder, FlowGAN, BiGAN and adversarial score matching differ only in their two point sources. Real and
fake points are scored apart: in one pass, batch statistics would tell a critic which half a row came from in its own turn and
not in the model's. Penalties and other extras of a critic are terms of its loss, each a function of the :class:`Game`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genalloy.core.contexts import both, tensors
from genalloy.core.schedules import Number
from genalloy.core.spec import Value
from genalloy.objectives.objective import Objective, Play, Player
from genalloy.objectives.payoffs import Payoff, Relativistic
from genalloy.objectives.sources import Data, Points, PointSource, Sample

GAMMA_PER_DIM = 0.05
"""At this gamma, with standardised data, 25 of 25 modes were found in 8 of 8 runs."""


class Game:
    """One evaluation of a critic: real and fake points without gradient, their scores and slopes, each made once."""

    def __init__(self, critic: Critic, play: Play, real: Points, fake: Points) -> None:
        self.critic, self.play, self.real, self.fake = critic, play, real, fake
        self._graded: list[tuple[Points, Tensor, Tensor]] = []

    def score(self, points: Points) -> Tensor:
        """C(points), (B,); from the pass that took the slope where there was one."""
        known = self._known(points)
        return self.critic.score(points) if known is None else known[0]

    def slope(self, points: Points) -> Tensor:
        r""":math:`|\nabla_x C|^2` at the points, (B,), itself differentiable."""
        known = self._known(points)
        if known is None:
            x = points.x.detach().requires_grad_()
            score = self.critic.score(Points(x, points.given))
            (gradient,) = torch.autograd.grad(score.sum(), x, create_graph=True)
            known = score, gradient.flatten(1).square().sum(-1)
            self._graded.append((points, *known))
        return known[1]

    def _known(self, points: Points) -> tuple[Tensor, Tensor] | None:
        return next(((score, square) for held, score, square in self._graded if held is points), None)


class CriticTerm(Value, ABC):
    """A term of the critic's loss, a scalar function of the :class:`Game`.

    every: taken in every n-th step, n times as strong, so that its mean over steps stays (lazy regularisation: Karras et al.,
    2020, arXiv:1912.04958).
    """

    every: int

    @abstractmethod
    def __call__(self, game: Game) -> Tensor:
        """The term at this game, a scalar that the critic minimises."""


def _zero_centred(game: Game, points: Points, gamma: float | None) -> Tensor:
    strength = GAMMA_PER_DIM * points.x[0].numel() if gamma is None else gamma
    return 0.5 * strength * game.slope(points).mean()


@dataclass(frozen=True)
class R1(CriticTerm):
    r""":math:`\tfrac\gamma2 E |\nabla C(x)|^2` on the real points (Mescheder et al., 2018, arXiv:1801.04406).

    gamma: in squared units of x; None for GAMMA_PER_DIM times the dimension of x, right for standardised data.
    """

    gamma: float | None = None
    every: int = 1

    def __call__(self, game: Game) -> Tensor:
        r""":math:`\tfrac\gamma2` times the mean squared slope at the real points (B, \*E), a scalar."""
        return _zero_centred(game, game.real, self.gamma)


@dataclass(frozen=True)
class R2(CriticTerm):
    r""":math:`\tfrac\gamma2 E |\nabla C(y)|^2` on the fake points (Mescheder et al., 2018, arXiv:1801.04406).

    gamma: in squared units of x; None for GAMMA_PER_DIM times the dimension of x.
    """

    gamma: float | None = None
    every: int = 1

    def __call__(self, game: Game) -> Tensor:
        r""":math:`\tfrac\gamma2` times the mean squared slope at the fake points (B, \*E), a scalar."""
        return _zero_centred(game, game.fake, self.gamma)


@dataclass(frozen=True)
class GradientPenalty(CriticTerm):
    r""":math:`w\,E (|\nabla C| - 1)^2` at uniform points of the lines between real and fake ones.

    Gulrajani et al., 2017, arXiv:1704.00028 (WGAN-GP). Real and fake points are paired by row; what the real ones come with is
    kept. one_sided: :math:`w\,E \max(0, |\nabla C| - 1)^2`, slopes below 1 cost nothing (Petzka, Fischer & Lukovnikov, 2018,
    arXiv:1709.08894).
    """

    weight: float = 10.0
    one_sided: bool = False
    every: int = 1

    def __call__(self, game: Game) -> Tensor:
        """The penalty at points :math:`x + u (y - x)`, u uniform on [0, 1] and one a row; a scalar."""
        real, fake = game.real.x, game.fake.x
        share = torch.rand(len(real), *(1,) * (real.dim() - 1), dtype=real.dtype, device=real.device)
        # a slope of exactly 0 has no derivative of its root
        excess = (game.slope(Points(real + share * (fake - real), game.real.given)) + 1e-12).sqrt() - 1
        return self.weight * (excess.clamp(min=0) if self.one_sided else excess).square().mean()


@dataclass(frozen=True)
class Consistency(CriticTerm):
    r""":math:`w\,E (C(x) - C(x + s\,\epsilon))^2` on the real points, :math:`\epsilon \sim N(0, I)`.

    The consistency regularisation of Zhang et al., 2020, arXiv:1910.12027, with Gaussian noise as the augmentation. noise: s, in
    units of x.
    """

    weight: float = 10.0
    noise: float = 0.1
    every: int = 1

    def __call__(self, game: Game) -> Tensor:
        """The weighted mean squared change of the score under noise, a scalar."""
        near = Points(game.real.x + self.noise * torch.randn_like(game.real.x), game.real.given)
        return self.weight * (game.score(game.real) - game.critic.score(near)).square().mean()


@dataclass(frozen=True)
class AuxiliaryLabels(CriticTerm):
    r""":math:`-w\,E \log p(y | x)` of the batch's labels on the real points, nats (Odena, Olah & Shlens, 2017, arXiv:1610.09585).

    The critic's network offers `classify(x)`, logits (B, classes) of labels 0..classes-1. The labels (B,) are the batch's
    context.
    """

    weight: float = 1.0
    every: int = 1

    def __call__(self, game: Game) -> Tensor:
        """The weighted cross-entropy of the labels on the real points, a scalar."""
        labels: Any = game.play.batch.context
        return self.weight * F.cross_entropy(game.critic.network.classify(game.real.x), labels.long())


@dataclass(frozen=True)
class Orthogonality(CriticTerm):
    r""":math:`w \sum_W |W W^\top - \mathrm{diag}(W W^\top)|_F^2` over the critic's weights.

    Rows of a weight are kept at right angles and their lengths are left free; biases do not count (Brock, Donahue & Simonyan,
    2019, arXiv:1809.11096).
    """

    weight: float = 1e-4
    every: int = 1

    def __call__(self, game: Game) -> Tensor:
        """The weighted sum over the weights, each flattened to (outputs, inputs); a scalar."""
        maps = [p.flatten(1) for p in game.critic.network.parameters() if p.dim() > 1]
        squares = [((w @ w.T) * (1 - torch.eye(len(w), dtype=w.dtype, device=w.device))).square().sum() for w in maps]
        return self.weight * torch.stack(squares).sum()


class Constraint(Value, ABC):
    """What is done to a critic's network behind each of its steps."""

    @abstractmethod
    def __call__(self, network: nn.Module) -> None:
        """Change the network in place."""


@dataclass(frozen=True)
class WeightClipping(Constraint):
    """Every parameter within [-limit, limit], which bounds the slope (Arjovsky, Chintala & Bottou, 2017, arXiv:1701.07875)."""

    limit: float = 0.01

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        """Clamp every parameter in place."""
        for parameter in network.parameters():
            parameter.clamp_(-self.limit, self.limit)


class Critic(Player):
    """A network that scores points, the terms of its loss, and its pace; it judges the one Adversarial that holds it.

    network: both(x, given) of the points -> (B, 1) or (B,). terms: of its own loss, beside the payoff. turns: its steps before
    each of the model's, a number or a schedule. rate: its learning rate relative to the model's. options: an optimiser of its
    own. constraint: what follows each of its steps. Raises ValueError where a row gets several scores.
    """

    def __init__(
        self,
        network: nn.Module,
        terms: tuple[CriticTerm, ...] = (R1(), R2()),
        turns: Number = 1,
        rate: float = 1.0,
        options: Any = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.terms, self.turns, self.rate, self.options, self.constraint = tuple(terms), turns, rate, options, constraint
        self.game: tuple[Payoff, PointSource, PointSource] | None = None

    def judge(self, payoff: Payoff, real: PointSource, fake: PointSource) -> None:
        """Settle what is judged. Raises ValueError where another game was settled before."""
        if self.game not in (None, (payoff, real, fake)):
            raise ValueError(f"one critic judges one game; it has {self.game}, give {(payoff, real, fake)} a critic of its own")
        self.game = (payoff, real, fake)

    def score(self, points: Points) -> Tensor:
        """C(points), (B,)."""
        out = self.network(both(points.x, points.given))
        if out.shape not in ((len(points.x),), (len(points.x), 1)):
            found = f"{tuple(out.shape)} for {len(points.x)} rows"
            raise ValueError(f"a critic gives one score a row; found {found}, expected (B, 1)")
        return out.reshape(-1)

    def loss(self, play: Play) -> Tensor:
        """payoff.critic plus the terms, a scalar, on points made without gradient to the model; notes margin and divergence."""
        payoff, game = self._settled()[0], self.play(play)
        # terms first: the pass that takes a slope gives the score too
        extras = [term.every * term(game) for term in self.terms if play.step % term.every == 0]
        real, fake = game.score(game.real), game.score(game.fake)
        self._note(play, game, payoff, real, fake)
        return torch.stack([payoff.critic(real, fake), *extras]).sum()

    def after(self) -> None:
        """Apply the constraint to the network, where there is one."""
        if self.constraint is not None:
            self.constraint(self.network)

    def play(self, play: Play) -> Game:
        """The game at the play's points, cut off from the model. Raises ValueError where no game was settled."""
        _, real, fake = self._settled()
        with torch.no_grad():
            return Game(self, play, real(play).detach(), fake(play).detach())

    def _settled(self) -> tuple[Payoff, PointSource, PointSource]:
        if self.game is None:
            raise ValueError("this critic has no game yet; pass it to Adversarial(critic, ...)")
        return self.game

    def _note(self, play: Play, game: Game, payoff: Payoff, real: Tensor, fake: Tensor) -> None:
        play.note("margin", real.mean() - fake.mean())
        play.note("divergence", payoff.estimate(real, fake))
        for name, points in (("real slope", game.real), ("fake slope", game.fake)):
            known = game._known(points)
            if known is not None:
                play.note(name, known[1].mean().sqrt())


class Adversarial(Objective):
    """The model's payoff against a critic. `w * Adversarial(...)` scales this and leaves the critic's problem alone.

    real, fake: point sources. The gradient flows through both, since an encoder may live on the real side. Raises Unavailable
    before step 0 where the samples of the fake source carry no gradient, naming the remedy, ValueError where shapes differ.
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
        """payoff.model at the critic's scores of real and fake points, a scalar; gradients reach the model through both."""
        real, fake = self.real(play), self.fake(play)
        idle = self.payoff.apart and not any(part.requires_grad for part in (real.x, *tensors(real.given)))
        return self.payoff.model(None if idle else self.critic.score(real), self.critic.score(fake))

    def check(self, play: Play) -> None:
        """Raises ValueError where shapes differ or a row gets several scores, Unavailable where samples carry no gradient."""
        real, fake = self.real(play), self.fake(play)
        if real.x.shape[1:] != fake.x.shape[1:]:
            raise ValueError(f"{self!r}: real points have shape {tuple(real.x.shape)}, fake ones {tuple(fake.x.shape)}")
        self.critic.score(fake)


@dataclass(frozen=True)
class Health:
    r"""Vital signs of the game at one batch.

    margin: mean C(real) - C(fake). real_slope, fake_slope: root mean square of :math:`|\nabla C|`. spread: mean distance of two
    fake points over that of two real ones.
    """

    margin: float
    real_slope: float
    fake_slope: float
    spread: float

    def words(self) -> str:
        """What the numbers say, and what to do."""
        words = []
        if self.spread < 0.5:
            words.append(f"fake points lie at {self.spread:.2f} of the real ones' distances: collapse; raise gamma or the batch")
        if self.margin > 5:
            words.append(f"the critic leads by {self.margin:.1f}: it is too strong; raise gamma or lower its rate")
        if max(self.real_slope, self.fake_slope) > 10:
            words.append(f"the critic's slope is {max(self.real_slope, self.fake_slope):.1f}: gamma is too small")
        return "; ".join(words) or f"healthy: margin {self.margin:.2f}, spread {self.spread:.2f}"


def health(objective: Adversarial, play: Play) -> Health:
    """The game's vital signs on a play of its own; nothing is trained, and every value is a float."""
    with torch.enable_grad():
        game = objective.critic.play(play)
        slopes = [float(game.slope(points).detach().mean().sqrt()) for points in (game.real, game.fake)]
        margin = float((game.score(game.real) - game.score(game.fake)).detach().mean())
    spread = _distance(game.fake.x) / max(_distance(game.real.x), 1e-12)
    return Health(margin, slopes[0], slopes[1], spread)


def _distance(x: Tensor) -> float:
    """Mean distance between rows and their neighbours in the batch's order."""
    return float((x - x.roll(1, 0)).flatten(1).norm(dim=-1).mean())
