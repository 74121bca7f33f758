"""Point sources: where a game takes its real and its fake points from. Frozen values, play -> Points, which compose.

`Data()` and `Sample()` meet in the space of the first distribution inwards whose samples carry gradients
(`play.differentiable()`): a critic of a dequantised flow sees reals on both sides. `Prior()` and `Encode()` meet in a latent
model's code space, which makes an adversarial autoencoder (Makhzani et al., 2016, arXiv:1511.05644); `Decode(Prior())` and
`Decode(Encode())` are the fakes of a VAE-GAN (Larsen et al., 2016, arXiv:1512.09300); `Beside(Data(), Encode())` against
`Beside(Decode(Prior()), Prior())` is a BiGAN (Donahue, Krahenbuhl & Darrell, 2017, arXiv:1605.09782); `Through("ab", Data())`
against `Given()` is half of a CycleGAN (Zhu et al., 2017, arXiv:1703.10593). What a source makes is kept in the play under the
source itself, so that summed objectives share one fake batch and one code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution

from genalloy.core.contexts import Context, tree_map
from genalloy.core.distribution import needs_gradient
from genalloy.core.spec import Value
from genalloy.objectives.objective import Play


class Points(NamedTuple):
    r"""x (B, \*E), and what they come with: a critic sees both(x, given), its slopes are taken in x alone."""

    x: Tensor
    given: Context = None

    def detach(self) -> Points:
        """The same points, cut off from what made them."""
        return Points(self.x.detach(), tree_map(lambda part: part.detach(), self.given))


class PointSource(Value, ABC):
    r"""play -> points (B, \*E), made once a play. Equal sources are one: they share their points."""

    def __call__(self, play: Play) -> Points:
        """The points of this play, the same at every call; equal sources share them."""
        return play.once(self, lambda: self.points(play))

    @abstractmethod
    def points(self, play: Play) -> Points:
        """The points of this play, made afresh; call the source itself for those that are shared."""


def sample_rows(distribution: TorchDistribution, rows: int, role: str) -> Tensor:
    r"""One sample (B, \*E) for each row of the batch, with gradients where they are wanted.

    Raises Unavailable where gradients are wanted and the samples carry none.
    """
    shape = () if distribution.batch_shape else (rows,)
    if not distribution.has_rsample:
        needs_gradient(distribution, role)
        return distribution.sample(shape)
    return distribution.rsample(shape)


@dataclass(frozen=True)
class Data(PointSource):
    r"""The batch (B, \*E), as the model's differentiable part sees it."""

    def points(self, play: Play) -> Points:
        r"""The batch (B, \*E) in the space of the differentiable part."""
        return Points(play.differentiable().x)


@dataclass(frozen=True)
class Rows(PointSource):
    r"""The batch's rows (B, \*E) as they are given; the model is not asked."""

    def points(self, play: Play) -> Points:
        r"""The batch (B, \*E)."""
        return Points(play.batch.x)


@dataclass(frozen=True)
class Sample(PointSource):
    r"""One sample (B, \*E) of the model for each row, through which gradients flow."""

    def points(self, play: Play) -> Points:
        r"""Samples (B, \*E), reparameterised; raises Unavailable where they cannot be."""
        return Points(sample_rows(play.differentiable().distribution, len(play.batch), "model"))


@dataclass(frozen=True)
class Given(PointSource):
    """The batch's context as points: rows of a second data set, or labels. name: of one part of a context with names.

    Raises ValueError where the context is not one tensor, or has no part of that name.
    """

    name: str = ""

    def points(self, play: Play) -> Points:
        """The context's tensor (B, ...)."""
        context: Any = play.batch.context
        chosen = context.get(self.name) if self.name and type(context) is dict else None if self.name else context
        if not isinstance(chosen, Tensor):
            found = type(context).__name__ if type(context) is not dict else f"the parts {sorted(context)}"
            wanted = "a part of that name" if self.name else "one tensor"
            raise ValueError(f"{self!r} needs {wanted} as the context; found {found}")
        return Points(chosen)


@dataclass(frozen=True)
class Beside(PointSource):
    """The points of one source, coming with those of another: the critic sees both, and penalises slopes in the first."""

    source: PointSource
    other: PointSource

    def points(self, play: Play) -> Points:
        r"""x of the first source, (B, \*E), with x of the other as what it comes with."""
        return Points(self.source(play).x, self.other(play).x)


@dataclass(frozen=True)
class Prior(PointSource):
    r"""One code (B, \*Z) from a latent model's prior for each row, :math:`z \sim p(z)`."""

    def points(self, play: Play) -> Points:
        r"""Codes (B, \*Z)."""
        return Points(_plain_sample(play.reach("infer").distribution.prior, len(play.batch)))


@dataclass(frozen=True)
class Encode(PointSource):
    r"""The code (B, \*Z) of each row: a sample of posterior(x), :math:`z \sim q(z|x)`, or its mean."""

    mean: bool = False

    def points(self, play: Play) -> Points:
        r"""Codes (B, \*Z), from one encoding of the batch a play."""
        posterior = encoding(play)
        return Points(posterior.mean if self.mean else sample_rows(posterior, len(play.batch), "posterior"))


@dataclass(frozen=True)
class Decode(PointSource):
    """What a latent model's likelihood makes of codes: its mean, or a sample. `Decode(Prior())`, `Decode(Encode())`."""

    codes: PointSource
    mean: bool = True

    def points(self, play: Play) -> Points:
        r"""Points (B, \*E) of the likelihood at the codes."""
        likelihood: Any = play.reach("decode").distribution.decode(self.codes(play).x)
        return Points(likelihood.mean if self.mean else sample_rows(likelihood, len(play.batch), "likelihood"))


@dataclass(frozen=True)
class Through(PointSource):
    """A part of the model applied to a source's points. part: dotted path inside the model ("ab"). What comes with them stays."""

    part: str
    source: PointSource

    def points(self, play: Play) -> Points:
        """The part's output for the source's points, or a sample of it where it is a distribution."""
        before = self.source(play)
        after: Any = play.model.get_submodule(self.part)(before.x)
        x = sample_rows(after, len(play.batch), self.part) if hasattr(after, "rsample") else after
        return Points(x, before.given)


@dataclass(frozen=True)
class Noised(PointSource):
    """The points of a source plus :math:`N(0, scale^2)` noise (instance noise: Sonderby et al., 2017, arXiv:1610.04490)."""

    source: PointSource
    scale: float = 0.1

    def points(self, play: Play) -> Points:
        r"""Points (B, \*E) with fresh noise in x; what they come with stays as it is."""
        before = self.source(play)
        return Points(before.x + self.scale * torch.randn_like(before.x), before.given)


@dataclass(frozen=True)
class At(PointSource):
    """What the capability `name` says of the batch: a tensor, or a sample of the distribution it returns."""

    name: str

    def offered(self, play: Play) -> Any:
        """The tensor or distribution itself, once."""
        inner, x, _ = play.reach(self.name)
        return play.once(("at", self.name), lambda: getattr(inner, self.name)(x))

    def points(self, play: Play) -> Points:
        """What is offered, or one sample of it for each row."""
        offered = self.offered(play)
        return Points(sample_rows(offered, len(play.batch), self.name) if hasattr(offered, "sample") else offered)


def _plain_sample(prior: TorchDistribution, rows: int) -> Tensor:
    """A prior may be discrete or cut off from gradients: only its samples are judged."""
    shape = () if prior.batch_shape else (rows,)
    return prior.rsample(shape) if prior.has_rsample else prior.sample(shape)


def encoding(play: Play) -> Any:
    """posterior(z | x) of the batch, a distribution with batch (B,), made once a play."""
    inner, x, _ = play.reach("infer")
    return play.once("encoding", lambda: inner.infer(x))
