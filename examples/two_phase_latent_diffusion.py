"""Latent diffusion without a second trainer: fit a VAE, swap its prior for a diffusion, fit that to the codes.

`genalloy fit latent-diffusion digits` does the same as two phases of one run.
python examples/two_phase_latent_diffusion.py [--smoke]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from genalloy import density, fit
from genalloy.core.capabilities import Batch
from genalloy.core.part import Conditional
from genalloy.core.schedules import Cosine
from genalloy.data.load import load
from genalloy.heads.discrete import Categorical
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO
from genalloy.recipes.diffusion import latent_diffusion_prior
from genalloy.training.options import Adam, Training

X, Z = (1, 8, 8), (8,)


def rows(x: Tensor, steps: int) -> Iterator[Batch]:
    return (Batch(x[torch.randint(len(x), (128,))]) for _ in range(steps))


def main(smoke: bool) -> None:
    torch.manual_seed(0)
    data, steps = load("digits"), 20 if smoke else 1500
    decay = Cosine(1.0, 0.01, steps)
    decoder = Conditional(Categorical(17), MLP((Z,), 64 * 17, dropout=0.1), X, (Z,))
    encoder = Conditional(Gaussian(), MLP((X,), 8 * 2, shift=8.0, scale=4.0, dropout=0.1), Z, (X,))
    vae = LatentVariable(StandardNormal(Z), decoder, encoder)
    for _ in fit(vae, ELBO(beta=0.5), rows(data.train, steps), training=Training(Adam(2e-3), decay, clip=100.0)):
        pass
    vae.eval()
    print("N(0, I) prior:   ", density(vae(), data.test))

    prior, score_matching = latent_diffusion_prior(8)
    codes = vae().infer(data.train).sample()
    for _ in fit(prior, score_matching, rows(codes, steps), training=Training(Adam(2e-3), decay, clip=1.0)):
        pass
    vae.prior = prior  # nesting: the VAE does not know what its prior is, and the label is worked out again
    vae.eval()
    with torch.no_grad():
        print("diffusion prior: ", density(vae(), data.test))
        print(f"samples {tuple(vae().sample((16,)).shape)}, minimised {score_matching!r} in the second phase")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
