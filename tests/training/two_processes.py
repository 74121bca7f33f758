"""The toy games in two processes on the CPU: python two_processes.py OUT writes the numbers of both.

Lightning starts the second process by running this file again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from toy_game import OPTIONS, Sometimes, flow, game, last, some_batches

from genalloy.core.batch import Batch
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.devices import make_fabric
from genalloy.training.fit import fit
from genalloy.training.options import Training


def batches() -> list[Batch]:
    """Uneven shards, and one batch that leaves a process without rows."""
    return [*some_batches(0, 5), some_batches(0, 1)[0].rows(slice(0, 1)), *some_batches(5, 7)]


def cases() -> dict[str, tuple[Any, Any, Training]]:
    torch.manual_seed(0)
    plain = flow()
    sparse = Sometimes()
    return {
        "likelihood": (plain, MaximumLikelihood(), OPTIONS),
        "two players": (*game(), OPTIONS),
        "idle parameter": (flow(), MaximumLikelihood() + sparse, OPTIONS),
    }


def train(case: tuple[Any, Any, Training], fabric: Any, shards: int) -> dict[str, Any]:
    model, objective, options = case
    if fabric is not None and fabric.global_rank == 1:
        with torch.no_grad():
            next(model.parameters()).add_(1.0)  # the first process's weights decide
    step = last(fit(model, objective, batches(), training=replace(options, shards=shards), fabric=fabric))
    weights = torch.cat([p.detach().reshape(-1) for m in (model, objective) for p in m.parameters()])
    return {"numbers": weights, "losses": step.losses, "norms": step.norms}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    fabric = make_fabric("cpu", processes=2)
    fabric.launch()
    results = {name: train(case, fabric, 1) for name, case in cases().items()}
    name = f"rank{fabric.global_rank}"
    save_file({k: v.pop("numbers") for k, v in results.items()}, out / f"{name}.safetensors")
    (out / f"{name}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
