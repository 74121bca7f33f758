"""The second pass of reading: the checked classes are imported and built under a budget, then filled with the file's tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from traceback import clear_frames
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.isolation import Stream
from genalloy.core.spec.base import Foreign
from genalloy.core.spec.check import BuildPlan, checked
from genalloy.core.spec.guard import OverBudgetError, budget
from genalloy.core.spec.torch_modules import positional
from genalloy.core.spec.write import own_tensors


class _Builder:
    """Modules and tensors of a plan; `tensors` are read one at a time, as they are wanted."""

    def __init__(self, plan: BuildPlan, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
        self.plan, self.tensors, self.like = plan, tensors, like
        self.nodes = plan.spec["nodes"]
        self.built: dict[int, nn.Module] = {}
        self.classes: dict[str, type] = {}
        self.shared: dict[str, nn.Parameter] = {}
        self.filled: set[int] = set()
        self.forms: dict[str, Callable[[Any], Any]] = {
            "$module": lambda index: self.built[index],
            "$tensor": lambda key: self.tensors[key].clone(),
            "$tuple": lambda items: tuple(self.decode(v) for v in items),
            "$dict": lambda pairs: {k: self.decode(v) for k, v in pairs},
            "$class": lambda name: self.classes[name if ":" in name else f"torch.nn:{name}"],
            "$float": float,
        }

    def construct(self) -> nn.Module:
        """The modules by their constructors, with the weights that these give."""
        with plainly("a class of the file could not be imported"):
            self.classes = {name: place.get() for name, place in self.plan.places.items()}
        size = sum(t.numel() * t.element_size() for t in self.like.values())
        modules = sum(1 for node in self.nodes for _ in _states(node))
        name = ""
        with plainly(lambda: f"{name} could not be built from the file's arguments"), budget(size, modules, len(self.like)):
            for index in self.plan.order:
                name = self.nodes[index]["class"]
                self.built[index] = self._module(self.nodes[index])
        return self.built[self.plan.spec["root"]["$module"]]

    def decode(self, value: Any) -> Any:
        """The argument that a JSON form stands for."""
        if isinstance(value, list):
            return [self.decode(v) for v in value]
        if not isinstance(value, dict):
            return value
        if "$value" in value:
            return self._value(value)
        ((form, content),) = value.items()
        return self.forms[form](content)

    def _module(self, node: dict[str, Any]) -> nn.Module:
        cls = self.classes[node["class"]]
        if not issubclass(cls, nn.Module):
            raise ValueError(f"{node['class']} is no nn.Module")
        values = {name: self.decode(value) for name, value in node["arguments"].items()}
        return cls(*positional(cls, values.pop("*", [])), **values)

    def _value(self, value: dict[str, Any]) -> Any:
        cls = self.classes[value["$value"]]
        if issubclass(cls, nn.Module):
            raise ValueError(f"{value['$value']} is no frozen value")
        return cls(**{name: self.decode(v) for name, v in value["fields"].items()})

    @torch.no_grad()
    def fill(self, root: nn.Module) -> nn.Module:
        """The file's tensors in their places. Raises ValueError where one is of another shape or type, missing or superfluous."""
        kinds = {t.dtype for t in self.like.values() if t.is_floating_point()}
        if len(kinds) == 1:
            root.to(kinds.pop())  # constants that the constructor rebuilds follow the stored precision
        for index, module in self.built.items():
            for path, state in _states(self.nodes[index]):
                for name, key in state["tensors"].items():
                    self._assign(module, path, name, key)
        lacking = [n for n, m in root.named_modules() for _, t in own_tensors(m) if id(t) not in self.filled and self._told(m)]
        if lacking:
            raise ValueError(f"the file lacks tensors of {len(lacking)} places of the model, the first in {lacking[0]!r}")
        return root

    def _told(self, module: nn.Module) -> bool:
        """Format 1 left out the buffers inside a foreign module; all else is told by the file."""
        return bool(self.plan.dtypes) or not any(module in m.modules() for m in self.built.values() if isinstance(m, Foreign))

    def _assign(self, module: nn.Module, path: str, name: str, key: str) -> None:
        """Load into the existing tensor, or adopt the one already built where two modules share it."""
        owner, _, leaf = f"{path}.{name}".lstrip(".").rpartition(".")
        try:
            holder = module.get_submodule(owner)
        except AttributeError:
            raise ValueError(f"the file holds {key}, but {type(module).__name__} has no {owner!r}") from None
        stored, place = self.tensors[key], dict(own_tensors(holder)).get(leaf)
        if place is None and holder._buffers.get(leaf, stored) is None:
            holder.register_buffer(leaf, stored.clone())
        else:
            self._compare(stored, place, key, type(module).__name__)
            self._load(holder, leaf, key, stored)
        self.filled.add(id(getattr(holder, leaf)))

    def _compare(self, stored: Tensor, place: Tensor | None, key: str, owner: str) -> None:
        if place is None:
            raise ValueError(f"the file holds {key}, for which {owner} has no place; it was saved by another version of {owner}")
        if stored.shape != place.shape:
            found, expected = tuple(stored.shape), tuple(place.shape)
            raise ValueError(f"found {key} of shape {found}, expected {expected}: saved by another version of {owner}")
        announced = key in self.plan.dtypes and place.is_floating_point()
        if stored.dtype != place.dtype and not announced:
            raise ValueError(f"found {key} in {stored.dtype}, expected {place.dtype}; the file is damaged")

    def _load(self, holder: nn.Module, leaf: str, key: str, stored: Tensor) -> None:
        current = getattr(holder, leaf)
        if isinstance(current, nn.Parameter):
            current = self.shared.setdefault(key, current)
            setattr(holder, leaf, current)
            current.requires_grad_(key not in self.plan.spec["frozen"])
        if current.dtype == stored.dtype and current.is_contiguous():
            current.copy_(stored)
        else:
            current.data = stored.to(current.device, copy=True)


def _states(node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A node and its children with their dotted paths."""
    waiting = [("", node)]
    while waiting:
        path, state = waiting.pop()
        yield path, state
        waiting += [(f"{path}.{name}".lstrip("."), child) for name, child in state["children"].items()]


@contextmanager
def plainly(words: str | Callable[[], str]) -> Iterator[None]:
    """Whatever goes wrong inside becomes a ValueError of one line; what was allocated on the way is let go."""
    try:
        yield
        return
    except Exception as error:
        name = "" if isinstance(error, (ValueError, OverBudgetError)) else f"{type(error).__name__}: "
        reason = name + (str(error).strip().split("\n")[0][:400] or "more memory than a file of this size may need")
        if isinstance(error, (OverBudgetError, MemoryError, RuntimeError)):
            clear_frames(error.__traceback__)
    raise ValueError(f"{words if isinstance(words, str) else words()}: {reason}") from None


def construct(spec: Any, tensors: Mapping[str, Tensor], trust: Iterable[str] = ()) -> nn.Module:
    """The composition with fresh weights: what its constructors give. Raises ValueError as :func:`from_spec` does."""
    with Stream():  # constructors draw weights: the caller's stream stays where it was
        return _Builder(checked(spec, tensors, trust), tensors, tensors).construct()


def from_spec(
    spec: Any, tensors: Mapping[str, Tensor], trust: Iterable[str] = (), like: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """The composition that :func:`to_spec` wrote.

    like: the tensors' shapes and types, on the meta device, where `tensors` reads each from disk when it is wanted.
    Raises ValueError, before anything is imported, where the spec is damaged or names a class outside the closed list, and
    where the classes do not fit the file's arguments or tensors.
    """
    like = tensors if like is None else like
    builder = _Builder(checked(spec, like, trust), tensors, like)
    with Stream():  # as above, and the stored weights replace what was drawn
        root = builder.construct()
    with plainly("the file's tensors do not fit its model"):
        return builder.fill(root)
