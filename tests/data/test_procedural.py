"""Sprites and waves: every combination once, geometry by symmetries, sound against normal modes, an exact log-density."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import hankel1

from genalloy.data.errors import BadData
from genalloy.data.load import load_data, rows
from genalloy.data.procedural import (
    BOTTOM,
    CENTRES,
    DEPTHS,
    NOISE,
    RADII,
    RANGES,
    RATE,
    RECEIVERS,
    SPEED,
    SPRITE_FACTORS,
    draw_sprites,
    field,
    images,
    ricker,
)


def sprite(*factors: int) -> torch.Tensor:
    return draw_sprites(torch.tensor([factors]))[0, 0]


def test_every_combination_of_the_sprites_is_another_picture_and_in_one_part() -> None:
    data = load_data("sprites")
    assert (len(data.train), len(data.validation), len(data.test)) == (14_746, 1_843, 1_843)
    together = torch.cat([data.train, data.validation, data.test])
    assert len(np.unique(together.flatten(1).numpy(), axis=0)) == len(together) == math.prod(SPRITE_FACTORS.values())
    assert together.min() == 0 and together.max() == 255 and torch.equal(together, together.round())
    assert data.factor_names == ("shape", "scale", "rotation", "column", "row") and data.space.levels == 256
    for part in ("train", "validation", "test"):
        assert torch.equal(draw_sprites(data.factors[part]), data.part(part))
        assert torch.equal(data.labels[part], data.factors[part][:, 0])
    assert data.restore(data.test[:2]).dtype == np.uint8 and torch.equal(data.admit(data.restore(data.test)), data.test)


def test_the_seed_cuts_and_the_limit_thins() -> None:
    first, second = load_data("sprites", seed=1, limit=50), load_data("sprites", seed=2, limit=50)
    assert len(first.train) == len(first.factors["train"]) == len(first.labels["train"]) == 50
    assert torch.equal(first.train, load_data("sprites", seed=1, limit=50).train) and not torch.equal(first.train, second.train)


@pytest.mark.parametrize("shape", range(3))
def test_a_quarter_turn_turns_the_picture(shape: int) -> None:
    # about the middle of the frame: a turn takes (column, row) to (7 - row, column)
    turned = torch.rot90(sprite(shape, 4, 3, 2, 5), -1)
    assert (turned - sprite(shape, 4, 7, 2, 2)).abs().max() <= 1
    assert (turned - sprite(shape, 4, 3, 2, 2)).abs().max() > 100


def test_factors_move_and_scale() -> None:
    axis = torch.arange(16.0)
    left, right = sprite(0, 5, 3, 1, 4), sprite(0, 5, 3, 5, 4)
    step = 4 * (CENTRES[1] - CENTRES[0]) / 7
    centre = [(picture.sum(0) * axis).sum() / picture.sum() for picture in (left, right)]
    assert (centre[1] - centre[0]).item() == pytest.approx(step, abs=0.1)
    down = (sprite(0, 5, 3, 1, 7).sum(1) * axis).sum() - (left.sum(1) * axis).sum()
    assert down > 0
    # half a disc covers pi r^2 / 2 pixels
    for scale, radius in ((0, RADII[0]), (5, RADII[1])):
        assert sprite(1, scale, 3, 3, 3).sum().item() / 255 == pytest.approx(math.pi / 2 * radius**2, rel=0.08)


def test_sound_in_free_water_arrives_when_it_should() -> None:
    source = torch.tensor([40.0], dtype=torch.float64)
    distance = torch.tensor([600.0], dtype=torch.float64)
    heard = field(distance, source, torch.tensor([55.0], dtype=torch.float64), reflection=0.0, bounces=1)[0, 0]
    time = torch.arange(64, dtype=torch.float64) / RATE - 1 / 150
    direct, mirrored = math.hypot(600, 15), math.hypot(600, 95)
    truth = ricker(time - (direct - 600) / SPEED) / direct - ricker(time - (mirrored - 600) / SPEED) / mirrored
    torch.testing.assert_close(heard, truth)


def test_soft_surface_and_hard_bottom() -> None:
    distance, source = RANGES[:4], DEPTHS[3:7]
    surface = field(distance, source, torch.zeros(1, dtype=torch.float64), reflection=1.0, bounces=20)
    assert surface.abs().max() < 1e-15
    lasting = field(distance, source, RECEIVERS, bounces=20)
    torch.testing.assert_close(field(distance, source, RECEIVERS), lasting, rtol=0, atol=1e-12)
    above = field(distance, source, BOTTOM - RECEIVERS, reflection=1.0, bounces=20)
    below = field(distance, source, BOTTOM + RECEIVERS, reflection=1.0, bounces=20)
    torch.testing.assert_close(above, below)
    assert (field(distance, source, BOTTOM - RECEIVERS) - field(distance, source, BOTTOM + RECEIVERS)).abs().max() > 1e-5


def test_images_sum_to_the_normal_modes() -> None:
    # sum of a e^{ikR} / R = i pi sum_m psi_m(z_s) psi_m(z) H_0(k_m r), psi_m = sqrt(2 / H) sin((m - 1/2) pi z / H)
    wavenumber, r, depth, z = 0.4 * (1 + 0.02j), 450.0, 35.0, 60.0
    heights, amplitudes = images(torch.tensor(depth, dtype=torch.float64), reflection=1.0, bounces=60)
    path = np.hypot(r, z - heights.numpy())
    sources = (amplitudes.numpy() * np.exp(1j * wavenumber * path) / path).sum()
    vertical = (np.arange(1, 200) - 0.5) * np.pi / BOTTOM
    shapes = 2 / BOTTOM * np.sin(vertical * depth) * np.sin(vertical * z)
    modes = 1j * np.pi * (shapes * hankel1(0, np.sqrt(wavenumber**2 - vertical**2) * r)).sum()
    assert abs(sources - modes) < 1e-6 * abs(modes)


def test_waves_follow_their_density() -> None:
    data = load_data("waves", limit=500)
    assert data.train.shape == (500, 8, 64) and data.space.kind == "sequence" and data.space.levels is None
    assert torch.equal(data.labels["test"], data.factors["test"][:, 1]) and data.factor_names == ("range", "depth")
    assert data.log_density is not None and data.entropy_optimum is not None
    log_p = data.log_density(data.test)
    assert log_p.shape == (500,) and data.log_density(data.test[0]).shape == ()
    assert log_p.mean().item() == pytest.approx(data.entropy_optimum, abs=4 * math.sqrt(256 / 500))
    # the field of its own factors is what a row keeps once the noise is averaged out; others are far away
    factors = data.factors["train"]
    heard = field(RANGES[factors[:, 0]], DEPTHS[factors[:, 1]], RECEIVERS)
    unit = (data.train * heard).sum() / heard.square().sum()
    residual = data.train - unit * heard
    assert residual.std().item() == pytest.approx(NOISE, rel=0.01)
    same = factors[:1].eq(factors).all(1)
    assert data.train[~same].sub(data.train[0]).flatten(1).norm(dim=1).min() > 1.1 * NOISE * math.sqrt(2 * 512)


def test_density_of_waves_is_the_mixture_of_all_fields() -> None:
    data = load_data("waves", limit=20)
    r, z = torch.cartesian_prod(RANGES, DEPTHS).unbind(1)
    fields = field(r, z, RECEIVERS)
    fields = (fields / fields.square().mean().sqrt()).flatten(1)
    far = data.test.flatten(1).double() + 0.3
    each = torch.distributions.Normal(fields, NOISE).log_prob(far.unsqueeze(1)).sum(-1)
    truth = each.logsumexp(1) - math.log(512)
    assert data.log_density is not None
    torch.testing.assert_close(data.log_density(far.unflatten(1, (8, 64))), truth)


def test_names() -> None:
    assert next((part, len(x), len(y)) for part, x, y in rows("sprites")) == ("train", 14_746, 14_746)
    with pytest.raises(BadData, match="did you mean 'sprites'"):
        load_data("sprite")
    with pytest.raises(BadData, match="no label column"):
        load_data("waves", label="depth")
