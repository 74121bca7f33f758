"""Objectives compose by adding; players are the others of the game.

`a + b` and `w * a` are objectives, and print(objective) is a formula. A :class:`Player` (a GAN's critic) is found by
walking the objective's submodules; scaling an objective never scales its players' own problems. A :class:`Play` is one
evaluation: it holds model, batch and step, and `once` lets summed terms share one encoding, one fake batch, one trace.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.batch import Batch
from genalloy.core.capabilities import Reached, reach
from genalloy.core.evidence import Unavailable
from genalloy.core.schedules import Number, number
from genalloy.core.spec import Module, arguments


@dataclass
class Play:
    """One evaluation of an objective. `shard` of `shards` tells which slice of the step's batch this is."""

    model: nn.Module
    batch: Batch
    step: int = 0
    shard: int = 0
    shards: int = 1
    terms: dict[str, Tensor] = field(default_factory=dict)
    store: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value under `key`, made at the first request."""
        if key not in self.store:
            self.store[key] = make()
        return self.store[key]

    def note(self, name: str, value: Tensor) -> None:
        """A number for a person, under its name; the second of a name is "name 2"."""
        taken = sum(known == name or known.rpartition(" ")[0] == name for known in self.terms)
        self.terms[f"{name} {taken + 1}" if taken else name] = value.detach()

    @property
    def distribution(self) -> TorchDistribution:
        """model(context), once."""
        return self.once("distribution", lambda: self.model(self.batch.context))

    def reach(self, capability: str) -> Reached:
        """The distribution that has a capability, and the batch as it sees it, once."""
        return self.once(("reach", capability), lambda: reach(self.distribution, self.batch.x, capability))

    def differentiable(self) -> Reached:
        """The first distribution behind fixed preprocessing whose samples carry gradients, and the batch as it sees it, once.

        A critic then sees standardised points, whatever the units of the data are.
        """
        return self.once("differentiable", self._differentiable)

    def _differentiable(self) -> Reached:
        distribution: Any = self.distribution
        x = self.batch.x
        while not distribution.has_rsample or getattr(distribution, "fixed", False):
            step = distribution.unwrap(x) if hasattr(distribution, "unwrap") else None
            if step is None:
                raise Unavailable(
                    f"{type(distribution).__name__} draws samples without gradients, so a critic cannot teach it; "
                    "use a relaxed head (Gumbel-softmax) or a score-function estimator"
                )
            distribution, x, _ = step
        return Reached(distribution, x, None)


class Objective(Module, ABC):
    """What the model minimises; forward(play) is a scalar, the mean over the batch. Never shown as a likelihood.

    needs: capabilities that the model's distribution must offer, checked before step 0.
    couples: True where the value is not a mean over rows (batch statistics), so that shards do not simply add.
    local: True where it keeps state that only one process sees (a replay buffer's chains).
    """

    needs: tuple[str, ...] = ()
    couples: bool = False
    local: bool = False

    @abstractmethod
    def forward(self, play: Play) -> Tensor:
        """Scalar to minimise, mean over the batch; nats where that has a meaning."""

    def check(self, play: Play) -> None:
        """Raise in one sentence where the model cannot serve this objective."""
        for capability in self.needs:
            try:
                play.reach(capability)
            except Unavailable as error:
                raise Unavailable(f"{self!r} cannot train this model: {error}") from None

    def initialise(self, model: nn.Module) -> None:
        """One look at the model before the first step of a run, resumed ones included; nothing by default."""

    def __add__(self, other: Objective | Player) -> Objective:
        return Sum(self, other)

    def __rmul__(self, weight: Number) -> Objective:
        return Scaled(weight, self)

    def __repr__(self) -> str:
        return formula(self)


class Sum(Objective):
    """a + b + ...; each objective's value is noted in the play under its formula. A :class:`Player` adds nothing: it plays."""

    def __init__(self, *terms: Objective | Player) -> None:
        super().__init__()
        self.terms: Any = nn.ModuleList(t for term in terms for t in (term.terms if isinstance(term, Sum) else (term,)))
        self.names = [repr(t) for t in self.objectives]

    @property
    def objectives(self) -> list[Objective]:
        """The terms that have a value, in order: all but the players."""
        return [term for term in self.terms if isinstance(term, Objective)]

    def forward(self, play: Play) -> Tensor:
        values = [term(play) for term in self.objectives]
        for name, value in zip(self.names, values, strict=True):
            play.note(name, value)
        return torch.stack(values).sum()

    def check(self, play: Play) -> None:
        for term in self.objectives:
            term.check(play)

    def __repr__(self) -> str:
        return " + ".join(repr(term) for term in self.terms)


class Scaled(Objective):
    """w * a, with w a float or a schedule; a's players keep their own problem unchanged."""

    def __init__(self, weight: Number, term: Objective) -> None:
        super().__init__()
        self.weight, self.term = weight, term

    def forward(self, play: Play) -> Tensor:
        return number(self.weight, play.step) * self.term(play)

    def check(self, play: Play) -> None:
        self.term.check(play)

    def __repr__(self) -> str:
        inner = f"({self.term!r})" if " + " in repr(self.term) else repr(self.term)
        return f"{self.weight:g} * {inner}" if isinstance(self.weight, (int, float)) else f"{self.weight!r} * {inner}"


class Player(Module, ABC):
    """Another player with a problem of its own, found by walking objective.modules(); `objective + player` lets it play.

    turns: steps it takes before each of the model's, a number or a schedule; each sees a batch of its own. rate: its learning
    rate relative to the model's. options: an optimiser of its own, such as `Adam(betas=(0.0, 0.99))`, None for everybody's.
    """

    turns: Number = 1
    rate: float = 1.0
    options: Any = None
    couples: bool = False

    def moves(self, model: nn.Module) -> tuple[nn.Module, ...]:
        """The modules whose parameters and buffers are this player's: they move in its turns alone; by default itself."""
        return (self,)

    @abstractmethod
    def loss(self, play: Play) -> Tensor:
        """Scalar to minimise; penalties are added here."""

    def after(self) -> None:
        """What follows each of its steps: clipping, a target network, a codebook; nothing by default."""

    def __add__(self, other: Objective | Player) -> Objective:
        return Sum(self, other)

    def __repr__(self) -> str:
        return formula(self)


class Turn(Player):
    """A part of the model with an objective of its own: lagging inference, VAE-GAN's encoder, wake-sleep.

    objective: what the part minimises. part: dotted path inside the model ("posterior"). turns: steps before each of the
    model's. Owns the part, batch statistics included, and whatever the objective itself holds (He et al., 2019, arXiv:1901.05534,
    for lagging inference).
    """

    def __init__(self, objective: Objective, part: str, turns: Number = 1, rate: float = 1.0, options: Any = None) -> None:
        super().__init__()
        self.objective, self.part, self.turns, self.rate, self.options = objective, part, turns, rate, options

    def moves(self, model: nn.Module) -> tuple[nn.Module, ...]:
        return (model.get_submodule(self.part), self.objective)

    def loss(self, play: Play) -> Tensor:
        return self.objective(play)


def formula(thing: Any) -> str:
    """Constructor call in one line: modules by class name alone, arguments at their defaults left out."""
    signature = inspect.signature(type(thing).__init__).parameters
    parts = []
    for name in arguments(type(thing)):
        value, default = getattr(thing, name), signature[name].default
        if hasattr(value, "parameters"):
            parts.append(name)
        elif value is not default and value != default:
            parts.append(f"{name}={value!r}")
    return f"{type(thing).__name__}({', '.join(parts)})"
