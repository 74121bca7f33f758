"""Planar and radial flows (Rezende & Mohamed, 2015) on rows or on an energy, and posteriors of Sylvester transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from genalloy.core.evidence import Kind
from genalloy.core.part import Conditional, Embedded, Part
from genalloy.core.schedules import Linear
from genalloy.data.energies import ENERGIES
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP, Hidden
from genalloy.objectives.bounds import ELBO
from genalloy.objectives.divergences import ReverseKL
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.flows import ON_GRID, ON_REALS, TASKS, seen
from genalloy.recipes.latent import OPTIONS, default_latent, likelihood
from genalloy.recipes.latent import TASKS as LATENT_TASKS
from genalloy.recipes.pieces import observed
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training
from genalloy.transforms.layer import Inverse, Transform
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.planar import Planar, Radial
from genalloy.transforms.sylvester import Householder, Orthogonal, Sylvester, Triangular
from genalloy.transforms.tails import normalised


def on_rows(target: Target, layers: Sequence[Transform], steps: int) -> Composition:
    """Maximum likelihood, ActNorm and layers in turn: scoring is closed form, sampling inverts every layer."""
    dims = target.space.dims
    stack: list[Transform] = [step for layer in layers for step in (ActNorm((dims,)), layer)]
    flow = Flow(StandardNormal((dims,)), [*stack, *normalised((dims,))], (dims,))
    reals = target.space.levels is None
    options = ON_REALS if reals else ON_GRID
    return Composition(seen(target, flow), [Phase(MaximumLikelihood(), options, batch=256)], steps)


def on_energy(target: Target, layers: Sequence[Transform], energy: str, steps: int) -> Composition:
    """Reverse KL to an energy, from a Gaussian with learned mean and scales: sampling is closed form. The rows are not used.

    Two phases: the inverse temperature rises from .01 over the recipe's own first half; then it is 1, however few the steps.
    """
    if energy not in ENERGIES:
        raise ValueError(f"found energy={energy!r}, expected one of {', '.join(ENERGIES)}; leave it out to fit the rows")
    if target.space.shape != (2,):
        raise ValueError(f"found data of shape {target.space.shape}, expected points in the plane; try it on {energy}")
    flow = Flow(StandardNormal((2,)), [*map(Inverse, layers), Inverse(ActNorm((2,)))], (2,))
    heating, options = Linear(0.01, 1.0, max(1, steps // 2)), Training(Adam(5e-3))
    phases = [
        Phase(ReverseKL(ENERGIES[energy](), False, beta=beta), options, share=0.5, batch=256, decay=decay, select=False)
        for beta, decay in ((heating, None), (1.0, 0.01))
    ]
    return Composition(flow, phases, steps)


@recipe("planar", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Rezende & Mohamed, 2015")
def planar(target: Target, layers: int = 16, energy: str = "", steps: int = 4000) -> Composition:
    """Planar flow: each layer moves points along one direction by a tanh of another; inverted by a certified root.

    energy: "u1" to "u4": fitted to that energy by reverse KL, on its data set for comparison, instead of to the rows.
    Rezende & Mohamed, 2015, arXiv:1505.05770.
    """
    # towards an energy of two bows, two planes of size 1 at the start end in worse optima (KL .43 instead of .31 nats)
    stack = [Planar(target.space.dims, size=0.01 if energy else 1.0) for _ in range(layers)]
    return on_energy(target, stack, energy, steps) if energy else on_rows(target, stack, steps)


@recipe("radial", "flow", Kind.EXACT, Kind.LOWER, TASKS, "Rezende & Mohamed, 2015")
def radial(target: Target, layers: int = 16, energy: str = "", steps: int = 4000) -> Composition:
    """Radial flow: each layer draws mass to a point or pushes it away; closed form both ways.

    energy: as for planar.
    Rezende & Mohamed, 2015, arXiv:1505.05770.
    """
    stack = [Radial(target.space.dims) for _ in range(layers)]
    return on_energy(target, stack, energy, steps) if energy else on_rows(target, stack, steps)


def _amortised(kind: str, size: int, features: int, index: int, width: int | None) -> Transform:
    """The index-th layer of a posterior over `size` codes, its coefficients linear in the encoder's features."""
    hidden, shapes = Hidden(()), ((features,),)
    makers: dict[str, Callable[[], Transform]] = {
        "orthogonal": lambda: Sylvester(size, Orthogonal(width or max(1, size // 2)), hidden, shapes),
        "householder": lambda: Sylvester(size, Householder(width or 4), hidden, shapes),
        "triangular": lambda: Sylvester(size, Triangular(index % 2 == 1), hidden, shapes),
        "planar": lambda: Planar(size, hidden, shapes),
    }
    if kind not in makers:
        raise ValueError(f"found kind={kind!r}, expected one of {', '.join(makers)}, none")
    return makers[kind]()


def posterior(target: Target, size: int, hidden: int, dropout: float, transforms: list[Transform]) -> Part:
    """Encoder features of x that a Gaussian and every transform read."""
    levels, shape = target.space.levels, target.space.shape
    shift, scale = (0.0, 1.0) if levels is None else ((levels - 1) / 2, (levels - 1) / 4)
    base = Conditional(Gaussian(), MLP(((hidden,),), 2 * size, ()), (size,), ((hidden,),))
    flow = Flow(base, [Inverse(t) for t in transforms], (size,), ((hidden,),))
    encoder = MLP((shape,), hidden, (hidden,), shift=shift, scale=scale, dropout=dropout)
    return Embedded(flow, nn.Sequential(encoder, nn.SiLU()), (shape,))


@recipe("vae-sylvester", "latent", Kind.LOWER, Kind.LOWER, LATENT_TASKS, "van den Berg, Hasenclever, Tomczak & Welling, 2018")
def vae_sylvester(
    target: Target,
    kind: str = "orthogonal",
    flows: int = 4,
    width: int | None = None,
    latent: int | None = None,
    hidden: int = 256,
    steps: int = 1500,
) -> Composition:
    """VAE whose posterior is a Gaussian pushed through Sylvester transforms, all their coefficients amortised.

    kind: orthogonal, householder, triangular; planar for comparison, none for the Gaussian alone. flows: transforms.
    width: columns (orthogonal, None: half the codes) or reflections (householder, None: 4).
    van den Berg et al., 2018, arXiv:1803.05649.
    """
    size, dropout = default_latent(target, latent), 0.2
    count = 0 if kind == "none" else flows
    transforms = [_amortised(kind, size, hidden, index, width) for index in range(count)]
    parts = (StandardNormal((size,)), likelihood(target, size, hidden, dropout))
    model = LatentVariable(*parts, posterior(target, size, hidden, dropout, transforms))
    return Composition(observed(target, model), [Phase(ELBO(), OPTIONS)], steps)
