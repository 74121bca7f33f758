"""`fit` takes what a torch DataLoader gives, and refuses what it cannot take in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from genalloy.core.batch import Batch
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.fit import fit
from genalloy.transforms.linear import ActNorm

X, Y = torch.randn(40, 2) * 3, torch.arange(40) % 2


def trained(batches: Any) -> list[float]:
    return [value for step in fit(Flow(StandardNormal((2,)), [ActNorm((2,))], (2,)), MaximumLikelihood(), batches)
            for value in step.losses.values()]  # fmt: skip


def test_loaders_give_the_same_as_batches() -> None:
    expected = trained([Batch(part) for part in X.split(10)])
    assert len(expected) == 4
    for loader in (DataLoader(TensorDataset(X), batch_size=10), DataLoader(X, batch_size=10), list(X.split(10))):
        assert trained(loader) == expected


def test_labels_become_the_context() -> None:
    batch = next(map(Batch.of, DataLoader(TensorDataset(X, Y), batch_size=10)))
    assert torch.equal(batch.x, X[:10]) and torch.equal(batch.context, Y[:10].float())
    assert Batch.of(batch) is batch


def test_contexts_may_be_named_or_several() -> None:
    named = [(x, {"label": y, "size": x}) for x, y in zip(X, Y, strict=True)]
    batch = next(map(Batch.of, DataLoader(named, batch_size=10)))  # type: ignore[arg-type]
    assert torch.equal(batch.context["label"], Y[:10].float()) and batch.rows(slice(0, 3)).context["size"].shape == (3, 2)
    several = [(x, (y, x)) for x, y in zip(X, Y, strict=True)]
    batch = next(map(Batch.of, DataLoader(several, batch_size=10)))  # type: ignore[arg-type]
    assert type(batch.context) is tuple and torch.equal(batch.context[1], X[:10]) and batch.context[0].dtype == torch.float32


@pytest.mark.parametrize("item", [[X, Y, Y], "rows", [], [[1.0], [2.0]], [X, "label"], [X, {"label": 3}], None])
def test_other_batches_are_refused_in_one_line(item: Any) -> None:
    with pytest.raises(ValueError, match=r"expected Batch\(x, context\)") as error:
        trained([item])
    assert "\n" not in str(error.value)


def test_a_dict_is_a_record_and_a_model_of_tensors_says_so() -> None:
    with pytest.raises(ValueError, match=r"rows with a context are Batch\(x, context\)") as error:
        trained([{"x": X, "label": Y}])
    assert "\n" not in str(error.value)
