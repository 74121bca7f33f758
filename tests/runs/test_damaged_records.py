"""A run's folder with a damaged file: one line that names it, from every reader."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from genalloy.recipes.composition import Composition, Phase
from genalloy.runs.create import RunData
from genalloy.runs.settings import RunSettings
from genalloy.runs.train import RunState
from genalloy.training.checkpoint import FORMAT, read_run, run_facts, write_tensors
from genalloy.training.records import of_record, read_json
from genalloy.training.state import State

SETTINGS = RunSettings("vae", "moons", settings={"width": 8}, steps=3).with_plan((3,))
DATA = {
    "name": "moons", "space": {"kind": "real", "shape": [2]}, "source": {"form": {}}, "notes": [], "classes": [], "lengths": [],
}  # fmt: skip
TEXTS: dict[str, bytes] = {
    "empty": b"", "cut": b'{"format": 1, "rec', "list": b"[]", "null": b"null", "number": b"3", "text": b"hello",
    "empty object": b"{}",
    "not UTF-8": b'{"recipe": "\xff\xfe"}', "deep": b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "zeros": bytes(100),
    "a name twice": b'{"format": 1, "format": 1}', "digits": b'{"format": ' + b"9" * 5000 + b"}",
}  # fmt: skip


def refused(path: Path, read: Callable[[], Any]) -> None:
    with pytest.raises(ValueError) as refusal:
        read()
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", TEXTS)
def test_records_that_are_no_records(name: str, tmp_path) -> None:
    for file, read in (("run.json", RunSettings.read), ("data.json", RunData.read)):
        (tmp_path / file).write_bytes(TEXTS[name])
        refused(tmp_path / file, lambda read=read: read(tmp_path))


@pytest.mark.parametrize(
    "change",
    [{"format": "1"}, {"format": None}, {"format": 99}, {"recipe": 3}, {"recipe": None}, {"steps": "many"}, {"settings": []},
     {"planned": 3}, {"planned": ["a"]}, {"seed": 1.5}, {"colour": "red"}, {"threads": True}, {"minutes": [1]}],
    ids=str,
)  # fmt: skip
def test_settings_of_another_type(change: dict[str, Any], tmp_path) -> None:
    SETTINGS.write(tmp_path)
    assert RunSettings.read(tmp_path) == SETTINGS
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | change))
    refused(tmp_path / "run.json", lambda: RunSettings.read(tmp_path))


@pytest.mark.parametrize("name", ["name", "space", "source"])
def test_data_without_an_entry(name: str, tmp_path) -> None:
    record = copy.deepcopy(DATA)
    del record[name]
    (tmp_path / "data.json").write_text(json.dumps(record))
    refused(tmp_path / "data.json", lambda: RunData.read(tmp_path))
    (tmp_path / "data.json").write_text(json.dumps(DATA | {name: 3}))
    if name != "name":
        refused(tmp_path / "data.json", lambda: RunData.read(tmp_path))


def test_a_record_that_is_not_there(tmp_path) -> None:
    refused(tmp_path / "data.json", lambda: RunData.read(tmp_path))
    refused(tmp_path / "none.json", lambda: read_json(tmp_path / "none.json"))


@pytest.mark.parametrize(
    "record", [None, 3, [], {"phase": "x"}, {"phase": True}, {"train": [[1, "a"]]}, {"other": 1}, {"best": None}], ids=str
)
def test_a_runs_memory_of_another_type(record: Any) -> None:
    with pytest.raises(ValueError, match="RunState"):
        of_record(RunState, record)


def test_a_runs_memory_comes_back(tmp_path) -> None:
    memory = RunState(step=3, train=[[1.0, float("nan")]], validation=[[1, 2.5]])
    write_tensors(tmp_path / "c.safetensors", {}, {"format": FORMAT, "memory": vars(memory), "formula": "f"})
    again = of_record(RunState, run_facts(tmp_path / "c.safetensors")[0])
    assert repr(again) == repr(memory) and again.best == -float("inf")


# -- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path) -> tuple[Path, dict[str, torch.Tensor], dict[str, Any]]:
    """A checkpoint taken apart: its place, tensors and facts."""
    from genalloy.core.spec import to_spec
    from genalloy.objectives.likelihood import MaximumLikelihood
    from genalloy.transforms.observation import Standardise

    model = torch.nn.Sequential(torch.nn.Linear(2, 3), Standardise(torch.zeros(3), torch.ones(3)))
    spec, tensors = to_spec(Composition(model, [Phase(MaximumLikelihood())], 3))
    tensors |= {f"best/{k}": v + 1 for k, v in model.state_dict().items()}
    tensors |= {"state/average/0": torch.zeros(3, 2), "state/optimizer/model/0/step": torch.tensor(1.0)}
    path = tmp_path / "checkpoint.safetensors"
    write_tensors(path, tensors, {"format": FORMAT, "spec": spec, "memory": vars(RunState()), "formula": "f"})
    with safe_open(str(path), framework="pt") as file:
        return path, {n: file.get_tensor(n) for n in file.keys()}, json.loads(file.metadata()["genalloy"])  # noqa: SIM118


DAMAGE: dict[str, Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]] = {
    "no memory": lambda t, f: f.pop("memory"),
    "memory a list": lambda t, f: f.update(memory=[]),
    "no formula": lambda t, f: f.pop("formula"),
    "no spec": lambda t, f: f.pop("spec"),
    "a float of a list": lambda t, f: f["memory"].update(best={"$float": ["inf"]}),
    "best of another name": lambda t, f: t.update({"best/x": t.pop("best/0.weight")}),
    "best missing": lambda t, f: t.pop("best/0.weight"),
    "best of another shape": lambda t, f: t.update({"best/0.weight": torch.zeros(3, 3)}),
    "best of another type": lambda t, f: t.update({"best/0.weight": torch.zeros(3, 2).half()}),
    "model's tensor missing": lambda t, f: t.pop(next(n for n in t if n.endswith("weight") and n.startswith("model"))),
    "tensor extra": lambda t, f: t.update(other=torch.zeros(2)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_checkpoints(name: str, checkpoint: Any) -> None:
    path, tensors, facts = checkpoint
    assert torch.equal(read_run(path).best["0.weight"], tensors["best/0.weight"])
    DAMAGE[name](tensors, facts)
    save_file(tensors, str(path), metadata={"genalloy": json.dumps(facts)})
    refused(path, lambda: read_run(path))


@pytest.mark.parametrize(
    "name", ["x", "average/", "optimizer/model/0", "optimizer/model/x/exp_avg", "optimizer/a/b/1/c", "average/0/1"]
)
def test_a_training_state_of_other_names(name: str) -> None:
    with pytest.raises(ValueError, match="the training state holds"):
        State.from_tensors(0, {name: torch.zeros(1)}, 0)
