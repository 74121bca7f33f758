"""What a number claims: EXACT, LOWER, ESTIMATE and NONE beside the best possible log-density of eight Gaussians.

python examples/likelihood_labels.py [--smoke]
"""

from __future__ import annotations

import sys

import torch

import genalloy as ga

MEANING = {
    ga.Kind.EXACT: "this is log p(x)",
    ga.Kind.LOWER: "log p(x) is at least this",
    ga.Kind.ESTIMATE: "near log p(x), above or below",
}


def show(name: str, scores: ga.Evidence) -> None:
    if scores.kind is ga.Kind.NONE:
        print(f"{name:12} n/a: {scores.how}")
        return
    error = float(scores.value.std()) / len(scores.value) ** 0.5
    print(f"{name:12} {scores.mean():.3f} +- {error:.3f}  {scores.kind.value}: {MEANING[scores.kind]} ({scores.how})")


def main(smoke: bool) -> None:
    data = ga.load_data("8gaussians", limit=100 if smoke else 10_000)
    train, test = data.train.numpy(), data.test.numpy()
    exact = data.log_density(data.test)
    print(f"{'the truth':12} {float(exact.mean()):.3f} on these test rows, {data.entropy_optimum:.4f} on average")
    for name in ("realnvp", "vae", "ddpm", "r3gan"):
        model = ga.Alloy(name, steps=15 if smoke else 1500).fit(train)
        show(name, model.density(test))
        if name == "vae":  # more samples a row tighten the bound; it stays a bound
            for k in (4, 64):
                show(f"vae, k = {k}", model.density(test, ga.estimators.ImportanceWeighted(k)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
