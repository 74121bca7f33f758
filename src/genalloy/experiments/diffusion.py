"""Diffusion: what network evaluations buy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from genalloy.core.spec import Value
from genalloy.data.dataset import Dataset
from genalloy.experiments.declare import Experiment, Method
from genalloy.experiments.verdict import AllOf, Better
from genalloy.samplers.ancestral import Ancestral
from genalloy.samplers.ode import AdamsBashforth
from genalloy.samplers.sampler import Sampler

STEPS = {"quick": 800, "full": 30_000}


@dataclass(frozen=True)
class SampledWith(Value):
    """The same weights under another sampler."""

    sampler: Sampler

    def __call__(self, model: Any, dataset: Dataset) -> nn.Module:
        model.sampler = self.sampler
        return model


def ddpm(name: str, sampler: Sampler) -> Method:
    """The one trained run, sampled in another way."""
    return Method(name, "ddpm", STEPS, after=SampledWith(sampler))


EXPERIMENTS = (
    Experiment(
        "sampler-steps",
        "diffusion",
        "Network evaluations and quality",
        "Ancestral samples get nearer to held-out garments from 5 to 20 and from 20 to 80 steps; a two-step ODE solver is nearer "
        "than ancestral sampling at the same 10 evaluations; and the best is nearer than a fitted Gaussian.",
        "fashion-mnist",
        (
            ddpm("ancestral, 5 steps", Ancestral(5)),
            ddpm("ancestral, 10 steps", Ancestral(10)),
            ddpm("ancestral, 20 steps", Ancestral(20)),
            ddpm("ancestral, 80 steps", Ancestral(80)),
            ddpm("Adams-Bashforth, 10 steps", AdamsBashforth(10)),
        ),
        ("generation", "cost"),
        ("kernel_distance",),
        AllOf(
            (
                Better("ancestral, 20 steps", "ancestral, 5 steps", "kernel_distance"),
                Better("ancestral, 80 steps", "ancestral, 20 steps", "kernel_distance"),
                Better("Adams-Bashforth, 10 steps", "ancestral, 10 steps", "kernel_distance"),
                Better("ancestral, 80 steps", "Gaussian", "kernel_distance"),
            )
        ),
        {"quick": 30, "full": 600},
    ),
)
