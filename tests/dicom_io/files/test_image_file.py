"""What a file says of its images, and that it can be had again from text."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_io.errors import NotDicom, SeriesRejected
from dicom_io.files.image_file import read_dataset, read_image_file
from dicom_io.files.image_header import from_json
from dicom_io.pixels import read_volume
from dicom_io.series.series import open_series

MakeSeries = Callable[..., list[Path]]


def test_a_header_says_what_the_file_says(make_series: MakeSeries) -> None:
    path = make_series(lambda ds, index: setattr(ds, "PixelSpacing", ["0.7500", "0.50"]))[3]
    header, ds = read_image_file(path).header, dcmread(path)
    assert (header.sop_instance_uid, header.modality, header.rows, header.columns) == (ds.SOPInstanceUID, "CT", 6, 8)
    plane = header.planes[0]
    assert plane.pixel_spacing == ("0.7500", "0.50")
    assert plane.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert (plane.rescale_slope, plane.rescale_intercept) == (1.0, -1024.0)
    assert plane.marks["AcquisitionNumber"] == "1"
    assert plane.marks["AcquisitionDateTime"] == "20000101120000"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_offset_is_where_the_pixels_are(make_series: MakeSeries, syntax: str) -> None:
    path = make_series()[3]
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    dcmwrite(
        path,
        ds,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )
    again = dcmread(path)
    pixels = read_image_file(path).header.pixels
    assert pixels is not None and pixels.offset is not None
    assert path.read_bytes()[pixels.offset : pixels.offset + len(again.PixelData)] == again.PixelData


def test_compressed_and_deflated_pixels_have_no_offset(make_series: MakeSeries) -> None:
    one, two = make_series()[:2]
    ds = dcmread(one)
    ds.compress(RLELossless)
    ds.save_as(one)
    ds = dcmread(two)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(two)
    for path in (one, two):
        pixels = read_image_file(path).header.pixels
        assert pixels is not None and pixels.offset is None


def test_a_header_comes_back_from_text(make_series: MakeSeries, make_enhanced: Callable[..., Path]) -> None:
    for path in (make_series()[0], make_enhanced(times=2)):
        header = read_image_file(path).header
        assert from_json(header.to_json()) == header


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"x"', '{"sop_class_uid": "1"}', "null"])
def test_other_text_is_no_header(text: str) -> None:
    with pytest.raises(ValueError):
        from_json(text)


def test_a_header_cut_short_is_no_header(make_series: MakeSeries) -> None:
    text = read_image_file(make_series()[0]).header.to_json()
    for length in range(0, len(text), 37):
        with pytest.raises(ValueError):
            from_json(text[:length])


def test_blank_uids_are_for_arrange_to_judge(make_series: MakeSeries) -> None:
    def blank(ds: Dataset, index: int) -> None:
        ds.SOPClassUID = ds.SeriesInstanceUID = ""

    header = read_image_file(make_series(blank)[0]).header
    assert (header.sop_class_uid, header.series_instance_uid) == ("", "")


@pytest.mark.filterwarnings("ignore")
def test_a_broken_rescale_value_is_not_a_missing_one(make_series: MakeSeries) -> None:
    def change(ds: Dataset, index: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = ("nan", "") if index else (None, "inf")

    first, second = (read_image_file(path).header.planes[0] for path in make_series(change)[:2])
    assert first.rescale_slope is None and np.isnan(first.rescale_intercept or 0)
    assert second.rescale_intercept is None and np.isnan(second.rescale_slope or 0)


@pytest.mark.parametrize("implicit", [True, False])
def test_padding_values_of_either_sign(make_series: MakeSeries, implicit: bool) -> None:
    """ "US or SS": Implicit VR leaves it to PixelRepresentation."""

    def change(ds: Dataset, index: int) -> None:
        ds.add_new("PixelPaddingValue", "SS", -2000)

    path = make_series(change)[0]
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    ds.save_as(path, implicit_vr=implicit, little_endian=True)
    pixels = read_image_file(path).header.pixels
    assert pixels is not None and pixels.pixel_padding_value == -2000


def test_a_bare_data_set_is_read(make_series: MakeSeries) -> None:
    """Without preamble and file meta information, as old exports are."""
    path = make_series()[0]
    whole = read_image_file(path).header
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.save_as(path, implicit_vr=True, little_endian=True)
    raw = path.read_bytes()
    meta = 128 + 4 + 12 + int(dcmread(path).file_meta.FileMetaInformationGroupLength)
    path.write_bytes(raw[meta:])
    bare = read_image_file(path).header
    assert bare.sop_instance_uid == whole.sop_instance_uid
    assert bare.planes == whole.planes
    assert bare.pixels is not None and bare.pixels.transfer_syntax_uid == ImplicitVRLittleEndian
    assert bare.pixels.offset is not None


@pytest.mark.parametrize("cut", [0, 100, 140, 300])
def test_a_truncated_file_is_no_dicom(make_series: MakeSeries, cut: int) -> None:
    path = make_series()[0]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(NotDicom):
        read_dataset(path)


@pytest.mark.filterwarnings("ignore")
def test_changed_bytes_are_refused_not_raised(make_series: MakeSeries) -> None:
    """A damaged file ends as NotDicom or SeriesRejected, never as whatever pydicom happens to raise."""
    paths = make_series()
    whole, chance = paths[0].read_bytes(), random.Random(7)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 5, 40])):
            damaged[chance.randrange(128, len(damaged))] = chance.randrange(256)
        paths[0].write_bytes(damaged)
        try:
            for stack in open_series(paths).stacks:
                read_volume(stack)
        except (NotDicom, SeriesRejected):
            continue


def test_text_is_no_dicom(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("hello " * 1000)
    with pytest.raises(NotDicom):
        read_image_file(path)
    with pytest.raises(NotDicom):
        read_image_file(tmp_path)


def test_a_missing_file_is_not_called_damaged(tmp_path: Path) -> None:
    """What the disk says is no verdict on the file."""
    with pytest.raises(FileNotFoundError):
        read_image_file(tmp_path / "missing")


def test_an_enhanced_image_has_a_plane_a_frame(make_enhanced: Callable[..., Path]) -> None:
    header = read_image_file(make_enhanced(times=2)).header
    assert [plane.frame_number for plane in header.planes] == list(range(1, 25))
    assert header.planes[13].marks["TemporalPositionIndex"] == "2"
    assert header.planes[13].rescale_intercept == -10
    assert header.planes[0] == replace(header.planes[0], slice_thickness="2")
