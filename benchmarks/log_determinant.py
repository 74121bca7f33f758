"""What a log-determinant costs against the number of variables D: the naive one beside those of every kind of layer.

Naive: the Jacobian of a dense network by D vector-Jacobian products, then slogdet, of order D^3. A layer's time is that of a
whole inward pass, map and log-determinant, of 16 rows with hidden layers of 64, on one thread; least processor time of a few.
Usage: python benchmarks/log_determinant.py [--most 512] [--out docs/images/log_determinant.png]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from turns import in_turn

from genalloy.laws.subject import perturb_parameters
from genalloy.networks.concat_squash import ConcatSquash
from genalloy.networks.lipschitz import LipschitzMLP
from genalloy.networks.mlp import Hidden
from genalloy.solvers.divergence import Hutchinson
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.linear import PLU
from genalloy.transforms.ode import Continuous
from genalloy.transforms.planar import Planar
from genalloy.transforms.residual import Residual, Roulette, StochasticResidual
from genalloy.transforms.sylvester import Orthogonal, Sylvester

ROWS, HIDDEN = 16, Hidden((64,))


def naive(dims: int) -> Callable[[Tensor], object]:
    """log |det| of a dense network's Jacobian."""
    network = nn.Sequential(nn.Linear(dims, 64), nn.Tanh(), nn.Linear(64, dims))

    def run(x: Tensor) -> Tensor:
        jacobian = torch.func.vmap(torch.func.jacrev(network))(x) + torch.eye(dims)
        return torch.linalg.slogdet(jacobian)[1]

    return run


def layers(dims: int) -> dict[str, Callable[[Tensor], object]]:
    """Kind of layer to its inward pass."""
    torch.manual_seed(0)
    made = {
        "coupling": coupling(alternating(dims), HIDDEN),
        "MAF": masked(dims, HIDDEN),
        "planar": Planar(dims),
        "Sylvester, 8 columns": Sylvester(dims, Orthogonal(min(8, dims))),
        "PLU": PLU(dims, "identity"),
        "residual, roulette": StochasticResidual(Residual(LipschitzMLP((dims,), (64,)), (dims,)), Roulette()),
        "continuous, Hutchinson": Continuous(ConcatSquash(((dims,), ()), (64,)), (dims,), trace=Hutchinson()),
    }
    moved = {name: perturb_parameters(module.as_layer(), 0.05).eval() for name, module in made.items()}
    return {"naive": naive(dims), **{name: layer.encode for name, layer in moved.items()}}


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Least processor time of a call, after one to warm up."""
    return 1e3 * min(in_turn({"": call}, repeats)[""])


def draw(table: dict[str, list[float]], sizes: list[int], file: Path) -> None:
    """The table as curves, both axes logarithmic."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, values in table.items():
        axis.loglog(sizes, values, marker="o", label=name, linewidth=3 if name == "naive" else 1.5)
    axis.set_xlabel("variables D")
    axis.set_ylabel(f"milliseconds, {ROWS} rows")
    axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=512)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [d for d in (2, 8, 32, 128, 512, 2048) if d <= options.most]
    table: dict[str, list[float]] = {}
    for dims in sizes:
        x = torch.randn(ROWS, dims)
        for name, run in layers(dims).items():
            with torch.no_grad():
                table.setdefault(name, []).append(milliseconds(lambda run=run, x=x: run(x), 3))
    print(f"milliseconds for {ROWS} rows    " + "".join(f"D={d:<8}" for d in sizes))
    for name, values in table.items():
        print(f"{name:26} " + "".join(f"{v:10.2f}" for v in values))
    if options.out:
        draw(table, sizes, options.out)


if __name__ == "__main__":
    main()
