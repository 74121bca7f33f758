"""Nothing outside the closed list is imported, built or called, wherever in a file it is named; a caller's own classes are."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from closed_list import node, spec, write
from torch import nn

from genalloy.cli import main
from genalloy.core.batch import Batch
from genalloy.core.part import Part
from genalloy.core.spec import Foreign, Value, classes, from_spec, to_spec
from genalloy.heads.gaussian import StandardNormal
from genalloy.models.flow import Flow
from genalloy.models.implicit import Implicit
from genalloy.objectives.likelihood import MaximumLikelihood
from genalloy.training.checkpoint import load, save
from genalloy.training.fit import fit

TARGETS = [
    ("os:system", {"command": "{do}"}),
    ("posix:system", {"command": "{do}"}),
    ("builtins:eval", {"source": "open({path!r}, 'w')"}),
    ("builtins:exec", {"source": "open({path!r}, 'w')"}),
    ("subprocess:Popen", {"args": "{do}", "shell": True}),
    ("subprocess:run", {"args": "{do}", "shell": True}),
    ("pathlib:Path.touch", {"self": "{path}"}),
    ("canary:Net", {}),
    ("canary:Value", {}),
    ("torch.hub:load", {"repo_or_dir": "{path}", "model": "x", "source": "local"}),
    ("torch:load", {"f": "{path}"}),
    ("torch.jit:load", {"f": "{path}"}),
    ("torch.fx:GraphModule", {}),
    ("torch.nn:Module", {}),
    ("torch.nn.modules.lazy:LazyModuleMixin", {}),
    ("torch.nn.utils.parametrize:ParametrizationList", {}),
    ("lightning:LightningModule", {}),
    ("genalloy.cli:main", {}),
    ("genalloy.training.checkpoint:load", {"path": "{path}"}),
    ("runpy:run_path", {"path_name": "{path}"}),
    ("webbrowser:open", {"url": "http://localhost"}),
    ("canary", {}),
    ("canary:", {}),
    (":system", {}),
    ("__main__:main", {}),
    ("os:path.sys.modules", {}),
]


def _in_value(target: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"$value": target, "fields": options}


def _foreign_value(name: str) -> Any:
    def form(target: str, options: dict[str, Any]) -> dict[str, Any]:
        return {"$value": name, "fields": {"target": target, "options": {"$dict": [[k, v] for k, v in options.items()]}}}

    return form


FORMS = {
    "value": _in_value,
    "foreign value": _foreign_value("core:Foreign"),
    "old value": _foreign_value("genalloy.core.spec:Foreign"),
}
PLACES = {
    "root": lambda form: {"root": form, "nodes": [], "frozen": []},
    "bare root": lambda form: {"root": form},
    "argument": lambda form: spec(node("models:Flow", {"base": form, "layers": [], "event_shape": []})),
    "list": lambda form: spec(node("torch.nn:Sequential", {"*": [form]})),
    "tuple": lambda form: spec(node("torch.nn:Sequential", {"*": [{"$tuple": [1, form]}]})),
    "dict": lambda form: spec(node("torch.nn:ModuleDict", {"modules": {"$dict": [["a", form]]}})),
    "value": lambda form: spec(node("core:Estimated", {"part": {"$value": "core:Linear", "fields": {"start": form}}})),
    "options": lambda form: spec(node("core:Foreign", {"target": "torch.nn:ReLU", "options": {"$dict": [["inplace", form]]}})),
    "second node": lambda form: spec(
        node("torch.nn:Sequential", {"*": [{"$module": 1}]}), node("torch.nn:Sequential", {"*": [form]})
    ),
}


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A module on the path that leaves a mark when it is imported, and the mark's place."""
    mark = tmp_path / "pwned"
    text = f"import torch\nopen({str(mark)!r}, 'w').close()\nclass Net(torch.nn.Module): pass\nclass Value: pass\n"
    (tmp_path / "canary.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield mark
    assert "canary" not in sys.modules and not mark.exists()


def _options(options: dict[str, Any], mark: Path) -> dict[str, Any]:
    return {k: v.format(do=f"touch {mark}", path=str(mark)) if isinstance(v, str) else v for k, v in options.items()}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("target", "options"), TARGETS, ids=lambda v: v if isinstance(v, str) else "")
def test_nothing_is_called_from_a_value(target: str, options: dict[str, Any], form: str, place: str, canary: Path, tmp_path):
    content = PLACES[place](FORMS[form](target, _options(options, canary)))
    for trust in ((), ("torch.nn:ReLU",)):
        with pytest.raises(ValueError, match=r"file\.safetensors") as refusal:
            load(write(tmp_path / "file.safetensors", content), trust)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("target", "options"), TARGETS, ids=lambda v: v if isinstance(v, str) else "")
def test_nothing_is_called_as_a_module_a_class_or_a_foreign_target(
    target: str, options: dict[str, Any], number: int, canary: Path, tmp_path
) -> None:
    values = _options(options, canary)
    foreign = {"target": target, "options": {"$dict": [[k, v] for k, v in values.items()]}}
    for content in (
        spec(node(target, values)),
        spec(node("core:Foreign", foreign)),
        spec(node("genalloy.core.spec:Foreign", foreign)),
        spec(node("torch.nn:Sequential", {"*": [{"$module": 1}]}), node(target, values)),
        spec(node("torch.nn:Sequential", {"*": [{"$class": target}]})),
    ):
        with pytest.raises(ValueError, match=r"file\.safetensors"):
            load(write(tmp_path / "file.safetensors", content, number=number))


@pytest.mark.parametrize("target", ["os:system", "builtins:eval", "subprocess:Popen", "torch.hub:load", "json:JSONDecoder"])
def test_trust_does_not_make_a_function_a_module(target: str, canary: Path, tmp_path) -> None:
    for content in (spec(node(target)), spec(node("core:Foreign", {"target": target, "options": {"$dict": []}}))):
        with pytest.raises(ValueError, match=r"neither an nn\.Module nor a frozen dataclass"):
            load(write(tmp_path / "file.safetensors", content), trust=[target])
    with pytest.raises(ValueError, match=r"neither an nn\.Module nor a frozen dataclass"):
        Foreign(target, {"command": f"touch {canary}"})


def test_one_refused_class_keeps_a_trusted_one_from_being_imported(canary: Path, tmp_path) -> None:
    content = spec(node("torch.nn:Sequential", {"*": [{"$module": 1}, {"$module": 2}]}), node("canary:Net"), node("os:system"))
    with pytest.raises(ValueError, match="os:system"):
        load(write(tmp_path / "file.safetensors", content), trust=["canary:Net"])


def test_trust_is_a_list_of_exact_names(canary: Path, tmp_path) -> None:
    path = write(tmp_path / "file.safetensors", spec(node("canary:Net")))
    for trust in (["canary"], ["canary:"], ["canary:*"], ["canary:net"], ["canary:Net "], "canary:Net"):
        with pytest.raises(ValueError, match="trust="):
            load(path, trust=trust)


# -- the command line ----------------------------------------------------------------------------------------------


def _run(monkeypatch: pytest.MonkeyPatch, folder: Path, words: str) -> int:
    """Exit code of `genalloy words`, in the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["genalloy", *words.split()])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert _run(monkeypatch, folder, "fit vae moons --steps 3 --out run") == 0
    return folder


def _poisoned(folder: Path, name: str, mark: Path, nested: bool) -> bytes:
    """A run's file with the call in place of the root, or of an argument deep inside; the file's earlier content."""
    file = folder / "run" / name
    before = file.read_bytes()
    length = int.from_bytes(before[:8], "little")
    header = json.loads(before[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["genalloy"])
    call = {"$value": "core:Foreign", "fields": {"target": "os:system", "options": {"$dict": [["command", f"touch {mark}"]]}}}
    if nested:
        next(n for n in facts["spec"]["nodes"] if n["class"].startswith("core:"))["arguments"]["names"] = [{"$tuple": [call]}]
    else:
        facts["spec"]["root"] = call
    header["__metadata__"]["genalloy"] = json.dumps(facts)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + before[8 + length :])
    return before


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.safetensors", "sample run -n 2 --out out.csv"),
        ("model.safetensors", "score run moons --out out.csv"),
        ("model.safetensors", "check run"),
        ("checkpoint.safetensors", "fit vae moons --steps 2 --out other --from run"),
        ("checkpoint.safetensors", "fit vae moons --out run --resume"),
    ],
)
def test_no_command_runs_what_a_file_names(name: str, words: str, nested: bool, finished: Path, monkeypatch, capsys) -> None:
    mark = finished / "pwned"
    before = _poisoned(finished, name, mark, nested)
    model, aside = finished / "run" / "model.safetensors", finished / "model.safetensors"
    if "--resume" in words:  # a finished run is not trained on, and its checkpoint is not read
        model.rename(aside)
    code = _run(monkeypatch, finished, words)
    if aside.exists():
        aside.rename(model)
    (finished / "run" / name).write_bytes(before)
    assert not mark.exists() and code == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and name in error and "\n" not in error


# -- classes of the caller's own -----------------------------------------------------------------------------------


class Scale(nn.Module):
    """A network that derives from nothing of genalloy's."""

    def __init__(self, width: int, layers: list[nn.Module], *, gain: float = 1.0, ramp: Any = None) -> None:
        super().__init__()
        self.width, self.gain, self.ramp = width, gain, ramp
        self.layers = nn.ModuleList(layers)
        self.norm = nn.BatchNorm1d(width)
        self.attention = nn.TransformerEncoderLayer(width, 1, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.gain * self.attention(self.norm(x)[:, None])[:, 0]


@dataclass(frozen=True)
class Ramp:
    end: float
    points: tuple[int, ...] = (1, 2)
    cache: dict[str, int] = field(default_factory=dict, init=False, compare=False)


@dataclass(frozen=True)
class Registered(Value):
    start: float = 0.5


class Wide(nn.Linear):
    """Inherits its constructor."""


class Outer:
    class Inner(nn.Module):
        def __init__(self, *sizes: int, **options: float) -> None:
            super().__init__()
            self.sizes, self.options = sizes, options


class Keeps(Part):
    def __init__(self, thing: Any) -> None:
        super().__init__()
        self.thing = thing

    def forward(self, context: Any = None) -> Any:
        return StandardNormal((1,))()


def test_a_network_of_the_callers_own_is_stored_with_its_arguments(tmp_path) -> None:
    torch.manual_seed(0)
    network = Scale(4, [Wide(4, 4, bias=False), nn.ReLU()], gain=0.5, ramp=Ramp(2.0, (3,)))
    network(torch.randn(64, 4))
    loaded = load(save(network, tmp_path / "network.safetensors"))
    assert type(loaded) is Scale and type(loaded.layers[0]) is Wide and loaded.ramp == Ramp(2.0, (3,))
    x = torch.randn(5, 4)
    torch.testing.assert_close(loaded(x), network.eval()(x), rtol=0, atol=0)
    spec_of = to_spec(network)[0]
    assert spec_of["nodes"][0]["class"] == f"{__name__}:Scale"


@pytest.mark.parametrize(
    "thing",
    [Ramp(float("inf")), Registered(2.0), Outer.Inner(1, 2, a=0.5), [Wide(2, 1)], {"a": Ramp(1.0)}, Scale, nn.SiLU, nn.LSTM],
)
def test_values_nested_classes_and_class_arguments_come_back(thing: Any) -> None:
    loaded = from_spec(*to_spec(Keeps(thing)))
    assert repr(loaded.thing) == repr(thing) and type(loaded.thing) is type(thing)


def test_a_network_of_the_callers_own_trains_inside_a_model_and_is_saved(tmp_path) -> None:
    torch.manual_seed(0)
    model = Flow(Keeps2(), [], (2,))
    for _ in fit(model, MaximumLikelihood(), [Batch(torch.randn(8, 2))] * 2):
        pass
    loaded = load(save(model, tmp_path / "model.safetensors"))
    torch.testing.assert_close(loaded.base.scale, model.base.scale, rtol=0, atol=0)
    assert isinstance(load(save(Implicit(StandardNormal((4,)), Scale(4, []), (4,)), tmp_path / "i.safetensors")).network, Scale)


class Keeps2(Part):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(2))

    def forward(self, context: Any = None) -> Any:
        return torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), self.scale.exp()), 1)


class Forgets(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()


class Replaces(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(1, 1) for _ in range(blocks))


class Overwrites(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))


def test_what_no_reader_could_build_is_refused_before_a_step() -> None:
    class Local(nn.Module):
        pass

    @dataclass(frozen=True)
    class LocalValue:
        x: int = 0

    for thing, words in (
        (Local(), "made inside a function"),
        (LocalValue(), "made inside a function"),
        (Local, "made inside a function"),
        (Forgets(3), "does not keep its constructor argument 'width'"),
        (Replaces(2), "keeps a ModuleList under the name of its argument 'blocks'"),
        (Overwrites(), "keeps a Parameter under the name of its argument 'bias'"),
    ):
        with pytest.raises(ValueError, match=rf"model\.thing.*{words}"):
            to_spec(Keeps(thing))


def test_code_without_a_module_keeps_the_classes_that_derive_from_genalloys() -> None:
    space: dict[str, Any] = {"__name__": "a_cell"}
    exec("from genalloy.core.part import Part\nclass Own(Part):\n    def forward(self, context=None): ...\n", space)
    exec("from torch import nn\nclass Plain(nn.Module): ...\n", space)
    assert type(from_spec(*to_spec(space["Own"]()))) is space["Own"]
    with pytest.raises(ValueError, match="cannot be imported under that name"):
        to_spec(space["Plain"]())


def test_a_class_under_a_name_that_leads_elsewhere_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "Scale", nn.Linear)
    with pytest.raises(ValueError, match="cannot be imported under that name"):
        to_spec(Keeps(Scale_(4, [])))


Scale_ = Scale


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the caller's, not imported yet, that re-exports what is not its own."""
    text = (
        "import subprocess\nfrom collections import OrderedDict\nfrom dataclasses import dataclass\nfrom torch import nn\n"
        "from torch.fx import GraphModule\nfrom subprocess import Popen\n"
        "class Net(nn.Module):\n    def __init__(self, width=3):\n        super().__init__()\n"
        "        self.width, self.linear = width, nn.Linear(width, 1)\n"
        "@dataclass(frozen=True)\nclass Point:\n    x: float = 0.0\n"
        "@dataclass\nclass Loose:\n    x: float = 0.0\n"
        "class Plain:\n    pass\ndef make(): return Net()\nAlias = Net\nthing = Net()\n"
    )
    (tmp_path / "mine_nets.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "mine_nets"
    sys.modules.pop("mine_nets", None)


def test_a_callers_class_needs_its_import_or_trust(mine: str, tmp_path) -> None:
    module = importlib.import_module(mine)
    path = save(Keeps([module.Net(5), module.Point(2.0)]), tmp_path / "mine.safetensors")
    assert load(path).thing[0].width == 5
    del sys.modules[mine]
    with pytest.raises(ValueError, match=r"mine\.safetensors.*mine_nets:(\w+).*trust=\['mine_nets:\1'\]"):
        load(path)
    with pytest.raises(ValueError, match=r"trust=\['mine_nets:Point'\]"):
        load(path, trust=["mine_nets:Net"])
    assert mine not in sys.modules
    loaded = load(path, trust=["mine_nets:Net", "mine_nets:Point"])
    assert type(loaded.thing[0]).__name__ == "Net" and loaded.thing[1].x == 2.0


@pytest.mark.parametrize(
    "name", ["Alias", "GraphModule", "Popen", "OrderedDict", "Plain", "Loose", "make", "thing", "subprocess.Popen", "nn.Linear",
             "nn", "Net.__init__", "Net.forward", "Net.__class__", "__builtins__.eval", "__loader__", "Net.__mro__"]
)  # fmt: skip
def test_an_imported_module_gives_only_classes_that_it_defines(name: str, mine: str, tmp_path) -> None:
    importlib.import_module(mine)
    value = {"$value": f"{mine}:{name}", "fields": {}}
    for content in (spec(node(f"{mine}:{name}")), spec(node("torch.nn:Sequential", {"*": [value]}))):
        with pytest.raises(ValueError, match=f"{mine}:"):
            load(write(tmp_path / "file.safetensors", content))


@pytest.mark.parametrize("needed", [False, True])
@pytest.mark.parametrize("folder", ["site-packages", "dist-packages", "own"])
def test_a_package_that_genalloy_needs_is_not_the_callers(folder: str, needed: bool, tmp_path, monkeypatch) -> None:
    name = f"peer_nets_{folder[:3]}_{needed}"
    monkeypatch.setattr(classes, "_needed", lambda: frozenset({name} if needed else ()))
    (tmp_path / folder).mkdir()
    (tmp_path / folder / f"{name}.py").write_text("from torch import nn\nclass Net(nn.Module): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / folder))
    importlib.import_module(name)
    path = write(tmp_path / "file.safetensors", spec(node(f"{name}:Net")))
    if needed and folder != "own":
        with pytest.raises(ValueError, match=rf"trust=\['{name}:Net'\]"):
            load(path)
    assert type(load(path, trust=[f"{name}:Net"] if needed else ())).__name__ == "Net"


def test_what_genalloy_needs_is_read_off_its_metadata() -> None:
    needed = classes._needed()
    assert {"torch", "lightning", "sklearn", "numpy", "tensorboard", "torchdiffeq", "jinja2"} <= needed
    assert "pytest" not in needed and "genalloy_tests" not in needed


def test_lightnings_own_modules_are_not_the_callers(tmp_path) -> None:
    wrappers = importlib.import_module("lightning.fabric.wrappers")
    assert issubclass(wrappers._FabricModule, nn.Module)
    with pytest.raises(ValueError, match="not imported"):
        load(write(tmp_path / "file.safetensors", spec(node("lightning.fabric.wrappers:_FabricModule"))))


def test_kinds_of_a_callers_classes_are_not_exchanged(mine: str, tmp_path) -> None:
    importlib.import_module(mine)
    for content, trust in (
        (spec(node(f"{mine}:Point")), ()),
        (spec(node("torch.nn:Sequential", {"*": [{"$value": f"{mine}:Net", "fields": {}}]})), ()),
        (spec(node(f"{mine}:Point")), [f"{mine}:Point"]),
        (spec(node("torch.nn:Sequential", {"*": [{"$value": f"{mine}:Net", "fields": {}}]})), [f"{mine}:Net"]),
    ):
        with pytest.raises(ValueError, match=r"where an? .* belongs|is no (nn.Module|frozen value)"):
            load(write(tmp_path / "file.safetensors", content), trust)
