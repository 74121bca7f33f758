"""Files written by hand, for tests of what a reader refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from genalloy.training.checkpoint import FORMAT


def node(cls: Any, arguments: Any = None, tensors: Any = None, children: Any = None) -> dict[str, Any]:
    return {"class": cls, "arguments": arguments or {}, "tensors": tensors or {}, "children": children or {}}


def spec(*nodes: dict[str, Any], root: int = 0) -> dict[str, Any]:
    return {"root": {"$module": root}, "nodes": list(nodes), "frozen": []}


def write(path: Path, content: Any, tensors: dict[str, torch.Tensor] | None = None, number: Any = FORMAT, **facts: Any) -> Path:
    text = json.dumps({"format": number, "spec": content, **facts})
    save_file(tensors or {}, str(path), metadata={"genalloy": text})
    return path


@dataclass
class Parsed:
    """A file taken apart, to be damaged and written again."""

    facts: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @staticmethod
    def of(path: Path) -> Parsed:
        with safe_open(str(path), framework="pt") as file:
            return Parsed(json.loads(file.metadata()["genalloy"]), {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118

    def write(self, path: Path, text: str | None = None) -> Path:
        save_file(self.tensors, str(path), metadata={"genalloy": json.dumps(self.facts) if text is None else text})
        return path
