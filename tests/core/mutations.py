"""Sound compositions, and small random changes of what their files say."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from genalloy.core.part import Conditional
from genalloy.core.schedules import Linear
from genalloy.core.spec import Foreign
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO, PerGroup
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.recipes.composition import Composition, Phase
from genalloy.transforms.linear import ActNorm, Permute
from genalloy.transforms.observation import Standardise


def model() -> nn.Module:
    """Shared parts, values inside arguments, buffers, a frozen weight, tuples, class arguments and torch's own modules."""
    torch.manual_seed(0)
    network = Conditional(Gaussian(), MLP(((2,),), 4, (8,)), (2,), ((2,),))
    layers = [ActNorm((2,)), Permute(torch.tensor([1, 0])), Standardise(torch.zeros(2), torch.ones(2))]
    prior = Flow(StandardNormal((2,)), layers, (2,))
    vae = LatentVariable(prior, network, network)
    next(vae.parameters()).requires_grad_(False)
    objective = MaximumLikelihood() + 0.5 * ELBO(beta=Linear(0.0, 1.0, 10), free_bits=PerGroup(0.25))
    extra = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.LSTM(2, 2), nn.ModuleDict({"a": nn.PReLU()}))
    return nn.ModuleList([Composition(vae, [Phase(objective), Phase(MaximumLikelihood())], 10), extra])


VALUES: list[Any] = [
    None, True, -1, 0, 1, 2, 7, 10**6, 10**9, 10**12, 2**63, -(2**70), 1e300, -0.5, "", "x", "models:Flow",
    "os:system", "core:Foreign", "torch.nn:Linear", "genalloy.core.spec:Foreign",
    [], {}, [[]], [10**9], {"$module": 0}, {"$module": -1}, {"$tensor": "x"},
    {"$tuple": [10**5, 10**5]}, {"$dict": [["a", 1]]}, {"$class": "Linear"}, {"$float": "nan"},
    {"$value": "core:Linear", "fields": {"start": 0, "end": 1, "steps": 0}},
    {"$value": "core:Foreign", "fields": {"target": "os:system"}},
]  # fmt: skip


def places(value: Any, held: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        held.append((value, key))
        places(inner, held)
    return held


def mutate(facts: dict[str, Any], rng: random.Random) -> None:
    """One small change: another value, one less, one more, two exchanged, an integer blown up, a key renamed."""
    held = places(facts, [])
    (holder, key), (other, place) = rng.choice(held), rng.choice(held)
    kind = rng.randrange(6)
    if kind == 0:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind == 1:
        del holder[key]
    elif kind == 2:
        holder[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(holder[key])
    elif kind == 3:
        numbers = [(h, k) for h, k in held if type(h[k]) in (int, float)]
        holder, key = rng.choice(numbers or held)
        holder[key] = rng.choice([-1, 0, 1, 3, 10**5, 10**9, 10**12, 0.5, -(10**9)])
    elif kind == 4 and isinstance(holder, dict):
        holder[rng.choice(["x", "$tuple", "class", "root", "*", "", "a.b"])] = holder.pop(key)
    elif isinstance(holder, list):
        holder.insert(key, copy.deepcopy(rng.choice(VALUES)))


SUBJECTS: dict[str, Callable[[], nn.Module]] = {
    "composition": model,
    "flow": lambda: Flow(StandardNormal((3,)), [Standardise(torch.zeros(3), torch.ones(3))], (3,)),
    "networks": lambda: nn.ModuleList([MLP(((3,),), 2, (4,)), nn.MultiheadAttention(4, 2)]),
    "foreign": lambda: nn.Sequential(Foreign("torch.nn:Bilinear", {"in1_features": 2, "in2_features": 2, "out_features": 1})),
}
