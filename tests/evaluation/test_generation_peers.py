"""The same numbers as torch-fidelity and prdc on the same features, and prdc's published example."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sample_truths import normal, value
from torch import Tensor

from genalloy.evaluation.class_scores import classifier_score
from genalloy.evaluation.frechet import frechet
from genalloy.evaluation.kernel import Cubic, kernel_distance
from genalloy.evaluation.neighbours import prdc

PUBLISHED = {"precision": 0.4772, "recall": 0.4705, "density": 1.0555, "coverage": 0.9735}


@pytest.fixture(scope="module")
def fidelity() -> SimpleNamespace:
    try:
        from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc
    except (ImportError, RuntimeError) as error:
        # torchvision raises RuntimeError where its build does not fit torch's
        pytest.skip(f"torch-fidelity cannot be imported ({error}); install the extra `peers`")
    return SimpleNamespace(fid=metric_fid, isc=metric_isc, kid=metric_kid, prc=metric_prc)


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    return normal(700, 12, 0) @ normal(12, 12, 5) / 3 + 0.2, normal(700, 12, 1)


@pytest.mark.peer
def test_frechet_equals_torch_fidelity(fidelity: SimpleNamespace, pair: tuple[Tensor, Tensor]) -> None:
    stats = [fidelity.fid.fid_features_to_statistics(x) for x in pair]
    theirs = fidelity.fid.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert value(frechet(*pair)) == pytest.approx(theirs, rel=1e-4)


@pytest.mark.peer
def test_kernel_distance_equals_torch_fidelity(fidelity: SimpleNamespace, pair: tuple[Tensor, Tensor]) -> None:
    options = {"kid_subsets": 1, "kid_subset_size": 700, "verbose": False}
    theirs = fidelity.kid.kid_features_to_metric(*pair, **options)["kernel_inception_distance_mean"]
    assert value(kernel_distance(*pair, Cubic())) == pytest.approx(theirs, rel=1e-4)


@pytest.mark.peer
def test_precision_and_recall_equal_torch_fidelity(fidelity: SimpleNamespace, pair: tuple[Tensor, Tensor]) -> None:
    fake, real = pair
    precision, recall = fidelity.prc.calculate_precision_recall_full(fake, real, neighborhood=5)
    ours = prdc(real, fake, k=5)
    assert (value(ours["precision"]), value(ours["recall"])) == pytest.approx((precision, recall), abs=1e-4)


@pytest.mark.peer
def test_classifier_score_equals_torch_fidelity(fidelity: SimpleNamespace) -> None:
    logits = 3 * normal(700, 10, 3)
    theirs = fidelity.isc.isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    assert value(classifier_score(logits.softmax(1))) == pytest.approx(theirs, rel=1e-4)


@pytest.mark.peer
def test_prdc_equals_prdc(pair: tuple[Tensor, Tensor]) -> None:
    theirs = pytest.importorskip("prdc", reason="prdc is not installed").compute_prdc(pair[1].numpy(), pair[0].numpy(), 5)
    assert {name: value(v) for name, v in prdc(pair[1], pair[0], 5).items()} == pytest.approx(theirs, abs=1e-9)


@pytest.mark.slow
def test_published_example_of_prdc() -> None:
    """Two sets of 10,000 draws from N(0, I) in 1,000 dimensions, k = 5, published from one run without a seed.

    Density is 1 in expectation for equal laws, and a few hubs make one run's value vary by 0.03, so it is held to its own error;
    the others to 0.02. Seeds (0, 1), (2, 3), (4, 5), (6, 7): precision .487 .478 .466 .479, recall .469 .493 .492 .480,
    density 1.017 .978 .954 .987, coverage .970 .971 .963 .970.
    """
    found = prdc(normal(10_000, 1000, 0), normal(10_000, 1000, 1), k=5)
    for name in ("precision", "recall", "coverage"):
        assert value(found[name]) == pytest.approx(PUBLISHED[name], abs=0.02), name
    density = found["density"]
    assert density.stderr < 0.05 and abs(density.value - PUBLISHED["density"]) < 2 * density.stderr
