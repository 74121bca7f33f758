"""What was kept of the experiments, for people: the list on the terminal and `docs/results.md`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from genalloy.core.schema import Comparison, Number, Row, Verdict, absent, read_comparison
from genalloy.experiments.declare import Experiment
from genalloy.experiments.registry import all_experiments
from genalloy.report.table_cells import in_words
from genalloy.training.checkpoint import write_text

OPENING = """# Results

Written by `genalloy reproduce --document docs/results.md` from the records in `results/`; do not edit by hand.

Each experiment is one claim that could have failed. Numbers are means over training seeds on one split, ± one standard error
over seeds; a claim holds where means differ by more than two combined standard errors. Published values were measured in the
set-ups that stand beside them, which are not ours: they are context, no comparison.
"""


def read_records(results: Path) -> dict[str, Comparison]:
    """The kept records by experiment, in the registry's order, others after. Raises ValueError where the folder has none."""
    records = {f.stem: read_comparison(f) for f in sorted(results.glob("*.json"))}
    if not records:
        raise ValueError(f"{results} holds no results; run `genalloy reproduce NAME --results {results}` first")
    order = list(all_experiments())
    return dict(sorted(records.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def print_list(results: Path) -> None:
    """Every experiment: minutes, what it claims, and its last verdict."""
    from rich.console import Console

    console, known = Console(highlight=False), all_experiments()
    console.print(f"{len(known)} experiments; minutes on two cores for three seeds\n")
    for e in known.values():
        minutes = ", ".join(f"{budget} {e.minutes[budget]:g} min" for budget in e.minutes)
        group = f", of the group [bold]{e.group}[/bold]" if e.group else ""
        console.print(f"[bold]{e.name}[/bold]{group}  {e.family}, {e.data}; {minutes}; {_last(results, e.name)}")
        console.print(f"[dim]{e.claim}[/dim]\n")


def print_group(results: Path, experiments: list[Experiment]) -> None:
    """The first headline column of several experiments side by side, a data set a column; published values below."""
    from rich.console import Console
    from rich.table import Table

    records = [read_comparison(results / f"{e.name}.json") for e in experiments]
    table = Table("", *(f"{r.data.name}, {_unit(r)}" for r in records), title=experiments[0].group)
    for name, numbers in headline_rows(records).items():
        table.add_row(name, *(_cell(number) for number in numbers))
    console = Console(highlight=False)
    console.print(table)
    for record in records:
        for line in _published(record):
            words = f"{record.data.name}. {line}" if line.startswith("Published") else line
            console.print(words, markup=False, soft_wrap=True)


def _unit(record: Comparison) -> str:
    return next(c.unit or c.title for c in record.columns if c.id == record.headline[0])


def headline_rows(records: list[Comparison]) -> dict[str, list[Number | None]]:
    """Row's name to its number in each record's first headline column; rows without any number or error are left out."""
    columns = [{row.recipe: _headline(row, r.headline[0]) for row in r.rows} for r in records]
    names = dict.fromkeys(name for column in columns for name, number in column.items() if number and number.known)
    names |= dict.fromkeys(row.recipe for r in records for row in r.failed)
    return {name: [column.get(name) for column in columns] for name in names}


def _headline(row: Row, column: str) -> Number | None:
    return absent(f"failed: {row.error}") if row.error else row.cells.get(column)


def _last(results: Path, name: str) -> str:
    file = results / f"{name}.json"
    if not file.exists():
        return "not run yet"
    record = read_comparison(file)
    outcome = (record.verdict or Verdict()).outcome.value
    return f"last verdict: {outcome} ({record.budget}, {len(record.seeds)} seeds, {record.created[:10]})"


def write_results(results: Path, file: Path) -> Path:
    """The Markdown page of all kept results, with one picture a headline column in a folder beside it."""
    pictures = file.parent / file.stem
    sections = [_section(record, pictures) for record in read_records(results).values()]
    pictures.mkdir(parents=True, exist_ok=True)
    for sheet in results.glob("*.png"):
        shutil.copyfile(sheet, pictures / sheet.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "\n".join([OPENING, *sections]))
    return file


def _section(record: Comparison, pictures: Path) -> str:
    verdict = record.verdict or Verdict()
    lines = [f"## {record.title}", "", f"*{record.claim}*", ""]
    lines += [f"**{verdict.outcome.value.capitalize()}.** {verdict.words}.", "", *_table(record), ""]
    lines += [*_published(record), *_pictures(record, pictures), _made(record), ""]
    return "\n".join(lines)


def _made(record: Comparison) -> str:
    data, versions = record.data, ", ".join(f"{k} {v}" for k, v in record.versions.items())
    rows = f"{data.train:,} training, {data.test:,} test rows; {data.measure}"
    return f"`{record.command}` \u00b7 {rows} \u00b7 {record.machine} \u00b7 {versions} \u00b7 {record.created[:10]}"


def _table(record: Comparison) -> Iterator[str]:
    """Rows that have a headline number, the first columns those of the claim."""
    titles = {c.id: c.title for c in record.columns}
    ids = [i for i in (*record.headline, "train_seconds", "sample_seconds") if i in titles]
    rows = [row for row in record.rows if any(i in row.cells and row.cells[i].known for i in record.headline)]
    yield "| | " + " | ".join(titles[i] for i in ids) + " | updates | parameters |"
    yield "|---|" + "---|" * (len(ids) + 2)
    for row in rows:
        size = f"{row.steps or ''} | {row.parameters or ''}"
        yield f"| {row.recipe} | " + " | ".join(_cell(row.cells.get(i)) for i in ids) + f" | {size} |"


def _cell(number: Number | None) -> str:
    if number is None:
        return ""
    return f"{in_words(number)} {number.kind.value if number.kind and number.known else ''}".strip()


def _published(record: Comparison) -> list[str]:
    if not record.published:
        return []
    lines = ["Published, in another set-up:", "", "| | value | set-up | source |", "|---|---|---|---|"]
    lines += [f"| {p.name} | {p.value:g} {p.unit} | {p.setup} | {p.source} |" for p in record.published]
    return [*lines, ""]


def _pictures(record: Comparison, folder: Path) -> list[str]:
    """A dot a seed, for each headline column."""
    from genalloy.report.charts import seed_dots

    lines = []
    for column in record.columns:
        if column.id not in record.headline:
            continue
        name = f"{record.name}-{column.id}.svg"
        folder.mkdir(parents=True, exist_ok=True)
        picture = seed_dots(record.rows, column, record.published, name.removesuffix(".svg"), alone=True)
        write_text(folder / name, picture)
        lines.append(f"![{column.title} of {record.title}, a dot a seed]({folder.name}/{name})")
    for sheet, rows in record.sheets.items():
        lines.append(f"![{rows}]({folder.name}/{sheet})")
        lines += ["", f"{rows}."]
    return [*lines, ""]
