r"""Maximum likelihood: the negative density, whatever its label.

On a flow it is exact, on a latent-variable model it is the evidence lower bound: one objective, the label tells.

A hybrid model has two likelihoods, of observations and of labels given them (Nalisnick et al., 2019, arXiv:1902.02767), and is
trained on

.. math:: \lambda \log p(x) + \log p(y | x),

which is `lam * MaximumLikelihood() + MaximumLikelihood(of=At("label_given_x"))` with the labels y as the batch's context.

Rows of unequal lengths (a Masked batch) are weighted by row: the sum over a row's steps is its likelihood, and weighting by steps
would fit another law. The value is divided by the number of steps of the padded batch, a constant of the data set,

.. math:: -\frac1{BT} \sum_b \log p(x_b),

so that gradients, clipping and learning rates have the scale of one step however long the rows are. Dividing by the batch's own
count of observed steps would make a row's weight depend on the rows beside it, and shards would not add up.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genalloy.core.distribution import density
from genalloy.core.evidence import Evidence, Kind, Unavailable
from genalloy.objectives.objective import Objective, Play
from genalloy.objectives.sources import At


def batch_density(play: Play) -> Evidence:
    """density(model, batch), once for all summed terms."""
    return play.once("density", lambda: density(play.distribution, play.batch.x))


class MaximumLikelihood(Objective):
    r""":math:`-E \log p(x)`: minus the mean of density(x).value, nats (a step, where lengths are unequal).

    With `of`, :math:`-E \log p(c | x)` of the batch's context c, as in a hybrid model (Nalisnick et al., 2019, arXiv:1902.02767).

    of: the capability that returns p(c | x) for x (\*B, \*E), a distribution with batch (\*B).

    Raises ValueError before step 0 where the batch has no context or its classes are unknown, Unavailable where the model lacks
    the capability or the density.
    """

    def __init__(self, of: At | None = None) -> None:
        super().__init__()
        self.of = of

    def forward(self, play: Play) -> Tensor:
        """The loss, a scalar in nats; a bound of it where the density is a bound."""
        return -self._evidence(play).value.mean() / play.batch.steps

    def check(self, play: Play) -> None:
        """Raises ValueError or Unavailable, see the class."""
        if self.of is not None:
            self._check_context(play, self.of)
        evidence = self._evidence(play)
        if evidence.kind is Kind.NONE:
            raise Unavailable(f"{self!r} cannot train this model: no density ({evidence.how})")

    def _evidence(self, play: Play) -> Evidence:
        if self.of is None:
            return batch_density(play)
        given, label = self.of.offered(play), play.batch.context
        return play.once(("density", self.of), lambda: density(given, label))

    def _check_context(self, play: Play, of: At) -> None:
        context: Any = play.batch.context
        if not hasattr(context, "shape"):
            raise ValueError(f"{self!r} needs labels as the batch's context, one tensor; found {type(context).__name__}")
        try:
            play.reach(of.name)
        except Unavailable as error:
            raise Unavailable(f"{self!r} cannot train this model: {error}") from None
