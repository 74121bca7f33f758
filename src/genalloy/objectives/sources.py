"""Ports: where an adversarial objective takes its real and its fake points from. Frozen values, play -> Tensor.

`Data()` and `Sample()` meet in the space of the first distribution inwards whose samples carry gradients
(`play.differentiable()`): a critic of a dequantised flow sees reals on both sides. `Prior()` and `Encode()` meet in a
latent model's code space, which makes an adversarial autoencoder (Makhzani et al., 2016). What a port makes is kept in
the play, so that summed objectives share one fake batch and one code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.distribution import needs_gradient
from genalloy.core.spec import Value
from genalloy.objectives.objective import Play


class PointSource(Value, ABC):
    """play -> points (B, \\*E)."""

    @abstractmethod
    def __call__(self, play: Play) -> Tensor: ...


def sample_rows(distribution: TorchDistribution, rows: int, role: str) -> Tensor:
    """One sample for each row of the batch, with gradients where they are wanted."""
    shape = () if distribution.batch_shape else (rows,)
    if not distribution.has_rsample:
        needs_gradient(distribution, role)
        return distribution.sample(shape)
    return distribution.rsample(shape)


@dataclass(frozen=True)
class Data(PointSource):
    """The batch, as the model's differentiable part sees it."""

    def __call__(self, play: Play) -> Tensor:
        return play.differentiable().x


@dataclass(frozen=True)
class Sample(PointSource):
    """One sample of the model for each row, through which gradients flow."""

    def __call__(self, play: Play) -> Tensor:
        make: Any = lambda: sample_rows(play.differentiable().distribution, len(play.batch), "model")  # noqa: E731
        return play.once("sample", make)


@dataclass(frozen=True)
class Prior(PointSource):
    """One code from a latent model's prior for each row."""

    def __call__(self, play: Play) -> Tensor:
        prior = play.reach("infer").distribution.prior
        return play.once("prior sample", lambda: _plain_sample(prior, len(play.batch)))


@dataclass(frozen=True)
class Encode(PointSource):
    """The code of each row: a sample of posterior(x), or its mean."""

    mean: bool = False

    def __call__(self, play: Play) -> Tensor:
        posterior = encoding(play)
        return posterior.mean if self.mean else code(play)


@dataclass(frozen=True)
class At(PointSource):
    """What the capability `name` says of the batch: a tensor, or a sample of the distribution it returns."""

    name: str

    def offered(self, play: Play) -> Any:
        """The tensor or distribution itself, once."""
        inner, x, _ = play.reach(self.name)
        return play.once(("at", self.name), lambda: getattr(inner, self.name)(x))

    def __call__(self, play: Play) -> Tensor:
        found = self.offered(play)
        if not hasattr(found, "sample"):
            return found
        return play.once(("at sample", self.name), lambda: sample_rows(found, len(play.batch), self.name))


def _plain_sample(prior: TorchDistribution, rows: int) -> Tensor:
    """A prior may be discrete or cut off from gradients: only its samples are judged."""
    shape = () if prior.batch_shape else (rows,)
    return prior.rsample(shape) if prior.has_rsample else prior.sample(shape)


def encoding(play: Play) -> Any:
    """posterior(z | x) of the batch, once."""
    inner, x, _ = play.reach("infer")
    return play.once("encoding", lambda: inner.infer(x))


def code(play: Play) -> Tensor:
    """A sample of the posterior for each row, once."""
    posterior = encoding(play)
    return play.once("code", lambda: sample_rows(posterior, len(play.batch), "posterior"))
