"""Disentanglement: closed forms; identity near 1, rotation low, random and shuffled codes at chance."""

from __future__ import annotations

import math
from importlib import import_module

import pytest
import torch
from torch import Tensor

from genalloy.evaluation.disentanglement import (
    KEYS,
    PRUNED,
    binned,
    chance,
    disentangled_and_complete,
    disentanglement,
    mutual_information,
)
from genalloy.evaluation.metric import Panel

module = import_module("genalloy.evaluation.disentanglement")

SIZES = (3, 4, 6)
GUESS = (1 / 3 + 1 / 4 + 1 / 6) / 3


def factors(n: int = 3000, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(k, (n,), generator=generator) for k in SIZES], 1)


def noise(n: int, d: int, seed: int = 1) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def standard(v: Tensor) -> Tensor:
    return (v.double() - v.double().mean(0)) / v.double().std(0)


def value(panel: Panel, key: str) -> float:
    result = panel[key]
    assert not result.missing, (key, result)
    return result.value


@pytest.fixture(scope="module")
def identity() -> Panel:
    v = factors()
    return disentanglement(torch.cat([standard(v) * torch.tensor([1.0, -2.0, 0.5]), 0.03 * noise(len(v), 2)], 1), v)


def test_mutual_information_of_tables() -> None:
    assert mutual_information(torch.eye(4) * 7).item() == pytest.approx(math.log(4))
    assert mutual_information(torch.outer(torch.arange(1.0, 4), torch.arange(1.0, 6))).item() == pytest.approx(0, abs=1e-6)
    table = torch.tensor([[4.0, 1.0], [1.0, 4.0]])
    flip = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert mutual_information(torch.stack([table, torch.eye(2)])).tolist() == pytest.approx([math.log(2) - flip, math.log(2)])


def test_bins_have_equal_width() -> None:
    z = torch.stack([torch.arange(40), torch.full((40,), 7), torch.arange(40).double().exp()], 1).double()
    found = binned(z)
    assert found[:, 0].tolist() == [i // 2 for i in range(40)]
    assert found[:, 1].unique().tolist() == [0]
    assert (found[:, 2] == 0).sum() == 37


def test_importances() -> None:
    assert disentangled_and_complete(torch.eye(3)) == pytest.approx((1, 1))
    assert disentangled_and_complete(torch.full((5, 3), 0.2)) == pytest.approx((0, 0))
    doubled = torch.tensor([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]])
    assert disentangled_and_complete(doubled) == pytest.approx((1, (1 - math.log(2) / math.log(3) + 1) / 2))
    dead = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert disentangled_and_complete(dead) == pytest.approx((0, 1))


def test_modularity_by_hand() -> None:
    information = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1e-17, 0.0, 0.0]])
    assert module._modularity(information, torch.ones(3)) == pytest.approx((1 + 0.5 + 0) / 3)


def test_identity_scores_one(identity: Panel) -> None:
    assert set(identity) == {*KEYS, *PRUNED, "active_units"}
    for key in ("mig", "sap", "factor_vae", "dci_disentanglement", "dci_completeness", "dci_informativeness"):
        assert value(identity, key) > 0.97, key
    # two dimensions of small noise: they know nothing, so modularity suffers until they are pruned
    assert value(identity, "active_units") == 3
    assert value(identity, "modularity_active") > 0.99 > value(identity, "modularity")


def test_a_rotation_is_caught(identity: Panel) -> None:
    v = factors()
    signs = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    rotated = disentanglement(torch.cat([standard(v), noise(len(v), 1)], 1) @ signs.double(), v)
    assert value(rotated, "mig") < 0.05 and value(rotated, "sap") < 0.1
    assert value(rotated, "dci_disentanglement") < 0.4 < 0.97 < value(identity, "dci_disentanglement")
    assert value(rotated, "dci_completeness") < 0.4 and value(rotated, "factor_vae") < 0.9
    # it still holds the factors
    assert value(rotated, "dci_informativeness") > GUESS + 0.2


@pytest.mark.parametrize("shuffled", [False, True])
def test_codes_that_say_nothing_score_at_chance(shuffled: bool) -> None:
    v = factors()
    panel = chance(standard(v), v) if shuffled else disentanglement(noise(len(v), 3), v)
    # chance: 0 for gaps and for D and C (a little above by finite rows), 1/F for FactorVAE, the guess for informativeness
    assert 0 <= value(panel, "mig") < 0.01 and 0 <= value(panel, "sap") < 0.05
    assert value(panel, "dci_disentanglement") < 0.1 and value(panel, "dci_completeness") < 0.1
    assert value(panel, "factor_vae") == pytest.approx(1 / 3, abs=0.06)
    assert value(panel, "dci_informativeness") == pytest.approx(GUESS, abs=0.04)
    # modularity has no fixed chance: informations of pure noise grow with the number of values, and their ratio is what it sees
    assert 0.3 < value(panel, "modularity") < 0.95
    assert ("shuffled codes" in panel["mig"].how) is shuffled


def test_a_doubled_dimension_has_no_gap() -> None:
    v = factors()
    z = standard(v)
    doubled = disentanglement(torch.cat([z, z + 0.02 * noise(len(v), 3)], 1), v)
    assert value(doubled, "mig") < 0.1 and value(doubled, "sap") < 0.1
    assert value(doubled, "dci_disentanglement") > 0.95 and value(doubled, "modularity") > 0.99
    assert value(doubled, "factor_vae") > 0.97


def test_groups_share_their_value() -> None:
    v = torch.tensor([0] * 5 + [2] * 40 + [1] * 20)
    generator = torch.Generator().manual_seed(0)
    rows = module._groups(v, 3000, generator)
    assert rows is not None and rows.shape == (3000, module.GROUP)
    assert (v[rows] == v[rows[:, :1]]).all() and set(v[rows].unique().tolist()) == {1, 2}
    # values come in proportion to their rows, and all rows of a value occur
    assert (v[rows[:, 0]] == 2).float().mean().item() == pytest.approx(2 / 3, abs=0.03) and len(rows.unique()) == 60
    assert module._groups(torch.arange(9), 5, generator) is None


def test_error_of_mig_matches_its_scatter() -> None:
    found = []
    for seed in range(40):
        v = factors(400, seed)
        z = standard(v) + 0.5 * noise(400, 3, 100 + seed)
        blocks = module._by_block(binned(z), v, list(SIZES))
        found.append(module._jackknife(blocks, module._mig, 400, ""))
    scatter = torch.tensor([m.value for m in found]).std().item()
    assert sum(m.stderr for m in found) / 40 == pytest.approx(scatter, rel=0.3)


def test_missing() -> None:
    v, z = factors(300), noise(300, 3)
    assert all("at least 200 codes" in r.reason for r in disentanglement(z[:50], v[:50]).values())
    assert "at least 2 factors" in disentanglement(z, v[:, :1])["mig"].reason
    assert "factor 1 has a single value" in disentanglement(z, v * torch.tensor([1, 0, 1]))["sap"].reason
    assert "at least 2 code dimensions" in disentanglement(z[:, :1], v)["mig"].reason
    z[5] = torch.nan
    assert "1 of 300" in disentanglement(z, v)["mig"].reason
    with pytest.raises(ValueError, match="one row for each code"):
        disentanglement(z, v[:10])


def test_inactive_dimensions_are_pruned() -> None:
    v = factors(400)
    panel = disentanglement(torch.cat([standard(v)[:, :1], torch.zeros(400, 2)], 1), v)
    assert value(panel, "active_units") == 1 and panel["mig_active"].missing
    assert 0 < value(panel, "mig") < 0.4 and value(panel, "modularity") <= 1 / 3
    collapsed = disentanglement(torch.zeros(400, 3), v)
    assert value(collapsed, "mig") == 0 and value(collapsed, "modularity") == 0 and collapsed["factor_vae"].missing
