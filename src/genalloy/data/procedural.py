r"""Data whose factors of variation are known, drawn by formulas: small grey sprites, and sound in shallow water.

``sprites``: shape (3) x scale (6) x rotation (16) x column (8) x row (8), every combination once, 16x16 pixels, 0..255. With
:math:`d(p)` the signed distance to a shape of unit size, a pixel at :math:`p` has the grey level

.. math:: 255\,\mathrm{clip}(\tfrac12 - r\, d(R_{-\theta}(p - c) / r), 0, 1),

which smooths edges over one pixel. No shape (triangle with two equal sides, half disc, L) is symmetric under a rotation, unlike
the square and ellipse of dSprites (Matthey et al., 2017), so that every combination is another picture.

``waves``: range (32) x depth (16) of a point source between a soft surface (:math:`z = 0`) and a hard, absorbing bottom
(:math:`z = H`), heard by eight receivers above each other. Each reflection is an image source (Jensen, Kuperman, Porter &
Schmidt, Computational Ocean Acoustics, 2011, section 2.4): :math:`z_{n\pm} = 2nH \pm z_s` with amplitude
:math:`a_{n\pm} = \pm(-1)^n \beta^{|n|}`, and

.. math:: u(z, t) = A \sum_{n, \pm} \frac{a_{n\pm}}{R_{n\pm}} w(t - (R_{n\pm} - r) / c)

with :math:`R_{n\pm}^2 = r^2 + (z - z_{n\pm})^2` and a Ricker wavelet w. Time starts when sound could first arrive, so range
shows in the echoes and in the loudness only. Added noise :math:`N(0, \sigma^2)` makes the law a mixture of 512 Gaussians, whose
log-density is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from genalloy.data.dataset import Dataset
from genalloy.data.form import Form
from genalloy.data.raw import PARTS, WHOLE, digest_array
from genalloy.data.space import Space
from genalloy.data.split import split_rows, thin

# -- sprites -------------------------------------------------------------------------------------------------------

SPRITE_FACTORS = {"shape": 3, "scale": 6, "rotation": 16, "column": 8, "row": 8}
SHAPES = ("triangle", "half disc", "L")
SIDE, CHUNK = 16, 2000
RADII, CENTRES = (2.25, 4.25), (4.75, 10.25)
"""Pixels: smallest and largest radius; first and last centre, which keep the largest shape inside the frame."""


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to the triangle (0, 1), (-0.8, -0.75), (0.8, -0.75); beyond its corners a lower bound."""
    slope = (1.75 * x.abs() + 0.8 * (y - 1)) / math.hypot(1.75, 0.8)
    return torch.maximum(slope, -y - 0.75)


def _half_disc(x: Tensor, y: Tensor) -> Tensor:
    """The upper half of a unit disc, its centre of mass at the origin."""
    low = 4 / (3 * math.pi)
    return torch.maximum(torch.hypot(x, y + low) - 1, -y - low)


def _letter(x: Tensor, y: Tensor) -> Tensor:
    """An L: a tall and a wide rectangle."""
    tall = torch.maximum((x + 0.425).abs() - 0.275, y.abs() - 0.9)
    wide = torch.maximum(x.abs() - 0.7, (y + 0.625).abs() - 0.275)
    return torch.minimum(tall, wide)


_DISTANCES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (_triangle, _half_disc, _letter)


def draw_sprites(factors: Tensor) -> Tensor:
    """Factor values (N, 5) int64, in the order of SPRITE_FACTORS, as pictures (N, 1, 16, 16) of integers 0..255."""
    return torch.cat([_sprites(chunk) for chunk in factors.split(CHUNK)])


def _sprites(factors: Tensor) -> Tensor:
    shape, scale, rotation, column, row = (factor.view(-1, 1, 1) for factor in factors.unbind(1))
    radius = _spread(scale, 6, *RADII)
    pixel = torch.arange(SIDE, dtype=torch.float32)
    right = (pixel - _spread(column, 8, *CENTRES)) / radius
    down = (pixel.view(-1, 1) - _spread(row, 8, *CENTRES)) / radius
    angle = rotation * (2 * math.pi / SPRITE_FACTORS["rotation"])
    x, y = angle.cos() * right + angle.sin() * down, angle.cos() * down - angle.sin() * right
    distance = torch.empty_like(x)
    for index, signed in enumerate(_DISTANCES):
        chosen = shape.flatten() == index
        distance[chosen] = signed(x[chosen], y[chosen])
    return (255 * (0.5 - radius * distance).clamp(0, 1)).round().unsqueeze(1)


def _spread(index: Tensor, count: int, low: float, high: float) -> Tensor:
    return low + (high - low) * index / (count - 1)


def sprites(seed: int = 0, limit: int | None = None) -> Dataset:
    """18,432 pictures (1, 16, 16) of grey levels 0..255, cut 80/10/10 by the seed; labels: the shape.

    `factors[part]` holds the factor values (N, 5) of each row. No picture is in two parts.
    """
    every = torch.tensor(list(product(*map(range, SPRITE_FACTORS.values()))))
    chosen, how = split_rows({WHOLE: len(every)}, seed)
    factors = {part: every[torch.from_numpy(thin(chosen[part][1], limit, seed))] for part in PARTS}
    x = {part: draw_sprites(rows) for part, rows in factors.items()}
    notes = ("every combination of the factors occurs once; shapes have no symmetry under rotation",)
    labels = {part: rows[:, 0].clone() for part, rows in factors.items()}
    source = _source(x, how, seed, limit, Form("array", "uint8", "HW"))
    return Dataset(
        "sprites",
        Space((1, SIDE, SIDE), "image", 256),
        x["train"],
        x["validation"],
        x["test"],
        labels,
        SHAPES,
        notes,
        source,
        factors=factors,
        factor_names=tuple(SPRITE_FACTORS),
    )


# -- waves ---------------------------------------------------------------------------------------------------------

WAVE_FACTORS = {"range": 32, "depth": 16}
WAVE_SIZES = {"test": 5_000, "validation": 2_000, "train": 20_000}
BOTTOM, SPEED = 100.0, 1500.0
"""Water depth H in m and speed of sound c in m/s."""
RATE, SAMPLES, PEAK = 1000.0, 64, 150.0
"""Samples a second, their number, and the wavelet's peak frequency in Hz."""
REFLECTION, BOUNCES = 0.7, 4
"""Amplitude kept at the bottom, and the most bounces on it: more arrive after the last sample."""
NOISE = 0.2
RANGES = 300.0 * 5.0 ** (torch.arange(32, dtype=torch.float64) / 31)
"""Metres, 300 to 1500, equal ratios."""
DEPTHS = torch.linspace(10, 85, 16, dtype=torch.float64)
RECEIVERS = torch.linspace(10, 80, 8, dtype=torch.float64)


def ricker(t: Tensor) -> Tensor:
    r"""The wavelet :math:`w(t) = (1 - 2 a) e^{-a}`, :math:`a = (\pi f t)^2`, of any shape; t in s, f = `PEAK` (Ricker, 1953)."""
    square = (math.pi * PEAK * t).square()
    return (1 - 2 * square) * (-square).exp()


def images(depth: Tensor, reflection: float = REFLECTION, bounces: int = BOUNCES) -> tuple[Tensor, Tensor]:
    r"""Heights (\*B, M) in m and amplitudes (M,) of a source at `depth` (\*B) and its images, up to `bounces` on the bottom.

    :math:`z_{n\pm} = 2nH \pm z_s` and :math:`a_{n\pm} = \pm(-1)^n \beta^{|n|}`, beta the `reflection`; M = 2 (2 bounces + 1).
    """
    n = torch.arange(-bounces, bounces + 1, dtype=torch.float64)
    sign = 1 - 2 * n.remainder(2)
    weight = sign * reflection ** n.abs()
    height = 2 * n * BOTTOM
    return torch.cat([height + depth[..., None], height - depth[..., None]], -1), torch.cat([weight, -weight])


def field(distance: Tensor, depth: Tensor, receivers: Tensor, reflection: float = REFLECTION, bounces: int = BOUNCES) -> Tensor:
    r"""Pressure (\*B, receivers, samples), float64, at 1 m for A = 1; distance and depth of the source (\*B) in m.

    :math:`\sum_{n, \pm} a_{n\pm} w(t - (R_{n\pm} - r) / c) / R_{n\pm}`, time starting one wavelet's period before the first
    sound.
    """
    heights, amplitude = images(depth, reflection, bounces)
    along = distance[..., None, None]
    path = torch.hypot(along, receivers[:, None] - heights[..., None, :])
    # one period of silence before the first possible arrival keeps the wavelet's onset
    time = torch.arange(SAMPLES, dtype=torch.float64) / RATE - 1 / PEAK
    arrivals = ricker(time - ((path - along) / SPEED)[..., None])
    return ((amplitude / path)[..., None] * arrivals).sum(-2)


def _templates() -> Tensor:
    """All fields (512, 8, 64) in the order of (range, depth), scaled by one number to unit mean square."""
    r, z = torch.cartesian_prod(RANGES, DEPTHS).unbind(1)
    fields = field(r, z, RECEIVERS)
    return fields / fields.square().mean().sqrt()


def _mixture(centres: Tensor) -> Callable[[Tensor], Tensor]:
    r"""log p(x) of equally likely centres (K, \*E) under noise, x (\*B, \*E) -> (\*B) nats."""
    flat = centres.flatten(1)
    norm = math.log(len(flat)) + flat.shape[1] / 2 * math.log(2 * math.pi * NOISE**2)

    def log_density(x: Tensor) -> Tensor:
        rows = x.double().flatten(-2)
        # |x - m|^2 = |x|^2 - 2 x.m + |m|^2: a table of differences would be 512 times the data
        square = rows.square().sum(-1, keepdim=True) - 2 * rows @ flat.T + flat.square().sum(1)
        return (torch.logsumexp(-square / (2 * NOISE**2), -1) - norm).to(x.dtype)

    return log_density


def waves(seed: int = 0, limit: int | None = None) -> Dataset:
    """Real (receivers, samples) = (8, 64) records with mean square 1 over all fields, plus noise; labels: the depth.

    Depth labels are 0..15 from 10 m to 85 m; `factors[part]` holds (range, depth) indices (N, 2).
    """
    generator = torch.Generator().manual_seed(seed)
    centres, sizes = _templates(), {part: min(n, limit or n) for part, n in WAVE_SIZES.items()}
    which = {part: torch.randint(len(centres), (n,), generator=generator) for part, n in sizes.items()}
    x = {part: _noisy(centres[index], generator) for part, index in which.items()}
    factors = {part: torch.stack([which[part] // len(DEPTHS), which[part] % len(DEPTHS)], 1) for part in PARTS}
    dims = centres[0].numel()
    best = -math.log(len(centres)) - dims / 2 * math.log(2 * math.pi * math.e * NOISE**2)
    notes = (f"the best possible E log p is {best:.3f} nats (closed form: fields do not overlap under the noise)",)
    labels = {part: rows[:, 1].clone() for part, rows in factors.items()}
    return Dataset(
        "waves",
        Space(tuple(centres.shape[1:]), "sequence"),
        x["train"],
        x["validation"],
        x["test"],
        labels,
        tuple(f"{z:g} m" for z in DEPTHS.tolist()),
        notes,
        _source(x, f"fresh draws, seed {seed}", seed, limit, Form()),
        _mixture(centres),
        best,
        factors=factors,
        factor_names=tuple(WAVE_FACTORS),
    )


def _noisy(fields: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(fields.shape, generator=generator)
    return fields.float() + NOISE * noise


# -- both ----------------------------------------------------------------------------------------------------------


def _source(x: dict[str, Tensor], split: str, seed: int, limit: int | None, form: Form) -> dict[str, Any]:
    sizes = {part: len(x[part]) for part in PARTS}
    record = {"path": "", "sha256": digest_array(x["train"].numpy()), "split": split, "seed": seed, "limit": limit}
    return {**record, "steps": [], "sizes": sizes, "form": form.to_json()}


PROCEDURAL: dict[str, Callable[[int, int | None], Dataset]] = {"sprites": sprites, "waves": waves}
