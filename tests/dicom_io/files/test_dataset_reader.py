"""The reader sees what pydicom sees, but for pixel data and long values; where these lie; and whether all is there."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_io.files import dataset_reader
from dicom_io.files.dataset_reader import LONGEST_ITEM, Contents, pixel_pieces, read_contents, sequence_items
from dicom_io.files.values import DAMAGED

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
GROUPS = 0x52009230


def written(syntax: str = ExplicitVRLittleEndian, change: Callable[[Dataset], object] = lambda ds: None) -> bytes:
    """A small file."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID = "1.2.3"
    ds.PatientName = "Müller"
    item = Dataset()
    item.CodeValue = "T-62000"
    nested = Dataset()
    nested.ConceptNameCodeSequence = [item, item]
    ds.ContentSequence = [nested]
    ds.PixelData = bytes(range(200))
    ds["PixelData"].VR = "OW"
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = syntax
    change(ds)
    buffer = DicomBytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return bytes(buffer.getvalue())


def undefined(ds: Dataset) -> None:
    """Write its sequences, and the items of these, with undefined lengths."""
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                undefined(item)


def read(content: bytes, **more: int) -> Contents:
    return read_contents(BytesIO(content), **more)


def value_of(content: bytes) -> bytes:
    file = BytesIO(content)
    return b"".join(pixel_pieces(file, read_contents(file)))


@pytest.mark.parametrize("change", [lambda ds: None, undefined], ids=["lengths", "delimiters"])
@pytest.mark.parametrize("syntax", [*NATIVE, DeflatedExplicitVRLittleEndian])
def test_what_pydicom_reads(syntax: str, change: Callable[[Dataset], object]):
    """All elements but PixelData, in their encoding; the place of the pixels."""
    content = written(syntax, change)
    contents, expected = read(content), dcmread(BytesIO(content))
    assert value_of(content) == expected.PixelData
    if syntax == DeflatedExplicitVRLittleEndian:
        assert contents.native_offset is None
    else:
        assert contents.native_offset == expected["PixelData"].file_tell
    del expected.PixelData
    assert contents.ds == expected
    assert contents.ds.file_meta == expected.file_meta
    assert contents.ds.original_encoding == expected.original_encoding
    assert (contents.is_cut, contents.trailing, contents.left_out) == (False, 0, ())


def compress(ds: Dataset) -> None:
    ds.PixelData = encapsulate([b"one frame ", b"another"])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


def test_encapsulated_pixels():
    """Their value is what lies between the head and the delimiter; cut, it ends with the file."""
    content = written(RLELossless, compress)
    contents = read(content)
    assert contents.native_offset is None
    assert contents.pixels is not None
    assert contents.pixels.is_encapsulated
    assert value_of(content) == dcmread(BytesIO(content)).PixelData
    for cut in range(1, len(value_of(content)) + 8):
        assert read(content[:-cut]).is_cut


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("claimed", [*NATIVE, DeflatedExplicitVRLittleEndian])
def test_an_encoding_that_the_header_does_not_say(syntax: str, claimed: str):
    """Whether there are VRs is seen, and the order of the bytes."""
    content = written(syntax)
    old, new = (uid.encode() + b"\0" * (len(uid) % 2) for uid in (syntax, claimed))
    old, new = (struct.pack("<H", len(uid)) + uid for uid in (old, new))
    changed = content.replace(old, new, 1)
    contents = read(changed)
    assert contents.ds.file_meta.TransferSyntaxUID == claimed
    assert contents.ds.original_encoding == (syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
    assert contents.ds.PatientName == "Müller"
    assert contents.native_offset == len(changed) - 200


@pytest.mark.parametrize("syntax", [*NATIVE, DeflatedExplicitVRLittleEndian])
def test_a_file_within_a_file(syntax: str):
    """A sender took the whole file for its data set, or what follows its preamble: ours stands before it."""
    content, ours = written(syntax), written()
    head = ours[: 144 + int.from_bytes(ours[140:144], "little")]
    for sent in (content, content[132:]):
        contents = read(head + sent)
        assert contents.ds.PatientName == "Müller"
        assert contents.pixels is not None and contents.pixels.size == 200
        assert contents.transfer_syntax_uid == syntax


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize(
    ("trailer", "counted"),
    [
        (bytes(100), 0),
        (b"\xff\x0f" * 30, 60),
        (b"MAKER 1.0", 9),
        (b"\0" * 9 + b"x", 10),
        (b"\xff" * 7, 7),
    ],
    ids=["zeros", "not ascending", "text", "zeros and more", "too short"],
)
def test_bytes_after_the_pixels(syntax: str, trailer: bytes, counted: int):
    contents = read(written(syntax) + trailer)
    assert (contents.trailing, contents.is_cut) == (counted, False)
    assert read(written(RLELossless, compress) + trailer).trailing == counted


def test_an_element_after_the_pixels():
    """Padding and signatures are no trailing bytes; a half of one is."""
    content = written(change=lambda ds: setattr(ds, "DataSetTrailingPadding", bytes(20)))
    assert read(content).trailing == 0
    assert read(content[:-3]).trailing == 29
    assert not read(content[:-3]).is_cut


def test_without_pixels_a_data_set_ends_with_its_last_element():
    content = written(change=lambda ds: ds.pop("PixelData"))
    assert not read(content).is_cut
    assert not read(content + bytes(10)).is_cut
    assert read(content[:-1]).is_cut
    assert read(content + b"\x08\0").is_cut


@pytest.mark.parametrize("change", [lambda ds: None, undefined], ids=["lengths", "delimiters"])
def test_a_long_value_is_left_out(change: Callable[[Dataset], object]):
    """What follows it is read all the same."""

    def add(ds: Dataset) -> None:
        ds.ContentSequence[0].TextValue = "x" * 5000
        change(ds)

    contents = read(written(change=add), longest=4999)
    assert contents.left_out == (0x0040A730,)
    assert contents.native_offset is not None
    assert "ContentSequence" not in contents.ds


def test_many_values():
    """Of long ones some are kept; short ones without end are none of a file."""

    def add(ds: Dataset, count: int, length: int) -> None:
        block = ds.private_block(0x0029, "MAKER", create=True)
        for number in range(count):
            block.add_new(number, "OB", bytes(length))

    contents = read(written(change=lambda ds: add(ds, 10, 4998)), longest=5000)
    assert 8 <= len(contents.left_out) <= 9
    assert contents.native_offset is not None
    with pytest.raises(InvalidDicomError, match="too much"):
        read(written(change=lambda ds: add(ds, 10, 4096)), longest=5000)


def test_elements_without_end(monkeypatch: pytest.MonkeyPatch):
    """At the top, and in items of undefined length."""
    monkeypatch.setattr(dataset_reader, "MOST_ELEMENTS", 14)
    assert read(written()).native_offset is not None
    with pytest.raises(InvalidDicomError, match="too many"):
        read(written(change=undefined))


def test_items_within_items():
    item = Dataset()
    for _ in range(dataset_reader.DEEPEST + 2):
        outer = Dataset()
        outer.ContentSequence = [item]
        item = outer
    with pytest.raises(InvalidDicomError, match="within"):
        read(written(change=lambda ds: (setattr(ds, "ContentSequence", [item]), undefined(ds))))


@pytest.mark.parametrize("change", [lambda ds: None, undefined], ids=["lengths", "delimiters"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_items_one_by_one(monkeypatch: pytest.MonkeyPatch, syntax: str, change: Callable[[Dataset], object]):
    """They are those of the sequence, up to a number and a size."""

    def add(ds: Dataset) -> None:
        frames = [Dataset() for _ in range(3)]
        for index, frame in enumerate(frames):
            frame.FrameContentSequence = [Dataset()]
            frame.FrameContentSequence[0].StackID = str(index)
        ds.PerFrameFunctionalGroupsSequence = frames
        change(ds)

    content = written(syntax, add)
    ds = read(content).ds
    assert list(sequence_items(ds, GROUPS)) == list(dcmread(BytesIO(content)).PerFrameFunctionalGroupsSequence)
    assert list(sequence_items(ds, 0x00081140)) == []
    monkeypatch.setattr(dataset_reader, "MOST_ITEMS", 2)
    with pytest.raises(InvalidDicomError, match="too many"):
        list(sequence_items(ds, GROUPS))


def test_an_item_that_is_too_long():
    item = Dataset()
    item.TextValue = "x" * (LONGEST_ITEM + 1)
    ds = read(written(change=lambda ds: setattr(ds, "ContentSequence", [item]))).ds
    with pytest.raises(InvalidDicomError, match="too long"):
        list(sequence_items(ds, 0x0040A730))


def test_a_bare_data_set():
    """No preamble, no prefix, no file meta information: the encoding is seen."""
    for syntax in NATIVE:
        content = written(syntax)
        start = 144 + int.from_bytes(content[140:144], "little")
        contents = read(content[start:])
        assert contents.ds.preamble is None
        assert contents.ds.PatientName == "Müller"


@pytest.mark.parametrize("count", [0, 1, 199, 200, 1000])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_the_first_bytes_of_the_pixels(syntax: str, count: int):
    file = BytesIO(written(syntax))
    assert b"".join(pixel_pieces(file, read_contents(file), count)) == bytes(range(200))[:count]


def test_any_cut_and_any_byte_ends_well(shared_data: Path):
    """In an error of DAMAGED, or contents; never in another one."""
    for name in ("CT_small.dcm", "MR_small_implicit.dcm", "693_J2KI.dcm", "image_dfl.dcm", "liver_1frame.dcm"):
        content = (shared_data / "pydicom_small" / name).read_bytes()
        for place in range(0, min(len(content), 6000), 13):
            for changed in (content[:place], content[:place] + b"\xff" + content[place + 1 :]):
                try:
                    read(changed)
                except DAMAGED:
                    continue


def test_deflated_data_are_inflated_up_to_the_pixels():
    """Damage behind them is not seen, nor asked for."""
    content = written(DeflatedExplicitVRLittleEndian, lambda ds: setattr(ds, "PixelData", bytes(1 << 22)))
    assert read(content[:-500]).pixels is not None
    with pytest.raises((EOFError, zlib.error)):
        dataset_reader.check_inflated(BytesIO(content[:-500]), read(content[:-500]))
