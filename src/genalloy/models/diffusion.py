r"""Diffusion models: one network, four values (path, parameterisation, weight, time distribution) and an observation.

Data are noised, :math:`x_t = \alpha_t y + \sigma_t \epsilon`, and samples made by undoing it (Sohl-Dickstein, Weiss,
Maheswaranathan & Ganguli, 2015; Ho, Jain & Abbeel, 2020; Song et al., 2021). The network sees
:math:`x_t/\sqrt{\alpha^2+\sigma^2}` and :math:`-\lambda/4` and its output becomes the denoiser
:math:`D(x_t, t) \approx E[y|x_t]` by the parameterisation. Sampler and estimator are carried along as values, so that a nested
density() is never ambiguous.

An observation says what data are. ``ContinuousData``: coordinates of unit variance, Lebesgue. ``DiscretisedData``:
integers 0..K-1 as K even
levels of [-1, 1], counting measure, with the exact categorical
:math:`p(x_i | x_{t_0}) \propto p_k \exp(-(x_{t_0,i} - \alpha_0 l_k)^2 / 2\sigma_0^2)` at the edge (Kingma et al., 2021).
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.contexts import Context, batch_of, both
from genalloy.core.distribution import Distribution, Shape, sum_event
from genalloy.core.evidence import Evidence, Measure, counting, lebesgue
from genalloy.core.moments import mean_and_scale
from genalloy.core.observations import leading
from genalloy.core.part import Part
from genalloy.core.spec import Value
from genalloy.diffusion.parameterisations import Edm, Parameterisation, level_log_probs
from genalloy.diffusion.paths import LinearPath, Path, Window, expand_time
from genalloy.diffusion.process import Process
from genalloy.estimators.variational_bound import VariationalBound
from genalloy.models.analytic import Checked, self_test
from genalloy.samplers.ode import AdamsBashforth
from genalloy.samplers.sampler import Sampler

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
SLACK = 1e-3
"""Rounding of lambda at the ends of the window, in single precision."""


class DataLikelihood(Value, ABC):
    """What data are: their coordinates y = (x - shift) / scale, the window of lambda, and the terms at its two edges."""

    window: Window = (-4.5, 6.0)

    @abstractmethod
    def measure(self, dims: int) -> Measure:
        """What D = `dims` entries are measured by: Lebesgue, or counting."""

    def affine(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """(shift, scale) of the event shape before any data were seen."""
        return torch.zeros(shape), torch.ones(shape)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        r"""(shift, scale) from data (N, \*E); None to keep what is there."""
        return None

    def offset(self, x: Tensor, width: int) -> Tensor:
        """What the network's output is added to, (\\*E, width), from data (N, \\*E); zero by default."""
        return x.new_zeros((*x.shape[1:], width))

    @abstractmethod
    def edge(self, distribution: Any, x: Tensor, y: Tensor) -> Tensor:
        """The bound's terms at both edges of the window, (\\*S, \\*B)."""

    @abstractmethod
    def reference(self, y: Tensor, eps: Tensor, lam: Tensor, dims: int) -> Tensor:
        r""":math:`|\epsilon - \epsilon_{ref}|^2` of the reference model whose bound the edge terms complete, the shape of lam."""

    @abstractmethod
    def lift(self, distribution: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(w at the edge lambda_0, correction): log p(x) ~ log p(w) + correction."""

    def finish(self, y: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """A sample's coordinates as data."""
        return y * scale + shift

    def bare(self) -> DataLikelihood:
        """Reals as they are, for the self-test."""
        return ContinuousData(standardise=False)


def mixing(lam: float) -> tuple[float, float]:
    """(a, s) with a^2 = sigmoid(2 lambda) and a^2 + s^2 = 1: alpha and sigma of the normalised path."""
    return (1 / (1 + math.exp(-2 * lam))) ** 0.5, (1 / (1 + math.exp(2 * lam))) ** 0.5


@dataclass(frozen=True)
class ContinuousData(DataLikelihood):
    """Continuous data, Lebesgue.

    The reference model is N(0, I) in y: its reconstruction and prior close the window at both edges.
    standardise: take shift and scale from the first batch (each coordinate on its own).
    low, high: lambda_1 and lambda_0; detail finer than e^-high standard deviations is lost.
    """

    standardise: bool = True
    low: float = -4.5
    high: float = 6.0

    @property
    def window(self) -> Window:  # type: ignore[override]
        """(low, high), as they were given."""
        return self.low, self.high

    def measure(self, dims: int) -> Measure:
        """Lebesgue over D = `dims` entries."""
        return lebesgue(dims)

    def bare(self) -> DataLikelihood:
        """The same window, with y = x: shift 0 and scale 1 whatever the data."""
        return replace(self, standardise=False)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        r"""Mean and standard deviation of every coordinate, (\*E) each; None with fewer than two rows."""
        return mean_and_scale(x) if self.standardise and len(x) > 1 else None

    def edge(self, distribution: Any, x: Tensor, y: Tensor) -> Tensor:
        r""":math:`\log N(y; 0, I)`, what the reference model says."""
        return sum_event(-0.5 * y.square() - HALF_LOG_2PI, len(distribution.event_shape))

    def reference(self, y: Tensor, eps: Tensor, lam: Tensor, dims: int) -> Tensor:
        """eps - eps_ref = a (a eps - s y), from D = a w on the normalised path."""
        lam = lam.reshape(*lam.shape, *(1,) * dims)
        signal = torch.sigmoid(2 * lam)
        return sum_event((signal * eps - (signal * (1 - signal)).sqrt() * y).square(), dims)

    def lift(self, distribution: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The sampler's own last step: y is w / a at the edge, with nothing random left."""
        a, _ = mixing(distribution.window[1])
        numel = max(math.prod(distribution.event_shape), 1)
        return a * y, y.new_full(y.shape[: y.dim() - len(distribution.event_shape)], numel * math.log(a))


@dataclass(frozen=True)
class DiscretisedData(DataLikelihood):
    r"""Integers 0..levels-1 on even levels of [-1, 1], counting measure (Kingma et al., 2021, arXiv:2107.00630).

    .. math:: p(x_i = k \mid x_{t_0}) \propto p_k \exp\big(-(x_{t_0,i} - \alpha_0 l_k)^2 / 2 \sigma_0^2\big)

    At lambda_0 neighbouring levels lie 11 standard deviations apart. Samples are snapped to the nearest level; values off the
    grid have density -inf.
    """

    levels: int
    low: float = -4.5

    @property
    def window(self) -> Window:  # type: ignore[override]
        r"""(low, :math:`\log 5.5 (K - 1)`): the latter puts neighbouring levels 11 standard deviations apart."""
        return self.low, math.log(5.5 * (self.levels - 1))

    def measure(self, dims: int) -> Measure:
        """Counting over D = `dims` entries."""
        return counting(dims)

    def affine(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """Half the range, (levels - 1) / 2, as shift and scale of every entry."""
        return torch.full(shape, (self.levels - 1) / 2), torch.full(shape, (self.levels - 1) / 2)

    def offset(self, x: Tensor, width: int) -> Tensor:
        """Log-histogram of each element, add-one smoothed, where the outputs are logits of the levels."""
        if width != self.levels:
            return x.new_zeros((*x.shape[1:], width))
        hits = nn.functional.one_hot(x.long().clamp(0, self.levels - 1), self.levels).sum(0).to(x.dtype)
        return ((hits + 1) / (len(x) + self.levels)).log()

    def edge(self, distribution: Any, x: Tensor, y: Tensor) -> Tensor:
        r""":math:`\log P(x \mid x_{t_0}) - KL(q(x_{t_1} \mid x)\, \|\, N(0, I))` at one noised :math:`x_{t_0}`."""
        (low, high), dims = distribution.window, len(distribution.event_shape)
        a, s = mixing(low)
        prior = 0.5 * (s**2 + a**2 * y.square() - 1 - 2 * math.log(s))
        _, x_t, t = self._noised(distribution, y, high)
        return self._mass(distribution, x, x_t, t) - sum_event(prior, dims)

    def _noised(self, distribution: Any, y: Tensor, lam: float) -> tuple[Tensor, Tensor, Tensor]:
        """(eps, x_t, t) at the time of lambda."""
        eps, t = torch.randn_like(y), distribution.path.time(torch.tensor(lam, dtype=torch.float64)).to(y)
        return eps, distribution.path.noised(y, eps, t), t

    def _mass(self, distribution: Any, x: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """log P(x | x_t0)."""
        index = x.round().clamp(0, self.levels - 1)
        picked = distribution.level_log_probs(x_t, t).gather(-1, index.long().unsqueeze(-1)).squeeze(-1)
        return sum_event(picked.where(index == x, -torch.inf), len(distribution.event_shape))

    def reference(self, y: Tensor, eps: Tensor, lam: Tensor, dims: int) -> Tensor:
        """Zeros, the shape of lam: the edge terms complete the bound of the network's own errors, without a reference model."""
        return torch.zeros_like(lam)

    def lift(self, distribution: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """w drawn from q(w | x), corrected by log P(x | w) - log q(w | x): a lower bound of the smoothed density's mass."""
        high, dims = distribution.window[1], len(distribution.event_shape)
        eps, x_t, t = self._noised(distribution, y, high)
        _, s = mixing(high)
        log_q = sum_event(-0.5 * eps.square() - HALF_LOG_2PI - math.log(s), dims)
        return x_t / distribution.path.scale(t), self._mass(distribution, x, x_t, t) - log_q

    def finish(self, y: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """The nearest level's number of every entry."""
        return (y * scale + shift).round().clamp(0, self.levels - 1)


class Diffusion(Part):
    r"""p(x | c) by denoising (Ho et al., 2020, arXiv:2006.11239; Song et al., 2021, arXiv:2011.13456).

    .. math:: x_t = \alpha_t y + \sigma_t \epsilon, \qquad D(x_t, t) \approx E[y \mid x_t], \qquad y = (x - m) / s

    network: (x, c_noise, \*context) -> (\*B, \*E, parameterisation.width), with ``inputs = (event_shape, (), *context_shapes)``.
    sampler: (process, noise) -> x. estimator: (distribution, x) -> Evidence, what density() returns. The window of lambda is the
    observation's, as far as the path reaches, or the path's own where it is a table.

    Raises ValueError where the parameterisation is singular on the path, and warns where the sampler uses D itself and the
    parameterisation multiplies the network's errors in it (1/alpha at the noisy end).
    """

    shift: Tensor
    scale: Tensor
    offset: Tensor
    measure: Measure

    def __init__(
        self,
        network: nn.Module,
        event_shape: Shape,
        observation: DataLikelihood = ContinuousData(),
        path: Path = LinearPath(),  # noqa: B008
        parameterisation: Parameterisation = Edm(),  # noqa: B008
        sampler: Sampler = AdamsBashforth(),  # noqa: B008
        estimator: Any = VariationalBound(),  # noqa: B008
    ) -> None:
        super().__init__()
        parameterisation.refuse(path)
        self.network, self.event_shape, self.observation = network, tuple(event_shape), observation
        self.path, self.parameterisation = path, parameterisation
        self.sampler, self.estimator = sampler, estimator
        self.context_shapes = tuple(getattr(network, "inputs", ())[2:])
        self.measure, self.has_rsample = observation.measure(math.prod(self.event_shape)), False
        self.window, self.levels = path.clip(observation.window), getattr(observation, "levels", 0)
        _warn_of_amplification(self)
        shift, scale = observation.affine(self.event_shape)
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self.register_buffer("offset", torch.zeros(*self.event_shape, parameterisation.width))

    def forward(self, context: Context = None) -> DiffusionDistribution:
        r"""The distribution of x given c, with events (\*E) and the batch of the context's parts, () without one."""
        return DiffusionDistribution(self, context)

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Context = None) -> None:
        """Coordinates (and the levels' histograms) from data x (\\*B, \\*E)."""
        x = x.reshape(-1, *self.event_shape)
        shift, scale = self.observation.moments(x) or (self.shift, self.scale)
        self.shift.copy_(shift)
        self.scale.copy_(scale)
        self.offset.copy_(self.observation.offset(x, self.parameterisation.width))

    def swapped(self, network: nn.Module, parameterisation: Parameterisation, levels: int) -> Diffusion:
        """Path, sampler and estimator around another network over pairs of reals (levels = 0) or of integers, in double."""
        observation = DiscretisedData(levels) if levels else self.observation.bare()
        return Diffusion(network, (2,), observation, self.path, parameterisation, self.sampler, self.estimator).double()

    def self_test(self) -> list[Checked]:
        """(what, value, target, ok) of the chosen path, parameterisation, sampler and estimator on a law with known density."""
        return self_test(self)


class DiffusionDistribution(Distribution):
    """See :class:`Diffusion`. `denoise`, `noised_score` and `velocity` speak in the coordinates y = embed(x), `score` in x."""

    has_rsample = False

    def __init__(self, part: Diffusion, context: Context = None) -> None:
        self.part, self.path, self.window, self.observation = part, part.path, part.window, part.observation
        self.context = context if part.context_shapes else None
        batch = batch_of(context, part.context_shapes)
        super().__init__(batch, part.event_shape, part.measure)

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""y (\*S, \*B, \*E) and :math:`\log |dy/dx|` (\*S, \*B), the latter zero under the counting measure."""
        y = (x - self.part.shift) / self.part.scale
        lead = leading(x, tuple(self.event_shape))
        ladj = -self.part.scale.log().sum() * float(self.measure.counting == 0)
        return y, ladj.to(y).expand(lead)

    def network_output(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""(F (\*B, \*E, width), t with the event's axes)."""
        dims = len(self.event_shape)
        times = expand_time(t, x_t, dims)
        low, high = self.window
        lam = self.path.lam(times)
        outside = torch.maximum(low - lam, lam - high).max() if lam.numel() else lam.sum()
        if float(outside) > SLACK:
            raise ValueError(
                f"a time has lambda outside the window ({low:.3g}, {high:.3g}) by {float(outside):.3g}: the network has not "
                "seen such noise; ask for times inside, or give the observation a wider window"
            )
        level = -0.25 * lam.clamp(low, high).reshape(x_t.shape[: x_t.dim() - dims])
        output = self.part.network(both((x_t / self.path.scale(times), level), self.context))
        return output.reshape(*x_t.shape, -1) + self.part.offset, times

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        r"""E[y | x_t]; x_t (\*S, \*B, \*E), t broadcastable to (\*S, \*B)."""
        output, times = self.network_output(x_t, t)
        return self.part.parameterisation.denoised(output, x_t, self.path, times)

    def level_log_probs(self, x_t: Tensor, t: Tensor) -> Tensor:
        r"""log P(x_i = k | x_t), (\*B, \*E, K): the network's levels where it has them, otherwise a flat prior."""
        output, times = self.network_output(x_t, t)
        logits = self.part.parameterisation.logits(output)
        flat = x_t.new_zeros((*x_t.shape, self.part.levels))
        return level_log_probs(flat if logits is None else logits, x_t, self.path, times)

    def score(self, x: Tensor) -> Tensor:
        r"""grad log p(x) in the units of x, smoothed as much as the window's edge at the data; the chain rule through
        embed(x)."""
        t = self.path.time(torch.tensor(self.window[1], dtype=torch.float64)).to(x)
        y, _ = self.embed(x)
        alpha = self.path.alpha(t)
        return self.noised_score(alpha * y, t) * alpha / self.part.scale

    def noised_score(self, x_t: Tensor, t: Tensor) -> Tensor:
        r"""grad log p_t(x_t) = (alpha D - x_t) / sigma^2, in the coordinates in which the path acts."""
        times = expand_time(t, x_t, len(self.event_shape))
        return (self.path.alpha(times) * self.denoise(x_t, t) - x_t) / self.path.sigma(times).square()

    def velocity(self, x_t: Tensor, t: Tensor) -> Tensor:
        r"""dx_t/dt = alpha' D + sigma' (x_t - alpha D) / sigma of the probability flow."""
        times, clean = expand_time(t, x_t, len(self.event_shape)), self.denoise(x_t, t)
        alpha_rate, sigma_rate = self.path.rates(times)
        return alpha_rate * clean + sigma_rate * (x_t - self.path.alpha(times) * clean) / self.path.sigma(times)

    def density(self, x: Tensor) -> Evidence:
        r"""log p(x), (\*S, \*B), nats, of x (\*S, \*B, \*E), by the part's estimator, whose claim it makes."""
        return self.part.estimator(self, x)

    def draw(self, sample_shape: Shape = ()) -> tuple[Tensor, Evidence]:
        """The sampler's law is not the estimator's, so its own sample's density is an estimate."""
        x = self.rsample(sample_shape)
        return x, self.density(x).estimated(f"own sample of {self.part.sampler!r}")

    @property
    def process(self) -> Process:
        """What the sampler runs."""
        return Process(self.denoise, self.path, self.window, len(self.event_shape))

    @torch.no_grad()
    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        r"""Samples (\*S, \*B, \*E) of the part's sampler, without gradients."""
        return self.sampled(self.process, sample_shape)

    def sampled(self, process: Process, sample_shape: Shape) -> Tensor:
        """Data from the part's sampler run on a process: this one, or one that a rule steers."""
        shift = self.part.shift
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        noise = torch.randn(shape, dtype=shift.dtype, device=shift.device)
        last = torch.tensor(process.span[1], dtype=torch.float64)
        y = self.part.sampler(process, noise) / process.path.alpha(last).to(noise)
        return self.observation.finish(y, shift, self.part.scale)


AMPLIFIED = 20.0
"""|c_out| beyond which an error of the network is seen in samples: with eps on the variance-preserving path 90, with v 1."""


def _warn_of_amplification(part: Diffusion) -> None:
    lam = torch.tensor(part.window, dtype=torch.float64)
    factor = (
        float(part.parameterisation.pair(part.path, part.path.time(lam))[1].abs().max())
        if part.parameterisation.width == 1
        else 1.0
    )
    if part.sampler.amplifies and factor > AMPLIFIED:
        warnings.warn(
            f"{part.parameterisation!r} on {part.path!r} multiplies an error of the network by up to {factor:.0f} in the "
            f"denoised point, "
            f"which {part.sampler!r} uses itself; use V(), Velocity() or Edm(), or DDIM(), whose steps weigh it by alpha",
            stacklevel=3,
        )
