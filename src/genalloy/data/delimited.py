"""Text tables (.csv, .tsv): encoding, separator, decimal sign, header and index are guessed, noted, and never lose a cell.

Every field is kept as it is written until `typed` decides what its column holds. A small TOML file beside the table says what
a guess cannot know, `table.toml` for `table.csv`:

    separator = ";"
    decimal = ","
    header = false
    [columns]
    signup = "date"
    customer_id = "drop"
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genalloy.data import limits
from genalloy.data.columns import MISSING_WORDS
from genalloy.data.errors import BadData, nearest

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
LOOKED_AT = 200
"""Lines from which separator and header are guessed."""
INTEGER = r"[+-]?\d+"
NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
COMMA_NUMBER = r"[+-]?([1-9]\d{0,2}(\.\d{3})+|\d+|)(,\d+)?([eE][+-]?\d+)?"
GROUPED = r"[+-]?([1-9]\d{0,2}(,\d{3})*|0)(\.\d+)?"
ENDLESS = r"[+-]?(inf|infinity)"
LEADING_ZERO = r"[+-]?0\d+"
ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?)?(Z|[+-]\d{2}:?\d{2})?"
UNNAMED = re.compile(r"Unnamed: \d+")


@dataclass(frozen=True)
class Beside:
    """What a TOML file beside a table says; None and "" leave it to the guess."""

    separator: str = ""
    decimal: str = ""
    header: bool | None = None
    columns: dict[str, str] = field(default_factory=dict)
    path: Path | None = None


def beside(path: Path) -> Beside:
    """The TOML file beside a table, `name.toml` for `name.csv`; an empty one where there is none. Raises BadData."""
    file = path.with_name(path.name.partition(".")[0] + ".toml")
    if not file.exists():
        return Beside()
    try:
        record = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadData(f"cannot read {file}: {str(error).partition(chr(10))[0]}; expected TOML; mend it or move it away") from None
    known = {"separator": str, "decimal": str, "header": bool, "columns": dict}
    for name, value in record.items():
        if name not in known or type(value) is not known[name]:
            raise BadData(f"{file} has {name} = {value!r}; expected some of {', '.join(known)}{nearest(name, known)}")
    wrong = [name for name, kind in record.get("columns", {}).items() if type(kind) is not str]
    if wrong:
        raise BadData(f'{file} has the column {wrong[0]!r} as no text; expected NAME = "KIND"')
    return Beside(**record, path=file)


# -- from bytes to fields ------------------------------------------------------------------------------------------


def read_delimited(path: Path, said: Beside) -> tuple[Any, list[str]]:
    """A text table as a pandas frame of texts, every field as it is written, with notes. Raises BadData."""
    text, notes = decoded(limits.content(path), path)
    lines, comments = _without_comments(text)
    separator = said.separator or guess_separator(lines)
    if separator != ",":
        notes.append(f"fields are separated by {SEPARATORS.get(separator, repr(separator))}")
    records = _records("\n".join(lines), separator, path)
    names, records, header_notes = _header(records, comments, separator, said.header)
    names, columns, width_notes = _same_width(names, records, path)
    frame, decimal_notes = _decimals(_frame(names, columns), separator, said.decimal)
    return frame, [*notes, *header_notes, *width_notes, *decimal_notes]


def decoded(data: bytes, path: Path) -> tuple[str, list[str]]:
    """UTF-8 with or without a mark, UTF-16 with one, else Windows' western letters; line ends as newlines."""
    for encoding in ("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        notes = [] if encoding == "utf-8-sig" else [f"the text is read as {encoding}"]
        return text.replace("\r\n", "\n").replace("\r", "\n"), notes
    raise BadData(f"{path} is no text in UTF-8, UTF-16 or Windows-1252; expected a text table; write it again as UTF-8")


def _without_comments(text: str) -> tuple[list[str], list[str]]:
    """Lines, and the comments (#) before the first of them."""
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return lines[start:], [line.lstrip("# ").rstrip() for line in lines[:start] if line.startswith("#")]


def guess_separator(lines: list[str]) -> str:
    """The separator that cuts the first lines into equally many fields, most of them clean; a comma where none does.

    A field is clean where no other separator is left in it that would cut it, a number (with a decimal comma too) above all.
    """
    sample = [line for line in lines[:LOOKED_AT] if line.strip()]
    best = max(SEPARATORS, key=lambda separator: _fitness(sample, separator))
    return best if _fitness(sample, best)[0] > 0 else ","


def _fitness(sample: list[str], separator: str) -> tuple[float, float, int]:
    """(how often the most common width above one is met, share of numbers among the fields of such lines, width)."""
    records = list(_split("\n".join(sample), separator))
    widths = [len(record) for record in records]
    width = max(set(widths), key=widths.count, default=0)
    if width < 2 or (separator == " " and widths[1:].count(width) < len(widths) - 1):
        return 0.0, 0.0, 0
    cells = [cell.strip() for record in records if len(record) == width for cell in record]
    form = NUMBER if separator == "," else f"({NUMBER}|{COMMA_NUMBER})"
    numbers = sum(bool(re.fullmatch(form, cell)) for cell in cells) / len(cells)
    steady = widths.count(width) / len(widths)
    # every line cut alike counts as much as numbers do; blanks inside texts cut them by accident
    return (round(steady, 1) if steady > 0.5 else 0.0), round(numbers, 3) - 0.5 * (separator == " "), width


def _split(text: str, separator: str) -> Iterable[list[str]]:
    if separator == " ":
        text = "\n".join(line.strip() for line in text.split("\n"))
    return csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=_spaced(text, separator))


def _spaced(text: str, separator: str) -> bool:
    """Whether the first separators are all followed by a blank, which is then no part of a field."""
    behind = [piece[:1] for piece in text[:5000].split(separator)[1:]]
    return separator == " " or (bool(behind) and all(mark in " " for mark in behind))


def _records(text: str, separator: str, path: Path) -> list[list[str]]:
    try:
        # blank lines are none; a line of separators alone is a row of missing cells
        records = [record for record in _split(text, separator) if len(record) > 1 or (record and record[0].strip())]
    except csv.Error as error:
        raise BadData(f"cannot read {path}: {error}; expected a text table; write it again") from None
    if not records:
        raise BadData(f"{path} holds no rows; expected data; check how it was written")
    return records


# -- header, width, index ------------------------------------------------------------------------------------------


def _header(
    records: list[list[str]], comments: list[str], separator: str, asked: bool | None
) -> tuple[list[str], list[list[str]], list[str]]:
    """Names and rows, and how the names came about."""
    first, rest = records[0], records[1:]
    if is_header(first, rest[:LOOKED_AT]) if asked is None else asked:
        notes = ["the first row is the header although it holds numbers"] if any(map(_number, first)) else []
        return first, rest, notes
    said = [next(iter(_split(line, separator)), []) for line in reversed(comments)]
    named = next((names for names in said if len(names) == len(first)), None)
    if named is not None:
        return named, records, ["the header was found behind a #"]
    what = "all numbers" if all(map(_number, first)) else "like those below it"
    return (
        [f"x{i}" for i in range(len(first))],
        records,
        [
            f"the first row is {what}: read as data, and the columns named x0, x1, ...; "
            "header = true in a TOML file beside it if not"
        ],
    )


def is_header(first: list[str], rest: list[list[str]]) -> bool:
    """Whether a first row names what is below it.

    A row of numbers does only where it counts 0, 1, 2, ... over columns that are no such integers; a row with texts does
    unless one of its texts is met again in its own column, or one of its numbers stands over numbers alike.
    """
    below = [{row[i] for row in rest if len(row) == len(first)} for i in range(len(first))]
    numbers = [bool(_number(cell)) for cell in first]
    if all(numbers):
        counted = first == [str(i) for i in range(len(first))]
        return counted and any("." in cell or not _number(cell) for column in below for cell in column)
    again = any(cell in column for cell, column, number in zip(first, below, numbers, strict=True) if not number and cell.strip())
    alike = any(_alike(cell, column) for cell, column, number in zip(first, below, numbers, strict=True) if number)
    return not again and not alike


def _alike(cell: str, below: set[str]) -> bool:
    """Whether a number looks like one of the numbers below: as many decimals or none, and within their range."""
    others = [other for other in below if _number(other)]
    if not others or len(others) < len(below):
        return False
    whole = [re.fullmatch(INTEGER, other.strip()) is not None for other in others]
    if re.fullmatch(INTEGER, cell.strip()) and not any(whole):
        return False
    values = [float(other) for other in others]
    spread = max(values) - min(values)
    return min(values) - spread <= float(cell) <= max(values) + spread


def _number(cell: str) -> bool:
    return re.fullmatch(NUMBER, cell.strip()) is not None


def _same_width(names: list[str], records: list[list[str]], path: Path) -> tuple[list[str], list[list[str]], list[str]]:
    """Names and columns of one length: nameless first fields are kept, empty ends are cut. Raises BadData for ragged rows."""
    widths = [len(record) for record in records]
    width = max(set(widths), key=widths.count, default=len(names))
    ends, notes = all(not record[-1].strip() for record in records if len(record) == width) if records else False, list[str]()
    if ends and width in (len(names) + 1, len(names)) and (width > len(names) or names[-1] in ("", f"x{width - 1}")):
        records, names, width = [record[: width - 1] for record in records], names[: width - 1], width - 1
        widths = [len(record) for record in records]
        notes.append("every row ends with a separator: the empty field behind it was left out")
    if width == len(names) + 1:
        names = ["Unnamed: 0", *names]
        notes.append("the header is one field shorter than the rows: the first column has no name")
    ragged = [i for i, own in enumerate(widths) if own != width]
    if ragged or width != len(names):
        row = ragged[0] if ragged else 0
        raise BadData(
            f"{path} has {widths[row] if widths else 0} fields in row {row} and {len(names)} names; expected as many in every row"
            f" ({len(ragged):,} rows differ); quote fields that hold the separator, or write the file again"
        )
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    return names, [list(column) for column in zip(*records, strict=True)] if records else [[] for _ in names], notes


def _decimals(frame: Any, separator: str, asked: str) -> tuple[Any, list[str]]:
    """Decimal commas, and what stands between thousands, as Python writes numbers, where every cell of a column is such."""
    comma = asked == "," or (asked == "" and separator != ",")
    changed: dict[str, list[str]] = {}
    for i, name in enumerate(frame.columns):
        column = frame.iloc[:, i]
        if not column.str.contains(",", regex=False).any():
            continue
        cells = column.str.strip()
        cells = cells[(cells != "") & ~cells.isin(MISSING_WORDS)]
        ways = [_WAYS["decimal commas"], _WAYS["commas between thousands"]] if comma else [*reversed(_WAYS.values())]
        way = next((way for way in ways if cells.str.fullmatch(way.form).all()), None)
        if way is not None:
            frame.isetitem(i, way.plain(column))
            changed.setdefault(way.words, []).append(str(name))
    return frame, [f"numbers with {words} in {', '.join(map(repr, names[:8]))}" for words, names in changed.items()]


class _Way(NamedTuple):
    """One way to write numbers with commas: what they look like, and the column (a pandas one of texts) as Python writes them."""

    words: str
    form: str
    plain: Callable[[Any], Any]


_WAYS = {
    way.words: way
    for way in (
        _Way("decimal commas", COMMA_NUMBER, lambda c: c.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)),
        _Way("commas between thousands", GROUPED, lambda c: c.str.replace(",", "", regex=False)),
    )
}


def _frame(names: list[str], columns: list[list[str]]) -> Any:
    import pandas

    frame = pandas.DataFrame({i: pandas.Series(column, dtype="str") for i, column in enumerate(columns)})
    frame.columns = pandas.Index(names, dtype=object)
    return frame


# -- from fields to columns ----------------------------------------------------------------------------------------


def without_index(frame: Any, asked: Mapping[str, str]) -> tuple[Any, list[str]]:
    """Without a first column that has no name and another value in every row, in whatever order: an index, not a measurement."""
    first = str(frame.columns[0])
    if not UNNAMED.fullmatch(first) or first in asked or frame.shape[1] < 2:
        return frame, []
    cells = frame.iloc[:, 0].str.strip()
    if not cells.is_unique or (cells.str.fullmatch(NUMBER).all() and not cells.str.fullmatch(INTEGER).all()):
        return frame, []
    in_order = cells.tolist() == [str(i) for i in range(len(cells))]
    words = "that only counts the rows" if in_order else "and with another value in every row, an index,"
    return frame.iloc[:, 1:], [f"a first column without a name {words} was left out; {first}=category or =integer keeps it"]


def typed_frame(frame: Any, asked: Mapping[str, str]) -> tuple[Any, list[str]]:
    """A frame of texts with every column `typed`, without an index that nobody asked for, and notes."""
    import pandas

    frame, index_notes = without_index(frame, asked)
    columns = [typed(frame.iloc[:, i]) for i in range(frame.shape[1])]
    whole = pandas.DataFrame({i: column.reset_index(drop=True) for i, (column, _) in enumerate(columns)})
    whole.columns = frame.columns
    said = dict.fromkeys(note for _, note in columns if note)
    noted = {note: [str(n) for n, (_, own) in zip(frame.columns, columns, strict=True) if own == note] for note in said}
    notes = [f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names[:8]))}: {note}" for note, names in noted.items()]
    return whole, index_notes + notes


def typed(series: Any) -> tuple[Any, str]:
    """A column of texts as what all its cells are: integers, floats, truth values, dates, else texts; and a note or "".

    Empty fields are missing; so are words such as NA among numbers and dates, and nowhere else. Numbers with zeros in front
    are texts.
    """
    stripped = series.str.strip()
    empty = stripped == ""
    absent = empty | stripped.isin(MISSING_WORDS)
    cells = stripped[~absent]
    if len(cells) == 0:
        return series.where(~empty), ""
    if cells.str.fullmatch(LEADING_ZERO).any() and cells.str.fullmatch(NUMBER).all():
        return series.where(~empty), "numbers with zeros in front are kept as texts"
    if cells.str.fullmatch(f"{NUMBER}|{ENDLESS}", case=False).all():
        return _numbers(stripped, absent, cells), ""
    if set(cells.unique()) <= {"True", "False"}:
        return _truths(series, cells, absent), ""
    if cells.str.fullmatch(ISO_DATE).all():
        dates = _dates(stripped, absent)
        return (dates, "") if dates is not None else (series.where(~empty), "")
    return series.where(~empty), ""


def _numbers(cells: Any, absent: Any, known: Any) -> Any:
    import pandas

    whole = not absent.any() and bool(known.str.fullmatch(INTEGER).all())
    values = cells.where(~absent, "nan").to_numpy(object)
    if whole:
        integers = [int(value) for value in values]
        low, high = min(integers), max(integers)
        if low >= -(2**63) and high < 2**63:
            return pandas.Series(np.array(integers, np.int64))
        return pandas.Series(integers, dtype=object)
    return pandas.Series(np.array([float(value) for value in values], np.float64))


def _truths(series: Any, cells: Any, absent: Any) -> Any:
    return cells == "True" if not absent.any() else series.where(~absent)


def _dates(cells: Any, absent: Any) -> Any:
    import pandas

    try:
        return pandas.Series(pandas.to_datetime(cells.where(~absent), format="ISO8601"))
    except (ValueError, TypeError):
        return None
