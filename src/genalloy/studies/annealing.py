"""Annealing as a panel: few rows, since each costs chains x temperatures decodings and their gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from genalloy.core.evidence import Evidence, Unavailable
from genalloy.core.isolation import Stream
from genalloy.core.schema import Number, absent
from genalloy.data.dataset import Dataset
from genalloy.estimators.annealed_importance import AnnealedImportance
from genalloy.estimators.bidirectional import sandwich
from genalloy.mcmc.hmc import HMC
from genalloy.runs.densities import in_unit
from genalloy.runs.score import score

ROWS = 32
AIS = AnnealedImportance(chains=16, temperatures=200, kernel=HMC(steps=1, step_size=0.1, leapfrog=5))


def annealing_numbers(model: nn.Module, dataset: Dataset, seed: int) -> dict[str, Number]:
    """ "annealed": random test rows. "simulated, below" and "above": log p(x) of simulated rows from both sides; and the gap."""
    order = torch.randperm(len(dataset.test), generator=torch.Generator().manual_seed(seed))
    try:
        scores = score(model, dataset.test[order[:ROWS]], AIS, ROWS, seed)
        cells = {"annealed": _side(scores, dataset)}
    except Unavailable as reason:
        return {"annealed": absent(str(reason))}
    try:
        with Stream(model):
            torch.manual_seed(seed)
            both = sandwich(model(), ROWS, AIS)
    except Unavailable as reason:
        return {**cells, "gap": absent(str(reason))}
    gap = both.upper.value - both.lower.value
    words = f"upper minus lower bound of log p(x), mean of {ROWS} simulated rows, nats"
    return {
        **cells,
        "simulated, below": _side(both.lower, dataset),
        "simulated, above": _side(both.upper, dataset),
        "gap": Number(both.gap, _error(gap), ROWS, words, unit="nats"),
    }


def _side(bound: Evidence, dataset: Dataset) -> Number:
    return in_unit(Number.of(replace(bound, stderr=None)), dataset.space)


def _error(values: torch.Tensor) -> float:
    return float(values.double().std()) / math.sqrt(len(values))
