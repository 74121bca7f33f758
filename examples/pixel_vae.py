"""Pixel models inside others: a VAE whose decoder is a PixelCNN (PixelVAE), and digits given their own 2x2 means.

python examples/pixel_vae.py [--smoke]
"""

from __future__ import annotations

import sys

import torch

import genalloy as ga

X, Z, SMALL = (1, 8, 8), (8,), (1, 2, 2)


def pixels(context: tuple[int, ...]) -> ga.Autoregressive:
    network = ga.networks.GatedPixelCNN(X, 17, ga.networks.GatedStack(16, 3), (context,), ga.networks.OneHot(17))
    return ga.Autoregressive(network, ga.heads.Categorical(17), X, (context,))


def main(smoke: bool) -> None:
    data, steps = ga.load_data("digits", limit=40 if smoke else None), 5 if smoke else 1000
    train, test = ((x, torch.nn.functional.avg_pool2d(x, 4)) for x in (data.train, data.test))
    posterior = ga.Conditional(ga.heads.Gaussian(), ga.networks.MLP((X,), 2 * Z[0], shift=8.0, scale=4.0), Z, (X,))
    pixel_vae, enlarger = ga.LatentVariable(ga.heads.StandardNormal(Z), pixels(Z), posterior), pixels(SMALL)
    bound = ga.objectives.ELBO(free_bits=ga.objectives.PerGroup(5.0))
    for model, objective in ((pixel_vae, bound), (enlarger, ga.objectives.MaximumLikelihood())):
        rows = (torch.randint(len(train[0]), (64,)) for _ in range(steps))
        batches = (ga.Batch(train[0][i], train[1][i] if model is enlarger else None) for i in rows)
        for _ in ga.fit(
            model, objective, batches, training=ga.Training(ga.Adam(3e-3), ga.schedules.Cosine(1.0, 0.01, steps), clip=100.0)
        ):
            pass
        model.eval()
    with torch.no_grad():
        print("PixelVAE", ga.estimators.ImportanceWeighted(64)(pixel_vae(), test[0]))
        print(f"its code holds {pixel_vae().infer(test[0]).kl(pixel_vae().prior).mean():.1f} nats")
        print("given its own 2x2 means", ga.density(enlarger(test[1]), test[0]))
        print("given another's", ga.density(enlarger(test[1].roll(1, 0)), test[0]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    main("--smoke" in sys.argv)
