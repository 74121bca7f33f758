r"""The autoencoder's term: :math:`-\mathbb E_{z \sim r(z|x)} \log p(x|z)`, without a KL.

With Adversarial(critic, real=Prior(), fake=Encode()) beside it this is an adversarial autoencoder (Makhzani et al., 2016,
arXiv:1511.05644), where the critic does the work of the KL. The paper's mean squared error is a Gaussian likelihood of fixed
scale.
"""

from __future__ import annotations

from torch import Tensor

from genalloy.core.distribution import density
from genalloy.core.evidence import Kind, Unavailable
from genalloy.objectives.objective import Objective, Play
from genalloy.objectives.sources import Encode


class Reconstruction(Objective):
    r""":math:`-E \log p(x | z)`, z ~ posterior(x), mean over the batch, nats.

    per_dim: divided by the size of x (nats per entry, the scale of a mean squared error), so that a critic's payoff of
    order one keeps its say whatever the data's dimension.

    Raises Unavailable where the likelihood has no density.
    """

    needs = ("infer", "decode")

    def __init__(self, per_dim: bool = True) -> None:
        super().__init__()
        self.per_dim = per_dim

    def forward(self, play: Play) -> Tensor:
        """The loss with one code a row, shared with other terms of the same play; a scalar."""
        inner, x, _ = play.reach("infer")
        evidence = density(inner.decode(Encode()(play).x), x)
        if evidence.kind is Kind.NONE:
            raise Unavailable(f"Reconstruction needs a likelihood with a density; found none ({evidence.how})")
        size = inner.event_shape.numel() if self.per_dim else 1
        return -evidence.value.mean() / size
