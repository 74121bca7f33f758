"""Masked: one batch of unequal lengths, and a refusal in one sentence wherever a model wants whole rows."""

from __future__ import annotations

import copy

import pytest
import torch

from genalloy.core.batch import Batch
from genalloy.core.distribution import density
from genalloy.core.evidence import Unavailable
from genalloy.core.observations import Masked
from genalloy.heads.discrete import Bernoulli
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.fitted import FittedGaussian
from genalloy.networks.causal.made import MADE
from genalloy.networks.mlp import Hidden
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.objectives.objective import Play

ROWS = [torch.ones(2, 3), torch.zeros(4, 3), torch.ones(1, 3)]


def model(steps: int, size: int) -> Autoregressive:
    torch.manual_seed(0)
    return Autoregressive(MADE((steps, size), 1, Hidden((16,))), Bernoulli(), (steps, size))


def test_rows_are_padded_and_remembered() -> None:
    batch = Masked.of(ROWS, 5)
    assert batch.shape == (3, 5, 3) and len(batch) == 3 and batch.steps == 5
    assert batch.lengths.tolist() == [2, 4, 1] and batch.x[0, 2:].sum() == 0 and batch.mask[0].sum() == 6
    assert Masked.of(ROWS).shape == (3, 4, 3)
    assert Masked.of([torch.ones(2), torch.ones(1)]).lengths.tolist() == [2, 1], "steps without features"


def test_rows_are_chosen_with_their_masks() -> None:
    batch = Masked.of(ROWS)
    assert batch[1:].lengths.tolist() == [4, 1] and batch[torch.tensor([2, 0])].lengths.tolist() == [1, 2]
    assert Batch(batch).rows(slice(0, 2)).x.lengths.tolist() == [2, 4] and len(Batch(batch)) == 3
    wide = batch.to(torch.float64)
    assert wide.dtype == torch.float64 and wide.mask.dtype == torch.bool and wide.lengths.tolist() == [2, 4, 1]
    assert copy.deepcopy(batch).lengths.tolist() == [2, 4, 1]


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 3"):
        Masked.of(ROWS, 3)
    with pytest.raises(ValueError, match="one or more"):
        Masked.of([])


@pytest.mark.parametrize("use", [lambda m: m.dim(), lambda m: torch.relu(m), lambda m: m.flatten(1), lambda m: torch.ones(3) - m])
def test_what_wants_a_whole_row_says_so(use) -> None:
    with pytest.raises(Unavailable, match="autoregressive models and factorised heads can"):
        use(Masked.of(ROWS))
    assert not hasattr(Masked.of(ROWS), "nonsense")


def test_a_model_of_whole_rows_refuses() -> None:
    part = FittedGaussian(torch.zeros(4, 3), torch.eye(12))
    with pytest.raises(Unavailable, match="padded"):
        density(part(), Masked.of(ROWS))


def test_the_loss_weighs_rows_and_has_the_scale_of_a_step() -> None:
    batch, part = Masked.of(ROWS), model(4, 3)
    loss = MaximumLikelihood()(Play(part, Batch(batch)))
    torch.testing.assert_close(loss, -density(part(), batch).value.mean() / 4)
    assert MaximumLikelihood()(Play(part, Batch(batch.x))) == -density(part(), batch.x).value.mean()
    halves = [MaximumLikelihood()(Play(part, Batch(batch[rows]))) * share for rows, share in ((slice(0, 1), 1), (slice(1, 3), 2))]
    torch.testing.assert_close(sum(halves) / 3, loss, msg="shards add up")


def test_padding_is_not_seen() -> None:
    batch, part = Masked.of(ROWS), model(4, 3)
    other = Masked(torch.where(batch.mask, batch.x, torch.randn(3, 4, 3)), batch.mask)
    torch.testing.assert_close(density(part(), batch).value, density(part(), other).value)
