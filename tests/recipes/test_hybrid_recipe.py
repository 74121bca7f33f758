"""Flows that classify: as many blocks of each kind, dense ones behind the convolutions, the code as wide as the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genalloy.core.distribution import density
from genalloy.core.evidence import Kind
from genalloy.data.load import load_data
from genalloy.recipes.composition import Target
from genalloy.recipes.hybrid import KINDS, hybrid_flow
from genalloy.transforms.coupling import Coupling
from genalloy.transforms.image import InvertibleConvolution
from genalloy.transforms.residual import StochasticResidual


def pictures(side: int) -> tuple[Target, torch.Tensor]:
    rng = np.random.default_rng(0)
    dataset = load_data((rng.integers(0, 5, (60, 1, side, side)).astype(np.uint8), np.arange(60) % 3))
    return Target.of(dataset), dataset.train[:8].float()


@pytest.mark.parametrize("side", [8, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_as_many_blocks_of_each_kind(kind: str, side: int) -> None:
    torch.manual_seed(0)
    target, x = pictures(side)
    model = hybrid_flow(target, kind=kind, blocks=2, width=4, dense=1).model
    model.initialise(x)
    moves = [m for m in model.modules() if isinstance(m, Coupling | StochasticResidual)]
    assert len(moves) == 2 * 2 + 1
    assert sum(isinstance(m, InvertibleConvolution) for m in model.modules()) == (4 if kind == "conv1x1" else 0)
    evidence = density(model(), x)
    assert evidence.kind is Kind.LOWER and evidence.value.isfinite().all()
    assert model().label_given_x(x).logits.shape == (8, 3)
    assert model().sample((2,)).shape == (2, 1, side, side)


def test_couplings_take_turns() -> None:
    """Both halves are moved at every scale, and by the dense blocks."""
    model = hybrid_flow(pictures(8)[0], kind="coupling", blocks=2, width=4, dense=2).model
    stays = [m.parting for m in model.modules() if isinstance(m, Coupling)]
    assert [getattr(p, "second", None) for p in stays] == [False, True, False, True, None, None]
    assert not (stays[-1].mask & stays[-2].mask).any()
