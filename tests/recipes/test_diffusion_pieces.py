"""Diffusion pieces of recipes: what they build, what they claim, and one step of training."""

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.evidence import Kind
from genalloy.core.spec import from_spec, to_spec
from genalloy.objectives.objective import Play
from genalloy.recipes.diffusion import denoising_diffusion, latent_diffusion_prior

MOMENTS = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
CASES = {
    "digits": (
        lambda: denoising_diffusion((1, 8, 8), 17, channels=8),
        Kind.LOWER,
        lambda: torch.randint(0, 17, (6, 1, 8, 8)).float(),
    ),
    "bytes": (
        lambda: denoising_diffusion((1, 8, 8), 256, channels=8),
        Kind.LOWER,
        lambda: torch.randint(0, 256, (6, 1, 8, 8)).float(),
    ),
    "table": (lambda: denoising_diffusion((5,), 9), Kind.LOWER, lambda: torch.randint(0, 9, (6, 5)).float()),
    "points": (
        lambda: denoising_diffusion((2,), None, *MOMENTS),
        Kind.ESTIMATE,
        lambda: torch.randn(6, 2),
    ),
    "codes": (lambda: latent_diffusion_prior(4), Kind.LOWER, lambda: torch.randn(6, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_builds_trains_and_is_stored(name):
    torch.manual_seed(0)
    build, kind, data = CASES[name]
    (model, objective), x = build(), data()
    model.initialise(x)
    play = Play(model, Batch(x))
    objective.check(play)
    objective(play).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model().density(x[:1]).kind is kind
    assert from_spec(*to_spec(model))().sample((2,)).shape == (2, *x.shape[1:])


def test_given_moments_are_kept():
    model, _ = denoising_diffusion((2,), None, *MOMENTS)
    model.initialise(torch.randn(50, 2))
    assert model.shift.tolist() == [1.0, 2.0] and model.scale.tolist() == [3.0, 4.0]
