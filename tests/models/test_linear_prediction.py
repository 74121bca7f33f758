"""Linear prediction on a grid: its masses, its fit, its steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.core.observations import Masked
from genalloy.core.spec import from_spec, to_spec
from genalloy.heads.audio import mu_law_decode, mu_law_encode
from genalloy.laws.stepwise import cached_equals_naive
from genalloy.laws.subject import Subject, perturb_parameters
from genalloy.models.linear_prediction import EvenGrid, GridLogistic, LinearPrediction, MuLawGrid


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def hum(rows: int, length: int, sharp: Tensor) -> Tensor:
    """v_t = 2 r cos(w) v_{t-1} - r^2 v_{t-2} + noise, w by row; mu-law codes (rows, length)."""
    v = [torch.zeros(rows), torch.zeros(rows)]
    for _ in range(length):
        v.append(1.9 * torch.cos(sharp) * v[-1] - 0.9025 * v[-2] + 0.01 * torch.randn(rows))
    return mu_law_encode(torch.stack(v[2:], 1).clamp(-1, 1))


@pytest.mark.parametrize("grid", [MuLawGrid(), EvenGrid()])
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_masses_sum_to_one(grid: MuLawGrid | EvenGrid, levels: int) -> None:
    centre = torch.tensor([-1.5, -0.3, 0.0, 0.2, 0.9], dtype=torch.float64)
    parameters = torch.stack([centre, torch.tensor([-6.0, -3.0, -1.0, 0.0, 2.0], dtype=torch.float64)], -1)
    every = torch.arange(levels, dtype=torch.float64)[:, None]
    mass = GridLogistic(levels, grid)(parameters, 0).element_log_prob(every).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("grid", [MuLawGrid(), EvenGrid()])
def test_masses_are_those_of_the_samples(grid: MuLawGrid | EvenGrid) -> None:
    factor = GridLogistic(5, grid)(torch.tensor([0.1, -1.0]), 0)
    drawn = factor.rsample((40_000,))
    found = torch.stack([(drawn == k).float().mean() for k in range(5)])
    torch.testing.assert_close(found, factor.element_log_prob(torch.arange(5.0)).exp(), rtol=0, atol=0.01)


def test_extreme_parameters_stay_finite() -> None:
    parameters = torch.tensor([[0.0, -30.0], [1.0, 20.0], [-20.0, -5.0]])
    value = GridLogistic(256)(parameters, 0).element_log_prob(torch.tensor([[0.0], [127.0], [255.0]]))
    assert not value.isnan().any() and (value <= 0).all()


@pytest.mark.parametrize("classes", [0, 2])
def test_the_first_batch_solves_for_the_coefficients(classes: int) -> None:
    label = torch.arange(60.0) % 2
    tones = torch.tensor([0.4, 1.2])[label.long()] if classes else torch.full((60,), 0.4)
    x = hum(60, 400, tones)
    part = LinearPrediction((400,), order=2, classes=classes, loudness=False)
    part.initialise(x, label if classes else None)
    weights = part.inner.network.weights
    expected = [[-0.9025, 1.9 * float(torch.cos(torch.tensor(w)))] for w in ([0.4, 1.2] if classes else [0.4])]
    torch.testing.assert_close(weights.detach(), torch.tensor(expected), rtol=0, atol=0.06)


def test_padding_does_not_enter_the_fit() -> None:
    x = hum(40, 300, torch.full((40,), 0.4))
    short = torch.full((40,), 100)
    padded = x.clone()
    padded[:, 100:] = 255.0
    fitted = []
    for rows in (x[:, :100], Masked.first(padded, short)):
        part = LinearPrediction((rows.shape[1],), order=2)
        part.initialise(rows)
        fitted.append(torch.cat([part.inner.network.weights[0], part.inner.network.floor[None]]).detach())
    torch.testing.assert_close(*fitted)


def test_a_class_that_the_batch_lacks_gets_the_fit_to_all() -> None:
    x = hum(20, 200, torch.full((20,), 0.4))
    part = LinearPrediction((200,), order=2, classes=3)
    part.initialise(x, torch.zeros(20))
    weights = part.inner.network.weights
    torch.testing.assert_close(weights[1], weights[0])
    torch.testing.assert_close(weights[2], weights[0])


@pytest.mark.parametrize("loudness", [False, True])
@pytest.mark.parametrize("order", [1, 3, 12])
def test_steps_equal_the_parallel_pass(order: int, loudness: bool) -> None:
    part = perturb_parameters(LinearPrediction((8,), 16, order, loudness=loudness))
    cached_equals_naive(Subject(part, (8,), (), True, 16))


def test_each_label_has_its_own_coefficients() -> None:
    part = perturb_parameters(LinearPrediction((8,), 16, 3, classes=2))
    x = part(torch.zeros(())).sample((5,))
    both = part(torch.tensor([0.0, 1.0])).density(x[:, None]).value
    for label in (0, 1):
        torch.testing.assert_close(both[:, label], part(torch.tensor(float(label))).density(x).value)
    assert not torch.equal(both[:, 0], both[:, 1])


def test_loudness_widens_the_residual() -> None:
    part = LinearPrediction((30,), 256, 4)
    quiet, loud = torch.full((30,), 128.0), torch.full((30,), 250.0)
    scales = [part.inner.network(x)[..., -1, 1] for x in (quiet, loud)]
    assert scales[1] > scales[0]


def test_saved_and_rebuilt() -> None:
    part = LinearPrediction((8,), 16, 3, classes=2, loudness=False, grid=EvenGrid())
    again = from_spec(*to_spec(part))
    x, c = torch.randint(16, (4, 8)).float(), torch.tensor([0.0, 1.0, 1.0, 0.0])
    torch.testing.assert_close(again(c).density(x).value, part(c).density(x).value)


def test_grids_round_trip() -> None:
    codes = torch.arange(256.0)
    for grid in (MuLawGrid(), EvenGrid()):
        assert torch.equal(grid.encode(grid.decode(codes, 256), 256), codes)
    assert torch.equal(MuLawGrid().decode(codes, 256), mu_law_decode(codes))


def test_events_that_are_no_sequence_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found events \(4, 3\) and order 24"):
        LinearPrediction((4, 3))
