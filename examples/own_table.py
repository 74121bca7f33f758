"""A table with a category, a count and two reals: fitted, sampled back as the same kind of table, scored row by row.

python examples/own_table.py [--smoke]
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import torch

import genalloy as ga


def penguins(rows: int, seed: int = 0) -> pd.DataFrame:
    """Made-up birds: body mass depends on the species, flipper on mass, the number of chicks on nothing."""
    rng = np.random.default_rng(seed)
    species = rng.choice(["adelie", "chinstrap", "gentoo"], rows, p=[0.45, 0.2, 0.35])
    heavy = species == "gentoo"
    mass = rng.normal(np.where(heavy, 5.1, 3.7), 0.4)
    flipper = 150 + 13 * mass + rng.normal(0, 4, rows)
    chicks = rng.binomial(2, 0.6, rows)
    return pd.DataFrame({"species": species, "chicks": chicks, "mass_kg": mass, "flipper_mm": flipper})


def main(smoke: bool) -> None:
    table, new = penguins(2000), penguins(500, seed=1)
    model = ga.Alloy("maf", steps=20 if smoke else 1500).fit(table)
    made = model.sample(1000)

    print(made.head(4), made.dtypes.astype(str).to_dict(), sep="\n")
    print("mean mass by species, real and made:")
    print(pd.concat([t.groupby("species")["mass_kg"].mean() for t in (table, made)], axis=1, keys=["real", "made"]).round(2))

    # categories and counts are dequantised for a flow, so the number is a LOWER bound of a mixed density
    scores = model.density(new)
    print(f"{model.dataset_.space.measure_text}: {scores.mean():.3f} nats, {scores.kind.value} ({scores.how})")
    odd = new.iloc[:1].assign(species="gentoo", mass_kg=2.5)
    print(f"a gentoo of 2.5 kg: {model.density(odd).mean():.1f} nats")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
