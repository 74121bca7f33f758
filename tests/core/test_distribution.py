"""Distributions as values: log_prob's refusals, masks of missing entries, contexts, wrappers."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.capabilities import has, offered, reach
from genalloy.core.contexts import batch_of, both, join, tree_map
from genalloy.core.distribution import density, draw, sum_event
from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.observations import leading
from genalloy.core.part import Conditional, Estimated, Tempered, Unconditional
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.discrete import BernoulliDistribution
from genalloy.heads.gaussian import Gaussian, GaussianDistribution, StandardNormal
from genalloy.heads.head import collapsed
from genalloy.laws.every import every_part
from genalloy.laws.subject import perturb_parameters
from genalloy.models.flow import Flow, Preprocessed
from genalloy.models.mixture import Mixture
from genalloy.networks.mlp import MLP
from genalloy.objectives.objective import Play
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.observation import Dequantise, Standardise

PARTS = {listed.name: listed for listed in every_part()}


def test_log_prob_is_exact_or_refused() -> None:
    x = torch.randn(4, 2)
    exact = PARTS["maf"].make((2,), ())()
    torch.testing.assert_close(exact.log_prob(x), density(exact, x).value)
    for name, words in (("vae", "LOWER.*ImportanceWeighted"), ("energy", "NONE"), ("diffusion, probability flow", "ESTIMATE")):
        with pytest.raises(Unavailable, match=f"no exact log_prob.*{words}"):
            PARTS[name].make((2,), ())().log_prob(x)


def test_samples_carry_no_gradient_and_draws_do() -> None:
    distribution = perturb_parameters(PARTS["maf"].make((2,), ()))()
    assert not distribution.sample((3,)).requires_grad
    x, evidence = distribution.draw((3,))
    assert x.requires_grad and evidence.value.requires_grad


def test_leading_and_sum_event() -> None:
    assert leading(torch.zeros(5, 4, 3, 2), (3, 2)) == (5, 4)
    assert leading(torch.zeros(5), ()) == (5,)
    with pytest.raises(ValueError, match=r"\(5, 2\), expected one that ends in \(3,\)"):
        leading(torch.zeros(5, 2), (3,))
    assert sum_event(torch.ones(5, 3, 2), 2).tolist() == [6.0] * 5
    assert sum_event(torch.ones(5), 0).tolist() == [1.0] * 5


def test_missing_entries_do_not_count() -> None:
    distribution = GaussianDistribution(torch.zeros(3), torch.ones(3), 1)
    x, mask = torch.tensor([[1.0, torch.nan, 2.0]]), torch.tensor([[True, False, True]])
    found = distribution.masked_density(x, mask).value
    torch.testing.assert_close(found, distribution.element_log_prob(torch.tensor([[1.0, 2.0]]).repeat(1, 2)[:, :3])[:, :2].sum(1))


def test_repeated_rows_are_computed_once_and_counted_as_many() -> None:
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    wide = x.expand(5, 2, 2)
    assert collapsed(wide, 2).shape == (1, 2, 2) and collapsed(wide.contiguous(), 2).shape == (5, 2, 2)
    assert collapsed(torch.zeros(1).expand(3, 4), 1).shape == (1, 4), "event axes stay"
    for logits in (torch.randn(2), torch.randn(2, 2), torch.randn(5, 2, 2)):
        distribution = BernoulliDistribution(logits, 1)
        torch.testing.assert_close(density(distribution, wide).value, density(distribution, wide.contiguous()).value)


def test_grey_values_have_no_mass_under_bits() -> None:
    value = density(BernoulliDistribution(torch.zeros(2), 1), torch.tensor([[0.0, 1.0], [0.5, 1.0], [2.0, 0.0]])).value
    assert torch.isneginf(value).tolist() == [False, True, True]


def test_contexts_join_and_keep_everything() -> None:
    a, b, c = torch.zeros(4, 3), torch.ones(4), torch.full((4, 2), 2.0)
    assert both(a, None) is a and both(None, a) is a and both(None, None) is None
    assert [t is s for t, s in zip(both(both(a, b), c), (a, b, c), strict=True)] == [True] * 3
    joined = join(both(both(a, b), c), ((3,), (), (2,)))
    assert joined.shape == (4, 6) and joined[0].tolist() == [0, 0, 0, 1, 2, 2]
    assert join((torch.zeros(5, 1, 3), b), ((3,), ())).shape == (5, 4, 4)
    assert batch_of((torch.zeros(5, 1, 3), b), ((3,), ())) == (5, 4) and batch_of(None, ()) == ()
    with pytest.raises(ValueError, match="found a context of 1 unnamed, expected 2 unnamed"):
        join(a, ((3,), ()))
    with pytest.raises(ValueError, match=r"\(4, 3\), expected one that ends in \(2,\)"):
        join(a, ((2,),))
    assert tree_map(lambda t: t[0], (a, b))[0].shape == (3,) and tree_map(len, None) is None


def test_batches_select_rows_of_everything() -> None:
    batch = Batch(torch.arange(6.0).reshape(3, 2), (torch.arange(3), torch.zeros(3, 4)), torch.tensor([7, 8, 9]))
    some = batch.rows(slice(1, 3))
    assert len(some) == 2 and some.index.tolist() == [8, 9] and some.context[0].tolist() == [1, 2]
    assert Batch(batch.x).rows(torch.tensor([2])).x.tolist() == [[4.0, 5.0]]


def test_objectives_look_through_fixed_preprocessing() -> None:
    part = Preprocessed(PARTS["vae"].make((2,), ()), [Standardise(torch.ones(2), torch.full((2,), 2.0))], (2,))
    x = torch.randn(5, 2)
    found = reach(part(), x, "trace")
    torch.testing.assert_close(found.x, (x - 1) / 2)
    torch.testing.assert_close(found.evidence.value, torch.full((5,), -2 * torch.tensor(2.0).log().item()))
    code = reach(part(), x, "encode")
    torch.testing.assert_close(code.distribution.encode(code.x), part.base().encode((x - 1) / 2))
    assert "trace" not in offered(part())
    assert not has(Preprocessed(StandardNormal((2,)), [Standardise(torch.ones(2), torch.ones(2))], (2,))(), "encode")
    with pytest.raises(Unavailable, match=r"trace\(x, k\) is needed; .*has none. It has: density, draw"):
        reach(StandardNormal((2,))(), x, "trace")
    with pytest.raises(ValueError, match="learnable"):
        Preprocessed(StandardNormal((2,)), [coupling(alternating(2))], (2,))


def test_critics_meet_samples_where_they_carry_gradients() -> None:
    every = torch.ones(2, dtype=torch.bool)
    inner = PARTS["maf"].make((2,), ())
    part = Preprocessed(
        inner, [Dequantise(every, torch.zeros(2), torch.ones(2)), Standardise(torch.ones(2), torch.ones(2))], (2,)
    )
    x = torch.ones(3, 2)
    found = Play(part, Batch(x)).differentiable()
    assert found.distribution.has_rsample and found.x.min() >= 0 and not torch.equal(found.x, x)
    with pytest.raises(Unavailable, match="Gumbel-softmax"):
        Play(PARTS["made, mixture"].make((2,), ()), Batch(x)).differentiable()


def test_estimated_relabels_the_same_weights() -> None:
    torch.manual_seed(0)
    vae = perturb_parameters(PARTS["vae"].make((2,), ()))
    x = vae().sample((6,))  # rows of its own, which the weights cover
    vae.requires_grad_(False)
    evidence = density(Estimated(vae, ImportanceWeighted(400))(), x)
    assert evidence.kind is Kind.LOWER and evidence.how.startswith("importance weighted, k=400") and evidence.stderr is not None
    single = torch.stack([density(vae(), x).value for _ in range(400)])
    assert bool((evidence.value > single.mean(0)).all())
    averaged = single.logsumexp(0) - torch.tensor(400.0).log()
    assert float((evidence.value - averaged).abs().max()) < 0.5
    assert draw(Estimated(vae, ImportanceWeighted(4))(), (3,))[1].kind is Kind.UPPER
    with pytest.raises(Unavailable, match="needs a proper bound; found LOWER"):
        ImportanceWeighted(4)(PARTS["diffusion"].make((2,), ())(), x)
    assert ImportanceWeighted(4)(StandardNormal((2,))(), x).kind is Kind.EXACT


def test_importance_weights_do_not_depend_on_the_memory_limit() -> None:
    vae = perturb_parameters(PARTS["vae"].make((2,), ()))
    x = torch.randn(6, 2)
    values = []
    for memory in (8.0, 1e-4):
        torch.manual_seed(1)
        values.append(ImportanceWeighted(3000, memory)(vae(), x))
    gap = (values[0].value - values[1].value).abs()
    assert bool((gap < 5 * (values[0].stderr + values[1].stderr)).all())


def test_tempering_is_normalised_or_refused() -> None:
    distribution = Tempered(Conditional(Gaussian(), MLP(((1,),), 4, ()), (2,), ((1,),)), 0.25)(torch.zeros(1, 1))
    plain = distribution.scale / 0.5
    torch.testing.assert_close(Tempered(StandardNormal((2,)), 0.25)().scale, torch.full((2,), 0.5))
    assert bool((plain > distribution.scale).all())
    with pytest.raises(Unavailable, match=r"no normalised p\^\(1/T\)"):
        Tempered(PARTS["vae"].make((2,), ()), 0.5)()
    assert density(Tempered(PARTS["maf"].make((2,), ()), 0.5)(), torch.zeros(3, 2)).kind is Kind.NONE


def test_unconditional_drops_the_context() -> None:
    part = PARTS["iaf"].make((2,), ((3,),))
    seen = []
    part.forward = seen.append
    Unconditional(part)(torch.zeros(4, 3))
    assert seen == [None]


def test_a_conditional_flow_over_an_unconditional_base_samples_a_row_for_each_context() -> None:
    flow = Flow(StandardNormal((2,)), [coupling(alternating(2), context_shapes=((3,),))], (2,), ((3,),))
    x = flow(torch.randn(4, 3)).sample((5,))
    assert x.shape == (5, 4, 2) and float((x[:, 0] - x[:, 1]).abs().min()) > 0


def test_mixtures_of_conditional_and_unconditional_parts() -> None:
    gaussian = Conditional(Gaussian(), MLP(((3,),), 4, ()), (2,), ((3,),))
    for parts in ([gaussian, StandardNormal((2,))], [StandardNormal((2,)), gaussian]):
        distribution = Mixture(parts)(torch.randn(4, 3))
        x, own = distribution.draw((5,))
        assert distribution.batch_shape == (4,) and x.shape == (5, 4, 2) and own.value.shape == (5, 4)
        torch.testing.assert_close(own.value, density(distribution, x).value)
