"""Tables of contenders and seeds: shared runs, merged cells, sweeps, and what is kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from genalloy.core.evidence import Kind
from genalloy.core.schema import FORMAT, Number, Outcome, absent, plain, read_comparison
from genalloy.data.load import load_data
from genalloy.experiments.declare import Experiment, Method
from genalloy.experiments.theis import MixedWithNoise
from genalloy.experiments.verdict import Better
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import find
from genalloy.report.table_cells import in_words
from genalloy.studies.cost import evaluations
from genalloy.studies.documents import write_results
from genalloy.studies.reproduce import RunPlan, reproduce, results_of, sweep_of, table_of
from genalloy.studies.seeds import merge_numbers
from genalloy.studies.table import ROW, kept

STEPS = {"quick": 8, "full": 16}
TINY = Experiment(
    "tiny",
    "evaluation",
    "Noise costs likelihood",
    "A model mixed with noise has a lower likelihood.",
    "digits",
    (
        Method("made", "made", STEPS, {"width": 16}),
        Method("noisy", "made", STEPS, {"width": 16}, MixedWithNoise(0.5)),
    ),
    ("density",),
    ("density",),
    Better("made", "noisy", "density"),
    {"quick": 1, "full": 1},
    samples=20,
)


def test_merged_numbers_are_means_with_the_error_over_seeds() -> None:
    merged = merge_numbers([Number(v, 9.0, 5, "one", kind=Kind.LOWER, unit="bits/dim") for v in (1.0, 2.0, 6.0)])
    assert merged.value == 3.0 and merged.seeds == (1.0, 2.0, 6.0) and merged.unit == "bits/dim"
    assert merged.stderr == pytest.approx(math.sqrt(7 / 3))
    assert in_words(merged).startswith("\u2264 3") and "mean of 3 seeds" in merged.how


def test_a_missing_seed_is_said_and_labels_are_never_mixed() -> None:
    merged = merge_numbers([Number(1.0), None, Number(3.0)])
    assert merged.value == 2.0 and merged.seeds == (1.0, None, 3.0) and "2 seeds of 3 asked for" in merged.how
    assert merge_numbers([absent("no density"), absent("no density")]).missing == "no density"
    mixed = merge_numbers([Number(1.0, kind=Kind.EXACT), Number(1.0, kind=Kind.LOWER)])
    assert "not averaged" in mixed.missing and not mixed.known


def test_a_record_is_read_as_it_was_written(done: Path) -> None:
    """One writer, one reader: nothing of a table is lost or changed between them."""
    file = done / "work" / "tiny" / "comparison.json"
    record = read_comparison(file)
    assert {"format": FORMAT, **plain(record)} == json.loads(file.read_text(encoding="utf-8"))
    assert record.rows[0].cells["density"].seeds and record.verdict is not None and record.verdict.outcome is Outcome.HOLDS


def test_contenders_that_differ_in_the_afterthought_share_a_run(tmp_path: Path) -> None:
    entries = table_of(TINY, RunPlan(workspace=tmp_path)).entries
    assert len(entries) == 6 and len({e.run for e in entries}) == 3 and len({e.row for e in entries}) == 6
    longer = table_of(TINY, RunPlan("full", workspace=tmp_path)).entries
    assert not {e.run for e in longer} & {e.run for e in entries}


def test_an_unknown_budget_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="budget='medium', expected one of quick, full"):
        table_of(TINY, RunPlan("medium", workspace=tmp_path))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    _, verdict = reproduce(TINY, RunPlan(workspace=place / "work", jobs=1), place / "results")
    assert verdict is not None and verdict.outcome is Outcome.HOLDS
    return place


def test_an_experiment_keeps_numbers_with_labels_seeds_and_verdict(done: Path) -> None:
    record = json.loads((done / "results" / "tiny.json").read_text(encoding="utf-8"))
    assert record["verdict"]["outcome"] == "holds" and record["seeds"] == [0, 1, 2]
    results = results_of(read_comparison(done / "results" / "tiny.json"))
    mine = results.numbers["made"]["density"]
    gap = results.numbers["noisy"]["density"].value - mine.value
    # log 2 nats in bits per dimension: half of the mixture is noise, and nothing that the model gives is noise
    assert gap == pytest.approx(math.log(2) / (64 * math.log(2)), abs=0.02)
    assert mine.kind is Kind.EXACT and len(mine.seeds) == 3 and "made" in results.runs
    assert results.numbers["Gaussian"]["density"].known and "Gaussian" not in results.runs
    assert (done / "work" / "tiny" / "report.html").stat().st_size > 10_000


def test_a_measurement_of_another_format_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    for form, there in ((FORMAT, True), (1, False)):
        file.write_text(json.dumps({"format": form, "cells": {}, "panels": {}, "curves": {}}))
        assert (kept(file, ROW) is not None) is there and file.exists() is there


def test_asking_again_trains_and_measures_nothing(done: Path) -> None:
    files = {f: f.stat().st_mtime_ns for f in (done / "work" / "runs").rglob("*.safetensors")}
    rows = {f: f.stat().st_mtime_ns for f in (done / "work" / "runs").rglob("row.json")}
    reproduce(TINY, RunPlan(workspace=done / "work", jobs=1), None)
    assert files == {f: f.stat().st_mtime_ns for f in files} and rows == {f: f.stat().st_mtime_ns for f in rows}


def test_the_results_page_holds_claim_verdict_and_picture(done: Path) -> None:
    text = write_results(done / "results", done / "docs" / "results.md").read_text(encoding="utf-8")
    assert TINY.claim in text and "**Holds.**" in text and "EXACT" in text
    picture = (done / "docs" / "results" / "tiny-density.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg") and "noisy" in picture


def test_a_sweep_takes_every_combination() -> None:
    swept = sweep_of("vae", "digits", ["latent=2,4", "beta=1,2"], ("density",), lambda r, n, text: float(text))
    assert [dict(c.settings) for c in swept.contenders][:2] == [{"latent": 2.0, "beta": 1.0}, {"latent": 2.0, "beta": 2.0}]
    assert len(swept.contenders) == 4 and swept.verdict is None
    with pytest.raises(ValueError, match="is not NAME=A,B,C"):
        sweep_of("vae", "digits", ["latent"], (), lambda r, n, text: text)


def test_network_evaluations_are_counted_for_passes_and_cached_steps() -> None:
    target = Target.of(load_data("digits", limit=100))
    made = find("made")(target, width=16).model.eval()
    assert evaluations(made, lambda: made().sample((2,))) == 64
    assert evaluations(made, lambda: made().density(load_data("digits", limit=20).test)) == 1
    diffusion = find("ddpm")(target).model.eval()
    diffusion.sampler = type(diffusion.sampler)(7)
    assert evaluations(diffusion, lambda: diffusion().sample((2,))) == 7
