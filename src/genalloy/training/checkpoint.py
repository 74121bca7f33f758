"""Files: one .safetensors file holds the tensors and, as JSON in its header, the spec that rebuilds the composition.

Nothing is ever pickled. Files are written beside their place and moved onto it, so a reader sees the old or the new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from genalloy.spec import Module, from_spec, to_spec
from genalloy.training.finite import not_finite

FORMAT = 1


class Pair(Module):
    """Model and objective of a run stored together, so that what they share is stored once."""

    def __init__(self, model: nn.Module, objective: nn.Module) -> None:
        super().__init__()
        self.model, self.objective = model, objective


def write_text(path: Path, text: str) -> None:
    """Atomic write of a small text file."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Atomic write of a small file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Atomic write of tensors with JSON facts in the header."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_file(plain, str(part), metadata={"genalloy": json.dumps(facts)})
    os.replace(part, path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts. Raises ValueError where the file is missing, of another kind, or of a newer format."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise ValueError(f"{path} does not exist; expected a file written by genalloy.save or a run's folder")
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("genalloy", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}); it may have been cut short") from None
    if facts is None:
        raise ValueError(f"{path} holds tensors but no genalloy spec; expected a file written by genalloy.save")
    if facts["format"] > FORMAT:
        raise ValueError(f"{path} has format {facts['format']}, this version reads up to {FORMAT}; install a newer genalloy")
    return tensors, facts


def save(model: nn.Module, path: str | Path) -> Path:
    """Write any composition to one .safetensors file. Raises ValueError naming what cannot be stored."""
    spec, tensors = to_spec(model)
    target = Path(path)
    write_tensors(target, tensors, {"format": FORMAT, "spec": spec})
    return target


def load(path: str | Path, trust: Iterable[str] = ()) -> nn.Module:
    """The composition that :func:`save` wrote; `trust` names third-party classes ("package.module:Class") it may build.

    In eval mode: dropout is off until `fit` or `.train()` turns it on. Raises ValueError on a weight that is not finite.
    """
    tensors, facts = read_tensors(Path(path))
    model = from_spec(facts["spec"], tensors, trust).eval()
    if (words := not_finite(model)) is not None:
        raise ValueError(f"{path}: {words}; train it again, with a lower learning rate or clipped gradients")
    return model
