"""Planar, radial and Sylvester recipes: fitted to an energy, and every kind of posterior."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genalloy.core.evidence import Kind
from genalloy.data.dataset import Dataset
from genalloy.data.energies import U1
from genalloy.data.load import load_data
from genalloy.recipes.composition import Target
from genalloy.recipes.planar import planar, radial, vae_sylvester
from genalloy.runs.create import create_run
from genalloy.runs.settings import RunSettings


@pytest.fixture(scope="module")
def bows() -> Dataset:
    return load_data("u1", limit=300)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", limit=64)


@torch.no_grad()
def divergence(model: nn.Module) -> float:
    """KL(q || U1)."""
    x, log_q = model().draw((4000,))
    return float((log_q.value + U1().energy(x)).mean()) + U1().log_normaliser()


@pytest.mark.parametrize("name", ["planar", "radial"])
def test_fitted_to_an_energy_without_its_rows(name: str, bows: Dataset) -> None:
    torch.set_num_threads(1)
    settings = {"energy": "u1", "layers": 3, "steps": 300}
    trainer = create_run(RunSettings(name, "given", settings=settings), None, bows)
    before = divergence(trainer.model)
    for _ in trainer.run():
        pass
    assert 0 < divergence(trainer.model) < before / 2
    with torch.no_grad():
        x, log_q = trainer.model().draw((50,))
        density = trainer.model().density(x)
    assert density.kind is Kind.EXACT
    torch.testing.assert_close(density.value, log_q.value, atol=1e-3, rtol=1e-3)


def test_the_second_half_is_at_temperature_one(bows: Dataset) -> None:
    first, second = planar(Target.of(bows), energy="u1", steps=100).each()
    assert first.objective.beta(0) == 0.01 and first.objective.beta(50) == 1.0 and second.objective.beta == 1.0


@pytest.mark.parametrize("kind", ["orthogonal", "householder", "triangular", "planar", "none"])
def test_every_kind_of_posterior_bounds(kind: str, digits: Dataset) -> None:
    torch.manual_seed(0)
    composition = vae_sylvester(Target.of(digits), kind, flows=2, latent=4, hidden=16)
    evidence = composition.model().density(digits.train[:8])
    assert evidence.kind is Kind.LOWER and evidence.proper
    evidence.value.sum().backward()
    found = [n for n, p in composition.model.posterior.named_parameters() if p.grad is None or not p.grad.any()]
    assert not found or kind == "none"


def test_refusals(bows: Dataset, digits: Dataset) -> None:
    with pytest.raises(ValueError, match="found energy='u5', expected one of u1"):
        planar(Target.of(bows), energy="u5")
    with pytest.raises(ValueError, match="expected points in the plane"):
        radial(Target.of(digits), energy="u1")
    with pytest.raises(ValueError, match="found kind='square', expected one of orthogonal"):
        vae_sylvester(Target.of(digits), kind="square")
