"""The SEG: what stands in it, that validators and other readers agree, and that odd sources do not break it."""

import copy
import io
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.valuerep import DS

from dicom_io.seg_reader import read_seg
from reports.errors import SourceUnusable
from reports.objects.case import source_images
from reports.objects.profile import Profile

CT_SERIES = ["ircadb_case17", "chaos_ct3", "lits_volume0"]


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read_back(ds: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(written(ds)))


def test_segments_say_what_they_are(make_case, identity) -> None:
    """Labels, categories, types, algorithm, tracking and colour of the liver and both lesions."""
    case = make_case()
    seg = case.seg()
    liver, first, second = seg.SegmentSequence
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2, 3]
    assert liver.SegmentLabel == "Liver"
    assert first.SegmentLabel == f"Lesion 1 ({case.findings.lesions[0].size.long_axis_mm:.0f} mm)"
    assert liver.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert second.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert second.SegmentedPropertyTypeCodeSequence[0].CodeValue == "4147007"
    assert second.AnatomicRegionSequence[0].CodeValue == "10200004"
    assert (liver.TrackingID, liver.TrackingUID) == ("Liver", identity.liver_tracking_uid)
    assert second.TrackingUID == case.findings.lesions[1].tracking_uid
    for item in seg.SegmentSequence:
        assert item.SegmentAlgorithmType == "AUTOMATIC" and item.SegmentAlgorithmName == "resnet50"
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmVersion == "1.2.0"
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
        assert case.segmentation.algorithm.weights_sha256 in algorithm.AlgorithmParameters
        assert len(item.RecommendedDisplayCIELabValue) == 3


def test_the_object_belongs_to_the_source_and_to_the_job(make_case, identity) -> None:
    """Patient and study of the source, UIDs of the identity, the complete list of source images, no overlap."""
    case = make_case()
    seg = case.seg()
    source = case.headers[0]
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "AccessionNumber", "StudyID"):
        assert seg[keyword].value == source[keyword].value
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert seg.SOPInstanceUID == seg.file_meta.MediaStorageSOPInstanceUID == identity.seg_sop_instance_uid
    assert seg.SeriesInstanceUID == identity.seg_series_instance_uid
    assert (seg.SegmentationType, seg.SegmentsOverlap, seg.Modality) == ("BINARY", "NO", "SEG")
    assert seg.SeriesDescription == "Porta: liver + lesions"
    assert seg.ContentDescription == "Liver and 2 lesions"
    assert seg.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert len(seg.ReferencedSeriesSequence) == 1
    listed = [item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence]
    assert listed == list(case.volume.sop_instance_uids)
    equipment = {item.Manufacturer for item in seg.ContributingEquipmentSequence}
    assert {"Scanner Works", "Porta Hepatis"} <= equipment
    assert case.segmentation.algorithm.weights_sha256 in seg.SoftwareVersions


def test_frames_lie_on_the_source_images(make_case) -> None:
    """Position strings bit by bit, the image they came from, derivation and purpose; empty frames left out."""
    case = make_case()
    seg = read_back(case.seg())
    sources = {header.SOPInstanceUID: header for header in case.headers}
    present = sum(len(np.flatnonzero((case.segmentation.labels == n).any(axis=(1, 2)))) for n in (1, 2, 3))
    assert seg.NumberOfFrames == present
    for frame in seg.PerFrameFunctionalGroupsSequence:
        derivation = frame.DerivationImageSequence[0]
        assert derivation.DerivationCodeSequence[0].CodeValue == "113076"
        image = derivation.SourceImageSequence[0]
        assert image.SpatialLocationsPreserved == "YES"
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        expected = [value.original_string for value in sources[image.ReferencedSOPInstanceUID].ImagePositionPatient]
        assert [v.original_string for v in frame.PlanePositionSequence[0].ImagePositionPatient] == expected


def test_the_same_input_gives_the_same_bytes(make_case, identity) -> None:
    """An edge walked twice sends the same object; the sources stay as they were."""
    case = make_case()
    before = copy.deepcopy(case.headers)
    first = written(case.seg())
    assert first == written(case.seg())
    assert list(case.headers) == list(before)
    other = case.seg(replace(identity, revision=2))
    assert other.ContentDescription.endswith("revision 2")
    assert other.SOPInstanceUID != identity.seg_sop_instance_uid
    assert other.SegmentSequence[0].TrackingUID == identity.liver_tracking_uid


def test_times_are_the_study_s(make_case) -> None:
    """The source's offset is used and stated: 12:30 UTC is 19:30 at +0700."""
    seg = make_case(TimezoneOffsetFromUTC="+0700").seg()
    assert (seg.ContentDate, seg.ContentTime, seg.TimezoneOffsetFromUTC) == ("20240501", "193000", "+0700")
    assert "TimezoneOffsetFromUTC" not in make_case().seg()
    assert "TimezoneOffsetFromUTC" not in make_case(TimezoneOffsetFromUTC="summer").seg()


def test_the_scanner_keeps_its_own_time(make_case) -> None:
    """Only what processed the images did so at the time of creation."""
    items = make_case(AcquisitionDateTime="20240501101502").seg().ContributingEquipmentSequence
    times = {item.Manufacturer: str(item.ContributionDateTime) for item in items}
    assert times["Scanner Works"] == "20240501101502"
    assert times["Porta Hepatis"] == "20240501123000+0000"


def test_lossy_sources_are_said_to_be_lossy(make_case, validate) -> None:
    """With ratio and method, as the images say."""
    lossy = {"LossyImageCompression": "01", "LossyImageCompressionRatio": "9.5"}
    seg = make_case(**lossy, LossyImageCompressionMethod="ISO_15444_1").seg()
    assert (seg.LossyImageCompression, seg.LossyImageCompressionMethod) == ("01", "ISO_15444_1")
    assert validate(seg) == []
    assert make_case().seg().LossyImageCompression == "00"


def test_the_validator_does_complain(make_case, validate) -> None:
    """The tests that expect nothing of it would else prove nothing."""
    seg = make_case().seg()
    del seg.SegmentSequence[0].SegmentLabel
    assert any("SegmentLabel" in line for line in validate(seg))


def test_highdicom_reads_the_labels_back(make_case, tmp_path) -> None:
    """The array that went in comes out, on a grid whose frames are no whole number of bytes."""
    case = make_case()
    seg = hd.seg.segread(case.write_seg(tmp_path / "seg.dcm"))
    pixels = seg.get_pixels_by_source_instance(case.volume.sop_instance_uids, combine_segments=True)
    np.testing.assert_array_equal(pixels, case.segmentation.labels)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"orientation": (1, 0, 0, 0, -1, 0)},
        {"orientation": (-1, 0, 0, 0, 1, 0)},
        {"orientation": (0, 1, 0, 0, 0, -1)},
        {"orientation": (1, 0, 0, 0, 0, -1)},
        {"orientation": (0.6, 0.64, 0.48, -0.8, 0.48, 0.36)},
        {"spacing_mm": (2.1, 0.4), "positions_mm": np.arange(14) * 0.9},
        {"positions_mm": np.delete(np.arange(16) * 2.5, [4, 9])},
        {"positions_mm": np.round(np.delete(np.arange(40) * 2 / 3, [4, 9, 10]), 2)},
        {"positions_mm": np.delete(np.arange(16) * 2.5, [7]), "orientation": (0.6, 0.64, 0.48, -0.8, 0.48, 0.36)},
        {"frame_numbers": range(15, 29), "modality": "MR"},
    ],
    ids=[
        "plain", "rows back", "feet", "sagittal", "coronal", "oblique", "anisotropic", "missing", "missing and rounded",
        "missing and oblique", "frames",
    ],
)  # fmt: skip
def test_dcmqi_finds_every_voxel(make_case, dcmqi_labels, how) -> None:
    """Slicer's reader, judged voxel by voxel (its exit status says nothing), wherever there is a grid.

    Where slices are missing it needs SpacingBetweenSlices: without it, it takes the thickness and loses voxels.
    """
    case = make_case(**how)
    np.testing.assert_array_equal(dcmqi_labels(case), case.segmentation.labels)


@pytest.mark.parametrize(
    "how",
    [{"positions_mm": np.cumsum(np.linspace(2, 3.3, 14))}, {"drift_mm": 0.2}],
    ids=["uneven", "tilted"],
)
def test_without_a_grid_no_spacing_is_stated(make_case, how) -> None:
    """Nor is the source's copied, which a reader would multiply."""
    seg = make_case(**how, SpacingBetweenSlices="2.5").seg()
    assert "SpacingBetweenSlices" not in seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "DimensionOrganizationType" not in seg


def test_frames_of_an_enhanced_image_are_named(make_case, validate) -> None:
    """UID, class and frame number of each source; the image itself is listed once, with the frames that were used."""
    numbers = list(range(40, 26, -1))
    case = make_case(frame_numbers=numbers, modality="MR")
    seg = case.seg()
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        plane = numbers.index(source.ReferencedFrameNumber)
        assert source.ReferencedSOPInstanceUID == case.volume.sop_instance_uids[0]
        assert source.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4.1"
        assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert list(position) == list(case.headers[plane].ImagePositionPatient)
    (series,) = seg.ReferencedSeriesSequence
    (image,) = series.ReferencedInstanceSequence
    assert image.ReferencedSOPInstanceUID == case.volume.sop_instance_uids[0] and "ReferencedFrameNumber" not in image
    assert list(seg.SourceImageSequence[0].ReferencedFrameNumber) == sorted(numbers)
    assert validate(seg) == []


def test_frames_are_one_for_each_slice(make_case) -> None:
    """A number too many, or too few, is a mistake of the caller."""
    case = make_case()
    with pytest.raises(ValueError, match="zip"):
        source_images(case.headers, [1, 2], "1.2.3")


def test_only_the_first_header_needs_what_the_series_has_in_common(make_case) -> None:
    """Modality, class and the series' UIDs of the others are the first's."""
    case = make_case()
    for header in case.headers[1:]:
        del header.Modality, header.SOPClassUID, header.PatientName, header.SeriesInstanceUID
    assert written(case.seg()) == written(make_case().seg())


def test_a_second_volume_has_a_series_number_and_a_name_of_its_own(make_case, identity, validate) -> None:
    """What tells it from the first stands in the list of series, in at most 64 characters."""
    seg = make_case().seg(replace(identity, volume_index=1, volume_label="AcquisitionNumber 3"))
    assert seg.SeriesNumber == 9011
    assert seg.SeriesDescription == "Porta: liver + lesions (AcquisitionNumber 3)"
    seg = make_case().seg(replace(identity, volume_index=1, volume_label="ImageType ORIGINAL PRIMARY " * 4))
    assert len(seg.SeriesDescription) == 64 and seg.SeriesDescription.endswith(")")
    assert validate(seg) == []


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0)], ids=["plain", "rows run backwards"])
@pytest.mark.parametrize("lesions", [True, False], ids=["lesions", "liver alone"])
def test_a_seg_passes_dciodvfy(make_case, validate, orientation, lesions) -> None:
    """No error, and no warning but those that the source brings."""
    assert validate(make_case(orientation=orientation, lesions=lesions).seg()) == []


@pytest.mark.parametrize("name", CT_SERIES)
def test_the_real_series_pass_dciodvfy(real_case, validate, name) -> None:
    """IRCADb has no PatientID and no frame of reference, CHAOS no dates, LiTS rows that run backwards."""
    case = real_case(name)
    seg = case.seg()
    assert validate(seg) == []
    assert str(seg.PatientID) == str(case.headers[0].get("PatientID") or "")
    assert seg.StudyInstanceUID == case.headers[0].StudyInstanceUID
    assert seg.FrameOfReferenceUID == case.volume.geometry.frame_of_reference_uid


@pytest.mark.parametrize("name", CT_SERIES)
def test_dcmqi_finds_every_voxel_of_the_real_series(real_case, dcmqi_labels, name) -> None:
    """Counted and placed: every voxel of the truth, on the source's grid."""
    case = real_case(name)
    np.testing.assert_array_equal(dcmqi_labels(case), case.segmentation.labels)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("ISO_IR 126", "Διονυσιος"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 100", "Buc^Jérôme"),
        (None, "Doe^Jane"),
    ],
)
def test_names_keep_their_characters(make_case, validate, charset, name) -> None:
    """Same bytes and same character set as in the source, ISO 2022 too."""
    source = make_case(SpecificCharacterSet=charset, PatientName=name)
    case = replace(source, headers=tuple(read_back(_as_ct(header)) for header in source.headers))
    seg = read_back(case.seg())
    assert seg.get("SpecificCharacterSet") == case.headers[0].get("SpecificCharacterSet")
    assert str(seg.PatientName) == str(case.headers[0].PatientName)
    assert seg.PatientName.original_string == case.headers[0].PatientName.original_string
    assert [line for line in validate(case.seg()) if line.startswith("Error")] == []


def _as_ct(header: Dataset) -> Dataset:
    ds = copy.deepcopy(header)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return ds


def test_an_unknown_character_set_is_the_sources(make_case) -> None:
    """Of the names' bytes nobody knows more."""
    assert make_case(SpecificCharacterSet="KLINGON 1").seg().SpecificCharacterSet == "KLINGON 1"


@pytest.mark.parametrize(
    "keyword",
    ["PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
     "AccessionNumber", "ReferringPhysicianName", "Manufacturer", "SliceThickness", "FrameOfReferenceUID"],
)  # fmt: skip
def test_a_missing_attribute_is_no_failure(make_case, validate, keyword) -> None:
    """Type 2 attributes come out empty, never filled."""
    extra = {"frame_of_reference_uid": None} if keyword == "FrameOfReferenceUID" else {keyword: None}
    seg = make_case(**extra).seg()
    assert validate(seg) == []
    if keyword in ("PatientID", "PatientName", "AccessionNumber"):
        assert not seg[keyword].value


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientAge", "64"),
        ("PatientWeight", "77.123456789012345678"),
        ("Occupation", "x" * 80),
        ("SliceThickness", "0"),
        ("SliceThickness", "1.6000000238418579"),
        ("FrameOfReferenceUID", ""),
        ("LossyImageCompression", "no"),
    ],
)
def test_a_broken_value_is_repaired_or_dropped(make_case, validate, keyword, value) -> None:
    """What cannot be written validly is left out; the object is made all the same."""
    with pydicom.config.disable_value_validation():
        case = make_case()
        for header in case.headers:
            header.add(pydicom.DataElement(keyword, pydicom.datadict.dictionary_VR(keyword), value))
        seg = case.seg()
    assert validate(seg) == []


def test_broken_sequences_are_dropped(make_case, validate) -> None:
    """Empty code sequences (GE) and code items without a scheme (HCC) would fail every validator."""
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "CTABD", "CT Abdomen"
    case = make_case(
        PatientIdentityRemoved="YES",
        DeidentificationMethodCodeSequence=[],
        ProcedureCodeSequence=[item],
        ReferencedStudySequence=[Dataset()],
    )
    seg = case.seg()
    assert validate(seg) == []
    assert "ProcedureCodeSequence" not in seg and "ReferencedStudySequence" not in seg


def test_identity_is_never_altered(make_case) -> None:
    """Odd is not ours to mend: a mended PatientID is another patient."""
    with pydicom.config.disable_value_validation():
        case = make_case(PatientID="  x" * 30, PatientName="no^^such=form=of=a=name")
        seg = case.seg()
        assert seg.PatientID == "  x" * 30
        assert str(seg.PatientName) == "no^^such=form=of=a=name"


def test_positions_that_are_too_long_are_shortened(make_case, validate) -> None:
    """DS holds 16 characters: more of them are rounded, and the frames still lie on their images."""
    case = make_case()
    for index, header in enumerate(case.headers):
        with pydicom.config.disable_value_validation():
            header.ImagePositionPatient = [DS("-20.5"), DS("-31.25"), DS(f"{1000.5 + index * 2.5:.10f}0000")]
    seg = case.seg()
    assert validate(seg) == []
    positions = {str(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in seg.PerFrameFunctionalGroupsSequence}
    assert all(len(position) <= 16 for position in positions)


def test_orientations_that_differ_in_the_last_digit_are_one(make_case) -> None:
    """highdicom compares them exactly; the series was accepted within a tolerance."""
    case = make_case()
    case.headers[3].ImageOrientationPatient = [1, 0, 0.00001, 0, 1, 0]
    assert case.seg().NumberOfFrames > 0


def test_what_cannot_be_used_is_said(make_case, identity) -> None:
    """No liver has no SEG; a header without a position has no frame."""
    case = make_case(liver=False)
    with pytest.raises(ValueError, match="no SEG"):
        case.seg()
    case = make_case()
    with pytest.raises(ValueError, match="one header"):
        replace(case, headers=case.headers[1:]).seg()
    del case.headers[2].ImagePositionPatient
    with pytest.raises(SourceUnusable):
        case.seg()


def test_nothing_about_the_patient_is_said_aloud(make_case, capfd, caplog, recwarn) -> None:
    """Warnings of pydicom and highdicom quote values: none gets out, whatever the name looks like."""
    with pydicom.config.disable_value_validation():
        case = make_case(PatientName="ZZPHI^CANARY" * 9, PatientID="ZZPHI" * 20, PatientBirthDate="ZZPHI")
    case.seg()
    output = capfd.readouterr()
    assert "ZZPHI" not in output.out + output.err + caplog.text + "".join(str(w.message) for w in recwarn.list)


# --- LABELMAP


def test_each_lesion_has_a_colour_of_its_own(make_case) -> None:
    """It keeps it with its number; the liver's is none of theirs."""
    case = make_case()
    first, second = case.findings.lesions
    case = replace(case, findings=replace(case.findings, lesions=(replace(first, number=3), replace(second, number=1))))
    colours = [tuple(segment.RecommendedDisplayCIELabValue) for segment in case.seg().SegmentSequence]
    plain = [tuple(segment.RecommendedDisplayCIELabValue) for segment in make_case().seg().SegmentSequence]
    assert len({*colours, *plain}) == 4
    assert colours[2] == plain[1] and colours[0] == plain[0]


def labelmap_of(case, identity) -> Dataset:
    return case.seg(identity, profile=Profile(seg_type="labelmap"))


def test_a_label_map_says_the_same_in_less(make_case, identity, tmp_path) -> None:
    """The labels as they are, RLE, with the background described as the standard asks (PS3.3 section C.8.20.2.3)."""
    case = make_case()
    seg, plain = labelmap_of(case, identity), case.seg()
    assert (seg.SOPClassUID, seg.SegmentationType) == ("1.2.840.10008.5.1.4.1.1.66.7", "LABELMAP")
    assert seg.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2, 3, 0]  # OHIF counts items
    assert [item.SegmentLabel for item in seg.SegmentSequence[:-1]] == [s.SegmentLabel for s in plain.SegmentSequence]
    assert [item.TrackingUID for item in seg.SegmentSequence[:-1]] == [s.TrackingUID for s in plain.SegmentSequence]
    assert {seg.SOPInstanceUID, seg.SeriesInstanceUID}.isdisjoint({plain.SOPInstanceUID, plain.SeriesInstanceUID})
    organization = seg.DimensionOrganizationSequence[0].DimensionOrganizationUID
    assert organization != plain.DimensionOrganizationSequence[0].DimensionOrganizationUID
    path = tmp_path / "seg.dcm"
    seg.save_as(path, enforce_file_format=True)
    labels = np.zeros_like(case.segmentation.labels)
    for segment in read_seg(path):
        for origin, mask in zip(segment.origins_lps_mm, segment.masks, strict=True):
            labels[round(float(case.volume.geometry.lps_to_index(origin)[0]))][mask] = segment.number
    assert np.array_equal(labels, case.segmentation.labels)


def test_a_label_map_is_made_of_the_same_bytes_again(make_case, identity) -> None:
    case = make_case()
    assert labelmap_of(case, identity) == labelmap_of(case, identity)


@pytest.mark.parametrize("positions", [np.arange(14) * 2.5, np.delete(np.arange(16) * 2.5, [4, 9])])
def test_dcmqi_reads_a_label_map_voxel_by_voxel(make_case, identity, dcmqi_labels, positions) -> None:
    """On regular and on missing-slice stacks."""
    case = make_case(positions_mm=positions)
    assert np.array_equal(dcmqi_labels(case, labelmap_of(case, identity)), case.segmentation.labels)


def test_highdicom_reads_a_label_map(make_case, identity) -> None:
    case = make_case()
    seg = hd.seg.Segmentation.from_dataset(labelmap_of(case, identity))
    assert list(seg.segment_numbers) == [1, 2, 3]
    frames = seg.get_pixels_by_source_instance(
        list(case.volume.sop_instance_uids),
        combine_segments=True,
        ignore_spatial_locations=False,
        assert_missing_frames_are_empty=True,
    )
    assert np.array_equal(frames, case.segmentation.labels)
