"""Latent diffusion without a second trainer: fit a VAE, swap its prior for a diffusion, fit that to the codes.

`genalloy fit latent-diffusion digits` does the same as two phases of one run.
python examples/two_phase_latent_diffusion.py [--smoke]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from torch import Tensor

import genalloy as ga
from genalloy.recipes.diffusion import latent_diffusion_prior

X, Z = (1, 8, 8), (8,)


def rows(x: Tensor, steps: int) -> Iterator[ga.Batch]:
    return (ga.Batch(x[torch.randint(len(x), (128,))]) for _ in range(steps))


def main(smoke: bool) -> None:
    torch.manual_seed(0)
    data, steps = ga.load_data("digits"), 20 if smoke else 1500
    decay = ga.schedules.Cosine(1.0, 0.01, steps)
    decoder = ga.Conditional(ga.heads.Categorical(17), ga.networks.MLP((Z,), 64 * 17, dropout=0.1), X, (Z,))
    encoder = ga.Conditional(ga.heads.Gaussian(), ga.networks.MLP((X,), 8 * 2, shift=8.0, scale=4.0, dropout=0.1), Z, (X,))
    vae = ga.LatentVariable(ga.heads.StandardNormal(Z), decoder, encoder)
    for _ in ga.fit(
        vae, ga.objectives.ELBO(beta=0.5), rows(data.train, steps), training=ga.Training(ga.Adam(2e-3), decay, clip=100.0)
    ):
        pass
    vae.eval()
    print("N(0, I) prior:   ", ga.density(vae(), data.test))

    prior, score_matching = latent_diffusion_prior(8)
    codes = vae().infer(data.train).sample()
    for _ in ga.fit(prior, score_matching, rows(codes, steps), training=ga.Training(ga.Adam(2e-3), decay, clip=1.0)):
        pass
    vae.prior = prior  # nesting: the VAE does not know what its prior is, and the label is worked out again
    vae.eval()
    with torch.no_grad():
        print("diffusion prior: ", ga.density(vae(), data.test))
        print(f"samples {tuple(vae().sample((16,)).shape)}, minimised {score_matching!r} in the second phase")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
