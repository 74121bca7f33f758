"""Law: every part works as prior, likelihood, posterior and base of every other.

A nested model of three slots and a flow's base trains three finite steps through `fit` and then claims exactly what the
algebra of :mod:`genalloy.laws.claims` predicts from its parts. Where a part cannot serve (no density, samples without
gradients as a posterior) training is refused before step 0 in a sentence, and the label is still the predicted one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genalloy.core.batch import Batch
from genalloy.core.distribution import density, draw
from genalloy.core.evidence import Kind, Unavailable
from genalloy.laws.claims import Claim, Claims, of_flow, of_latent, of_mixture
from genalloy.laws.listed import Listed
from genalloy.laws.subject import check, perturb_parameters
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.models.mixture import Mixture
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.fit import fit
from genalloy.transforms.observation import Standardise

X, Z = 3, 2
SLOTS = ("prior", "likelihood", "posterior", "base", "component")


@dataclass(frozen=True)
class Nested:
    """A composition, what it should claim, and whether it should train."""

    words: str
    model: nn.Module
    claims: Claims
    trains: bool
    x: Tensor


def nested(slot: str, part: Listed, prior: Listed, likelihood: Listed, posterior: Listed) -> Nested:
    """`part` in `slot`; the other slots are filled by the representatives given."""
    if slot == "base":
        return _flow(part)
    if slot == "component":
        return _mixture(part, likelihood)
    chosen = {"prior": prior, "likelihood": likelihood, "posterior": posterior} | {slot: part}
    return _latent(chosen["prior"], chosen["likelihood"], chosen["posterior"])


def _latent(prior: Listed, likelihood: Listed, posterior: Listed) -> Nested:
    z = posterior.shape(Z)
    x = likelihood.shape(X)
    model = LatentVariable(prior.make(z, ()), likelihood.make(x, (z,)), posterior.make(z, (x,)), x)
    claims = of_latent(prior.claims, likelihood.claims, posterior.claims)
    trains = posterior.carries_gradient and claims.density.there
    words = f"prior {prior.name}, likelihood {likelihood.name}, posterior {posterior.name}"
    return Nested(words, perturb_parameters(model, 0.1), claims, trains, likelihood.points(x))


def _flow(base: Listed) -> Nested:
    shape = base.shape(X)
    layer = Standardise(torch.full(shape, 0.5), torch.full(shape, 2.0))
    fixed = Claim.of(Kind.EXACT, True)
    claims = of_flow(base.claims, fixed, fixed)
    model = Flow(perturb_parameters(base.make(shape, ()), 0.1), [layer], shape)
    return Nested(f"flow on {base.name}", model, claims, claims.density.there, torch.randn(8, *shape))


def _mixture(part: Listed, other: Listed) -> Nested:
    other = other if other.discrete == part.discrete and "component" in other.roles else part
    shape = part.shape(X)
    claims = of_mixture(part.claims, other.claims)
    model = Mixture([part.make(shape, ()), other.make(shape, ())])
    words = f"mixture of {part.name} and {other.name}"
    return Nested(words, perturb_parameters(model, 0.1), claims, claims.density.there, part.points(shape))


def nests(case: Nested, steps: int = 3) -> None:
    """Three finite steps, or a refusal before step 0; then the label of density() and of draw()."""
    batch = Batch(case.x)
    steps = steps if any(p.requires_grad for p in case.model.parameters()) else 0
    try:
        taken = [step.losses["model"] for step in fit(case.model, MaximumLikelihood(), [batch] * steps)]
    except Unavailable as refusal:
        check(not case.trains, f"{case.words} was refused, and should train: {refusal}")
        taken = []
    expected = steps if case.trains else 0
    check(len(taken) == expected, f"{case.words} trained {len(taken)} steps, expected {expected}")
    finite = all(bool(torch.isfinite(p).all()) for p in case.model.parameters())
    check(finite, f"{case.words}: a parameter is not finite after {steps} steps")
    with torch.no_grad():
        distribution = case.model()
        case.claims.density.matches(density(distribution, case.x), f"density() of {case.words}")
        x, own = draw(distribution, (8,))
        case.claims.draw.matches(own, f"draw() of {case.words}")
    check(x.shape == case.x.shape, f"{case.words}: samples of shape {tuple(x.shape)}")


def cases(parts: tuple[Listed, ...], representatives: int = 1) -> Iterator[tuple[str, Listed, tuple[Listed, Listed, Listed]]]:
    """(slot, part, (prior, likelihood, posterior)): every part in every slot it can play, representatives rotating."""
    able = {slot: [p for p in parts if slot in p.roles] for slot in SLOTS}
    fill = {slot: [p for p in able[slot] if p.represents] for slot in SLOTS}
    for slot in SLOTS:
        for index, part in enumerate(able[slot]):
            for turn in range(representatives if slot != "base" else 1):
                others = [fill[s][(index + turn * (k + 1)) % len(fill[s])] for k, s in enumerate(SLOTS[:3])]
                yield slot, part, (others[0], others[1], others[2])
