"""Combinations: each is an argument, a sum, or a second phase. None has code of its own beyond these lines."""

from __future__ import annotations

from genalloy.core.evidence import Kind
from genalloy.core.part import Conditional
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.models.latent import LatentVariable
from genalloy.networks.mlp import Hidden
from genalloy.objectives.adversarial import Adversarial
from genalloy.objectives.bounds import ELBO
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.reconstruction import Reconstruction
from genalloy.objectives.sources import Encode, Prior
from genalloy.recipes.adversarial import aae_critic, flow_critic
from genalloy.recipes.composition import Composition, Encoded, Phase, Target
from genalloy.recipes.diffusion import latent_diffusion_prior
from genalloy.recipes.flows import bounded, coupling_flow, order, realnvp
from genalloy.recipes.latent import OPTIONS, TASKS, default_latent, likelihood, posterior
from genalloy.recipes.pieces import observed, scarce
from genalloy.recipes.registry import recipe
from genalloy.training.options import Adam, Training
from genalloy.transforms.autoregressive import masked
from genalloy.transforms.layer import Inverse
from genalloy.transforms.univariate import Affine


def iaf_posterior(target: Target, latent: int, hidden: int, dropout: float, layers: int) -> Flow:
    """An amortised Gaussian, then inverted MAF layers: drawing with its density is one parallel pass.

    Part over codes (latent,) given x of the data's shape. hidden: units of the encoder, half as many in the flow's networks.
    """
    base: Conditional = posterior(target, latent, hidden, dropout)
    steps = [Inverse(masked(latent, Hidden((hidden // 2,)), order(latent, i), univariate=Affine(2.0))) for i in range(layers)]
    return Flow(base, steps, (latent,), (target.space.shape,))


@recipe("vae-iaf", "combination", Kind.LOWER, Kind.LOWER, TASKS, "Kingma et al., 2016")
def vae_iaf(
    target: Target, latent: int | None = None, hidden: int = 256, layers: int = 2, dropout: float = 0.2, steps: int = 1500
) -> Composition:
    """VAE whose posterior is an inverse autoregressive flow.

    latent, hidden, dropout: as for :func:`genalloy.recipes.latent.vae`. layers: of the flow.
    Kingma et al., 2016, arXiv:1606.04934.
    """
    size = default_latent(target, latent)
    decoder, encoder = likelihood(target, size, hidden, dropout), iaf_posterior(target, size, hidden, dropout, layers)
    model = observed(target, LatentVariable(StandardNormal((size,)), decoder, encoder))
    return Composition(model, [Phase(ELBO(), OPTIONS)], steps)


@recipe("vae-flow-prior", "combination", Kind.LOWER, Kind.LOWER, TASKS, "Chen et al., 2017")
def vae_flow_prior(
    target: Target, latent: int | None = None, hidden: int = 256, layers: int = 4, dropout: float = 0.2, steps: int = 1200
) -> Composition:
    """VAE whose prior is a coupling flow.

    latent, hidden, dropout: as for :func:`genalloy.recipes.latent.vae`. layers: couplings, of affine maps.
    Chen et al., 2017, arXiv:1611.02731, whose prior is an autoregressive flow.
    """
    size = default_latent(target, latent)
    prior = coupling_flow(size, layers, Hidden((64, 64)), bounded(target, max(1, layers // 2)))
    decoder, encoder = likelihood(target, size, hidden, dropout), posterior(target, size, hidden, dropout)
    return Composition(observed(target, LatentVariable(prior, decoder, encoder)), [Phase(ELBO(), OPTIONS)], steps)


@recipe("flow-gan", "combination", Kind.EXACT, Kind.LOWER, ("sample", "score", "encode"), "Grover, Dhar & Ermon, 2018")
def flow_gan(
    target: Target,
    weight: float | None = None,
    layers: int | None = None,
    width: int | None = None,
    dropout: float = 0.2,
    steps: int = 800,
) -> Composition:
    """RealNVP trained by likelihood and by a critic: MaximumLikelihood() + weight * Adversarial(critic).

    weight None: half the dimension, since a likelihood in nats grows with it and a payoff does not. weight 0: no critic.
    width None: as realnvp's. Of few reals the best validated weights are kept: the last have learned them by heart.
    Grover, Dhar & Ermon, 2018, arXiv:1705.08868.
    """
    flow, dims = realnvp(target, layers, width, dropout), target.space.dims
    weight = dims / 2 if weight is None else weight
    # without a critic that plays in vain, weight 0 is maximum likelihood bit for bit
    objective = MaximumLikelihood() + weight * Adversarial(flow_critic((dims,))) if weight else MaximumLikelihood()
    options = Training(Adam(1e-3, (0.5, 0.99)), ema=0.995, clip=10.0)
    return Composition(flow.model, [Phase(objective, options, select=scarce(target))], steps)


@recipe("aae", "combination", Kind.LOWER, Kind.LOWER, TASKS, "Makhzani, Shlens, Jaitly & Goodfellow, 2016")
def aae(target: Target, latent: int | None = None, hidden: int = 256, dropout: float = 0.2, steps: int = 1000) -> Composition:
    """Adversarial autoencoder: reconstruction, and a critic that matches the codes' law to the prior.

    latent None: as many as the data have entries, from 2 on; never more than 8. hidden: units. dropout: of both networks.
    Makhzani et al., 2016, arXiv:1511.05644.
    """
    size = min(default_latent(target, latent), 8)
    parts = (StandardNormal((size,)), likelihood(target, size, hidden, dropout), posterior(target, size, hidden, dropout))
    objective = Reconstruction() + Adversarial(aae_critic(size), real=Prior(), fake=Encode())
    options = Training(Adam(1e-3, (0.5, 0.99)), ema=0.995, clip=10.0)
    return Composition(observed(target, LatentVariable(*parts)), [Phase(objective, options, select=False)], steps)


@recipe("latent-diffusion", "combination", Kind.LOWER, Kind.LOWER, TASKS, "Vahdat, Kreis & Kautz, 2021; Rombach et al., 2022")
def latent_diffusion(
    target: Target, latent: int | None = None, hidden: int = 256, beta: float = 0.5, dropout: float = 0.2, steps: int = 4000
) -> Composition:
    """VAE whose prior is a diffusion, fitted in a second phase to the codes.

    beta: of the KL in the first phase, which takes two fifths of the steps under a prior N(0, I). latent, hidden, dropout: as for
    :func:`genalloy.recipes.latent.vae`.
    Vahdat, Kreis & Kautz, 2021, arXiv:2106.05931; Rombach et al., 2022, arXiv:2112.10752.
    """
    size = default_latent(target, latent)
    decoder, encoder = likelihood(target, size, hidden, dropout), posterior(target, size, hidden, dropout)
    prior, score = latent_diffusion_prior(size)
    first = observed(target, LatentVariable(StandardNormal((size,)), decoder, encoder))
    model = observed(target, LatentVariable(prior, decoder, encoder))
    phases = [
        Phase(ELBO(beta=beta), OPTIONS, model=first, share=0.4, select=False),
        Phase(score, Training(Adam(2e-3), ema=0.998, clip=1.0), model=prior, view=Encoded(), share=0.6, select=False),
    ]
    return Composition(model, phases, steps)
