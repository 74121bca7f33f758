"""Records: several modalities, any of them missing, against Gaussian algebra and quadrature; trained, stored, given labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal
from torch.utils.data import DataLoader

import genalloy as ga
from genalloy.core.batch import Batch
from genalloy.core.evidence import Kind, Measure, Unavailable, lebesgue
from genalloy.core.observations import Masked, Record, RecordShape, event, leading, repeat, rows
from genalloy.core.part import Conditional
from genalloy.core.spec import from_spec, to_spec
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.evaluation.latent import latent_panel
from genalloy.heads.discrete import Bernoulli, Categorical
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.heads.unit import Beta
from genalloy.laws.linear_gaussian import Line
from genalloy.models.experts import ProductOfExperts
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.models.product import Product
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Play
from genalloy.objectives.records import OnParts
from genalloy.training.options import Adam
from genalloy.transforms.observation import Logit

SLOPES, SCALES, OFFSETS = {"left": 0.8, "right": -1.5}, {"left": 0.6, "right": 0.9}, {"left": 0.3, "right": -0.2}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def exact() -> LatentVariable:
    """z ~ N(0, 1), x_m | z ~ N(a_m z + b_m, s_m^2); each expert is its likelihood as a function of z: the true posteriors."""
    likelihoods = {n: Line((SLOPES[n],), SCALES[n], OFFSETS[n]).part() for n in SLOPES}
    inverse = {n: Line((1 / SLOPES[n],), SCALES[n] / abs(SLOPES[n]), -OFFSETS[n] / SLOPES[n]) for n in SLOPES}
    return LatentVariable(StandardNormal((1,)), Product(likelihoods), ProductOfExperts({n: e.part() for n, e in inverse.items()}))


def truth(x: dict[str, Tensor]) -> Tensor:
    """log p of the parts that are there, (B,)."""
    a = torch.tensor([SLOPES[n] for n in x])
    covariance = torch.outer(a, a) + torch.diag(torch.tensor([SCALES[n] ** 2 for n in x]))
    mean = torch.tensor([OFFSETS[n] for n in x])
    return MultivariateNormal(mean, covariance).log_prob(torch.cat(list(x.values()), -1))


def observed(n: int = 6) -> dict[str, Tensor]:
    return {"left": torch.randn(n, 1), "right": torch.randn(n, 1)}


@pytest.mark.parametrize("names", [("left",), ("right",), ("left", "right")])
def test_any_subset_has_its_own_density(names: tuple[str, ...]) -> None:
    x = Record(observed()).only(*names)
    weights = exact()().trace(x, 30).log_weights()
    torch.testing.assert_close(weights.value, truth(dict(x.parts)).expand(30, 6), atol=1e-4, rtol=0)
    assert weights.kind is Kind.LOWER and weights.proper and weights.measure == lebesgue(len(names))


def test_rows_that_lack_a_part_have_the_density_of_the_rest() -> None:
    x = observed()
    there = torch.tensor([True, True, False, True, False, False])
    nowhere = Masked.present(torch.full((6, 1), torch.nan), torch.zeros(6))
    record = Record({"left": x["left"], "right": Masked.present(x["right"].where(there[:, None], torch.nan), there)})
    weights = ImportanceWeighted(20)(exact()(), record)
    want = torch.where(there, truth(x), truth({"left": x["left"]}))
    torch.testing.assert_close(weights.value, want, atol=1e-4, rtol=0)
    assert str(weights.measure) == "1 + (0 to 1 observed) Lebesgue"
    alone = ImportanceWeighted(20)(exact()(), Record({"left": x["left"], "right": nowhere}))
    torch.testing.assert_close(alone.value, truth({"left": x["left"]}), atol=1e-4, rtol=0)
    assert alone.measure == lebesgue(1)


def test_of_one_part_given_another_only_an_estimate_is_claimed() -> None:
    x = Record(observed())
    distribution, estimate = exact()(), ImportanceWeighted(20)
    conditional = estimate(distribution, x) - estimate(distribution, x.only("right"))
    want = truth(dict(x.parts)) - truth({"right": x["right"]})
    torch.testing.assert_close(conditional.value, want, atol=1e-4, rtol=0)
    assert conditional.kind is Kind.ESTIMATE and conditional.measure == lebesgue(1)


def test_own_samples_are_records_under_an_upper_bound() -> None:
    drawn, claim = ga.draw(exact()(), (400,))
    assert isinstance(drawn, ga.Record) and drawn["left"].shape == (400, 1) and claim.kind is Kind.UPPER
    torch.testing.assert_close(claim.value, truth(dict(drawn.parts)), atol=1e-4, rtol=0)
    pair = torch.cat([drawn["left"], drawn["right"]], -1)
    assert float(torch.corrcoef(pair.t())[0, 1]) < -0.5  # the slopes have opposite signs


def decoder(z: int = 1, contexts: tuple[tuple[int, ...], ...] = ()) -> Product:
    shapes = ((z,), *contexts)
    return Product(
        {
            "picture": Conditional(Bernoulli(), MLP(shapes, 4, (8,)), (1, 2, 2), shapes),
            "label": Conditional(Categorical(3), MLP(shapes, 3, (8,)), (), shapes),
        }
    )


def encoder(z: int = 1, contexts: tuple[tuple[int, ...], ...] = ()) -> ProductOfExperts:
    shapes: dict[str, tuple[int, ...]] = {"picture": (1, 2, 2), "label": ()}
    return ProductOfExperts(
        {n: Conditional(Gaussian(), MLP((s, *contexts), 2 * z, (8,)), (z,), (s, *contexts)) for n, s in shapes.items()}
    )


def wide(posterior: ProductOfExperts) -> ProductOfExperts:
    """Experts of scale 4, so that the product covers what an untrained decoder asks for."""
    for expert in posterior.experts.values():
        last: Any = expert.network.net[-1]  # type: ignore[union-attr]
        last.bias.data[1] = 3.5
    return posterior


def pictures(n: int) -> Record:
    """A label 0, 1, 2, and a picture that shows it."""
    label = torch.randint(3, (n,))
    patterns = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]]).float()
    return Record({"picture": patterns[label].reshape(n, 1, 2, 2), "label": label})


@pytest.mark.parametrize("names", [("picture",), ("label",), ("picture", "label")])
def test_masses_of_mixed_parts_against_quadrature(names: tuple[str, ...]) -> None:
    model, x = LatentVariable(StandardNormal((1,)), decoder(), wide(encoder())), pictures(5).only(*names)
    grid = torch.linspace(-8, 8, 2001)
    with torch.no_grad():
        joint = ga.density(model().decode(grid[:, None, None].expand(-1, 5, 1)), repeat(x, 2001)).value
        want = torch.logsumexp(joint + Normal(0, 1).log_prob(grid)[:, None], 0) + math.log(16 / 2000)
    bound = ImportanceWeighted(40_000)(model(), x)
    assert bound.stderr is not None and float(bound.stderr.max()) < 0.02
    assert bool(((bound.value - want).abs() <= 5 * bound.stderr + 1e-3).all())
    assert bound.measure == Measure(0, sum({"picture": 4, "label": 1}[n] for n in names))


def test_the_order_of_names_means_nothing() -> None:
    model, x = LatentVariable(StandardNormal((1,)), decoder(), encoder()), pictures(5)
    turned = {"label": x["label"], "picture": x["picture"]}
    values = []
    for given in (x, turned):
        torch.manual_seed(1)
        values.append(ga.density(model(), given).value)
    assert torch.equal(*values)


def test_training_on_all_and_on_each_alone_translates_between_them(tmp_path: Path) -> None:
    model = LatentVariable(StandardNormal((2,)), decoder(2), encoder(2))
    objective = ELBO() + OnParts(ELBO(), ("picture",)) + OnParts(ELBO(), ("label",))
    data = pictures(512)
    loader: Any = DataLoader([dict(rows(data, i).parts) for i in range(512)], batch_size=64)
    training = ga.Training(Adam(0.01))
    noted: dict[str, Tensor] = {}
    for step in ga.fit(model, objective, (batch for _ in range(40) for batch in loader), training=training):
        noted = step.terms
    assert {"reconstruction", "picture/kl/z", "label/kl/z"} <= noted.keys()
    test = pictures(300)
    z = model().infer(test.only("picture")).sample((50,))
    guess = model().decode(z).parts["label"].logits.log_softmax(-1).logsumexp(0).argmax(-1)
    assert float((guess == test["label"]).float().mean()) > 0.95
    ga.save(model, tmp_path / "model.safetensors")
    again = ga.load(tmp_path / "model.safetensors")
    values = []
    for each in (model, again):
        torch.manual_seed(2)
        values.append(ga.density(each(), test).value)
    assert torch.equal(*values) and again.event_shape == event({"picture": (1, 2, 2), "label": ()})


def test_labels_reach_every_part_and_expert() -> None:
    model = LatentVariable(StandardNormal((1,)), decoder(1, ((2,),)), encoder(1, ((2,),)), context_shapes=((2,),))
    again, x, c = from_spec(*to_spec(model)), pictures(4), torch.randn(4, 2)
    values = []
    for each, context in ((model, c), (again, c), (model, c + 1)):
        torch.manual_seed(2)
        values.append(ga.density(each(context), x).value)
    assert torch.equal(values[0], values[1]) and not torch.allclose(values[0], values[2])
    assert leading(model(c).sample(), model.event_shape) == (4,)


def test_a_shard_of_records_is_rows_of_every_part() -> None:
    x, results = Record(observed(8)), []
    masked = Record({"left": x["left"], "right": Masked.present(x["right"], torch.arange(8) % 2 == 0)})
    for shards in (1, 4):
        torch.manual_seed(0)
        model = Product({n: Line((), 1.0).part() for n in SLOPES})
        list(ga.fit(model, MaximumLikelihood(), [Batch(masked)] * 3, training=ga.Training(shards=shards)))
        results.append(torch.cat([p.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*results, atol=1e-6, rtol=0)


def test_a_part_may_be_of_any_family_and_lack_rows() -> None:
    """A flow takes no Masked, a Beta no zero; absent rows change neither densities nor gradients."""
    flow = Flow(StandardNormal((2,)), [Logit(1.0)], (2,))
    beta = Conditional(Beta(), MLP(((1,),), 4, (4,)), (2,), ((1,),))
    model = Product({"flow": flow, "beta": beta})
    there = torch.tensor([True, False, True])
    inside = torch.rand(3, 2)
    absent = inside.where(there[:, None], 0.0).requires_grad_()
    record = Record({"flow": Masked.present(absent, there), "beta": Masked.present(absent, there)})
    context = torch.randn(3, 1)
    value = ga.density(model(context), record).value
    whole = ga.density(model(context), {"flow": inside, "beta": inside}).value
    torch.testing.assert_close(value, whole.where(there, 0.0))
    value.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert absent.grad is not None and torch.isfinite(absent.grad).all()


def test_holes_inside_a_part_need_a_likelihood_that_takes_them() -> None:
    x, mask = torch.randn(3, 2), torch.tensor([[True, False], [True, True], [False, False]])
    gaussian, flow = Conditional(Gaussian(), MLP((), 4, ()), (2,), ()), Flow(StandardNormal((2,)), [Logit(1.0)], (2,))
    evidence = ga.density(Product({"a": gaussian})(), {"a": Masked(x, mask)})
    elements = gaussian().element_log_prob(x)
    torch.testing.assert_close(evidence.value, elements.where(mask, 0.0).sum(-1))
    with pytest.raises(Unavailable, match="missing or padded"):
        ga.density(Product({"a": flow})(), {"a": Masked(x, mask)})


def test_a_posterior_may_take_the_whole_record_as_one_vector() -> None:
    shapes = (RecordShape({"picture": (1, 2, 2), "label": ()}),)
    posterior = Conditional(Gaussian(), MLP(shapes, 2, (8,)), (1,), shapes)
    model = LatentVariable(StandardNormal((1,)), decoder(), posterior)
    assert ga.density(from_spec(*to_spec(model))(), pictures(3)).value.shape == (3,)


def test_the_latent_panel_reads_records() -> None:
    panel = latent_panel(LatentVariable(StandardNormal((1,)), decoder(), encoder()), pictures(80), samples=20, refine=3)
    assert panel["elbo"].known and panel["kl"].known and panel["importance_weighted"].value >= panel["elbo"].value - 0.05


def test_what_does_not_fit_is_refused_in_words() -> None:
    x, model = observed(), exact()()
    with pytest.raises(ValueError, match="a part named 'middle', expected some of"):
        ga.density(model, {**x, "middle": x["left"]})
    with pytest.raises(ValueError, match="expected one batch of rows"):
        ga.density(model, {"left": x["left"], "right": x["right"][:2]})
    with pytest.raises(ValueError, match="found a Tensor as an observation, expected a record"):
        ga.density(model, x["left"])
    with pytest.raises(ValueError, match=r"found a record of \['left', 'right'\]"):
        ga.density(StandardNormal((1,))(), x)
    with pytest.raises(ValueError, match="without parts"):
        Record({})
    with pytest.raises(KeyError, match="expected one of the parts"):
        Record(x)["middle"]
    with pytest.raises(Unavailable, match="needs records of named parts; found a Tensor"):
        OnParts(ELBO(), ("left",)).check(Play(exact(), Batch(x["left"])))
    experts: dict[str, nn.Module] = {"left": StandardNormal((1,))}
    with pytest.raises(ValueError, match="without its modality"):
        ProductOfExperts(experts)


def test_nothing_observed_is_the_prior_in_the_models_own_precision() -> None:
    model = exact().double()
    nowhere = Masked.present(torch.full((3, 1), torch.nan, dtype=torch.float64), torch.zeros(3))
    posterior = model().infer(Record({"left": nowhere, "right": nowhere}))
    assert posterior.loc.dtype == torch.float64 and posterior.batch_shape == (3,)
    assert bool((posterior.loc == 0).all()) and bool((posterior.scale == 1).all())
    assert ga.density(model(), {"left": nowhere, "right": nowhere}).value.tolist() == [0.0, 0.0, 0.0]
