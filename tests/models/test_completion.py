"""The rest given a part: exact by enumeration, near by resampling, and another law, named, by generation alone."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genalloy.core.evidence import Unavailable
from genalloy.heads.discrete import Bernoulli, Categorical
from genalloy.heads.gaussian import Gaussian, StandardNormal
from genalloy.models.any_order import AnyOrder, FixedOrder, OneByOne, Parallel, SamplingOrder
from genalloy.models.autoregressive import Autoregressive
from genalloy.models.completion import EXACTLY, Enumerated, ImportanceResampled, law_of
from genalloy.models.mixture import Mixture
from genalloy.models.ngram import NGram
from genalloy.networks.causal.made import MADE
from genalloy.networks.input_embedding import OneHot
from genalloy.networks.mlp import Hidden
from genalloy.networks.order_agnostic import OrderAgnosticMLP, TrunkConfig
from genalloy.runs.score import complete, completions

D, K = 4, 3
ROW = torch.tensor([2.0, 1, 0, 1])
MIDDLE = torch.tensor([False, True, False, True])
FIRST = torch.tensor([True, True, False, False])
DRAWS, FEW = 8000, 400


def shaken(part: Any, size: float) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for p in part.parameters():
            p.add_(size * torch.randn_like(p))
    return part.eval()


def any_order(generation: SamplingOrder) -> Any:
    """Weights so far from a fit that orders disagree."""
    torch.manual_seed(0)
    network = OrderAgnosticMLP((D,), K, TrunkConfig(16, 1), (), OneHot(K))
    return shaken(AnyOrder(network, Categorical(K), (D,), (), generation), 0.8)


def autoregressive() -> Any:
    torch.manual_seed(0)
    return shaken(Autoregressive(MADE((D,), K, Hidden((16,)), entry=OneHot(K)), Categorical(K), (D,)), 0.8)


def ngram() -> Any:
    rows = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 4000, True).reshape(1000, D).float()
    rows[:, 1:] = (rows[:, :1].cumsum(1) + rows[:, 1:].floor()) % K
    return NGram.of(rows, K, 3, D)


MODELS = {
    "random orders": lambda: any_order(OneByOne()),
    "parallel": lambda: any_order(Parallel((1, 3))),
    "fixed order": lambda: any_order(FixedOrder((2, 0, 3, 1))),
    "fixed, parallel": lambda: any_order(FixedOrder((0, 1, 2, 3), (2, 2))),
    "autoregressive": autoregressive,
    "n-gram": ngram,
}


def conditional(model: Any, known: Tensor) -> tuple[Tensor, Tensor]:
    """Every state that agrees with ROW where known, and p(it | ROW's known entries) from the model's own exact density."""
    states = torch.tensor(list(product(range(K), repeat=D))).float()
    kept = states[(states[:, known] == ROW[known]).all(1)]
    distribution = model()
    exact = distribution.exactly() if hasattr(distribution, "exactly") else distribution
    return kept, exact.density(kept).value.detach().double().softmax(0)


def variation(drawn: Tensor, states: Tensor, p: Tensor) -> float:
    """Total variation of the draws' frequencies from p."""
    place = (drawn[:, None] == states).all(-1)
    assert place.any(1).all(), "what is given was kept"
    return 0.5 * (place.double().mean(0) - p).abs().sum().item()


def repeated(known: Tensor, draws: int = DRAWS) -> tuple[Tensor, Tensor]:
    return ROW.expand(draws, D).clone(), known.expand(draws, D).clone()


def noise(p: Tensor, draws: int = DRAWS) -> float:
    """A total variation that frequencies of exact draws stay below: two and a half times its mean."""
    return float((p * (1 - p) / draws).sqrt().sum()) + 1e-9


@pytest.mark.parametrize("known", [MIDDLE, FIRST, torch.zeros(D, dtype=torch.bool), torch.ones(D, dtype=torch.bool)])
@pytest.mark.parametrize("name", MODELS)
def test_the_words_are_true(name: str, known: Tensor) -> None:
    """Enumeration is exact; resampling is nearer than generation; generation is exact where it says so."""
    model = MODELS[name]()
    states, p = conditional(model, known)
    limit = noise(p)
    exact = completions(model, *repeated(known), Enumerated(K))
    assert variation(exact.values, states, p) < limit and exact.how.startswith(EXACTLY) and "enumerated" in exact.how
    own, words = variation(complete(model, *repeated(known), chunk=DRAWS), states, p), law_of(model(), known)
    near = completions(model, *repeated(known, FEW), ImportanceResampled(64))
    if words == EXACTLY:
        assert own < limit and near.how == EXACTLY and near.effective is None
        return
    assert variation(near.values, states, p) < noise(p, FEW) + 0.1 * own and "near p(the rest" in near.how
    assert near.effective is not None and near.effective.shape == (FEW,) and 1 <= near.effective.min() <= 64 + 1e-3


def test_generation_is_another_law_where_it_says_so() -> None:
    for name, words in {
        "random orders": "in random orders that begin with what is given: not the model's own",
        "parallel": "in random orders that begin with what is given",
        "fixed order": "in the fixed order, as if what is given had come first",
        "autoregressive": "not seen by those before them",
    }.items():
        model = MODELS[name]()
        assert words in law_of(model(), MIDDLE)
        assert variation(complete(model, *repeated(MIDDLE), chunk=DRAWS), *conditional(model, MIDDLE)) > 0.05, name


@pytest.mark.parametrize(
    ("name", "known", "exact"),
    [
        ("fixed order", [2], True), ("fixed order", [2, 0], True), ("fixed order", [0], False), ("fixed order", [2, 3], False),
        ("fixed, parallel", [0, 1], True), ("fixed, parallel", [0], False), ("fixed, parallel", [0, 1, 2], False),
        ("random orders", [0], False), ("random orders", [0, 1, 2], False), ("random orders", [], True),
        ("autoregressive", [0, 1], True), ("autoregressive", [1], False), ("n-gram", [0], True), ("n-gram", [0, 2], False),
    ],
)  # fmt: skip
def test_which_beginnings_are_exact(name: str, known: list[int], exact: bool) -> None:
    mask = torch.zeros(D, dtype=torch.bool)
    mask[known] = True
    distribution = MODELS[name]()()
    assert distribution.completes_exactly(mask) is exact
    assert not exact or distribution.completes_exactly(torch.stack([mask, mask])) is True


def test_orders_beyond_ten_are_estimated_and_enumeration_says_so() -> None:
    network = OrderAgnosticMLP((12,), 1, TrunkConfig(16, 1), (), OneHot(2))
    model, known = shaken(AnyOrder(network, Bernoulli(), (12,)), 0.3), torch.arange(12) < 9
    found = completions(model, torch.ones(5, 12), known.expand(5, 12), ImportanceResampled(8))
    assert (found.values[:, :9] == 1).all() and (found.effective >= 1 - 1e-4).all()
    with pytest.raises(ValueError, match="at most 10 for EveryOrder"):
        completions(model, torch.ones(1, 12), known[None], Enumerated(2))


def test_any_exact_mass_is_enumerated_and_the_rest_refused() -> None:
    class Independent(nn.Module):
        def forward(self, context: object = None) -> Any:
            return Bernoulli()(torch.tensor([[2.0], [-1.0]]), 1)

    found = completions(Independent(), torch.ones(4000, 2), torch.tensor([True, False]).expand(4000, 2), Enumerated(2))
    assert found.values[:, 0].min() == 1 and found.values[:, 1].mean() == pytest.approx(1 / (1 + math.e), abs=0.03)
    x, known = torch.ones(1, 2), torch.tensor([[True, False]])
    with pytest.raises(Unavailable, match="exact masses of integers; found EXACT"):
        completions(Mixture([StandardNormal((2,))]), x, known, Enumerated(2))
    with pytest.raises(Unavailable, match="more than 4 joint states"):
        completions(Independent(), x, torch.zeros(1, 2, dtype=torch.bool), Enumerated(3, most=4))
    with pytest.raises(Unavailable, match="weights of its completions are needed"):
        completions(Mixture([StandardNormal((2,))]), x, known, ImportanceResampled())
    with pytest.raises(ValueError, match="at least 2 to choose from"):
        ImportanceResampled(1)


def test_reals_are_resampled() -> None:
    """x2 = x1 + noise generated in the order x1, x2: given x2, x1 is a shrunken x2, and generation does not see it."""

    class Chain(nn.Module):
        sequence, step_shape, differentiable_steps = (0, 1), (), False

        def forward(self, x: Tensor, context: object = None) -> Tensor:
            mean = torch.stack([torch.zeros_like(x[..., 0]), x[..., 0]], -1)
            return torch.stack([mean, torch.full_like(mean, -0.0)], -1)

        def init_state(self, shape: Any, context: object = None) -> Any:
            return 0, shape

        def step(self, state: Any, previous: Tensor | None) -> Any:
            mean = torch.zeros(state[1]) if previous is None else previous
            return (state[0] + 1, state[1]), torch.stack([mean, torch.zeros_like(mean)], -1)

    model = Autoregressive(Chain(), Gaussian(), (2,))
    x, known = torch.tensor([[0.0, 2.0]]).expand(3000, 2), torch.tensor([[False, True]]).expand(3000, 2)
    assert complete(model, x, known)[:, 0].mean().abs() < 0.1
    found = completions(model, x, known, ImportanceResampled(200))
    assert found.values[:, 0].mean().item() == pytest.approx(1.0, abs=0.08)
    assert found.values[:, 0].var().item() == pytest.approx(0.5, abs=0.08)
