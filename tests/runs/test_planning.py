"""Minutes into steps, on a machine that may be busy while they are counted."""

from __future__ import annotations

import time

import pytest
import torch
from toy_run import SETTINGS, composition, dataset

from genalloy.objectives.adversarial import Critic
from genalloy.runs import planning
from genalloy.runs.planning import divided, measure, plan
from genalloy.runs.settings import RunSettings


@pytest.mark.parametrize("shares", [[1.0], [0.4, 0.6], [0.25, 0.25, 0.5], [0.01, 0.99], [1 / 3] * 3, [3.0, 1.0]])
def test_steps_add_up_and_the_printed_number_gives_them_again(shares: list[float]) -> None:
    for total in (*range(len(shares), 60), 12_345):
        steps = divided(total, shares)
        assert sum(steps) == total and min(steps) >= 1
        assert divided(sum(steps), shares) == steps
        assert all(abs(n - total * s / sum(shares)) <= 2 for n, s in zip(steps, shares, strict=True))


def slow(monkeypatch, busy: float) -> None:
    """A step's critic takes 10 ms, and 60 ms while the machine is busy, which it is for the first seconds."""
    original, began = Critic.loss, time.monotonic()

    def loss(self: Critic, play: object) -> object:
        time.sleep(0.06 if time.monotonic() - began < busy else 0.01)
        return original(self, play)  # type: ignore[arg-type]

    monkeypatch.setattr(Critic, "loss", loss)


def test_a_busy_start_does_not_decide(monkeypatch) -> None:
    slow(monkeypatch, busy=1.0)
    found = measure(composition(), dataset(), budget=20.0, wanted=None, device=torch.device("cpu"))
    assert 2.0 <= found.spent < 4.0, "a tenth of the budget is used"
    # half of the steps are of the phase whose critic has two turns of 10 ms: 10 ms a step, and 60 ms while busy
    assert 0.01 <= found.step < 0.045


def test_timing_stops_early_where_the_wanted_steps_fit_in_anyway() -> None:
    assert measure(composition(), dataset(), budget=1000.0, wanted=10, device=torch.device("cpu")).spent < 20


def test_minutes_are_turned_into_steps_once_and_said() -> None:
    settings = RunSettings("toy", "toy", minutes=0.05)
    planned = plan(composition(), dataset(), settings)
    total = sum(planned.settings.planned)
    assert total >= planning.LEAST and "ms a step" in planned.words
    assert planned.words.startswith(f"{total:,} steps planned for 0.05 minutes")
    capped = plan(composition(), dataset(), settings, cap=True)
    assert sum(capped.settings.planned) <= 24, "minutes limit the recipe's own steps"
    assert plan(composition(), dataset(), SETTINGS).words == ""
