"""Two CPU processes give the numbers of one process that adds up the same two shards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_processes import cases, train

from genalloy.training.checkpoint import read_tensors

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    pytest.importorskip("lightning", reason="several processes run under Lightning Fabric")
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=170)
    assert done.returncode == 0, done.stderr[-3000:]
    read = [read_tensors(folder / f"rank{r}.safetensors") for r in range(2)]
    return [{name: {"numbers": t, **facts[name]} for name, t in tensors.items()} for tensors, facts in read]


@pytest.mark.parametrize("name", ["likelihood", "two players", "idle parameter"])
def test_two_processes_equal_two_shards(ranks: list[dict], name: str) -> None:
    one = train(cases()[name], None, 2)
    assert torch.equal(ranks[0][name]["numbers"], ranks[1][name]["numbers"]), "ranks have drifted apart"
    torch.testing.assert_close(ranks[0][name]["numbers"], one["numbers"], rtol=1e-6, atol=1e-6)
    for word in ("losses", "norms"):
        assert ranks[0][name][word] == pytest.approx(one[word], rel=1e-4)


def test_the_comparison_can_fail() -> None:
    """One shard draws other noise for the judge than two, so the numbers above are not equal by accident."""
    one, two = (train(cases()["two players"], None, shards)["numbers"] for shards in (1, 2))
    assert float((one - two).abs().max()) > 1e-5
