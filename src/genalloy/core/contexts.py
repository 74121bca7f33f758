r"""What a distribution is conditional on: unnamed parts in order, then named ones.

A context is a tensor :math:`(*B, *E)` or a record, a tuple of such, a dict of them by name, or a tuple that ends in such a dict;
None where there is none. What a model adds on its way in (x, a code, a noise level) is unnamed and stands in front, and what a
caller gives may be named: :func:`both` merges by name, and a part that declares names is given its parts by name, so that the
order of a caller's dict means nothing.

Shapes are declared alike: ``((1, 8, 8), ())`` by place, ``{"picture": (1, 8, 8), "label": ()}`` by name, or a tuple that ends in
a dict. The declared shapes tell a label ``()`` from a vector ``(d,)`` and an image ``(C, H, W)`` under any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genalloy.core.observations import Record, RecordShape, Shape, event, leading
from genalloy.core.shapes import broadcast_shapes

Context = Any
"""A tensor or record, a tuple of such, a dict of them, a tuple that ends in a dict, or None."""

Shapes = Any
"""Event shapes of a context's parts: a tuple of shapes, a dict of them by name, or a tuple that ends in such a dict."""


def split(context: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Unnamed parts and named ones, of a context or of a declaration."""
    if context is None:
        return (), {}
    if type(context) is dict:
        return (), context
    if type(context) is not tuple:
        return (context,), {}
    return (context[:-1], context[-1]) if context and type(context[-1]) is dict else (context, {})


def shapes_of(declared: Shapes) -> Shapes:
    """The declaration as a tuple, ending in a dict where there are names: (shape of x, \\*shapes_of(c)) is that of both(x, c)."""
    front, named = split(declared if isinstance(declared, dict) else tuple(declared))
    places = tuple(_shape(shape) for shape in front)
    return (*places, {name: _shape(shape) for name, shape in named.items()}) if named else places


def _shape(declared: Any) -> Any:
    """A tuple; the shapes of a record, which is one part of a context, stay together."""
    return event(declared) if type(declared) is RecordShape else tuple(declared)


def flat(declared: Shapes) -> tuple[Shape, ...]:
    """All declared shapes, the named ones last; those of a record one by one."""
    shapes: list[Shape] = []
    for shape in _each_part(declared):
        shapes += flat(dict(shape)) if isinstance(shape, RecordShape) else (shape,)
    return tuple(shapes)


def _each_part(declared: Shapes) -> tuple[Any, ...]:
    """The declared shapes, one for each part of the context."""
    front, named = split(declared)
    return (*front, *named.values())


def both(a: Context, b: Context) -> Context:
    """Two contexts as one: unnamed parts in order, then named ones; both(a, None) = a.

    Raises ValueError where both name a part alike.
    """
    if a is None or b is None:
        return b if a is None else a
    (first, mine), (second, theirs) = split(a), split(b)
    twice = sorted(mine.keys() & theirs.keys())
    if twice:
        raise ValueError(f"two contexts bring a part named {twice[0]!r}; rename one")
    named = mine | theirs
    return (*first, *second, named) if named else (*first, *second)


def parts(context: Context, declared: Shapes) -> tuple[Tensor, ...]:
    """The parts in the order of the declaration, each looked up by its name where it has one.

    Unnamed parts may stand for named ones in the order of the declaration, and a lone named part for a lone place. Raises
    ValueError where parts are missing or left over, by place or by name, naming what was found and what is expected.
    """
    (front, named), (places, names) = split(context), split(declared)
    if not named and names and len(front) == len(places) + len(names):
        return front
    if len(named) == 1 and not names and len(front) + 1 == len(places):
        return (*front, *named.values())
    if named.keys() != names.keys() or len(front) != len(places):
        raise ValueError(f"found a context of {_words(front, named)}, expected {_words(places, names)}: {declared}")
    return (*front, *(named[name] for name in names))


def tree_map(function: Callable[[Tensor], Tensor], context: Context) -> Context:
    """A function applied to every tensor of a context, its form kept."""
    if context is None:
        return None
    if type(context) is dict:
        return {name: function(part) for name, part in context.items()}
    return tuple(tree_map(function, part) for part in context) if type(context) is tuple else function(context)


def tensors(context: Context) -> Iterator[Tensor]:
    """Every tensor of a context."""
    front, named = split(context)
    yield from (*front, *named.values())


def batch_of(context: Context, declared: Shapes) -> Shape:
    """Batch shape of a context of the declared event shapes; () without one."""
    if context is None or not declared:
        return ()
    known = zip(parts(context, declared), _each_part(declared), strict=True)
    return tuple(broadcast_shapes(*(leading(part, shape) for part, shape in known)))


def join(context: Context, declared: Shapes) -> Tensor:
    r"""One feature vector (\*B, sum of sizes) of all parts in the order of the declaration; their batches broadcast.

    Raises ValueError naming what was found and what was declared.
    """
    features = [_flatten(part, shape) for part, shape in zip(parts(context, declared), _each_part(declared), strict=True)]
    if not features:
        return torch.zeros(0)
    batch = broadcast_shapes(*(f.shape[:-1] for f in features))
    return torch.cat([f.expand(*batch, -1) for f in features], -1) if len(features) > 1 else features[0]


def _words(front: tuple[Any, ...], named: dict[str, Any]) -> str:
    unnamed = f"{len(front)} unnamed" if front or not named else ""
    return " and ".join(words for words in (unnamed, f"the parts {sorted(named)}" if named else "") if words)


def _flatten(part: Any, shape: Any) -> Tensor:
    if isinstance(part, Record):
        leading(part, shape)
        return join(dict(part.parts), dict(shape))
    cut = part.dim() - len(shape)
    if cut < 0 or tuple(part.shape[cut:]) != tuple(shape):
        raise ValueError(f"found a context of shape {tuple(part.shape)}, expected one that ends in {tuple(shape)}")
    vector = part.reshape(*part.shape[:cut], -1)
    return vector if vector.dtype == torch.float64 else vector.float()
