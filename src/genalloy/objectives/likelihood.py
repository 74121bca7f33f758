"""Maximum likelihood: the negative density, whatever its label.

On a flow it is exact, on a latent-variable model it is the evidence lower bound: one objective, the label tells.
"""

from __future__ import annotations

from torch import Tensor

from genalloy.distribution import density
from genalloy.evidence import Evidence, Kind, Unavailable
from genalloy.objectives.objective import Objective, Play


def batch_density(play: Play) -> Evidence:
    """density(model, batch), once for all summed terms."""
    return play.once("density", lambda: density(play.distribution, play.batch.x))


class MaximumLikelihood(Objective):
    """-E log p(x): minus the mean of density(x).value, nats."""

    def forward(self, play: Play) -> Tensor:
        return -batch_density(play).value.mean()

    def check(self, play: Play) -> None:
        evidence = batch_density(play)
        if evidence.kind is Kind.NONE:
            raise Unavailable(f"MaximumLikelihood cannot train this model: no density ({evidence.how})")
