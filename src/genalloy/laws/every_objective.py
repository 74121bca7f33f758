"""Every objective of the library with a part that it is tried on: one line each. A new objective adds its line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from genalloy.core.schedules import Linear
from genalloy.data.energies import U1
from genalloy.heads.gaussian import StandardNormal
from genalloy.laws.every import every_part
from genalloy.mcmc.buffer import ReplayBuffer
from genalloy.mcmc.langevin import Langevin
from genalloy.networks.mlp import ResidualMLP as Critic
from genalloy.objectives.adversarial import Adversarial
from genalloy.objectives.adversarial import Critic as Critical
from genalloy.objectives.bounds import ELBO, ImportanceWeightedBound, PerGroup
from genalloy.objectives.contrastive import ContrastiveDivergence, NoiseContrastive
from genalloy.objectives.divergences import AlphaDivergence, ReverseKL
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.matching import FlowMatching, JacobianNorm, KineticEnergy, OptimalTransport, Reflow
from genalloy.objectives.objective import Objective, Turn
from genalloy.objectives.reconstruction import Reconstruction
from genalloy.objectives.score import DenoisingScoreMatching
from genalloy.objectives.sources import Encode, Prior


@dataclass(frozen=True)
class ListedObjective:
    """One line of :func:`every_objective`. part: the line of every_part() it is tried on; events are pairs of reals."""

    name: str
    part: str
    make: Callable[[], Objective]

    def model(self) -> nn.Module:
        """A model over vectors of two reals that offers what the objective needs."""
        listed = next(p for p in every_part() if p.name == self.part)
        return listed.make((2,), ())


def _critic() -> Critical:
    return Critical(Critic(((2,),), width=8, blocks=1))


def every_objective() -> tuple[ListedObjective, ...]:
    """One line an objective, sums and scaled ones included."""
    return (
        ListedObjective("likelihood", "maf", MaximumLikelihood),
        ListedObjective("elbo", "vae", ELBO),
        ListedObjective("elbo, annealed, free bits", "vae", lambda: ELBO(Linear(0.1, 1.0, 5), 2, PerGroup(0.1))),
        ListedObjective("importance weighted", "vae", lambda: ImportanceWeightedBound(3)),
        ListedObjective("reverse kl", "planar and radial", lambda: ReverseKL(U1())),
        ListedObjective("reverse kl, annealed", "sylvester", lambda: ReverseKL(U1(), False, 2, Linear(0.1, 1.0, 5))),
        ListedObjective("alpha divergence", "sylvester", lambda: AlphaDivergence(U1(), -1.0, 4)),
        ListedObjective("score matching", "diffusion", DenoisingScoreMatching),
        ListedObjective("flow matching", "continuous", FlowMatching),
        ListedObjective("flow matching, optimal transport", "continuous", lambda: FlowMatching(OptimalTransport())),
        ListedObjective("flow matching, diffusion", "diffusion", FlowMatching),
        ListedObjective("reflow", "continuous", lambda: Reflow((2,), 64)),
        ListedObjective("kinetic energy", "continuous", lambda: MaximumLikelihood() + KineticEnergy() + 0.1 * JacobianNorm()),
        ListedObjective("contrastive divergence", "energy", lambda: ContrastiveDivergence(Langevin(2))),
        ListedObjective("persistent chains", "energy", lambda: ContrastiveDivergence(Langevin(2), ReplayBuffer(64, (2,)))),
        ListedObjective("noise contrast", "energy", lambda: NoiseContrastive(StandardNormal((2,)))),
        ListedObjective("adversarial", "implicit", lambda: Adversarial(_critic())),
        ListedObjective("flow-gan", "realnvp", lambda: MaximumLikelihood() + 0.1 * Adversarial(_critic())),
        ListedObjective(
            "adversarial autoencoder", "vae", lambda: Reconstruction() + Adversarial(_critic(), real=Prior(), fake=Encode())
        ),
        ListedObjective("lagging inference", "vae", lambda: ELBO() + Turn(ELBO(), "posterior")),
    )
