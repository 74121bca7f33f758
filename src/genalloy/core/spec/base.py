"""Modules and values that can be written down: constructor arguments are kept as attributes of the same name.

A spec is read from the attributes when it is wanted, so `vae.prior = flow` is stored, and printed, as the flow.
"""

from __future__ import annotations

import dataclasses
import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn


def arguments(cls: type) -> tuple[str, ...]:
    """Names of the constructor's arguments, variadic ones included."""
    make: Any = cls.__init__  # type: ignore[misc]
    return () if make is nn.Module.__init__ else tuple(inspect.signature(make).parameters)[1:]


def frozen_value(cls: type) -> bool:
    """Whether a class is a frozen dataclass."""
    return bool(getattr(cls, "__dataclass_params__", None)) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]


DEFINED: dict[str, type] = {}
"""Modules and values by "module:Class", as they were defined: of use where code runs without a module (a cell, a doctest)."""


class Module(nn.Module):
    """An nn.Module that prints as its constructor call and can be written as a spec."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        DEFINED[f"{cls.__module__}:{cls.__qualname__}"] = cls

    def __repr__(self) -> str:
        return call_text(self)

    if TYPE_CHECKING:
        # torch types every attribute as Tensor | Module; constructor arguments are neither
        def __getattr__(self, name: str) -> Any: ...


class Value:
    """Base of frozen dataclasses that are passed in: samplers, schedules, estimators, ports, payoffs."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        DEFINED[f"{cls.__module__}:{cls.__qualname__}"] = cls


class Foreign(Module):
    """A module of another package, rebuilt only where the reader trusts it.

    target: "package.module:Class", an nn.Module or a frozen dataclass; options: keyword arguments made of JSON values.
    Its forward is the wrapped module's, so a zuko flow can be prior, posterior or base.
    Raises ValueError where the target is anything else: nothing else is called.
    """

    def __init__(self, target: str, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.target, self.options = target, dict(options or {})
        self.inner = imported(target)(**self.options)

    def forward(self, *inputs: Any) -> Any:
        return self.inner(*inputs)


def imported(target: str) -> type:
    """The class "package.module:Class", its module imported. Raises ValueError where it is no nn.Module or frozen dataclass."""
    module, _, path = target.partition(":")
    place: Any = import_module(module)
    for name in path.split("."):
        place = getattr(place, name)
    if not (isinstance(place, type) and (issubclass(place, nn.Module) or frozen_value(place))):
        raise ValueError(f"{target} is neither an nn.Module nor a frozen dataclass; nothing else is built")
    return place


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
    if isinstance(value, nn.ModuleDict):
        return layout("", [f"{name}={_text(module)}" for name, module in value.items()])
    return repr(value)


def value_text(value: Any) -> str:
    """A frozen value as its constructor call, fields at their defaults left out."""
    fields = dataclasses.fields(value)
    parts = [f"{f.name}={_text(getattr(value, f.name))}" for f in fields if not _same(getattr(value, f.name), f.default)]
    return layout(type(value).__name__, parts)
