"""Models compose by nesting: a VAE whose prior is a flow and whose posterior is an inverse autoregressive flow, on 8x8 digits.

python examples/nesting.py [--smoke]
"""

from __future__ import annotations

import sys

import torch

import genalloy as ga

X, Z = (1, 8, 8), (8,)  # event shapes of the observation and of the code


def build(nested: bool) -> ga.LatentVariable:
    """The same decoder and encoder; with `nested`, both ends of the code are flows."""
    prior = ga.heads.StandardNormal(Z)
    likelihood = ga.Conditional(ga.heads.Categorical(17), ga.networks.MLP((Z,), 64 * 17, dropout=0.1), X, (Z,))
    posterior = ga.Conditional(ga.heads.Gaussian(), ga.networks.MLP((X,), 8 * 2, shift=8.0, scale=4.0, dropout=0.1), Z, (X,))
    if nested:
        prior = ga.Flow(prior, [ga.transforms.coupling(ga.transforms.alternating(8, odd)) for odd in (False, True) * 2], Z)
        posterior = ga.Flow(
            posterior,
            [
                ga.transforms.Inverse(ga.transforms.masked(8)),
                ga.transforms.Inverse(ga.transforms.masked(8, order=tuple(range(7, -1, -1)))),
            ],
            Z,
            (X,),
        )
    return ga.LatentVariable(prior, likelihood, posterior)


def main(smoke: bool) -> None:
    data, steps = ga.load_data("digits"), 20 if smoke else 2000
    for nested in (False, True):
        torch.manual_seed(0)
        model = build(nested)
        rows = (ga.Batch(data.train[torch.randint(len(data.train), (128,))]) for _ in range(steps))
        for _ in ga.fit(
            model,
            ga.objectives.ELBO(),
            rows,
            training=ga.Training(ga.Adam(2e-3), ga.schedules.Cosine(1.0, 0.01, steps), clip=100.0),
        ):
            pass
        model.eval()
        with torch.no_grad():
            print(model if nested else "plain VAE")
            print(ga.density(model(), data.test))
            print(ga.estimators.ImportanceWeighted(64)(model(), data.test))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
