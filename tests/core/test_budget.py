"""However large a file's numbers are, reading it allocates little: measured as a process's peak of resident memory."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from closed_list import node, spec, write
from torch import nn

from genalloy.core.spec import from_spec, guard, to_spec
from genalloy.core.spec.guard import ROOM, OverBudgetError, budget, resident
from genalloy.training.checkpoint import load, save

PROMISE = 256 * 2**20

MEASURE = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
import hostile
hostile.measure(sys.argv[2], sys.argv[3] == 'thin')
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are told by Linux")
@pytest.mark.parametrize("share", ["thin", pytest.param("whole", marks=pytest.mark.slow)])
def test_no_class_with_an_argument_blown_up_allocates_more_than_promised(share: str, tmp_path) -> None:
    command = [sys.executable, "-c", MEASURE, str(Path(__file__).parent), str(tmp_path), share]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    tried, *found = done.stdout.splitlines()
    assert int(tried) > 100 and found == []


# -- what is large and sound ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [2**20, pytest.param(ROOM, marks=pytest.mark.slow)])
def test_a_model_larger_than_the_room_loads(room: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(guard, "ROOM", room)
    width = math.isqrt(room // 4) + 1
    model = nn.Sequential(nn.Linear(width, width, bias=False), nn.Linear(width // 2, width // 2, bias=False))
    path = save(model, tmp_path / "large.safetensors")
    loaded: Any = load(path)
    assert torch.equal(loaded[0].weight, model[0].weight)


class Greedy(nn.Module):
    """What a constructor may do, by name."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("kept", torch.zeros(()))
        GREED[how]()


def _blocks() -> list[torch.Tensor]:
    return [torch.ones(2**20) for _ in range(1000)]


GREED: dict[str, Any] = {
    "zeros": lambda: torch.zeros(10**9),
    "empty": lambda: torch.empty(10**11),
    "arange": lambda: torch.arange(10**9),
    "outer": lambda: torch.ones(30_000)[:, None] * torch.ones(30_000),
    "repeat": lambda: torch.ones(10).repeat(10**8),
    "cat": lambda: torch.cat([torch.ones(10**6)] * 200),
    "resize": lambda: torch.ones(1).resize_(10**9),
    "pieces": _blocks,
    "list": lambda: [0] * 10**9,
    "range": lambda: list(range(10**9)),
    "text": lambda: "x" * 10**10,
    "loop": lambda: [object() for _ in range(10**9)],
    "array": lambda: __import__("numpy").ones(10**9),
    "module list": lambda: nn.ModuleList(nn.ReLU() for _ in range(10**7)),
    "recursion": lambda: GREED["recursion"](),
    "key": lambda: {}["missing"],
    "index": lambda: [][3],
    "attribute": lambda: object().missing,
    "zero division": lambda: 1 // 0,
    "assertion": lambda: _fail(),
}
LINUX = ("list", "range", "text", "loop", "array")


def _fail() -> None:
    raise AssertionError("two\nlines")


# the loop fills what the heap has free before it meets the limit: a second alone, a minute after thousands of tests
@pytest.mark.parametrize("how", [pytest.param(how, marks=pytest.mark.slow) if how == "loop" else how for how in GREED])
def test_a_constructor_is_stopped_in_one_line(how: str, tmp_path) -> None:
    if how in LINUX and resident() == 0:
        pytest.skip("bounded by the system, on Linux")
    path = write(tmp_path / "greedy.safetensors", spec(node(f"{__name__}:Greedy", {"how": how})))
    before = resident()
    with pytest.raises(ValueError, match=r"greedy\.safetensors.*Greedy could not be built") as refusal:
        load(path)
    assert "\n" not in str(refusal.value)
    assert resident() - before < PROMISE
    assert from_spec(*to_spec(nn.Linear(100, 100))) is not None


def test_an_interrupt_is_no_damage(tmp_path, monkeypatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(GREED, "interrupt", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(write(tmp_path / "file.safetensors", spec(node(f"{__name__}:Greedy", {"how": "interrupt"}))))


def test_nothing_of_the_budget_stays_behind() -> None:
    import resource

    limits, hooks = resource.getrlimit(resource.RLIMIT_DATA), len(nn.modules.module._global_module_registration_hooks)
    with pytest.raises(OverBudgetError), budget(0, 0, 0):
        torch.zeros(ROOM)
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits
    assert len(nn.modules.module._global_module_registration_hooks) == hooks
    assert torch.zeros(ROOM // 4).numel() == ROOM // 4


def test_threads_load_beside_each_other_and_their_models_are_not_counted() -> None:
    stored, problems = to_spec(nn.Sequential(*(nn.Linear(4, 4) for _ in range(30)))), []

    def work() -> None:
        try:
            for _ in range(20):
                from_spec(*stored)
                nn.Sequential(*(nn.Linear(2, 2) for _ in range(40)))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
