"""Flow++, augmented and neural autoregressive flows as recipes: which noise, which network, which refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genalloy.data.load import load_data
from genalloy.data.space import Space
from genalloy.networks.attention import AttentionConfig, AttentionNet
from genalloy.recipes.composition import Target
from genalloy.recipes.surjective import augmented, flow_plus_plus, image_noise, naf, squeezes
from genalloy.transforms.linear import PLU
from genalloy.transforms.observation import Dequantise


def noises(model: torch.nn.Module) -> list[object]:
    return [m.noise for m in model.modules() if isinstance(m, Dequantise)]


def test_noise_is_learned_on_integers_and_only_where_asked() -> None:
    digits, reals = Target.of(load_data("digits", limit=50)), Target.of(load_data("8gaussians", limit=50))
    assert noises(flow_plus_plus(digits, 2).model)[0] is not None
    assert noises(flow_plus_plus(digits, 2, variational=False).model) == [None]
    assert noises(flow_plus_plus(reals, 2).model) == []
    attends = [any(isinstance(m, AttentionNet) for m in flow_plus_plus(t, 2).model.modules()) for t in (digits, reals)]
    assert attends == [True, False]


def test_images_are_squeezed_until_attention_is_affordable() -> None:
    assert [s.shape for s in squeezes((1, 8, 8))] == [(1, 8, 8)]
    assert [s.shape for s in squeezes((1, 28, 28))] == [(1, 28, 28), (4, 14, 14)]


def test_image_noise_starts_next_to_uniform() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        u, evidence = image_noise((1, 8, 8), 2, AttentionConfig(8, 1, 2))(torch.zeros(50, 1, 8, 8)).draw()
    assert u.shape == (50, 1, 8, 8) and evidence.value.mean() / 64 < 0.02 and (u.mean() - 0.5).abs() < 0.02


@pytest.mark.parametrize("recipe", [augmented, naf])
def test_784_dimensions_stay_finite(recipe) -> None:
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)
    model = recipe(Target.of(load_data(pixels)), layers=1, width=8).model
    with torch.no_grad():
        assert model().density(torch.randint(0, 256, (4, 1, 28, 28)).float()).value.isfinite().all()


def test_an_augmented_flow_starts_with_data_and_noise_rotated_into_each_other() -> None:
    """Where couplings part data from independent noise, no gradient says that noise is of use."""
    torch.manual_seed(0)
    model = augmented(Target(Space((2,)), torch.zeros(2), torch.ones(2), 64), layers=4, width=8).model
    mixing = [m for m in model.modules() if isinstance(m, PLU)]
    assert len(mixing) == 4
    for m in mixing:
        lower, upper = m._factors()
        matrix = (lower @ upper)[m.permutation]
        torch.testing.assert_close(matrix @ matrix.t(), torch.eye(4), rtol=1e-4, atol=1e-5)
        assert matrix[:2, 2:].abs().max() > 1e-3
