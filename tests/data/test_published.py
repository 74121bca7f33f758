"""Published tables, made up here in the layout of the originals: parts, column kinds, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genalloy.data.errors import BadData
from genalloy.data.load import load_data
from genalloy.data.published import FOLDER, PUBLISHED, UCI

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    for name in ("uci-small", "uci-maf", "bsds300"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_uci_table_declares_its_columns_and_drops_constants(folder: Path) -> None:
    table = np.stack([RNG.normal(size=200), np.ones(200), RNG.integers(0, 90, 200), RNG.choice([0.5, 0.25, 1.75], 200)], 1)
    np.savez(folder / "uci-small" / "uci_small.npz", power_plant=table, yacht=RNG.normal(size=(50, 3)))
    data = load_data("uci-power-plant")
    assert [c.kind for c in data.space.columns] == ["real", "integer", "category"] and [c.name for c in data.space.columns] == [
        "x0", "x2", "x3"
    ]  # fmt: skip
    assert data.space.measure == (1, 2) and (len(data.train), len(data.validation), len(data.test)) == (160, 20, 20)
    assert any("columns 1 never change" in note for note in data.notes)
    together = torch.cat([data.train, data.validation, data.test])
    np.testing.assert_allclose(np.sort(together[:, 0].numpy()), np.sort(table[:, 0]), rtol=1e-6)
    assert load_data("uci-yacht").space.measure == (3, 0)
    assert data.source["sha256"] != load_data("uci-yacht").source["sha256"], "one archive, several data sets"


def test_miniboone_trains_on_the_published_validation_part(folder: Path) -> None:
    held, test = RNG.normal(size=(3284, 43)), RNG.normal(size=(100, 43))
    np.savez(folder / "uci-maf" / "miniboone_heldout.npz", valid=held, test=test)
    data = load_data("miniboone-10")
    assert (len(data.train), len(data.validation), len(data.test)) == (2956, 328, 100)
    np.testing.assert_allclose(data.validation.numpy(), held[2956:], rtol=1e-6)


def test_patches_lose_their_mean_and_last_pixel(folder: Path) -> None:
    raw = {part: RNG.integers(0, 256, (30, 8, 8), dtype=np.uint8) for part in ("train", "valid", "test")}
    np.savez(folder / "bsds300" / "bsds300_patches8.npz", **raw)
    data = load_data("bsds300")
    assert data.train.shape == (30, 63) and data.space.measure == (63, 0)
    pixels = raw["valid"].reshape(30, 64) / 256.0
    pixels = pixels + 0.5 / 256 - (pixels + 0.5 / 256).mean(1, keepdims=True)
    gap = np.abs(data.validation.numpy() - pixels[:, :63])
    assert 0 < gap.max() < 1 / 256 and torch.equal(data.train, load_data("bsds300").train), (
        "noise of one level, the same every time"
    )


def test_what_is_not_at_hand_says_where_it_belongs(folder: Path) -> None:
    assert {f"uci-{name}" for name in UCI} < set(PUBLISHED)
    with pytest.raises(BadData, match=r"uci-wine .* was not found at .*uci_small\.npz"):
        load_data("uci-wine")
