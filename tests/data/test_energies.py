"""U1 to U4: normalisers against published and closed forms, exact draws, and walls."""

from __future__ import annotations

import math

import pytest
import torch

from genalloy.data.energies import ENERGIES, U1, U2, U3, Energy
from genalloy.data.load import load_data

PUBLISHED = {"u1": 1.8775, "u2": 2.0824, "u3": 2.6420, "u4": 2.6850}
SOFT = {"u1": 1.8775, "u2": 2.1129, "u3": 2.6726, "u4": 2.7247}


@pytest.mark.parametrize("name", ENERGIES)
def test_normalisers(name: str) -> None:
    assert ENERGIES[name](0.0).log_normaliser() == pytest.approx(PUBLISHED[name], abs=5e-4)
    assert ENERGIES[name]().log_normaliser() == pytest.approx(SOFT[name], abs=1e-4)


def test_the_wave_in_closed_form() -> None:
    """U2 is a Gaussian across, uniform along; its soft ends are half Gaussians. The cut at |x2| = 4 is 7 sd away."""
    across = 0.4 * math.sqrt(2 * math.pi)
    assert U2(0.0).log_normaliser() == pytest.approx(math.log(8 * across), abs=1e-8)
    assert U2(0.1).log_normaliser() == pytest.approx(math.log((8 + 0.1 * math.sqrt(2 * math.pi)) * across), abs=1e-8)
    assert U2(0.0).optimum() == pytest.approx(-0.5 - math.log(8 * across), abs=1e-8)


@pytest.mark.parametrize("name", ENERGIES)
def test_soft_walls_leave_the_inside_alone(name: str) -> None:
    x = 8 * torch.rand(100, 2, dtype=torch.float64) - 4
    assert torch.equal(ENERGIES[name]().energy(x), ENERGIES[name](0.0).energy(x))
    assert (-ENERGIES[name](0.0).energy(x)).exp().max() <= ENERGIES[name].peak
    out = torch.tensor([[4.2, 0.0]], dtype=torch.float64)
    assert ENERGIES[name](0.0).energy(out).isinf().all()
    assert float(ENERGIES[name]().energy(out) - ENERGIES[name]().free(out)) == pytest.approx(2.0)


def test_draws_with_soft_walls_follow_the_density() -> None:
    energy = U3()
    x = energy.sample(20_000, torch.Generator().manual_seed(0))
    log_p = energy.log_density(x)
    assert float(log_p.mean()) == pytest.approx(energy.optimum(), abs=4 * float(log_p.std()) / 20_000**0.5)
    assert (x.abs() > 4).any()


def test_gradients_lead_back_from_far_outside() -> None:
    x = torch.tensor([[9.0, -7.0], [0.0, 0.0]], requires_grad=True)
    for energy in (U1(), U2(), U3()):
        (slope,) = torch.autograd.grad(energy.energy(x).sum(), x)
        assert torch.isfinite(slope).all() and slope[0, 0] > 0 > slope[0, 1]


def test_as_data_sets() -> None:
    data = load_data("u4", limit=200)
    assert data.train.shape == (200, 2) and data.log_density is not None and data.entropy_optimum is not None
    assert data.log_density(data.test).isfinite().all()
    assert data.entropy_optimum == pytest.approx(ENERGIES["u4"](0.0).optimum(), abs=1e-5)


def test_an_energy_says_what_it_lacks() -> None:
    with pytest.raises(TypeError, match="abstract method"):
        Energy()  # type: ignore[abstract]
