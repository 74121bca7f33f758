"""Toys: each density integrates to one, has the stated optimum, and describes the draws."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.data.errors import BadData
from genalloy.data.toy import TOYS, toy


def quadrature(name: str, cells: int, half: float = 6.4) -> tuple[float, float]:
    """Mass and E log p by the midpoint rule; 6.4 makes the checkerboard's edges cell edges."""
    width = 2 * half / cells
    axis = (torch.arange(cells, dtype=torch.float64) + 0.5) * width - half
    log_p = torch.cat([toy(name).log_density(torch.cartesian_prod(rows, axis)) for rows in axis.split(16)])
    p = log_p.exp()
    return p.sum().item() * width**2, torch.where(p > 0, p * log_p, 0.0).sum().item() * width**2


@pytest.mark.parametrize("name", TOYS)
def test_density_integrates_to_one_and_has_the_stated_optimum(name: str) -> None:
    mass, optimum = quadrature(name, 256)
    # the pinwheel's density has jumps of slope along its caustics, where the midpoint rule loses digits;
    # u3 and u4 end at the walls of a box
    assert mass == pytest.approx(1, abs=2e-5)
    assert optimum == pytest.approx(toy(name).optimum, abs=1e-4)


@pytest.mark.parametrize("name", TOYS)
def test_draws_match_the_density(name: str) -> None:
    x = toy(name).sample(20_000, torch.Generator().manual_seed(1))
    log_p = toy(name).log_density(x)
    assert x.dtype == log_p.dtype == torch.float32
    assert abs(log_p.mean().item() - toy(name).optimum) < 4 * log_p.std().item() / 20_000**0.5 + 1e-4
    # the density against counts on a coarse grid, which the mean alone would not see
    inside = ((x[:, 0] > 0) & (x[:, 1] > 0.5)).double().mean().item()
    axis = (torch.arange(160, dtype=torch.float64) + 0.5) / 25
    grid = torch.cartesian_prod(axis, axis)
    mass = toy(name).log_density(grid[grid[:, 1] > 0.5]).exp().sum().item() / 625
    assert inside == pytest.approx(mass, abs=4 * 0.5 / 20_000**0.5)


def test_published_optima() -> None:
    assert toy("8gaussians").optimum == pytest.approx(-2.8318, abs=5e-4)
    assert toy("checkerboard").optimum == pytest.approx(-math.log(32))
    assert toy("ring8").optimum == pytest.approx(-0.3121, abs=1e-4)


def test_checkerboard_squares() -> None:
    log_p = toy("checkerboard").log_density(torch.tensor([[0.5, 0.5], [0.5, 2.5], [-0.5, 0.5], [-0.5, 3.0], [4.5, 0.5]]))
    assert log_p.isfinite().tolist() == [True, False, False, True, False]


def test_shapes_and_far_tails() -> None:
    for name in TOYS:
        assert toy(name).log_density(torch.zeros(3, 4, 2)).shape == (3, 4)
    assert toy("rings").log_density(torch.tensor([30.0, 0.0])).isfinite()
    assert toy("8gaussians").log_density(torch.tensor([30.0, 0.0])).isfinite()


def test_same_generator_same_draws_and_nothing_global() -> None:
    state = torch.get_rng_state()
    a, b = (toy("moons").sample(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(state, torch.get_rng_state())


def test_unknown_name_suggests() -> None:
    with pytest.raises(BadData, match="did you mean 'checkerboard'"):
        toy("chekerboard")
