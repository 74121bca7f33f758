"""Every example runs at smoke size and shows what it promises."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
PROMISES = {
    "nesting": ("log p(x) >=", "LOWER; ELBO, 1 sample", "LOWER; importance weighted, k=64", "prior=Flow("),
    "adding": ("best possible: -2.8319", "MaximumLikelihood() + 0.1 * Adversarial(critic): log p(x) =", "EXACT"),
    "sklearn_pipeline": ("accuracy", "vae has no exact log-density", "nats, LOWER"),
    "own_table": ("species", "mixed: density over 2 reals, probability mass on 2 discrete columns", "LOWER"),
    "likelihood_labels": ("EXACT: this is", "LOWER: log p(x) is at least", "ESTIMATE: near", "n/a: an implicit model"),
    "two_phase_latent_diffusion": ("diffusion prior:  log p(x) >=", "DenoisingScoreMatching", "(16, 1, 8, 8)"),
    "anomaly_scores": ("compressed length alone", "upside down"),
    "complete_text": ("the cat s", "filtered by temperature 0.5: not the trained law", "5-gram counts, Witten-Bell"),
    "inpainting": ("clamped exactly: True", "64 steps: log p(x) >=", "LOWER; 4 random steps"),
    "pixel_vae": ("PixelVAE log p(x) >=", "LOWER; importance weighted, k=64", "its code holds", "another's log p(x) ="),
    "resume": ("stopped after step 17", "finished at step 30", "largest difference of any weight: 0.0"),
}


@pytest.mark.parametrize("name", PROMISES)
def test_example(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--smoke"])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    for promise in PROMISES[name]:
        assert promise in said
    assert "nan" not in said
    assert not list(tmp_path.iterdir()), "an example leaves files behind"


def test_every_example_is_listed_and_short():
    found = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
    assert set(found) == set(PROMISES)
    for name, source in found.items():
        assert len(source.splitlines()) <= 60, name
        assert f"python examples/{name}.py [--smoke]" in source
