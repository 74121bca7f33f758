"""What the documents say is what the code does: every Python block runs, every command parses, every table is complete."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

from genalloy.core.evidence import Kind
from genalloy.data.load import load_data
from genalloy.objectives.objective import Objective, Scaled, Sum
from genalloy.recipes import registry
from genalloy.recipes.composition import Target
from genalloy.recipes.registry import all_recipes
from genalloy.studies.compare import row as row_of_table

ROOT = Path(__file__).parents[1]
PAGES = ("guide", "systems", "flows", "autoregressive", "comparison-format", "evaluation", "results")
DOCUMENTS = ("README.md", *(f"docs/{page}.md" for page in PAGES))


QUOTED = (
    "Dataset('birds', mixed: density over 1 real, probability mass on 2 discrete columns, shape (3,), 320/40/40 rows)",
    "did you mean 'birds.csv'?",
    "did you mean '8gaussians'?",
    "; uniform dequantisation\n",
    "has no exact log_prob",
    "trace(x, k) is needed; FlowDistribution has none. It has: density, draw, encode",
    "'0.1 * MomentMatching()'",
    "{'judge': ",
    "{'turn': ",
)


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(document), re.M | re.S)


def rows(document: str, heading: str) -> dict[str, list[str]]:
    """The table below a heading, by its first cell without backquotes."""
    after = text(document).split(f"{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", after, re.M).group().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {row[0].strip("`"): row[1:] for row in cells}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


@pytest.mark.parametrize("index", range(3))
def test_readme_block_runs(index, capsys):
    exec(blocks("README.md", "python")[index], {"__name__": "readme"})
    said = capsys.readouterr().out
    assert ("(LOWER; ELBO, 1 sample)", "(EXACT; closed form)", "Kind.LOWER")[index] in said
    assert "nan" not in said


def test_readme_has_these_blocks():
    assert len(blocks("README.md", "python")) == 3


def test_guide_runs_from_top_to_bottom(capsys, monkeypatch):
    """One module, as a script is: the guide is a walk."""
    monkeypatch.setattr(registry, "_RECIPES", dict(all_recipes()))
    guide = ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", guide)
    space = vars(guide)
    found = blocks("docs/guide.md", "python")
    assert len(found) >= 12
    for block in found:
        if not block.startswith("# needs zuko") or find_spec("zuko"):
            exec(compile(block, "docs/guide.md", "exec"), space)
    said = capsys.readouterr().out
    assert "FAIL" not in said
    for word in QUOTED:
        assert word in said


def commands() -> list[str]:
    lines = [line for d in DOCUMENTS for block in blocks(d, "bash") for line in block.splitlines()]
    return sorted({line.partition("#")[0].strip() for line in lines if line.startswith("genalloy ")})


@pytest.mark.parametrize("line", commands())
def test_command_parses(line):
    """Names and options as the command line knows them; nothing is run."""
    from typer.main import get_command

    from genalloy.cli import app

    group, (_, name, *arguments) = get_command(app), shlex.split(line)
    assert name in group.commands, f"no command {name}; there are {list(group.commands)}"
    values = group.commands[name].make_context(name, arguments).params
    if "recipe" in values:
        assert values["recipe"] in all_recipes()
    for recipe in filter(None, (values.get("recipes") or "").split(",")) if name == "compare" else ():
        assert row_of_table(recipe).recipe in all_recipes()


def test_readme_lists_every_recipe_with_its_labels():
    table = rows("README.md", "## Families and recipes")
    assert list(table) == list(all_recipes())
    for name, recipe in all_recipes().items():
        assert table[name] == [recipe.family, recipe.kind.value, recipe.grid_kind.value, recipe.reference]


def test_readme_explains_every_label():
    assert list(rows("README.md", "## What the labels mean")) == [kind.value for kind in Kind]


def test_systems_lists_every_recipe_with_its_labels_and_objective():
    table = rows("docs/systems.md", "## Systems")
    assert list(table) == list(all_recipes())
    targets = [Target.of(load_data("moons", limit=100)), Target.of(load_data("digits", limit=100))]
    for name, recipe in all_recipes().items():
        composition, objective, label, shown = table[name]
        assert label == " / ".join(dict.fromkeys((recipe.kind.value, recipe.grid_kind.value)))
        assert composition and shown
        for term in {term for target in targets for term in minimised(recipe, target)}:
            assert term in objective, f"{name} minimises {term}, docs/systems.md says {objective}"


def minimised(recipe, target):
    """Class names of the objectives' terms; none where the recipe does not fit the data."""
    try:
        phases = recipe(target).phases
    except ValueError:
        return []
    found = [m for phase in phases for m in phase.objective.modules() if isinstance(m, Objective)]
    return [type(m).__name__ for m in found if type(m) not in (Sum, Scaled)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)\)", text(document)):
        if target != "docs/images/report.png":
            assert ((ROOT / document).parent / target).exists(), f"{document} links to {target}"


def test_comparison_format_names_every_field(tmp_path):
    """The contract's two sides: what runs/ writes and what report/ reads."""
    from dataclasses import fields

    from genalloy.core import schema
    from genalloy.studies import columns as written

    said = text("docs/comparison-format.md")
    records = (schema.Comparison, schema.Data, schema.Column, schema.Row, schema.Number, schema.Verdict)
    names = {f.name for cls in records for f in fields(cls)}
    names |= {column.id for column in written.columns(load_data("moons", limit=50).space)}
    missing = sorted(n for n in names if f"`{n}`" not in said)
    assert not missing, f"docs/comparison-format.md does not mention {missing}"
