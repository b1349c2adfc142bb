"""Requests to a peer: C-ECHO, C-STORE, C-FIND and C-GET (PS3.4 annexes A, B and C), one association a call.

Errors are `PeerUnreachable`, `AssociationRefused`, `ContextNotAccepted` and `StoreRefused`; a call that returns was
answered.
"""

import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    LabelMapSegmentationStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_io.errors import (
    AssociationLost,
    AssociationRefused,
    ContextNotAccepted,
    InvalidUID,
    NotDicom,
    PeerError,
    PeerUnreachable,
    QueryRefused,
    StoreRefused,
)
from dicom_io.files.uids import checked_uid
from dicom_io.network.checkpoint import Checkpoint
from dicom_io.network.sockets import acknowledge_at_once, has_come, send_at_once
from dicom_io.pace import Pace
from dicom_io.tls import Certificates

FIND: UID = StudyRootQueryRetrieveInformationModelFind
"""What completeness, confirmation and earlier studies are asked by."""

ECHOED = (CTImageStorage, SegmentationStorage, Comprehensive3DSRStorage, FIND)
"""The SOP classes that `echo` asks about: what we are sent, what we send, and how we ask."""

ECHOED_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
)

FETCHED = (
    CTImageStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    LabelMapSegmentationStorage,
    BasicTextSRStorage,
    EnhancedSRStorage,
    ComprehensiveSRStorage,
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
)
"""The SOP classes that `fetch` can take back."""

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
"""Source and reason of an A-ASSOCIATE-RJ in words (PS3.8 section 9.3.4)."""


TRANSFER_SYNTAXES_NOT_SUPPORTED = 4
"""The result of a presentation context whose abstract syntax is accepted (PS3.8 table 9-18)."""


@dataclass(frozen=True)
class Remote:
    """A peer that listens; with `certificates` it is spoken to over TLS."""

    ae_title: str
    host: str
    port: int
    certificates: Certificates | None = None

    def __str__(self) -> str:
        return f"{self.ae_title} at {self.host}:{self.port}"


@dataclass(frozen=True)
class EchoReport:
    """An answered C-ECHO, and what the peer takes: transfer syntax names by the name of the SOP class."""

    seconds: float
    accepted: dict[str, tuple[str, ...]]


def echo(remote: Remote, *, calling_ae_title: str, timeout_s: float) -> EchoReport:
    """C-ECHO the peer, and ask which transfer syntaxes it accepts for CT, SEG and Comprehensive 3D SR.

    Raises PeerUnreachable or AssociationRefused.
    """
    started = time.monotonic()
    # A context is answered with one transfer syntax, so each syntax is proposed in a separate context.
    contexts = [build_context(Verification)]
    contexts += [build_context(sop_class, syntax) for sop_class in ECHOED for syntax in ECHOED_SYNTAXES]
    with associated(remote, contexts, calling_ae_title, timeout_s) as assoc:
        if sent_as(assoc, Verification):
            status_of(assoc.send_c_echo(), remote)
        accepted = {UID(sop_class).name: tuple(uid.name for uid in sent_as(assoc, sop_class)) for sop_class in ECHOED}
    return EchoReport(time.monotonic() - started, accepted)


def store(
    remote: Remote, paths: Sequence[Path], *, calling_ae_title: str, timeout_s: float, pace: Pace | None = None
) -> tuple[int, ...]:
    """C-STORE files as they are, over one association; the status of each: 0x0000, or a warning (stored all the same).

    A file goes out byte for byte in its own transfer syntax. Only where the peer refuses that one and the file is
    not compressed, its data set is encoded anew in one that the peer takes.

    Raises NotDicom, PeerUnreachable, AssociationRefused, ContextNotAccepted for the first file of which the peer takes
    no presentation context, or StoreRefused at the first failure; the files before it are stored.
    """
    files = [read_meta(path) for path in paths]
    proposed = list(dict.fromkeys((file.sop_class_uid, syntax) for file in files for syntax in file.syntaxes))
    contexts = [build_context(sop_class_uid, syntax) for sop_class_uid, syntax in proposed]
    statuses: list[int] = []
    with associated(remote, contexts, calling_ae_title, timeout_s) as assoc:
        if pace is not None:
            _keep_pace(assoc, pace)
        for number, file in enumerate(files, start=1):
            accepted = [syntax for syntax in file.syntaxes if syntax in sent_as(assoc, file.sop_class_uid)]
            if not accepted:
                raise _not_accepted(assoc, file.sop_class_uid, remote)
            as_it_is = accepted[0] == file.syntaxes[0]
            what = file.path if as_it_is else _to_encode_anew(file.path, UID(accepted[0]))
            status = status_of(while_open(assoc, remote).send_c_store(what, msg_id=number % 65536), remote)
            if not _is_stored(status):
                raise StoreRefused(status)
            statuses.append(status)
    return tuple(statuses)


def _keep_pace(assoc: Association, pace: Pace) -> None:
    """Have data wait for its turn before pynetdicom takes it: behind that, time counts as the peer's silence."""
    send = assoc.dul.send_pdu

    def send_in_time(primitive: Any) -> None:
        if isinstance(primitive, P_DATA):
            pace(sum(len(value) for _, value in primitive.presentation_data_value_list))
        send(primitive)

    assoc.dul.send_pdu = send_in_time  # type: ignore[method-assign]


def _to_encode_anew(path: Path, syntax: UID) -> Dataset:
    """Read a data set that is to be sent in another syntax: its text, by which archives match, goes out as its bytes.

    Decoded and encoded, a name that does not decode would be another one.
    """
    ds = dcmread(path)
    for element in [element for element in ds.elements() if element.VR not in TEXT]:
        ds[element.tag]  # decoded here, and so encoded anew
    # pydicom writes what is not decoded as it is where it takes a data set for one of that syntax
    ds.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian, ds.original_character_set)
    return ds


TEXT = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
"""VRs whose values are the same bytes in every syntax."""


def holds(
    remote: Remote,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    calling_ae_title: str,
    timeout_s: float,
) -> bool:
    """Whether the peer has the instance, by C-FIND at IMAGE level (Study Root, PS3.4 section C.6.2.1).

    Raises PeerUnreachable, AssociationRefused, or PeerError when the query fails.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study_instance_uid
    query.SeriesInstanceUID = series_instance_uid
    query.SOPInstanceUID = sop_instance_uid
    contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]
    with associated(remote, contexts, calling_ae_title, timeout_s) as assoc:
        # A peer that ignores the key answers with its other instances: look at what it names.
        return any(found.get("SOPInstanceUID") == sop_instance_uid for found in matches(assoc, query, remote))


def series_sizes(
    remote: Remote, series_of: Mapping[str, Collection[str]], *, calling_ae_title: str, timeout_s: float
) -> dict[str, int]:
    """How many instances the peer says it has of series, by C-FIND at SERIES level, one for each study.

    `series_of` holds SeriesInstanceUIDs by StudyInstanceUID. NumberOfSeriesRelatedInstances is optional for a peer
    (PS3.4 table C.3-3): series that it does not know or count, or counts as none, are left out.

    Raises PeerUnreachable, AssociationRefused, or PeerError when a query fails.
    """
    sizes: dict[str, int] = {}
    contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]
    with associated(remote, contexts, calling_ae_title, timeout_s) as assoc:
        for study_instance_uid, uids in series_of.items():
            query = Dataset()
            query.QueryRetrieveLevel = "SERIES"
            query.StudyInstanceUID = study_instance_uid
            # Not every peer matches a list of UIDs; all of them can list a study.
            query.SeriesInstanceUID = next(iter(uids)) if len(uids) == 1 else ""
            query.NumberOfSeriesRelatedInstances = None
            for found in matches(assoc, query, remote):
                uid, size = str(found.get("SeriesInstanceUID", "")), instances_of(found)
                if uid in uids and size > 0:
                    sizes[uid] = size
    return sizes


def fetch(
    remote: Remote,
    *,
    study_instance_uid: str,
    modality: str,
    directory: Path,
    calling_ae_title: str,
    timeout_s: float,
) -> list[Path]:
    """Bring every instance of the study's series of `modality` into `directory` by C-GET, bytes as sent.

    Files are named by SOP Instance UID and returned sorted. Raises PeerUnreachable, AssociationRefused, or PeerError
    when the query or a sub-operation fails.
    """
    files: list[Path] = []

    def keep(event: Event) -> int:
        try:
            name = checked_uid(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        except InvalidUID:
            return 0xA900  # the data set does not match the SOP class: nothing we could file
        files.append(directory / f"{name}.dcm")
        files[-1].write_bytes(event.encoded_dataset())
        return 0x0000

    models = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
    contexts = [*map(build_context, models)]
    contexts += [build_context(sop_class, list(ECHOED_SYNTAXES)) for sop_class in FETCHED]
    roles = [build_role(sop_class, scp_role=True) for sop_class in FETCHED]
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_instance_uid
    query.SeriesInstanceUID = ""
    query.Modality = modality
    handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, keep)]
    with associated(remote, contexts, calling_ae_title, timeout_s, roles, handlers) as assoc:
        for series in [found for found in matches(assoc, query, remote) if found.get("Modality") == modality]:
            get_series(assoc, study_instance_uid, series.SeriesInstanceUID, remote)
    return sorted(files)


def get_series(assoc: Association, study_instance_uid: str, series_instance_uid: str, remote: Remote) -> None:
    """Have the peer send a series over the same association. Raises PeerUnreachable, ContextNotAccepted, PeerError."""
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "SERIES"
    wanted.StudyInstanceUID = study_instance_uid
    wanted.SeriesInstanceUID = series_instance_uid
    get = StudyRootQueryRetrieveInformationModelGet
    require(assoc, get, remote)
    for response, _ in while_open(assoc, remote).send_c_get(wanted, get):
        status = status_of(response, remote)
        if status not in PENDING and status != 0x0000:
            raise PeerError(f"{remote} ended a C-GET with status 0x{status:04X}")


def instances_of(found: Dataset) -> int:
    """NumberOfSeriesRelatedInstances, 0 where a peer says nothing or nonsense."""
    try:
        return max(0, int(found.get("NumberOfSeriesRelatedInstances") or 0))
    except (TypeError, ValueError):
        return 0


PENDING = (0xFF00, 0xFF01)


@dataclass(frozen=True)
class StoredFile:
    """A file that can be sent."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    syntaxes: tuple[str, ...]
    """The transfer syntaxes it can go out in, its own first."""


def read_meta(path: Path) -> StoredFile:
    """Return what the file meta information of an object says. Raises NotDicom, FileNotFoundError."""
    try:
        meta = read_file_meta_info(path)
        sop_class_uid, syntax, sop_instance_uid = (
            str(meta.MediaStorageSOPClassUID),
            meta.TransferSyntaxUID,
            str(meta.MediaStorageSOPInstanceUID),
        )
    except (InvalidDicomError, AttributeError, EOFError, ValueError) as error:
        raise NotDicom(path, "no file meta information") from error
    # Pixel data of these three is the same bytes, so the data set can be encoded anew without touching them.
    converted = NATIVE if syntax in (*NATIVE, DeflatedExplicitVRLittleEndian) else ()
    return StoredFile(
        path, sop_class_uid, sop_instance_uid, (str(syntax), *(str(uid) for uid in converted if uid != syntax))
    )


def _of_its_socket(change: Callable[[socket.socket], None]) -> Callable[[Event], None]:
    """A handler that makes a change to the socket of an event's association."""

    def handle(event: Event) -> None:
        wrapped = event.assoc.dul.socket
        if wrapped is not None and wrapped.socket is not None:
            with suppress(OSError):  # closed meanwhile: whoever reads or writes next will say so
                change(wrapped.socket)

    return handle


AT_ONCE = (
    (evt.EVT_CONN_OPEN, _of_its_socket(send_at_once)),
    (evt.EVT_DATA_SENT, _of_its_socket(acknowledge_at_once)),
    (evt.EVT_DATA_RECV, _of_its_socket(acknowledge_at_once)),
)


class _Polled(AssociationSocket):
    """The socket of an association of ours, whatever its descriptor's number.

    pynetdicom looks at it by `select`, which knows none beyond 1023: the connections that wait at the door took us the
    way out.
    """

    read_ahead: bytearray

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        if self.socket is None or not self._is_connected:
            return False
        try:
            return has_come(self.socket, 0.0, self.read_ahead)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes` from the peer, or fewer when it closed the connection. Raises OSError."""
        received, self.read_ahead = self.read_ahead[:nr_bytes], self.read_ahead[nr_bytes:]
        return received + (super().recv(nr_bytes - len(received)) if len(received) < nr_bytes else b"")


class _Requestor(AE):
    """An application entity that asks."""

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> AssociationSocket:
        connection = _Polled(assoc, address=address)
        connection.tls_args = tls_args
        connection.read_ahead = bytearray()
        return connection


@contextmanager
def associated(
    remote: Remote,
    contexts: list[PresentationContext],
    calling_ae_title: str,
    timeout_s: float,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[EventHandlerType] = (),
) -> Iterator[Association]:
    """An established association, released at the end, or aborted when the body raises."""
    ae = _Requestor(calling_ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    try:
        assoc = ae.associate(
            remote.host,
            remote.port,
            contexts=contexts,
            ae_title=remote.ae_title,
            max_pdu=131072,
            ext_neg=list(roles),
            tls_args=(remote.certificates.for_client(), remote.host) if remote.certificates else None,
            evt_handlers=[*AT_ONCE, *handlers],
        )
    except OSError as error:
        raise PeerUnreachable(f"{remote}: the host is not known, or no socket could be made") from error
    if not assoc.is_established:
        answer = assoc.acceptor.primitive or _answer_left_behind(assoc)
        if answer is None:
            raise PeerUnreachable(f"{remote} does not answer")
        if not answer.result:
            raise _not_accepted(assoc, str(contexts[0].abstract_syntax), remote)
        reason = REASONS.get((answer.result_source or 0, answer.diagnostic or 0), "unknown reason")
        raise AssociationRefused(f"{remote} rejected the association: {reason}")
    assoc._reactor_checkpoint = Checkpoint(assoc)  # the one it was made with is set, and holds nobody
    try:
        yield assoc
    except BaseException:
        assoc.abort()
        raise
    assoc.release()


def _answer_left_behind(assoc: Association) -> A_ASSOCIATE | None:
    """The answer that pynetdicom did not look at: one that came, and closed the connection, before it began to wait."""
    with suppress(Empty):
        while True:
            primitive = assoc.dul.to_user_queue.get_nowait()
            if isinstance(primitive, A_ASSOCIATE):
                return primitive
    return None


def sent_as(assoc: Association, sop_class_uid: str) -> list[UID]:
    """The transfer syntaxes that the peer accepted for a SOP class."""
    return [
        context.transfer_syntax[0] for context in assoc.accepted_contexts if context.abstract_syntax == sop_class_uid
    ]


def require(assoc: Association, abstract_syntax: str, remote: Remote) -> None:
    """Raise ContextNotAccepted where the peer takes no presentation context for an abstract syntax."""
    if not sent_as(assoc, abstract_syntax):
        raise _not_accepted(assoc, abstract_syntax, remote)


def _not_accepted(assoc: Association, abstract_syntax: str, remote: Remote) -> ContextNotAccepted:
    refused = [context.result for context in assoc.rejected_contexts if context.abstract_syntax == abstract_syntax]
    only_syntax = TRANSFER_SYNTAXES_NOT_SUPPORTED in refused
    return ContextNotAccepted(
        str(remote), abstract_syntax, name=str(UID(abstract_syntax).name), only_syntax=only_syntax
    )


def while_open(assoc: Association, remote: Remote) -> Association:
    """The association; raises AssociationLost once the peer has closed it."""
    if not assoc.is_established:
        raise AssociationLost(f"{remote} closed the association")
    return assoc


def status_of(response: Dataset, remote: Remote) -> int:
    """The status of a response; pynetdicom answers an empty one when the peer is gone or took too long."""
    if "Status" not in response:
        raise AssociationLost(f"{remote} broke the association, or did not answer in time")
    return int(response.Status)


def _is_stored(status: int) -> bool:
    """Success or warning (PS3.7 annex C, PS3.4 table B.2-1)."""
    return status == 0x0000 or status in (0x0001, 0x0107, 0x0116) or status & 0xF000 == 0xB000


def matches(assoc: Association, query: Dataset, remote: Remote) -> list[Dataset]:
    """Return what the peer answers to a C-FIND. Raises PeerUnreachable, ContextNotAccepted, QueryRefused, PeerError."""
    found: list[Dataset] = []
    require(assoc, FIND, remote)
    for response, identifier in while_open(assoc, remote).send_c_find(query, FIND):
        status = status_of(response, remote)
        if status in PENDING and identifier is not None:
            found.append(identifier)
        elif status not in (*PENDING, 0x0000):
            raise QueryRefused(str(remote), status)
    return found
