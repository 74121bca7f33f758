"""Kernels: invariance of adjusted ones, the known bias of the unadjusted one, honest labels, honest failures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.mcmc.hmc import HMC
from genalloy.mcmc.langevin import Langevin
from genalloy.mcmc.mala import MALA

SCALE = torch.tensor([1.0, 0.4])


def quadratic(x: Tensor) -> Tensor:
    return 0.5 * (x / SCALE).square().sum(-1)


def unit(x: Tensor) -> Tensor:
    return 0.5 * x.square().sum(-1)


@pytest.mark.parametrize("kernel", [MALA(20, 0.3), HMC(5, 0.35, 4)], ids=lambda k: type(k).__name__)
def test_adjusted_kernels_leave_a_gaussian_invariant(kernel: MALA | HMC) -> None:
    torch.manual_seed(0)
    start = torch.randn(20_000, 2) * SCALE
    moved = kernel.run(quadratic, start)
    assert 0.2 < moved.accepted.mean() < 0.98, "a test without rejections tests nothing"
    assert torch.allclose(moved.x.std(0), SCALE, rtol=0.025)
    assert moved.x.mean(0).abs().max() < 0.02
    fourth = (moved.x / SCALE).pow(4).mean(0)
    assert torch.allclose(fourth, torch.full((2,), 3.0), rtol=0.08)


@pytest.mark.parametrize("kernel", [MALA(300, 0.3), HMC(60, 0.35, 4)], ids=lambda k: type(k).__name__)
def test_adjusted_kernels_find_the_gaussian_from_elsewhere(kernel: MALA | HMC) -> None:
    torch.manual_seed(0)
    moved = kernel(quadratic, torch.full((4000, 2), 2.0))
    assert torch.allclose(moved.std(0), SCALE, rtol=0.05)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_langevin_has_the_stationary_variance_of_its_step(alpha: float, temperature: float) -> None:
    torch.manual_seed(0)
    x = Langevin(40, alpha, temperature)(unit, torch.zeros(20_000, 1))
    assert float(x.var()) == pytest.approx(temperature / (1 - alpha / 4), rel=0.03)


def test_kernels_take_any_event_shape_and_batch() -> None:
    for kernel in (Langevin(3), MALA(3), HMC(2)):
        x = torch.zeros(4, 3, 1, 2, 2)
        moved = kernel.run(lambda y: 0.5 * y.square().flatten(-3).sum(-1), x)
        assert moved.x.shape == x.shape
        assert moved.accepted.shape == (4, 3)


def test_no_gradient_reaches_the_energys_parameters() -> None:
    weight = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        x = Langevin(2)(lambda y: (weight * y).square().sum(-1), torch.ones(3, 2))
    assert weight.grad is None
    assert not x.requires_grad


def test_labels_tell_temperature_and_descent() -> None:
    assert "tempered at T=0.1" in Langevin(temperature=0.1).label
    assert "tempered" not in Langevin().label
    assert "not sampling" in Langevin(noise=False).label
    assert torch.allclose(Langevin(200, 0.5, noise=False)(unit, torch.ones(2, 1)), torch.zeros(2, 1), atol=1e-6)


def test_a_runaway_chain_stops_with_words() -> None:
    with pytest.raises(FloatingPointError, match="step smaller"):
        Langevin(200, 1.0)(lambda x: -x.pow(4).sum(-1), torch.ones(4, 1))


def test_scaled_multiplies_the_step_alone() -> None:
    for kernel in (Langevin(5, 0.1, 0.5), MALA(5, 0.1), HMC(5, 0.1, 3)):
        assert kernel.scaled(2.0).step_size == pytest.approx(0.2)
        assert kernel.scaled(1.0) == kernel
