"""Data that come with the package: toys with a known law, and scikit-learn's digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from genalloy.data.dataset import Dataset
from genalloy.data.form import Form
from genalloy.data.raw import Raw, digest_array
from genalloy.data.space import Space
from genalloy.data.toy import toy

TOY_SIZES = {"test": 10_000, "validation": 5_000, "train": 50_000}


def load_toy(name: str, seed: int, limit: int | None) -> Dataset:
    """Fresh draws of a two-dimensional law, with its exact density: 50,000, 5,000 and 10,000 rows (n, 2), at most `limit` each.

    Raises BadData where no toy has the name.
    """
    law = toy(name)
    generator = torch.Generator().manual_seed(seed)
    sizes = {part: min(n, limit or n) for part, n in TOY_SIZES.items()}
    x = {part: law.sample(n, generator) for part, n in sizes.items()}
    notes = (f"the best possible E log p is {law.optimum:.4f} nats ({law.how})",)
    source = {
        "path": "",
        "sha256": digest_array(x["train"].numpy()),
        "split": f"fresh draws, seed {seed}",
        "seed": seed,
        "limit": limit,
        "steps": [],
        "sizes": sizes,
        "form": Form().to_json(),
    }
    dataset = Dataset(name, Space((2,), "points"), x["train"], x["validation"], x["test"], {}, (), notes, source)
    return replace(dataset, log_density=law.log_density, entropy_optimum=law.optimum, modes=law.modes)


def digits(seed: int) -> Raw:
    """scikit-learn's 8x8 digits, 0..16: 360 test rows as `train_test_split` draws them, 144 validation rows of the rest."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    rest, test = train_test_split(np.arange(len(bunch.target)), test_size=360, random_state=seed)
    parts = {"train": rest[144:], "validation": rest[:144], "test": test}
    images = bunch.images.astype(np.uint8)
    rows, labels = ({part: values[i] for part, i in parts.items()} for values in (images, bunch.target))
    return Raw("digits", rows, labels, sha256=digest_array(images), split=f"1293/144/360, seed {seed}")
