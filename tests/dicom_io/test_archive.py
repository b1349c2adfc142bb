"""Files, folders and archives, friendly and not."""

import stat
import zipfile
from pathlib import Path

import pytest

from dicom_io import archive
from dicom_io.archive import dicom_files, named_files
from dicom_io.errors import NotDicom


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_a_file_is_itself(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(b"x")
    assert dicom_files(file, tmp_path / "work") == [file]


def test_a_folder_is_the_files_below_it(tmp_path: Path) -> None:
    """Sorted, at any depth, symbolic links left out."""
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("c", "b/a", "a"):
        (tmp_path / "in" / name).write_bytes(b"x")
    (tmp_path / "in" / "link").symlink_to("/etc/passwd")
    assert dicom_files(tmp_path / "in", tmp_path) == [tmp_path / "in" / name for name in ("a", "b/a", "c")]


def test_an_archive_is_unpacked_in_order(tmp_path: Path) -> None:
    path = zipped(tmp_path / "study.zip", {"b/2": b"two", "a/1": b"one", "b/": b"", "c": b""})
    files = dicom_files(path, tmp_path)
    assert [file.read_bytes() for file in files] == [b"one", b"two", b""]
    assert files == sorted(files)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "\\out", "..\\out", "C:/out", "C:\\out"])
def test_nothing_leads_out_of_the_archive(tmp_path: Path, name: str) -> None:
    work = tmp_path / "work"
    work.mkdir()
    files = dicom_files(zipped(tmp_path / "evil.zip", {name: b"evil", "good": b"good"}), work)
    assert [file.read_bytes() for file in files] == [b"good"]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "evil.zip", work, *files]


def test_links_in_an_archive_are_ignored(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    assert dicom_files(tmp_path / "links.zip", tmp_path) == []


def test_names_that_collide_are_all_kept(tmp_path: Path) -> None:
    """And a member's name, which may be a patient's, is not a file name here."""
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("ZZPHI^CANARY", b"1")
        with pytest.warns(UserWarning):
            file.writestr("ZZPHI^CANARY", b"2")
    (tmp_path / "work").mkdir()
    files = dicom_files(path, tmp_path / "work")
    assert sorted(file.read_bytes() for file in files) == [b"1", b"2"]
    assert not any("ZZPHI" in file.name for file in files)


@pytest.mark.parametrize("limit", ["MAX_MEMBERS", "MAX_MEMBER_BYTES", "MAX_TOTAL_BYTES"])
def test_an_archive_may_not_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A bomb is refused by what it announces, before a byte is written."""
    path = zipped(tmp_path / "bomb.zip", {"a": bytes(1000), "b": bytes(1000)})
    monkeypatch.setattr(archive, limit, 1)
    (tmp_path / "work").mkdir()
    with pytest.raises(NotDicom, match="archive"):
        dicom_files(path, tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_member_larger_than_announced_is_cut_off(tmp_path: Path) -> None:
    """The announced size is what zipfile reads at most, and then the CRC is wrong."""
    path = zipped(tmp_path / "liar.zip", {"a": b"x" * 5000})
    path.write_bytes(path.read_bytes().replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(NotDicom, match="damaged"):
        dicom_files(path, tmp_path)


def test_a_damaged_archive_is_said(tmp_path: Path) -> None:
    path = zipped(tmp_path / "damaged.zip", {"a": bytes(range(256)) * 50})
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(NotDicom, match="damaged"):
        dicom_files(path, tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotDicom, match="no such file"):
        dicom_files(tmp_path / "missing", tmp_path)


def test_files_keep_their_names(tmp_path: Path) -> None:
    """Below a folder and in an archive alike, also where a name comes twice."""
    members = {"liver/image_1": b"1", "bone\\image_1": b"2", "image_1": b"3"}
    path = zipped(tmp_path / "masks.zip", members)
    found = {str(name): file.read_bytes() for name, file in named_files(path, tmp_path)}
    assert found == {"liver/image_1": b"1", "bone/image_1": b"2", "image_1": b"3"}
    folder = tmp_path / "masks"
    for name, data in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    assert {str(name): file.read_bytes() for name, file in named_files(folder, tmp_path)} == found


def test_an_archive_that_is_cut_off_is_no_file(tmp_path: Path) -> None:
    """Its directory stands at the end: what is left looks like any other file."""
    path = zipped(tmp_path / "study.zip", {"a": b"x" * 1000})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(NotDicom, match="study.zip: not a zip archive, or one that is cut off"):
        dicom_files(path, tmp_path)
