"""Logs: appended whole or not at all, tried again, rewound exactly, in log.csv and for TensorBoard alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from genalloy.runs.logs import Log, Sink, read_points


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=False)
    board.Reload()
    return {tag: [(e.step, round(e.value, 4)) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_a_rewound_log_continues_as_if_nothing_had_been_lost(tmp_path: Path) -> None:
    log = Log(tmp_path, print)
    for step in range(1, 8):
        log.write(step, {"model": step / 2, 'a, "quoted" term': -step}, 0.1 * step)
    again = Log(tmp_path, print)
    again.rewind(4)
    for step in range(5, 8):
        again.write(step, {"model": step / 2, 'a, "quoted" term': -step}, 0.1 * step)
    points, damaged = read_points(tmp_path / "log.csv")
    assert damaged == 0 and [p.step for p in points] == [s for s in range(1, 8) for _ in range(2)]
    assert scalars(tmp_path) == {
        "model": [(s, s / 2) for s in range(1, 8)], "a, \"quoted\" term": [(s, -s) for s in range(1, 8)]
    }  # fmt: skip


def test_a_full_disk_loses_nothing_and_is_told_once(tmp_path: Path, monkeypatch) -> None:
    told: list[str] = []
    log = Log(tmp_path, told.append)
    log.write(1, {"model": 1.0}, 0.1)
    append = Sink._append
    monkeypatch.setattr(Sink, "_append", lambda self: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    log.write(2, {"model": 2.0}, 0.2)
    log.write(3, {"model": 3.0}, 0.3)
    assert len(told) == 2 and "log.csv cannot be written (No space left on device)" in told[0] and "training goes on" in told[0]
    monkeypatch.setattr(Sink, "_append", append)
    log.write(4, {"model": 4.0}, 0.4)
    assert [p.value for p in read_points(tmp_path / "log.csv")[0]] == [1.0, 2.0, 3.0, 4.0]
    assert [step for step, _ in scalars(tmp_path)["model"]] == [1, 2, 3, 4]


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    log = Log(tmp_path, print)
    log.write(1, {"model": 1.0}, 0.1)
    before = (tmp_path / "log.csv").read_bytes()

    class Cut(bytes):
        def __len__(self) -> int:
            return super().__len__() + 1

    sink = Sink(tmp_path / "log.csv", lambda points, fresh: Cut(b"2,0.200,mod"), print)
    sink.add([])
    assert (tmp_path / "log.csv").read_bytes() == before


DAMAGE = (b"7,0.7,mo", b"\x00\xff\xfe,,\n", b"seven,0.7,model,1\n", b"8,0.1,model,1,2,3\n", b'"open,1\n')


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_lines_are_left_out_and_kept_aside(tmp_path: Path, damage: bytes) -> None:
    told: list[str] = []
    log = Log(tmp_path, told.append)
    log.write(1, {"model": 1.0}, 0.1)
    with (tmp_path / "log.csv").open("ab") as file:
        file.write(damage)
    again = Log(tmp_path, told.append)
    again.rewind(9)
    again.write(2, {"model": 2.0}, 0.2)
    assert [(p.step, p.value) for p in read_points(tmp_path / "log.csv")[0]] == [(1, 1.0), (2, 2.0)]
    assert len(told) == 1 and "1 lines of" in told[0] and damage in (tmp_path / "log.damaged.csv").read_bytes()
