"""From a class to the name that a file holds, and back: the closed list of what may be built.

A name is "room:Name" (genalloy's own, :mod:`genalloy.core.spec.names`), "torch.nn:Name" (an allow-list), or "module:Class". The
last is a class of the caller's: built where that module was imported before loading began and defines the class, or where the
reader's `trust` holds exactly this name. What genalloy itself imports, or what it needs does (torch, Lightning), is not the
caller's doing: classes of those packages need trust, as do Python's own. Nothing is imported or called here.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from genalloy.core.spec.base import DEFINED, frozen_value, imported
from genalloy.core.spec.names import MODULE_PLACES, PUBLIC, VALUE_PLACES, current
from genalloy.core.spec.torch_modules import ALLOWED, allowed

_NAME = re.compile(r"[\w.]*:[\w.]*")
CLOSED = ("genalloy", "torch")
"""Packages of which nothing but the lists may be named."""


@dataclass(frozen=True)
class Place:
    """Where a class that may be built is: `target` is imported only once the whole spec has been checked.

    module: whether the class is an nn.Module, a frozen dataclass where False, and one of the two where None. callers: whether it
    is a class of the caller's, imported or trusted.
    """

    name: str
    target: str
    module: bool | None = None
    cls: type | None = None
    callers: bool = False

    def get(self) -> type:
        """The class. Raises ValueError where it is neither an nn.Module nor a frozen dataclass."""
        return imported(self.target) if self.cls is None else self.cls


def stored_name(cls: type, where: str) -> str:
    """The name of a class in a file. Raises ValueError, naming the place `where`, for a class that no reader could find."""
    place = f"{cls.__module__}:{cls.__qualname__}"
    if place in PUBLIC:
        return PUBLIC[place]
    if allowed(cls):
        return f"torch.nn:{cls.__name__}"
    root = cls.__module__.partition(".")[0]
    if root == "torch":
        raise ValueError(
            f"{where} is {cls.__module__}.{cls.__name__}, outside the allowed list of torch.nn modules; make it in the "
            "constructor of an nn.Module of your own, or wrap it in Foreign"
        )
    if root == "genalloy":
        raise ValueError(f"{where} is {place}, which has no public name; list it in genalloy.core.spec.names")
    if "<locals>" in place:
        raise ValueError(f"{where} is {place}, a class made inside a function, which no file can name; define it in a module")
    if _defined(place) is not cls:
        raise ValueError(f"{where} is {place}, which cannot be imported under that name; define it at the top of a module")
    return place


def find(name: Any, trust: frozenset[str]) -> Place:
    """Where the class of a stored name is. Raises ValueError where it is not on the closed list."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(f"found {str(name)[:40]!r} in place of a class's name; the file is damaged")
    public = current(name)
    if public in MODULE_PLACES:
        return Place(public, MODULE_PLACES[public], True)
    if public in VALUE_PLACES:
        return Place(public, VALUE_PLACES[public], False)
    if name.startswith("torch.nn") and name not in trust:
        return _torch(name)
    return Place(name, name, callers=True) if name in trust else _callers(name)


def _torch(name: str) -> Place:
    module, _, title = name.partition(":")
    cls = getattr(nn, title) if title in ALLOWED else None
    if cls is None or module not in ("torch.nn", cls.__module__):
        raise ValueError(f"the file holds {name}, which is not in the allowed list of torch.nn modules")
    return Place(f"torch.nn:{title}", name, True, cls)


def _callers(name: str) -> Place:
    module = name.partition(":")[0]
    if not name.partition(":")[2] or module.partition(".")[0] in CLOSED:
        raise ValueError(f"the file holds {name[:200]!r}, which is no class that a file may build")
    cls = None if _accidental(module) else _defined(name)
    if cls is None:
        raise ValueError(
            f"the file holds {name[:200]}, a class that you have not imported; import it, or if you trust it: "
            f"load(path, trust=[{name[:200]!r}])"
        )
    if not (issubclass(cls, nn.Module) or frozen_value(cls)):
        raise ValueError(f"the file holds {name}, which is neither an nn.Module nor a frozen dataclass")
    return Place(name, name, issubclass(cls, nn.Module), cls, callers=True)


def _defined(name: str) -> type | None:
    """The class that an imported module defines under this name, looked up without running anything; None otherwise.

    Code that runs without a module of its name defines what derives from genalloy's bases.
    """
    module, _, path = name.partition(":")
    if module not in sys.modules:
        return DEFINED.get(name) if "<locals>" not in name else None
    holder: Any = sys.modules[module]
    if not isinstance(holder, ModuleType):
        return None
    for part in path.split("."):
        holder = vars(holder).get(part)
        if not isinstance(holder, type):
            return None
    return holder if (holder.__module__, holder.__qualname__) == (module, path) else None


def _accidental(module: str) -> bool:
    """Whether a module may be imported without the caller's doing: Python's own, or of a package that genalloy needs."""
    root = module.partition(".")[0]
    return root != "__main__" and (root in sys.stdlib_module_names or (_installed(root) and root in _needed()))


def _installed(root: str) -> bool:
    """Whether a package's files are installed ones, which is soon told."""
    files = getattr(sys.modules.get(root), "__path__", ()) or [getattr(sys.modules.get(root), "__file__", "")]
    return any(part in ("site-packages", "dist-packages") for file in files for part in Path(str(file)).parts)


@cache
def _needed() -> frozenset[str]:
    """Top-level modules of the distributions that genalloy requires, directly or not."""
    modules = packages_distributions()
    names, waiting = set[str](), ["genalloy"]
    while waiting:
        name = _normal(waiting.pop())
        if name not in names:
            names.add(name)
            waiting += [re.split(r"[^\w.-]", line)[0] for line in _requirements(name) if "extra ==" not in line]
    # without metadata of genalloy's own nothing tells what it needs: all that is installed may be
    return frozenset(m for m, owners in modules.items() if len(names) == 1 or names & {_normal(owner) for owner in owners})


def _requirements(distribution: str) -> list[str]:
    try:
        return requires(distribution) or []
    except PackageNotFoundError:  # of another platform
        return []


def _normal(distribution: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
