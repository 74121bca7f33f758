"""The label algebra: every sum, negation, propriety, units, and log-sum-exp."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from genalloy.core.evidence import Evidence, Kind, Measure, Unavailable, counting, lebesgue, log_sum_exp

E, L, U, B, S, N = Kind.EXACT, Kind.LOWER, Kind.UPPER, Kind.UNBIASED, Kind.ESTIMATE, Kind.NONE
ORDER = (E, L, U, B, S, N)
# rows and columns in ORDER, written by hand
TABLE = (
    (E, L, U, B, S, N),
    (L, L, S, L, S, N),
    (U, S, U, U, S, N),
    (B, L, U, B, S, N),
    (S, S, S, S, S, N),
    (N, N, N, N, N, N),
)


NOTHING = Measure()


def of(kind: Kind, proper: bool = False, value: float = -1.0, measure: Measure = NOTHING, shape=(2,)) -> Evidence:
    return Evidence(torch.full(shape, value), kind, kind.value.lower(), proper, None, measure)


@pytest.mark.parametrize(("i", "j"), itertools.product(range(6), range(6)))
def test_all_36_sums(i: int, j: int) -> None:
    assert ORDER[i] + ORDER[j] is TABLE[i][j]
    total = of(ORDER[i]) + of(ORDER[j])
    assert total.kind is TABLE[i][j]
    assert torch.equal(total.value, torch.full((2,), -2.0))


def test_sums_are_associative_and_negation_distributes() -> None:
    for a, b, c in itertools.product(ORDER, repeat=3):
        assert (a + b) + c is a + (b + c)
    for a, b in itertools.product(ORDER, repeat=2):
        assert -(a + b) is (-a) + (-b)
    assert [-k for k in ORDER] == [E, U, L, B, S, N]


@pytest.mark.parametrize(("i", "j"), itertools.product(range(6), range(6)))
def test_differences_flip_the_second(i: int, j: int) -> None:
    difference = of(ORDER[i], value=-1.0) - of(ORDER[j], value=-3.0)
    assert difference.kind is ORDER[i] + (-ORDER[j])
    assert torch.equal(difference.value, torch.full((2,), 2.0))


def test_propriety_survives_only_where_it_can() -> None:
    for a, b in itertools.product(ORDER, repeat=2):
        for p, q in itertools.product((True, False), repeat=2):
            assert (of(a, p) + of(b, q)).proper == (p and q and (a + b) in (E, L, U))
    assert (-of(L, True)).proper and not (-of(L, False)).proper
    assert of(E, True).below("x").proper and not of(E, True).below("x", proper=False).proper
    assert not of(U, True).below("x").proper
    assert of(U, True).below("x").kind is S
    assert of(L, True).above("x").kind is S and of(E, True).above("x").kind is U
    assert not of(E, True).estimated("x").proper


def test_nothing_revives_an_absent_number() -> None:
    gone = Evidence.none("never computed", (2,))
    total = gone + of(E, True)
    assert total.kind is N and bool(total.value.isnan().all())
    with pytest.raises(Unavailable, match="never computed"):
        _ = total.available
    assert "n/a (never computed" in str(total)
    assert (gone + of(E, True, measure=lebesgue(2)) - of(E, True, measure=counting(2))).kind is N


def test_units_cancel_or_are_refused() -> None:
    x, z = of(E, measure=lebesgue(3)), of(E, measure=lebesgue(2))
    assert (x + z - z).measure == lebesgue(3)
    assert (of(E, measure=counting(3)) + z - z).measure == counting(3)
    assert (of(E, measure=Measure(1, 2)) + of(E, measure=lebesgue(1))).measure == Measure(2, 2)
    with pytest.raises(ValueError, match=r"base measures .*counting.* do not add"):
        _ = of(E, measure=counting(2)) - of(E, measure=lebesgue(2))
    with pytest.raises(ValueError, match="mass function"):
        _ = of(E, measure=lebesgue(2)) - of(E, measure=counting(2))
    trade = of(L, measure=Measure(-2, 2))
    assert (of(E, measure=lebesgue(2)) + trade).measure == counting(2)


def test_shapes_do_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\).*Independent"):
        _ = of(E) + of(E, shape=(3,))
    with pytest.raises(ValueError):
        _ = of(E) + of(E, shape=(1,))


def test_standard_errors_add_in_quadrature() -> None:
    a = Evidence(torch.zeros(1), S, "a", stderr=torch.tensor([3.0]))
    b = Evidence(torch.zeros(1), S, "b", stderr=torch.tensor([4.0]))
    assert float((a + b).stderr) == pytest.approx(5.0)
    assert float((a - b).stderr) == pytest.approx(5.0)
    assert float((a + of(E, shape=(1,))).stderr) == pytest.approx(3.0)
    assert (a + b).how == "a; b" and (a + a).how == "a"


@pytest.mark.parametrize(
    ("kind", "proper", "expected"),
    [(E, True, E), (L, True, L), (L, False, S), (U, True, U), (U, False, U), (B, False, U), (S, False, S), (N, False, N)],
)
def test_log_mean_exp_labels(kind: Kind, proper: bool, expected: Kind) -> None:
    value = torch.tensor([[0.0, 1.0], [2.0, -3.0]])
    mean = Evidence(value, kind, "v", proper).log_mean_exp()
    assert mean.kind is expected
    assert mean.proper == (proper and expected in (E, L))
    torch.testing.assert_close(mean.value, torch.tensor([math.log((1 + math.e**2) / 2), math.log((math.e + math.e**-3) / 2)]))


def test_log_sum_exp_labels() -> None:
    def kind(*terms: Evidence) -> tuple[Kind, bool]:
        total = log_sum_exp(list(terms))
        return total.kind, total.proper

    assert kind(of(E, True), of(E, True)) == (E, True)
    assert kind(of(E, True), of(L, True)) == (L, True)
    assert kind(of(E, True), of(L, False)) == (S, False)
    assert kind(of(L, True), of(L, False)) == (S, False)
    assert kind(of(E, True), of(U, True)) == (U, False)
    assert kind(of(U, False), of(B, False)) == (U, False)
    assert kind(of(L, True), of(U, True)) == (S, False)
    assert kind(of(E, True), of(N)) == (N, False)
    with pytest.raises(ValueError, match="share base measure"):
        log_sum_exp([of(E, measure=lebesgue(2)), of(E, measure=counting(2))])
    with pytest.raises(ValueError, match="shape"):
        log_sum_exp([of(E), of(E, shape=(3,))])


def test_printing_carries_the_claim() -> None:
    assert str(of(L)) == "log p(x) >= -1 nats (LOWER; lower)"
    assert str(of(U)).startswith("log p(x) <= ") and str(of(S)).startswith("log p(x) ~ ")
    assert str(of(E)).startswith("log p(x) = -1 nats")
    assert float(of(E).bits_per_dim(2)[0]) == pytest.approx(1 / (2 * math.log(2)))
    with pytest.raises(Unavailable):
        Evidence.none("no").bits_per_dim(2)
