"""Rows go where the model is, and numbers come back to the CPU."""

from __future__ import annotations

import torch
from torch import nn

from genalloy.core.observations import Masked
from genalloy.runs.score import placed


def test_rows_and_contexts_go_where_the_model_is():
    # no numbers on "meta", but a place that is not the CPU
    model = nn.Linear(2, 2, device="meta")
    rows, labels = torch.zeros(5, 2), torch.zeros(5)
    pieces = list(placed(model, rows, labels, 2))
    assert [len(x) for x, _ in pieces] == [2, 2, 1]
    assert all(x.device.type == c.device.type == "meta" for x, c in pieces)
    masked = Masked.first(torch.zeros(3, 4), torch.tensor([1, 2, 3]))
    assert next(placed(model, masked, None, 3))[0].x.device.type == "meta"
    assert next(placed(nn.Identity(), rows, None, 5))[0].device.type == "cpu"
