"""The data-dependent pass before step 0 reaches what is wrapped, mixed and conditioned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.part import Conditional, Embedded, Estimated, Tempered, Unconditional
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.fitted import UniformLevels
from genalloy.models.flow import Flow
from genalloy.models.mixture import Conditioned, Mixture
from genalloy.models.ngram import NGram
from genalloy.models.product import Product
from genalloy.networks.denoiser import LevelEmbedding
from genalloy.networks.mlp import MLP
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.surjection import Reduce, Slices


def flow(conditional: bool = False) -> Flow:
    shapes: Any = ((3,),) if conditional else ()
    base: nn.Module = Conditional(Gaussian(), MLP(((3,),), 4, ()), (2,), ((3,),)) if conditional else StandardNormal((2,))
    return Flow(base, [ActNorm((2,))], (2,), shapes)


WRAPPERS: dict[str, Any] = {
    "estimated": lambda: Estimated(flow(), ImportanceWeighted(3)),
    "tempered": lambda: Tempered(flow(), 0.7),
    "unconditional": lambda: Unconditional(flow()),
    "embedded": lambda: Embedded(flow(conditional=True), nn.Linear(4, 3), ((4,),)),
    "mixture": lambda: Mixture([flow(), flow()]),
    "conditioned": lambda: Conditioned(flow(conditional=True), torch.zeros(3)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_activation_normalisation_sees_the_data(name: str) -> None:
    torch.manual_seed(0)
    part, x = WRAPPERS[name](), 5 + 3 * torch.randn(400, 2)
    context: Tensor | None = torch.randn(400, 4) if part.context_shapes else None
    with torch.no_grad():
        part.initialise(x, context)
    flows = [m for m in part.modules() if isinstance(m, Flow)]
    for each in flows:
        z, _ = each.layers[0].encode(x)  # type: ignore[operator]
        torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-3, rtol=0)
        torch.testing.assert_close(z.std(0), torch.ones(2), atol=1e-2, rtol=0)


def test_a_product_gives_each_part_its_own() -> None:
    torch.manual_seed(0)
    part, x = Product({"a": flow(), "b": flow()}), {"a": 5 + torch.randn(400, 2), "b": torch.randn(400, 2) - 4}
    with torch.no_grad():
        part.initialise(x)
    for name, rows in x.items():
        z, _ = part.parts[name].layers[0].encode(rows)  # type: ignore[union-attr, index, operator]
        torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-3, rtol=0)


def test_uniform_levels_move_with_the_model() -> None:
    assert UniformLevels(4, (2,)).double()().sample((3,)).dtype == torch.float64


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="found order 5 on rows of 3 symbols"):
        NGram.of(torch.zeros(4, 3), 2)
    with pytest.raises(ValueError, match="found width 7, expected an even one"):
        LevelEmbedding(7)


@pytest.mark.parametrize("declared", [((2,),), ((2,), (3,))], ids=["core", "core and context"])
def test_a_surjections_part_is_initialised_under_what_it_is_given(declared: Any) -> None:
    """The part sees the core alone unless it declares a context too, in its first pass as in every other."""
    torch.manual_seed(0)
    part = Flow(Conditional(Gaussian(), MLP(declared, 4, ()), (2,), declared), [ActNorm((2,))], (2,), declared)
    layer = Reduce(Slices((4,), 2), part)
    x, context = 5 + torch.randn(200, 4), torch.randn(200, 3)
    with torch.no_grad():
        layer.initialise(x, context)
        z, evidence = layer.encode(x, context)
    assert z.shape == (200, 2) and bool(torch.isfinite(evidence.value).all())
    rest, _ = part.layers[0].encode(layer.fold.apart(x)[1])  # type: ignore[operator]
    torch.testing.assert_close(rest.mean(0), torch.zeros(2), atol=1e-3, rtol=0)
