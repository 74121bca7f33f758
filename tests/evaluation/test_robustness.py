"""Projected gradients: on a linear classifier they find exactly the closed form; they stay in their ball and touch no weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from genalloy.evaluation.calibration import Classifier
from genalloy.evaluation.robustness import L2, PGD, LInfinity, Norm, attacked, margin, robustness

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.tensor([3.0, -1.0, 0.5, 2.0, 0.0, -0.25])
X = torch.randn(200, 6, generator=GENERATOR)
Y = (X @ WEIGHT + 0.3 > 0).long()
NORMS = [(L2(), WEIGHT.norm().item()), (LInfinity(), WEIGHT.abs().sum().item())]


def linear(steepness: float = 1.0) -> Classifier:
    def classify(x: Tensor) -> Tensor:
        score = steepness * (x @ WEIGHT + 0.3)
        return torch.stack([-score, score], -1)

    return classify


@pytest.mark.parametrize(("norm", "dual"), NORMS)
@pytest.mark.parametrize("steepness", [1.0, 1e4])
def test_rows_fall_exactly_at_their_margin(norm: Norm, dual: float, steepness: float) -> None:
    # |w.x + b| / |w|* is how far a row is from the boundary; a thousandth less must not suffice, a thousandth more must
    distance = (X @ WEIGHT + 0.3).abs() / dual
    classify = linear(steepness)
    for row in (distance.argmin().item(), distance.median(0).indices.item(), distance.argmax().item()):
        for factor, falls in ((0.999, False), (1.001, True)):
            changed = PGD(norm)(classify, X[row : row + 1], Y[row : row + 1], factor * distance[row].item())
            assert (classify(changed).argmax(-1) != Y[row]).item() is falls
    # a single step from the row itself already reaches the border of the ball
    row = distance.argmin().item()
    changed = PGD(norm, steps=1, restarts=0)(classify, X[row : row + 1], Y[row : row + 1], 1.001 * distance[row].item())
    assert classify(changed).argmax(-1) != Y[row]
    panel = robustness(classify, X, Y, [(PGD(norm, steps=20), (0.05, 0.2, 0.6))])
    assert panel["clean"].value == 1
    for radius in (0.05, 0.2, 0.6):
        assert panel[f"{norm.name} {radius:g}"].value == pytest.approx((distance > radius).float().mean().item(), abs=1e-6)


@pytest.mark.parametrize("norm", [L2(), LInfinity()])
def test_norms(norm: Norm) -> None:
    gradient = torch.randn(7, 2, 3, generator=GENERATOR) * torch.logspace(-30, 3, 7).view(7, 1, 1)
    step = norm.steepest(gradient)
    size = {"L2": lambda d: d.flatten(1).norm(dim=1), "Linf": lambda d: d.flatten(1).abs().amax(1)}[norm.name]
    torch.testing.assert_close(size(step), torch.ones(7))
    # steepest: no other step of norm 1 rises more; the rise is the dual norm
    dual = {"L2": lambda d: d.flatten(1).norm(dim=1), "Linf": lambda d: d.flatten(1).abs().sum(1)}[norm.name]
    torch.testing.assert_close((step * gradient).flatten(1).sum(1)[1:], dual(gradient)[1:])
    far = 5 * torch.randn(50, 2, 3, generator=GENERATOR)
    near = norm.project(far, 2.0)
    assert (size(near) <= 2.0 + 1e-5).all() and torch.equal(near, norm.project(near, 2.0 + 1e-4))
    assert (size(far - near) > 0).any()
    starts = norm.start(torch.zeros(2000, 3), 2.0, GENERATOR)
    assert size(starts).max() <= 2.0 + 1e-5 and size(starts).max() > 1.9 and starts.mean(0).abs().max() < 0.15


def test_weights_inputs_and_switches_stay_as_they_were() -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    before = [p.clone() for p in network.parameters()]
    x = X.clone()
    with torch.no_grad():
        panel = robustness(network, x, Y, [(PGD(L2(), steps=5), (0.5,)), (PGD(LInfinity(), steps=5), (0.1,))])
    assert set(panel) == {"clean", "L2 0.5", "Linf 0.1"}
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert torch.equal(x, X) and not x.requires_grad


def test_limits_of_the_data_are_kept() -> None:
    x, attack = X.clamp(-1, 1), PGD(LInfinity(), low=-1.0, high=1.0)
    y = linear()(x).argmax(-1)
    changed = attack(linear(), x, y, 0.7)
    assert changed.abs().max() <= 1 and (changed - x).abs().max() <= 0.7 + 1e-6 and (changed - x).abs().max() > 0.6
    free = attacked(linear(), x, y, PGD(LInfinity()), [0.7])[0.7]
    kept = attacked(linear(), x, y, attack, [0.7])[0.7]
    assert kept.sum() > free.sum() and bool((kept | ~free).all())
    with pytest.raises(ValueError, match="outside -1"):
        attack(linear(), 2 * torch.ones(3, 6), y[:3], 0.1)


def test_larger_radii_only_lose_rows_and_restarts_help() -> None:
    def rings(x: Tensor) -> Tensor:
        """Two classes by the sine of the radius: gradients from the row itself often lead nowhere."""
        wave = torch.sin(3 * x.norm(dim=-1))
        return torch.stack([-wave, wave], -1)

    y = rings(X).argmax(-1)
    standing = attacked(rings, X, y, PGD(L2(), steps=10), [0.4, 0.1, 0.2])
    shares = [standing[r].float().mean().item() for r in (0.1, 0.2, 0.4)]
    assert shares == sorted(shares, reverse=True) and shares[0] > shares[2]
    assert bool((standing[0.1] | ~standing[0.2]).all())


def test_margin_and_wrong_rows() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    assert margin(logits, torch.tensor([1, 0])).tolist() == [-1.0, 2.0]
    wrong = robustness(linear(), X, 1 - Y, [(PGD(L2(), steps=2), (0.1,))])
    assert wrong["clean"].value == 0 and wrong["L2 0.1"].value == 0 and wrong["L2 0.1"].high > 0
    broken = torch.where(torch.arange(200).unsqueeze(1) == 3, torch.nan, X)
    assert "1 of 200" in robustness(linear(), broken, Y, [(PGD(L2()), (0.1,))])["L2 0.1"].reason
