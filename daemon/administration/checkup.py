"""`porta check`: everything that must be right before the first study comes, and what to do where it is not."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from daemon.administration.checked import Checked, Result
from daemon.administration.conditions import halt_of
from daemon.administration.opened import running_service
from daemon.administration.peer_checks import peer_checks
from daemon.administration.rule_checks import doubts
from daemon.configuration.config import Config, Destination
from daemon.errors import LedgerUnavailable, StorageUnusable
from daemon.ledger.desk import Desk
from daemon.ledger.searches import HALTED, JobFilter
from daemon.ledger.store import Ledger
from daemon.process import refuse_taken_port
from daemon.receiver import CHECKING_AE_TITLE, would_refuse
from daemon.storage.spool import Spool
from daemon.terminal import say
from dicom_io.errors import AssociationRefused, CertificateUnusable, PeerError
from dicom_io.expiry import WARNED_DAYS, days_left
from dicom_io.network import scu

RECOMMENDED_MB = 4096
"""Service and worker hold up to 3.2 GB for 300 slices of 512 x 512 (docs/benchmarks.md)."""

OTHER_USER = "run this as the service's user"

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
    service, running = None, False
    with suppress(StorageUnusable):  # which the root's line says
        service, running = running_service(config), spool.running() is not None
    yield from _ledger(config)
    yield (root := _root(spool))
    if root.result == Result.OK:
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
        yield from peer_checks(config, peer)
    if storing is not None:
        for destination in config.destinations:
            yield from storing(config, destination)


def _ledger(config: Config) -> Iterator[Checked]:
    path = Path(config.ledger_url.removeprefix("sqlite:///"))
    where = str(path) if config.ledger_url.startswith("sqlite:///") else "the database of [ledger] url"
    try:
        if where == str(path) and not path.exists():
            yield Checked("ledger", Result.OK, f"{where} is not there yet, and is made by the first start")
            return
        ledger = Ledger(config.ledger_url)
        there, ours = ledger.database.versions()
    except OSError as error:
        yield Checked("ledger", Result.FAILED, f"{where}: {error.strerror}", OTHER_USER)
    except LedgerUnavailable as error:
        remedy = "is it running, and are host, user and password right"
        yield Checked("ledger", Result.FAILED, f"{where}: {error}", remedy)
    else:
        yield _of_version(where, there, ours)
        if there == ours:
            yield _halted(Desk(ledger))
        ledger.close()


def _of_version(where: str, there: str | None, ours: str) -> Checked:
    if there is None:
        return Checked("ledger", Result.OK, f"{where} answers; its tables are made by the first start")
    if there > ours:
        remedy = "run that version, or restore a backup"
        return Checked("ledger", Result.FAILED, f"{where} is of a later version of Porta ({there}, not {ours})", remedy)
    state = "of this version" if there == ours else f"of version {there}, and brought to {ours} by the next start"
    return Checked("ledger", Result.OK, f"{where} answers, its tables are {state}")


def _halted(desk: Desk) -> Checked:
    """What stands still until a person has it go on."""
    jobs = desk.jobs(JobFilter(states=(HALTED,)))
    deliveries = desk.deliveries(jobs)
    codes = Counter(str(halt_of(job, deliveries[job.id])) for job in jobs)
    if not jobs:
        return Checked("jobs", Result.OK, "none stands still")
    said = ", ".join(f"{count} {code}" for code, count in codes.most_common())
    stand = "1 job stands" if len(jobs) == 1 else f"{len(jobs)} jobs stand"
    remedy = "`porta jobs --state HALTED` lists them, `porta study` says of each what to do"
    return Checked("jobs", Result.WARNING, f"{stand} still: {said}", remedy)


def _root(spool: Spool) -> Checked:
    root, user = spool.root, f"user {os.geteuid()}"
    try:
        there = _nearest(root)
        if there == root:
            spool.refuse_other_user()
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK) or os.statvfs(there).f_blocks == 0:
            remedy = "run as another user, change its owner, or choose another [storage] root"
            return Checked("storage", Result.FAILED, f"{there} is no folder that {user} may write in", remedy)
    except StorageUnusable as error:
        return Checked("storage", Result.FAILED, str(error))
    except OSError as error:
        return Checked("storage", Result.FAILED, f"{root}: {error.strerror}, for {user}", OTHER_USER)
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
        refuse_taken_port(dicom.host, dicom.port)
    except OSError as error:
        if running:
            return _own_answer(config, where)
        said = f"cannot listen on {where}: {error.strerror}"
        return Checked("port", Result.FAILED, said, "end what listens there, or change [dicom] host or port")
    if running:
        return Checked(
            "port", Result.FAILED, f"Porta runs, and nothing listens on {where}", "restart it: the file was changed"
        )
    return Checked("port", Result.OK, f"{where} is free")


def _own_answer(config: Config, where: str) -> Checked:
    """Have the running service answer a C-ECHO, by the title of a peer that may call from here; else have it refuse."""
    ours, host = config.dicom.ae_title, config.dicom.host
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    peers = (peer.ae_title for peer in config.accepting_peers)
    title = next((title for title in peers if would_refuse(config, title, ours, here) is None), None)
    try:
        remote = scu.Remote(ours, here, config.dicom.port)
        scu.echo(remote, calling_ae_title=title or CHECKING_AE_TITLE, timeout_s=config.dicom.acse_timeout_s)
    except AssociationRefused as error:
        if title:
            remedy = "`porta reload`; or does another program listen there?"
            return Checked("port", Result.FAILED, f"Porta runs, and at {where} {title} is refused: {error}", remedy)
    except PeerError as error:
        remedy = "does another program listen there? Else look into Porta's log, and restart it"
        return Checked("port", Result.FAILED, f"Porta runs, and does not answer at {where}: {error}", remedy)
    answered = f"answered C-ECHO of {title}" if title else "refused us, as no peer calls from here"
    return Checked("port", Result.OK, f"{where} is Porta's, which runs and {answered}")


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


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
