"""Several experiments under one name: found together, run one after the other, printed side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from genalloy.core.evidence import Kind
from genalloy.core.schema import Column, Comparison, Data, Number, Published, Row, absent
from genalloy.experiments.registry import all_experiments, find_experiment, find_experiments, groups
from genalloy.studies.documents import headline_rows, print_group
from genalloy.studies.table import write_comparison


def test_a_group_is_found_whole_and_a_member_alone() -> None:
    assert {"uci-small", "hybrid-flows"} <= set(groups())
    found = find_experiments("uci-small")
    assert [e.data for e in found] == ["uci-power-plant", "uci-protein", "miniboone-10", "bsds300"]
    assert find_experiments(found[0].name) == found[:1] and len({e.name for e in found}) == 4
    assert not set(groups()) & set(all_experiments()), "a name means one thing"
    with pytest.raises(ValueError, match="did you mean 'uci-small'"):
        find_experiment("uci-smal")


def record(name: str, **values: float | None) -> Comparison:
    cells = {k: absent("") if v is None else Number(v, 0.1, kind=Kind.EXACT, seeds=(v,)) for k, v in values.items()}
    rows = [Row(k, cells={"density": number}) for k, number in cells.items()]
    columns = [Column("bound", "b"), Column("density", "log-likelihood", unit="nats")]
    published = [Published("MAF", -11.75, "nats", "all rows", "2017")] if name == "two" else []
    return Comparison(data=Data(name), rows=rows, columns=columns, headline=["density"], published=published)


def test_rows_stand_side_by_side_and_published_values_below(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [record("one", nsf=1.5, Gaussian=1.0), record("two", nsf=-9.0, Gaussian=None)]
    found = {name: [n.value if n and n.known else None for n in numbers] for name, numbers in headline_rows(records).items()}
    assert found == {"nsf": [1.5, -9.0], "Gaussian": [1.0, None]}
    records[0].rows.append(Row("ffjord", error="ValueError: no"))
    failed = headline_rows(records)["ffjord"][0]
    assert failed is not None and failed.missing == "failed: ValueError: no"
    experiments = find_experiments("uci-small")[:2]
    for experiment, made in zip(experiments, records, strict=True):
        write_comparison(tmp_path / f"{experiment.name}.json", made)
    print_group(tmp_path, experiments)
    said = capsys.readouterr().out
    for words in ("one, nats", "1.5 \u00b1 0.1 EXACT", "two. Published, in another set-up", "-11.75 nats"):
        assert words in said
