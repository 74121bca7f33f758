r"""Flow matching: regression of a velocity, without a solver.

Lipman et al., 2023, arXiv:2210.02747; Liu, Gong & Liu, 2023, arXiv:2209.03003.

For a pair of data y and source :math:`\epsilon` the path :math:`x_t = \alpha y + \sigma \epsilon` moves with
:math:`\alpha' y + \sigma' \epsilon`, and

.. math:: E\, |f(x_t, t) - (\alpha' y + \sigma' \epsilon)|^2

is least at :math:`f = E[\alpha' y + \sigma' \epsilon \mid x_t]`, which carries the source's law to the data's, whatever the
joint law of the pairs, as long as both marginals are kept. Pairs that do not cross give straight trajectories and few steps:
minibatch optimal transport (Tong et al., 2024, arXiv:2302.00482; Pooladian et al., 2023, arXiv:2304.14772), or the model's own
pairs (:class:`Reflow`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genalloy.core.contexts import Context, tensors
from genalloy.core.distribution import Shape, sum_event
from genalloy.core.evidence import Unavailable
from genalloy.core.spec import Value
from genalloy.diffusion.paths import LinearPath, Path, expand_time, stratified
from genalloy.diffusion.times import Times, UniformTime
from genalloy.distances import optimal_assignment, squared_distances
from genalloy.objectives.likelihood import batch_density
from genalloy.objectives.objective import Objective, Play

EVERYWHERE = (-math.inf, math.inf)
"""The lambda window of a path whose ends are pure data and pure source."""


class Pairing(Value, ABC):
    """The joint law of data and source in a batch, as a permutation of the source's rows.

    couples: whether a row's pair depends on the other rows.
    """

    couples: bool = False

    @abstractmethod
    def pair(self, y: Tensor, source: Tensor, context: Context) -> Tensor:
        r"""Source rows (n, \*E) in the order that goes with the data's rows y (n, \*E) and their context."""


@dataclass(frozen=True)
class Independent(Pairing):
    """As they were drawn (Lipman et al., 2023, arXiv:2210.02747)."""

    def pair(self, y: Tensor, source: Tensor, context: Context) -> Tensor:
        r"""The source as it is, (n, \*E)."""
        return source


@dataclass(frozen=True)
class OptimalTransport(Pairing):
    r"""The permutation of least :math:`\sum_i |y_i - \epsilon_{\pi(i)}|^2 + w\,|c_i - c_{\pi(i)}|^2` within the batch.

    Tong et al., 2024, arXiv:2302.00482; Pooladian et al., 2023, arXiv:2304.14772. weight: of the context, w. Pairing across
    contexts changes the source's law given the context, and conditional samples with it (Cheng & Schwing, 2025). The default
    pairs within equal contexts alone, which is right for labels; with contexts that never repeat it is the independent coupling.
    """

    weight: float = 1e6

    couples = True

    def pair(self, y: Tensor, source: Tensor, context: Context) -> Tensor:
        r"""The source's rows (n, \*E) in the order of the exact assignment; costs (n, n) distances."""
        cost = squared_distances(y, source)
        for part in tensors(context):
            rows = part.reshape(len(y), -1)
            cost = cost + self.weight * squared_distances(rows, rows)
        return source[optimal_assignment(cost)]


class FlowMatching(Objective):
    r""":math:`E\,|f(x_t, t) - (\alpha' y + \sigma' \epsilon)|^2`, summed over the event, one stratified time a row; not nats.

    Lipman et al., 2023, arXiv:2210.02747. Works on a flow of one :class:`genalloy.transforms.ode.Continuous` over any base that
    can be sampled, and on a Diffusion with the same path, in its own coordinates with unit normal noise. The base gets no
    gradient.

    coupling: of data and source. path: on a flow its ends must be pure data and pure source. times: of t, through lambda.

    Raises Unavailable before step 0 where the path is not the model's own, or keeps some data at t = 1.
    """

    needs = ("velocity",)

    def __init__(
        self,
        coupling: Pairing = Independent(),
        path: Path = LinearPath(),  # noqa: B008
        times: Times = UniformTime(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.coupling, self.path, self.times = coupling, path, times
        self.couples = coupling.couples

    def check(self, play: Play) -> None:
        """Raises Unavailable where the model has no velocity or the path does not fit it."""
        super().check(play)
        _meets(self, self.path, play.reach("velocity").distribution)

    def forward(self, play: Play) -> Tensor:
        r"""The mean squared error of the velocity at rows (\*B, \*E), a scalar."""
        distribution, x, _ = play.reach("velocity")
        y = _embedded(distribution, x)
        source = getattr(distribution, "source", torch.randn_like)(y)
        rows, events = y.shape[: y.dim() - len(distribution.event_shape)], y.shape[y.dim() - len(distribution.event_shape) :]
        if len(rows) != 1 and self.coupling.couples:
            y, source = y.reshape(-1, *events), source.reshape(-1, *events)
        source = self.coupling.pair(y, source, distribution.context).reshape(*rows, *events)
        return _regression(distribution, y.reshape(source.shape), source, self.path, self.times)


class Reflow(Objective):
    """The second phase of a rectified flow: matching on pairs (z, decode(z)) of the model that the first phase left.

    The pairs are drawn once, at the first step, with the model's evaluation grid, and kept as buffers. They do not cross, so the
    new trajectories are straighter, and few Euler steps suffice (Liu, Gong & Liu, 2023, arXiv:2209.03003). The rows of the batch
    say how many pairs a step takes; their values are not looked at. pairs: how many are kept.

    Raises Unavailable before step 0 for conditional models.
    """

    needs = ("velocity", "decode")
    local = True
    noise: Tensor
    sample: Tensor
    drawn: Tensor

    def __init__(self, event_shape: Shape, pairs: int = 16384, path: Path = LinearPath(), times: Times = UniformTime()) -> None:  # noqa: B008
        super().__init__()
        self.event_shape, self.pairs, self.path, self.times = tuple(event_shape), pairs, path, times
        self.register_buffer("noise", torch.zeros(pairs, *self.event_shape))
        self.register_buffer("sample", torch.zeros(pairs, *self.event_shape))
        self.register_buffer("drawn", torch.zeros((), dtype=torch.bool))

    def check(self, play: Play) -> None:
        """Raises Unavailable where the path does not fit the model, or the model is conditional."""
        super().check(play)
        distribution = play.reach("velocity").distribution
        _meets(self, self.path, distribution)
        if distribution.context is not None:
            raise Unavailable(f"{self!r} keeps pairs without their contexts; found a conditional model: use FlowMatching")

    def forward(self, play: Play) -> Tensor:
        """The velocity's mean squared error on kept pairs, one for a row of the batch, a scalar; draws the pairs at first."""
        distribution, x, _ = play.reach("velocity")
        if not bool(self.drawn):
            self._draw(distribution, play.model)
        chosen = torch.randint(self.pairs, (len(x),), device=x.device)
        return _regression(distribution, self.sample[chosen], self.noise[chosen], self.path, self.times)

    @torch.no_grad()
    def _draw(self, distribution: Any, model: Any) -> None:
        """In evaluation mode, so that the finer grid is solved and nothing is dropped out."""
        training = model.training
        model.eval()
        for rows in torch.arange(self.pairs, device=self.noise.device).split(2048):
            self.noise[rows] = distribution.source(self.noise[rows])
            self.sample[rows] = distribution.decode(self.noise[rows])
        model.train(training)
        self.drawn.fill_(True)


class KineticEnergy(Objective):
    r""":math:`E \int_0^1 |f|^2 dt` along the trajectories from the data: how far they go (Finlay et al., 2020, arXiv:2002.02798).

    For a continuous flow, beside MaximumLikelihood, whose solve it shares. No less than W2^2 between data and base.
    """

    needs = ("journey",)

    def forward(self, play: Play) -> Tensor:
        """The mean over the batch, a scalar in squared units of the flow's coordinates."""
        return _journey(play).kinetic.mean()


class JacobianNorm(Objective):
    r""":math:`E \int_0^1 |\partial f / \partial x|_F^2 dt`, by the trace's own probes: how they bend.

    Finlay et al., 2020, arXiv:2002.02798. Beside MaximumLikelihood, whose solve it shares.
    """

    needs = ("journey",)

    def forward(self, play: Play) -> Tensor:
        """The mean over the batch, a scalar."""
        return _journey(play).frobenius.mean()


def _journey(play: Play) -> Any:
    """The solve of this play's density, made once for all summed terms."""
    batch_density(play)
    return play.reach("journey").distribution.journey


def _embedded(distribution: Any, x: Tensor) -> Tensor:
    """x in the coordinates in which the velocity speaks."""
    return distribution.embed(x)[0] if hasattr(distribution, "embed") else x


def _meets(objective: Objective, path: Path, distribution: Any) -> None:
    """Raise where the path is not the model's: another one than a diffusion's, or ends that are neither data nor source."""
    own = getattr(distribution, "path", None)
    if own is not None and own != path:
        raise Unavailable(f"{objective!r} walks {path!r} and the model {own!r}; give both the same path")
    if own is None and path.clip(EVERYWHERE) != EVERYWHERE:
        raise Unavailable(f"{objective!r} needs a path from data to source; {path!r} keeps some of both: use LinearPath()")


def _regression(distribution: Any, y: Tensor, source: Tensor, path: Path, times: Times) -> Tensor:
    dims = len(distribution.event_shape)
    lead = y.shape[: y.dim() - dims]
    u = stratified(lead.numel(), y).reshape(lead)
    lam, _ = times.quantile(u, path, getattr(distribution, "window", EVERYWHERE))
    t = path.time(lam)
    at = expand_time(t, y, dims)
    alpha_rate, sigma_rate = path.rates(at)
    error = distribution.velocity(path.noised(y, source, at), t) - (alpha_rate * y + sigma_rate * source)
    return sum_event(error.square(), dims).mean()
