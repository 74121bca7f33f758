"""Text tables: separator, decimals, header, index, encoding and missing words are guessed, noted, overridden."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genalloy.data.columns import parsed
from genalloy.data.dataset import Dataset
from genalloy.data.errors import BadData
from genalloy.data.load import load_data

pytest.importorskip("pandas", reason="tables are data frames")
RNG = np.random.default_rng(0)
N = 40
A, B = RNG.normal(size=N), RNG.normal(size=N)
WORDS = RNG.choice(["red", "green"], N)
ORDER = RNG.permutation(N)


def table(header: str, row: Callable[[int], str], end: str = "\n") -> str:
    return end.join([*([header] if header else []), *(row(i) for i in range(N))]) + end


def german(value: float) -> str:
    return f"{value:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def read(folder: Path, text: str | bytes, **asked: Any) -> Dataset:
    (folder / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_data(folder / "t.csv", **asked)


def names(data: Dataset) -> list[tuple[str, str]]:
    return [(column.name, column.kind) for column in data.space.columns]


def values(data: Dataset) -> list[list[Any]]:
    """All rows, sorted."""
    frames = [data.restore(data.part(part)) for part in ("train", "validation", "test")]
    return sorted(row for frame in frames for row in frame.to_numpy().tolist())


REALS = [("a", "real"), ("b", "real")]
PLAIN = sorted([round(a, 3), round(b, 3)] for a, b in zip(A, B, strict=True))
NUMBERS = {
    "commas": table("a,b", lambda i: f"{A[i]:.3f},{B[i]:.3f}"),
    "commas and blanks": table("a, b", lambda i: f"{A[i]:.3f}, {B[i]:.3f}"),
    "semicolons": table("a;b", lambda i: f"{A[i]:.3f};{B[i]:.3f}"),
    "tabs": table("a\tb", lambda i: f"{A[i]:.3f}\t{B[i]:.3f}"),
    "bars": table("a|b", lambda i: f"{A[i]:.3f}|{B[i]:.3f}"),
    "blanks": table("a   b", lambda i: f"  {A[i]:.3f}  {B[i]:.3f}"),
    "decimal commas": table("a;b", lambda i: f"{A[i]:.3f};{B[i]:.3f}".replace(".", ",")),
    "decimal commas and tabs": table("a\tb", lambda i: f"{A[i]:.3f}\t{B[i]:.3f}".replace(".", ",")),
    "decimal commas in quotes": table("a,b", lambda i: f'"{A[i]:.3f}","{B[i]:.3f}"'.replace(".", ",")),
    "windows": table("a,b", lambda i: f"{A[i]:.3f},{B[i]:.3f}", "\r\n"),
    "old line ends": table("a,b", lambda i: f"{A[i]:.3f},{B[i]:.3f}", "\r"),
    "blank lines": table("a,b\n", lambda i: f"{A[i]:.3f},{B[i]:.3f}\n"),
    "a byte order mark": "\ufeff" + table("a,b", lambda i: f"{A[i]:.3f},{B[i]:.3f}"),
    "comments": "# written by hand\n# in 2020\n" + table("a,b", lambda i: f"{A[i]:.3f},{B[i]:.3f}"),
    "a header behind a hash": table("# a,b", lambda i: f"{A[i]:.3f},{B[i]:.3f}"),
    "trailing separators": table("a,b,", lambda i: f"{A[i]:.3f},{B[i]:.3f},"),
    "trailing separators in rows": table("a,b", lambda i: f"{A[i]:.3f},{B[i]:.3f},"),
    "an index": table(",a,b", lambda i: f"{i},{A[i]:.3f},{B[i]:.3f}"),
    "a shuffled index": table(",a,b", lambda i: f"{ORDER[i]},{A[i]:.3f},{B[i]:.3f}"),
    "an index of some rows": table(",a,b", lambda i: f"{7 * ORDER[i] + 3},{A[i]:.3f},{B[i]:.3f}"),
    "row names": table('"","a","b"', lambda i: f'"row {i}",{A[i]:.3f},{B[i]:.3f}'),
    "a header without the index": table("a,b", lambda i: f"{ORDER[i]},{A[i]:.3f},{B[i]:.3f}"),
    "R's table": table('"a" "b"', lambda i: f'"row {i}" {A[i]:.3f} {B[i]:.3f}'),
    "exponents": table("a,b", lambda i: f"{A[i] * 1000:.0f}e-3,{round(B[i], 3):.6E}"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str, tmp_path: Path) -> None:
    data = read(tmp_path, NUMBERS[name])
    assert names(data) == REALS
    np.testing.assert_allclose(values(data), PLAIN, atol=1e-6)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    text = table("größe,b", lambda i: f"{'éü'[i % 2]},{B[i]:.3f}")
    data = read(tmp_path, text.encode(encoding))
    assert names(data) == [("größe", "category"), ("b", "real")] and data.space.columns[0].categories == ("é", "ü")
    assert any("read as" in note for note in data.notes) == (encoding != "utf-8")


def test_thousands(tmp_path: Path) -> None:
    large = sorted(round(float(a) * 1e5, 2) for a in A)
    for text in (
        table("a;b", lambda i: f"{german(A[i] * 1e5)};{B[i]:.3f}".replace(f"{B[i]:.3f}", f"{B[i]:.3f}".replace(".", ","))),
        table("a,b", lambda i: f'"{A[i] * 1e5:,.2f}",{B[i]:.3f}'),
    ):
        data = read(tmp_path, text)
        assert names(data) == REALS
        np.testing.assert_allclose([row[0] for row in values(data)], large, rtol=1e-6)


@pytest.mark.parametrize(
    ("first", "row", "rows", "columns"),
    [
        ("", lambda i: f"{A[i]:.3f},{B[i]:.3f}", N, ["x0", "x1"]),
        ("", lambda i: f"{A[i] + 5:.1f},{B[i]:.2f},{WORDS[i]}", N, ["x0", "x1", "x2"]),
        ("", lambda i: f"{WORDS[i]},{WORDS[-i]}", N, ["x0", "x1"]),
        ("", lambda i: f"{i % 3},{i % 2},{i % 5}", N, ["x0", "x1", "x2"]),
        ("colour,shade", lambda i: f"{WORDS[i]},{WORDS[-i]}", N, ["colour", "shade"]),
        ("name,2019,2020", lambda i: f"{WORDS[i]},{A[i]:.2f},{B[i]:.2f}", N, ["name", "2019", "2020"]),
        ("name,1,2", lambda i: f"{WORDS[i]},{A[i] ** 2:.2f},{B[i] ** 2:.2f}", N, ["name", "1", "2"]),
        ("0,1", lambda i: f"{A[i]:.3f},{B[i]:.3f}", N, ["0", "1"]),
        ("a,a", lambda i: f"{A[i]:.3f},{B[i]:.3f}", N, ["a", "a"]),
        ("a", lambda i: f"{A[i]:.3f}", N, ["a"]),
        ("", lambda i: f"{A[i]:.3f}", N, ["x0"]),
    ],
)
def test_headers(first: str, row: Callable[[int], str], rows: int, columns: list[str], tmp_path: Path) -> None:
    data = read(tmp_path, table(first, row))
    assert [name for name, _ in names(data)] == columns and len(values(data)) == rows
    guessed = any("first row" in note for note in data.notes)
    assert guessed == (not first or any(cell.isdigit() for cell in first.split(",")))


@pytest.mark.parametrize(
    ("cells", "kind", "dtype", "held"),
    [
        (["011", "012", "100"], "category", "str", {"011", "012", "100"}),
        (["NA", "DE", "US"], "category", "str", {"NA", "DE", "US"}),
        (["None", "null", "x"], "category", "str", {"None", "null", "x"}),
        (["True", "False", "True"], "category", "bool", {True, False}),
        (["yes", "no", "yes"], "category", "str", {"yes", "no"}),
        ([" a", "a ", "a"], "category", "str", {" a", "a ", "a"}),
        (['"x\ny"', '"x,y"', '"x""y"'], "category", "str", {"x\ny", "x,y", 'x"y'}),
        (["1", "2", "3"], "integer", "int64", {1, 2, 3}),
        (["1.0", "2.0", "3.0"], "integer", "float64", {1.0, 2.0, 3.0}),
        (["9007199254740993", "9007199254740995", "9007199254740999"], "integer", "int64", None),
        (["-1", "+2", "0"], "integer", "int64", {-1, 2, 0}),
        (["2024-01-31", "2024-02-29", "1999-12-31"], "integer", "datetime64[us]", None),
        (["2024-01-31T10:00", "2024-02-29T11:00", "1999-12-31T12:00"], "real", "datetime64[us]", None),
        (["1_000", "2_000", "3_000"], "category", "str", {"1_000", "2_000", "3_000"}),
    ],
)
def test_cells(cells: list[str], kind: str, dtype: str, held: set[Any] | None, tmp_path: Path) -> None:
    data = read(tmp_path, table("c,b", lambda i: f"{cells[i % 3]},{B[i]:.3f}"))
    column = data.space.columns[0]
    assert (column.kind, column.dtype) == (kind, dtype)
    back = data.restore(data.train).iloc[:, 0]
    assert held is None or set(back) == held
    if held is None and kind == "integer" and dtype == "int64":
        assert set(back) == {int(cell) for cell in cells}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (table("c,b", lambda i: f"{['NA', '1.5', '2.5'][i % 3]},{B[i]:.3f}"), "14 entries are missing"),
        (table("c,b", lambda i: f"{['', 'x', 'y'][i % 3]},{B[i]:.3f}"), "14 entries are missing"),
        (table("c,b", lambda i: f"{['', '1', '2'][i % 3]},{B[i]:.3f}"), "14 entries are missing"),
        (table("a,b", lambda i: "," if i == 7 else f"{A[i]:.3f},{B[i]:.3f}"), "2 entries are missing.*row 7"),
        (table("a,b", lambda i: f"{'inf' if i == 3 else A[i]},{B[i]:.3f}"), "missing or infinite, the first in row 3"),
        (table("a,b", lambda i: f"{A[i]:.3f},{B[i]:.3f}" + ",1" * (i == 9)), "3 fields in row 9"),
        (table("a,b", lambda i: "1" if i == 9 else f"{A[i]:.3f},{B[i]:.3f}"), "1 fields in row 9"),
        (table("a,b", lambda i: f"{A[i]:.1f}%,n{i}"), "2 things are wrong"),
        (table("a,b", lambda i: f"{10**20 + i},{B[i]:.3f}"), "more than 64 bits"),
        ("a,b\n", "0 rows"),
        (b"a,b\n1,2\0\n", "no text"),
        (b"\n\n", "no rows"),
    ],
)
def test_refusals(text: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=words) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


# -- overrides -----------------------------------------------------------------------------------------------------

PEOPLE = table("id,signup,age,b", lambda i: f"{i},{i % 28 + 1:02d}/{i % 12 + 1:02d}/2024,{20 + i % 30}.0,{B[i]:.3f}")


def test_columns_are_read_as_asked(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"column 'signup' has 40 distinct texts.*or date"):
        read(tmp_path, PEOPLE)
    data = read(tmp_path, PEOPLE, columns={"signup": "date", "id": "drop", "age": "real"})
    assert names(data) == [("signup", "integer"), ("age", "real"), ("b", "real")]
    back = data.restore(data.train)
    assert str(back["signup"].dtype) == "datetime64[us]" and back["signup"].dt.year.eq(2024).all()
    assert any("%d/%m/%Y" in note for note in data.notes)
    # new rows are read by the format of the training rows, where alone they could be read otherwise
    text = "id,signup,age,b\n" + "1,02/03/2024,20,0.5\n1,02/03/2024,20,0.7\n" * 12
    new = read(tmp_path, text, columns={"signup": "date", "age": "category"})
    assert any("other way round" in note for note in new.notes)
    from genalloy.data.load import rows

    [(_, frame, _)] = rows(str(tmp_path / "t.csv"))
    assert data.restore(data.admit(frame))["signup"].iloc[0].month == 3


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"idd": "drop"}, "no column 'idd'.*did you mean 'id'"),
        ({"id": "reel"}, "cannot be read as .reel.*did you mean .real"),
        ({"b": "integer", "signup": "drop"}, "not whole"),
        ({"b": "date", "signup": "drop"}, "dates such as 2024-01-31"),
        ({"signup": "real"}, "expected numbers"),
        (dict.fromkeys(("id", "signup", "age", "b"), "drop"), "every column is dropped"),
    ],
)
def test_wrong_overrides(asked: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=words):
        read(tmp_path, PEOPLE, columns=asked)


def test_a_file_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('[columns]\nsignup = "date"\nid = "drop"\n')
    data = read(tmp_path, PEOPLE)
    assert names(data) == [("signup", "integer"), ("age", "integer"), ("b", "real")]
    assert any("t.toml" in note for note in data.notes)
    assert names(load_data(tmp_path / "t.csv", columns={"age": "drop"})) == [("signup", "integer"), ("b", "real")]
    before = data.source["sha256"]
    (tmp_path / "t.toml").write_text('[columns]\nsignup = "date"\nid = "drop"\nage = "real"\n')
    assert load_data(tmp_path / "t.csv").source["sha256"] != before, "other columns are other data"
    (tmp_path / "t.toml").write_text('header = true\nseparator = "x"\n')
    assert [name for name, _ in names(read(tmp_path, table("3x4", lambda i: f"{i % 3 + 5}x{i % 4}")))] == ["3", "4"]
    for content, words in (("headr = 1", "did you mean 'header'"), ("a =", "cannot read"), ("[columns]\na = 1", "no text")):
        (tmp_path / "t.toml").write_text(content)
        with pytest.raises(BadData, match=words):
            load_data(tmp_path / "t.csv")


def test_what_the_command_line_says() -> None:
    assert parsed("a=date, b=drop") == {"a": "date", "b": "drop"} and parsed("") == {}
    assert parsed('"a,b=drop",c=d=real') == {"a,b": "drop", "c=d": "real"}
    for wrong in ("a", "a=zap", "=drop", "a=drop,b"):
        with pytest.raises(BadData, match="expected NAME=KIND"):
            parsed(wrong)


def test_columns_are_for_tables() -> None:
    for source in (np.column_stack([A, B]), "8gaussians", "digits"):
        with pytest.raises(BadData, match="no table"):
            load_data(source, columns={"a": "drop"})


def test_zeros_and_bounds_are_noted(tmp_path: Path) -> None:
    data = read(tmp_path, table("rain,share", lambda i: f"{max(A[i], 0) + 0.001 * (i % 2) * (A[i] > 0)},{i / N + 0.003}"))
    said = " ".join(data.notes)
    assert "are exactly 0" in said and "no value is negative" in said and "lie in 0..1" in said
