"""The import graph: no cycle, and no edge that the layout's order forbids; what importing the package costs and changes."""

from __future__ import annotations

import abc
import ast
import enum
import importlib
import inspect
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import genalloy
from genalloy.core.spec import Module, Value

ROOT = Path(genalloy.__file__).parent
# fmt: off
ORDER = (
    "core", "distances", "solvers", "mcmc", "diffusion", "estimators", "samplers", "networks", "heads", "transforms", "models",
    "objectives", "training", "data", "evaluation", "recipes", "experiments", "report", "laws", "runs", "studies", "alloy", "cli",
)
# fmt: on


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> dict[str, Path]:
    return {module_of(p): p for p in sorted(ROOT.rglob("*.py")) if ".mypy_cache" not in p.parts}


def imports(tree: ast.Module, everywhere: bool = False) -> set[str]:
    """Modules named by import statements that run at load time; with `everywhere`, inside functions too."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += list(ast.iter_child_nodes(node))
    return found


def graph(everywhere: bool = False) -> dict[str, set[str]]:
    known = files()
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in known.items()}
    return {name: (imports(tree, everywhere) & known.keys()) - {name, "genalloy"} for name, tree in trees.items()}


def layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def forbidden(edges: dict[str, set[str]]) -> list[str]:
    """Edges that point to a later layer."""
    place = {name: i for i, name in enumerate(ORDER)}
    pairs = ((a, b) for a, targets in edges.items() if a != "genalloy" for b in targets)
    return sorted(f"{a} -> {b}" for a, b in pairs if place[layer(b)] > place[layer(a)])


def test_every_module_has_its_place() -> None:
    assert {layer(m) for m in files()} - {""} <= set(ORDER)


def test_no_cycles() -> None:
    TopologicalSorter(graph()).prepare()


def test_no_edge_points_up_the_order() -> None:
    assert forbidden(graph()) == []


def test_lazy_imports_keep_the_order_too() -> None:
    assert forbidden(graph(everywhere=True)) == []


def test_the_walk_sees_what_it_should() -> None:
    source = "import a\nfrom b import c\nif TYPE_CHECKING:\n    import d\ntry:\n    import e\nexcept ImportError:\n    pass\n"
    source += "def f():\n    import g\n"
    assert imports(ast.parse(source)) == {"a", "b", "b.c", "e"}
    assert "g" in imports(ast.parse(source), everywhere=True)
    assert forbidden({"genalloy.core.part": {"genalloy.models.flow"}, "genalloy.models.flow": {"genalloy.core.part"}}) == [
        "genalloy.core.part -> genalloy.models.flow"
    ]
    edges = graph()
    assert "genalloy.core.evidence" in edges["genalloy.core.distribution"] and len(edges) > 60


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100).stdout.strip()


HEAVY = (
    "lightning", "sklearn", "matplotlib", "pandas", "torchdiffeq", "jinja2", "tensorboard", "scipy", "typer", "PIL", "pyarrow"
)  # fmt: skip


def test_importing_pulls_in_nothing_heavy() -> None:
    loaded = f"print([m for m in {HEAVY} if m in sys.modules])"
    assert python(f"import sys, genalloy; from genalloy import fit, Part, density, save, Objective; {loaded}") == "[]"
    light = [m for m in files() if layer(m) not in ("alloy", "cli", "runs", "studies")]
    code = "import sys, importlib\n" + "".join(f"importlib.import_module({m!r})\n" for m in light)
    assert python(code + loaded) == "[]"


def test_importing_changes_no_global_state() -> None:
    state = (
        "(torch.get_default_dtype(), torch.get_rng_state().sum().item(), torch.get_num_threads(), torch.is_grad_enabled(), "
        "torch.distributions.Distribution._validate_args, numpy.random.get_state()[1].tolist(), random.getstate(), "
        "torch.are_deterministic_algorithms_enabled(), warnings.filters[:], signal.getsignal(signal.SIGINT), "
        "torch.distributions.Normal.log_prob, torch.nn.Module.__call__)"
    )
    loads = "".join(f"importlib.import_module({m!r})\n" for m in files() if not m.endswith(("cli", "__main__")))
    code = (
        "import importlib, random, signal, warnings, numpy, torch\nimport torch.distributions\n"
        f"before = {state}\nimport genalloy\nalone = {state}\n{loads}after = {state}\n"
        "print(before == alone, [i for i, (a, b) in enumerate(zip(before, after)) if a != b])"
    )
    found, _, changed = python(code).partition(" ")
    assert found == "True"
    assert changed in ("[]", "[8]"), "only third parties' warning filters may differ once the estimator front is loaded"


def classes() -> list[type]:
    """Every class that the package defines, exceptions, enumerations and tuples aside."""
    modules = [importlib.import_module(name) for name in files() if not name.endswith("__main__")]
    own = {c for m in modules for c in vars(m).values() if isinstance(c, type) and c.__module__ == m.__name__}
    return sorted((c for c in own if not issubclass(c, (BaseException, enum.Enum, tuple))), key=lambda c: c.__qualname__)


def declared_abstract(cls: type) -> bool:
    """Whether a class says that it is there to be derived from: abstract methods, ABC among its bases, a Protocol, or a root."""
    return inspect.isabstract(cls) or abc.ABC in cls.__bases__ or getattr(cls, "_is_protocol", False) or cls in (Module, Value)


def test_no_concrete_class_is_inherited_from() -> None:
    own = set(classes())
    pairs = [(base, cls) for cls in own for base in cls.__bases__ if base in own and not declared_abstract(base)]
    assert sorted(f"{cls.__name__}({base.__name__})" for base, cls in pairs) == []


def test_classes_are_at_most_three_deep() -> None:
    own = set(classes())

    def depth(cls: type) -> int:
        return 1 + max((depth(base) for base in cls.__bases__ if base in own), default=0)

    assert [cls.__name__ for cls in own if depth(cls) > 3] == []
