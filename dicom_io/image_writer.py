"""CT series made from an array: phantoms, and the series that the tests are about."""

from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from dicom_io.geometry import Geometry
from dicom_io.uids import derive_uid

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
) -> list[Path]:
    """Write HU (slice, row, column) on `geometry` as a CT Image Storage series (PS3.3 section A.3), Explicit VR LE.

    Values are rounded and cut to -1024...3071 HU, as a scanner's 12 bits hold them. UIDs follow from `seed`: the same
    seed, the same series; `study_seed` lets several series share a study. `directory` is made if need be.
    Returns the files in slice order. Raises ValueError when the array does not fill the geometry.
    """
    if volume_array_hu.shape != geometry.shape:
        raise ValueError(f"array is {volume_array_hu.shape}, its geometry {geometry.shape}")
    directory.mkdir(parents=True, exist_ok=True)
    study = derive_uid("ct-study", seed if study_seed is None else study_seed)
    series = derive_uid("ct-series", seed)
    stored = (np.clip(np.rint(volume_array_hu), -1024, 3071) - RESCALE_INTERCEPT).astype(np.int16)

    template = Dataset()
    _patient_and_study(template, study, patient_name, patient_id, study_description, acquired)
    template.Modality = "CT"
    template.SeriesInstanceUID = series
    template.SeriesNumber = series_number
    template.SeriesDescription = series_description
    template.SeriesDate = f"{acquired:%Y%m%d}"
    template.SeriesTime = f"{acquired:%H%M%S}"
    template.BodyPartExamined = "ABDOMEN"
    template.PatientPosition = "HFS"
    template.FrameOfReferenceUID = geometry.frame_of_reference_uid
    template.PositionReferenceIndicator = ""
    _plane_and_pixels(template, geometry)

    paths = []
    for index in range(geometry.slices):
        ds = FileDataset("", template, file_meta=FileMetaDataset(), preamble=bytes(128))
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = UID(derive_uid("ct-instance", seed, index))
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


def _plane_and_pixels(ds: Dataset, geometry: Geometry) -> None:
    """General Image, Image Plane, Image Pixel and CT Image modules (PS3.3 sections C.7.6 and C.8.2.1)."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionNumber = 1
    ds.AcquisitionDate, ds.AcquisitionTime = ds.StudyDate, ds.StudyTime
    ds.ContentDate, ds.ContentTime = ds.StudyDate, ds.StudyTime
    cosines = [*geometry.row_cosines, *geometry.column_cosines]
    ds.ImageOrientationPatient = [decimal_string(float(value)) for value in cosines]
    ds.PixelSpacing = [decimal_string(geometry.row_spacing_mm), decimal_string(geometry.column_spacing_mm)]
    ds.SliceThickness = decimal_string(geometry.step_mm)
    ds.KVP = "120"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = geometry.rows, geometry.columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(RESCALE_INTERCEPT), "1", "HU"
    ds.WindowCenter, ds.WindowWidth = "60", "400"
