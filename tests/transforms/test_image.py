"""Transforms of images: squeezing, wavelets, invertible 1x1 convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genalloy.core.spec import from_spec, to_spec
from genalloy.laws.invertible import invertible
from genalloy.laws.subject import perturb_parameters
from genalloy.transforms.image import Haar, InvertibleConvolution, Shuffle, Squeeze
from genalloy.transforms.layer import Transform

IMAGE = (2, 4, 6)
MAKE = {
    "squeeze": lambda: Squeeze(IMAGE),
    "haar": lambda: Haar(IMAGE),
    "shuffle": lambda: Shuffle(torch.tensor([1, 0])),
    "rotation": lambda: InvertibleConvolution(2),
    "permutation": lambda: InvertibleConvolution(2, "permutation"),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("name", MAKE)
def test_inverts_with_the_right_log_determinant(name: str, scale: float) -> None:
    transform = perturb_parameters(MAKE[name]())
    invertible(transform, scale * torch.randn(6, *IMAGE), tolerance=1e-5)


@pytest.mark.parametrize("name", MAKE)
def test_any_batch_and_what_is_stored(name: str) -> None:
    transform: Transform = perturb_parameters(MAKE[name]())
    x = torch.randn(2, 3, *IMAGE)
    z, ladj = transform.encode(x)
    assert ladj.shape == (2, 3) and z.shape == (2, 3, *transform.out_shape(IMAGE)) and transform.constant
    torch.testing.assert_close(transform.encode(x[1, 2])[0], z[1, 2])
    assert transform.decode(z[1, 2])[0].shape == IMAGE
    torch.testing.assert_close(from_spec(*to_spec(transform)).encode(x)[0], z)


def test_squeezing_reads_each_block_row_by_row_with_all_channels() -> None:
    x = torch.arange(8.0).reshape(1, 2, 4)
    x = torch.cat([x, 10 + x])
    first, second, *_ = z = Squeeze((2, 2, 4)).encode(x)[0].flatten(1).tolist()
    assert (first, second) == ([0, 2], [10, 12]) and z[2::2] == [[1, 3], [4, 6], [5, 7]]


@pytest.mark.parametrize("make", [Squeeze, Haar])
@pytest.mark.parametrize("shape", [(1, 7, 8), (1, 8, 7)])
def test_odd_sides_are_refused(make: type, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="even sides; pad or crop"):
        make(shape)


def test_wavelets_start_with_the_average() -> None:
    x = torch.randn(3, 2, 4, 4)
    z = Haar((2, 4, 4)).encode(x)[0]
    torch.testing.assert_close(z[:, :2], 2 * torch.nn.functional.avg_pool2d(x, 2))
    flat = torch.full((1, 1, 2, 2), 3.0)
    assert Haar((1, 2, 2)).encode(flat)[0].flatten().tolist() == [6, 0, 0, 0]


@pytest.mark.parametrize("channels", [1, 2, 12, 48])
def test_a_rotation_starts_orthogonal(channels: int) -> None:
    layer = InvertibleConvolution(channels)
    x = torch.randn(5, channels, 2, 2)
    z, ladj = layer.encode(x)
    torch.testing.assert_close(z.square().sum(1), x.square().sum(1), rtol=1e-4, atol=1e-4)
    assert ladj.abs().max() < 1e-4
    assert channels == 1 or not torch.allclose(z.abs().sort(1)[0], x.abs().sort(1)[0])


def test_other_starts() -> None:
    x = torch.randn(5, 6, 2, 2)
    (z, ladj), (same, zero) = (InvertibleConvolution(6, start).encode(x) for start in ("permutation", "identity"))
    torch.testing.assert_close(z.sort(1)[0], x.sort(1)[0])
    torch.testing.assert_close(same, x)
    assert (ladj == 0).all() and (zero == 0).all()
    with pytest.raises(ValueError, match="start='haar', expected one of identity, permutation, rotation"):
        InvertibleConvolution(6, "haar")


def test_every_pixel_is_mixed_alike() -> None:
    layer = perturb_parameters(InvertibleConvolution(3))
    x = torch.randn(2, 3, 4, 4)
    one = layer.encode(x[:, :, 1:2, 2:3])
    z, ladj = layer.encode(x)
    torch.testing.assert_close(z[:, :, 1:2, 2:3], one[0])
    torch.testing.assert_close(ladj, 16 * one[1])


def test_gradients_reach_every_factor() -> None:
    layer = perturb_parameters(InvertibleConvolution(3))
    z, ladj = layer.encode(torch.randn(2, 3, 4, 4))
    (z.sin().sum() + ladj.sum()).backward()
    assert all(_touched(p) for p in layer.parameters())


def _touched(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool((parameter.grad != 0).any())
