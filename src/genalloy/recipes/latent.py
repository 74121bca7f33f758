"""Latent-variable recipes: a prior, a likelihood, a posterior and an objective, each an argument."""

from __future__ import annotations

from genalloy.core.evidence import Kind
from genalloy.core.part import Conditional
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import MLP
from genalloy.objectives.bounds import ELBO, ImportanceWeightedBound
from genalloy.recipes.composition import Composition, Phase, Target
from genalloy.recipes.pieces import likelihood_head, observed
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training

TASKS = ("sample", "score", "encode", "reconstruct")
OPTIONS = Training(Adam(2e-3), clip=100.0, ema=0.995)


def likelihood(target: Target, latent: int, hidden: int, dropout: float = 0.0) -> Conditional:
    r"""Decoder: z (latent,) to factorised elements of x.

    :math:`p(x | z) = \prod_i p(x_i | z)`, a head that fits the data's kind on an MLP of two layers of `hidden` units.
    """
    head = likelihood_head(target)
    network = MLP(((latent,),), target.space.dims * head.width, (hidden, hidden), dropout=dropout)
    return Conditional(head, network, target.space.shape, ((latent,),))


def posterior(target: Target, latent: int, hidden: int, dropout: float = 0.0) -> Conditional:
    """Encoder: x to a diagonal Gaussian over z; grids enter scaled to about unit size."""
    levels = target.space.levels
    shift, scale = (0.0, 1.0) if levels is None else ((levels - 1) / 2, (levels - 1) / 4)
    network = MLP((target.space.shape,), 2 * latent, (hidden, hidden), shift=shift, scale=scale, dropout=dropout)
    return Conditional(Gaussian(), network, (latent,), (target.space.shape,))


def default_latent(target: Target, latent: int | None) -> int:
    """Length of the codes: `latent`, or as many as the data have entries, but 2 at least and 16 at most."""
    return latent or max(2, min(16, target.space.dims))


@recipe("vae", "latent", Kind.LOWER, Kind.LOWER, TASKS, "Kingma & Welling, 2014; Rezende, Mohamed & Wierstra, 2014")
def vae(
    target: Target, latent: int | None = None, hidden: int = 256, beta: float = 1.0, dropout: float = 0.2, steps: int = 1500
) -> Composition:
    r"""Variational autoencoder: Gaussian prior and posterior, factorised likelihood fitting the data's kind.

    .. math:: \min\; -E_{r(z | x)} \log p(x | z) + \beta\, KL(r(z | x)\, \|\, N(0, I))

    latent None: as many as the data have entries, 2 to 16. hidden: units of each of two layers. beta: of the KL, 1 for the bound
    on log p(x) (Higgins et al., 2017, ICLR). dropout: of both networks.
    Kingma & Welling, 2014, arXiv:1312.6114; Rezende et al., 2014, arXiv:1401.4082.
    """
    size = default_latent(target, latent)
    parts = (StandardNormal((size,)), likelihood(target, size, hidden, dropout), posterior(target, size, hidden, dropout))
    return Composition(observed(target, LatentVariable(*parts)), [Phase(ELBO(beta=beta), OPTIONS)], steps)


@recipe("iwae", "latent", Kind.LOWER, Kind.LOWER, TASKS, "Burda, Grosse & Salakhutdinov, 2016")
def iwae(
    target: Target, latent: int | None = None, hidden: int = 256, samples: int = 5, dropout: float = 0.2, steps: int = 1000
) -> Composition:
    r"""VAE trained on the k-sample importance-weighted bound.

    .. math:: E_{z_i \sim r(z | x)} \log \frac1k \sum_{i=1}^k \frac{p(x | z_i)\, p(z_i)}{r(z_i | x)} \le \log p(x)

    samples: k. latent, hidden, dropout: as for :func:`vae`.
    Burda, Grosse & Salakhutdinov, 2016, arXiv:1509.00519.
    """
    size = default_latent(target, latent)
    parts = (StandardNormal((size,)), likelihood(target, size, hidden, dropout), posterior(target, size, hidden, dropout))
    return Composition(observed(target, LatentVariable(*parts)), [Phase(ImportanceWeightedBound(samples), OPTIONS)], steps)
