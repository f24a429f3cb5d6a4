"""Exports appear whole or not at all, inside --out, and replace nothing unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nsgd.errors import ExportProblem
from nsgd.export.files import open_folder, place, write_bytes, writing


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def test_a_file_appears_whole_with_its_folders(tmp_path: Path) -> None:
    path = write_bytes(tmp_path, "night/subs.csv", b"file\n")
    assert path.read_bytes() == b"file\n"
    assert names(tmp_path) == {"night", "subs.csv"}


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    write_bytes(tmp_path, "subs.csv", b"old")
    with pytest.raises(ExportProblem, match="--force"):
        write_bytes(tmp_path, "subs.csv", b"new")
    assert (tmp_path / "subs.csv").read_bytes() == b"old"
    write_bytes(tmp_path, "subs.csv", b"new", force=True)
    assert (tmp_path / "subs.csv").read_bytes() == b"new"


def test_a_failing_export_leaves_the_old_file_and_no_remains(tmp_path: Path) -> None:
    write_bytes(tmp_path, "subs.csv", b"old")

    def half_written() -> Iterator[bytes]:
        yield b"half of the ta"
        raise ValueError("half")

    with pytest.raises(ValueError, match="half"), writing(tmp_path, "subs.csv", force=True) as file:
        file.writelines(half_written())
    assert (tmp_path / "subs.csv").read_bytes() == b"old"
    assert names(tmp_path) == {"subs.csv"}


def test_a_full_disk_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ExportProblem, match="No space left"), writing(tmp_path, "subs.csv"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "", "..", "a/.."])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    out = open_folder(tmp_path / "out")
    with pytest.raises(ExportProblem):
        place(out, name)


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    out = open_folder(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExportProblem):
        write_bytes(out, "link/file", b"")


def test_a_linked_file_is_replaced_not_followed(tmp_path: Path) -> None:
    out = open_folder(tmp_path / "out")
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (out / "subs.csv").symlink_to(victim)
    write_bytes(out, "subs.csv", b"table", force=True)
    assert victim.read_bytes() == b"mine"
    assert (out / "subs.csv").read_bytes() == b"table"


def test_a_file_in_the_way_of_the_folder_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(ExportProblem, match="--out"):
        open_folder(tmp_path / "out")
