"""Real series of every kind that is read: tilted, uneven, sagittal, multi-phase, multi-frame. SEG and SR of each."""

import io
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from reports.objects.sr import build_sr
from reports.objects.verification import verify_seg

TILTED = "dcm_qa_ct/ge_tilt18_variable_gap_dicom"
SAGITTAL = "dcm_qa_mr/philips_sagittal_mprage_170_dicom"
TWO_ECHOES = "dcm_qa_mr/philips_enhanced_mr_multiframe_dicom"
WITH_RAW_DATA = "dcm_qa_mr/philips_enhanced_mr_plus_raw_data_same_series_dicom"
MAGNITUDE_AND_PHASE = "dcm_qa_mr/philips_magnitude_and_phase_two_echoes_one_series_dicom"
TWO_PHASES = "hcc_tace_seg_007/ct_two_phases_in_one_series_dicom"

EVERY = [TILTED, SAGITTAL, TWO_ECHOES, WITH_RAW_DATA, MAGNITUDE_AND_PHASE, TWO_PHASES]


def read_back(ds: Dataset) -> Dataset:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()))


def images_of(case) -> list[tuple[str, int | None]]:
    numbers = case.volume.frame_numbers or [None] * len(case.volume.sop_instance_uids)
    return list(zip(case.volume.sop_instance_uids, numbers, strict=True))


@pytest.mark.parametrize("name", EVERY)
def test_seg_and_sr_of_every_volume_are_clean(real_volumes, identity, validate, name) -> None:
    """dciodvfy finds nothing, in CT and MR, single-frame and Enhanced."""
    for index, case in enumerate(real_volumes(name)[:2]):
        one = replace(identity, volume_index=index, volume_label=f"EchoTime {index}")
        seg = case.seg(one)
        assert validate(seg) == []
        (sr,) = build_sr(case.under(one, seg=seg, note="One."))
        assert validate(sr) == []


@pytest.mark.parametrize("name", EVERY)
def test_every_frame_lies_on_its_source(real_volumes, tmp_path, name) -> None:
    """By the self-check, by hand against the source's decimal strings, and by the sources that highdicom reads."""
    for index, case in enumerate(real_volumes(name)):
        path = case.write_seg(tmp_path / f"{index}.dcm")
        verify_seg(path, case.under())
        seg = pydicom.dcmread(path)
        images = images_of(case)
        assert len(set(images)) == len(images)
        for frame in seg.PerFrameFunctionalGroupsSequence:
            (source,) = frame.DerivationImageSequence[0].SourceImageSequence
            number = source.get("ReferencedFrameNumber")
            plane = images.index((source.ReferencedSOPInstanceUID, None if number is None else int(number)))
            header = case.headers[plane]
            expected = [value.original_string for value in header.ImagePositionPatient]
            assert [value.original_string for value in frame.PlanePositionSequence[0].ImagePositionPatient] == expected
            assert source.ReferencedSOPClassUID == header.SOPClassUID
            assert source.SpatialLocationsPreserved == "YES"
        shared = seg.SharedFunctionalGroupsSequence[0]
        cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        np.testing.assert_allclose([float(v) for v in cosines], [float(v) for v in case.headers[0][0x00200037].value])
        opened = hd.seg.segread(path)
        if case.volume.frame_numbers[0] is None:
            pixels = opened.get_pixels_by_source_instance(case.volume.sop_instance_uids, combine_segments=True)
        else:
            (uid,) = set(case.volume.sop_instance_uids)
            pixels = opened.get_pixels_by_source_frame(
                uid, list(case.volume.frame_numbers), combine_segments=True, assert_missing_frames_are_empty=True
            )
        np.testing.assert_array_equal(pixels, case.segmentation.labels)


@pytest.mark.parametrize("name", EVERY)
def test_a_seg_refers_to_the_images_of_its_own_volume_alone(real_volumes, name) -> None:
    """Each once, whatever else the series holds (two phases: 75 images each); of an Enhanced image its frames."""
    cases = real_volumes(name)
    everything = [image for case in cases for image in images_of(case)]
    assert len(set(everything)) == len(everything)
    for case in cases:
        seg = read_back(case.seg())
        (series,) = seg.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == case.volume.series_instance_uid
        listed = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
        assert listed == list(dict.fromkeys(case.volume.sop_instance_uids))
        used = {
            (item.ReferencedSOPInstanceUID, number)
            for item in seg.SourceImageSequence
            for number in np.atleast_1d(item.get("ReferencedFrameNumber")).tolist()
        }
        assert used == set(images_of(case))
        # The names that highdicom was given for the while are of our own root
        uids = {str(element.value) for element in seg.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
        assert not [uid for uid in uids if uid.startswith("2.25.")]


@pytest.mark.parametrize("name", [SAGITTAL, TWO_ECHOES, WITH_RAW_DATA, MAGNITUDE_AND_PHASE])
def test_dcmqi_finds_every_voxel(real_volumes, dcmqi_labels, name) -> None:
    """The regular ones of them, as Slicer sees them."""
    case = real_volumes(name)[-1]
    np.testing.assert_array_equal(dcmqi_labels(case), case.segmentation.labels)


def test_the_tilted_stack_states_no_spacing_and_says_that_it_is_tilted(real_volumes, identity) -> None:
    """A reader that rebuilt a box from it would shear the patient."""
    (case,) = real_volumes(TILTED)
    seg = case.seg()
    assert "SpacingBetweenSlices" not in seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "DimensionOrganizationType" not in seg
    (sr,) = build_sr(case.under(identity, seg=seg))
    texts = [str(element.value) for element in sr.iterall() if element.keyword == "TextValue"]
    assert "Warning: TILT. The gantry was tilted: the slices are not stacked along their normal." in texts
    assert any(text.startswith("Warning: UNEVEN_SPACING.") for text in texts)
