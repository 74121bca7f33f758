"""Multi-scale flows by nesting: densities, codes, contexts, labels, temperature."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.evidence import Kind
from genalloy.core.part import Conditional, Tempered
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow
from genalloy.models.split import Split, halves
from genalloy.networks.convolution import ConvNet, Elements, Filters
from genalloy.networks.mlp import MLP
from genalloy.transforms.coupling import ChannelMask, Coupling
from genalloy.transforms.image import InvertibleConvolution, Squeeze
from genalloy.transforms.layer import Transform
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.univariate import Affine

SMALL = Filters(4)
CONTEXT = ((3,),)
Shape = tuple[int, ...]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def steps(shape: Shape, contexts: tuple[Shape, ...]) -> list[Transform]:
    parting = ChannelMask(shape)
    network = ConvNet((parting.still_shape, *contexts), 2 * parting.moved_shape[0], SMALL)
    return [ActNorm(shape, per_channel=True), InvertibleConvolution(shape[0]), Coupling(parting, network, Affine(), contexts)]


def rest(shape: Shape, given: tuple[Shape, ...]) -> Conditional:
    return Conditional(Gaussian(), Elements(ConvNet(given, 2 * shape[0], SMALL), 2), shape, given)


def multi_scale(contexts: tuple[Shape, ...] = (), last: nn.Module | None = None) -> Flow:
    deep, left = halves((4, 2, 2))
    inner = Flow(StandardNormal((8, 1, 1)), [Squeeze(deep), *steps((8, 1, 1), contexts)], deep, contexts)
    base = Split(inner, last or rest(left, (deep, *contexts)), (4, 2, 2), contexts)
    return perturb_parameters(Flow(base, [Squeeze((1, 4, 4)), *steps((4, 2, 2), contexts)], (1, 4, 4), contexts))


def test_density_is_the_jacobian_s() -> None:
    model = multi_scale().double()
    x = torch.randn(1, 4, 4, dtype=torch.float64)
    code = model().encode(x)
    jacobian = torch.autograd.functional.jacobian(lambda v: model().encode(v), x).reshape(16, 16)
    expected = torch.distributions.Normal(0, 1).log_prob(code).sum() + torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(model().log_prob(x), expected)


@pytest.mark.parametrize("sample", [(), (5,)])
def test_conditional_draws_know_their_density(sample: Shape) -> None:
    model, context = multi_scale(CONTEXT), torch.randn(2, 3)
    distribution = model(context)
    x, evidence = distribution.draw(sample)
    assert x.shape == (*sample, 2, 1, 4, 4) and evidence.kind is Kind.EXACT and distribution.has_rsample
    torch.testing.assert_close(evidence.value, distribution.density(x).value, rtol=1e-4, atol=1e-4)
    row = model(context[1]).density(x[..., 1, :, :, :]).value
    torch.testing.assert_close(evidence.value[..., 1], row, rtol=1e-4, atol=1e-4)


def test_codes_of_its_own_samples_are_standard_normal() -> None:
    model = multi_scale()
    with torch.no_grad():
        code = model().encode(model().sample((4000,)))
    assert code.shape == (4000, 16)
    assert code.mean(0).abs().max() < 0.07 and (code.std(0) - 1).abs().max() < 0.06
    assert (code.T.cov() - torch.eye(16)).abs().max() < 0.12


def test_what_is_split_off_depends_on_what_goes_on_and_on_the_context() -> None:
    split = Split(StandardNormal((1,)), Conditional(Gaussian(), MLP(((1,), (3,)), 4, (8,)), (2,), ((1,), (3,))), (3,), CONTEXT)
    z1, context = torch.randn(1, requires_grad=True), torch.randn(3, requires_grad=True)
    x = torch.cat([z1, torch.randn(2)])
    a, b = torch.autograd.grad(split(context).log_prob(x), [z1, context])
    assert not torch.allclose(a, -z1) and (b != 0).all()


def test_any_part_may_be_left_over() -> None:
    assert multi_scale(last=StandardNormal((2, 2, 2)))().sample((3,)).shape == (3, 1, 4, 4)
    given = multi_scale(CONTEXT, StandardNormal((2, 2, 2)))(torch.randn(2, 3))
    x, evidence = given.draw((3,))
    assert x.shape == (3, 2, 1, 4, 4) and evidence.value.shape == (3, 2)


def test_first_batch_reaches_every_scale() -> None:
    model = multi_scale()
    model.initialise(5 + 3 * torch.randn(200, 1, 4, 4))
    inner = model.base.deep.layers[1].transform
    assert isinstance(inner, ActNorm)
    z = model().encoded(5 + 3 * torch.randn(500, 1, 4, 4))[0][:, :2]
    y = inner.encode(Squeeze((2, 2, 2)).encode(z)[0])[0]
    assert y.mean((0, 2, 3)).abs().max() < 0.4 and (y.std((0, 2, 3)) - 1).abs().max() < 0.4


def test_is_stored_in_single_and_double_precision() -> None:
    for model in (multi_scale(), multi_scale().double()):
        x = model().sample((2,))
        torch.testing.assert_close(from_spec(*to_spec(model))().log_prob(x), model().log_prob(x))


def test_one_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="squeeze the image first"):
        Split(StandardNormal((1, 2, 2)), StandardNormal((1, 2, 2)), (1, 2, 2))


def spread(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model().sample((4000,)).std(0).mean()


def test_temperature_of_a_split_is_exact_where_the_rest_is_free() -> None:
    free = Split(StandardNormal((1,)), StandardNormal((2,)), (3,))
    x = torch.randn(5, 3)
    expected = torch.distributions.Normal(0, 0.25**0.5).log_prob(x).sum(-1)
    torch.testing.assert_close(Tempered(free, 0.25)().log_prob(x), expected)
    bound = perturb_parameters(Split(StandardNormal((1,)), Conditional(Gaussian(), MLP(((1,),), 4, (8,)), (2,), ((1,),)), (3,)))
    cool = Tempered(bound, 0.25)()
    x, evidence = cool.draw((5,))
    assert evidence.kind is Kind.NONE and cool.density(x).kind is Kind.NONE and "depends on the others" in evidence.how
    assert torch.isfinite(x).all() and spread(Tempered(bound, 0.25)) < 0.8 * spread(bound)


def test_temperature_twice_is_their_product() -> None:
    free = Split(StandardNormal((1,)), StandardNormal((2,)), (3,))
    x = torch.randn(5, 3)
    torch.testing.assert_close(Tempered(Tempered(free, 0.5), 0.5)().log_prob(x), Tempered(free, 0.25)().log_prob(x))
