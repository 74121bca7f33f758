"""Tensor layers trace into one graph: torch.compile(fullgraph=True) finds no break, both ways, gradients included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from genalloy.networks.mlp import Hidden
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.layer import Transform
from genalloy.transforms.spline import RationalQuadratic
from genalloy.transforms.univariate import Additive, Affine

SMALL = Hidden((16, 16))
LAYERS: dict[str, Callable[[], Transform]] = {
    "affine coupling": lambda: coupling(alternating(6), SMALL, ((3,),), Affine()),
    "additive coupling": lambda: coupling(alternating(6), SMALL, ((3,),), Additive()),
    "spline coupling": lambda: coupling(alternating(6), SMALL, ((3,),), RationalQuadratic(5)),
    "affine autoregressive": lambda: masked(6, SMALL, None, ((3,),), Affine()),
    "spline autoregressive": lambda: masked(6, SMALL, None, ((3,),), RationalQuadratic(5)),
}
ONE_PASS_BACK = [name for name in LAYERS if "coupling" in name]


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch.manual_seed(0)
    torch.compiler.reset()


@pytest.mark.parametrize("name", LAYERS)
def test_encoding_is_one_graph(name: str) -> None:
    layer = LAYERS[name]()
    for p in layer.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    compiled = torch.compile(layer.encode, fullgraph=True, backend="aot_eager")
    x, c = 2 * torch.randn(7, 6), torch.randn(7, 3)
    parameters = list(layer.parameters())
    results = []
    for run in (layer.encode, compiled):
        z, ladj = run(x, c)
        loss = (z.sin().sum(-1) + ladj).mean()
        results.append((z, ladj, *torch.autograd.grad(loss, parameters)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ONE_PASS_BACK)
def test_decoding_a_coupling_is_one_graph(name: str) -> None:
    layer = LAYERS[name]()
    z, c = 2 * torch.randn(7, 6), torch.randn(7, 3)
    compiled = torch.compile(layer.decode, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(z, c), layer.decode(z, c), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
