"""p^(1/T): exact where a flow keeps volume, samples without a density elsewhere, an error where there is neither."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.part import Conditional, Tempered
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.laws.every_transform import every_transform
from genalloy.laws.subject import perturb_parameters
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.flow import Flow, Preprocessed
from genalloy.networks.causal.made import MADE
from genalloy.networks.mlp import MLP, Hidden
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.linear import PLU, ActNorm
from genalloy.transforms.observation import Dequantise, Standardise
from genalloy.transforms.univariate import Additive, Univariate
from genalloy.transforms.univariate import Affine as Scale

SMALL = Hidden((8,))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def flow(univariate: Univariate) -> Flow:
    layers = [coupling(alternating(2, odd), SMALL, (), univariate) for odd in (False, True)]
    return perturb_parameters(Flow(StandardNormal((2,)), [*layers, ActNorm((2,)), PLU(2, "rotation")], (2,)))


def grid(side: int = 400, reach: float = 8.0) -> tuple[torch.Tensor, float]:
    line = torch.linspace(-reach, reach, side)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2), (2 * reach / (side - 1)) ** 2


@torch.no_grad()
def test_a_flow_of_constant_volume_is_tempered_exactly() -> None:
    model, temperature = flow(Additive()), 0.7
    x, cell = grid()
    cool = Tempered(model, temperature)().density(x)
    assert cool.kind is Kind.EXACT
    assert float(cool.value.exp().sum() * cell) == pytest.approx(1.0, abs=1e-3)
    gap = cool.value - model().log_prob(x) / temperature
    assert float(gap.max() - gap.min()) < 1e-2


@torch.no_grad()
def test_its_samples_follow_the_tempered_density() -> None:
    cool = Tempered(flow(Additive()), 0.7)()
    x, evidence = cool.draw((2000,))
    torch.testing.assert_close(evidence.value, cool.density(x).value, rtol=1e-3, atol=1e-3)
    points, cell = grid()
    truth = (cool.density(points).value.exp()[:, None] * points).sum(0) * cell
    assert (x.mean(0) - truth).abs().max() < 0.12


@torch.no_grad()
def test_elsewhere_the_samples_are_a_heuristic_without_a_density() -> None:
    model = flow(Scale())
    cool = Tempered(model, 0.5)()
    x, evidence = cool.draw((3, 4))
    assert torch.isfinite(x).all() and evidence.value.shape == (3, 4)
    for found in (evidence, cool.density(x)):
        assert found.kind is Kind.NONE and "Coupling depends on x" in found.how
    with pytest.raises(Unavailable, match="heuristic"):
        _ = cool.density(x).available
    assert cool.encode(x).shape == x.shape
    torch.manual_seed(1)
    cold = Tempered(model, 1e-8)().sample((5,))
    torch.testing.assert_close(cold, cold[:1].expand(5, 2), rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_through_fixed_preprocessing() -> None:
    scaled = Preprocessed(flow(Additive()), [Standardise(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5]))], (2,))
    assert Tempered(scaled, 0.7)().density(torch.randn(3, 2)).kind is Kind.EXACT
    every = torch.ones(2, dtype=torch.bool)
    integers = Preprocessed(flow(Additive()), [Dequantise(every, torch.zeros(2), torch.full((2,), 3.0))], (2,))
    cool = Tempered(integers, 0.7)()
    assert cool.density(torch.ones(3, 2)).kind is Kind.NONE and cool.sample((2,)).shape == (2, 2)


def test_what_has_no_tempered_law_says_so() -> None:
    made = Autoregressive(MADE((2,), 2, SMALL), Gaussian(), (2,))
    with pytest.raises(Unavailable, match="temper its base"):
        Tempered(made, 0.7)()
    with pytest.raises(Unavailable, match="temper its base"):
        Tempered(Flow(made, [ActNorm((2,))], (2,)), 0.7)()
    with pytest.raises(ValueError, match="above 0"):
        Tempered(StandardNormal((2,)), 0.0)


def test_one_changes_nothing() -> None:
    model, x = flow(Scale()), torch.randn(3, 2)
    torch.testing.assert_close(Tempered(model, 1.0)().log_prob(x), model().log_prob(x))


def test_the_context_goes_through() -> None:
    part = Conditional(Gaussian(), MLP(((3,),), 4, (8,)), (2,), ((3,),))
    context = torch.randn(5, 3)
    cool = Tempered(part, 0.25)(context)
    torch.testing.assert_close(cool.scale, part(context).scale / 2)


@torch.no_grad()
@pytest.mark.parametrize("listed", every_transform(), ids=lambda t: t.name)
def test_only_transforms_that_say_so_have_constant_log_determinants(listed: object) -> None:
    transform = perturb_parameters(listed.build())
    context = torch.randn(3).expand(40, 3) if listed.conditional else None
    ladj = transform.encode(listed.inside(torch.randn(40, *listed.event)), context)[1]
    varies = float(ladj.max() - ladj.min()) > 1e-5
    assert transform.constant == (not varies)
    assert transform.as_layer().constant == transform.constant
