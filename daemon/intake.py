"""One way in for every instance, whether by C-STORE or `porta submit`: checked, durable, committed, then answered."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset

from daemon.configuration.config import Config
from daemon.errors import DaemonError, FileDamaged, LedgerUnavailable, StorageUnusable
from daemon.ledger.belonging import belong, refuse_other_root
from daemon.ledger.corrections import Corrections
from daemon.ledger.removals import bring_back
from daemon.ledger.store import Instance, Ledger
from daemon.log import get_logger
from daemon.process import make_files_private
from daemon.storage.incoming import Part
from daemon.storage.integrity import check_spooled
from daemon.storage.quarantine import Quarantine
from daemon.storage.sidecar import LONGEST_AT_ONCE, write_sidecar
from daemon.storage.spool import Spool
from dicom_io.errors import InvalidUID
from dicom_io.files import values
from dicom_io.files.dataset_reader import Contents, check_inflated, read_contents
from dicom_io.files.differences import Difference, difference
from dicom_io.files.identity import identity_of, place
from dicom_io.files.image_file import MODALITY_OF, image_header, is_described, is_of_the_disk
from dicom_io.files.image_header import ImageHeader
from dicom_io.files.uids import checked_uid
from dicom_io.files.values import DAMAGED
from dicom_io.seg_reader import LABEL_MAP_SEGMENTATION_STORAGE, SEGMENTATION_STORAGE
from reports.identity import is_result

LOCKS = 64

ATTEMPTS = 5
"""How often an instance is compared with what another process has recorded meanwhile."""

SEG_CLASSES = (SEGMENTATION_STORAGE, LABEL_MAP_SEGMENTATION_STORAGE)

IDENTIFYING = ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID")


log = get_logger()


class Verdict(StrEnum):
    """The outcome for an instance. Those of the last six are kept in quarantine under this reason.

    REPLACED: stored in the place of an earlier version, which had other pixels or another identity.
    DUPLICATE_DIFFERENT: other bytes under the same UIDs, and nothing in them that matters for the results.
    OWN_RESULT: Porta made it; a PACS that routes everything sends it back, and no job is to come of it.
    CORRECTION: a SEG that somebody else made of images that are here; kept, compared with ours, and no job comes of it.
    """

    STORED = "STORED"
    REPLACED = "REPLACED"
    ALREADY_STORED = "ALREADY_STORED"
    CORRECTION = "CORRECTION"
    NO_ROOM = "NO_ROOM"
    DUPLICATE_DIFFERENT = "DUPLICATE_DIFFERENT"
    UNDECODABLE = "UNDECODABLE"
    INVALID_UID = "INVALID_UID"
    MISMATCH = "MISMATCH"
    NO_IMAGE = "NO_IMAGE"
    OWN_RESULT = "OWN_RESULT"


QUARANTINED = (
    Verdict.DUPLICATE_DIFFERENT,
    Verdict.UNDECODABLE,
    Verdict.INVALID_UID,
    Verdict.MISMATCH,
    Verdict.NO_IMAGE,
    Verdict.OWN_RESULT,
)

STATUS: dict[Verdict, int] = {
    Verdict.STORED: 0x0000,
    Verdict.REPLACED: 0x0000,
    Verdict.ALREADY_STORED: 0x0000,
    Verdict.CORRECTION: 0x0000,
    Verdict.DUPLICATE_DIFFERENT: 0x0000,
    Verdict.NO_IMAGE: 0x0000,
    Verdict.OWN_RESULT: 0x0000,
    Verdict.NO_ROOM: 0xA700,
    Verdict.MISMATCH: 0xA900,
    Verdict.UNDECODABLE: 0xC000,
    Verdict.INVALID_UID: 0xC001,
}
"""The answer to a C-STORE (PS3.4 table B.2-1): out of resources, data set does not match, cannot understand."""


@dataclass(frozen=True)
class Accepted:
    """The verdict on an instance, and the series it belongs to (None where it has none)."""

    verdict: Verdict
    series_instance_uid: str | None = None


@dataclass(frozen=True)
class Change:
    """What a later version of an instance changes, and whether an archive files it under another patient or study."""

    difference: Difference
    is_elsewhere: bool


class Intake:
    """Takes instances into spool and ledger. Safe to call from many threads at once."""

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        clock: Callable[[], float] = time.time,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._spool = spool
        self._quarantine = quarantine or Quarantine(spool, clock=clock)
        self._ledger = ledger
        self._clock = clock
        # Two associations may bring the same instance at once: the second waits, and then finds it stored.
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        # What was parsed is put in order while the disk is busy with the file: the answer does not wait for it.
        self._describers = ThreadPoolExecutor(2, thread_name_prefix="describe")

    def begin(self) -> Part:
        """Return a file that is coming in, for `take` once it is whole."""
        return self._spool.part()

    def take(
        self,
        content: bytes | BinaryIO | Part,
        *,
        calling_ae_title: str,
        sop_instance_uid: str | None = None,
        sop_class_uid: str | None = None,
    ) -> Accepted:
        """Take in one instance, a whole file (PS3.10); the UIDs are what the request called it and its class.

        When the verdict is STORED, the file is fsynced and its row committed. What holds no slices (raw data, a
        vendor's own object, a colour palette, which is of no patient) and cannot be filed under a series is NO_IMAGE:
        nothing of it is needed, and one failure would end its sender's whole study. Never raises for bad input, a
        full disk or a ledger that is away: the verdict says so. Raises OSError where `content` is a file that cannot
        be read.
        """
        with content if isinstance(content, Part) else self._spool.part() as part:
            if not isinstance(content, Part):
                part.fill(BytesIO(content) if isinstance(content, bytes) else content)
            try:
                part.finish()
                return self._take(part, calling_ae_title, sop_instance_uid, sop_class_uid)
            except (StorageUnusable, LedgerUnavailable) as error:
                log.error("instance.refused", code=Verdict.NO_ROOM, error=error, calling_ae_title=calling_ae_title)
                return Accepted(Verdict.NO_ROOM)

    def _take(self, part: Part, calling_ae_title: str, requested: str | None, requested_class: str | None) -> Accepted:
        sop_class_uid = requested_class
        try:
            contents = _read(part.path)
            ds = contents.ds
            sop_class_uid = requested_class or str(ds.get("SOPClassUID", "")) or None
            uids = {keyword: checked_uid(ds.get(keyword, "")) for keyword in IDENTIFYING}
            transfer_syntax_uid = checked_uid(ds.file_meta.TransferSyntaxUID)
        except (InvalidUID, Undecodable) as error:
            verdict = Verdict.INVALID_UID if isinstance(error, InvalidUID) else Verdict.UNDECODABLE
            if _holds_no_slices(sop_class_uid):
                verdict = Verdict.NO_IMAGE
            return self._set_aside(part, verdict, calling_ae_title, requested)
        if requested is not None and requested.rstrip("\0 ") != uids["SOPInstanceUID"]:
            return self._set_aside(part, Verdict.MISMATCH, calling_ae_title, uids["SOPInstanceUID"])
        if _holds_no_slices(uids["SOPClassUID"]) and self._is_result(ds, uids["SeriesInstanceUID"]):
            return self._set_aside(part, Verdict.OWN_RESULT, calling_ae_title, uids["SOPInstanceUID"])

        drawn_on = self._series_drawn_on(ds, uids["SOPClassUID"])
        if drawn_on:
            path = self._spool.correction_path(uids["SOPInstanceUID"], part.hash.digits)
        else:
            path = self._spool.instance_path(uids["SeriesInstanceUID"], uids["SOPInstanceUID"], part.hash.digits)
        instance = Instance(
            sop_instance_uid=uids["SOPInstanceUID"],
            sop_class_uid=uids["SOPClassUID"],
            transfer_syntax_uid=transfer_syntax_uid,
            series_instance_uid=uids["SeriesInstanceUID"],
            study_instance_uid=uids["StudyInstanceUID"],
            calling_ae_title=calling_ae_title,
            path=str(path),
            bytes=part.bytes,
            sha256=part.hash.dataset_sha256,
        )
        with self._locks[hash(instance.sop_instance_uid) % LOCKS]:
            if drawn_on:
                return self._keep_correction(part, instance, drawn_on)
            for _ in range(ATTEMPTS):  # again only where another process was faster
                versions = self._ledger.versions(instance.series_instance_uid, instance.sop_instance_uid)
                if not versions:
                    taken = self._store(instance, part, contents)
                elif versions[-1].sha256 == instance.sha256:
                    self._restore(versions[-1], instance, part, contents)
                    return Accepted(Verdict.ALREADY_STORED, instance.series_instance_uid)
                elif change := self._change(versions[-1], part, contents):
                    taken = self._store(replace(instance, version=len(versions) + 1), part, contents, change)
                else:
                    return self._set_aside(
                        part, Verdict.DUPLICATE_DIFFERENT, calling_ae_title, instance.sop_instance_uid
                    )
                if taken:
                    return taken
        raise LedgerUnavailable("other processes keep recording the same instance")

    def _is_result(self, ds: Dataset, series_instance_uid: str) -> bool:
        """Whether an object is a result of this node or another: by its maker, or by the series that we sent."""
        return is_result(ds) or self._ledger.has_sent_series(series_instance_uid)

    def _series_drawn_on(self, ds: Dataset, sop_class_uid: str) -> str | None:
        """The series whose images a SEG was drawn on (ReferencedSeriesSequence), where they are here."""
        if sop_class_uid not in SEG_CLASSES:
            return None
        corrections, items = Corrections(self._ledger), values.items(ds, "ReferencedSeriesSequence")
        named = (values.uid(item, "SeriesInstanceUID") for item in items)
        return next((uid for uid in named if uid and corrections.has_images(uid)), None)

    def _keep_correction(self, part: Part, instance: Instance, drawn_on: str) -> Accepted:
        """Keep a SEG that somebody drew, once: the same again is known, other bytes under its UID are set aside."""
        corrections = Corrections(self._ledger)
        known = corrections.named(instance.sop_instance_uid)
        if known and known.sha256 != instance.sha256:
            return self._set_aside(
                part, Verdict.DUPLICATE_DIFFERENT, instance.calling_ae_title, instance.sop_instance_uid
            )
        if known and (self._spool.root / known.path).is_file():
            return Accepted(Verdict.ALREADY_STORED)
        self._spool.keep(part, Path(known.path if known else instance.path))
        if not known and not corrections.record(instance, of_series=drawn_on, now=self._clock()):
            raise LedgerUnavailable("another process has just recorded the same instance")
        log.info("correction.stored", **_named(instance))
        return Accepted(Verdict.CORRECTION)

    def _store(
        self, instance: Instance, part: Part, contents: Contents, change: Change | None = None
    ) -> Accepted | None:
        """Keep an instance, or a version that takes the place of another; None where another process kept one."""
        path = Path(instance.path)
        described = self._describers.submit(_described, contents)
        self._spool.keep(part, path)
        recorded = self._ledger.record_instance(
            instance,
            now=self._clock(),
            difference=change.difference if change else None,
            is_elsewhere=change is not None and change.is_elsewhere,
        )
        if not recorded:
            known = self._ledger.versions(instance.series_instance_uid, instance.sop_instance_uid)
            if instance.path not in {version.path for version in known}:
                self._spool.take_back(part)
            return None
        if header := described.result():
            write_sidecar(self._spool.root / path, header, size=part.bytes)
        if change:
            log.info("instance.replaced", code=change.difference, **_named(instance))
        return Accepted(Verdict.REPLACED if change else Verdict.STORED, instance.series_instance_uid)

    def _restore(self, known: Instance, instance: Instance, part: Part, contents: Contents) -> None:
        """Keep an instance that came again where the file that was kept of it is damaged, gone or removed."""
        path = Path(instance.path)
        with self._spool.removal(shared=True):
            # Looked up anew: retention, which waits for this lock, may have removed it meanwhile
            known = self._ledger.versions(known.series_instance_uid, known.sop_instance_uid)[known.version - 1]
            if known.removed_at is None:
                with suppress(FileDamaged, OSError):
                    check_spooled(self._spool.root / known.path, known.sha256)
                    return
            self._spool.keep(part, path)
            if known.removed_at is not None:
                bring_back(self._ledger.database, known, path=instance.path, now=self._clock())
            elif instance.path != known.path:  # another sender's file meta information
                self._ledger.move_instance(known, path=instance.path)
                self._spool.discard(Path(known.path))
        if header := _described(contents):
            write_sidecar(self._spool.root / path, header, size=part.bytes)
        log.info("instance.restored", **_named(instance))

    def _change(self, known: Instance, part: Part, contents: Contents) -> Change | None:
        """What a later version of an instance changes; None where nothing that matters. What is unreadable is gone."""
        try:
            with (self._spool.root / known.path).open("rb") as old, part.path.open("rb") as new:
                before = decode(old)
                changed = difference((old, before), (new, contents))
            if changed is None:
                return None
            return Change(changed, place(identity_of(before.ds)) != place(identity_of(contents.ds)))
        except (*DAMAGED, OSError, Undecodable):
            return Change(Difference.PIXELS, known.study_instance_uid != str(contents.ds.StudyInstanceUID))

    def _set_aside(self, part: Part, verdict: Verdict, calling_ae_title: str, uid: str | None) -> Accepted:
        try:
            named = checked_uid(uid)
        except InvalidUID:
            named = None
        self._quarantine.keep(part, reason=verdict, source=calling_ae_title, sop_instance_uid=named)
        return Accepted(verdict)


def _named(instance: Instance) -> dict[str, str]:
    """Return the keys of an instance for the log."""
    keys = ("calling_ae_title", "study_instance_uid", "series_instance_uid", "sop_instance_uid")
    return {key: getattr(instance, key) for key in keys}


def _holds_no_slices(sop_class_uid: str | None) -> bool:
    """Whether this is the UID of a class whose objects no volume is made of."""
    try:
        return checked_uid(sop_class_uid) not in MODALITY_OF
    except InvalidUID:
        return False


def open_storage(config: Config) -> tuple[Spool, Ledger]:
    """The spool and the ledger of a configuration, ready for use. Raises StorageUnusable, LedgerUnavailable.

    StorageUnusable also where the ledger is that of another root: its jobs would be judged by files that are not here.
    """
    make_files_private()
    spool = Spool(config.storage.root, *config.storage.watermarks_mb)
    try:
        spool.prepare()
    except StorageUnusable as error:
        raise StorageUnusable(config.fault(("storage", "root"), str(error))) from error
    ledger = Ledger(config.ledger_url)
    identity, place = spool.identity(), f"{socket.gethostname()}:{spool.root}"
    refuse_other_root(ledger.database, identity=identity, place=place)
    ledger.migrate()
    belong(ledger.database, identity=identity, place=place)
    return spool, ledger


class Undecodable(DaemonError):
    """The bytes hold no whole DICOM data set."""


def _read(path: Path) -> Contents:
    """What a file that came holds. Raises Undecodable, or StorageUnusable where the disk does not give it back."""
    try:
        with path.open("rb") as file:
            return decode(file)
    except OSError as error:
        raise StorageUnusable(f"cannot read: {error.strerror}") from error


def decode(file: BinaryIO) -> Contents:
    """What a file holds, if it is whole. Raises Undecodable for anything broken, cut short or empty.

    OSError goes through when the disk failed.
    """
    try:
        contents = read_contents(file, longest=LONGEST_AT_ONCE)
        for keyword in IDENTIFYING:  # values are decoded when first asked for: a damaged one shows here, not later
            contents.ds.get(keyword)
        if contents.is_deflated:
            check_inflated(file, contents)
    except (*DAMAGED, OSError) as error:
        if is_of_the_disk(error):
            raise
        raise Undecodable("no DICOM data set") from error
    ds = contents.ds
    if ds.preamble is None or not len(ds) or "TransferSyntaxUID" not in ds.file_meta:
        raise Undecodable("an empty data set, or no transfer syntax")
    if contents.is_cut:
        raise Undecodable("the data set is cut short")
    return contents


def _described(contents: Contents) -> ImageHeader | None:
    """What the instance says of its images; None where that cannot be said, and is for those who read it."""
    if not is_described(contents):
        return None
    try:
        return image_header(contents)
    except DAMAGED:
        return None
