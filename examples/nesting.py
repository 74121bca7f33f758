"""Models compose by nesting: a VAE whose prior is a flow and whose posterior is an inverse autoregressive flow, on 8x8 digits.

python examples/nesting.py [--smoke]
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
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO
from genalloy.training.options import Adam, Training
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.coupling import alternating, coupling
from genalloy.transforms.layer import Inverse

X, Z = (1, 8, 8), (8,)  # event shapes of the observation and of the code


def build(nested: bool) -> LatentVariable:
    """The same decoder and encoder; with `nested`, both ends of the code are flows."""
    prior = StandardNormal(Z)
    likelihood = Conditional(Categorical(17), MLP((Z,), 64 * 17, dropout=0.1), X, (Z,))
    posterior = Conditional(Gaussian(), MLP((X,), 8 * 2, shift=8.0, scale=4.0, dropout=0.1), Z, (X,))
    if nested:
        prior = Flow(prior, [coupling(alternating(8, odd)) for odd in (False, True) * 2], Z)
        posterior = Flow(posterior, [Inverse(masked(8)), Inverse(masked(8, order=tuple(range(7, -1, -1))))], Z, (X,))
    return LatentVariable(prior, likelihood, posterior)


def main(smoke: bool) -> None:
    data, steps = load("digits"), 20 if smoke else 2000
    for nested in (False, True):
        torch.manual_seed(0)
        model = build(nested)
        rows = (Batch(data.train[torch.randint(len(data.train), (128,))]) for _ in range(steps))
        for _ in fit(model, ELBO(), rows, training=Training(Adam(2e-3), Cosine(1.0, 0.01, steps), clip=100.0)):
            pass
        model.eval()
        with torch.no_grad():
            print(model if nested else "plain VAE")
            print(density(model(), data.test))
            print(ImportanceWeighted(64)(model(), data.test))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
