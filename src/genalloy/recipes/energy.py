"""Energy-based recipes.

An energy does not blow up with: a base that confines it, a smooth network, step and noise of the chains tied at temperature
one, true restarts, chains that return to their slots, a small energy l2, and data standardised entry by entry, so that one
step of the chains suits every direction.
"""

from __future__ import annotations

from torch import nn

from genalloy.core.evidence import Kind
from genalloy.heads.gaussian import StandardNormal
from genalloy.mcmc.buffer import ReplayBuffer
from genalloy.mcmc.langevin import Langevin
from genalloy.models.energy import EnergyModel
from genalloy.networks.mlp import MLP
from genalloy.objectives.contrastive import ContrastiveDivergence, NoiseContrastive
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.pieces import on_data, whiten
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

OPTIONS = Training(Adam(3e-3, (0.0, 0.99)), ema=0.99)
NCE_OPTIONS = Training(Adam(2e-3, (0.9, 0.99)), ema=0.99)


def energy_network(shape: tuple[int, ...], dims: int, width: int | None = None) -> MLP:
    r"""Smooth features; few dimensions enter enlarged, since a small network learns sharp walls slowly.

    f: (\*B, \*shape) -> (\*B, 1). Up to 8 dimensions, inputs are divided by 0.3 and there are three layers, otherwise two.
    """
    low = dims <= 8
    hidden = (width or 128,) * 3 if low else (width or 256,) * 2
    return MLP((shape,), 1, hidden, nn.SiLU, scale=0.3 if low else 1.0)


def chains(dims: int) -> Langevin:
    """Short runs of persistent chains: 40 steps up to 8 dimensions, otherwise 20 longer ones."""
    return Langevin(40, 0.005) if dims <= 8 else Langevin(20, 0.02)


@recipe("ebm", "energy", Kind.NONE, Kind.NONE, ("sample",), "Tieleman, 2008; Du & Mordatch, 2019")
def ebm(target: Target, width: int | None = None, buffer: int = 2048, decay: float = 0.001, steps: int = 600) -> Composition:
    r"""Energy model on a Gaussian base, fitted by persistent contrastive divergence with Langevin chains.

    .. math:: p(x) \propto N(x; 0, I)\, e^{-f(x)}

    width: of the network of f, None: 128 up to 8 dimensions, otherwise 256. buffer: chains that are kept. decay: weight of the
    mean square of f.
    Tieleman, 2008; Du & Mordatch, 2019, arXiv:1903.08689.
    """
    shape, dims = target.space.shape, target.space.dims
    kept, kernel = ReplayBuffer(buffer, shape), chains(dims)
    sampler = Langevin(100, kernel.step_size)
    part = EnergyModel(energy_network(shape, dims, width), StandardNormal(shape), shape, sampler, kept)
    phase = Phase(ContrastiveDivergence(kernel, kept, decay), OPTIONS, batch=128, decay=0.05, select=False)
    return Composition(on_data(target, part, whiten), [phase], steps)


@recipe("ebm-nce", "energy", Kind.NONE, Kind.NONE, ("sample",), "Gutmann & Hyvarinen, 2010")
def ebm_nce(target: Target, width: int | None = None, ratio: int = 2, steps: int = 1500) -> Composition:
    """The same energy by noise-contrastive estimation: no chains while training; for few dimensions.

    width: as for :func:`ebm`. ratio: points of noise, N(0, I), for each of data. Raises ValueError beyond 16 dimensions.
    Gutmann & Hyvarinen, 2010.
    """
    shape, dims = target.space.shape, target.space.dims
    if dims > 16:
        raise ValueError(f"ebm-nce contrasts with Gaussian noise, which teaches little in {dims} dimensions; try ebm")
    sampler = Langevin(200, chains(dims).step_size)
    part = EnergyModel(energy_network(shape, dims, width), StandardNormal(shape), shape, sampler)
    phase = Phase(NoiseContrastive(StandardNormal(shape), ratio), NCE_OPTIONS, batch=256, decay=0.02, select=False)
    return Composition(on_data(target, part, whiten), [phase], steps)
