"""Constructor arguments as data: what makes every nested composition printable and storable without pickle.

The rule is a convention rather than machinery: every constructor argument is kept as an attribute of the same name.
A spec is read from the attributes when it is wanted, so `vae.prior = flow` is stored as the flow. Modules are nodes
identified by object identity: a part held by two others appears once. Tensors are written by identity, contiguous.

Only classes that are registered (subclasses of :class:`Module` and :class:`Value` register themselves) and a short list
of torch.nn modules are rebuilt. Anything else needs :class:`Foreign` and the reader's explicit trust.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genalloy.isolation import Stream

_REGISTRY: dict[str, type] = {}


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def arguments(cls: type) -> tuple[str, ...]:
    """Names of the constructor's arguments, variadic ones included."""
    make: Any = cls.__init__  # type: ignore[misc]
    return () if make is nn.Module.__init__ else tuple(inspect.signature(make).parameters)[1:]


class Module(nn.Module):
    """An nn.Module that registers its class, prints as its constructor call and can be written as a spec."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _REGISTRY[_name(cls)] = cls

    def __repr__(self) -> str:
        return call_text(self)

    if TYPE_CHECKING:
        # torch types every attribute as Tensor | Module; constructor arguments are neither
        def __getattr__(self, name: str) -> Any: ...


class Value:
    """Base of frozen dataclasses that are passed in: samplers, schedules, estimators, ports, payoffs."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _REGISTRY[_name(cls)] = cls


class Foreign(Module):
    """A module of another package, rebuilt only where the reader trusts it.

    target: "package.module:Class"; options: keyword arguments made of JSON values.
    Its forward is the wrapped module's, so a zuko flow can be prior, posterior or base.
    """

    def __init__(self, target: str, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.target, self.options = target, dict(options or {})
        module, _, name = target.partition(":")
        self.inner = getattr(importlib.import_module(module), name)(**self.options)

    def forward(self, *inputs: Any) -> Any:
        return self.inner(*inputs)


def call_text(thing: Any, indent: str = "") -> str:
    """The constructor call that made `thing`; arguments at their defaults are left out."""
    signature = inspect.signature(type(thing).__init__).parameters
    parts = []
    for name in arguments(type(thing)):
        value = getattr(thing, name)
        parameter = signature[name]
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            parts += [_text(item) for item in value]
        elif not _same(value, parameter.default):
            parts.append(f"{name}={_text(value)}")
    return layout(type(thing).__name__, parts)


def layout(name: str, parts: list[str]) -> str:
    """`name(parts)` on one line where it fits, otherwise one part a line."""
    line = f"{name}({', '.join(parts)})"
    if len(line) <= 100 and "\n" not in line:
        return line
    body = ",\n".join(parts).replace("\n", "\n  ")
    return f"{name}(\n  {body}\n)"


def _same(value: Any, default: Any) -> bool:
    simple = (int, float, str, bool, tuple, Value, type(None))
    return value is default or (isinstance(value, simple) and isinstance(default, simple) and value == default)


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor{tuple(value.shape)}"
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Value):
        return value_text(value)
    if isinstance(value, (tuple, list, nn.ModuleList)) and any(isinstance(v, nn.Module) for v in value):
        return layout("", [_text(v) for v in value])
    return repr(value)


def value_text(value: Any) -> str:
    """A frozen value as its constructor call, fields at their defaults left out."""
    fields = dataclasses.fields(value)
    parts = [f"{f.name}={_text(getattr(value, f.name))}" for f in fields if not _same(getattr(value, f.name), f.default)]
    return layout(type(value).__name__, parts)


# torch.nn modules that may appear in a spec, and how their constructor arguments are read off.
def _no_arguments(_: nn.Module) -> dict[str, Any]:
    return {}


def _attributes(*names: str) -> Callable[[Any], dict[str, Any]]:
    return lambda m: {n: getattr(m, n) for n in names}


_TORCH: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Linear": lambda m: {"in_features": m.in_features, "out_features": m.out_features, "bias": m.bias is not None},
    "Conv2d": lambda m: {
        **_attributes("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")(m),
        "bias": m.bias is not None,
    },
    "Sequential": lambda m: {"*": list(m)},
    "ModuleList": lambda m: {"modules": list(m)},
    "Embedding": _attributes("num_embeddings", "embedding_dim"),
    "LayerNorm": lambda m: {"normalized_shape": list(m.normalized_shape), "eps": m.eps},
    "GroupNorm": _attributes("num_groups", "num_channels", "eps"),
    "Dropout": _attributes("p"),
    "LeakyReLU": _attributes("negative_slope"),
    "Flatten": _attributes("start_dim", "end_dim"),
    "Unflatten": lambda m: {"dim": m.dim, "unflattened_size": list(m.unflattened_size)},
    "Upsample": _attributes("size", "scale_factor", "mode"),
    **dict.fromkeys(("ReLU", "ELU", "SiLU", "GELU", "Tanh", "Sigmoid", "Softplus", "Identity"), _no_arguments),
}


class Writer:
    """Collects nodes and tensors of one composition; shared objects are met once."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        self.frozen: list[str] = []
        self._seen: dict[int, int] = {}
        self._tensor_names: dict[int, str] = {}
        self._alive: list[Any] = []

    def encode(self, value: Any, where: str = "model") -> Any:
        """JSON form of a value. Raises ValueError naming the argument that cannot be stored."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, nn.Module):
            return {"$module": self._module(value, where)}
        if isinstance(value, Tensor):
            return {"$tensor": self._tensor(value, where)}
        if isinstance(value, (list, tuple, torch.Size)):
            items = [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
            return {"$tuple": items} if isinstance(value, tuple) else items
        if isinstance(value, dict):
            return {"$dict": [[k, self.encode(v, f"{where}.{k}")] for k, v in value.items()]}
        if dataclasses.is_dataclass(value) and _name(type(value)) in _REGISTRY:
            fields = {f.name: self.encode(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
            return {"$value": _name(type(value)), "fields": fields}
        if isinstance(value, type) and value.__module__.startswith("torch.nn") and value.__name__ in _TORCH:
            return {"$class": value.__name__}
        raise ValueError(
            f"{where} is a {type(value).__name__}, which a spec cannot hold; pass a registered Part, a frozen Value, a "
            "torch.nn module of the allowed list, or wrap a third-party class in Foreign('package:Class', {...})"
        )

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
            node: dict[str, Any] = {"class": _name(type(module))}
            self._seen[id(module)] = len(self.nodes)
            self.nodes.append(node)
            node["arguments"] = self._arguments(module, where)
            own = [*module.named_parameters(recurse=False), *_stored_buffers(module)]
            node["tensors"] = {n: self._tensor(t, f"{where}.{n}") for n, t in own}
            inner = module.named_parameters() if isinstance(module, Foreign) else ()
            node["tensors"] |= {n: self._tensor(t, f"{where}.{n}") for n, t in inner}
            node["children"] = self._children(module, where)
        return self._seen[id(module)]

    def _children(self, module: nn.Module, where: str) -> dict[str, Any]:
        """Submodules that the constructor makes by itself: walked for their tensors, not for their arguments."""
        if isinstance(module, Foreign):
            return {}
        return {n: self._module_state(c, f"{where}.{n}") for n, c in module.named_children() if id(c) not in self._seen}

    def _module_state(self, module: nn.Module, where: str) -> dict[str, Any]:
        self._seen[id(module)] = -1
        own = [*module.named_parameters(recurse=False), *_stored_buffers(module)]
        state: dict[str, Any] = {"tensors": {n: self._tensor(t, f"{where}.{n}") for n, t in own}}
        state["children"] = self._children(module, where)
        return state

    def _arguments(self, module: nn.Module, where: str) -> dict[str, Any]:
        cls = type(module)
        if cls.__module__.startswith("torch.nn"):
            if cls.__name__ not in _TORCH:
                raise ValueError(f"{where} is torch.nn.{cls.__name__}, outside the allowed list {sorted(_TORCH)}")
            return {k: self.encode(v, f"{where}.{k}") for k, v in _TORCH[cls.__name__](module).items()}
        if _name(cls) not in _REGISTRY:
            raise ValueError(f"{where} is {_name(cls)}, which is not registered; derive it from genalloy.part.Part")
        missing = [n for n in arguments(cls) if not hasattr(module, n)]
        if missing:
            raise ValueError(f"{where}: {cls.__name__} does not keep its constructor argument {missing[0]!r} as an attribute")
        names = inspect.signature(cls.__init__).parameters if arguments(cls) else {}
        star = {n for n, p in names.items() if p.kind is inspect.Parameter.VAR_POSITIONAL}
        return {("*" if n in star else n): self._argument(getattr(module, n), f"{where}.{n}") for n in arguments(cls)}

    def _argument(self, value: Any, where: str) -> Any:
        return self.encode(list(value) if isinstance(value, nn.ModuleList) else value, where)


def _stored_buffers(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Buffers that belong to the state (masks rebuilt by the constructor are not persistent)."""
    skip = module._non_persistent_buffers_set
    return [(n, b) for n, b in module.named_buffers(recurse=False) if n not in skip]


def to_spec(thing: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(JSON spec, tensors by name) of a composition. Raises ValueError naming what cannot be stored."""
    writer = Writer()
    root = writer.encode(thing, "model")
    return {"root": root, "nodes": writer.nodes, "frozen": writer.frozen}, writer.tensors


class Reader:
    """Rebuilds a composition from a spec; classes come from the registry, torch.nn's short list or `trust`."""

    def __init__(self, spec: dict[str, Any], tensors: dict[str, Tensor], trust: Iterable[str] = ()) -> None:
        self.spec, self.tensors, self.trust = spec, tensors, frozenset(trust)
        self._built: dict[int, nn.Module] = {}
        self._parameters: dict[str, nn.Parameter] = {}

    def build(self) -> nn.Module:
        root = self.decode(self.spec["root"])
        kinds = {t.dtype for t in self.tensors.values() if t.is_floating_point()}
        if len(kinds) == 1:
            root.to(kinds.pop())  # constants that the constructor rebuilds follow the stored precision
        for index, module in self._built.items():
            self._fill(module, self.spec["nodes"][index])
        return root

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(v) for v in value]
        if not isinstance(value, dict):
            return value
        if "$module" in value:
            return self._module(value["$module"])
        if "$tensor" in value:
            return self.tensors[value["$tensor"]].clone()
        if "$tuple" in value:
            return tuple(self.decode(v) for v in value["$tuple"])
        if "$dict" in value:
            return {k: self.decode(v) for k, v in value["$dict"]}
        if "$class" in value:
            return getattr(nn, _allowed(value["$class"]))
        return self._class(value["$value"])(**{k: self.decode(v) for k, v in value["fields"].items()})

    def _class(self, name: str) -> type:
        module, _, qualname = name.partition(":")
        if module.startswith("torch.nn"):
            return getattr(nn, _allowed(qualname))
        if module.partition(".")[0] == "genalloy":
            importlib.import_module(module)
        if name not in _REGISTRY:
            raise ValueError(f"{name} is not registered; import the package that defines it, then load again")
        return _REGISTRY[name]

    def _module(self, index: int) -> nn.Module:
        if index not in self._built:
            node = self.spec["nodes"][index]
            values = {k: self.decode(v) for k, v in node["arguments"].items()}
            cls = self._class(node["class"])
            if cls is Foreign and values["target"] not in self.trust:
                raise ValueError(f"the file holds {values['target']}; if you trust it: load(path, trust=[{values['target']!r}])")
            self._built[index] = cls(*values.pop("*", ()), **values)
        return self._built[index]

    def _fill(self, module: nn.Module, node: dict[str, Any]) -> None:
        for name, key in node["tensors"].items():
            self._assign(module, name, key)
        for name, child in node["children"].items():
            self._fill(module.get_submodule(name), child)

    def _assign(self, module: nn.Module, name: str, key: str) -> None:
        """Load into the existing tensor, or adopt the one already built where two modules share it."""
        owner, _, leaf = name.rpartition(".")
        holder = module.get_submodule(owner)
        current = getattr(holder, leaf)
        stored = self.tensors[key]
        if isinstance(current, nn.Parameter) and current.shape != stored.shape:
            found, expected = tuple(stored.shape), tuple(current.shape)
            kind = type(module).__name__
            raise ValueError(f"found {name} of shape {found}, expected {expected}: saved by another version of {kind}")
        if current is None or current.shape != stored.shape:
            holder.register_buffer(leaf, stored.clone())
        elif isinstance(current, nn.Parameter):
            shared = self._parameters.setdefault(key, current)
            setattr(holder, leaf, shared)
            shared.data = stored.to(shared.device, copy=True)
            shared.requires_grad_(key not in self.spec.get("frozen", ()))
        else:
            current.copy_(stored)


def _allowed(name: str) -> str:
    if name not in _TORCH:
        raise ValueError(f"torch.nn.{name} is not in the allowed list {sorted(_TORCH)}")
    return name


def from_spec(spec: dict[str, Any], tensors: dict[str, Tensor], trust: Iterable[str] = ()) -> nn.Module:
    """The composition that :func:`to_spec` wrote. Raises ValueError on unregistered or untrusted classes."""
    with Stream():  # constructors draw weights that the stored ones replace: the caller's stream stays where it was
        return Reader(spec, tensors, trust).build()

