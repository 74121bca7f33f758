"""Deep sigmoidal maps: exact at any distance, certified inverse, gradients through it, the papers' formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.transforms.autoregressive import masked
from genalloy.transforms.sigmoidal import DeepSigmoid
from genalloy.transforms.univariate import Affine, Then, Univariate

MAPS = {"deep sigmoid": DeepSigmoid(6), "one unit": DeepSigmoid(1), "flow++": Then(DeepSigmoid(6), Affine())}
EPS = torch.finfo(torch.float32).eps


def case(univariate: Univariate, size: float, scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    raw = size * torch.randn(1000, univariate.width, generator=generator, dtype=torch.float64)
    return scale * torch.randn(1000, generator=generator, dtype=torch.float64).to(dtype), raw.to(dtype)


def test_is_the_logit_of_the_mixture() -> None:
    univariate = DeepSigmoid(6, leak=0.0)
    x, raw = case(univariate, 1.0, 2.0, torch.float64)
    a, b, w = univariate.parameters(raw)
    mixture = (w.exp() * torch.sigmoid(a.exp() * x[:, None] + b)).sum(-1)
    torch.testing.assert_close(univariate.encode(x, raw)[0], mixture.logit())


@pytest.mark.parametrize("leak", [0.0, 1e-3])
def test_slope_is_that_of_autograd(leak: float) -> None:
    univariate = DeepSigmoid(6, leak=leak)
    x, raw = case(univariate, 3.0, 5.0, torch.float64)
    x.requires_grad_()
    z, log_slope = univariate.encode(x, raw)
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(log_slope, slope.log(), rtol=1e-6, atol=1e-6)
    assert log_slope.exp().min() >= leak


@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0, 1e3])
@pytest.mark.parametrize("size", [0.0, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("name", MAPS)
def test_float32_comes_back_whatever_the_network_says(name: str, size: float, scale: float) -> None:
    univariate = MAPS[name]
    x, raw = case(univariate, size, scale, torch.float32)
    z, forth = univariate.encode(x, raw)
    back, home = univariate.decode(z, raw)
    assert torch.isfinite(torch.stack([z, forth, back, home])).all()
    again = univariate.encode(back, raw)[0]
    torch.testing.assert_close(again, z, rtol=1e-5, atol=100 * EPS * (1 + size) ** 2)
    # an error in z of its last places is one in x of as many, times the inverse slope
    assert ((back - x).abs() <= 100 * EPS * (1 + size + z.abs() + x.abs()) * (1 + (-forth).exp())).all()


@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0, 1e3])
@pytest.mark.parametrize("name", MAPS)
def test_float64_round_trip(name: str, scale: float) -> None:
    univariate = MAPS[name]
    x, raw = case(univariate, 3.0, scale, torch.float64)
    z, forth = univariate.encode(x, raw)
    back, home = univariate.decode(z, raw)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(home, -forth, rtol=1e-8, atol=1e-8)


def test_finds_roots_beside_zero_in_float32() -> None:
    """There z is a difference of larger terms, and not known to its own last place."""
    univariate = DeepSigmoid(4, leak=0.0)
    x = torch.randn(20000, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.linspace(-20, 0, 20000)
    raw = torch.zeros(20000, univariate.width)
    raw[:, 4:8] = torch.tensor([3.0, 1.0, -1.0, -3.0])
    torch.testing.assert_close(univariate.decode(univariate.encode(x, raw)[0], raw)[0], x, rtol=1e-5, atol=2e-5)


def test_tails_are_linear() -> None:
    univariate = DeepSigmoid(6, leak=0.0)
    _, raw = case(univariate, 3.0, 1.0, torch.float32)
    slowest = univariate.parameters(raw).log_slope.amin(-1)
    for far in (-1e6, 1e6):
        z, log_slope = univariate.encode(torch.full((1000,), far), raw)
        torch.testing.assert_close(log_slope, slowest, rtol=0.05, atol=0.05)
        assert torch.isfinite(z).all()


def test_the_inverse_differentiates_to_noise_and_parameters_under_weights() -> None:
    univariate = DeepSigmoid(3)
    z, raw = (v[:5] for v in case(univariate, 2.0, 3.0, torch.float64))
    weight = torch.arange(5.0, dtype=torch.float64)

    def loss(z: Tensor, raw: Tensor) -> Tensor:
        x, ladj = univariate.decode(z, raw)
        return (weight * (x.sin() + ladj)).sum()

    assert torch.autograd.gradcheck(loss, (z.requires_grad_(), raw.requires_grad_()))


def test_units_differ_at_the_start_and_the_map_is_near_the_identity() -> None:
    univariate = DeepSigmoid(8)
    x = torch.linspace(-6, 6, 50)
    raw = torch.zeros(50, univariate.width, requires_grad=True)
    z, log_slope = univariate.encode(x, raw)
    assert (z - x).abs().max() < 0.75 and log_slope.abs().max() < 0.4
    (gradient,) = torch.autograd.grad(z.square().sum(), raw)
    assert gradient.sum(0).reshape(3, 8).std(1).min() > 0


def test_parameters_broadcast_over_samples() -> None:
    univariate = DeepSigmoid(4)
    x, raw = torch.randn(5, 1), torch.randn(3, univariate.width)
    z, _ = univariate.encode(x, raw)
    back, ladj = univariate.decode(z[:, :1], raw)
    assert z.shape == back.shape == ladj.shape == (5, 3)


def test_many_dimensions_stay_finite_both_ways() -> None:
    torch.manual_seed(0)
    transform = masked(60, univariate=DeepSigmoid(4))
    for parameter in transform.parameters():
        parameter.data.add_(0.03 * torch.randn_like(parameter))
    x = 5 * torch.randn(4, 60)
    with torch.no_grad():
        for t in (transform.encode(x), transform.decode(x)):
            assert torch.isfinite(t[0]).all() and torch.isfinite(t[1]).all()
        wide = transform.double()
        torch.testing.assert_close(wide.decode(wide.encode(x.double())[0])[0], x.double(), rtol=1e-6, atol=1e-6)
