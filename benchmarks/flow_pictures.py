"""Pictures of what flow layers do: which variables move which (Jacobians), and planar and radial layers at K = 1, 2, 10.

Jacobians dz/dx are those of autograd, of layers moved at random from their start, on an 8x8 image or a vector of 64.
Usage: python benchmarks/flow_pictures.py [--out docs/images]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from genalloy.laws.subject import perturb_parameters
from genalloy.networks.causal.transformer import CausalTransformer
from genalloy.networks.concat_squash import ConcatSquash
from genalloy.networks.convolution import ConvNet, Filters
from genalloy.networks.lipschitz import LipschitzConv
from genalloy.networks.mlp import Hidden
from genalloy.transforms.autoregressive import AutoregressiveTransform, masked
from genalloy.transforms.coupling import CheckerboardMask, Coupling, alternating, coupling
from genalloy.transforms.image import InvertibleConvolution, Squeeze
from genalloy.transforms.layer import Inverse, Transform
from genalloy.transforms.linear import PLU, ActNorm
from genalloy.transforms.ode import Continuous
from genalloy.transforms.planar import Planar, Radial
from genalloy.transforms.residual import Residual
from genalloy.transforms.sylvester import Orthogonal, Sylvester

SIDE, HIDDEN = 8, Hidden((64,))
DIMS = SIDE * SIDE
IMAGE = (1, SIDE, SIDE)
Map = Callable[[Tensor], Tensor]


def stacked(layers: list[Transform]) -> Map:
    """Several layers as one map, moved a little from their start."""
    moved = [perturb_parameters(layer, 0.1).double() for layer in layers]

    def run(x: Tensor) -> Tensor:
        for layer in moved:
            x = layer.encode(x)[0]
        return x

    return run


def board(odd: bool) -> Coupling:
    """A convolutional coupling of the image's squares, of the same kernels as the residual block's."""
    return Coupling(CheckerboardMask(IMAGE, odd), ConvNet((IMAGE,), 2, Filters(8)))


def maps() -> dict[str, tuple[Map, tuple[int, ...]]]:
    """Family to (map, event shape)."""
    vector, halves = (DIMS,), [coupling(alternating(DIMS, bool(i % 2)), HIDDEN) for i in range(4)]
    boards = [board(bool(i % 2)) for i in range(2)]
    residual = [Residual(LipschitzConv(IMAGE, (8, 8)), IMAGE) for _ in range(2)]
    ode = perturb_parameters(Continuous(ConcatSquash((vector, ()), (64,)), vector)).double()
    return {
        "ActNorm": (stacked([ActNorm(vector)]), vector),
        "PLU": (stacked([PLU(DIMS, "identity")]), vector),
        "1 coupling": (stacked(halves[:1]), vector),
        "4 couplings": (stacked(halves), vector),
        "MAF, 1 layer": (stacked([masked(DIMS, HIDDEN)]), vector),
        "IAF, 1 layer": (stacked([Inverse(masked(DIMS, HIDDEN))]), vector),
        "transformer": (stacked([AutoregressiveTransform(CausalTransformer((16, 4), 2, 16, 2, 1))]), (16, 4)),
        "planar, 1 layer": (stacked([Planar(DIMS)]), vector),
        "Sylvester, 1 layer": (stacked([Sylvester(DIMS, Orthogonal(8))]), vector),
        "1x1 convolution": (stacked([Squeeze(IMAGE), InvertibleConvolution(4), Inverse(Squeeze(IMAGE))]), IMAGE),
        "1 coupling of squares": (stacked(boards[:1]), IMAGE),
        "2 couplings of squares": (stacked(boards), IMAGE),
        "1 residual block": (stacked(residual[:1]), IMAGE),
        "2 residual blocks": (stacked(residual), IMAGE),
        "continuous": (lambda x: ode.encode(x)[0], vector),
    }


def jacobians(file: Path) -> None:
    """One panel a family: log |dz_i/dx_j|, white where it is zero."""
    torch.manual_seed(0)
    made = maps()
    figure, axes = plt.subplots(3, 5, figsize=(12, 8), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, (run, event)) in zip(axes.flat, made.items(), strict=False):
        x = torch.randn(event, dtype=torch.float64)
        matrix = torch.autograd.functional.jacobian(run, x).reshape(DIMS, DIMS).abs()
        share = float((matrix > 0).double().mean())
        shown = matrix.log10().clamp(min=-6.0)
        shown[matrix == 0] = float("nan")
        axis.imshow(shown.numpy(), cmap="magma", vmin=-6, vmax=1, interpolation="nearest")
        axis.set_title(f"{name}: {share:.0%} filled", fontsize=9)
        print(f"{name:28} {share:6.1%} of the Jacobian is not zero")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def grid_density(layers: list[Transform], uniform: bool) -> Tensor:
    """Density of layers pushed outwards from a Gaussian, or from the uniform law on [-2, 2]^2, on a grid of [-4, 4]^2."""
    ticks = torch.linspace(-4, 4, 200)
    z = torch.cartesian_prod(ticks, ticks)
    total = torch.zeros(len(z))
    for layer in layers:
        z, ladj = layer.encode(z)
        total = total + ladj
    square = (z.abs() <= 2).all(-1).float() / 16
    base = square if uniform else (-0.5 * z.square().sum(-1)).exp() / (2 * torch.pi)
    return (base * total.exp()).reshape(200, 200).t()


def planar(file: Path) -> None:
    """What K random layers make of a round Gaussian and of a square."""
    figure, axes = plt.subplots(4, 3, figsize=(7.5, 10), layout="constrained")
    for row, (kind, uniform) in enumerate((k, u) for k in (Planar, Radial) for u in (False, True)):
        for column, count in enumerate((1, 2, 10)):
            torch.manual_seed(3)
            layers = [perturb_parameters(kind(2), 1.5, seed) for seed in range(count)]
            with torch.no_grad():
                axes[row, column].imshow(grid_density(layers, uniform).numpy(), origin="lower", cmap="magma")
            base = "uniform" if uniform else "Gaussian"
            axes[row, column].set_title(f"{kind.__name__.lower()}, K = {count}, {base}", fontsize=9)
            axes[row, column].axis("off")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    folder = parser.parse_args().out
    torch.set_num_threads(1)
    plt.switch_backend("agg")
    jacobians(folder / "jacobians.png")
    planar(folder / "planar.png")


if __name__ == "__main__":
    main()
