"""What a delivery met, as a code for the ledger and the log, and what a person can do about it."""

from pydicom.uid import UID

from daemon.errors import DestinationGone, FileDamaged
from dicom_io.errors import (
    AssociationLost,
    AssociationRefused,
    CertificateUnusable,
    CommitmentRefused,
    ContextNotAccepted,
    NotDicom,
    PeerError,
    PeerUnreachable,
    QueryRefused,
    StoreRefused,
    WebRefused,
)
from dicom_io.network import commitment, scu

CLASS_NOT_ACCEPTED, SYNTAX_NOT_ACCEPTED = "CLASS_NOT_ACCEPTED", "SYNTAX_NOT_ACCEPTED"
FIND_NOT_ACCEPTED, FIND_FAILED = "FIND_NOT_ACCEPTED", "FIND_FAILED"
OUTBOX_DAMAGED, OUTBOX_UNREADABLE = "OUTBOX_DAMAGED", "OUTBOX_UNREADABLE"

COMMITMENT_NOT_ACCEPTED, COMMITMENT_REFUSED = "COMMITMENT_NOT_ACCEPTED", "COMMITMENT_REFUSED"
CERTIFICATE_UNUSABLE = "CERTIFICATE_UNUSABLE"
ANSWER_LOST = "ANSWER_LOST"
NOT_COMMITTED, NOT_REPORTED = "NOT_COMMITTED", "NOT_REPORTED"

ADVICE = {
    CLASS_NOT_ACCEPTED: "The destination does not accept objects of this class: have it accept them, or leave this one "
    "out of `objects`.",
    SYNTAX_NOT_ACCEPTED: "The destination accepts this class of objects, but not the transfer syntax of this one: have "
    "it accept that, or choose another `seg_type`.",
    FIND_NOT_ACCEPTED: "The destination has stored it, and does not answer C-FIND: have it answer, or set "
    '`confirm = "none"`.',
    FIND_FAILED: "The destination has stored it, and answers C-FIND with an error: look into its own log, or set "
    '`confirm = "none"`.',
    "HTTP_401": "The DICOMweb service does not know who we are: are user and password, or the token, right, "
    "and not expired?",
    "HTTP_403": "The DICOMweb service does not let us do this: give us the right to store and to query there.",
    "HTTP_404": "The DICOMweb service has nothing at this address: is the peer's url the root of its DICOMweb API?",
    CERTIFICATE_UNUSABLE: "A file of certificates cannot be used: see that ca_file, certificate_file and key_file of "
    "the peer are there, may be read, and fit together.",
    "ASSOCIATION_REFUSED": "The destination refuses the association: does it know our AE title, host and port, and is "
    "its own AE title right?",
    ANSWER_LOST: "The destination took the object, or a part of it, and did not answer: it is asked whether it has it "
    "before it is sent again. Does it stop, or take longer than timeout_s?",
    "UNREACHABLE": "The destination does not answer: are its host and port right, is it running, is there a firewall?",
    OUTBOX_DAMAGED: "The file in the outbox holds other bytes than were written, and was not sent: look at the disk, "
    "put a backup of the file back, and `porta retry` sends it.",
    OUTBOX_UNREADABLE: "The file in the outbox is gone, or no DICOM file: look at the disk, put a backup of the file "
    "back, and `porta retry` sends it.",
    NOT_REPORTED: "The destination took the requests for storage commitment and has reported on none: does it know our "
    "AE title, host and port, and may it call us? `porta retry` sends and asks again.",
    NOT_COMMITTED: "The destination stored it, and says that it does not keep it safely: look into its own log. "
    "`porta retry` sends it again.",
    COMMITMENT_NOT_ACCEPTED: "The destination has stored it, and does not offer storage commitment: have it do so, or "
    'set `confirm = "query"`.',
    COMMITMENT_REFUSED: "The destination has stored it, and refuses the request for storage commitment: look into its "
    'own log, or set `confirm = "query"`.',
    "NOT_HELD": "The destination took it with success and does not have it now: look into its own log.",
}
"""What a person can do about a `last_status` of ours."""

ITS_LOG = "look into its own log"
STATUS_ADVICE = (
    (
        0xFFFF,
        0x0122,
        "The destination does not support objects of this class: have it accept them, or leave this one out of "
        "`objects`.",
    ),
    (0xFFFF, 0x0124, "The destination does not allow us to store: give our AE title the right to."),
    (0xFFFF, 0x0117, f"The destination finds the SOP Instance UID invalid: {ITS_LOG}."),
    (0xFFFF, 0x0111, f"The destination has this object already and takes it no second time: {ITS_LOG}."),
    (0xFF00, 0xA700, "The destination is full, or says so: make room there; it is sent again by itself."),
    (
        0xFF00,
        0xA900,
        "The destination finds that the object does not match its class: leave it out of `objects`, or "
        f"choose another form of it, and {ITS_LOG}.",
    ),
    (
        0xF000,
        0xC000,
        "The destination cannot understand the object: leave it out of `objects`, or choose another form "
        f"of it, and {ITS_LOG}.",
    ),
    (0x0000, 0x0000, f"The destination answered with an error: {ITS_LOG}."),
)
"""The same of the failures of a C-STORE (PS3.4 table B.2-1, PS3.7 annex C): the bits that count, what they are."""


def advice_on(last_status: str | None) -> str | None:
    """Say what a person can do about the status of a delivery; None where there is nothing to do."""
    if last_status is None or not last_status.startswith("0x"):
        return ADVICE.get(last_status or "")
    status = int(last_status, 16)
    if status == 0x0000 or status & 0xF000 == 0xB000:  # a success, with a warning too
        return None
    return next(advice for mask, value, advice in STATUS_ADVICE if status & mask == value)


class NotHeld(PeerError):
    """The destination accepted an object with success, and does not have it now."""


class NotReported(PeerError):
    """The destination was asked for storage commitment, and did not report in time."""


class NotCommitted(PeerError):
    """The destination says that it does not keep an object safely."""


class Unanswered(PeerError):
    """An object got no answer, or no room, where others did: it counts as an attempt of this object."""

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(status)


CODES: tuple[tuple[type[Exception], str], ...] = (
    (CertificateUnusable, CERTIFICATE_UNUSABLE),
    (AssociationLost, ANSWER_LOST),
    (PeerUnreachable, "UNREACHABLE"),
    (CommitmentRefused, COMMITMENT_REFUSED),
    (NotReported, NOT_REPORTED),
    (NotCommitted, NOT_COMMITTED),
    (QueryRefused, FIND_FAILED),
    (AssociationRefused, "ASSOCIATION_REFUSED"),
    (NotHeld, "NOT_HELD"),
    (FileDamaged, OUTBOX_DAMAGED),
    (NotDicom, OUTBOX_UNREADABLE),
    (FileNotFoundError, OUTBOX_UNREADABLE),
    (DestinationGone, "NO_DESTINATION"),
    (PeerError, "PEER_ERROR"),
)
"""The first that an error is of is its code."""

NOT_ACCEPTED = {scu.FIND: FIND_NOT_ACCEPTED, commitment.COMMITMENT: COMMITMENT_NOT_ACCEPTED}


def status_code(error: Exception) -> str:
    """Return the code of an error for the ledger and the log."""
    match error:
        case StoreRefused():
            return f"0x{error.status:04X}"
        case ContextNotAccepted():
            objects = SYNTAX_NOT_ACCEPTED if error.only_syntax else CLASS_NOT_ACCEPTED
            return NOT_ACCEPTED.get(UID(error.abstract_syntax), objects)
        case WebRefused():
            return f"HTTP_{error.status}"
        case Unanswered():
            return error.status
    return next((code for kind, code in CODES if isinstance(error, kind)), "UNEXPECTED")
