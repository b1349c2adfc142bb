"""An SR of nobody that says that it is a test: whether an archive takes and keeps one, before the first study comes.

It is the same each time, byte for byte: an archive keeps one, however often it is sent.
"""

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicom_io.files.uids import derive_uid
from reports import codes
from reports.identity import MANUFACTURER_MODEL_NAME
from reports.objects.kinds import SR_SOP_CLASS_UIDS, SrClass

PATIENT_ID = "PORTA-CHECK"
"""The patient that it is filed under; the name says the same."""

SENTENCE = "Test object of `porta check --store`. It reports nothing, and may be deleted."


def marked_sr(sr_class: SrClass) -> Dataset:
    """An SR of this class with one sentence, without images, patient or findings (PS3.3 section A.35)."""
    ds = Dataset()
    ds.SOPClassUID = SR_SOP_CLASS_UIDS[sr_class]
    ds.SOPInstanceUID = derive_uid("check", sr_class)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = derive_uid("check", "study"), derive_uid("check", "series", sr_class)
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientBirthDate = "PORTA^CHECK", PATIENT_ID, "O", ""
    ds.StudyDate = ds.ContentDate = "20000101"
    ds.StudyTime = ds.ContentTime = "000000"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "CHECK", "", ""
    ds.StudyDescription = ds.SeriesDescription = "Porta: test object"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "SR", 1, 1
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.Manufacturer = ds.ManufacturerModelName = MANUFACTURER_MODEL_NAME
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "UNVERIFIED"
    ds.PerformedProcedureCodeSequence = []
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = [_item(codes.IMAGING_MEASUREMENT_REPORT)]
    text = Dataset()
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", SENTENCE
    text.ConceptNameCodeSequence = [_item(codes.COMMENT)]
    ds.ContentSequence = [text]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return ds


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
