"""What can be wrong with what a PACS, a folder or a peer hands us.

    DicomIOError
    ├── SeriesRejected(reason, detail)     a series that is not segmented; the reason is data
    ├── NotDicom(path)                     a file that holds no DICOM data set
    ├── NotNifti(path, detail)             a file that is no 3-D NIfTI image
    ├── SegmentationUnreadable(detail)     a SEG object that cannot be placed in patient space
    ├── InvalidUID                         a value that is no UID and so never becomes a path
    └── PeerError                          the other side of an association
        ├── PeerUnreachable                no TCP connection, or it broke
        ├── AssociationRefused             A-ASSOCIATE-RJ, or no accepted presentation context
        └── StoreRefused(status)           a C-STORE answered with a failure status

Messages hold UIDs, counts, codes and file names that the user gave; never an attribute of a patient.
"""

from enum import StrEnum
from pathlib import Path


class RejectReason(StrEnum):
    """Why a series, or the job that holds it, is not processed. Each has a sentence in `SENTENCES`."""

    NOT_CT = "NOT_CT"
    NOT_IMAGES = "NOT_IMAGES"
    LOCALIZER_ONLY = "LOCALIZER_ONLY"
    MULTIFRAME = "MULTIFRAME"
    NO_POSITION = "NO_POSITION"
    MIXED_ORIENTATION = "MIXED_ORIENTATION"
    NOT_AXIAL = "NOT_AXIAL"
    MIXED_GRID = "MIXED_GRID"
    DUPLICATE_POSITIONS = "DUPLICATE_POSITIONS"
    UNEVEN_SPACING = "UNEVEN_SPACING"
    TILT = "TILT"
    TOO_FEW_SLICES = "TOO_FEW_SLICES"
    TOO_SHORT = "TOO_SHORT"
    UNREADABLE_PIXELS = "UNREADABLE_PIXELS"
    NO_RULE = "NO_RULE"


SENTENCES: dict[RejectReason, str] = {
    RejectReason.NOT_CT: "The series is not CT.",
    RejectReason.NOT_IMAGES: "The series holds no images.",
    RejectReason.LOCALIZER_ONLY: "The series holds localizer images only.",
    RejectReason.MULTIFRAME: "The series holds multi-frame images, which are not read yet.",
    RejectReason.NO_POSITION: "An image has no usable position, orientation or pixel spacing.",
    RejectReason.MIXED_ORIENTATION: "The images of the series do not lie in parallel planes.",
    RejectReason.NOT_AXIAL: "The series is not axial.",
    RejectReason.MIXED_GRID: "The images of the series differ in rows, columns, pixel spacing or frame of reference.",
    RejectReason.DUPLICATE_POSITIONS: "Several images lie at the same position: more than one volume in the series.",
    RejectReason.UNEVEN_SPACING: "The distance between neighbouring slices is not the same throughout the series.",
    RejectReason.TILT: "The gantry was tilted: the slices are not stacked along their normal.",
    RejectReason.TOO_FEW_SLICES: "The series has too few slices to be a volume.",
    RejectReason.TOO_SHORT: "The stack is too short to hold a liver.",
    RejectReason.UNREADABLE_PIXELS: "The pixel data of an image cannot be decoded.",
    RejectReason.NO_RULE: "No rule of the configuration matches the series.",
}


class DicomIOError(Exception):
    """Root of this folder's errors."""


class SeriesRejected(DicomIOError):
    """The series is not segmented, because of `reason`; `detail` adds counts or codes, never a patient's data."""

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {SENTENCES[reason]}{' ' + detail if detail else ''}")

    def __reduce__(self) -> tuple[type["SeriesRejected"], tuple[RejectReason, str]]:
        return SeriesRejected, (self.reason, self.detail)


class NotDicom(DicomIOError):
    """The file holds no DICOM data set that can be stored (no parsable header, or no UIDs)."""

    def __init__(self, path: Path | str, why: str = "not a DICOM file") -> None:
        self.path = Path(path)
        self.why = why
        super().__init__(f"{path}: {why}")

    def __reduce__(self) -> tuple[type["NotDicom"], tuple[Path, str]]:
        return NotDicom, (self.path, self.why)


class NotNifti(DicomIOError):
    """The file is no 3-D NIfTI image."""


class SegmentationUnreadable(DicomIOError):
    """The SEG object cannot be placed in patient space."""


class InvalidUID(DicomIOError):
    """A value where a UID belongs is none (PS3.5 section 9), so it must not become a path or a key."""


class PeerError(DicomIOError):
    """The other side of an association failed us."""


class PeerUnreachable(PeerError):
    """No TCP connection to the peer, or it broke during the association."""


class AssociationRefused(PeerError):
    """The peer rejected the association, or accepted none of the proposed presentation contexts."""


class StoreRefused(PeerError):
    """The peer answered a C-STORE with a failure status (PS3.4 table B.2-1)."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"C-STORE refused with status 0x{status:04X}")

    def __reduce__(self) -> tuple[type["StoreRefused"], tuple[int]]:
        return StoreRefused, (self.status,)
