"""Labels in runs: where they are wanted, asked for, passed on, and what is said where they are missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from torch import nn

from genalloy.core.distribution import density
from genalloy.core.evidence import Kind
from genalloy.core.part import Conditional, Embedded, Unconditional
from genalloy.data.dataset import Dataset
from genalloy.data.load import load_data
from genalloy.evaluation.class_scores import label_agreement
from genalloy.evaluation.features import PCA
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.latent import LatentVariable
from genalloy.models.mixture import over_labels
from genalloy.networks.labels import LabelEmbedding
from genalloy.networks.mlp import MLP
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.registry import find
from genalloy.runs.batches import BatchOrder, Rows, batches
from genalloy.runs.create import RunData, create_run, write_data
from genalloy.runs.export import labels_of, write_drawn
from genalloy.runs.labels import asked_labels, context_of, cycled, drawn_labels, label_law
from genalloy.runs.score import sample, score
from genalloy.runs.settings import RunSettings
from genalloy.runs.train import Trainer
from genalloy.studies.compare import ComparisonSettings
from genalloy.studies.figures import walks, write_pictures
from genalloy.studies.panels import Evaluation, EvaluationSettings, run_panels
from genalloy.training.options import Adam, Training

PANELS_TRIED = ("density", "generation", "accuracy", "outliers", "latent", "cost")
CENTRES = torch.tensor([[-4.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 6.0, 0.0]])


def points(rows: int = 600) -> Dataset:
    """Three clouds of points in space, and the cloud as label; every sixth row is of the third."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 0, 1, 0, 2]).repeat(rows // 6)
    x = CENTRES[labels] + 0.3 * torch.randn(rows, 3, generator=generator)
    return load_data((x.numpy(), labels.numpy()), seed=0)


def composition(target: Target) -> Composition:
    """p(x | label): a Gaussian whose parameters are an embedding of the label."""
    labels = target.labels("clouds")
    inner = Conditional(Gaussian(), nn.Identity(), (3,), ((6,),))
    model = Embedded(inner, LabelEmbedding(labels.classes, 6), ((),))
    return Composition(model, [Phase(MaximumLikelihood(), Training(Adam(0.1)), batch=64)], 250, labels)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    torch.manual_seed(0)
    dataset, settings = points(), RunSettings("clouds", "clouds", planned=(250,))
    trainer = Trainer(composition(Target.of(dataset)), dataset, settings, None)
    for _ in trainer.run():
        pass
    return trainer


def test_batches_carry_the_rows_own_labels() -> None:
    dataset = points()
    rows = Rows.of(composition(Target.of(dataset)), dataset)
    batch = next(batches(rows, BatchOrder(len(rows.x), 16, 0), 0, None, nn.Identity()))
    assert torch.equal(batch.context, dataset.labels["train"][batch.index].float()) and batch.context.dtype == torch.float32
    assert torch.equal(batch.x, dataset.train[batch.index])
    plain = Rows.of(Composition(nn.Identity(), [], 1), dataset)  # type: ignore[arg-type]
    assert plain.labels is None and plain.batch(batch.index).context is None


def test_a_conditional_model_is_validated_scored_and_sampled_under_labels(trainer: Trainer) -> None:
    dataset, model = trainer.dataset, trainer.model
    # -E log N(0.3) in three dimensions: the label tells the cloud
    best = -3 * (0.5 + 0.5 * np.log(2 * np.pi) + np.log(0.3))
    assert max(value for _, value in trainer.memory.validation) == pytest.approx(best, abs=1.2)
    labels = context_of(model, dataset, "test")
    scores = score(model, dataset.test, context=labels)
    assert scores.kind is Kind.EXACT and scores.how.endswith("given the label") and scores.mean() == pytest.approx(best, abs=1.2)
    chunked = score(model, dataset.test, chunk=7, context=labels)
    torch.testing.assert_close(chunked.value, scores.value)
    assert score(model, dataset.test, context=(labels + 1) % 3).mean() < best - 10
    asked = cycled(model, 3, 9)
    drawn = sample(model, 9, chunk=4, context=asked)
    assert asked.tolist() == [0, 1, 2] * 3 and torch.cdist(drawn, CENTRES).argmin(1).tolist() == asked.tolist()


def test_samples_for_metrics_follow_the_shares_of_the_classes(trainer: Trainer) -> None:
    drawn = drawn_labels(trainer.model, trainer.dataset, 3000, 0)
    assert (drawn == 2).float().mean().item() == pytest.approx(1 / 6, abs=0.03)
    assert drawn_labels(nn.Identity(), trainer.dataset, 5, 0) is None and cycled(nn.Identity(), 0, 5) is None


def test_panels_are_given_labels_or_say_why_not(trainer: Trainer, tmp_path: Path) -> None:
    dataset = trainer.dataset
    features = PCA(2).fit(dataset.train)
    it = Evaluation(trainer.model.eval(), dataset, features, 0, EvaluationSettings(PANELS_TRIED, samples=60))
    found = run_panels(it)
    marginal, given = found["density"]["density"], found["density"]["conditional"]
    assert marginal.kind == given.kind is Kind.EXACT and "given the label" in given.how and "sum over 3 labels" in marginal.how
    assert (marginal.given, given.given) == ("", "the label") and marginal.value < given.value
    assert found["accuracy"]["accuracy"].value == 1.0
    assert "Bayes' rule on log p(x | y), EXACT" in found["accuracy"]["accuracy"].how
    by_label = [found["accuracy"][f"sample_accuracy: {name}"] for name in dataset.label_names]
    whole = found["accuracy"]["sample_accuracy"]
    assert whole.value > 0.9 and sum(each.n * each.value for each in by_label) == pytest.approx(60 * whole.value)
    rows, truth = dataset.test, dataset.labels["test"]
    assert label_agreement(dataset, features, rows, truth)["sample_accuracy: 1"].value == 1.0
    assert label_agreement(dataset, features, rows, (truth + 1) % 3)["sample_accuracy"].value == 0.0
    assert "a classifier on pca-2, right on 1.000 of the test rows" in found["accuracy"]["sample_accuracy"].how
    assert found["outliers"]["outliers"].value > 0.9 and "EXACT log-density" in found["outliers"]["outliers"].how
    assert found["generation"]["kernel_distance"].value < 0.1 and found["cost"]["density_evaluations"].value == 1
    write_pictures(trainer.model, dataset, it.drawn, tmp_path)
    shown = np.load(tmp_path / "pictures.npz")["samples"]
    assert torch.cdist(torch.from_numpy(shown[:6]), CENTRES).argmin(1).tolist() == [0, 1, 2] * 2, "one class after the other"


def test_the_marginal_sums_the_labels_and_keeps_the_claim_that_the_algebra_allows() -> None:
    """log sum_y p(y) p(x | y) of a part whose law is known; a proper bound stays one, a difference of noises does not."""
    dataset = points()
    law = label_law(dataset)
    assert law.exp().sum().item() == pytest.approx(1.0) and law[2] == law.min()
    part = Embedded(Conditional(Gaussian(), nn.Linear(6, 6), (3,), ((6,),)), LabelEmbedding(3, 6), ((),))
    whole, x = over_labels(part, law), dataset.test
    each = torch.stack([part(torch.full((len(x),), float(k))).log_prob(x) + law[k] for k in range(3)])
    found = whole().density(x)
    assert found.kind is Kind.EXACT and whole.context_shapes == ()
    torch.testing.assert_close(found.value, each.logsumexp(0))
    below = whole().estimated(x, lambda d, x: density(d, x).below("one sample"))
    assert below.kind is Kind.LOWER and below.proper
    loose = whole().estimated(x, lambda d, x: density(d, x).below("random t", proper=False))
    assert loose.kind is Kind.ESTIMATE


def test_a_latent_model_given_labels_is_bounded_by_the_importance_of_every_label() -> None:
    dataset = points()
    likelihood = Conditional(Gaussian(), MLP(((2,), ()), 6, (8,)), (3,), ((2,), ()))
    posterior = Conditional(Gaussian(), MLP(((3,), ()), 4, (8,)), (2,), ((3,), ()))
    model = LatentVariable(Unconditional(StandardNormal((2,))), likelihood, posterior, (3,), ((),))
    it = Evaluation(model.eval(), dataset, PCA(2).fit(dataset.train), 0, EvaluationSettings(("density",), importance=50))
    cells = run_panels(it)["density"]
    assert cells["density"].kind == cells["bound"].kind == cells["conditional"].kind is Kind.LOWER
    assert cells["bound"].value < cells["density"].value and "importance" in cells["density"].how
    assert not cells["density"].given and cells["conditional"].given == "the label"


def test_accuracy_of_bayes_rule_weighs_the_classes() -> None:
    """Two identical clouds: the answer is the more frequent label."""
    from genalloy.evaluation.accuracy import accuracy_panel

    x, y = torch.randn(800, 3), (torch.arange(800) % 4 == 0).long()
    dataset = load_data((x.numpy(), y.numpy()))
    model = Embedded(Conditional(Gaussian(), nn.Identity(), (3,), ((6,),)), LabelEmbedding(2, 6), ((),))
    nn.init.zeros_(model.network.weight)
    share = (dataset.labels["test"] == 0).double().mean().item()
    assert accuracy_panel(model, dataset)["accuracy"].value == pytest.approx(share)
    assert "no labels" in accuracy_panel(model, replace(dataset, labels={}))["accuracy"].reason


def test_labels_are_asked_for_where_there_are_none() -> None:
    target = Target.of(load_data("8gaussians", limit=50))
    with pytest.raises(ValueError, match="hybrid-flow needs labels; the data have no labels: give --label COLUMN"):
        find("hybrid-flow")(target)
    dataset = points()
    with pytest.raises(ValueError, match="the test part of array has no labels"):
        context_of(composition(Target.of(dataset)).model, replace(dataset, labels={"train": dataset.labels["train"]}), "test")


def test_new_rows_bring_labels_in_the_users_words(tmp_path: Path, trainer: Trainer) -> None:
    dataset = trainer.dataset
    facts = RunData("x", dataset.space, dataset.form, {}, ("blue", "red", "2"))
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c,k\n" + "1,2,3.5,red\n0.5,1,2,blue\n" * 10, encoding="utf-8")
    assert labels_of(facts, trainer.model, str(path), "k").tolist() == [1.0, 0.0] * 10
    assert labels_of(facts, nn.Identity(), str(path), "k") is None
    with pytest.raises(ValueError, match="has none; give --label COLUMN"):
        labels_of(facts, trainer.model, str(path), None)
    with pytest.raises(ValueError, match="has the label 'blue'; the model was trained on red"):
        labels_of(RunData("x", dataset.space, dataset.form, {}, ("red",)), trainer.model, str(path), "k")


def test_labels_that_are_asked_for() -> None:
    classes = ("cat", "dog", "7")
    assert asked_labels(["label=dog"], classes, None, 3).tolist() == [1, 1, 1]
    assert asked_labels(["label=7, cat"], classes, None, 5).tolist() == [2, 2, 2, 0, 0]
    assert asked_labels(["animal=cat", "label=dog"], classes, "animal", 4).tolist() == [0, 0, 1, 1]
    for wrong, words in (
        ("label=dot", "found no label 'dot', expected one of cat, dog, 7; did you mean 'dog'"),
        ("colour=cat", "expected label or animal=VALUE"),
        ("cat", "expected label or animal=VALUE"),
        ("label=", "found no label ''"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            asked_labels([wrong], classes, "animal", 4)


def test_samples_are_written_beside_their_labels(tmp_path: Path, trainer: Trainer) -> None:
    write_data(trainer.dataset, tmp_path, "kind")
    facts = RunData.read(tmp_path)
    assert facts.label == "kind" and facts.label_law.exp().sum().item() == pytest.approx(1.0)
    torch.testing.assert_close(facts.label_law, label_law(trainer.dataset))
    write_drawn(trainer.model.eval(), facts, None, 8, tmp_path / "s.csv", 0, labels=["kind=2,0"])
    frame = pandas.read_csv(tmp_path / "s.csv")
    assert frame["kind"].tolist() == [2] * 4 + [0] * 4
    rows = torch.from_numpy(frame.drop(columns="kind").to_numpy()).float()
    assert torch.cdist(rows, CENTRES).argmin(1).tolist() == frame["kind"].tolist()
    write_drawn(trainer.model, facts, None, 6, tmp_path / "s.npz", 0)
    held = np.load(tmp_path / "s.npz")
    assert held["kind"].tolist() == [0, 1, 2, 0, 1, 2] and held["samples"].shape == (6, 3)
    with pytest.raises(ValueError, match="takes no label"):
        write_drawn(nn.Identity(), facts, None, 1, tmp_path / "s.csv", 0, labels=["kind=2"])
    with pytest.raises(ValueError, match="kept the shares of 0 labels of 3"):
        replace(facts, counts=()).label_law  # noqa: B018


@pytest.mark.parametrize("kind", ["residual", "conv1x1", "coupling"])
def test_hybrid_flows_run_and_resume_to_the_same_numbers(kind: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    dataset = load_data("digits", limit=150)
    settings = RunSettings("hybrid-flow", "digits", limit=150, settings={"kind": kind, "blocks": 1, "width": 8}, steps=6)
    whole = create_run(settings, None, dataset)
    steps = list(whole.run())
    assert len(steps) == 6 and any("label_given_x" in name for name in steps[-1].figures)
    part = create_run(settings, tmp_path, dataset)
    for step in part.run():
        if step.done == 3:
            part.checkpoint()
            break
    resumed = Trainer.resume(tmp_path, dataset, RunSettings.read(tmp_path))
    for _ in resumed.run():
        pass
    for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)
    assert json.loads((tmp_path / "data.json").read_text())["classes"] == [str(i) for i in range(10)]
    found = run_panels(
        Evaluation(resumed.model.eval(), dataset, PCA(2).fit(dataset.train), 0, EvaluationSettings(("accuracy",)))
    )["accuracy"]
    assert 0 <= found["accuracy"].value <= 1 and "the model's own p(label | x)" in found["accuracy"].how
    assert set(found) >= {"ece", "brier", "nll"}


def test_a_kind_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="kind='dense', expected one of residual, conv1x1, coupling"):
        find("hybrid-flow")(Target.of(load_data("digits", limit=50)), kind="dense")


def test_labelled_vectors_and_odd_pictures_are_flattened() -> None:
    for shape in ((3,), (1, 3, 3)):
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(60, *shape[-2:])).astype(np.float32)
        target = Target.of(load_data((rows, np.arange(60) % 2)))
        model = find("hybrid-flow")(target, kind="conv1x1", blocks=1, width=8).model
        x = torch.from_numpy(rows).reshape(60, *target.space.shape)
        assert model().label_given_x(x).logits.shape == (60, 2) and model().sample((2,)).shape == (2, *target.space.shape)


def test_codes_of_a_flow_that_decodes_to_rows_are_walked() -> None:
    """A continuous flow's decode(z) gives rows, a latent model's a distribution."""
    dataset = points(60)
    model = find("ffjord")(Target.of(dataset), width=8).model.eval()
    found = walks(model, dataset.test.repeat(4, 1))
    assert found["interpolations"].shape[-1] == 3 and bool(found["interpolations"].isfinite().all())


def test_a_comparison_has_rows_with_settings(tmp_path: Path) -> None:
    comparison = ComparisonSettings("digits", ("made", "made:conditional=true:layers=1"), 0.01, tmp_path, limit=200)
    plain, given = comparison.table(comparison.dataset()).entries
    assert plain.settings.settings == {} and given.settings.settings == {"conditional": True, "layers": 1}
    assert given.contender.name == "made:conditional=true:layers=1" and plain.run != given.run
