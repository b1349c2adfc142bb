"""Series that hold no volume to be segmented, and files that are none."""

from pathlib import Path

from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    MPEG2MPML,
    JPEGLSLossless,
    PositronEmissionTomographyImageStorage,
    RTStructureSetStorage,
    UltrasoundImageStorage,
)

from dicom_io.files.image_writer import decimal_string
from tests.conformance.made_files import (
    Change,
    Made,
    content,
    instance,
    object_of,
    save,
    secondary_capture,
    setting,
    stack,
    turned,
    without_pixels,
    write,
)


def _refused(out: Path, change: Change) -> list[Made]:
    write(out, content(stack()), change)
    return []


def _one(change: Change) -> Change:
    """One slice of the fourteen."""
    return lambda ds, index: change(ds, index) if index == 6 else None


def pet(out: Path) -> list[Made]:
    """PET."""
    return _refused(out, setting(Modality="PT", SOPClassUID=PositronEmissionTomographyImageStorage))


def two_patients(out: Path) -> list[Made]:
    """Half of the slices name another patient."""

    def change(ds: Dataset, index: int) -> None:
        ds.PatientID = "ANOTHER" if index >= 7 else "ONE"

    return _refused(out, change)


def ultrasound(out: Path) -> list[Made]:
    """Ultrasound."""
    return _refused(out, setting(Modality="US", SOPClassUID=UltrasoundImageStorage))


def structure_set(out: Path) -> list[Made]:
    """An RT structure set."""
    save(object_of(RTStructureSetStorage, "contours", modality="RTSTRUCT"), out, "contours")
    return []


def no_images(out: Path) -> list[Made]:
    """CT objects without pixels."""
    return _refused(out, without_pixels)


def secondary_captures_only(out: Path) -> list[Made]:
    """A series of screenshots that says CT."""
    for number in range(6):
        instance(out, f"screenshot {number}", secondary_capture)
    return []


def colour_images(out: Path) -> list[Made]:
    """CT images in RGB, as fused or rendered ones are."""

    def change(ds: Dataset, _: int) -> None:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.PixelData = bytes(3 * 32 * 40)

    return _refused(out, change)


def localizer_only(out: Path) -> list[Made]:
    """A scout."""
    return _refused(out, setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))


def blank_uids(out: Path) -> list[Made]:
    """All UIDs are empty, as in TotalSegmentator's example."""
    return _refused(out, setting(SOPInstanceUID="", SeriesInstanceUID="", StudyInstanceUID=""))


def blank_sop_class(out: Path) -> list[Made]:
    """SOPClassUID is empty."""
    return _refused(out, setting(SOPClassUID=""))


def no_position(out: Path) -> list[Made]:
    """ImagePositionPatient is absent."""
    return _refused(out, setting(ImagePositionPatient=None))


def one_without_position(out: Path) -> list[Made]:
    """One slice has no position: where it belongs nobody knows."""
    return _refused(out, _one(setting(ImagePositionPatient=None)))


def no_orientation(out: Path) -> list[Made]:
    """ImageOrientationPatient is blank."""
    return _refused(out, setting(ImageOrientationPatient=""))


def crooked_orientation(out: Path) -> list[Made]:
    """Rows and columns are not at a right angle."""
    return _refused(out, setting(ImageOrientationPatient=["1", "0", "0", "0.6", "0.8", "0"]))


def no_pixel_spacing(out: Path) -> list[Made]:
    """PixelSpacing is zero."""
    return _refused(out, setting(PixelSpacing=["0", "0"]))


def mixed_orientations(out: Path) -> list[Made]:
    """Planes in a fan, each turned 10 degrees from the last: no two are parallel."""

    def change(ds: Dataset, index: int) -> None:
        ds.ImageOrientationPatient = [decimal_string(value) for value in turned(0, 10 * index, 0)]

    return _refused(out, change)


def truncated_pixels(out: Path) -> list[Made]:
    """One file ends in the middle of its pixels."""
    _refused(out, setting())
    path = min(out.iterdir())
    path.write_bytes(path.read_bytes()[:-1500])
    return []


def no_pixel_data(out: Path) -> list[Made]:
    """One image has no PixelData."""
    return _refused(out, _one(setting(PixelData=None)))


def damaged_codestream(out: Path) -> list[Made]:
    """Of the JPEG-LS codestream of one image the second half is lost."""

    def change(ds: Dataset, index: int) -> None:
        ds.compress(JPEGLSLossless, generate_instance_uid=False)
        if index == 6:
            (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
            ds.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])

    return _refused(out, change)


def spectral_map(out: Path) -> list[Made]:
    """Effective atomic numbers of a spectral CT: RescaleType says Z_EFF."""
    write(out, content(stack()), setting(RescaleType="Z_EFF"))
    return []


def impossible_spacing(out: Path) -> list[Made]:
    """PixelSpacing of 300 mm: a field of view of 12 m."""
    write(out, content(stack()), setting(PixelSpacing=["300", "300"]))
    return []


def slices_300_mm_apart(out: Path) -> list[Made]:
    """Positions in tenths of a millimetre."""
    write(out, content(stack(step_mm=300.0)))
    return []


def rescale_is_no_number(out: Path) -> list[Made]:
    """RescaleSlope is "nan"."""
    return _refused(out, _one(setting(RescaleSlope="nan")))


def mpeg2(out: Path) -> list[Made]:
    """A video syntax."""
    return _refused(out, _encapsulated(MPEG2MPML))


def jpeg_xl(out: Path) -> list[Made]:
    """JPEG XL, for which there is no decoder here."""
    mpeg2(out)
    for path in out.iterdir():  # pydicom does not know this UID, so that it writes none
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.100", b"1.2.840.10008.1.2.4.110"))
    return []


def _encapsulated(syntax: str) -> Change:
    def change(ds: Dataset, _: int) -> None:
        ds.PixelData = encapsulate([bytes(300)])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = syntax

    return change


def too_large(out: Path) -> list[Made]:
    """A hundred slices that say they are 19000 x 19000, of pixels of 0.05 mm: 72 GB."""
    write(out, content(stack(100, 1.0)), setting(Rows=19000, Columns=19000, PixelSpacing=["0.05", "0.05"]))
    return []


def text_only(out: Path) -> list[Made]:
    """No DICOM at all."""
    out.mkdir(parents=True)
    (out / "readme.txt").write_text("Exported on Monday.\n" * 30)
    return []
