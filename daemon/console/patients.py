"""Who a study is of, read from its files for a page, and kept nowhere."""

from contextlib import suppress
from dataclasses import dataclass

from daemon.completeness import first_header
from daemon.console.state import ConsoleState
from daemon.errors import FileDamaged
from dicom_io.errors import NotDicom
from dicom_io.files import values


@dataclass(frozen=True)
class Patient:
    """What the header of an image says of patient and study; "" where it says nothing."""

    name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_description: str = ""


def patient_of(console: ConsoleState, series_instance_uid: str) -> Patient:
    """Read the patient of a series from its first image; an empty one where that is gone or damaged."""
    header = None
    with suppress(FileDamaged, NotDicom, OSError):
        header = first_header(console.spool, console.ledger, series_instance_uid)
    if header is None:
        return Patient()
    keywords = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate")
    return Patient(*(values.text(header, keyword)[:200] for keyword in (*keywords, "StudyDescription")))
