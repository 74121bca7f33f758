"""Concat-squash networks: tangents, shapes, a field that starts at zero and cannot run away."""

import pytest
import torch

from genalloy.laws.subject import perturb_parameters
from genalloy.networks.concat_squash import ConcatSquash

CONTEXTS = {"alone": (), "vector and label": ((3,), ())}


def build(shapes, event=(2,)):
    return perturb_parameters(ConcatSquash((event, (), *shapes), (16, 16), features=8)).double()


def contexts(shapes, *batch):
    return tuple(torch.randn(*batch, *s, dtype=torch.float64) for s in shapes)


@pytest.mark.parametrize("time", ["one", "by row"])
@pytest.mark.parametrize("name", CONTEXTS)
def test_tangents_are_products_with_the_jacobian(name, time):
    torch.manual_seed(0)
    shapes = CONTEXTS[name]
    net, x, c = build(shapes), torch.randn(5, 2, dtype=torch.float64), contexts(shapes, 5)
    t = torch.tensor(0.3, dtype=torch.float64) if time == "one" else torch.rand(5, dtype=torch.float64)
    v = torch.randn(3, 5, 2, dtype=torch.float64)
    value, found = net((x, t, *c), v)
    torch.testing.assert_close(value, net((x, t, *c)))
    for i in range(3):
        _, expected = torch.autograd.functional.jvp(lambda y: net((y, t, *c)), x, v[i])
        torch.testing.assert_close(found[i], expected)


def test_one_time_for_all_rows_is_that_time_for_each():
    net, x = build(()), torch.randn(4, 2, dtype=torch.float64)
    torch.testing.assert_close(net((x, torch.tensor(0.7).double())), net((x, torch.full((4,), 0.7).double())))
    assert not torch.allclose(net((x, torch.tensor(0.7).double())), net((x, torch.tensor(0.1).double())))


def test_starts_at_zero_and_stays_bounded():
    assert (ConcatSquash(((2,), ()))((torch.randn(3, 2), torch.rand(3))) == 0).all()
    net = build(())
    speeds = [float(net((s * torch.ones(1, 2).double(), torch.zeros(1).double())).detach().norm()) for s in (1e2, 1e4)]
    assert speeds[1] < 2 * speeds[0] + 1


def test_events_of_any_shape_and_contexts_that_broadcast():
    net = build(((3,),), (2, 3))
    x, c = torch.randn(4, 5, 2, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    out = net((x, torch.tensor(0.5).double(), c))
    assert out.shape == x.shape
    torch.testing.assert_close(out[:, 2], net((x[:, 2], torch.tensor(0.5).double(), c[2])))
