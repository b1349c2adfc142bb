"""CT and MR series made from an array: phantoms, and the series that the tests are about."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dicom_io.files.uids import derive_uid
from dicom_io.geometry import Geometry

RESCALE_INTERCEPT = -1024
IMPLEMENTATION_CLASS_UID = UID(derive_uid("implementation", "porta-hepatis"))


def write_ct_series(
    volume_array_hu: NDArray[np.int16] | NDArray[np.float32],
    geometry: Geometry,
    directory: Path,
    *,
    seed: str | int,
    study_seed: str | int | None = None,
    patient_name: str = "PHANTOM^LIVER",
    patient_id: str = "PHANTOM",
    study_description: str = "Liver phantom",
    series_description: str = "Portal venous",
    series_number: int = 1,
    acquired: datetime = datetime(2000, 1, 1, 12, 0, 0),
    slice_thickness_mm: float | None = None,
) -> list[Path]:
    """Write HU (slice, row, column) on `geometry` as a CT Image Storage series (PS3.3 section A.3), Explicit VR LE.

    Values are rounded and cut to -1024...3071 HU, as a scanner's 12 bits hold them. UIDs follow from `seed`: the same
    seed, the same series; `study_seed` lets several series share a study. `directory` is made if need be.
    `slice_thickness_mm` None: the distance between slices. Returns the files in slice order. Raises ValueError when
    the array does not fill the geometry.
    """
    template = Dataset()
    study = derive_uid("ct-study", seed if study_seed is None else study_seed)
    _patient_and_study(template, study, patient_name, patient_id, study_description, acquired)
    _series(template, "CT", derive_uid("ct-series", seed), series_number, series_description, acquired)
    _plane_and_pixels(template, geometry, slice_thickness_mm)
    template.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    template.KVP = "120"
    template.RescaleIntercept, template.RescaleSlope, template.RescaleType = str(RESCALE_INTERCEPT), "1", "HU"
    template.WindowCenter, template.WindowWidth = "60", "400"
    stored = (np.clip(np.rint(volume_array_hu), -1024, 3071) - RESCALE_INTERCEPT).astype(np.int16)
    return _write(template, stored, geometry, directory, CTImageStorage, lambda index: ("ct-instance", seed, index))


def write_mr_series(
    array: NDArray[np.int16] | NDArray[np.float32],
    geometry: Geometry,
    directory: Path,
    *,
    seed: str | int,
    patient_name: str = "PHANTOM^LIVER",
    patient_id: str = "PHANTOM",
    study_description: str = "Liver phantom",
    series_description: str = "T1",
    acquired: datetime = datetime(2000, 1, 1, 12, 0, 0),
    slice_thickness_mm: float | None = None,
) -> list[Path]:
    """Write signal (slice, row, column) on `geometry` as an MR Image Storage series (PS3.3 section A.4).

    Values are rounded and cut to 0...4095; all else is as `write_ct_series` does it. Raises ValueError when the array
    does not fill the geometry.
    """
    template = Dataset()
    study = derive_uid("mr-study", seed)
    _patient_and_study(template, study, patient_name, patient_id, study_description, acquired)
    _series(template, "MR", derive_uid("mr-series", seed), 1, series_description, acquired)
    _plane_and_pixels(template, geometry, slice_thickness_mm)
    template.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    template.ScanningSequence, template.SequenceVariant, template.ScanOptions = "RM", "NONE", ""  # RM: research mode
    template.MRAcquisitionType = "2D"
    template.RepetitionTime, template.EchoTime, template.EchoTrainLength = "", "", ""
    template.WindowCenter, template.WindowWidth = "250", "500"
    stored = np.clip(np.rint(array), 0, 4095).astype(np.int16)
    return _write(template, stored, geometry, directory, MRImageStorage, lambda index: ("mr-instance", seed, index))


def _write(
    template: Dataset,
    stored: NDArray[np.int16],
    geometry: Geometry,
    directory: Path,
    sop_class: UID,
    identity: Callable[[int], tuple[str | int, ...]],
) -> list[Path]:
    """Write one file a slice: the template, with the place and the pixels of that slice."""
    if stored.shape != geometry.shape:
        raise ValueError(f"array is {stored.shape}, its geometry {geometry.shape}")
    directory.mkdir(parents=True, exist_ok=True)
    template.FrameOfReferenceUID = geometry.frame_of_reference_uid
    paths = []
    for index in range(geometry.slices):
        ds = FileDataset("", template, file_meta=FileMetaDataset(), preamble=bytes(128))
        ds.SOPClassUID = sop_class
        ds.SOPInstanceUID = UID(derive_uid(*identity(index)))
        ds.InstanceNumber = index + 1
        ds.ImagePositionPatient = [decimal_string(value) for value in geometry.origins_lps_mm[index]]
        ds.SliceLocation = decimal_string(float(geometry.positions_mm[index]))
        ds.PixelData = np.ascontiguousarray(stored[index]).astype("<i2").tobytes()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
        path = directory / f"{index + 1:04d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def decimal_string(value: float) -> str:
    """A DS of at most 16 characters (PS3.5 table 6.2-1), with as many digits as they hold."""
    for digits in range(16, 0, -1):
        text = f"{value + 0.0:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError("no decimal string")


def _patient_and_study(
    ds: Dataset, study: str, patient_name: str, patient_id: str, study_description: str, acquired: datetime
) -> None:
    """Patient, General Study and General Equipment modules (PS3.3 sections C.7.1.1, C.7.2.1, C.7.5.1)."""
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = patient_name
    ds.PatientID = patient_id
    ds.PatientBirthDate = ""
    ds.PatientSex = ""
    ds.StudyInstanceUID = study
    ds.StudyDate = f"{acquired:%Y%m%d}"
    ds.StudyTime = f"{acquired:%H%M%S}"
    ds.ReferringPhysicianName = ""
    ds.StudyID = "1"
    ds.AccessionNumber = ""
    ds.StudyDescription = study_description
    ds.Manufacturer = "Porta Hepatis"
    ds.ManufacturerModelName = "Phantom"


def _series(ds: Dataset, modality: str, uid: str, number: int, description: str, acquired: datetime) -> None:
    """General Series and Frame of Reference modules (PS3.3 sections C.7.3.1, C.7.4.1)."""
    ds.Modality = modality
    ds.SeriesInstanceUID = uid
    ds.SeriesNumber = number
    ds.SeriesDescription = description
    ds.SeriesDate = f"{acquired:%Y%m%d}"
    ds.SeriesTime = f"{acquired:%H%M%S}"
    ds.BodyPartExamined = "ABDOMEN"
    ds.PatientPosition = "HFS"
    ds.PositionReferenceIndicator = ""


def _plane_and_pixels(ds: Dataset, geometry: Geometry, slice_thickness_mm: float | None) -> None:
    """General Image, Image Plane and Image Pixel modules (PS3.3 section C.7.6)."""
    ds.AcquisitionNumber = 1
    ds.AcquisitionDate, ds.AcquisitionTime = ds.StudyDate, ds.StudyTime
    ds.ContentDate, ds.ContentTime = ds.StudyDate, ds.StudyTime
    cosines = [*geometry.row_cosines, *geometry.column_cosines]
    ds.ImageOrientationPatient = [decimal_string(float(value)) for value in cosines]
    ds.PixelSpacing = [decimal_string(geometry.row_spacing_mm), decimal_string(geometry.column_spacing_mm)]
    ds.SliceThickness = decimal_string(slice_thickness_mm or geometry.step_mm)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = geometry.rows, geometry.columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = 1
