"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foundation.files import MACHINE, atomic_folder, atomic_path, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_takes_its_name_when_all_of_it_is_there(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "made") as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "made").exists()
    assert names(tmp_path) == ["made"] and (tmp_path / "made/a").read_text() == "1"


def test_a_folder_replaces_what_stood_there(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "made") as partial:
            (partial / content).write_text("")
    assert names(tmp_path / "made") == ["new"]


def test_what_fails_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "made"):
        raise RuntimeError
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "file") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    mine = tmp_path / f".made.abcd.{MACHINE}.{os.getpid()}.partial"  # of a process that lives
    foreign = tmp_path / f".made.abcd.0000beef.{dead}.partial"  # of another machine on a shared disk
    for folder in (tmp_path / f".made.abcd.{MACHINE}.{dead}.partial", mine, foreign):
        folder.mkdir()
    with atomic_folder(tmp_path / "made"):
        pass
    assert names(tmp_path) == sorted([mine.name, foreign.name, "made"])
