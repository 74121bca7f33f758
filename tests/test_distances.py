"""Optimal transport between samples, against brute force and closed forms."""

from itertools import permutations

import pytest
import torch

from genalloy.distances import optimal_assignment, squared_distances, wasserstein2


def test_assignment_is_the_best_of_all_permutations():
    torch.manual_seed(0)
    for _ in range(5):
        cost = torch.rand(6, 6)
        best = min(sum(float(cost[i, p[i]]) for i in range(6)) for p in permutations(range(6)))
        found = optimal_assignment(cost)
        assert sorted(found.tolist()) == list(range(6))
        assert abs(float(cost[torch.arange(6), found].sum()) - best) < 1e-6


def test_distance_of_a_shifted_sample_is_the_shift():
    x = torch.randn(50, 2)
    shift = torch.tensor([3.0, 4.0])
    assert abs(wasserstein2(x, (x + shift)[torch.randperm(50)]) - 5.0) < 1e-5
    assert abs(wasserstein2(x.reshape(50, 1, 2), x.reshape(50, 1, 2))) < 1e-6


def test_squares_do_not_cancel():
    a = torch.tensor([[1e4, 0.0]])
    assert abs(float(squared_distances(a, a + torch.tensor([[1e-2, 0.0]]))) - 1e-4) < 3e-5


@pytest.mark.parametrize(("cost", "words"), [(torch.rand(2, 3), "square"), (torch.full((2, 2), torch.nan), "finite")])
def test_nonsense_is_refused(cost, words):
    with pytest.raises(ValueError, match=words):
        optimal_assignment(cost)
