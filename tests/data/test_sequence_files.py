"""Sequences: unequal lengths from lists and files, signals on their grids and back, pieces, text windows, byte pairs."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from genalloy.data import bpe
from genalloy.data.audio import read_wave, wave_bytes, write_wave
from genalloy.data.errors import BadData
from genalloy.data.form import Form
from genalloy.data.load import finish, load_data, rows
from genalloy.data.published import BINARY, FOLDER, PUBLISHED
from genalloy.data.published_sequences import SEQUENCES
from genalloy.data.raw import WHOLE, Raw
from genalloy.data.reading import Reading, parse
from genalloy.data.signals import compand, expand, strokes_of, strokes_on_grid
from genalloy.data.space import Space

RNG = np.random.default_rng(0)
BITS = [RNG.integers(0, 2, (n, 3)).astype(np.uint8) for n in RNG.integers(2, 8, 40)]
TEXT = "".join(RNG.choice(list("abcdefg \n"), 6000))


def save(path: Path, **parts) -> Path:
    """{key: list of rows} as KEY and KEY_len."""
    arrays = {key: np.concatenate(value) for key, value in parts.items()}
    np.savez(path, **arrays, **{f"{key}_len": np.array([len(row) for row in value]) for key, value in parts.items()})
    return path


# -- lists and files -----------------------------------------------------------------------------------------------


def test_a_list_of_sequences() -> None:
    data = load_data(BITS)
    assert data.space == Space((7, 3), "sequence", 2, (), True) and not data.space.in_bits
    words = "probability mass on 3 integers 0..1 a step, sequences of at most 7 steps, given their length"
    assert data.space.measure_text == words
    assert (len(data.train), len(data.validation), len(data.test)) == (32, 4, 4)
    back = [row for part in ("train", "validation", "test") for row in data.restore(data.part(part), data.lengths[part])]
    assert sorted(map(len, back)) == sorted(map(len, BITS)) and back[0].dtype == np.uint8
    assert {row.tobytes() for row in back} == {row.tobytes() for row in BITS}
    assert data.observed("test").lengths.tolist() == data.lengths["test"].tolist()
    assert data.steps("test")[0] == "time step" and load_data("digits").steps("test") is None


def test_a_mass_given_lengths_is_no_mass_of_padded_rows() -> None:
    assert Space((7, 3), "sequence", 2, (), True).comparable(Space((7, 3), "sequence", 2)) is not None
    space = load_data(BITS).space
    assert Space.from_json(space.to_json()) == space
    record = {key: value for key, value in space.to_json().items() if key != "unequal"}
    assert not Space.from_json(record).unequal, "runs of earlier versions have rows of one shape"


def test_an_archive_with_lengths(tmp_path: Path) -> None:
    data = load_data(save(tmp_path / "own.npz", train=BITS[:30], valid=BITS[30:35], test=BITS[35:]))
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 5, 5) and data.source["split"] == "the source's own"
    np.testing.assert_array_equal(data.restore(data.test, data.lengths["test"])[2], BITS[37])
    labels = np.arange(40) % 2
    path = tmp_path / "whole.npz"
    np.savez(path, x=np.concatenate(BITS), x_len=[len(row) for row in BITS], y=labels)
    assert {part: len(y) for part, y in load_data(path).labels.items()} == {"train": 32, "validation": 4, "test": 4}
    np.savez(path, x=np.concatenate(BITS), x_len=[3, 4])
    with pytest.raises(BadData, match="adds up to 7 steps"):
        load_data(path)


def test_pieces_stay_on_their_side_of_the_split() -> None:
    marked = [np.full((n, 1), i, np.uint8) for i, n in enumerate(RNG.integers(5, 30, 50))]
    data = load_data((marked, np.arange(50) % 5), reading=Reading(window=4))
    seen = [set(data.part(part)[:, 0, 0].int().tolist()) for part in ("train", "validation", "test")]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert sum(int(lengths.sum()) for lengths in data.lengths.values()) == sum(map(len, marked)), "every step is in one piece"
    assert data.space.shape == (4, 1) and (data.labels["test"] == data.test[:, 0, 0] % 5).all()


def test_one_recording_is_cut_in_order() -> None:
    steps = np.arange(400) % 7
    raw = Raw("x", {WHOLE: [steps]}, form=Form("sequence", "int64"))
    data = finish(raw, reading=Reading(window=10))
    assert data.source["split"] == "90/5/5 in order"
    assert data.restore(data.train, data.lengths["train"])[0].tolist() == steps[:10].tolist()
    assert np.concatenate(data.restore(data.test, data.lengths["test"])).tolist() == steps[380:].tolist()
    with pytest.raises(BadData, match="@window"):
        finish(raw, reading=Reading(window=100))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([np.zeros((3, 2)), np.zeros((0, 2))] * 10, "empty sequence"),
        ([np.zeros((3, 2)), np.zeros((2, 3))] * 10, "one shape"),
        ([np.array([1.0, np.nan]), np.ones(3)] * 10, "NaN"),
        ([np.array([-1, 10**6]), np.ones(3, int)] * 10, "data frame"),
    ],
)
def test_bad_sequences(source, words: str) -> None:
    with pytest.raises(BadData, match=words):
        load_data(source)


def test_new_sequences_are_checked() -> None:
    data = load_data(BITS)
    admitted = data.admit(BITS[:3])
    assert admitted.lengths.tolist() == [len(row) for row in BITS[:3]] and admitted.shape == (3, 7, 3)
    for wrong, words in ((np.zeros((9, 3)), "@window=7"), (np.zeros((3, 2)), "steps of shape"), (np.full((3, 3), 5), "grid")):
        with pytest.raises(BadData, match=words):
            data.admit([wrong])


def test_lengths_of_samples_are_those_of_training_rows() -> None:
    data = load_data(BITS)
    drawn = data.drawn_lengths(2000, seed=1)
    assert set(drawn.tolist()) == set(data.lengths["train"].tolist()) and load_data("digits").drawn_lengths(3) is None
    assert abs(float(drawn.float().mean() - data.lengths["train"].float().mean())) < 0.2
    assert torch.equal(drawn, data.drawn_lengths(2000, seed=1)) and not torch.equal(drawn, data.drawn_lengths(2000, seed=2))


# -- signals -------------------------------------------------------------------------------------------------------


def test_companding_is_fine_near_silence_and_idempotent() -> None:
    pcm = np.arange(-32768, 32768, 7).astype(np.int16)
    codes = compand(pcm)
    assert codes.min() == 0 and codes.max() == 255 and (np.diff(codes.astype(int)) >= 0).all()
    back = expand(codes)
    np.testing.assert_array_equal(compand(back), codes)
    error = np.abs(back.astype(float) - pcm)
    assert error.max() < 0.03 * 32768 and error[np.abs(pcm) < 300].max() < 12


def test_strokes_do_not_drift() -> None:
    strokes = np.stack([RNG.integers(-60, 60, 200), RNG.integers(-60, 60, 200), RNG.integers(0, 2, 200)], 1)
    back = strokes_of(strokes_on_grid(strokes, 4), 4)
    assert np.abs(np.cumsum(back[:, :2], 0) - np.cumsum(strokes[:, :2], 0)).max() <= 2, "half a step, however long"
    np.testing.assert_array_equal(back[:, 2], strokes[:, 2])
    exact = strokes * [6, 6, 1]
    np.testing.assert_array_equal(strokes_of(strokes_on_grid(exact, 6), 6), exact)
    assert strokes_on_grid(np.array([[5000, -5000, 1]]), 6).tolist() == [[255, 0, 1]], "clipped"


# -- sound ---------------------------------------------------------------------------------------------------------


def test_wave_files(tmp_path: Path) -> None:
    samples = RNG.integers(-20000, 20000, 90).astype(np.int16)
    write_wave(tmp_path / "a.wav", samples, 8000)
    found, rate = read_wave(tmp_path / "a.wav")
    assert rate == 8000 and wave_bytes(samples, 8000)[:4] == b"RIFF"
    np.testing.assert_array_equal(found, samples)
    with wave.open(str(tmp_path / "stereo8.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(1)
        file.setframerate(4000)
        file.writeframes(bytes([128, 130, 0, 255]))
    assert read_wave(tmp_path / "stereo8.wav")[0].tolist() == [256, -128], "8 bit is unsigned; channels are averaged"
    (tmp_path / "bad.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(BadData, match="cannot read"):
        load_data(tmp_path / "bad.wav")


def test_a_folder_of_sound(tmp_path: Path) -> None:
    for i in range(24):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        write_wave(tmp_path / "ab"[i % 2] / f"{i}.wav", RNG.integers(-9000, 9000, 20 + i).astype(np.int16), 2000)
    data = load_data(tmp_path)
    assert data.space == Space((43,), "sequence", 256, (), True) and data.form.rate == 2000 and data.label_names == ("a", "b")
    own = {row.tobytes() for _, part, _ in rows(str(tmp_path)) for row in part}
    back = data.restore(data.test, data.lengths["test"])
    assert all(row.dtype == np.int16 for row in back)
    assert any(np.abs(back[0].astype(int) - np.frombuffer(o, np.int16)).max() < 800 for o in own if len(o) == 2 * len(back[0]))
    write_wave(tmp_path / "a" / "other.wav", np.ones(9, np.int16), 4000)
    with pytest.raises(BadData, match="sample rates"):
        load_data(tmp_path)


# -- text ----------------------------------------------------------------------------------------------------------


def test_windows_cover_every_part(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(TEXT)
    data = load_data(f"{tmp_path / 't.txt'}@window=50")
    assert data.space.shape == (50,) and data.source["split"] == "90/5/5 in order"
    texts = ["".join(data.restore(data.part(part))) for part in ("train", "validation", "test")]
    assert texts[0] == TEXT[:5400] and texts[1] == TEXT[5400:5700] and texts[2] == TEXT[5700:6000]
    assert data.steps("test")[1].tolist() == [50] * 6
    with pytest.raises(BadData, match="less than a window"):
        load_data(tmp_path / "t.txt", reading=Reading(window=5000))


def test_byte_pairs_are_learned_from_the_training_part_alone(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="byte pairs are an extra")
    text = "the cat sat. " * 400 + "\u00e9\u4e2d zzz yyy " * 40
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    data = load_data(f"{tmp_path / 't.txt'}@window=10,bpe=270")
    tokens = data.space.columns[0].categories
    assert data.form.style == "tokens" and any("cat" in t for t in tokens) and not any("zz" in t for t in tokens)
    for part in ("train", "validation", "test"):
        counted = data.units[part].sum().item()
        assert counted <= len(text) and (data.units[part] > 0).all()
    whole = data.restore(data.train)
    assert text.startswith("".join(whole)) and data.units["train"].tolist() == [len(row) for row in whole]
    start = round(0.9 * len(text))
    joined = bpe.decode(data.form.vocabulary, data.test.flatten()[None].numpy())[0].rstrip("\ufffd")
    assert text[start + round(0.05 * len(text)) :].startswith(joined)
    assert 0 <= data.units["test"].sum().item() - len(joined) <= 1, "a character on two windows counts once"
    again = load_data(tmp_path / "t.txt", reading=Reading(window=10, vocabulary=data.form.vocabulary))
    assert torch.equal(again.test, data.test) and data.admit(text[:200]).shape[1] == 10
    with pytest.raises(BadData, match="more than 256"):
        load_data(f"{tmp_path / 't.txt'}@bpe=100")


def test_what_a_name_asks() -> None:
    assert parse("a.txt@window=256,bpe=500") == ("a.txt", Reading(256, 500))
    assert parse("me@home.csv") == ("me@home.csv", Reading())
    wrong = (("x.txt@windo=3", "did you mean 'window'"), ("x.txt@window=1", "at least 2"), ("digits@window=9", "leave it out"))
    for name, words in wrong:
        with pytest.raises(BadData, match=words):
            load_data(name)


# -- published -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    for name in {Path(wanted.path).parent for wanted in PUBLISHED.values()}:
        (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path


def test_rolls_are_unpacked(folder: Path) -> None:
    lengths = (3, 5, 4, *[2] * 9)
    rolls = {part: [RNG.integers(0, 2, (n, 88)).astype(np.uint8) for n in lengths] for part in ("train", "valid", "test")}
    packed = {part: [np.packbits(row, axis=1) for row in found] for part, found in rolls.items()}
    save(folder / "music" / "JSB_Chorales.npz", **packed)
    data = load_data("jsb-chorales")
    assert data.space.shape == (5, 88) and data.form.style == "roll"
    np.testing.assert_array_equal(data.restore(data.test, data.lengths["test"])[1], rolls["test"][1])


def test_speech_keeps_its_own_test_part(folder: Path) -> None:
    sounds, index = [RNG.integers(-999, 999, n).astype(np.int16) for n in range(20, 60)], np.arange(40) % 10
    facts = {"length": [len(s) for s in sounds], "digit": np.arange(40) // 4, "index": index}
    np.savez(folder / "speech" / "fsdd_900.npz", audio=np.concatenate(sounds), **facts)
    data = load_data("spoken-digits")
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 20) and data.form.rate == 8000
    assert data.lengths["test"].tolist() == [len(s) for s, i in zip(sounds, index, strict=True) if i < 5]


def test_bits_by_their_published_parts(folder: Path) -> None:
    parts = {part: RNG.integers(0, 2, (n, 16)).astype(np.uint8) for part, n in (("train", 30), ("valid", 7), ("test", 9))}
    np.savez(folder / "binary-density" / "nltcs.npz", **parts)
    data = load_data("nltcs")
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 7, 9) and data.space.levels == 2
    assert set(BINARY) <= set(PUBLISHED) and set(SEQUENCES) <= set(PUBLISHED)


def test_pixels_are_pooled_by_their_largest(folder: Path) -> None:
    images = {f"x_{part}": RNG.integers(0, 2, (12, 28, 28)).astype(np.uint8) for part in ("train", "valid", "test")}
    packed = {part: np.packbits(rows.reshape(12, -1), axis=1) for part, rows in images.items()}
    np.savez(folder / "binary-mnist" / "static_binary_mnist.npz", **packed)
    data = load_data("static-mnist-14")
    pooled = images["x_test"].reshape(12, 14, 2, 14, 2).max((2, 4))
    np.testing.assert_array_equal(data.test[:, 0].numpy(), pooled)
