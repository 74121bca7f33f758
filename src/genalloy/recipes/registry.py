"""Named compositions of the papers. The registry is what the command line lists; the library itself maps no strings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from genalloy.core.bounds import Bounds, shown
from genalloy.core.evidence import Kind
from genalloy.recipes.composition import Composition, Target
from genalloy.recipes.limits import limits_of

Builder = Callable[..., Composition]
MODULES = (
    "autoregressive", "transformers", "raster", "pixels", "plusplus", "any_order", "flows", "images", "tokens", "continuous",
    "residual", "surjective", "planar", "latent", "energy", "diffusion", "adversarial", "combinations", "hybrid",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A named composition.

    kind: label of density() on real-valued data; grid_kind: on integers. tasks: what it answers.
    """

    name: str
    family: str
    build: Builder
    kind: Kind
    grid_kind: Kind
    tasks: tuple[str, ...]
    reference: str
    summary: str

    @property
    def _parameters(self) -> dict[str, inspect.Parameter]:
        return dict(list(inspect.signature(self.build).parameters.items())[1:])

    def settings(self) -> dict[str, Any]:
        """Names and defaults of what `--set` may change."""
        return {name: parameter.default for name, parameter in self._parameters.items()}

    def limits(self, name: str) -> Bounds | None:
        """What a setting may be, None where anything may. Raises ValueError on an unknown setting, naming the nearest."""
        known = self._parameters
        if name not in known:
            near = get_close_matches(name, list(known), 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"{self.name} has no setting {shown(name)}{hint} It has: {', '.join(known)}")
        return limits_of(self.name, known[name])

    def read(self, name: str, text: str) -> Any:
        """A setting's value from a text. Raises ValueError on an unknown setting."""
        limits = self.limits(name)
        return text if limits is None else limits.read(text)

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as plain Python values. Raises ValueError on an unknown one or a value out of its limits."""
        result = {}
        for name, value in settings.items():
            limits, default = self.limits(name), self._parameters[name].default
            as_default = type(value) is type(default) and value == default
            result[name] = value if limits is None or as_default else limits.check(f"{self.name}'s {name}", value)
        return result

    def __call__(self, target: Target, **settings: Any) -> Composition:
        """Build for a data space; None leaves a setting to the recipe. Raises ValueError as `checked` does."""
        given = {name: value for name, value in self.checked(settings).items() if value is not None}
        try:
            return self.build(target, **given)
        except ValueError as error:
            if not given or self.name in str(error):
                raise
            chosen = ", ".join(f"{name}={value}" for name, value in given.items())
            raise ValueError(f"{self.name} cannot have {chosen}: {error}") from error


_RECIPES: dict[str, Recipe] = {}


def recipe(
    name: str, family: str, kind: Kind, grid_kind: Kind, tasks: tuple[str, ...], reference: str
) -> Callable[[Builder], Builder]:
    """Register a function (Target, **settings) -> Composition under a name."""

    def register(build: Builder) -> Builder:
        summary = (build.__doc__ or "").strip().split("\n")[0]
        _RECIPES[name] = Recipe(name, family, build, kind, grid_kind, tasks, reference, summary)
        return build

    return register


def all_recipes() -> dict[str, Recipe]:
    """Every recipe by name, family by family whatever was imported first; users' own come last."""
    for module in MODULES:
        import_module(f"genalloy.recipes.{module}")
    places = {f"genalloy.recipes.{module}": place for place, module in enumerate(MODULES)}
    ours = sorted((r for r in _RECIPES.values() if r.build.__module__ in places), key=lambda r: places[r.build.__module__])
    families = list(dict.fromkeys(r.family for r in ours))
    others = [r for r in _RECIPES.values() if r.build.__module__ not in places]
    return {r.name: r for r in (*sorted(ours, key=lambda r: families.index(r.family)), *others)}


def find(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError with the nearest name."""
    known = all_recipes()
    if name not in known:
        near = get_close_matches(name, list(known), 1, 0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no recipe {name!r}; {hint}`genalloy recipes` lists all {len(known)}")
    return known[name]
