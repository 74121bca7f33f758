"""Walks through codes: between test rows, and along single coordinates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from genalloy.core.part import Conditional
from genalloy.data.dataset import Dataset
from genalloy.data.space import Column, Space
from genalloy.heads.discrete import Categorical
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.flow import Flow, Preprocessed
from genalloy.models.implicit import Implicit
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.studies.figures import STEPS, WALKS, between, reconstructions, temperatures, traversals, walks, write_pictures
from genalloy.transforms.coupling import Coupling, FixedMask, alternating
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.observation import Standardise


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def rows(count: int = 40, dims: int = 2) -> Tensor:
    return torch.randn(count, dims) * 2 + 1


def flow(dims: int = 2, wrapped: bool = True) -> nn.Module:
    layers = [Coupling(FixedMask(alternating(dims, odd)), MLP(((dims // 2,),), dims, (8,))) for odd in (False, True)]
    inner = Flow(StandardNormal((dims,)), layers, (dims,))
    if not wrapped:
        return inner
    return Preprocessed(inner, [Standardise(torch.full((dims,), 1.0), torch.full((dims,), 2.0))], (dims,))


class Line(nn.Module):
    """A code of three coordinates: the first moves x by 1, the second by 3, the third does nothing."""

    def __init__(self, spread: float = 1.0) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, context: object = None) -> Line:
        return self

    def encode(self, x: Tensor) -> Tensor:
        return torch.stack([x[..., 0], x[..., 1] / 3, 100 * x[..., 0]], -1)

    def decode(self, z: Tensor) -> Independent:
        return Independent(Normal(torch.stack([z[..., 0], 3 * z[..., 1]], -1), self.spread), 1)


# -- paths ---------------------------------------------------------------------------------------------------------


def test_paths_start_and_end_at_their_codes_and_bend_along_the_sphere() -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    for spherical in (False, True):
        path = between(a, b, 5, spherical)
        assert torch.allclose(path[:, 0], a, atol=1e-6) and torch.allclose(path[:, -1], b, atol=1e-6)
    assert torch.allclose(between(a, b, 5, True).norm(dim=-1), torch.ones(1, 5), atol=1e-6)
    assert between(a, b, 5, True)[0, 1, 1].item() == pytest.approx(math.sin(math.pi / 8), abs=1e-6)
    assert torch.allclose(between(a, b, 5, False)[0, 2], torch.tensor([0.5, 0.5]))


def test_a_great_circle_that_does_not_exist_is_a_straight_line() -> None:
    a = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    b = torch.tensor([[2.0, 4.0], [-1.0, -2.0], [1.0, 0.0]])
    path = between(a, b, 7, True)
    assert path.isfinite().all()
    assert torch.allclose(path[:2], between(a, b, 7, False)[:2], atol=1e-4)


def test_codes_keep_their_shape() -> None:
    assert between(torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4), 5, True).shape == (3, 5, 2, 4, 4)


# -- walks of models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_flows_walk_joins_the_test_rows_themselves(wrapped: bool) -> None:
    x = rows()
    found = walks(flow(wrapped=wrapped), x)
    paths = found["interpolations"]
    assert paths.shape == (WALKS, STEPS, 2)
    picked = x[torch.linspace(0, len(x) - 1, 2 * WALKS).long()]
    assert torch.allclose(paths[:, 0], picked[:WALKS], atol=1e-4)
    assert torch.allclose(paths[:, -1], picked[WALKS:], atol=1e-4)
    assert found["traversals"].shape == (2, STEPS, 2)


def test_active_coordinates_come_first_and_move_two_deviations() -> None:
    x = rows(400)
    moved = walks(Line(), x)["traversals"]
    assert moved.shape == (3, STEPS, 2)
    change = (moved[:, -1] - moved[:, 0]).abs()
    # the wide but dead third coordinate comes last
    assert change[2].sum() == 0
    assert change[0, 1].item() == pytest.approx(4 * x[:, 1].std().item(), rel=1e-4)
    assert change[1, 0].item() == pytest.approx(4 * x[:, 0].std().item(), rel=1e-4)
    assert moved[0, STEPS // 2, 1].item() == pytest.approx(x[:, 1].mean().item(), abs=1e-4)
    assert torch.allclose(moved[0, :, 0], x[0, 0].expand(STEPS))


def test_a_traversal_tries_the_widest_coordinates_of_a_long_code() -> None:
    spread = torch.zeros(500)
    spread[499] = 1.0
    moved = traversals(lambda z: z[:, -2:], torch.zeros(500), torch.zeros(500), spread)
    assert torch.allclose(moved[0, :, 1], torch.linspace(-2, 2, STEPS))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_latent_model_walks_between_reconstructions(wrapped: bool) -> None:
    x = rows(dims=4)
    likelihood = Conditional(Gaussian(), MLP(((2,),), 8, (8,)), (4,), ((2,),))
    model: nn.Module = LatentVariable(
        StandardNormal((2,)), likelihood, Conditional(Gaussian(), MLP(((4,),), 4, (8,)), (2,), ((4,),))
    )
    if wrapped:
        model = Preprocessed(model, [Standardise(torch.full((4,), 1.0), torch.full((4,), 2.0))], (4,))
    paths = walks(model, x)["interpolations"]
    pairs = reconstructions(model, x[torch.linspace(0, len(x) - 1, 2 * WALKS).long()])
    assert pairs is not None
    assert torch.allclose(paths[:, 0], pairs[1, :WALKS], atol=1e-4)
    assert torch.allclose(paths[:, -1], pairs[1, WALKS:], atol=1e-4)


class Framed(Line):
    """Two coordinates as they are, under a prior that is given."""

    def __init__(self, prior: object) -> None:
        super().__init__()
        self.prior = prior

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Independent:
        return Independent(Normal(z, 1.0), 1)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_only_a_standard_normal_prior_bends_the_way(scale: float) -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    normal = StandardNormal((2,))()
    normal.scale = normal.scale * scale
    middle = walks(Framed(normal), x)["interpolations"][0, STEPS // 2]
    assert middle.norm().item() == pytest.approx(1.0 if scale == 1.0 else math.sqrt(0.5), abs=1e-5)


def test_a_latent_model_inside_a_flow() -> None:
    x = rows() + 100
    likelihood = Conditional(Gaussian(), MLP(((3,),), 4, (8,)), (2,), ((3,),))
    latent = LatentVariable(StandardNormal((3,)), likelihood, Conditional(Gaussian(), MLP(((2,),), 6, (8,)), (3,), ((2,),)))
    outer = Flow(latent, [Standardise(torch.tensor([100.0, 100.0]), torch.ones(2))], (2,))
    assert (walks(outer, x)["interpolations"] > 80).all()


class Plain(nn.Module):
    """Codes, and neither `decode` nor layers."""

    def forward(self, context: object = None) -> Plain:
        return self

    def encode(self, x: Tensor) -> Tensor:
        return x


class Symbols(Line):
    """Codes that are whole numbers."""

    def encode(self, x: Tensor) -> Tensor:
        return x.long()

    def decode(self, z: Tensor) -> Independent:
        return Independent(Normal(z.float(), 1.0), 1)


NO_CODES = Implicit(StandardNormal((2,)), MLP(((2,),), 2, (4,)), (2,))


@pytest.mark.parametrize("model", [NO_CODES, Plain(), Symbols()], ids=["no codes", "one way", "integers"])
def test_models_without_usable_codes_have_no_walks(model: nn.Module) -> None:
    assert walks(model, rows()) == {}


def test_one_row_is_no_walk() -> None:
    assert walks(Line(), rows(1)) == {}


# -- texts, and the file -------------------------------------------------------------------------------------------


def letters() -> tuple[nn.Module, Dataset]:
    column = Column("character", "category", "str", ("a", "b", "c"), 0.0, 2.0)
    space = Space((6,), "text", 3, (column,))
    x = torch.randint(0, 3, (60, 6)).float()
    likelihood = Conditional(Categorical(3), MLP(((2,),), 18, (8,)), (6,), ((2,),))
    posterior = Conditional(Gaussian(), MLP(((6,),), 4, (8,)), (2,), ((6,),))
    return LatentVariable(StandardNormal((2,)), likelihood, posterior), Dataset("t", space, x[:40], x[40:50], x[50:])


def test_symbols_are_drawn_and_never_averaged(tmp_path: Path) -> None:
    model, dataset = letters()
    write_pictures(model, dataset, dataset.train[:20], tmp_path)
    arrays = np.load(tmp_path / "pictures.npz")
    for name in ("reconstructions", "interpolations", "traversals"):
        assert np.isin(arrays[name], (0, 1, 2)).all(), name
    mean = walks(model, dataset.test)["interpolations"]
    assert not np.isin(mean.numpy(), (0, 1, 2)).all()


def test_pictures_repeat_and_leave_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    model, dataset = letters()
    before = torch.get_rng_state()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_pictures(model, dataset, dataset.train[:20], tmp_path / name)
    assert torch.equal(before, torch.get_rng_state())
    first, second = (np.load(tmp_path / name / "pictures.npz") for name in ("a", "b"))
    assert set(first.files) == {"samples", "neighbours", "reconstructions", "interpolations", "traversals"}
    assert all((first[name] == second[name]).all() for name in first.files)


def test_a_flow_writes_walks_but_no_reconstructions(tmp_path: Path) -> None:
    x = rows(60)
    write_pictures(flow(), Dataset("p", Space((2,)), x[:40], x[40:50], x[50:]), x, tmp_path)
    names = set(np.load(tmp_path / "pictures.npz").files)
    assert {"interpolations", "traversals", "density_grid"} <= names and "reconstructions" not in names


def test_temperatures_narrow_a_flow_and_pass_by_what_has_none() -> None:
    model = Flow(StandardNormal((2,)), [ActNorm((2,))], (2,))
    drawn = temperatures(model, 400)
    assert drawn is not None and drawn.shape == (5, 400, 2)
    torch.testing.assert_close(drawn[0], drawn[-1] * 0.5**0.5)
    assert temperatures(Implicit(StandardNormal((2,)), MLP(((2,),), 2), (2,))) is None
