"""A coverage-guided fuzz of what a file's header says (needs atheris): `python fuzz_spec.py FOLDER SECONDS`.

Every input is the text of the metadata in an otherwise sound file. Half of the changes are the fuzzer's own, of bytes; half are
changes of structure. Whatever `load` raises but ValueError is a finding, as are 20 seconds or 2 GB.
"""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["genalloy.core.spec", "genalloy.training.checkpoint", "genalloy.training.records"]):
    from genalloy.training.checkpoint import load, save

from closed_list import Parsed
from mutations import SUBJECTS, mutate

folder = Path(sys.argv[1])
sound = {name: Parsed.of(save(make(), folder / f"{name}.safetensors")) for name, make in SUBJECTS.items()}
tensors = {name: (folder / f"{name}.safetensors").read_bytes() for name in SUBJECTS}
mutant = folder / "mutant.safetensors"


def write(text: str, before: bytes) -> None:
    """`before` with another text in its metadata."""
    length = int.from_bytes(before[:8], "little")
    header = json.loads(before[8 : 8 + length]) | {"__metadata__": {"genalloy": text}}
    content = json.dumps(header).encode()
    mutant.write_bytes(struct.pack("<Q", len(content)) + content + before[8 + length :])


def test(data: bytes) -> None:
    """The first byte chooses the tensors; the rest is the text."""
    name = list(SUBJECTS)[data[0] % len(SUBJECTS)] if data else "flow"
    write(data[1:].decode("utf-8", "replace"), tensors[name])
    try:
        load(mutant)
    except ValueError as error:
        if "\n" in str(error) or str(mutant) not in str(error):
            raise RuntimeError(f"a poor message: {error}") from error


def structural(data: bytes, largest: int, seed: int) -> bytes:
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return atheris.Mutate(data, largest)
    try:
        facts = json.loads(data[1:])
        mutate(facts, rng)
        changed = data[:1] + json.dumps(facts).encode()
    except (ValueError, TypeError, RecursionError, IndexError):
        return atheris.Mutate(data, largest)
    return changed if len(changed) <= largest else data


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for i, parsed in enumerate(sound.values()):
        (corpus / f"seed{i}").write_bytes(bytes([i]) + json.dumps(parsed.facts).encode())
    limits = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=20000", f"-artifact_prefix={folder}{os.sep}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={sys.argv[2]}", *limits], test, custom_mutator=structural)
    atheris.Fuzz()
