"""Pixel models inside others: a VAE whose decoder is a PixelCNN (PixelVAE), and digits given their own 2x2 means.

python examples/pixel_vae.py [--smoke]
"""

from __future__ import annotations

import sys

import torch

from genalloy import density, fit
from genalloy.core.capabilities import Batch
from genalloy.core.part import Conditional
from genalloy.core.schedules import Cosine
from genalloy.data.load import load
from genalloy.estimators.importance_weighted import ImportanceWeighted
from genalloy.heads.discrete import Categorical
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.latent import LatentVariable
from genalloy.networks.causal.gated_pixelcnn import GatedPixelCNN, Stack
from genalloy.networks.input_embedding import OneHot
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.options import Adam, Training

X, Z, SMALL = (1, 8, 8), (8,), (1, 2, 2)


def pixels(context: tuple[int, ...]) -> Autoregressive:
    network = GatedPixelCNN(X, 17, Stack(16, 3), (context,), OneHot(17))
    return Autoregressive(network, Categorical(17), X, (context,))


def main(smoke: bool) -> None:
    data, steps = load("digits", limit=40 if smoke else None), 5 if smoke else 1000
    train, test = ((x, torch.nn.functional.avg_pool2d(x, 4)) for x in (data.train, data.test))
    posterior = Conditional(Gaussian(), MLP((X,), 2 * Z[0], shift=8.0, scale=4.0), Z, (X,))
    pixel_vae, enlarger = LatentVariable(StandardNormal(Z), pixels(Z), posterior), pixels(SMALL)
    for model, objective in ((pixel_vae, ELBO(free_bits=5.0)), (enlarger, MaximumLikelihood())):
        rows = (torch.randint(len(train[0]), (64,)) for _ in range(steps))
        batches = (Batch(train[0][i], train[1][i] if model is enlarger else None) for i in rows)
        for _ in fit(model, objective, batches, training=Training(Adam(3e-3), Cosine(1.0, 0.01, steps), clip=100.0)):
            pass
        model.eval()
    with torch.no_grad():
        print("PixelVAE", ImportanceWeighted(64)(pixel_vae(), test[0]))
        print(f"its code holds {pixel_vae().infer(test[0]).kl(pixel_vae().prior).mean():.1f} nats")
        print("given its own 2x2 means", density(enlarger(test[1]), test[0]))
        print("given another's", density(enlarger(test[1].roll(1, 0)), test[0]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    main("--smoke" in sys.argv)
