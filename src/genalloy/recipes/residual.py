"""Residual flows: invertible for any network that is a contraction. Labels follow the estimator of the log-determinant."""

from __future__ import annotations

from genalloy.core.evidence import Kind
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.networks.lipschitz import Activation, Elu, LipschitzMLP, LipSwish
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.flows import TASKS, seen
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training
from genalloy.transforms.layer import Layer, Transform
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.residual import ExactLogDet, LogDet, Residual, Roulette, StochasticResidual, Truncated
from genalloy.transforms.tails import normalised

EXACT_UP_TO = 8
"""Entries up to which the whole Jacobian is cheaper in training than a series with its noise."""
TRAINING = Training(Adam(1e-2), ema=0.99, clip=10.0)
ON_GRID = Training(Adam(2e-3), ema=0.99, clip=10.0)


def residual_stack(
    dims: int, blocks: int, width: int, log_det: LogDet, learning: LogDet, activation: Activation, lipschitz: float
) -> Flow:
    """ActNorm and dense residual blocks in turn on N(0, I)."""
    steps: list[Layer | Transform] = []
    for _ in range(blocks):
        network = LipschitzMLP((dims,), (width, width), (), activation, lipschitz)
        steps += [ActNorm((dims,)), StochasticResidual(Residual(network, (dims,)), log_det, learning)]
    return Flow(StandardNormal((dims,)), [*steps, *normalised((dims,))], (dims,))


def _composed(target: Target, flow: Flow, steps: int | None) -> Composition:
    reals = target.space.levels is None
    phase = Phase(MaximumLikelihood(), TRAINING if reals else ON_GRID, batch=256 if reals else 128)
    return Composition(seen(target, flow), [phase], steps or (2000 if reals else 1500))


@recipe("residual-flow", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Chen, Behrmann, Duvenaud & Jacobsen, 2019")
def residual_flow(
    target: Target,
    blocks: int | None = None,
    width: int | None = None,
    lipschitz: float = 0.97,
    exact: int = 256,
    steps: int | None = None,
) -> Composition:
    """Residual flow: LipSwish blocks trained by Russian roulette and Neumann gradients, or exactly where entries are few.

    Blocks of three maps; blocks, width None: 8 of 64 on reals, 8 of 128 on integers. steps None: 2000 and 1500. exact: entries up
    to which density() takes the whole Jacobian; beyond, roulette (UNBIASED on reals).
    Chen et al., 2019, arXiv:1906.02735.
    """
    dims = target.space.dims
    few = dims <= EXACT_UP_TO
    log_det: LogDet = ExactLogDet() if dims <= exact else Roulette(0.1, 10, probes=4)
    learning: LogDet = ExactLogDet() if few else Roulette(shared=True)
    blocks, width = blocks or 8, width or (64 if target.space.levels is None else 128)
    flow = residual_stack(dims, blocks, width, log_det, learning, LipSwish(), lipschitz)
    return _composed(target, flow, steps)


@recipe("i-resnet", "flow", Kind.ESTIMATE, Kind.ESTIMATE, TASKS, "Behrmann, Grathwohl, Chen, Duvenaud & Jacobsen, 2019")
def i_resnet(
    target: Target,
    blocks: int | None = None,
    width: int | None = None,
    lipschitz: float = 0.9,
    terms: int = 8,
    steps: int | None = None,
) -> Composition:
    """i-ResNet: ELU blocks, the log-determinant by a power series that is cut off: an estimate.

    Blocks of three maps; blocks, width None: 8 of 64 on reals, 8 of 128 on integers. terms: of the series in training; density()
    takes 20. Up to 8 entries traces are exact in training, up to 64 in density(); otherwise they are probed.
    Behrmann et al., 2019, arXiv:1811.00995.
    """
    blocks, width = blocks or 8, width or (64 if target.space.levels is None else 128)
    dims = target.space.dims
    log_det, learning = Truncated(20, probes=0 if dims <= 64 else 4), Truncated(terms, probes=0 if dims <= EXACT_UP_TO else 1)
    flow = residual_stack(dims, blocks, width, log_det, learning, Elu(), lipschitz)
    return _composed(target, flow, steps)
