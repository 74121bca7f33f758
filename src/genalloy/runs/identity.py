"""Which data a number is of. Recorded beside every run and every measurement, and compared wherever the data are loaded again."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.data.raw import PARTS

SHOWN = 8
"""Hex digits of a hash that a person is shown."""


class OtherData(ValueError):
    """The data at hand are not those that were recorded."""


@dataclass(frozen=True)
class Identity:
    """sha256: of the source as it was found. rows: of the parts as they were loaded, labels and lengths included.

    seed, limit, sizes: of the split. made: when it was recorded, UTC. An empty hash is unknown (an older version's record).
    """

    name: str
    path: str = ""
    sha256: str = ""
    rows: str = ""
    seed: int | None = None
    limit: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    made: str = ""

    @staticmethod
    def of(dataset: Dataset) -> Identity:
        source = dataset.source
        sizes = {part: len(dataset.part(part)) for part in PARTS}
        return Identity(
            dataset.name, source.get("path", ""), source.get("sha256", ""), rows_of(dataset), source.get("seed"),
            source.get("limit"), sizes, datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip

    @staticmethod
    def from_json(record: dict[str, Any]) -> Identity:
        """From what `to_json` wrote; keys that it does not know are left out."""
        known = {f.name for f in fields(Identity)}
        return Identity(**{"name": "the data", **{k: v for k, v in record.items() if k in known}})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def short(self) -> str:
        """The hash as a person is shown it."""
        return self.sha256[:SHOWN]

    def same(self, other: Identity) -> bool:
        return self.difference(other) == ""

    def difference(self, now: Identity) -> str:
        """What is other now, in words; empty where all that both know is equal."""
        if self.sha256 and now.sha256 and self.sha256 != now.sha256:
            return (
                f"{self.path or self.name} had sha256 {self.short()} then{_dated(self.made)}, {now.path or now.name} has"
                f" {now.short()} now{_dated(modified(now.path), 'written ')}"
            )
        named = (("--limit", self.limit, now.limit), ("the split's seed", self.seed, now.seed), ("rows", _row(self), _row(now)))
        for what, before, after in named:
            if before != after and bool(self.sha256):
                return f"{self.name} was loaded with {what} {before}, and is with {after}"
        if self.rows and now.rows and self.rows != now.rows:
            return (
                f"{self.path or self.name} gives other rows than then{_dated(self.made)}, though its sha256 {self.short()} is the"
                " same (another label, window or version)"
            )
        return ""

    def require(self, now: Identity, who: str) -> None:
        """Raises OtherData where `now`, loaded for `who`, is not what was recorded."""
        words = self.difference(now)
        if words:
            raise OtherData(f"{who} is of other data: {words}; put the old data back, or choose another --out for a new run")


UNKNOWN = Identity("the data")


def _row(identity: Identity) -> str:
    return "/".join(f"{identity.sizes.get(part, 0):,}" for part in PARTS)


def _dated(when: str, what: str = "") -> str:
    return f" ({what}{when.replace('T', ' ').replace('+00:00', ' UTC')})" if when else ""


def modified(path: str) -> str:
    """When a file, or the youngest one in a folder, was last written, UTC; empty where there is none."""
    place = Path(path)
    if not path or not place.exists():
        return ""
    files = [place, *place.rglob("*")] if place.is_dir() else [place]
    youngest = max(file.stat().st_mtime for file in files if file.exists())
    return datetime.fromtimestamp(youngest, UTC).isoformat(timespec="seconds")


# -- hashes of rows ------------------------------------------------------------------------------------------------


def rows_of(dataset: Dataset) -> str:
    """sha256 over all that a model may see: the parts, their labels and lengths."""
    sha = hashlib.sha256(str(dataset.label_names).encode())
    for part in PARTS:
        for tensor in (dataset.part(part), dataset.labels.get(part), dataset.lengths.get(part)):
            sha.update(b"none" if tensor is None else hash_of(tensor).encode())
    return sha.hexdigest()


def hash_of(tensor: Tensor) -> str:
    """sha256 over a tensor's type, shape and values."""
    sha = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    sha.update(tensor.detach().cpu().contiguous().numpy().data.cast("B") if tensor.numel() else b"")
    return sha.hexdigest()


def repeated(rows: Tensor, train: Tensor) -> int:
    """How many of the rows (N, *E) are also among the training rows (M, *E), value for value."""
    # adding 0 makes -0 and 0 one value
    seen = {row.tobytes() for row in (train + 0.0).numpy()}
    return sum(row.tobytes() in seen for row in (rows + 0.0).numpy())
