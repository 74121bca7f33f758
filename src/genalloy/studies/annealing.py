"""Annealing as a panel: few rows, since each costs chains x temperatures decodings and their gradients."""

from __future__ import annotations

import math

import torch
from torch import nn

from genalloy.core.evidence import Evidence, Unavailable
from genalloy.core.isolation import Stream
from genalloy.data.dataset import Dataset
from genalloy.estimators.annealed_importance import AnnealedImportance
from genalloy.estimators.bidirectional import sandwich
from genalloy.mcmc.hmc import HMC
from genalloy.runs.cells import Cell, absent, nats_cell
from genalloy.runs.score import score

ROWS = 32
AIS = AnnealedImportance(chains=16, temperatures=200, kernel=HMC(steps=1, step_size=0.1, leapfrog=5))


def annealing_cells(model: nn.Module, dataset: Dataset, seed: int) -> dict[str, Cell]:
    """"annealed": random test rows. "simulated, below" and "above": log p(x) of simulated rows from both sides; and the gap."""
    order = torch.randperm(len(dataset.test), generator=torch.Generator().manual_seed(seed))
    try:
        found = score(model, dataset.test[order[:ROWS]], AIS, ROWS, seed)
        cells = {"annealed": nats_cell(found.mean(), _error(found.value), found.kind, found.how, ROWS, dataset.space)}
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
        "gap": Cell(both.gap, _error(gap), None, f"{both.gap:.3g} \u00b1 {_error(gap):.2g} nats", words, ROWS),
    }


def _side(bound: Evidence, dataset: Dataset) -> Cell:
    mean = float(bound.value.double().mean())
    return nats_cell(mean, _error(bound.value), bound.kind, bound.how, len(bound.value), dataset.space)


def _error(values: torch.Tensor) -> float:
    return float(values.double().std()) / math.sqrt(len(values))
