"""A flow and a classifier of its code: one pass for both likelihoods, fresh noise for each density, exact sums."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genalloy.core.batch import Batch
from genalloy.core.capabilities import reach
from genalloy.core.distribution import density
from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.part import Conditional
from genalloy.heads.discrete import Categorical
from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow, Preprocessed
from genalloy.models.hybrid import Hybrid
from genalloy.networks.mlp import Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Play
from genalloy.objectives.sources import At
from genalloy.training.fit import fit
from genalloy.training.options import Adam, Training
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.image import Squeeze
from genalloy.transforms.layer import Transform
from genalloy.transforms.linear import ActNorm
from genalloy.transforms.observation import Dequantise

LABEL = At("label_given_x")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def classifier(dims: int, classes: int = 3) -> Conditional:
    return Conditional(Categorical(classes), nn.Linear(dims, classes), (), ((dims,),))


def vectors(dims: int = 4) -> Hybrid:
    layers = [coupling(alternating(dims, odd), Hidden((8,))) for odd in (False, True)]
    return perturb_parameters(Hybrid(Flow(StandardNormal((dims,)), layers, (dims,)), classifier(dims)))


def integers() -> Hybrid:
    """Pictures (1, 2, 2) of levels 0..2, squeezed: the code is (4, 1, 1)."""
    inner: list[Transform] = [Squeeze((1, 2, 2)), ActNorm((4, 1, 1))]
    flow = Flow(StandardNormal((4, 1, 1)), inner, (1, 2, 2))
    noise = Dequantise(torch.ones(1, 2, 2, dtype=torch.bool), torch.zeros(1, 2, 2), torch.full((1, 2, 2), 2.0))
    return perturb_parameters(Hybrid(Preprocessed(flow, [noise], (1, 2, 2)), classifier(4)))


class Counted:
    """Counts the calls of a bound method, and still calls it."""

    def __init__(self, call):
        self.call, self.calls = call, 0

    def __call__(self, *args):
        self.calls += 1
        return self.call(*args)


def test_the_two_densities_are_the_flows_and_the_classifiers() -> None:
    model, x = vectors(), torch.randn(5, 4)
    flow = model.flow()
    torch.testing.assert_close(model().density(x).value, flow.density(x).value)
    given = model().label_given_x(x)
    torch.testing.assert_close(given.logits, model.classifier.network(flow.encode(x)))
    assert given.batch_shape == (5,) and given.event_shape == ()
    total = torch.stack([density(given, torch.full((5,), float(k))).value for k in range(3)]).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(5))
    inner, seen, _ = reach(model(), x, "encode")
    torch.testing.assert_close(inner.encode(seen), flow.encode(x))


def test_leading_axes_of_pictures_stay_and_the_code_is_flattened() -> None:
    x = torch.randint(0, 3, (7, 5, 1, 2, 2)).float()
    assert integers()().label_given_x(x).batch_shape == (7, 5)
    with pytest.raises(ValueError, match=r"expected one that ends in \(1, 2, 2\)"):
        integers()().label_given_x(torch.zeros(3, 4))


@pytest.mark.parametrize("first", [False, True])
def test_summed_terms_share_one_pass(first: bool) -> None:
    model, labels = vectors(), torch.tensor([0.0, 1.0, 2.0, 1.0])
    terms = (0.5 * MaximumLikelihood(), MaximumLikelihood(of=LABEL))
    objective = terms[1] + terms[0] if first else terms[0] + terms[1]
    encode = model.flow.layers[0].encode = Counted(model.flow.layers[0].encode)  # type: ignore[assignment]
    play = Play(model, Batch(torch.randn(4, 4), labels))
    objective(play).backward()
    assert encode.calls == 1


def test_a_density_asked_twice_draws_fresh_noise_and_labels_read_the_same_draw() -> None:
    distribution, x = integers()(), torch.randint(0, 3, (6, 1, 2, 2)).float()
    one, two = distribution.density(x), distribution.density(x)
    assert one.kind is Kind.LOWER and not torch.equal(one.value, two.value)
    latest = distribution._latest
    distribution.label_given_x(x)
    assert distribution._latest is latest, "the label is read from the density's own draw"
    distribution.label_given_x(x)
    assert distribution._latest is not latest
    with torch.no_grad():
        blind = distribution.density(x)
    assert not blind.value.requires_grad and distribution.label_given_x(x).logits.requires_grad


@pytest.mark.parametrize("lam", [0.0, 0.25])
def test_the_weighted_sum_is_exact(lam: float) -> None:
    model, x, labels = vectors(), torch.randn(6, 4), torch.randint(0, 3, (6,)).float()
    objective = lam * MaximumLikelihood() + MaximumLikelihood(of=LABEL)
    found = objective(Play(model, Batch(x, labels)))
    logits = model.classifier.network(model.flow().encode(x)).log_softmax(-1)
    expected = -lam * model.flow().density(x).value.mean() - logits.gather(1, labels.long()[:, None]).mean()
    torch.testing.assert_close(found, expected)
    grads = [torch.autograd.grad(loss, list(model.parameters()), allow_unused=True) for loss in (found, expected)]
    for mine, true in zip(*grads, strict=True):
        torch.testing.assert_close(torch.zeros(()) if mine is None else mine, torch.zeros(()) if true is None else true)
    assert repr(objective) == f"{lam:g} * MaximumLikelihood() + MaximumLikelihood(of=At(name='label_given_x'))"


def test_labels_that_are_missing_are_asked_for_before_step_0() -> None:
    x = torch.randn(4, 4)
    for batch, model, words in (
        (Batch(x), vectors(), "needs labels as the batch's context, one tensor; found NoneType"),
        (Batch(x, torch.zeros(4)), vectors().flow, r"label_given_x\(x\) is needed; FlowDistribution has none"),
    ):
        with pytest.raises((ValueError, Unavailable), match=words):
            next(fit(model, MaximumLikelihood(of=LABEL), [batch]))


def test_it_learns_both() -> None:
    """Two shifted Gaussians: log p(x) near minus the entropy, and the label from the sign of one coordinate."""
    labels = torch.randint(0, 2, (2000,)).float()
    x = torch.randn(2000, 2) * torch.tensor([1.0, 0.5]) + torch.stack([6 * labels - 3, torch.ones(2000)], 1)
    layers = [ActNorm((2,)), coupling(alternating(2), Hidden((16,))), coupling(alternating(2, True), Hidden((16,)))]
    model = Hybrid(Flow(StandardNormal((2,)), layers, (2,)), classifier(2, 2))
    objective = 0.5 * MaximumLikelihood() + MaximumLikelihood(of=LABEL)
    before = density(model(), x).value.mean()
    for _ in fit(model, objective, [Batch(x, labels)] * 80, training=Training(Adam(2e-2))):
        pass
    found = model().label_given_x(x).logits.argmax(-1)
    assert (found == labels).float().mean() > 0.98
    assert density(model(), x).value.mean() > before + 1.0
