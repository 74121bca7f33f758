"""Tensor layers trace into one graph: torch.compile(fullgraph=True) finds no break, both ways, gradients included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from genalloy.core.part import Conditional
from genalloy.heads.discrete import Bernoulli, bits_log_prob
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.networks.mlp import MLP, Hidden
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.layer import Transform
from genalloy.transforms.spline import RationalQuadratic
from genalloy.transforms.univariate import Additive, Affine, Univariate

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


@pytest.mark.parametrize("univariate", [Affine(), RationalQuadratic(5)], ids=lambda u: type(u).__name__)
def test_the_density_of_a_wide_flow_is_one_graph(univariate: Univariate) -> None:
    """Wide enough for banded products, which a compiler does not see through and the plain ones replace."""
    flow = Flow(StandardNormal((6,)), [masked(6, Hidden((256, 256)), None, (), univariate) for _ in range(2)], (6,))
    for p in flow.parameters():
        p.data.add_(0.01 * torch.randn_like(p))
    x, parameters, results = 2 * torch.randn(7, 6), list(flow.parameters()), []
    eager = lambda x: flow().density(x).value  # noqa: E731
    for run in (eager, torch.compile(eager, fullgraph=True, backend="aot_eager")):
        value = run(x)
        results.append((value, *torch.autograd.grad(value.mean(), parameters)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_decoder_of_bits_is_one_graph_and_one_map_under_torch_func() -> None:
    part = Conditional(Bernoulli(), MLP(((3,),), 32, (8,)), (32,), ((3,),))
    z, x = torch.randn(5, 3), (torch.rand(5, 32) < 0.3).float()
    value = part(z).density(x).value
    logits = part.network(z)
    torch.testing.assert_close(torch.vmap(bits_log_prob)(logits, x), value)
    by_hand = -torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    torch.testing.assert_close(value, by_hand)
    slope = torch.func.grad(lambda row: bits_log_prob(row, x[0]))(logits[0])
    torch.testing.assert_close(slope, x[0] - logits[0].sigmoid())
    torch.testing.assert_close(torch.compile(bits_log_prob, fullgraph=True, backend="aot_eager")(logits, x), value)
