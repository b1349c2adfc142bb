"""Which volume of a series is segmented, and which series of a study."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_io.series.preference import Phase, chosen_stacks, phases_of, suitability, suitability_by_words
from dicom_io.series.series import Series, open_series

MakeSeries = Callable[..., list[Path]]


def two(make_volumes: MakeSeries, modality: str = "CT", **values: tuple[object, object]) -> Series:
    """A series of two volumes; `values` gives an attribute of the first and of the second."""

    def change(ds: Dataset, volume: int, index: int) -> None:
        for keyword, pair in {"TemporalPositionIdentifier": (1, 2), **values}.items():
            setattr(ds, keyword, pair[volume])

    return open_series(make_volumes(2, change, modality=modality))


def both(value: object) -> tuple[object, object]:
    return value, value


NO_TIMES = {"AcquisitionDate": both(""), "AcquisitionTime": both("")}


@pytest.mark.parametrize(
    ("values", "phases"),
    [
        ({"ProtocolName": ("Abdomen arteriell", "Abdomen portalvenös")}, (Phase.ARTERIAL, Phase.PORTAL)),
        ({"ProtocolName": ("nativ", "Spät")}, (Phase.NATIVE, Phase.DELAYED)),
        ({"ProtocolName": ("Late", "ART")}, (Phase.DELAYED, Phase.ARTERIAL)),
        ({"ContrastBolusAgent": ("", "Agent")}, (Phase.NATIVE, None)),
        (
            {"ContrastBolusStartTime": both("120000"), "AcquisitionTime": ("120030", "120110")},
            (Phase.ARTERIAL, Phase.PORTAL),
        ),
        (
            {"ContrastBolusStartTime": both("120000"), "AcquisitionTime": ("120110", "120500")},
            (Phase.PORTAL, Phase.DELAYED),
        ),
        (
            {"SeriesDescription": both("LIVER 3 PHASE (AP)"), "AcquisitionTime": ("120040", "120000")},
            (Phase.PORTAL, Phase.ARTERIAL),
        ),
        (
            {"SeriesDescription": both("Leber multiphasisch"), **NO_TIMES, "AcquisitionNumber": (3, 2)},
            (Phase.PORTAL, Phase.ARTERIAL),
        ),
        ({"SeriesDescription": both("LIVER 3 PHASE"), **NO_TIMES}, (None, None)),
        ({"SeriesDescription": both("Abdomen"), "AcquisitionNumber": (2, 3)}, (None, None)),
        ({"SeriesDescription": both("Abdomen portal")}, (None, None)),
        ({"ProtocolName": ("art portal", "plate")}, (None, None)),
    ],
)
def test_phases(make_volumes: MakeSeries, values: dict[str, tuple[object, object]], phases: tuple[object, ...]) -> None:
    """By word, by seconds since the bolus, by contrast, by order; else unknown."""
    series = two(make_volumes, **{"SeriesDescription": both("CT"), **values})
    stacks = sorted(series.stacks, key=lambda stack: stack.slices[0].plane.marks["TemporalPositionIdentifier"])
    assert phases_of(stacks) == phases


def test_a_sure_phase_is_taken_alone(make_volumes: MakeSeries) -> None:
    """And the report says which of how many it was, and why."""
    series = two(make_volumes, ProtocolName=("arterial", "portal"), SeriesDescription=both("CT"))
    taken, note = chosen_stacks(series, "portal")
    assert taken == (series.stacks[1],)
    assert note == (
        "The series holds 2 volumes; volume 2 (TemporalPositionIdentifier 2) was segmented, taken for the portal phase "
        "(a word in ProtocolName)."
    )
    assert chosen_stacks(series, "arterial")[0] == (series.stacks[0],)


def test_all_where_it_is_not_certain(make_volumes: MakeSeries) -> None:
    series = two(make_volumes, SeriesDescription=both("CT"))
    taken, note = chosen_stacks(series, "portal")
    assert taken == series.stacks
    assert "not certain which one is the portal phase" in note


def test_parts_of_one_body_are_no_phases(make_volumes: MakeSeries) -> None:
    """Twelve slices and the twelve above them, in another coordinate system."""

    def change(ds: Dataset, volume: int, index: int) -> None:
        ds.FrameOfReferenceUID = f"1.2.3.{volume + 1}"
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, float(z) + 1000 * volume]

    series = open_series(make_volumes(2, change))
    assert "SEPARATE_RANGES" in series.stacks[0].warnings
    taken, note = chosen_stacks(series, "portal")
    assert taken == series.stacks
    assert note == "The series holds 2 volumes, one beside the other; each was segmented for itself."


def test_all_where_all_are_asked_for(make_volumes: MakeSeries) -> None:
    series = two(make_volumes, ProtocolName=("arterial", "portal"))
    taken, note = chosen_stacks(series, "all")
    assert taken == series.stacks
    assert "as configured" in note


@pytest.mark.parametrize(
    ("attributes", "note"),
    [
        ({"SeriesDescription": "Leber PV 3mm"}, "Contrast phase: portal, known by a word in SeriesDescription."),
        (
            {"SeriesDescription": "", "ProtocolName": "Arterial"},
            "Contrast phase: arterial, known by a word in ProtocolName.",
        ),
        (
            {"ContrastBolusStartTime": "101000", "AcquisitionTime": "101112", "AcquisitionDate": "20240501"},
            "Contrast phase: portal, known by the time since the bolus, 72 s.",
        ),
        (
            {"ContrastBolusAgent": "Iohexol"},
            "Contrast phase: not stated in the images; a contrast agent is named.",
        ),
        ({}, "Contrast phase: not stated in the images; no contrast agent is named."),
        ({"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, ""),
    ],
)
def test_the_phase_of_an_only_volume_is_said(make_series: MakeSeries, attributes: dict[str, str], note: str) -> None:
    """And how it is known: the reader must be able to doubt it."""

    def change(ds: Dataset, index: int) -> None:
        for keyword, value in {"SeriesDescription": "", "ProtocolName": "", **attributes}.items():
            setattr(ds, keyword, value)

    series = open_series(make_series(change=change))
    assert chosen_stacks(series, "arterial") == (series.stacks, note)


def test_phase_maps_are_no_anatomy(make_volumes: MakeSeries) -> None:
    kinds = (["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"], ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"])
    series = two(make_volumes, modality="MR", ImageType=kinds)
    taken, note = chosen_stacks(series, "portal")
    assert [stack.slices[0].plane.image_type[2] for stack in taken] == ["M_FFE"]
    assert "2 volumes" in note


def test_the_two_phases_of_hcc_007(unpacked: Callable[[str], list[Path]]) -> None:
    """Described as three phases, acquisition 2 before 3, without times: arterial and portal venous."""
    series = open_series(unpacked("hcc_tace_seg_007/ct_two_phases_in_one_series_dicom"))
    taken, note = chosen_stacks(series, "portal")
    assert [stack.label for stack in taken] == ["AcquisitionNumber 3"]
    assert "AcquisitionNumber 3" in note


def height(step_mm: float) -> Callable[[Dataset, int], None]:
    def change(ds: Dataset, index: int) -> None:
        ds.ImagePositionPatient = [0, 0, step_mm * index]

    return change


def setting(**values: object) -> Callable[[Dataset, int], None]:
    def change(ds: Dataset, index: int) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return change


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (setting(), setting(ImageType=["DERIVED", "SECONDARY", "MPR"])),
        (setting(SeriesDescription="portal"), setting(SeriesDescription="nativ")),
        (setting(SeriesDescription="portal"), setting(SeriesDescription="Abdomen")),
        (setting(SeriesDescription="Abdomen"), setting(SeriesDescription="arterial")),
        (setting(SeriesDescription="CT", ContrastBolusAgent="x"), setting(SeriesDescription="CT")),
        (setting(SeriesDescription="portal 3.0"), setting(SeriesDescription="portal lung 1.0")),
        (setting(), setting(ConvolutionKernel="BONEPLUS")),
        (height(5), height(6)),
        (setting(), setting(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])),
    ],
)
def test_what_suits_better(
    make_series: MakeSeries, better: Callable[[Dataset, int], None], worse: Callable[[Dataset, int], None]
) -> None:
    first = open_series(make_series(better, folder="better"))

    def turned(ds: Dataset, index: int) -> None:
        worse(ds, index)
        if list(ds.ImageOrientationPatient)[:3] == [0, 1, 0]:
            ds.ImagePositionPatient = [5 * index, 0, 0]

    second = open_series(make_series(turned, folder="worse"))
    assert suitability(first, "portal") > suitability(second, "portal")


def test_more_coverage_counts_before_thinner_slices(make_series: MakeSeries, make_stack: Callable[..., object]) -> None:
    long = open_series(make_series(geometry=make_stack(40, 5.0), folder="long"))
    thin = open_series(make_series(geometry=make_stack(100, 1.0), folder="thin"))
    assert suitability(long, "portal") > suitability(thin, "portal")


def test_thinner_slices_count_where_the_coverage_is_alike(
    make_series: MakeSeries, make_stack: Callable[..., object]
) -> None:
    thin = open_series(make_series(geometry=make_stack(100, 2.0), folder="thin"))
    thick = open_series(make_series(geometry=make_stack(40, 5.0), folder="thick"))
    assert suitability(thin, "portal") > suitability(thick, "portal")


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("Abdomen Portal", (2, 1)),
        ("ABDOMEN", (1, 1)),
        ("", (1, 1)),
        ("nativ", (0, 1)),
        ("arterial and portal", (1, 1)),
        ("Thorax LUNG", (1, 0)),
    ],
)
def test_what_a_description_alone_says(description: str, expected: tuple[int, int]) -> None:
    """The phase that is wanted before none, that before another; soft tissue before lung and bone."""
    assert suitability_by_words(description, "portal") == expected
