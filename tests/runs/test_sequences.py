"""Sequences and texts through a run: training on masks, numbers per step, samples cut to lengths, prompts, sound, the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genalloy.core.distribution import density
from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.core.observations import Masked
from genalloy.data.audio import read_wave, write_wave
from genalloy.data.load import load_data
from genalloy.evaluation.ngram_baselines import counted
from genalloy.evaluation.sequence_features import RandomConvolutions
from genalloy.report.page import write_page
from genalloy.report.sequences import STYLES, SequenceRenderer, drawing, lengths_of, lines_of, marked
from genalloy.report.table_cells import in_words
from genalloy.runs import completion
from genalloy.runs.create import RunData, create_run, dataset_of, trained_model
from genalloy.runs.export import write_drawn, write_samples, write_scores
from genalloy.runs.score import sample, score
from genalloy.runs.sequences import per_step, step_number, strided
from genalloy.runs.settings import RunSettings
from genalloy.studies.baselines import baseline_rows
from genalloy.studies.evaluate import evaluate_run
from genalloy.studies.panels import EvaluationSettings
from genalloy.studies.table import describe

RNG = np.random.default_rng(0)
BITS = [RNG.integers(0, 2, (n, 2)).astype(np.uint8) for n in RNG.integers(2, 7, 60)]


def train(data: str, folder: Path, steps: int = 4) -> Path:
    settings = RunSettings("made", data, steps=steps, device="cpu", settings={"width": 16, "components": 2})
    for _ in create_run(settings, folder).run():
        pass
    return folder


@pytest.fixture(scope="module")
def bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bits")
    np.savez(place / "bits.npz", x=np.concatenate(BITS), x_len=[len(row) for row in BITS])
    return train(str(place / "bits.npz"), place / "run")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("text")
    (place / "t.txt").write_text("abcab dab. " * 300)
    return train(f"{place / 't.txt'}@window=8", place / "run")


# -- densities -----------------------------------------------------------------------------------------------------


def test_scores_are_of_the_observed_steps(bits: Path) -> None:
    model, dataset = trained_model(bits), dataset_of(RunSettings.read(bits), bits)
    found = score(model, dataset.observed("test"))
    assert found.kind is Kind.EXACT and "observed beginning" in found.how
    row, n = dataset.test[0], int(dataset.lengths["test"][0])
    changed = Masked.first(torch.cat([row[:n], torch.ones(len(row) - n, 2)])[None], torch.tensor([n]))
    assert found.value[0] == pytest.approx(float(density(model(), changed).value.detach()), abs=1e-4)
    cell = step_number(found, dataset)
    assert cell.value == pytest.approx(float(found.value.sum()) / int(dataset.lengths["test"].sum()))
    assert cell.kind is Kind.EXACT and "time steps in" in cell.how


def test_the_error_of_a_ratio() -> None:
    values, counts = -2.0 * torch.arange(1, 9.0), torch.arange(1, 9)
    assert per_step(values, counts, "time step", Kind.EXACT, "").stderr == pytest.approx(0, abs=1e-9)
    one = per_step(values, torch.ones(8), "time step", Kind.LOWER, "")
    assert one.stderr == pytest.approx(float(values.double().std()) / 8**0.5) and in_words(one).startswith("\u2265")
    letters = per_step(values, counts, "character", Kind.LOWER, "")
    assert letters.value == pytest.approx(2 / math.log(2)) and in_words(letters).startswith("\u2264")


def test_the_run_learns_and_says_what_is_given(bits: Path) -> None:
    row = evaluate_run(bits, request=EvaluationSettings(("density", "outliers"), samples=8))
    cells = row["cells"]
    assert cells["per_step"]["kind"] == "EXACT" and cells["density"]["value"] < cells["per_step"]["value"] < 0
    assert "given their length" in next(c for c in row["columns"] if c["id"] == "per_step")["note"]
    assert "unequal lengths" in row["panels"]["Outliers"]["outliers"]["missing"]
    first = row["curves"]["validation"][0][1]
    assert 0.5 < first < 2, "nats a padded step, as the training loss is"


def test_models_of_whole_rows_refuse_before_the_first_step() -> None:
    for recipe in ("vae", "realnvp", "ddpm"):
        trainer_of = lambda name=recipe: create_run(RunSettings(name, "array", steps=2, device="cpu"), None, load_data(BITS))  # noqa: E731
        with pytest.raises(Unavailable, match="autoregressive models and factorised heads can"):
            list(trainer_of().run())


def test_a_token_mass_bounds_the_text(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="byte pairs are an extra")
    (tmp_path / "t.txt").write_text("abcab dab. " * 300)
    run = train(f"{tmp_path / 't.txt'}@window=4,bpe=262", tmp_path / "run", steps=2)
    dataset = dataset_of(RunSettings.read(run), run)
    scores = Evidence(torch.full((len(dataset.test),), -3.0), Kind.EXACT, "made up")
    cell = step_number(scores, dataset)
    bits = 3 * len(dataset.test) / math.log(2)
    assert cell.kind is Kind.LOWER and cell.value == pytest.approx(bits / int(dataset.units["test"].sum()))
    (tmp_path / "t.txt").write_text("other words, other pairs. " * 300)
    assert dataset_of(RunSettings.read(run), run).form.vocabulary == dataset.form.vocabulary, "the run's own, not learned again"
    assert write_drawn(trained_model(run), RunData.read(run), completion.beginning(RunData.read(run), "ab"), 2, None, 0)


def test_overlapping_windows_count_every_character_once(text: Path) -> None:
    model, dataset = trained_model(text), dataset_of(RunSettings.read(text), text)
    plain = step_number(score(model, dataset.test), dataset)
    assert strided(model, dataset, 8).value == pytest.approx(plain.value, abs=1e-5)
    x = dataset.test.flatten()[:10][None]
    head, tail = score(model, x[:, :8]), score(model, x[:, 2:])
    given = score(model, Masked.first(x[:, 2:], torch.tensor([6])))
    dataset.test = x[:, :10].reshape(1, 10)
    by_hand = -float(head.value + tail.value - given.value) / 10 / math.log(2)
    assert strided(model, dataset, 2).value == pytest.approx(by_hand, abs=1e-5)
    with pytest.raises(ValueError, match="1 to 8"):
        strided(model, dataset, 9)


def test_counting_baselines() -> None:
    dataset = load_data(BITS)
    alone = counted(dataset)["steps alone"]
    seen = torch.cat([row[:n] for row, n in zip(dataset.train, dataset.lengths["train"].tolist(), strict=True)])
    p = (seen.sum(0) + 1) / (len(seen) + 2)
    row = dataset.test[0, : int(dataset.lengths["test"][0])]
    assert float(alone.value[0]) == pytest.approx(float((row * p.log() + (1 - row) * (1 - p).log()).sum()), abs=1e-4)
    names = {row.recipe for row in baseline_rows(dataset, 0, EvaluationSettings(("density", "representation", "outliers")))}
    assert names == {"steps alone"}


def test_features_of_steps_have_one_scale() -> None:
    x = torch.rand(50, 30, 4)
    x[:, :, 3] *= 1e-4
    features = RandomConvolutions(0).fit(x)
    x[:, :, 3] = 0.5
    assert features(x).shape == (50, 192) and features(x).abs().max() < 100
    assert torch.equal(RandomConvolutions(0).fit(x)(x), RandomConvolutions(0).fit(x)(x))


# -- samples -------------------------------------------------------------------------------------------------------


def test_samples_are_cut_to_training_lengths(bits: Path, tmp_path: Path) -> None:
    facts, model = RunData.read(bits), trained_model(bits)
    assert set(facts.lengths) <= {len(row) for row in BITS}
    words = write_drawn(model, facts, None, 9, tmp_path / "s.npz", 3)
    assert "lengths drawn from the training rows" in words
    with np.load(tmp_path / "s.npz") as found:
        assert found["samples_len"].tolist() == facts.drawn_lengths(9, 3).tolist() and found["samples"].dtype == np.uint8
        assert len(found["samples"]) == found["samples_len"].sum()
    lengths = torch.tensor([1, 3])
    made = sample(model, 2, lengths=lengths)
    assert made[0, 1:].sum() == 0 and made[1, 3:].sum() == 0
    with pytest.raises(ValueError, match=r"one of \.npz, \.png"):
        write_samples(made, facts, tmp_path / "s.csv", lengths)
    assert "9 rows" in write_scores(bits, str(tmp_path / "s.npz"), None, tmp_path / "scores.csv", 2), "they are data again"


def test_sound_goes_out_as_it_came(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(20):
        write_wave(tmp_path / "in" / f"{i}.wav", RNG.integers(-9000, 9000, 6 + i % 5).astype(np.int16), 4000)
    run = train(str(tmp_path / "in"), tmp_path / "run", steps=2)
    facts = RunData.read(run)
    write_drawn(trained_model(run), facts, None, 3, tmp_path / "x.wav", 0)
    found = [read_wave(tmp_path / f"x-{i:02d}.wav") for i in range(3)]
    assert [len(row) for row, _ in found] == facts.drawn_lengths(3, 0).tolist() and {rate for _, rate in found} == {4000}
    write_drawn(trained_model(run), facts, None, 1, tmp_path / "one.wav", 0)
    assert (tmp_path / "one.wav").exists()
    assert "nats a time step (EXACT)" in write_scores(run, str(tmp_path / "in"), None, tmp_path / "scores.csv", 2)


def test_prompts(text: Path) -> None:
    facts, model = RunData.read(text), trained_model(text)
    given = completion.beginning(facts, "dab")
    assert given[0].shape == (1, 8) and given[1].sum() == 3
    words = write_drawn(model, facts, given, 3, None, 0)
    assert words.count("----") == 3 and all(part.lstrip("\n").startswith("dab") for part in words.split("----")[:3])
    assert "draws from p(the rest | what is given)" in words
    for prompt, found in (("", "empty"), ("abcabcab", "fewer than the window's 8"), ("Q", "unknown characters")):
        with pytest.raises(ValueError, match=found):
            completion.beginning(facts, prompt)


def test_filters_change_the_law_and_say_so(text: Path) -> None:
    model = trained_model(text)
    filters = completion.filters_of(0.5, 2, 0.9)
    changed = completion.under(model, filters)
    assert completion.law(filters) == "under temperature 0.5, top-k 2, top-p 0.9: not the trained law"
    assert completion.law(()) == ""
    assert "not the trained law" in density(changed(), torch.zeros(1, 8)).how
    assert "not the trained law" not in density(model(), torch.zeros(1, 8)).how and completion.under(model, ()) is model
    greedy = completion.under(model, completion.filters_of(None, 1, None))
    assert (sample(greedy, 6) == sample(greedy, 6, seed=5)).all()
    with pytest.raises(Unavailable, match="no factors to filter"):
        completion.under(torch.nn.Linear(1, 1), filters)


def test_arrays_are_completed(tmp_path: Path) -> None:
    run = train("digits", tmp_path / "run", steps=2)
    facts, model = RunData.read(run), trained_model(run)
    image = RNG.integers(0, 17, (2, 8, 8)).astype(np.float64)
    image[:, 5:] = np.nan
    np.save(tmp_path / "x.npy", image)
    given = completion.given(facts, tmp_path / "x.npy", None)
    assert given[0].shape == (2, 1, 8, 8) and given[1].sum() == 2 * 40
    assert "draws from p(the rest" in write_drawn(model, facts, given, 3, tmp_path / "made.npy", 0)
    made = np.load(tmp_path / "made.npy")
    assert made.shape == (6, 8, 8)
    np.testing.assert_array_equal(made[:3, :5], np.repeat(image[:1, :5], 3, 0))
    np.testing.assert_array_equal(made[3:, :5], np.repeat(image[1:, :5], 3, 0))
    np.save(tmp_path / "known.npy", np.arange(8)[:, None] > np.zeros(8))
    np.save(tmp_path / "x.npy", np.nan_to_num(image))
    lower = completion.given(facts, tmp_path / "x.npy", tmp_path / "known.npy")
    assert "a heuristic" in write_drawn(model, facts, lower, 1, tmp_path / "made.npy", 0)
    resample, enumerate_ = (completion.scheme_of(name, facts.space.levels) for name in ("resample", "enumerate"))
    words = write_drawn(model, facts, lower, 1, tmp_path / "made.npy", 0, resample)
    assert "importance resampling among 64" in words and "effective sample size" in words
    with pytest.raises(Unavailable, match="40 unknown entries of 17 levels have more than 65,536 joint states"):
        write_drawn(model, facts, (given[0], ~given[1]), 1, tmp_path / "made.npy", 0, enumerate_)
    two = torch.arange(64).reshape(1, 1, 8, 8).expand_as(given[1]) >= 2
    assert "289 states enumerated" in write_drawn(model, facts, (given[0], two), 2, tmp_path / "made.npy", 0, enumerate_)
    np.testing.assert_array_equal(np.load(tmp_path / "made.npy")[0, 1:5], image[0, 1:5])
    assert completion.scheme_of("direct", None) is None
    with pytest.raises(ValueError, match="no completion 'zap'; choose one of direct, enumerate, resample"):
        completion.scheme_of("zap", 2)
    with pytest.raises(Unavailable, match="needs data of integers"):
        completion.scheme_of("enumerate", None)
    np.save(tmp_path / "known.npy", np.ones(3))
    with pytest.raises(ValueError, match="expected one of them"):
        completion.given(facts, tmp_path / "x.npy", tmp_path / "known.npy")


# -- pictures ------------------------------------------------------------------------------------------------------


def test_rows_end_where_they_are_marked() -> None:
    x = marked(np.zeros((2, 4, 3)), np.array([1, 4]))
    assert lengths_of(x) == [1, 4] and np.isnan(x[0, 1:]).all() and not np.isnan(x[1]).any()
    assert lengths_of(marked(np.zeros((2, 4)), np.array([3, 2]))) == [3, 2]
    styles = (("sequence", (5, 6), 2), ("roll", (5, 6, 4), 2), ("audio", (5, 6), 256), ("strokes", (5, 6, 3), 256))
    for style, shape, top in styles:
        png = drawing(style, RNG.integers(0, top, shape).astype(float), np.array([1, 2, 3, 4, 6]))
        assert png[:4] == b"\x89PNG", style
    assert set(STYLES) == {"sequence", "roll", "audio", "strokes"}


def test_a_lifted_pen_ends_a_line() -> None:
    lines = lines_of(np.array([[1.0, 0, 0], [1, 0, 1], [0, 5, 0], [0, 1, 1]]))
    assert [line.tolist() for line in lines] == [[[1, 0], [2, 0]], [[2, 5], [2, 6]]]


def test_players_are_part_of_the_page(tmp_path: Path) -> None:
    rows = marked(RNG.integers(0, 256, (9, 40)).astype(float), np.full(9, 30))
    _, sound = SequenceRenderer("audio", 8000).samples(rows, "x")
    assert len(sound.sources) == 6 and sound.sources[0][1].startswith("data:audio/wav;base64,UklGR")
    (tmp_path / "r").mkdir()
    np.savez(tmp_path / "r" / "pictures.npz", samples=rows, neighbours=np.stack([rows[:3], rows[3:6]], 1))
    np.savez(tmp_path / "reference.npz", data=rows)
    facts: dict[str, Any] = {"format": 2, "title": "t", "columns": [], "labels": {}}
    data = {"name": "d", "kind": "sequence", "shape": [40], "style": "audio", "rate": 8000, "train": 9}
    row = {"recipe": "made", "family": "autoregressive", "kind": "model", "cells": {}, "folder": "r"}
    (tmp_path / "comparison.json").write_text(json.dumps({**facts, "data": data, "rows": [row]}))
    page = write_page(tmp_path).read_text()
    assert page.count("<audio") == 12 and "media-src data:" in page and "Nearest training data" in page
    assert describe(load_data(BITS)).style == "sequence" and describe(load_data("digits")).style == ""
