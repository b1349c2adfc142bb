"""What can be wrong with what a PACS, a folder or a peer hands us.

    DicomIOError
    ├── SeriesRejected(reason, detail)     a series that is not segmented; the reason is data
    ├── NotDicom(path)                     a file that holds no DICOM data set
    ├── NotNifti(path, detail)             a file that is no 3-D NIfTI image
    ├── SegmentationUnreadable(detail)     a SEG object that cannot be placed in patient space
    ├── InvalidUID                         a value that is no UID and so never becomes a path
    └── PeerError                          the other side of an association
        ├── PeerUnreachable                no TCP connection, or it broke
        │   └── AssociationLost            it broke, or went silent, once an association was established
        │   └── CertificateUnusable        a file of certificates of ours cannot be used
        ├── AssociationRefused             A-ASSOCIATE-RJ
        ├── ContextNotAccepted(what, …)    an association, and no presentation context for what was to be done
        ├── QueryRefused(peer, status)     a C-FIND answered with a failure status
        ├── CommitmentRefused(peer, …)     a request for storage commitment answered with a failure status
        ├── WebRefused(peer, status)       a DICOMweb service answered with a status that is none of success
        └── StoreRefused(status)           a C-STORE, or STOW-RS, answered with a failure status

Messages hold UIDs, counts, codes and file names that the user gave; never an attribute of a patient.
"""

from enum import StrEnum
from pathlib import Path
from typing import ClassVar


class Cure(StrEnum):
    """The kinds of help that may turn a refused series into a processed one."""

    MORE_SLICES = "MORE_SLICES"
    CONFIGURATION = "CONFIGURATION"
    """Another rule, another model, or more memory."""


TOLD, SILENT = True, False


class RejectReason(StrEnum):
    """The reasons why a series, or its job, is not processed; the only place that says what a reason means.

    `sentence` is what the SR and the command line say. `is_told`: whether the study gets an SR with it where no other
    series of it is answered; scouts, secondary captures and what no rule matches stay silent, as does what lacks the
    UIDs that an SR would have to refer to. `cure`: what may help, if anything does; no slice makes a scout a volume,
    nor a colour image grey. docs/objects.md shows this table.
    """

    sentence: str
    is_told: bool
    cure: Cure | None

    def __new__(
        cls,
        value: str,
        sentence: str = "",
        is_told: bool = False,  # noqa: FBT001, FBT002  a column of the table
        cure: Cure | None = None,
    ) -> "RejectReason":
        """A row of the table below."""
        reason = str.__new__(cls, value)
        reason._value_ = value
        reason.sentence, reason.is_told, reason.cure = sentence, is_told, cure
        return reason

    NOT_CT_OR_MR = "NOT_CT_OR_MR", "The series is neither CT nor MR.", SILENT, None
    NOT_IMAGES = "NOT_IMAGES", "The series holds no images of slices.", SILENT, None
    NO_UID = "NO_UID", "An image lacks the UIDs that a result must refer to.", SILENT, None
    LOCALIZER_ONLY = "LOCALIZER_ONLY", "The series holds localizer images only.", SILENT, None
    NO_POSITION = "NO_POSITION", "An image has no usable position, orientation or pixel spacing.", TOLD, None
    MIXED_ORIENTATION = (
        "MIXED_ORIENTATION",
        "The images of the series lie in several orientations, and in none of them enough.",
        TOLD,
        Cure.MORE_SLICES,
    )
    MIXED_FRAMES_OF_REFERENCE = (
        "MIXED_FRAMES_OF_REFERENCE",
        "The images of the series lie in several frames of reference, and in none of them enough.",
        TOLD,
        Cure.MORE_SLICES,
    )
    MIXED_GRIDS = (
        "MIXED_GRIDS",
        "The images of the series differ in size or pixel spacing, and of no kind are there enough.",
        TOLD,
        Cure.MORE_SLICES,
    )
    MIXED_IDENTITY = (
        "MIXED_IDENTITY",
        "The images of the series do not agree on their patient, study or series: whose they are is not certain.",
        TOLD,
        Cure.MORE_SLICES,
    )
    REASSIGNED = (
        "REASSIGNED",
        "The images were sent again as those of another patient or study: results of the series do not belong here.",
        TOLD,
        None,
    )
    DUPLICATE_POSITIONS = (
        "DUPLICATE_POSITIONS",
        "Several images lie at the same position, and nothing tells their volumes apart.",
        TOLD,
        Cure.MORE_SLICES,
    )
    MISSING_SLICES = "MISSING_SLICES", "Too many slices are missing from the stack.", TOLD, Cure.MORE_SLICES
    TOO_FEW_SLICES = "TOO_FEW_SLICES", "The series has too few slices to be a volume.", TOLD, Cure.MORE_SLICES
    TOO_SHORT = "TOO_SHORT", "The stack is too short to hold a liver.", TOLD, Cure.MORE_SLICES
    IMPOSSIBLE_SIZE = (
        "IMPOSSIBLE_SIZE",
        "The images or the distances between them have a size in millimetres that cannot be right.",
        TOLD,
        None,
    )
    NOT_HOUNSFIELD = "NOT_HOUNSFIELD", "The values of the CT are not Hounsfield units.", TOLD, None
    TOO_LARGE = "TOO_LARGE", "The volume is too large for the memory that Porta may use.", TOLD, Cure.CONFIGURATION
    UNSUPPORTED_SYNTAX = (
        "UNSUPPORTED_SYNTAX",
        "The pixel data are in a transfer syntax that cannot be decoded here.",
        TOLD,
        None,
    )
    UNREADABLE_PIXELS = "UNREADABLE_PIXELS", "The pixel data of an image cannot be decoded.", TOLD, None
    NO_RULE = "NO_RULE", "No rule of the configuration matches the series.", SILENT, Cure.CONFIGURATION
    NO_MODEL = "NO_MODEL", "The model of the rule is not made for this modality.", TOLD, Cure.CONFIGURATION
    SUPERSEDED_BY_BETTER = (
        "SUPERSEDED_BY_BETTER",
        "Another series of the study suits better, and is the one that is reported.",
        SILENT,
        None,
    )


class SeriesWarning(StrEnum):
    """Facts about a series that a reader of the results must know. Each has a sentence in `WARNING_SENTENCES`."""

    TILT = "TILT"
    UNEVEN_SPACING = "UNEVEN_SPACING"
    MISSING_SLICES = "MISSING_SLICES"
    LEFT_OUT = "LEFT_OUT"
    SEVERAL_VOLUMES = "SEVERAL_VOLUMES"
    DUPLICATE_DIFFERENT = "DUPLICATE_DIFFERENT"
    DUPLICATE_SLICES = "DUPLICATE_SLICES"
    SEPARATE_RANGES = "SEPARATE_RANGES"
    INCOMPLETE = "INCOMPLETE"
    THICK_SLICES = "THICK_SLICES"
    NO_FRAME_OF_REFERENCE = "NO_FRAME_OF_REFERENCE"
    NO_RESCALE = "NO_RESCALE"
    UNUSABLE_VALUES = "UNUSABLE_VALUES"
    TRAILING_BYTES = "TRAILING_BYTES"
    IDENTITY_SPELLING = "IDENTITY_SPELLING"


WARNING_SENTENCES: dict[SeriesWarning, str] = {
    SeriesWarning.TILT: "The gantry was tilted: the slices are not stacked along their normal.",
    SeriesWarning.UNEVEN_SPACING: "The distance between neighbouring slices is not the same throughout.",
    SeriesWarning.MISSING_SLICES: "Slices are missing; what lies between is measured from their neighbours.",
    SeriesWarning.LEFT_OUT: "Images of the series that belong to no volume were left out. OHIF may "
    "not open the segmentation of such a series: the key images show it.",
    SeriesWarning.SEVERAL_VOLUMES: "The series holds several volumes. OHIF lays the segmentation over all of them: it "
    "belongs to the one that was segmented.",
    SeriesWarning.DUPLICATE_DIFFERENT: "Images came twice under one UID with different content; the first were used.",
    SeriesWarning.DUPLICATE_SLICES: "Images came twice, with the same pixels at the same place; one of each was used.",
    SeriesWarning.SEPARATE_RANGES: "The slices lie in separate ranges; a liver across them was measured in parts.",
    SeriesWarning.INCOMPLETE: "The sending of the images broke off, or the sender has more of them: slices may be "
    "missing, and volume, tumour burden and number of lesions may be those of a part.",
    SeriesWarning.THICK_SLICES: "The slices are thicker than 5 mm; small lesions and volumes are less certain.",
    SeriesWarning.NO_FRAME_OF_REFERENCE: "The images state no frame of reference; one was derived from the series.",
    SeriesWarning.IDENTITY_SPELLING: "Some images write patient, study or series differently, and mean the same.",
    SeriesWarning.NO_RESCALE: "The images state no rescale intercept; their values were taken as Hounsfield units.",
    SeriesWarning.UNUSABLE_VALUES: "Attributes of the images hold values that cannot be used; they count as absent.",
    SeriesWarning.TRAILING_BYTES: "Files have bytes after their pixel data that are no attribute; they were not read.",
}


class DicomIOError(Exception):
    """Root of this folder's errors. `exit_code`: of a command that ends with one; 2 where its input is wrong."""

    exit_code: ClassVar[int] = 1


class SeriesRejected(DicomIOError):
    """The series is not segmented, because of `reason`; `detail` adds counts or codes, never a patient's data."""

    exit_code = 2

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {self.sentence}")

    @property
    def sentence(self) -> str:
        """The sentence of the reason, and the counts behind it."""
        return " ".join(filter(None, (self.reason.sentence, self.detail)))

    def __reduce__(self) -> tuple[type["SeriesRejected"], tuple[RejectReason, str]]:
        return SeriesRejected, (self.reason, self.detail)


class NotDicom(DicomIOError):
    """The file holds no DICOM data set that can be stored (no parsable header, or no UIDs)."""

    exit_code = 2

    def __init__(self, path: Path | str, why: str = "not a DICOM file") -> None:
        self.path = Path(path)
        self.why = why
        super().__init__(f"{path}: {why}")

    def __reduce__(self) -> tuple[type["NotDicom"], tuple[Path, str]]:
        return NotDicom, (self.path, self.why)


class NotNifti(DicomIOError):
    """The file is no 3-D NIfTI image."""

    exit_code = 2


class SegmentationUnreadable(DicomIOError):
    """The SEG object cannot be placed in patient space."""

    exit_code = 2


class InvalidUID(DicomIOError):
    """A value in the place of a UID is not a UID (PS3.5 section 9), so it must not become a path or a key."""

    exit_code = 2


class PeerError(DicomIOError):
    """The other side of an association failed us."""


class PeerUnreachable(PeerError):
    """No TCP connection to the peer could be made, or it broke during the association."""


class AssociationLost(PeerUnreachable):
    """The association ended or went silent before an answer: the peer's fault, or that of what was sent."""


class AssociationRefused(PeerError):
    """The peer rejected the association."""


class ContextNotAccepted(PeerError):
    """The peer takes no presentation context for what was to be done: it was not set up for it, or cannot do it.

    `abstract_syntax` is the SOP class, its UID; `only_syntax` says that the peer takes the class, but in none of the
    transfer syntaxes that were proposed.
    """

    def __init__(self, peer: str, abstract_syntax: str, *, name: str, only_syntax: bool = False) -> None:
        self.peer, self.abstract_syntax, self.name, self.only_syntax = peer, abstract_syntax, name, only_syntax
        how = " in the transfer syntax of what is sent" if only_syntax else ""
        super().__init__(f"{peer} does not accept {name} ({abstract_syntax}){how}")

    def __reduce__(self) -> tuple[object, ...]:
        return _context_not_accepted, (self.peer, self.abstract_syntax, self.name, self.only_syntax)


def _context_not_accepted(
    peer: str,
    abstract_syntax: str,
    name: str,
    only_syntax: bool,  # noqa: FBT001  pickle passes them by place
) -> ContextNotAccepted:
    return ContextNotAccepted(peer, abstract_syntax, name=name, only_syntax=only_syntax)


class QueryRefused(PeerError):
    """The peer answered a C-FIND with a failure status (PS3.4 table C.4-1)."""

    def __init__(self, peer: str, status: int) -> None:
        self.peer, self.status = peer, status
        super().__init__(f"{peer} ended a C-FIND with status 0x{status:04X}")

    def __reduce__(self) -> tuple[type["QueryRefused"], tuple[str, int]]:
        return QueryRefused, (self.peer, self.status)


class CommitmentRefused(PeerError):
    """The peer answered the N-ACTION of a storage commitment with a failure status (PS3.7 section 10.1.4)."""

    def __init__(self, peer: str, status: int) -> None:
        self.peer, self.status = peer, status
        super().__init__(f"{peer} refused storage commitment with status 0x{status:04X}")

    def __reduce__(self) -> tuple[type["CommitmentRefused"], tuple[str, int]]:
        return CommitmentRefused, (self.peer, self.status)


class CertificateUnusable(PeerUnreachable):
    """A file of certificates is gone, is none, or its key does not fit: no TLS with it."""

    exit_code = 2


class WebRefused(PeerError):
    """A DICOMweb service answered with an HTTP status that is none of success, and gave no reason as DICOM has them."""

    def __init__(self, peer: str, status: int) -> None:
        self.peer, self.status = peer, status
        super().__init__(f"{peer} answered with HTTP status {status}")

    @property
    def is_passing(self) -> bool:
        """True where the service is away or overloaded, or does not let us in: of the object it says nothing."""
        return self.status in (401, 403, 407, 408, 425, 429, 502, 503, 504)

    def __reduce__(self) -> tuple[type["WebRefused"], tuple[str, int]]:
        return WebRefused, (self.peer, self.status)


class StoreRefused(PeerError):
    """The peer answered a C-STORE (PS3.4 table B.2-1) or STOW-RS with a failure status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"C-STORE refused with status 0x{status:04X}")

    def __reduce__(self) -> tuple[type["StoreRefused"], tuple[int]]:
        return StoreRefused, (self.status,)
