"""Nothing is ever pickled or unpickled by the library, its tests, examples and benchmarks; scikit-learn's own protocol aside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"dill", "cloudpickle", "joblib", "shelve", "marshal", "_pickle"}
ALLOWED = {"tests/test_alloy.py"}
"""An estimator has to go through pickle unharmed: its bytes are safetensors."""


def _files() -> list[Path]:
    return [p for folder in ("src", "tests", "examples", "benchmarks") for p in sorted((ROOT / folder).rglob("*.py"))]


def offences(text: str) -> list[str]:
    """Imports of picklers, and calls that read or write pickles."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        lines += [f"import {n}" for n in names if n.partition(".")[0] in FORBIDDEN | {"pickle"}]
        if isinstance(node, ast.Attribute) and node.attr in ("load", "save") and isinstance(node.value, ast.Name):
            lines += [f"torch.{node.attr}"] if node.value.id == "torch" else []
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", True) is not False:
            lines.append("allow_pickle")
        if isinstance(node, ast.Attribute) and node.attr in ("read_pickle", "to_pickle"):
            lines.append(node.attr)
    return lines


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_pickles(path: Path) -> None:
    found = offences(path.read_text(encoding="utf-8"))
    assert set(found) <= ({"import pickle", "import joblib"} if str(path.relative_to(ROOT)) in ALLOWED else set())


def test_the_walk_sees_what_it_should() -> None:
    source = "import pickle, os\nfrom dill import load\ntorch.load(x)\nnp.load(x, allow_pickle=True)\n"
    source += "np.load(x, allow_pickle=False)\npd.read_pickle(x)\n"
    assert sorted(offences(source)) == ["allow_pickle", "import dill", "import pickle", "read_pickle", "torch.load"]
