"""Continuous flows: maximum likelihood through a solver, and flow matching without one. Every density is an ESTIMATE."""

from __future__ import annotations

from typing import Any

from torch import nn

from genalloy.core.evidence import Kind
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.networks.concat_squash import ConcatSquash
from genalloy.networks.denoiser import DenoiserMLP
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.matching import FlowMatching, Independent, JacobianNorm, KineticEnergy, OptimalTransport, Reflow
from genalloy.objectives.objective import Objective
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.flows import TASKS, seen
from genalloy.recipes.registry import recipe
from genalloy.solvers.divergence import ExactTrace, Hutchinson, TraceEstimator
from genalloy.solvers.ode import Steps
from genalloy.training.options import Adam, Training
from genalloy.transforms.ode import Continuous

SMALL = 10
"""Dimensions up to which the trace is exact."""


def continuous_flow(dims: int, field: nn.Module, steps: Steps) -> Flow:
    """One continuous layer on N(0, I): the exact trace of few dimensions, otherwise random probes."""
    trace: TraceEstimator = ExactTrace() if dims <= SMALL else Hutchinson()
    return Flow(StandardNormal((dims,)), [Continuous(field, (dims,), steps=steps, trace=trace)], (dims,))


@recipe("ffjord", "flow", Kind.ESTIMATE, Kind.ESTIMATE, TASKS, "Grathwohl et al., 2019; Finlay et al., 2020")
def ffjord(
    target: Target,
    width: int | None = None,
    solves: int = 4,
    kinetic: float = 0.01,
    jacobian: float = 0.001,
    steps: int | None = None,
) -> Composition:
    """FFJORD: a continuous flow by maximum likelihood through its solver, its trajectories kept short and straight.

    width None: 64 on up to ten dimensions, 128 otherwise. solves: Runge-Kutta steps in training, four times as many in
    evaluation. kinetic, jacobian: weights of the two regularisers. steps None: 1500 on reals, 600 on integers.
    Grathwohl et al., 2019, arXiv:1810.01367; regularisers: Finlay et al., 2020, arXiv:2002.02798.
    """
    dims, reals = target.space.dims, target.space.levels is None
    width = width or (64 if dims <= SMALL else 128)
    flow = continuous_flow(dims, ConcatSquash(((dims,), ()), (width,) * 3), Steps(solves, 4 * solves, jitter=1.0))
    objective: Objective = MaximumLikelihood() + kinetic * KineticEnergy() + jacobian * JacobianNorm()
    options = Training(Adam(1e-3), ema=0.995, clip=10.0)
    return Composition(seen(target, flow), [Phase(objective, options, batch=256)], steps or (1500 if reals else 600))


@recipe("flow-matching", "flow", Kind.ESTIMATE, Kind.ESTIMATE, TASKS, "Lipman et al., 2023; Liu et al., 2023; Tong et al., 2024")
def flow_matching(
    target: Target, coupling: str = "independent", reflow: bool = False, width: int | None = None, steps: int | None = None
) -> Composition:
    """Flow matching: the velocity of a continuous flow by regression, without a solver in training.

    coupling: independent, or optimal-transport within the batch. reflow: a second phase on the model's own pairs.
    steps None: 8000 on reals, 2000 on integers.
    Lipman et al., 2023, arXiv:2210.02747; optimal transport: Tong et al., 2024, arXiv:2302.00482; reflow: Liu, Gong & Liu, 2023,
    arXiv:2209.03003.
    """
    dims, reals = target.space.dims, target.space.levels is None
    pairings = {"independent": Independent(), "optimal-transport": OptimalTransport()}
    if coupling not in pairings:
        raise ValueError(f"flow-matching has no coupling {coupling!r}; choose one of: {', '.join(pairings)}")
    field: Any = ConcatSquash(((dims,), ()), (width or 64,) * 3) if reals else DenoiserMLP(((dims,), ()), 1, width or 256, 3, 0.1)
    flow = continuous_flow(dims, field, Steps(8, 16))
    options, rows = Training(Adam(5e-3 if reals else 2e-3), ema=0.998, clip=10.0), 256 if reals else 128
    first = Phase(FlowMatching(pairings[coupling]), options, share=0.6 if reflow else 1.0, batch=rows, select=False)
    second = [Phase(Reflow((dims,)), options, share=0.4, batch=rows, select=False)] if reflow else []
    return Composition(seen(target, flow), [first, *second], steps or (8000 if reals else 2000))
