"""A small game with everything that a step may hold: two critics' worth of players, noise, buffers, and a pace."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from genalloy.core.batch import Batch
from genalloy.core.schedules import Cosine
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.networks.mlp import MLP
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Objective, Player
from genalloy.training.fit import Step
from genalloy.training.options import Adam, Training
from genalloy.transforms.coupling import Coupling, FixedMask, alternating

OPTIONS = Training(Adam(3e-3), rate=Cosine(1.0, 0.1, 12, 2), clip=0.5, ema=0.9, seed=5)


def flow(dims: int = 2) -> Flow:
    layers = [Coupling(FixedMask(alternating(dims, odd)), MLP(((1,),), 2, (8,))) for odd in (False, True)]
    return Flow(StandardNormal((dims,)), layers, (dims,))


class Judge(Player):
    """A critic that is told real from fake; counts its calls in a buffer; takes two turns at half the rate."""

    def __init__(self, network: nn.Module, turns: int = 2, rate: float = 0.5) -> None:
        super().__init__()
        self.network, self.turns, self.rate = network, turns, rate
        self.register_buffer("calls", torch.zeros(()))

    def loss(self, play):
        self.calls += 1
        fake = play.distribution.sample((len(play.batch),))
        noise = 0.1 * torch.randn_like(fake)
        return (F.softplus(-self.network(play.batch.x)) + F.softplus(self.network(fake + noise))).mean()


class Fool(Objective):
    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, play):
        return F.softplus(-self.judge.network(play.distribution.rsample((len(play.batch),)))).mean()


def game() -> tuple[Flow, Objective]:
    """FlowGAN in small: a flow that maximises likelihood and fools a judge."""
    torch.manual_seed(0)
    return flow(), MaximumLikelihood() + 0.3 * Fool(Judge(MLP(((2,),), 1, (8,))))


def data(rows: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 2, generator=generator) * torch.tensor([1.0, 0.3]) + 0.5


PACE = 2
"""Batches that a step of the game takes: one for each turn of the judge."""


def some_batches(start: int, stop: int, pace: int = 1) -> list[Batch]:
    """The batches of steps start..stop-1."""
    x, numbers = data(), range(pace * start, pace * stop)
    return [Batch(x[torch.randperm(64, generator=torch.Generator().manual_seed(i))[:17]]) for i in numbers]


def last(steps: Iterator[Step]) -> Step:
    """Run to the end."""
    return list(steps)[-1]


def numbers(model: nn.Module, objective: nn.Module) -> torch.Tensor:
    """Every parameter and buffer as one vector."""
    return torch.cat([t.detach().reshape(-1).float().clone() for m in (model, objective) for t in m.state_dict().values()])


class Sometimes(Objective):
    """A parameter that is used at the first two steps only: afterwards it has no gradient, which is not a zero gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, play):
        first = next(play.model.parameters())
        return (self.weight - 3).square().sum() if play.step < 2 else 0.0 * first.sum()
