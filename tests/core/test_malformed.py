"""A damaged file, whatever the damage, is one line that names the file and says what is wrong; nothing large is allocated."""

from __future__ import annotations

import copy
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from closed_list import Parsed, node, spec
from mutations import SUBJECTS, model, mutate

from genalloy.training.checkpoint import FORMAT, load, save

SECONDS = os.environ.get("GENALLOY_FUZZ_SECONDS", "20")
"""Of the coverage-guided fuzz."""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory) -> Parsed:
    return Parsed.of(save(model(), tmp_path_factory.mktemp("sound") / "sound.safetensors"))


def refused(path: Path, *words: str) -> str:
    with pytest.raises(ValueError) as refusal:
        load(path)
    line = str(refusal.value)
    assert str(path) in line and "\n" not in line and len(line) < 1500, line
    assert all(word in line for word in words), line
    return line


def test_the_sound_file_loads(parsed: Parsed, tmp_path) -> None:
    assert repr(load(parsed.write(tmp_path / "sound.safetensors"))) == repr(model())


# -- bytes ---------------------------------------------------------------------------------------------------------

BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda b: b"", "cut short"),
    "three bytes": (lambda b: b[:3], "cut short"),
    "length alone": (lambda b: b[:8], "cut short"),
    "half a header": (lambda b: b[:200], "cut short"),
    "no tensors": (lambda b: b[: 8 + int.from_bytes(b[:8], "little")], "cannot be read"),
    "half the tensors": (lambda b: b[:-40], "cut short"),
    "one byte less": (lambda b: b[:-1], "cut short"),
    "one byte more": (lambda b: b + b"x", "cannot be read"),
    "length of 2^64": (lambda b: b"\xff" * 8 + b[8:], "cut short"),
    "length of 1 GB": (lambda b: struct.pack("<Q", 2**30) + b[8:], "cut short"),
    "length 0": (lambda b: struct.pack("<Q", 0) + b[8:], "cannot be read"),
    "length one too short": (lambda b: struct.pack("<Q", int.from_bytes(b[:8], "little") - 1) + b[8:], "cannot be read"),
    "not UTF-8": (lambda b: b.replace(b"spec", b"sp\xff\xfec"), "utf-8"),
    "a pickle": (lambda b: b"\x80\x04\x95" + b, "cannot be read"),
    "a zip": (lambda b: b"PK\x03\x04" + b, "cannot be read"),
    "text": (lambda b: b"hello, world, this is a text", "cannot be read"),
    "zeros": (lambda b: bytes(1000), "cannot be read"),
    "header of 9 MB": (lambda b: struct.pack("<Q", 9 * 2**20) + b" " * 9 * 2**20, "its header claims"),
    "brackets": (lambda b: struct.pack("<Q", 10**6) + b"[" * 10**6, "nested too deep"),
    "header a list": (lambda b: struct.pack("<Q", 2) + b"[]", "expected a JSON object"),
    "header a number": (lambda b: struct.pack("<Q", 1) + b"7", "expected a JSON object"),
    "header empty": (lambda b: struct.pack("<Q", 2) + b"{}", "no genalloy spec"),
    "name twice": (lambda b: struct.pack("<Q", 22) + b'{"a":{},"a":{},"b":{}}', "stands twice"),
}


@pytest.mark.parametrize("name", BYTES)
def test_damaged_bytes(name: str, parsed: Parsed, tmp_path) -> None:
    damage, words = BYTES[name]
    path = tmp_path / "bytes.safetensors"
    path.write_bytes(damage(parsed.write(tmp_path / "sound.safetensors").read_bytes()))
    refused(path, words)


def test_what_is_no_file(tmp_path) -> None:
    refused(tmp_path / "none.safetensors", "does not exist")
    refused(tmp_path, "does not exist")


# -- headers, facts and specs --------------------------------------------------------------------------------------


def first(parsed: Parsed, word: str) -> dict[str, Any]:
    """The first node of a class."""
    return next(n for n in parsed.facts["spec"]["nodes"] if n["class"].endswith(word))


def tensor(parsed: Parsed, word: str = "weight") -> str:
    """The name of the first tensor that holds a word."""
    return next(n for n in parsed.tensors if word in n)


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def _chain(length: int) -> dict[str, Any]:
    return spec(*(node("torch.nn:Sequential", {"*": [{"$module": i + 1}]}) for i in range(length)), node("torch.nn:ReLU"))


def _children(levels: int) -> dict[str, Any]:
    state: dict[str, Any] = {"tensors": {}, "children": {}}
    for _ in range(levels):
        state = {"tensors": {}, "children": {"a": state}}
    return spec(node("torch.nn:ReLU", children={"a": state}))


def one(cls: Any, **arguments: Any) -> Callable[[Parsed], None]:
    """The whole spec is one node."""

    def damage(p: Parsed) -> None:
        p.facts["spec"], p.tensors = spec(node(cls, arguments)), {}

    return damage


def whole(content: Any) -> Callable[[Parsed], None]:
    def damage(p: Parsed) -> None:
        p.facts["spec"], p.tensors = content, {}

    return damage


def facts(**changed: Any) -> Callable[[Parsed], None]:
    return lambda p: p.facts.update(changed)


def within(**changed: Any) -> Callable[[Parsed], None]:
    return lambda p: p.facts["spec"].update(changed)


def at(word: str, **changed: Any) -> Callable[[Parsed], None]:
    return lambda p: first(p, word).update(changed)


def argument(word: str, **changed: Any) -> Callable[[Parsed], None]:
    return lambda p: first(p, word)["arguments"].update(changed)


def drop(word: str, *path: str) -> Callable[[Parsed], None]:
    def damage(p: Parsed) -> None:
        held: Any = first(p, word)
        for name in path[:-1]:
            held = held[name]
        del held[path[-1]]

    return damage


def change(act: Callable[[torch.Tensor], torch.Tensor], word: str = "weight") -> Callable[[Parsed], None]:
    def damage(p: Parsed) -> None:
        name = tensor(p, word)
        p.tensors[name] = act(p.tensors[name])

    return damage


def _rename(p: Parsed) -> None:
    p.tensors["other"] = p.tensors.pop(tensor(p))


def _swap(p: Parsed) -> None:
    held = first(p, "Conv1d")["tensors"]
    a, b, *_ = held
    held[a], held[b] = held[b], held[a]


def _forget(p: Parsed) -> None:
    del p.tensors[first(p, "PReLU")["tensors"].pop("weight")]


SPECS: dict[str, tuple[Callable[[Parsed], Any], str]] = {
    "no format": (lambda p: p.facts.pop("format"), "format"),
    "format text": (facts(format="1"), "format"),
    "format -1": (facts(format=-1), "format"),
    "format 0": (facts(format=0), "format"),
    "format true": (facts(format=True), "format"),
    "format 1.0": (facts(format=1.0), "format"),
    "format None": (facts(format=None), "format"),
    "format list": (facts(format=[2]), "format"),
    "format newer": (facts(format=FORMAT + 1), "install a newer genalloy"),
    "format huge": (facts(format=10**30), "install a newer genalloy"),
    "no spec": (lambda p: p.facts.pop("spec"), "the spec"),
    "spec a list": (facts(spec=[]), "the spec"),
    "spec a text": (facts(spec="{}"), "the spec"),
    "spec empty": (facts(spec={}), "the spec has the keys"),
    "no root": (lambda p: p.facts["spec"].pop("root"), "the spec has the keys"),
    "no nodes": (lambda p: p.facts["spec"].pop("nodes"), "the spec has the keys"),
    "no frozen": (lambda p: p.facts["spec"].pop("frozen"), "the spec has the keys"),
    "another key": (within(code="import os"), "the spec has the keys"),
    "nodes an object": (within(nodes={"0": {}}), "nodes"),
    "nodes of numbers": (within(nodes=[1, 2]), "node 0"),
    "nodes empty": (within(nodes=[]), "refers to node"),
    "root a number": (within(root=0), "root"),
    "root a list": (within(root=[{"$module": 0}]), "root"),
    "root empty": (within(root={}), "root"),
    "root index -1": (within(root={"$module": -1}), "refers to node -1"),
    "root index too large": (within(root={"$module": 10**6}), "refers to node"),
    "root index a text": (within(root={"$module": "0"}), "refers to node"),
    "root index true": (within(root={"$module": True}), "refers to node True"),
    "root index 0.0": (within(root={"$module": 0.0}), "refers to node 0.0"),
    "root index null": (within(root={"$module": None}), "refers to node None"),
    "root inside": (within(root={"$module": 3}), "part of no model"),
    "node index -1": (argument("Flow", base={"$module": -1}), "refers to node -1"),
    "node index of itself": (argument("Composition", model={"$module": 1}), "in a circle"),
    "a circle": (whole(spec(*(node("torch.nn:Sequential", {"*": [{"$module": 1 - i}]}) for i in range(2)))), "in a circle"),
    "a chain of 10,000": (whole(_chain(10_000)), "deeper than"),
    "a chain of 1,000": (whole(_chain(1_000)), "deeper than"),
    "lists 10,000 deep": (one("torch.nn:Softmax", dim=_deep(200)), "deeper than"),
    "children 10,000 deep": (whole(_children(300)), "deeper than"),
    "more nodes": (lambda p: p.facts["spec"]["nodes"].append(node("torch.nn:ReLU")), "part of no model"),
    "frozen a text": (within(frozen="model"), "frozen"),
    "frozen of no tensor": (within(frozen=["nothing"]), "frozen"),
    "frozen of numbers": (within(frozen=[0]), "frozen"),
    "dtype another": (within(dtype="float64"), "float32"),
    "dtype a number": (within(dtype=32), "float32"),
    "other dtypes a list": (within(other_dtypes=[]), "other_dtypes"),
    "other dtypes of no tensor": (within(other_dtypes={"x": "float32"}), "other_dtypes"),
    "node without class": (drop("Flow", "class"), "keys"),
    "node without arguments": (drop("Flow", "arguments"), "keys"),
    "node without tensors": (drop("Flow", "tensors"), "keys"),
    "node without children": (drop("Flow", "children"), "keys"),
    "node with more": (at("Flow", extra=1), "keys"),
    "class null": (at("Flow", **{"class": None}), "class"),
    "class a list": (at("Flow", **{"class": ["models:Flow"]}), "class"),
    "class an object": (at("Flow", **{"class": {"$class": "SiLU"}}), "class"),
    "class unknown": (at("Flow", **{"class": "models:Flux"}), "models:Flux"),
    "module unknown": (at("Flow", **{"class": "genalloy.models.none:Flow"}), "genalloy.models.none:Flow"),
    "package unknown": (at("Flow", **{"class": "nothing.such:Flow"}), "nothing.such:Flow"),
    "class without module": (at("Flow", **{"class": "Flow"}), "'Flow'"),
    "class with a line break": (at("Flow", **{"class": "models:Fl\now"}), "in place of a class's name"),
    "module with a line break": (at("Flow", **{"class": "nothing.su\r\nch:Flow"}), "in place of a class's name"),
    "class long": (at("Flow", **{"class": "x" * 10**5}), "xxx"),
    "class of a value": (at("Flow", **{"class": "core:Linear"}), "frozen value"),
    "class of torch's outside": (at("Flow", **{"class": "torch.nn:DataParallel"}), "allowed list"),
    "arguments a list": (at("Flow", arguments=[]), "arguments"),
    "arguments null": (at("Flow", arguments=None), "arguments"),
    "argument missing": (drop("ActNorm", "arguments", "event_shape"), "could not be built"),
    "argument unknown": (argument("Flow", colour=1), "could not be built"),
    "argument of another type": (argument("Permute", permutation=5), "could not be built"),
    "argument null": (argument("MLP", hidden=None), "could not be built"),
    "argument a text": (argument("MLP", outputs="wide"), "could not be built"),
    "positional no list": (argument("Sequential", **{"*": 5}), "positional"),
    "positional of numbers": (one("torch.nn:Sequential", **{"*": [5]}), "could not be built"),
    "form unknown": (argument("Flow", base={"$code": "1"}), "a form that no spec has"),
    "form empty": (argument("Flow", base={}), "a form that no spec has"),
    "form double": (argument("Flow", base={"$tuple": [], "$dict": []}), "a form that no spec has"),
    "module and more": (argument("Flow", base={"$module": 1, "x": 1}), "keys"),
    "plain object": (argument("Flow", base={"a": 1}), "a form that no spec has"),
    "tuple of no list": (argument("Flow", event_shape={"$tuple": 2}), "tuple"),
    "dict of no pairs": (argument("Flow", event_shape={"$dict": [1]}), "pairs"),
    "dict a key twice": (argument("Flow", event_shape={"$dict": [["a", 1], ["a", 2]]}), "twice"),
    "dict key a list": (argument("Flow", event_shape={"$dict": [[["a"], 1]]}), "pairs"),
    "float of a word": (argument("Flow", event_shape={"$float": "one"}), "number"),
    "float of a list": (argument("Flow", event_shape={"$float": [1]}), "number"),
    "class argument unknown": (argument("Flow", base={"$class": "Nothing"}), "allowed list"),
    "class argument null": (argument("Flow", base={"$class": None}), "names no class"),
    "class argument a value": (argument("Flow", base={"$class": "core:Linear"}), "frozen value"),
    "value without fields": (argument("Flow", base={"$value": "core:Linear"}), "keys"),
    "value unknown": (argument("Flow", base={"$value": "core:Nothing", "fields": {}}), "core:Nothing"),
    "value a module": (argument("Flow", base={"$value": "models:Flow", "fields": {}}), "an nn.Module"),
    "value fields a list": (argument("Flow", base={"$value": "core:Linear", "fields": []}), "fields"),
    "value fields unknown": (argument("PReLU", init={"$value": "core:Linear", "fields": {"x": 1}}), "could not be built"),
    "value name null": (argument("Flow", base={"$value": None, "fields": {}}), "class"),
    "integer of 65 bits": (argument("MLP", outputs=2**64), "integer beyond"),
    "integer of 4,000 digits": (argument("MLP", outputs=10**4000), "integer beyond"),
    "tensor form unknown": (argument("Standardise", shift={"$tensor": "nothing"}), "missing"),
    "tensor form a number": (argument("Standardise", shift={"$tensor": 3}), "names no tensor"),
    "tensor argument an integer": (argument("Standardise", shift=3), "could not be built"),
    "tensors a list": (at("Standardise", tensors=[]), "tensors"),
    "tensors of numbers": (at("Standardise", tensors={"shift": 1}), "names no tensor"),
    "tensors of another name": (at("Standardise", tensors={"shaft": "model"}), "missing"),
    "tensor with a dotted name": (at("Standardise", tensors={"a.b": "model"}), "of the name"),
    "tensor entry dropped": (drop("PReLU", "tensors", "weight"), "the spec does not name"),
    "children a list": (at("Flow", children=[]), "children"),
    "children of numbers": (at("Flow", children={"a": 1}), "expected an object"),
    "children unknown": (at("Flow", children={"a": {"tensors": {"x": "y"}, "children": {}}}), "missing"),
    "children with a dotted name": (at("Flow", children={"a.b": {"tensors": {}, "children": {}}}), "of the name"),
    "tensor missing": (lambda p: p.tensors.pop(tensor(p)), "missing"),
    "tensor and its entry missing": (_forget, "the file lacks tensors"),
    "tensor renamed": (_rename, "missing"),
    "tensor extra": (lambda p: p.tensors.update(extra=torch.zeros(2)), "does not name (extra)"),
    "tensor of another shape": (change(lambda t: t[..., :-1].contiguous()), "of shape"),
    "tensor of one more row": (change(lambda t: torch.cat([t, t])), "of shape"),
    "tensor transposed": (change(lambda t: t.T.contiguous(), "weight_ih"), "of shape"),
    "tensor flat": (change(lambda t: t.flatten(), "weight_ih"), "of shape"),
    "tensor empty": (change(lambda t: t[:0].contiguous()), "of shape"),
    "tensor of half precision": (change(torch.Tensor.half), "in torch.float16"),
    "tensor of bfloat16": (change(torch.Tensor.bfloat16), "in torch.bfloat16"),
    "tensor of double precision": (change(torch.Tensor.double), "in torch.float64"),
    "tensor of integers": (change(torch.Tensor.long), "in torch.int64"),
    "tensor of booleans": (change(torch.Tensor.bool), "in torch.bool"),
    "buffer of another shape": (change(lambda t: torch.zeros(3), "running_mean"), "of shape"),
    "buffer of floats": (change(torch.Tensor.float, "num_batches"), "in torch.float32"),
    "buffer of small integers": (change(torch.Tensor.int, "num_batches"), "in torch.int32"),
    "permutation of another type": (change(torch.Tensor.int, "permutation"), "in torch.int32"),
    "tensors exchanged": (_swap, "of shape"),
    "foreign without target": (one("core:Foreign", options={"$dict": []}), "keys"),
    "foreign target a number": (one("core:Foreign", target=1, options={"$dict": []}), "no text"),
    "foreign target a value": (one("core:Foreign", target={"$tuple": []}, options={"$dict": []}), "no text"),
    "foreign options of modules": (one("core:Foreign", target="torch.nn:ReLU", options={"$dict": []}), "trust=["),
    "a layer of 100 GB": (one("torch.nn:Linear", in_features=160_000, out_features=160_000), "MB"),
    "a layer of 10^20 bytes": (one("torch.nn:Linear", in_features=10**10, out_features=10**10), "integer beyond"),
    "a layer of -1": (one("torch.nn:Linear", in_features=-1, out_features=4), "could not be built"),
    "ten million layers": (one("torch.nn:LSTM", input_size=1, hidden_size=1, num_layers=10**7), "parameters"),
    "an event of 100 GB": (one("heads:StandardNormal", event_shape={"$tuple": [160_000, 160_000]}), "MB"),
    "ten million filters": (one("torch.nn:Conv2d", in_channels=1, out_channels=10**7, kernel_size=7), "MB"),
    "lazy modules": (one("torch.nn:LazyLinear", out_features=3), "allowed list"),
}


@pytest.mark.parametrize("name", SPECS)
def test_damaged_specs(name: str, parsed: Parsed, tmp_path) -> None:
    damage, words = SPECS[name]
    broken = copy.deepcopy(parsed)
    damage(broken)
    refused(broken.write(tmp_path / "broken.safetensors"), words)


TEXTS: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda t: "", "cannot be read"),
    "cut": (lambda t: t[: len(t) // 2], "cannot be read"),
    "no JSON": (lambda t: "spec: 1", "cannot be read"),
    "a list": (lambda t: f"[{t}]", "expected a JSON object"),
    "null": (lambda t: "null", "expected a JSON object"),
    "NaN": (lambda t: t.replace('"nats": 0.25', '"nats": NaN'), "NaN, which is no JSON number"),
    "Infinity": (lambda t: t.replace('"nats": 0.25', '"nats": -Infinity'), "-Infinity, which is no JSON number"),
    "a name twice": (lambda t: t.replace('"format": 3', '"format": 3, "format": 3'), "twice"),
    "class twice": (lambda t: t.replace('"class": "models:Flow"', '"class": "models:Flow", "class": "models:Flow"'), "twice"),
    "deep": (lambda t: t.replace('"nats": 0.25', '"nats": ' + "[" * 10_000 + "]" * 10_000), "nested too deep"),
    "digits": (lambda t: t.replace('"nats": 0.25', '"nats": ' + "9" * 5000), "cannot be read"),
    "trailing": (lambda t: t + "{}", "cannot be read"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_damaged_texts(name: str, parsed: Parsed, tmp_path) -> None:
    damage, words = TEXTS[name]
    before = json.dumps(parsed.facts)
    assert damage(before) != before
    refused(parsed.write(tmp_path / "text.safetensors", damage(before)), words)


HEADERS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "no shape": lambda h, n: h[n].pop("shape"),
    "no dtype": lambda h, n: h[n].pop("dtype"),
    "no offsets": lambda h, n: h[n].pop("data_offsets"),
    "dtype unknown": lambda h, n: h[n].update(dtype="F7"),
    "dtype of eight bits": lambda h, n: h[n].update(dtype="F8_E4M3"),
    "dtype a list": lambda h, n: h[n].update(dtype=["F32"]),
    "shape negative": lambda h, n: h[n].update(shape=[-1]),
    "shape of text": lambda h, n: h[n].update(shape=["2"]),
    "shape huge": lambda h, n: h[n].update(shape=[2**62, 2**62]),
    "shape too large": lambda h, n: h[n].update(shape=[10**9]),
    "offsets reversed": lambda h, n: h[n]["data_offsets"].reverse(),
    "offsets beyond": lambda h, n: h[n].update(data_offsets=[10**9, 10**9 + 4]),
    "offsets overlapping": lambda h, n: h[n].update(data_offsets=[0, 4]),
    "entry a list": lambda h, n: h.update({n: []}),
    "entry null": lambda h, n: h.update({n: None}),
    "metadata a list": lambda h, n: h.update(__metadata__=[]),
    "metadata of numbers": lambda h, n: h.update(__metadata__={"genalloy": 5}),
    "metadata missing": lambda h, n: h.pop("__metadata__"),
    "metadata of others": lambda h, n: h.update(__metadata__={"format": "pt"}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_damaged_headers(name: str, parsed: Parsed, tmp_path) -> None:
    before = parsed.write(tmp_path / "sound.safetensors").read_bytes()
    length = int.from_bytes(before[:8], "little")
    header = json.loads(before[8 : 8 + length])
    HEADERS[name](header, tensor(parsed))
    text = json.dumps(header).encode()
    (tmp_path / "header.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + before[8 + length :])
    refused(tmp_path / "header.safetensors")


# -- random damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", SUBJECTS)
def test_random_damage_gives_a_line_or_a_module(subject: str, tmp_path) -> None:
    sound = Parsed.of(save(SUBJECTS[subject](), tmp_path / "sound.safetensors"))
    rng, path = random.Random(0), tmp_path / "mutant.safetensors"
    lines: list[str] = []
    for _ in range(150):
        mutant = copy.deepcopy(sound)
        for _ in range(rng.choice((1, 1, 2, 4))):
            mutate(mutant.facts, rng)
        mutant.write(path)
        try:
            load(path)
        except ValueError as error:
            lines.append(str(error))
    assert all(str(path) in line and "\n" not in line for line in lines)
    assert len(lines) > 75


@pytest.mark.slow
def test_a_coverage_guided_fuzz_finds_nothing(tmp_path) -> None:
    pytest.importorskip("atheris", reason="the extra `fuzz` brings it")
    command = [sys.executable, str(Path(__file__).with_name("fuzz_spec.py")), str(tmp_path), SECONDS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=float(SECONDS) + 200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stderr.rpartition("stat::number_of_executed_units:")[2].split()[0]) > 100
