r"""Arrays that the page draws: samples, reconstructions, nearest training rows, walks through the codes, densities on a grid.

A walk between two codes a, b of test rows. Codes of a standard normal lie near a sphere, which a straight line leaves, so
there the walk is along the great circle (Shoemake, 1985), with omega the angle between a and b:

.. math:: z(t) = \frac{\sin((1-t)\,\omega)}{\sin \omega}\,a + \frac{\sin(t\,\omega)}{\sin \omega}\,b,

and straight under any other prior. A traversal moves one coordinate of one code over mean +- 2 standard deviations of the
aggregate posterior q(z) = mean over x of q(z|x), most active coordinates first: those that change the decoded row most.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genalloy.core.capabilities import reach
from genalloy.core.evidence import Kind, Unavailable
from genalloy.core.observations import Masked
from genalloy.core.part import tempered
from genalloy.data.dataset import Dataset
from genalloy.runs.labels import cycled
from genalloy.runs.score import sample, score
from genalloy.training.seeding import Stream, seed_all

GRID = 100
SHOWN = {"points": 2000}
WALKS = 6
STEPS = 9
TEMPERATURES = (0.5, 0.7, 0.8, 0.9, 1.0)
SHORTLIST = 64
"""Coordinates of largest variance that are tried for a traversal; decoding all of a long code would cost minutes."""

Decode = Callable[[Tensor], Tensor]


def write_pictures(model: nn.Module, dataset: Dataset, drawn: Tensor, folder: Path, seed: int = 0) -> None:
    """pictures.npz in the run's folder, in data units; a model that takes labels is shown one class after the other.

    seed: by which the lengths of `drawn` were drawn, where rows have lengths; NaN then marks what lies behind a row.
    """
    count = SHOWN.get(dataset.space.kind, 64)
    labels = cycled(model, len(dataset.label_names), count)
    lengths = dataset.drawn_lengths(len(drawn), seed)
    if lengths is not None:
        count = min(count, len(drawn))
        shown = drawn[:count] if labels is None else sample(model, count, context=labels[:count], lengths=lengths[:count])
        _write_sequences(shown, lengths[:count], dataset, folder)
        return
    shown = drawn[:count] if labels is None else sample(model, count, context=labels)
    arrays: dict[str, Any] = {"samples": shown.numpy(), "neighbours": neighbours(drawn[:12], dataset.train).numpy()}
    with Stream(model):
        seed_all(0, -5)
        arrays |= _rebuilt(model, dataset) if labels is None else {}
    if dataset.space.dims == 2 and dataset.space.measure.counting == 0 and labels is None:
        arrays |= density_grid(model, dataset)
    np.savez(folder / "pictures.npz", **arrays)


def _write_sequences(shown: Tensor, lengths: Tensor, dataset: Dataset, folder: Path) -> None:
    """Samples, and for the first few the nearest training row as padded."""
    few = shown[:6]
    nearest = torch.cdist(few.flatten(1), dataset.train.flatten(1)).argmin(1)
    beside = behind(dataset.train[nearest], dataset.lengths["train"][nearest])
    pairs = torch.stack([behind(few, lengths[: len(few)]), beside], 1)
    np.savez(folder / "pictures.npz", samples=behind(shown, lengths).numpy(), neighbours=pairs.numpy())


def behind(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Rows with NaN behind their lengths."""
    return x if lengths is None else torch.where(Masked.first(x, lengths).mask, x, torch.nan)


def _rebuilt(model: nn.Module, dataset: Dataset) -> dict[str, Any]:
    """Reconstructions of test rows and walks between their codes, where the model has them."""
    symbols = dataset.space.kind == "text"
    pairs = reconstructions(model, dataset.test[_spread(len(dataset.test), 16)], symbols)
    walked = walks(model, dataset.test[_spread(len(dataset.test), 256)], drawn_once if symbols else central)
    kept = {} if pairs is None else {"reconstructions": pairs.numpy()}
    colder = temperatures(model) if dataset.space.kind == "image" else None
    kept |= {} if colder is None else {"temperatures": colder.numpy()}
    return kept | {name: rows.numpy() for name, rows in walked.items()}


@torch.no_grad()
def temperatures(model: nn.Module, count: int = 8) -> Tensor | None:
    """(temperatures, count, *E): the same draws of the base at each of TEMPERATURES; None where the model cannot be tempered."""
    rows = []
    for value in TEMPERATURES:
        seed_all(0, -5)
        try:
            rows.append(tempered(model(), value).sample((count,)))
        except Unavailable:
            return None
    return torch.stack(rows)


def write_reference(dataset: Dataset, folder: Path) -> None:
    """reference.npz: real rows, and the exact log-density of a toy."""
    count = SHOWN.get(dataset.space.kind, 64)
    rows = _spread(len(dataset.test), count)
    lengths = dataset.lengths["test"][rows] if dataset.lengths else None
    arrays: dict[str, Any] = {"data": behind(dataset.test[rows], lengths).numpy()}
    if dataset.log_density is not None and dataset.space.dims == 2:
        points, extent = grid_points(dataset)
        arrays |= {"density_grid": dataset.log_density(points).reshape(GRID, GRID).numpy(), "density_extent": extent}
    np.savez(folder / "reference.npz", **arrays)


def _spread(rows: int, count: int) -> Tensor:
    """`count` indices spread over all rows: a prefix would show one class where rows are sorted."""
    return torch.linspace(0, rows - 1, min(count, rows)).long()


def neighbours(samples: Tensor, train: Tensor, k: int = 3) -> Tensor:
    """Each sample followed by its k nearest training rows, (n, 1 + k, *E)."""
    distance = torch.cdist(samples.flatten(1), train.flatten(1))
    nearest = train[distance.topk(min(k, len(train)), largest=False).indices]
    return torch.cat([samples[:, None], nearest], 1)


# -- codes ---------------------------------------------------------------------------------------------------------


def central(likelihood: Any) -> Tensor:
    """The mean of a distribution over rows; a draw where it has none."""
    try:
        return likelihood.mean
    except NotImplementedError:
        return likelihood.sample()


def drawn_once(likelihood: Any) -> Tensor:
    """A draw: symbols without an order have no mean."""
    return likelihood.sample()


@torch.no_grad()
def reconstructions(model: nn.Module, x: Tensor, symbols: bool = False) -> Tensor | None:
    """(2, n, *E) originals and their reconstructions, None where the model has none; `symbols`: entries without an order."""
    try:
        inner, seen, _ = reach(model(), x, "reconstruct")
    except Unavailable:
        return None
    drawn = symbols and hasattr(inner, "decode") and hasattr(inner, "encode")
    rebuilt = drawn_once(inner.decode(inner.encode(seen))) if drawn else inner.reconstruct(seen)
    return torch.stack([x, _outward(model(), rebuilt, "reconstruct")])


def _outward(distribution: Any, z: Tensor, capability: str) -> Tensor:
    """Back through fixed preprocessing, which `reach` walked inwards."""
    layers = []
    while hasattr(distribution, "layers") and not hasattr(distribution, capability):
        layers += distribution.layers
        distribution = distribution.base
    for layer in reversed(layers):
        z, _ = layer.decode(z)
    return z


@torch.no_grad()
def walks(model: nn.Module, x: Tensor, typical: Callable[[Any], Tensor] = central) -> dict[str, Tensor]:
    """ "interpolations" (n, steps, *E) between codes of rows x (N, *E) and "traversals" (d, steps, *E) of single coordinates.

    Empty where the model has no codes, its codes are not real numbers, or nothing leads back from them.
    """
    try:
        inner, seen, _ = reach(model(), x, "encode")
        codes = inner.encode(seen)
        rows_of(inner, codes[:1], typical)
    except Unavailable:
        return {}
    if not codes.is_floating_point() or not codes.isfinite().all() or len(codes) < 2:
        return {}

    def decode(z: Tensor) -> Tensor:
        return _outward(model(), rows_of(inner, z, typical), "encode")

    half = min(WALKS, len(codes) // 2)
    ends = codes[_spread(len(codes), 2 * half)]
    paths = between(ends[:half], ends[half:], STEPS, spherical=standard_normal(inner))
    return {"interpolations": _each(decode, paths), "traversals": traversals(decode, ends[0], *aggregate(inner, seen, codes))}


def rows_of(distribution: Any, z: Tensor, typical: Callable[[Any], Tensor]) -> Tensor:
    """Codes z (n, *Z) as rows: decode(z), or a flow's layers outwards. Raises Unavailable without either."""
    if hasattr(distribution, "decode"):
        decoded = distribution.decode(z)
        return typical(decoded) if hasattr(decoded, "event_shape") else decoded
    if not hasattr(distribution, "layers"):
        raise Unavailable(f"decode(z) is needed; {type(distribution).__name__} has none")
    x = rows_of(distribution.base, z, typical) if hasattr(distribution.base, "encode") else z
    for layer in reversed(distribution.layers):
        x, _ = layer.decode(x, distribution.context)
    return x


def aggregate(distribution: Any, x: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every coordinate under the aggregate posterior; a flow's codes are its own draws."""
    z = distribution.infer(x).sample() if hasattr(distribution, "infer") else codes
    return z.mean(0), z.std(0)


def standard_normal(distribution: Any) -> bool:
    """Whether the codes' prior is N(0, I): said by its moments, not by its type."""
    prior: Any = getattr(distribution, "prior", getattr(distribution, "base", None))
    scale = getattr(prior, "scale", None)
    return scale is not None and bool((scale == 1).all()) and bool((prior.mean == 0).all())


def between(a: Tensor, b: Tensor, steps: int, spherical: bool) -> Tensor:
    """(n, steps, *Z) codes from a to b (n, *Z), both included: along the great circle, or straight."""
    u, v = a.flatten(1)[:, None], b.flatten(1)[:, None]
    t = torch.linspace(0, 1, steps, dtype=a.dtype)[:, None]
    straight = (1 - t) * u + t * v
    cosine = torch.cosine_similarity(u, v, -1).clamp(-1, 1)[..., None]
    omega = cosine.acos()
    # near 0 and pi the great circle is not defined by its two ends
    bent = (((1 - t) * omega).sin() * u + (t * omega).sin() * v) / omega.sin()
    path = torch.where(omega.sin() > 1e-3, bent, straight) if spherical else straight
    return path.unflatten(-1, a.shape[1:])


def traversals(decode: Decode, code: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    """(d, steps, *E): one coordinate of `code` (*Z) moved over centre +- 2 spread, the d most active coordinates."""
    flat, middle, width = code.flatten(), centre.flatten(), spread.flatten()
    tried = width.argsort(descending=True)[:SHORTLIST]

    def moved(which: Tensor, steps: int) -> Tensor:
        z = flat.expand(len(which), steps, -1).clone()
        values = middle[which, None] + width[which, None] * torch.linspace(-2, 2, steps, dtype=flat.dtype)
        z.scatter_(2, which[:, None, None].expand(-1, steps, 1), values[..., None])
        return z.unflatten(-1, code.shape)

    ends = _each(decode, moved(tried, 2)).flatten(2)
    change = (ends[:, 1] - ends[:, 0]).norm(dim=-1).nan_to_num()
    return _each(decode, moved(tried[change.argsort(descending=True)[:WALKS]], STEPS))


def _each(decode: Decode, z: Tensor) -> Tensor:
    """decode over the first two axes of z (n, steps, *Z)."""
    return decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])


# -- densities over the plane --------------------------------------------------------------------------------------


def grid_points(dataset: Dataset) -> tuple[Tensor, Any]:
    """GRID x GRID points over the data's box, and (x0, x1, y0, y1)."""
    low, high = dataset.train.amin(0), dataset.train.amax(0)
    margin = 0.1 * (high - low)
    x, y = (torch.linspace(float(a), float(b), GRID) for a, b in zip(low - margin, high + margin, strict=True))
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    extent = np.array([float(x[0]), float(x[-1]), float(y[0]), float(y[-1])])
    return torch.stack([xx, yy], -1).reshape(-1, 2), extent


def density_grid(model: nn.Module, dataset: Dataset) -> dict[str, Any]:
    """The model's density() on the grid, whatever its label."""
    points, extent = grid_points(dataset)
    scores = score(model, points, chunk=2000)
    if scores.kind is Kind.NONE:
        return {}
    return {"density_grid": scores.value.reshape(GRID, GRID).numpy(), "density_extent": extent}
