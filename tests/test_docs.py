"""Documents: links lead somewhere, module paths exist, and no word that was given up is left."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GIVEN_UP = re.compile(r"\b(WithTurn|Rival|ByBoard|ByChannel|ByMask|AbsorbingMLP|copycat)\b|`From\(|\bPort\b")


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t and not t.startswith("#")]
    assert [t for t in targets if t and not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_module_paths_exist(path: Path) -> None:
    names = set(re.findall(r"\bgenalloy(?:\.[a-zA-Z_]\w*)+", path.read_text(encoding="utf-8")))
    assert [name for name in sorted(names) if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            thing = getattr(thing, part, None)
        return thing is not None
    return False


PRESENT = [path for path in DOCS if path.name != "CHANGELOG.md" and "decisions" not in path.parts]


@pytest.mark.parametrize("path", PRESENT, ids=lambda p: p.name)
def test_words_that_were_given_up_are_gone(path: Path) -> None:
    assert GIVEN_UP.findall(path.read_text(encoding="utf-8")) == []
