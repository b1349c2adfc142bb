"""The objects: what they refer to, that any reader opens them, and that no pixel names the patient."""

import copy
import io
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from matplotlib.image import imread
from pydicom import Dataset

from reports.errors import SourceUnusable
from reports.objects.key_images import LESION_IMAGES, build_key_images
from reports.pages.hanging import letters
from reports.pages.slice_page import HEIGHT, SIDE, WIDTH, most_liver
from reports.pages.slice_picture import whole_slice

TILTED = "dcm_qa_ct/ge_tilt18_variable_gap_dicom"
SAGITTAL = "dcm_qa_mr/philips_sagittal_mprage_170_dicom"
TWO_ECHOES = "dcm_qa_mr/philips_enhanced_mr_multiframe_dicom"
TWO_PHASES = "hcc_tace_seg_007/ct_two_phases_in_one_series_dicom"


def built(case, identity, **more) -> list[Dataset]:
    return build_key_images(case.under(identity, **more))


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read_back(ds: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(written(ds)))


def test_a_summary_comes_first_and_then_the_lesions_by_size(make_case, identity) -> None:
    """Secondary captures of 8 bit RGB in one series of their own, numbered as they are to be shown."""
    case = make_case()
    images = built(case, identity)
    assert [ds.ImageComments for ds in images] == ["Summary of the findings", "Lesion 1", "Lesion 2"]
    assert [ds.InstanceNumber for ds in images] == [1, 2, 3]
    assert {ds.SOPClassUID for ds in images} == {"1.2.840.10008.5.1.4.1.1.7"}
    assert {ds.SeriesInstanceUID for ds in images} == {identity.series_instance_uid("key_images")}
    assert len({ds.SOPInstanceUID for ds in images}) == 3
    for ds in images:
        assert ds.StudyInstanceUID == case.headers[0].StudyInstanceUID
        assert (ds.SeriesNumber, ds.SeriesDescription, ds.Modality) == (9004, "Porta: key images", "OT")
        assert ds.ImageType == ["DERIVED", "SECONDARY"] and ds.BurnedInAnnotation == "NO"
        assert ds.pixel_array.shape == (HEIGHT, WIDTH, 3) and max(HEIGHT, WIDTH) >= 1024
        assert ds.PhotometricInterpretation == "RGB" and ds.BitsStored == 8
        assert (ds.PatientName, ds.PatientID) == ("Doe^Jane", "P-1")
        assert ds.DerivationDescription.endswith("resnet50 1.2.0. For research use, not a diagnosis.")
        assert ds.ContributingEquipmentSequence[0].SoftwareVersions[0] == "0.1.0"


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"lesions": False},
        {"liver": False},
        {"modality": "MR", "orientation": (0, 1, 0, 0, 0, -1)},
        {"frame_numbers": tuple(range(3, 17))},
        {"modality": "MR", "frame_numbers": tuple(range(3, 17))},
        {"drift_mm": 0.33, "positions_mm": np.cumsum(np.linspace(1, 6, 14))},
        {"frame_of_reference_uid": None},
        {"PatientName": None, "StudyDate": None, "PatientID": None, "Manufacturer": None},
        {"LossyImageCompression": "01", "LossyImageCompressionRatio": "10.5"},
    ],
    ids=["CT", "no lesion", "no liver", "MR", "Enhanced CT", "Enhanced MR", "tilted", "no frame", "bare", "lossy"],
)
def test_they_pass_dciodvfy(make_case, identity, validate, how) -> None:
    """No error, and no warning but those that the source brings."""
    for ds in built(make_case(**how), identity):
        assert validate(ds) == []


@pytest.mark.parametrize("name", [TILTED, SAGITTAL, TWO_ECHOES, TWO_PHASES])
def test_those_of_real_series_pass_dciodvfy(real_volumes, identity, validate, name) -> None:
    """Tilted, sagittal, multi-frame, multi-phase; each lesion's names the image that its slice is."""
    for index, case in enumerate(real_volumes(name)[:2]):
        images = built(case, replace(identity, volume_index=index, volume_label=f"EchoTime {index}"))
        for lesion, ds in zip(case.findings.lesions, images[1:], strict=True):
            assert validate(ds) == []
            (source,) = ds.SourceImageSequence
            assert source.ReferencedSOPInstanceUID == lesion.place.key_sop_instance_uid
            assert source.get("ReferencedFrameNumber") == lesion.place.key_frame_number


def test_each_names_the_images_that_it_was_drawn_from(make_case, identity) -> None:
    """A lesion's its key slice, the summary all."""
    case = make_case()
    summary, *others = built(case, identity)
    listed = [item.ReferencedSOPInstanceUID for item in summary.SourceImageSequence]
    assert listed == list(case.volume.sop_instance_uids)
    assert {item.ReferencedSOPClassUID for item in summary.SourceImageSequence} == {"1.2.840.10008.5.1.4.1.1.2"}
    for lesion, ds in zip(case.findings.lesions, others, strict=True):
        (item,) = ds.SourceImageSequence
        assert item.ReferencedSOPInstanceUID == case.volume.sop_instance_uids[lesion.place.key_slice]
        assert "ReferencedFrameNumber" not in item
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"


def test_an_enhanced_image_is_named_with_its_frames(make_case, identity) -> None:
    """Once, with those of the volume in the summary, and the one that was drawn in a lesion's."""
    case = make_case(frame_numbers=tuple(range(3, 17)))
    summary, *others = built(case, identity)
    (item,) = summary.SourceImageSequence
    assert item.ReferencedFrameNumber == list(range(3, 17))
    for lesion, ds in zip(case.findings.lesions, others, strict=True):
        (item,) = ds.SourceImageSequence
        assert item.ReferencedSOPInstanceUID == lesion.place.key_sop_instance_uid
        assert item.ReferencedFrameNumber == lesion.place.key_frame_number == 3 + lesion.place.key_slice


def test_no_lesion_shows_the_liver_and_no_liver_only_says_so(make_case, identity) -> None:
    """The slice with most of it."""
    case = make_case(lesions=False)
    _, overview = built(case, identity)
    plane = most_liver(case.segmentation)
    assert overview.SourceImageSequence[0].ReferencedSOPInstanceUID == case.volume.sop_instance_uids[plane]
    (page,) = built(make_case(liver=False), identity)
    assert page.ImageComments == "Summary of the findings"


def test_the_largest_ten_of_many_lesions_have_an_image(make_case, identity, many_lesions) -> None:
    """The summary says how many there are, the SEG and the SR hold all."""
    case = many_lesions(make_case(rows=90, columns=90), 30)
    assert case.findings.lesion_count == 30
    images = built(case, identity)
    assert len(images) == 1 + LESION_IMAGES
    assert [ds.ImageComments for ds in images[1:]] == [f"Lesion {n}" for n in range(1, LESION_IMAGES + 1)]


def test_the_same_arguments_give_the_same_bytes(make_case, identity) -> None:
    """And headers are not changed; other revisions and volumes have other UIDs."""
    case = make_case()
    before = copy.deepcopy(case.headers)
    first, second = (list(map(written, built(make_case(), identity))) for _ in range(2))
    assert first == second
    built(case, identity)
    assert list(case.headers) == list(before)
    everything = [
        {str(ds[keyword].value) for ds in built(case, one) for keyword in ("SOPInstanceUID", "SeriesInstanceUID")}
        for one in (identity, replace(identity, revision=2), replace(identity, volume_index=1))
    ]
    assert len(set.union(*everything)) == 3 * 4
    assert built(case, replace(identity, volume_index=1, volume_label="EchoTime 2"))[0].SeriesNumber == 9014


def test_no_pixel_depends_on_the_patient(make_case, identity) -> None:
    """Another name, number, birth date, description of the study: the same pictures."""
    other = make_case(
        PatientName="ZZPHI^CANARY",
        PatientID="ZZPHI-1",
        PatientBirthDate="19010203",
        PatientSex="M",
        PatientAge="099Y",
        StudyDate="20110203",
        StudyTime="030405",
        AccessionNumber="ZZPHI",
        StudyDescription="ZZPHI",
        InstitutionName="ZZPHI",
        ReferringPhysicianName="ZZPHI",
        ProtocolName="ZZPHI",
        ImageComments="ZZPHI",
    )
    for ours, theirs in zip(built(make_case(), identity), built(other, identity), strict=True):
        np.testing.assert_array_equal(ours.pixel_array, theirs.pixel_array)
        assert "ZZPHI" not in ours.DerivationDescription + theirs.ImageComments


def test_the_page_that_names_the_series_says_so(make_case, identity) -> None:
    """A description is a free text: the one page that has it states a burned-in annotation, no other does."""
    images = built(make_case(SeriesDescription="Recon 2 LIVER"), identity)
    assert [ds.BurnedInAnnotation for ds in images] == ["YES", "NO", "NO"]
    bare = built(make_case(), identity)
    assert (images[0].pixel_array != bare[0].pixel_array).any()
    for with_text, without in zip(images[1:], bare[1:], strict=True):
        np.testing.assert_array_equal(with_text.pixel_array, without.pixel_array)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 126", "Διονυσιος"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
        (None, "Doe^Jane"),
    ],
)
def test_names_keep_their_characters(make_case, identity, validate, charset, name) -> None:
    """Same bytes and same character set as in the source."""
    source = make_case(SpecificCharacterSet=charset, PatientName=name)
    headers = []
    for header in source.headers:
        ds = copy.deepcopy(header)
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        headers.append(read_back(ds))
    for ds in built(replace(source, headers=tuple(headers)), identity):
        again = read_back(ds)
        assert again.get("SpecificCharacterSet") == headers[0].get("SpecificCharacterSet")
        assert str(again.PatientName) == str(headers[0].PatientName)
        assert again.PatientName.original_string == headers[0].PatientName.original_string
        assert [line for line in validate(ds) if line.startswith("Error")] == []


@pytest.mark.parametrize("program", ["dcm2pnm", "dcmj2pnm"])
def test_dcmtk_sees_the_same_pixels(make_case, identity, require_binary, tmp_path, program) -> None:
    """An independent reader of images."""
    for number, ds in enumerate(built(make_case(), identity)):
        path, picture = tmp_path / f"{number}.dcm", tmp_path / f"{number}.ppm"
        path.write_bytes(written(ds))
        subprocess.run([require_binary(program), "+op", str(path), str(picture)], check=True, capture_output=True)
        np.testing.assert_array_equal(imread(picture), pydicom.dcmread(path).pixel_array)


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0.8, -0.6)]
)
def test_a_viewer_s_ruler_and_letters_are_right(make_case, identity, orientation) -> None:
    """PixelSpacing measures the long axis on the picture, PatientOrientation is that of the letters in it."""
    case = make_case(orientation=orientation)
    summary, *others = built(case, identity)
    assert not summary.PatientOrientation and "PixelSpacing" not in summary
    for lesion, ds in zip(case.findings.lesions, others, strict=True):
        grid = whole_slice(case.volume.geometry, lesion.place.key_slice, SIDE)
        assert list(ds.PatientOrientation) == [letters(grid.right), letters(grid.down)]
        ends = grid.to_pixels(lesion.size.axis_end_points_lps_mm[0])
        length = np.linalg.norm((ends[1] - ends[0]) * [float(ds.PixelSpacing[1]), float(ds.PixelSpacing[0])])
        assert length == pytest.approx(lesion.size.long_axis_mm, rel=1e-4)


def test_lossy_sources_are_said_to_be_lossy(make_case, identity) -> None:
    """Once lossy, always lossy (PS3.3 C.7.6.1.1.5)."""
    case = make_case(LossyImageCompression="01", LossyImageCompressionRatio="10.5")
    assert {ds.LossyImageCompression for ds in built(case, identity)} == {"01"}
    assert "LossyImageCompression" not in built(make_case(), identity)[0]


def test_the_series_number_is_shown_only_if_it_is_one(make_case, identity) -> None:
    """A stranger's text never gets into the pixels."""
    case, other = make_case(), make_case(SeriesNumber=None)
    with pydicom.config.disable_value_validation():
        for keyword in ("SeriesDescription", "ProtocolName"):
            setattr(other.headers[0], keyword, "ZZPHI")
    assert not np.array_equal(built(case, identity)[0].pixel_array, built(other, identity)[0].pixel_array)


def test_what_does_not_fit_together_is_refused(make_case, identity) -> None:
    """A header for each slice, labels on the volume's grid, and headers that have UIDs."""
    case = make_case()
    with pytest.raises(ValueError, match="one header per slice"):
        built(replace(case, headers=case.headers[:-1]), identity)
    with pytest.raises(ValueError, match="on the volume's grid"):
        built(replace(case, segmentation=make_case(rows=46).segmentation), identity)
    del case.headers[3].SOPInstanceUID
    with pytest.raises(SourceUnusable):
        built(case, identity)
