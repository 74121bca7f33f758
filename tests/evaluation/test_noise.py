"""The alarm for manifold overfitting: silent for a law of full dimension, loud for a thin one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from genalloy.data.dataset import Dataset
from genalloy.data.space import Column, Space
from genalloy.evaluation.metric import Panel
from genalloy.evaluation.noise import SCALES, names, noise_panel
from genalloy.models.fitted import FittedGaussian


def dataset(x: Tensor, space: Space | None = None) -> Dataset:
    half = len(x) // 2
    return Dataset("toy", space or Space(tuple(x.shape[1:])), x[:half], x[:10], x[half:])


def number(panel: Panel, name: str) -> float:
    found = panel[name]
    assert not found.missing, found
    return found.value


def thin(thickness: float) -> Callable[[Tensor], Tensor]:
    """N(0, 1) along the diagonal of the plane, `thickness` across it."""
    along, across = torch.tensor([1.0, 1.0]).double() / 2**0.5, torch.tensor([1.0, -1.0]).double() / 2**0.5
    covariance = torch.outer(along, along) + thickness**2 * torch.outer(across, across)
    law = MultivariateNormal(torch.zeros(2).double(), covariance)
    return lambda x: law.log_prob(x.double())


def on_the_line(n: int = 1000) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(n, 1).expand(n, 2) / 2**0.5


def test_a_gaussian_of_full_dimension_raises_no_alarm() -> None:
    torch.manual_seed(0)
    x = torch.randn(1000, 5) @ torch.randn(5, 5) * torch.tensor([1.0, 10.0, 0.1, 3.0, 1e-3])
    model = FittedGaussian.of(x[:500], jitter=0.0)
    panels = noise_panel(dataset(x), lambda rows: model().density(rows).value)
    for panel in panels.values():
        assert list(panel) == names(SCALES)
        assert number(panel, "alarm") == 0.0 and abs(number(panel, "growth")) < 0.01
        assert number(panel, "s=0") >= number(panel, "s=0.1")


@pytest.mark.parametrize("thickness", [1e-3, 1e-5])
def test_a_density_on_a_line_raises_it(thickness: float) -> None:
    panels = noise_panel(dataset(on_the_line()), thin(thickness))
    for panel in panels.values():
        assert number(panel, "alarm") == 1.0
        spread = 0.5 * float(on_the_line().std(0).square().sum())
        expected = 0.5 * spread * (0.003**2 - 0.001**2) / thickness**2 / math.log(3) / 2
        assert number(panel, "growth") == pytest.approx(expected, rel=0.2)
        assert "thinner than the noise" in str(panel["alarm"])


def test_an_honestly_noisy_line_does_not() -> None:
    x = on_the_line() + 0.03 * torch.randn(1000, 2)
    assert number(noise_panel(dataset(x), thin(0.03))["test"], "alarm") == 0.0


def test_collapse_onto_training_rows_shows_there_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 3)
    data = dataset(x)

    def spiked(rows: Tensor) -> Tensor:
        """A wide normal plus spikes of width 1e-4 at the training rows, unnormalised."""
        square = torch.cdist(rows.double(), data.train.double()).square()
        spikes = (-0.5 * square / 1e-8).logsumexp(1) - 3 * math.log(1e-4) - math.log(len(data.train))
        return torch.logaddexp(-0.5 * rows.double().square().sum(1), spikes)

    panels = noise_panel(data, spiked, scales=(1e-2, 1e-3, 1e-4))
    assert number(panels["test"], "alarm") == 0.0 and number(panels["train"], "alarm") == 1.0
    assert number(panels["train"], "s=0") > number(panels["test"], "s=0") + 10


def test_grids_cannot_run_away_and_keep_their_values() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(0, 2, (100, 4)).float()
    panels = noise_panel(dataset(pixels, Space((4,), "points", 2)), lambda rows: rows.sum(1))
    assert all(r.missing and "cannot exceed one" in r.reason for r in panels["test"].values())
    columns = (Column("a"), Column("b", "integer", "int64"))
    table = torch.stack([torch.randn(100), torch.randint(0, 5, (100,)).float()], 1)
    seen: list[Tensor] = []

    def log_p(rows: Tensor) -> Tensor:
        seen.append(rows)
        return -0.5 * rows[:, 0].square()

    noise_panel(dataset(table, Space((2,), "table", None, columns)), log_p)
    assert all(torch.equal(rows[:, 1], rows[:, 1].round()) for rows in seen)
    assert not torch.equal(seen[0][:, 0], seen[-1][:, 0])


def test_what_is_not_finite_is_counted() -> None:
    x = on_the_line(200)

    def brittle(rows: Tensor) -> Tensor:
        off = (rows[:, 0] - rows[:, 1]).abs() > 0
        return torch.zeros(len(rows)).masked_fill(off, -math.inf)

    panel = noise_panel(dataset(x), brittle)["test"]
    assert number(panel, "alarm") == 1.0 and number(panel, "s=0") == 0.0
    assert "100 of 100 log-densities are not finite" in str(panel["s=0.1"])
    assert "rows have no finite density" in str(panel["growth"])


def test_refusals_and_constant_columns() -> None:
    x = on_the_line(60)
    few = Dataset("toy", Space((2,)), x[:5], x[:5], x[:30])
    assert all("at least 20 train rows" in str(r) for r in noise_panel(few, thin(1.0))["test"].values())
    same = dataset(torch.ones(60, 2))
    assert all("all training rows are equal" in str(r) for r in noise_panel(same, thin(1.0))["train"].values())
    torch.manual_seed(0)
    flat = torch.stack([torch.randn(60), torch.ones(60)], 1)
    model = FittedGaussian.of(flat[:30], jitter=1e-9)
    assert number(noise_panel(dataset(flat), lambda rows: model().density(rows).value)["test"], "alarm") == 1.0
