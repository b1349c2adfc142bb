"""`porta check`: everything that must be right before the first study comes, and what to do where it is not."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from daemon.administration.opened import running_service
from daemon.administration.rule_checks import doubts
from daemon.configuration.config import Config, Destination, Peer
from daemon.delivery.statuses import (
    ADVICE,
    CLASS_NOT_ACCEPTED,
    COMMITMENT_NOT_ACCEPTED,
    FIND_NOT_ACCEPTED,
    SYNTAX_NOT_ACCEPTED,
    status_code,
)
from daemon.errors import LedgerUnavailable, StorageUnusable
from daemon.ledger.database import Database
from daemon.storage.spool import Spool
from daemon.terminal import say
from dicom_io.errors import AssociationRefused, CertificateUnusable, ContextNotAccepted, PeerError, PeerUnreachable
from dicom_io.expiry import WARNED_DAYS, days_left
from dicom_io.network.commitment import COMMITMENT
from dicom_io.network.examination import GET, NOBODY, Offer, ask, compressed, connect, examine, uncompressed
from dicom_io.network.scu import Remote
from dicom_io.web import objects
from reports.objects.kinds import SR_SOP_CLASS_UIDS, Form

LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage."""

RECOMMENDED_MB = 4096
"""Service and worker hold up to 3.2 GB for 300 slices of 512 x 512 (docs/benchmarks.md)."""


class Result(StrEnum):
    """How a check ended. A warning does not make the command fail."""

    OK = "OK"
    WARNING = "WARNING"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at: what was found, and what to do about it."""

    name: str
    result: Result
    said: str
    remedy: str | None = None


Storing = Callable[[Config, Destination], Iterator[Checked]]
"""`daemon.administration.storing.store_test_object`, which loads what writes SRs."""


def print_checks(config: Config, *, as_json: bool, storing: Storing | None = None) -> bool:
    """Look at everything, print each result at once, and the number of failures last; False where there is one.

    `storing`: see `checks`.
    """
    results = []
    for item in checks(config, storing=storing):
        results.append(item)
        if not as_json:
            mark = {Result.OK: "ok", Result.WARNING: "warning", Result.FAILED: "FAILED"}[item.result]
            say(f"{mark:<8} {item.name}: {item.said}" + (f": {item.remedy}" if item.remedy else ""))
    failed, warnings = (sum(item.result == result for item in results) for result in (Result.FAILED, Result.WARNING))
    if as_json:
        print(
            json.dumps({"failed": failed, "warnings": warnings, "checks": [asdict(item) for item in results]}, indent=2)
        )
    else:
        say(f"{failed} of {len(results)} checks failed, {_count(warnings, 'warning')}")
    return not failed


def checks(config: Config, *, storing: Storing | None = None) -> Iterator[Checked]:
    """Look at one thing after the other; with `storing` also at what becomes of an object, at each destination."""
    spool = Spool(config.storage.root)
    service = running_service(config)
    running = spool.running() is not None
    yield _ledger(config)
    yield _root(spool)
    yield _disk(config)
    yield _port(config, running=running)
    yield _memory(config)
    yield from _certificates(config)
    for said, remedy in doubts(config):
        yield Checked("configuration", Result.WARNING, said, remedy)
    if service and service.routing != config.routing_digest:
        said = "the service runs with other peers, destinations or rules than the file has now"
        yield Checked("configuration", Result.WARNING, said, "`porta reload`")
    for peer in config.peers:
        yield from _peer(config, peer)
    if storing is not None:
        for destination in config.destinations:
            yield from storing(config, destination)


def _ledger(config: Config) -> Checked:
    path = Path(config.ledger_url.removeprefix("sqlite:///"))
    where = str(path) if config.ledger_url.startswith("sqlite:///") else "the database of [ledger] url"
    if where == str(path) and not path.exists():
        return Checked("ledger", Result.OK, f"{where} is not there yet, and is made by the first start")
    database = Database(config.ledger_url)
    try:
        there, ours = database.versions()
    except LedgerUnavailable as error:
        return Checked(
            "ledger", Result.FAILED, f"{where}: {error}", "is it running, and are host, user and password right"
        )
    finally:
        database.close()
    if there is None:
        return Checked("ledger", Result.OK, f"{where} answers; its tables are made by the first start")
    if there > ours:
        remedy = "run that version, or restore a backup"
        return Checked("ledger", Result.FAILED, f"{where} is of a later version of Porta ({there}, not {ours})", remedy)
    state = "of this version" if there == ours else f"of version {there}, and brought to {ours} by the next start"
    return Checked("ledger", Result.OK, f"{where} answers, its tables are {state}")


def _root(spool: Spool) -> Checked:
    root = spool.root
    there = _nearest(root)
    try:
        if root.exists():
            spool.refuse_other_user()
    except (StorageUnusable, OSError) as error:
        said = str(error) if isinstance(error, StorageUnusable) else f"{root}: {error.strerror}"
        return Checked("storage", Result.FAILED, said)
    user = f"user {os.geteuid()}"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Checked(
            "storage",
            Result.FAILED,
            f"{there} is no folder that {user} may write in",
            "run as another user, or change its owner",
        )
    made = "can be written" if there == root else "is made by the first start"
    return Checked("storage", Result.OK, f"{root} {made}, by {user}")


def _disk(config: Config) -> Checked:
    least = config.storage.min_free_mb
    free = Spool(_nearest(config.storage.root)).free_mb()
    if free < least:
        said = f"{free} MB are free, less than min_free_mb = {least}: every image is answered with 0xA700"
        return Checked("disk", Result.FAILED, said, "free some, or choose another [storage] root")
    if free < 2 * least:
        return Checked(
            "disk", Result.WARNING, f"{free} MB are free, less than twice min_free_mb = {least}", "free some soon"
        )
    return Checked("disk", Result.OK, f"{free} MB are free, min_free_mb is {least}")


def _port(config: Config, *, running: bool) -> Checked:
    dicom = config.dicom
    where = f"{dicom.host}:{dicom.port}"
    try:
        family = socket.getaddrinfo(dicom.host, dicom.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family[0], socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(family[4])
    except OSError as error:
        if running:
            return Checked("port", Result.OK, f"{where} is Porta's, which runs")
        said = f"cannot listen on {where}: {error.strerror}"
        return Checked("port", Result.FAILED, said, "end what listens there, or change [dicom] host or port")
    if running:
        return Checked(
            "port", Result.FAILED, f"Porta runs, and nothing listens on {where}", "restart it: the file was changed"
        )
    return Checked("port", Result.OK, f"{where} is free")


def _certificates(config: Config) -> Iterator[Checked]:
    """Whether each certificate and key can be used, and for how long."""
    for name, certificates in config.certificates.items():
        title = f"certificates of {name}"
        try:
            certificates.for_server() if name == "dicom.tls" else certificates.for_client()
            left = days_left(certificates, time.time())
        except CertificateUnusable as error:
            yield Checked(title, Result.FAILED, str(error), "are the files there, readable, and do they fit")
            continue
        if left is None or left >= WARNED_DAYS:
            until = "" if left is None else f", Porta's own for {left} days"
            yield Checked(title, Result.OK, f"can be used{until}")
        else:
            said = f"Porta's own ends in {left} days" if left >= 0 else "Porta's own has ended"
            yield Checked(title, Result.WARNING if left >= 0 else Result.FAILED, said, "renew it; no restart is needed")


def _memory(config: Config) -> Checked:
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    engine = config.engine
    workers = len(engine.worker_devices)
    said = f"device {', '.join(dict.fromkeys(engine.worker_devices))}, {memory_mb} MB"
    may = min(memory_mb // workers, engine.memory_mb or memory_mb)
    if may < memory_mb:
        said += f", of which {'the worker' if workers == 1 else f'each of {workers} workers'} may use {may}"
    if may < RECOMMENDED_MB:
        return Checked("memory", Result.WARNING, said, f"{RECOMMENDED_MB} MB are recommended for 300 slices")
    return Checked("memory", Result.OK, said)


def _peer(config: Config, peer: Peer) -> Iterator[Checked]:
    name = f"peer {peer.name}"
    if peer.url is not None:
        yield _web_service(config, peer)
        if peer.host is None:
            return
    if peer.host is None or peer.port is None:
        yield Checked(name, Result.OK, "only sends, and is not asked")
        return
    remote = Remote(peer.ae_title, peer.host, peer.port, config.tls_with(peer))
    destination = next((item for item in config.destinations if item.peer == peer.name), None)
    offers = _offers(destination)
    asking: dict[str, Any] = {"calling_ae_title": config.dicom.ae_title, "timeout_s": config.dicom.acse_timeout_s}
    try:
        connect(remote, timeout_s=config.dicom.acse_timeout_s)
        echoed = examine(remote, list(offers.values()) or [uncompressed(CTImageStorage)], **asking)
    except PeerError as error:
        yield Checked(name, Result.FAILED, str(error), remedy(error, config, peer))
        return
    yield Checked(name, Result.OK, f"{remote} answered C-ECHO in {echoed.seconds * 1000:.0f} ms")
    for names, offer in offers.items():
        taken = echoed.accepted[offer]
        if taken:
            yield Checked(name, Result.OK, f"takes {names} ({offer.name}; {', '.join(taken)})")
        else:
            yield Checked(name, Result.FAILED, f"does not take {names} ({offer.name})", ADVICE[_refusal(offer)])
    if uses := _asked_for(peer, destination):
        try:
            ask(remote, **asking)
        except PeerError as error:
            yield Checked(
                name, Result.FAILED, f"does not answer C-FIND, for {uses}: {error}", ADVICE[FIND_NOT_ACCEPTED]
            )
        else:
            yield Checked(name, Result.OK, f"answers C-FIND, for {uses}")


def _web_service(config: Config, peer: Peer) -> Checked:
    """Ask a DICOMweb service for an instance that there is not: whoever answers knows us, and can be asked."""
    name, started = f"peer {peer.name}", time.monotonic()
    nobody = dict.fromkeys(("study_instance_uid", "series_instance_uid", "sop_instance_uid"), NOBODY)
    try:
        objects.holds(peer.web_service, timeout_s=config.dicom.acse_timeout_s, **nobody)
    except PeerError as error:
        return Checked(name, Result.FAILED, f"does not answer QIDO-RS: {error}", remedy(error, config, peer))
    ms = (time.monotonic() - started) * 1000
    return Checked(name, Result.OK, f"{peer.url} answered QIDO-RS in {ms:.0f} ms")


def _offers(destination: Destination | None) -> dict[str, Offer]:
    """What a destination is to take, by the names of the objects."""
    if destination is None:
        return {}
    by_offer: dict[Offer, list[str]] = {}
    for form in sorted(destination.profile.forms, key=lambda form: form.name):
        by_offer.setdefault(offer_of(form), []).append(form.name)
    offers = {", ".join(names): offer for offer, names in by_offer.items()}
    if destination.priors:
        offers["C-GET of earlier results"] = uncompressed(GET)
    if destination.confirm == "commitment":
        offers["requests for storage commitment"] = uncompressed(COMMITMENT)
    return offers


def offer_of(form: Form) -> Offer:
    """The SOP class and the transfer syntaxes of the objects of a form."""
    if form.sr_class:
        return uncompressed(SR_SOP_CLASS_UIDS[form.sr_class])
    if form.kind == "probability":
        return compressed(SegmentationStorage)
    if form.kind == "seg":
        return compressed(LABELMAP) if form.seg_type == "labelmap" else uncompressed(SegmentationStorage)
    return uncompressed(EncapsulatedPDFStorage if form.kind == "pdf" else SecondaryCaptureImageStorage)


def _refusal(offer: Offer) -> str:
    """The code of why an offer is not taken."""
    if offer.sop_class_uid == COMMITMENT:
        return COMMITMENT_NOT_ACCEPTED
    return SYNTAX_NOT_ACCEPTED if offer.syntaxes[0] == compressed(LABELMAP).syntaxes[0] else CLASS_NOT_ACCEPTED


def _asked_for(peer: Peer, destination: Destination | None) -> str:
    uses = ["query"] if peer.query else []
    if destination and destination.confirm == "query":
        uses.append("confirm")
    if destination and destination.priors:
        uses.append("priors")
    return ", ".join(uses)


def remedy(error: PeerError, config: Config, peer: Peer) -> str:
    """Say what to do about a peer that did not do what it was asked."""
    ours = f"{config.dicom.ae_title}, {_address(config)}, {config.dicom.port}"
    if peer.url is not None:
        return ADVICE.get(status_code(error), "look into its own log")
    if isinstance(error, AssociationRefused):
        if "called AE title" in str(error):
            return f'here: is ae_title = "{peer.ae_title}" of [[peer]] {peer.name} right? There: is that its own title?'
        return f"there: enter {ours} as a node that may associate, store and query"
    if isinstance(error, ContextNotAccepted):
        return ADVICE[CLASS_NOT_ACCEPTED]
    if isinstance(error, PeerUnreachable):
        return "are host and port right, is it running, is there a firewall?"
    return "look into its own log"


def _address(config: Config) -> str:
    """The address at which others find us, as far as it is known here."""
    host = config.dicom.host
    return socket.gethostname() if host in ("0.0.0.0", "::") else host


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
