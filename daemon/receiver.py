"""C-STORE in: who may send, what is answered, and which series have no association left that could bring more."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import cast

from daemon.allowance import Allowance
from daemon.configuration.config import Config
from daemon.errors import LedgerUnavailable
from daemon.intake import QUARANTINED, STATUS, Accepted, Intake, Verdict
from daemon.ledger.commitments import Commitments, take_report
from daemon.ledger.rows import Refusal, RefusalKind
from daemon.ledger.store import Ledger
from daemon.log import get_logger
from daemon.storage.incoming import Part
from daemon.storage.quarantine import HARMLESS
from dicom_io.errors import CertificateUnusable
from dicom_io.network import scp
from dicom_io.network.commitment import Report
from dicom_io.network.endings import Ending
from dicom_io.tls import LiveContext

CHECKING_AE_TITLE = "PORTA-CHECK"
"""The title by which `porta check` has the service refuse it: of no study, and not remembered for `porta study`."""

SUCCESS, NOT_TAKEN = 0x0000, 0xC002
MOST_PENDING = 200
MOST_BROKEN_OFF = 10_000

log = get_logger()


@dataclass
class _Brought:
    """What an association that is open has brought so far; associations are numbered as they begin to."""

    number: int
    series: dict[str, set[str]] = field(default_factory=dict)
    """The SOPInstanceUIDs of each series, whether they were here already or not."""
    more: set[str] = field(default_factory=set)
    """The series of which any of it was not here yet."""
    refused: set[str] = field(default_factory=set)
    """The SOPInstanceUIDs of what was answered with a failure, and did not come again."""


class Receiver:
    """The Storage SCP of the service, on top of intake and ledger."""

    def __init__(self, config: Config, intake: Intake, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._intake = intake
        self._ledger = ledger
        self._clock = clock
        self._allowance = Allowance(config, ledger, clock)
        self._lock = threading.Lock()
        self._open: dict[str, _Brought] = {}
        self._begun = 0
        """How many associations have brought anything."""
        self._broken_off: dict[str, int] = {}
        """The last series of which an association broke off, and how many had begun by then: whether what came since is
        all of the rest no release tells."""
        self._server: scp.Server | None = None
        self._secure_server: scp.Server | None = None
        """That of the port which speaks TLS."""
        self._retired: list[scp.Server] = []
        """Those of ports that are given up, whose associations go on."""
        self._unheld: list[tuple[list[str], str]] = []
        """What broke off while the ledger was away: the series, and from whom."""
        self._refused: dict[tuple[str, ...], Refusal] = {}
        """What was refused since the ledger was told."""

    def start(self) -> int:
        """Listen, and return the plain port. Raises CertificateUnusable, OSError where an address is not to be had."""
        tls = self._config.dicom.tls
        secure = None if tls is None else LiveContext(tls.certificates, self._certificate_failed)
        self._server = self._listen(self._config)
        if tls is not None:
            self._secure_server = self._listen(self._config, port=tls.port, secure=secure)
        return self._server.port

    def _certificate_failed(self, error: CertificateUnusable) -> None:
        log.error("certificate.unusable", error=error)

    def _listen(self, config: Config, *, port: int | None = None, secure: LiveContext | None = None) -> scp.Server:
        dicom = config.dicom
        return scp.start(
            ae_title=dicom.ae_title,
            host=dicom.host,
            port=port or dicom.port,
            callers=_callers(config, over_tls=secure is not None),
            secure=secure,
            store=self._store,
            ended=self._ended,
            refused=self._association_refused,
            contexts_refused=self._contexts_refused,
            sinks=lambda: self._intake.begin(),
            reported=self._reported,
            maximum_associations=dicom.maximum_associations,
            maximum_pdu=dicom.maximum_pdu,
            maximum_instance=dicom.maximum_instance_mb << 20,
            network_timeout_s=dicom.network_timeout_s,
            acse_timeout_s=dicom.acse_timeout_s,
        )

    def reload(self, config: Config) -> None:
        """Take up AE title, port and accepting peers of another configuration; associations that are open go on.

        Another port is listened on before the one until now is given up. Raises OSError where it cannot be: then
        nothing has changed.
        """
        if self._server is None:
            raise ValueError("nothing is listened on")
        if config.dicom.port != self._config.dicom.port:
            server = self._listen(config)
            self._server.retire()
            self._retired.append(self._server)
            self._server = server
        self._server.admit(_callers(config, over_tls=False), ae_title=config.dicom.ae_title)
        if self._secure_server is not None:
            self._secure_server.admit(_callers(config, over_tls=True), ae_title=config.dicom.ae_title)
        self._config = self._allowance.config = config

    def stop(self, timeout_s: float) -> None:
        """Stop listening; an instance that is being stored is stored to its end."""
        stopping = [threading.Thread(target=server.shutdown, args=(timeout_s,)) for server in self._servers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    @property
    def _servers(self) -> list[scp.Server]:
        return [*self._retired, *filter(None, (self._server, self._secure_server))]

    def _store(self, received: scp.Received) -> int:
        part = cast(Part, received.sink)
        try:
            accepted = Accepted(Verdict.NO_ROOM)
            if self._is_allowed(received.calling_ae_title, part):
                accepted = self._intake.take(
                    part,
                    calling_ae_title=received.calling_ae_title,
                    sop_instance_uid=received.sop_instance_uid,
                    sop_class_uid=received.sop_class_uid,
                )
        except Exception as error:  # noqa: BLE001  whatever it is, the sender gets an answer and the log a line
            log.error("instance.failed", error=error, calling_ae_title=received.calling_ae_title)
            self._note(received, None, NOT_TAKEN)
            return NOT_TAKEN
        if accepted.verdict in HARMLESS:
            log.info("instance.set_aside", code=accepted.verdict, calling_ae_title=received.calling_ae_title)
        elif accepted.verdict in QUARANTINED:
            log.error("instance.quarantined", code=accepted.verdict, calling_ae_title=received.calling_ae_title)
        status = STATUS[accepted.verdict]
        self._note(received, accepted, status)
        return status

    def _is_allowed(self, calling_ae_title: str, part: Part) -> bool:
        """Whether a peer may store this much more today; False where nobody can say. What is not kept is forgotten."""
        with suppress(LedgerUnavailable):
            if self._allowance.takes(calling_ae_title, part.bytes):
                return True
        part.discard()
        return False

    def _note(self, received: scp.Received, accepted: Accepted | None, status: int) -> None:
        """Remember what an association brought: its end says what that means."""
        with self._lock:
            if (brought := self._open.get(received.association_id)) is None:
                self._begun += 1
                brought = self._open[received.association_id] = _Brought(self._begun)
            if status != SUCCESS:
                brought.refused.add(received.sop_instance_uid)
                return
            brought.refused.discard(received.sop_instance_uid)
            if accepted and accepted.series_instance_uid:
                brought.series.setdefault(accepted.series_instance_uid, set()).add(received.sop_instance_uid)
                if accepted.verdict != Verdict.ALREADY_STORED:
                    brought.more.add(accepted.series_instance_uid)

    def _reported(self, calling_ae_title: str, report: Report) -> int:
        """Write down what a destination says of our request for storage commitment; delivery acts on it."""
        peers = {peer.name for peer in self._config.peers if peer.ae_title == calling_ae_title}
        return take_report(Commitments(self._ledger), peers, self._clock, report)

    def _ended(self, ended: scp.Ended) -> None:
        if ended.ending != Ending.RELEASED:
            why = log.bind(error=ended.error) if ended.error else log
            why.warning(
                "association.ended",
                reason=ended.ending,
                calling_ae_title=ended.calling_ae_title,
                called_ae_title=ended.called_ae_title,
                host=ended.calling_host,
            )
            if ended.broke_off:
                self._count(RefusalKind.BROKEN_OFF, ended.ending, ended)
        with self._lock:
            brought = self._open.pop(ended.association_id or "", _Brought(0))
            series = set(brought.series)
            is_part = ended.broke_off or bool(brought.refused)
            resumed = {
                uid: None if uid in brought.more else len(came)
                for uid, came in brought.series.items()
                if brought.number > self._broken_off.get(uid, brought.number)
            }
            released = series.difference(*(other.series for other in self._open.values()), self._broken_off)
            if is_part:
                self._broken_off |= dict.fromkeys(series, self._begun)
                while len(self._broken_off) > MOST_BROKEN_OFF:
                    del self._broken_off[next(iter(self._broken_off))]
        try:
            if is_part:
                self._unheld.append((sorted(series), ended.calling_ae_title))
                self._hold()
                return
            if released:
                self._ledger.release_series(sorted(released), now=self._clock())
            if resumed:
                self._ledger.resume_series(resumed)
        except LedgerUnavailable as error:
            # quiet_s closes these series all the same
            log.warning("release.lost", error=error, series=len(series))

    def _hold(self) -> None:
        """Have the ledger know of all that broke off. Raises LedgerUnavailable."""
        while self._unheld:
            with suppress(IndexError):  # another thread was faster
                series, calling_ae_title = self._unheld.pop()
                try:
                    self._ledger.hold_series(series, calling_ae_title=calling_ae_title)
                except LedgerUnavailable:
                    self._unheld.append((series, calling_ae_title))
                    raise

    def _association_refused(self, refused: scp.Refused) -> None:
        log.warning(
            "association.refused",
            reason=refused.reason,
            calling_ae_title=refused.calling_ae_title,
            called_ae_title=refused.called_ae_title,
            host=refused.calling_host,
        )
        if refused.calling_ae_title.strip() != CHECKING_AE_TITLE:
            self._count(RefusalKind.ASSOCIATION, refused.reason, refused)

    def _contexts_refused(self, refused: scp.ContextsRefused) -> None:
        log.warning(
            "contexts.refused",
            calling_ae_title=refused.calling_ae_title,
            called_ae_title=refused.called_ae_title,
            host=refused.calling_host,
            contexts=refused.abstract_syntaxes,
        )
        for uid in refused.abstract_syntaxes:
            self._count(RefusalKind.CONTEXT, uid, refused)

    def _count(self, kind: RefusalKind, reason: str, who: scp.Refused | scp.ContextsRefused | scp.Ended) -> None:
        """Remember a refusal until `tell_refusals`; of the titles that strangers make up no more than MOST_PENDING."""
        now = self._clock()
        titles = _printable(who.calling_ae_title, 16), _printable(who.called_ae_title, 16)
        one = Refusal(kind, _printable(reason, 64), *titles, _printable(who.calling_host, 64), 1, now, now)
        key = one.key
        with self._lock:
            if known := self._refused.get(key):
                self._refused[key] = replace(known, count=known.count + 1, last_at=now)
            elif len(self._refused) < MOST_PENDING:
                self._refused[key] = one

    def tell_refusals(self) -> None:
        """Have the ledger know what was refused since the last time: `porta study` shows it. Raises LedgerUnavailable.

        Not at once: whoever is refused again and again costs no write each time.
        """
        self._hold()
        with self._lock:
            refused, self._refused = list(self._refused.values()), {}
        if refused:
            self._ledger.count_refusals(refused)


def _printable(text: str, most: int) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)[:most].strip()


def would_refuse(config: Config, calling_ae_title: str, called_ae_title: str, host: str) -> scp.Refusal | None:
    """Return why a caller from a host is not let in by a configuration, at either port; None where it is at one."""
    caller = calling_ae_title, called_ae_title, host
    whys = [scp.judge(_callers(config, over_tls=tls), config.dicom.ae_title, *caller) for tls in (False, True)]
    return None if None in whys else whys[1]


def _callers(config: Config, *, over_tls: bool) -> list[scp.Caller]:
    """Who may associate: accepting peers, and destinations that report on a storage commitment.

    Peers with `tls` may over TLS alone.
    """
    committing = {item.peer for item in config.destinations if item.confirm == "commitment"}
    return [
        scp.Caller(
            peer.ae_title,
            peer.host,
            peer.maximum_associations,
            may_store=peer.accept and peer.store,
            may_report=peer.name in committing,
            networks=peer.networks,
            maximum_instance=peer.maximum_instance_mb and peer.maximum_instance_mb << 20,
            bandwidth_mbit=peer.bandwidth_mbit,
        )
        for peer in config.peers
        if (peer.accept or peer.name in committing) and (over_tls or not peer.tls)
    ]
