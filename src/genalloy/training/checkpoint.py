"""Files: one .safetensors file holds the tensors and, as JSON in its header, the spec that rebuilds the composition.

Nothing is ever pickled. Files are written beside their place and moved onto it, so a reader sees the old or the new one.
A reader is told what is wrong with a file in one line that names it, whatever is wrong.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from genalloy.core.spec import Module, from_spec, to_spec
from genalloy.training.finite import not_finite
from genalloy.training.records import in_words, parse_json

FORMAT = 3
"""2: classes by public name, floating types announced. 1, by the file that defines the class, is read."""
HEADER = 8 * 2**20
"""Bytes of a header, of files below 64 MB; parsing takes up to twenty times as many. An eighth of larger files."""

T = TypeVar("T")


class Pair(Module):
    """Model and objective of a run stored together, so that what they share is stored once."""

    def __init__(self, model: nn.Module, objective: nn.Module) -> None:
        super().__init__()
        self.model, self.objective = model, objective


def write_text(path: Path, text: str) -> None:
    """Atomic write of a small text file."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Atomic write of a small file. Raises OSError, naming it, where it cannot be written; the earlier one is then intact."""
    with _replacing(path) as part:
        part.write_bytes(content)


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Atomic write of tensors with JSON facts in the header. Raises OSError as `write_bytes` does."""
    from safetensors.torch import save_file

    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with _replacing(path) as part:
        save_file(plain, str(part), metadata={"genalloy": json.dumps(_told(facts), allow_nan=False)})


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path`, which takes its place at the end and is removed where anything fails."""
    from safetensors import SafetensorError

    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if not issubclass(type(error), (OSError, SafetensorError)):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OSError(f"{path} cannot be written ({reason}); what stood there is intact; make room and try again") from error


def _told(value: Any) -> Any:
    """Facts without the numbers that JSON lacks: {"$float": "inf"}."""
    if isinstance(value, dict):
        return {k: _told(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_told(v) for v in value]
    return {"$float": str(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _heard(value: Any) -> Any:
    """The inverse of :func:`_told`."""
    if isinstance(value, list):
        return [_heard(v) for v in value]
    if not isinstance(value, dict):
        return value
    return float(str(value["$float"])) if set(value) == {"$float"} else {k: _heard(v) for k, v in value.items()}


# -- safetensors ---------------------------------------------------------------------------------------------------


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


class _Lazy(Mapping[str, Tensor]):
    """Tensors of an open file, each read when it is wanted."""

    def __init__(self, file: Any, names: Iterable[str]) -> None:
        self.file, self.names = file, tuple(names)

    def __getitem__(self, name: str) -> Tensor:
        return self.file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its facts, and its tensors' shapes and types (on the meta device)."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]


def _raw_header(path: Path) -> dict[str, Any]:
    """The header's JSON, its length compared with the file's before anything of that length is read."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("it is cut short, or no safetensors file")
        if length > max(HEADER, size // 8):
            raise ValueError(f"its header claims {length:,} bytes, expected at most {max(HEADER, size // 8):,}")
        return parse_json(file.read(length), _no_constant)


_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def _outline(name: str, entry: Any) -> Tensor:
    """A tensor's shape and type."""
    try:
        return torch.empty(entry["shape"], dtype=_DTYPES[entry["dtype"]], device="meta")
    except Exception:
        raise ValueError(f"its tensor {name[:80]!r} is described by {str(entry)[:80]!r}, not by a shape and a type") from None


def _facts(raw: dict[str, Any]) -> dict[str, Any]:
    metadata = raw.pop("__metadata__", None)
    text = metadata.get("genalloy") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ValueError("it holds tensors but no genalloy spec; expected a file written by genalloy.save")
    constants: list[str] = []
    facts = parse_json(text, lambda name: constants.append(name) or float(name))  # type: ignore[func-returns-value]
    number = facts.get("format")
    if type(number) is not int or number < 1:
        raise ValueError(f"it has format {str(number)[:40]!r}, expected {FORMAT}")
    if number < FORMAT:
        raise ValueError(
            f"it has format {number} of an earlier genalloy, whose classes had other names; this "
            f"version reads format {FORMAT}: train again"
        )
    if number > FORMAT:
        raise ValueError(f"it has format {number}, this version reads format {FORMAT}; install a newer genalloy")
    if constants:
        raise ValueError(f"it holds {constants[0]}, which is no JSON number")
    return {name: fact if name == "spec" else _heard(fact) for name, fact in facts.items()}


def read_header(path: Path) -> Header:
    """Facts and outlines of a file's tensors. Raises ValueError naming the file where it is missing or damaged."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; expected a file written by genalloy.save or a finished run's folder")
    try:
        raw = _raw_header(path)
        facts = _facts(raw)
        return Header(facts, {name: _outline(name, entry) for name, entry in raw.items()})
    except (ValueError, OSError) as error:
        reason = in_words(error)
    raise ValueError(f"{path} cannot be read: {reason}")


def _with_tensors(path: Path, use: Callable[[Mapping[str, Tensor]], T]) -> T:
    """`use` of a file's tensors, which are read when they are wanted. Errors name the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return use(_Lazy(file, file.keys()))
    except SafetensorError as error:
        reason = f"cannot be read: {error}; it may have been cut short"
    except ValueError as error:
        reason = f"cannot be loaded: {error}"
    # what a file says is quoted in what is said of it, line breaks too
    raise ValueError(f"{path} {' '.join(reason.split())}")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts. Raises ValueError naming the file where it is missing, damaged, of another kind or of a newer format."""
    facts = read_header(path).facts
    return _with_tensors(path, dict), facts


def save(model: nn.Module, path: str | Path) -> Path:
    """Write any composition to one .safetensors file. Raises ValueError naming what cannot be stored."""
    spec, tensors = to_spec(model)
    target = Path(path)
    write_tensors(target, tensors, {"format": FORMAT, "spec": spec})
    return target


def load(path: str | Path, trust: Iterable[str] = ()) -> nn.Module:
    """The composition that :func:`save` wrote, or a finished run's; `trust` names third-party classes ("package.module:Class").

    Built are genalloy's own classes, a list of torch.nn's, and classes that you imported before.
    Everything else is refused before anything is imported, built or called. In eval mode: dropout is off until `fit` or
    `.train()` turns it on. Raises ValueError of one line that names the file, whatever is wrong with it, a weight
    that is not finite included.
    """
    target = Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
    header = read_header(target)
    spec = header.facts.get("spec")
    model = _with_tensors(target, lambda tensors: from_spec(spec, tensors, trust, header.tensors)).eval()
    if (words := not_finite(model)) is not None:
        raise ValueError(f"{target}: {words}; train it again, with a lower learning rate or clipped gradients")
    return model


# -- runs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredModel:
    """What a run's checkpoint holds. memory: the run's own record; state: optimisers and averages; best: weights of the model."""

    composition: Any
    memory: dict[str, Any]
    formula: str
    state: dict[str, Tensor]
    best: dict[str, Tensor]


def read_run(path: Path, trust: Iterable[str] = ()) -> StoredModel:
    """A run's checkpoint. Raises ValueError naming the file, as :func:`load` does, and where a part is missing or misfit."""
    header = read_header(path)
    memory, formula = run_facts(path, header)

    def use(tensors: Mapping[str, Tensor]) -> StoredModel:
        state, best = ({n[len(kind) :]: tensors[n] for n in tensors if n.startswith(kind)} for kind in ("state/", "best/"))
        own = {n: t for n, t in header.tensors.items() if not n.startswith(("state/", "best/"))}
        composition: Any = from_spec(header.facts.get("spec"), tensors, trust, own)
        _same_places(best, getattr(composition, "model", nn.Module()).state_dict())
        return StoredModel(composition, memory, formula, state, best)

    return _with_tensors(path, use)


def run_facts(path: Path, header: Header | None = None) -> tuple[dict[str, Any], str]:
    """(memory, formula) of a run's checkpoint, without its tensors. Raises ValueError naming the file where they are missing."""
    facts = (header or read_header(path)).facts
    memory, formula = facts.get("memory"), facts.get("formula")
    if not (isinstance(memory, dict) and isinstance(formula, str)):
        raise ValueError(f"{path} is no run's checkpoint: it holds no memory or no formula; give a folder of `genalloy fit`")
    return memory, formula


def _same_places(best: dict[str, Tensor], model: dict[str, Tensor]) -> None:
    """Raises ValueError where the best weights are not the model's, name by name."""
    expected = {n: (t.shape, t.dtype) for n, t in model.items()}
    odd = sorted(set(best) ^ set(expected)) or [n for n, t in best.items() if (t.shape, t.dtype) != expected[n]]
    if best and odd:
        raise ValueError(f"its best weights do not fit its model, the first of {len(odd)} being {odd[0][:80]!r}")
