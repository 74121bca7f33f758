"""The recipe of PixelCNN++: which head and how many resolutions it takes, that it learns, and labels."""

from __future__ import annotations

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.distribution import density
from genalloy.core.evidence import Kind
from genalloy.core.spec import from_spec, to_spec
from genalloy.data.space import Space
from genalloy.heads.discrete import Bernoulli, LogisticMixture
from genalloy.heads.logistic import ContinuousLogisticMixture
from genalloy.recipes.composition import Target
from genalloy.recipes.plusplus import pixelcnn_plus_plus
from genalloy.training.fit import fit

CASES = {
    "bits": (Space((2, 4, 4), "image", 2), Bernoulli, 1),
    "digits": (Space((1, 8, 8), "image", 17), LogisticMixture, 2),
    "colours": (Space((3, 16, 20), "image", 256), LogisticMixture, 3),
    "reals": (Space((1, 4, 4), "image"), ContinuousLogisticMixture, 1),
}


def target(space: Space, classes: int = 0) -> Target:
    return Target(space, torch.full(space.shape, 1.0), torch.full(space.shape, 2.0), 100, classes)


@pytest.mark.parametrize("name", CASES)
def test_the_space_decides(name: str) -> None:
    space, head, resolutions = CASES[name]
    torch.manual_seed(0)
    model = pixelcnn_plus_plus(target(space), features=4).model.eval()
    part = model if space.levels else model.base
    assert type(part.head) is head and part.network.network.streams.resolutions == resolutions
    x = torch.randint(0, space.levels or 5, (2, *space.shape)).float()
    found = density(model(), x)
    assert found.kind is Kind.EXACT and bool(torch.isfinite(found.value).all())
    torch.testing.assert_close(density(from_spec(*to_spec(model)).eval()(), x).value, found.value)


def test_it_learns_labels() -> None:
    """Images of one level, chosen by the label: a few steps bring the density near to certainty, given the right label."""
    torch.manual_seed(0)
    space = Space((1, 4, 4), "image", 3)
    composition = pixelcnn_plus_plus(target(space, 2), features=6, conditional=True, dropout=0.0)
    labels = torch.tensor([0.0, 1.0]).repeat(8)
    batch = Batch((2 * labels)[:, None, None, None].expand(16, 1, 4, 4).clone(), labels)
    phase = composition.each()[0]
    for _ in fit(composition.model, phase.objective, [batch] * 40, training=phase.planned(40, 0)):
        pass
    model = composition.model.eval()
    with torch.no_grad():
        right, wrong = (density(model(c), batch.x).value.mean() for c in (labels, 1 - labels))
    assert float(right) > -8 > float(wrong) + 5


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pixelcnn\+\+ needs images"):
        pixelcnn_plus_plus(target(Space((2,), "points")))
    with pytest.raises(ValueError, match="needs labels"):
        pixelcnn_plus_plus(target(Space((1, 4, 4), "image", 2)), conditional=True)
