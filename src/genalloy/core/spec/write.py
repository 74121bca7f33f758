"""Writing: a composition as a JSON spec and its tensors, without pickle.

Modules are nodes identified by object identity: a part held by two others appears once. Tensors are written by identity,
contiguous. Everything that a reader would refuse is refused here, so that a run that starts can be stored.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from genalloy.core.spec.base import Foreign, arguments, frozen_value
from genalloy.core.spec.check import FOREIGN, checked
from genalloy.core.spec.classes import stored_name
from genalloy.core.spec.limits import INTEGERS, LEVELS
from genalloy.core.spec.torch_modules import allowed, read_arguments

MADE = -1
"""In place of a node's index: a submodule that a constructor makes by itself."""


class Writer:
    """Collects nodes and tensors of one composition; shared objects are met once."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        self.frozen: list[str] = []
        self._seen: dict[int, int] = {}
        self._tensor_names: dict[int, str] = {}
        self._alive: list[Any] = []
        self._depth = 0
        self._named: set[str] = set()

    def encode(self, value: Any, where: str = "model") -> Any:
        """JSON form of a value. Raises ValueError naming the argument that cannot be stored."""
        self._enter(where)
        form = self._encode(value, where)
        self._depth -= 1
        return form

    def _enter(self, where: str) -> None:
        self._depth += 1
        if self._depth > LEVELS:
            raise ValueError(f"{where[:100]}... is nested deeper than {LEVELS} levels; a composition must be shallower")

    def _encode(self, value: Any, where: str) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return _scalar(value, where)
        if isinstance(value, nn.Module):
            return {"$module": self._module(value, where)}
        if isinstance(value, Tensor):
            return {"$tensor": self._tensor(value, where)}
        if isinstance(value, (list, tuple, torch.Size)):
            items = [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
            return {"$tuple": items} if isinstance(value, tuple) else items
        if isinstance(value, dict):
            return {"$dict": [[_key(k, where), self.encode(v, f"{where}.{k}")] for k, v in value.items()]}
        if isinstance(value, type) and issubclass(value, nn.Module):
            return {"$class": self._name(value, where)}
        if frozen_value(type(value)):
            return {"$value": self._name(type(value), where), "fields": self._fields(value, where)}
        raise ValueError(
            f"{where} is a {type(value).__name__}, which a spec cannot hold; pass an nn.Module, a frozen dataclass, a tensor, "
            "or wrap a third-party class in Foreign('package:Class', {...})"
        )

    def _name(self, cls: type, where: str) -> str:
        name = stored_name(cls, where)
        self._named.add(name)
        return name

    def named(self) -> set[str]:
        """What a reader has to trust at most: every class, and the targets of foreign modules."""
        targets = (node["arguments"].get("target") for node in self.nodes if node["class"] == FOREIGN)
        return self._named | {target for target in targets if isinstance(target, str)}

    def _fields(self, value: Any, where: str) -> dict[str, Any]:
        return {n: self.encode(getattr(value, n), f"{where}.{n}") for n, f in value.__dataclass_fields__.items() if f.init}

    def _tensor(self, tensor: Tensor, where: str) -> str:
        if id(tensor) not in self._tensor_names:
            self._alive.append(tensor)
            self._tensor_names[id(tensor)] = where
            self.tensors[where] = tensor.detach().contiguous().clone()
            if isinstance(tensor, nn.Parameter) and not tensor.requires_grad:
                self.frozen.append(where)
        return self._tensor_names[id(tensor)]

    def _module(self, module: nn.Module, where: str) -> int:
        if id(module) not in self._seen:
            node: dict[str, Any] = {"class": self._name(type(module), where)}
            self._seen[id(module)] = len(self.nodes)
            self.nodes.append(node)
            node["arguments"] = self._arguments(module, where)
            node["tensors"] = {n: self._tensor(t, f"{where}.{n}") for n, t in _held(module)}
            node["children"] = self._children(module, where)
        if self._seen[id(module)] == MADE:
            raise ValueError(
                f"{where} is a {type(module).__name__} that another module's constructor made; pass it to both as an argument"
            )
        return self._seen[id(module)]

    def _children(self, module: nn.Module, where: str) -> dict[str, Any]:
        """Submodules that the constructor makes by itself: walked for their tensors, not for their arguments."""
        if isinstance(module, Foreign):
            return {}
        return {n: self._module_state(c, f"{where}.{n}") for n, c in module.named_children() if id(c) not in self._seen}

    def _module_state(self, module: nn.Module, where: str) -> dict[str, Any]:
        self._enter(where)
        self._seen[id(module)] = MADE
        state: dict[str, Any] = {"tensors": {n: self._tensor(t, f"{where}.{n}") for n, t in own_tensors(module)}}
        state["children"] = self._children(module, where)
        self._depth -= 1
        return state

    def _arguments(self, module: nn.Module, where: str) -> dict[str, Any]:
        """genalloy's classes take lists or dicts of modules and keep torch's containers; a caller's gets what it keeps."""
        values, own = constructor_arguments(module, where), type(module).__module__.startswith("genalloy.")
        plain = {n: _plain_modules(v) if own else v for n, v in values.items()}
        return {name: self.encode(value, f"{where}.{name}") for name, value in plain.items()}


def _plain_modules(value: Any) -> Any:
    if isinstance(value, nn.ModuleList):
        return list(value)
    return dict(value.items()) if isinstance(value, nn.ModuleDict) else value


def constructor_arguments(module: nn.Module, where: str) -> dict[str, Any]:
    """The call that would make the module again: its arguments by name, positional ones under "*".

    Raises ValueError where an argument is not kept as an attribute of its name.
    """
    cls = type(module)
    owner = next((base for base in cls.__mro__ if allowed(base) and base.__init__ is cls.__init__), None)  # type: ignore[misc]
    if owner is not None:
        return read_arguments(module, owner.__name__)
    signature = inspect.signature(cls.__init__).parameters if arguments(cls) else {}
    values: dict[str, Any] = {}
    for name in arguments(cls):
        if not hasattr(module, name):
            raise ValueError(f"{where}: {cls.__name__} does not keep its constructor argument {name!r} as an attribute")
        value, parameter = getattr(module, name), signature[name]
        if isinstance(value, (nn.Module, nn.Parameter)) and _plain(parameter):
            raise ValueError(f"{where}: {cls.__name__} keeps a {type(value).__name__} under the name of its argument {name!r}")
        values |= _named(name, value, parameter.kind)
    return values


def _plain(parameter: inspect.Parameter) -> bool:
    """Whether an argument is declared, or shown by its default, to be a flag, a number or a text."""
    declared = getattr(parameter.annotation, "__name__", parameter.annotation)
    return declared in ("bool", "int", "float", "str") or isinstance(parameter.default, (bool, int, float, str))


def _named(name: str, value: Any, kind: Any) -> dict[str, Any]:
    if kind is inspect.Parameter.VAR_KEYWORD:
        return dict(value)
    return {"*": list(value)} if kind is inspect.Parameter.VAR_POSITIONAL else {name: value}


def own_tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Parameters and those buffers that belong to the state (masks rebuilt by the constructor are not persistent)."""
    skip = module._non_persistent_buffers_set
    buffers = [(n, b) for n, b in module._buffers.items() if b is not None and n not in skip]
    return [*((n, p) for n, p in module._parameters.items() if p is not None), *buffers]


def _held(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """A node's tensors; a foreign module's with those of everything inside it."""
    if not isinstance(module, Foreign):
        return own_tensors(module)
    return [(f"{path}.{n}", t) for path, inner in module.named_modules() if path for n, t in own_tensors(inner)]


def _scalar(value: Any, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(float(value))}
    if isinstance(value, int) and abs(value) > INTEGERS:
        raise ValueError(f"{where} is an integer of {len(str(value))} digits; expected one of at most 64 bits")
    return value


def _key(key: Any, where: str) -> Any:
    if not isinstance(key, (str, int)):
        raise ValueError(f"{where} has a {type(key).__name__} as a key; a dict is stored where its keys are texts or integers")
    return key


def _precision(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The floating type of most tensors, and the types of all others that are floating: a file that differs is damaged."""
    kinds = {name: _text(t.dtype) for name, t in tensors.items() if t.is_floating_point()}
    most = max(Counter(kinds.values()).items(), key=lambda pair: pair[1], default=(_text(torch.get_default_dtype()), 0))[0]
    return {"dtype": most, "other_dtypes": {name: kind for name, kind in kinds.items() if kind != most}}


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def to_spec(thing: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(JSON spec, tensors by name) of a composition. Raises ValueError naming what cannot be stored."""
    writer = Writer()
    root = writer.encode(thing, "model")
    spec = {"root": root, "nodes": writer.nodes, "frozen": writer.frozen, **_precision(writer.tensors)}
    try:
        checked(spec, writer.tensors, writer.named())
    except ValueError as error:
        raise ValueError(f"this composition could be written but not read: {error}") from None
    return spec, writer.tensors
