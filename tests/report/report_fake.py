"""A small comparison directory, the shape that a real one has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NASTY = "<script>alert('x')</script>&\"q\""
COLUMNS = [
    ("bpd", "bits/dim", "density", "low", "bits/dim"),
    ("kid", "Kernel distance", "generation", "low", ""),
    ("probe", "Linear probe", "representation", "high", "%"),
    ("train", "Training", "cost", "low", "s"),
    ("sample", "1,000 samples", "cost", "low", "s"),
]


def cell(value: float | None = None, **more: Any) -> dict[str, Any]:
    return {"value": value, **more}


def row(recipe: str, family: str = "flow", kind: str = "model", **more: Any) -> dict[str, Any]:
    cells = {
        "bpd": cell(2.0, kind="EXACT", stderr=0.01),
        "kid": cell(0.02, kind="UNBIASED", stderr=0.001),
        "probe": cell(missing="no codes"),
        "train": cell(30.0),
        "sample": cell(0.5),
    }
    cells |= more.pop("cells", {})
    curves = {
        "train": [[i, 3.0 / (i + 1)] for i in range(50)],
        "validation": [[0, 3.0], [49, float("nan")], [50, 1.0]],
    }
    base = {
        "recipe": recipe,
        "family": family,
        "kind": kind,
        "formula": "MaximumLikelihood()",
        "composition": "RealNVP(\n  dim=2)",
        "reference": "Dinh et al., 2017",
        "parameters": 1000,
        "steps": 100,
        "seed": 0,
        "error": None,
        "folder": None,
        "cells": cells,
        "curves": curves,
        "notes": [],
    }
    return base | more


def rows() -> list[dict[str, Any]]:
    return [
        row("exact-one", folder="runs/a"),
        row(
            "bounded",
            "latent",
            folder="runs/b",
            cells={"bpd": cell(1.9, kind="LOWER", stderr=0.01)},
        ),
        row("above", "energy", cells={"bpd": cell(2.3, kind="UPPER", stderr=0.01)}),
        row(
            "guess",
            "diffusion",
            cells={"bpd": cell(1.5, kind="ESTIMATE"), "kid": cell(float("nan"))},
        ),
        row("gan", "adversarial", cells={"bpd": cell(missing="no density")}, folder="runs/nowhere"),
        row(
            "broken",
            "energy",
            error="step 3: loss is not finite " + NASTY,
            cells={k: cell(missing="x") for k in ("bpd", "kid")},
        ),
        row("silent", "energy", error="step 4: out of memory") | {"cells": {}, "curves": {}},
        row(NASTY, NASTY, formula=NASTY, composition=NASTY, reference=NASTY, notes=[NASTY]),
        row("gaussian", "baseline", "baseline"),
        row("train against test", "reference", "reference") | {"cells": {"kid": cell(0.001)}},
    ]


def comparison(these: list[dict[str, Any]], **data: Any) -> dict[str, Any]:
    return {
        "format": 2,
        "title": "Tiny " + NASTY,
        "command": "genalloy compare digits --seed 3",
        "seed": 3,
        "created": "2025-01-01T00:00:00",
        "versions": {"genalloy": "0.1", "torch": "2.9"},
        "machine": "2 cores",
        "minutes": 1.5,
        "data": {
            "name": "digits",
            "kind": "image",
            "shape": [1, 4, 4],
            "measure": "counting",
            "train": 1437,
            "validation": 100,
            "test": 360,
            "notes": ["17 levels"],
            "optimum": None,
        }
        | data,
        "columns": [
            dict(zip(("id", "title", "group", "better", "unit"), c, strict=True)) | {"note": f"note of {c[0]}"} for c in COLUMNS
        ],
        "rows": these,
        "labels": {"EXACT": "is log p itself", "LOWER": "at or below log p", "ESTIMATE": "side unknown"},
    }


def write(directory: Path, these: list[dict[str, Any]] | None = None, **data: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "comparison.json").write_text(json.dumps(comparison(rows() if these is None else these, **data)))
    return directory


def add_images(directory: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(directory / "reference.npz", data=rng.integers(0, 17, (20, 1, 4, 4)))
    (directory / "runs/a").mkdir(parents=True)
    x = rng.normal(8, 4, (20, 1, 4, 4))
    x[0, 0, 0, 0] = np.nan
    np.savez(
        directory / "runs/a/pictures.npz",
        samples=x,
        reconstructions=np.stack([x, x]),
        neighbours=np.stack([x, x, x], 1),
    )
    (directory / "runs/b").mkdir()
    (directory / "runs/b/pictures.npz").write_bytes(b"not a zip")


def add_points(directory: Path) -> None:
    rng = np.random.default_rng(0)
    axis = np.linspace(-3, 3, 20)
    grid = -(axis[None] ** 2 + axis[:, None] ** 2) / 2
    extent = np.array([-3.0, 3.0, -3.0, 3.0])
    np.savez(directory / "reference.npz", data=rng.normal(size=(50, 2)), density_grid=grid, density_extent=extent)
    (directory / "runs/a").mkdir(parents=True)
    x = rng.normal(size=(50, 2))
    np.savez(
        directory / "runs/a/pictures.npz",
        samples=x,
        neighbours=np.stack([x, x + 0.1], 1),
        reconstructions=np.stack([x, x]),
        density_grid=np.where(grid < -8, -np.inf, grid),
        density_extent=extent,
    )
