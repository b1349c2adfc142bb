"""`porta study`: what has become of a study, from the first image to the last confirmation, and what to do."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from daemon.administration.absences import LATELY_S, Absence, set_aside
from daemon.administration.conditions import progress_of
from daemon.administration.fates import Case, of_study, stages_of
from daemon.administration.moments import for_so_long, in_zone
from daemon.administration.opened import open_ledger, running_service
from daemon.administration.records import iso, job_json
from daemon.completeness import candidate
from daemon.configuration.config import Config
from daemon.errors import BadRequest, FileDamaged
from daemon.jobs import OUT, WORKABLE, Job
from daemon.ledger.desk import Desk
from daemon.ledger.searches import JobFilter
from daemon.routing import mismatch
from daemon.storage.spool import Spool
from daemon.terminal import Say, say, warn
from dicom_io.errors import InvalidUID, NotDicom, PeerError
from dicom_io.files.uids import checked_uid
from dicom_io.network.scu import Remote
from dicom_io.network.studies import HeldSeries, Key, find_series, find_studies


@dataclass
class Enquiry:
    """One question about a study, with what it is answered from."""

    config: Config
    desk: Desk
    spool: Spool
    now: float
    warn: Say = warn
    asked: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    """Peers that could not be asked."""
    _queue: list[int] = field(init=False)
    _job_s: float | None = field(init=False)

    def __post_init__(self) -> None:
        self._queue, self._job_s = self.desk.queue(now=self.now), self.desk.seconds_a_job()

    def cases(self, study_instance_uid: str, series_instance_uid: str | None = None) -> list[Case]:
        """The case of each series of a study, or of one of them, in the order in which they came."""
        jobs = self.desk.jobs(JobFilter(study_instance_uid=study_instance_uid, only_last=True))
        deliveries, histories = self.desk.deliveries(jobs), self.desk.histories(jobs)
        arrivals = {item.series_instance_uid: item for item in self.desk.arrivals(study_instance_uid)}
        answered = next(
            (job.series_instance_uid for job in jobs if job.state in (*OUT, *WORKABLE) and job.chosen), None
        )
        return [
            Case(
                job=job,
                arrival=arrivals[job.series_instance_uid],
                deliveries=deliveries[job.id],
                history=histories[job.id],
                now=self.now,
                ahead=self._queue.index(job.id) if job.id in self._queue else None,
                job_s=self._job_s,
                workers=len(self.config.engine.worker_devices),
                mismatches=self._mismatches(job),
                answered_by=answered if answered != job.series_instance_uid else None,
                quiet_s=self.config.series.quiet_s,
                percent=progress_of(self.spool, job),
            )
            for job in reversed(jobs)
            if series_instance_uid in (None, job.series_instance_uid)
        ]

    def _mismatches(self, job: Job) -> dict[str, str] | None:
        """Why each rule of today before the one that matches does not; None where the images cannot be read."""
        series = None
        with suppress(FileDamaged, NotDicom, OSError):
            series = candidate(self.spool, self.desk.ledger, job)
        if series is None:
            return None
        found = {}
        for rule in self.config.rules:
            wrong = mismatch(rule, series)
            if wrong is None:
                break
            found[rule.name] = wrong
        return found

    def absence(self, uid: str | None, peer: str | None) -> Absence:
        """What is known of a study or series of which nothing is here; `peer` is said to have it."""
        held: list[HeldSeries] = []
        if uid and peer:
            with suppress(PeerError):
                held = find_series(self.remote(peer), uid, **self._asking)
        refusals = self.desk.refusals(since=self.now - LATELY_S)
        running = running_service(self.config)
        return Absence(
            set_aside=set_aside(self.spool, uid) if uid else [],
            refusals=refusals,
            at=peer if held else None,
            held=held,
            asked=self.asked,
            unasked=self.unasked,
            is_current=running is None or running.routing == self.config.routing_digest,
        )

    def found_at(self, value: str) -> Iterator[tuple[str, str]]:
        """The studies that archives have under a UID, an accession number or a PatientID, each with the peer's name.

        The value is asked for, and neither kept nor logged. What cannot be asked is said on stderr, by name.
        """
        keys: list[Key] = ["AccessionNumber", "PatientID"]
        keys = ["StudyInstanceUID", *keys] if is_uid(value) else keys
        targets = {item.peer for item in self.config.destinations}
        for peer in self.config.peers:
            if not (peer.query or peer.name in targets):
                continue
            if peer.port is None:
                self._could_not_ask(peer.name, "it is reached by DICOMweb alone")
                continue
            try:
                for key in keys:
                    studies = find_studies(self.remote(peer.name), key, value, **self._asking)
                    if studies:
                        yield from ((uid, peer.name) for uid in studies)
                        return
                self.asked.append(peer.name)
            except PeerError as error:
                self._could_not_ask(peer.name, error)

    def _could_not_ask(self, name: str, why: object) -> None:
        self.unasked.append(name)
        self.warn(f"porta: {name} could not be asked: {why}")

    def remote(self, name: str) -> Remote:
        """The peer as it is asked."""
        peer = self.config.peer(name)
        return Remote(peer.ae_title, str(peer.host), int(peer.port or 0), self.config.tls_with(peer))

    @property
    def _asking(self) -> dict[str, Any]:
        return {"calling_ae_title": self.config.dicom.ae_title, "timeout_s": 10.0}


def is_uid(value: str) -> bool:
    """True for what may be a UID: a number alone is an accession number."""
    try:
        return "." in checked_uid(value)
    except InvalidUID:
        return False


def print_study(config: Config, value: str, *, as_json: bool, now: float | None = None) -> bool:
    """Print what has become of a study, as `answers` tells it. False where nothing of it is here."""
    found = answers(config, value, now=now)
    if as_json:
        print(json.dumps([{key: item for key, item in answer.items() if key != "lines"} for answer in found], indent=2))
    else:
        for answer in found:
            for line in answer["lines"]:
                say(line)
    return any(answer["series"] for answer in found)


def answers(config: Config, value: str, *, now: float | None = None, warn: Say = warn) -> list[dict[str, Any]]:
    """Say what has become of a study, by its UID, that of a series, an accession number or a PatientID.

    `lines` of an answer are for people, the rest is for scripts; peers that could not be asked are told to `warn`.
    Raises BadRequest for a pattern, StorageUnusable, LedgerUnavailable.
    """
    value = value.strip()
    if not value or set(value) & set("*?\\"):
        raise BadRequest("a study is asked for by a whole UID, accession number or PatientID, without * ? or \\")
    enquiry = Enquiry(config, Desk(open_ledger(config)), Spool(config.storage.root), now or time.time(), warn)
    study = enquiry.desk.study_of(value) if is_uid(value) else None
    if study is not None:
        return [_answer(enquiry, study, value if value != study else None, None)]
    held = [_answer(enquiry, uid, None, peer) for uid, peer in enquiry.found_at(value)]
    return held or [_absent(enquiry, value if is_uid(value) else None, None)]


def _answer(enquiry: Enquiry, study: str, series: str | None, peer: str | None) -> dict[str, Any]:
    cases = enquiry.cases(study, series)
    if not cases:
        return _absent(enquiry, study, peer)
    case = of_study(cases)
    lines = [f"study {study}"]
    for item in cases:
        lines += _lines(item)
    aside = set_aside(enquiry.spool, study)
    if aside:
        lines.append(f"  in quarantine: {sum(entry.count for entry in aside)} images: `porta quarantine` lists them")
    return {
        "study_instance_uid": study,
        "fate": case.fate,
        "sentence": case.sentence,
        "in_quarantine": sum(entry.count for entry in aside),
        "series": [_as_json(item) for item in cases],
        "lines": [*lines, case.sentence],
    }


def _absent(enquiry: Enquiry, study: str | None, peer: str | None) -> dict[str, Any]:
    absence = enquiry.absence(study, peer)
    sentence = absence.sentence(enquiry.config)
    return {
        "study_instance_uid": study,
        "fate": absence.fate,
        "sentence": sentence,
        "in_quarantine": sum(entry.count for entry in absence.set_aside),
        "series": [],
        "lines": [f"study {study}" if study else "no study", sentence],
    }


def _lines(case: Case) -> list[str]:
    """What is told of a series."""
    job, arrival = case.job, case.arrival
    revision = f", revision {job.revision}" if job.revision > 1 else ""
    lines = [
        f"series {job.series_instance_uid}",
        f"  received    {case.counted} from {job.calling_ae_title}, {in_zone(arrival.first_received_at)} "
        f"to {in_zone(arrival.last_received_at)}",
        f"  job         {job.id}{revision}: {job.state}" + (f" ({job.reject_reason})" if job.reject_reason else ""),
        f"  rule        {job.rule or 'none'}",
    ]
    lines += [f"    not {rule}: {why}" for rule, why in (case.mismatches or {}).items() if rule != job.rule]
    for name, ended_at, seconds in stages_of(case.history):
        lines.append(f"  {name:<11} {for_so_long(seconds)}, until {in_zone(ended_at)}")
    if case.removed_on:
        lines.append(f"  removed     by retention on {case.removed_on}")
    for item in case.deliveries:
        again = f", next at {in_zone(item.not_before)}" if item.not_before and item.not_before > case.now else ""
        tries = f", {item.attempts} attempts" if item.attempts else ""
        status = f" {item.last_status}" if item.last_status else ""
        lines.append(f"  delivery    {item.object} to {item.destination}: {item.state}{status}{tries}{again}")
    return lines


def _as_json(case: Case) -> dict[str, Any]:
    return {
        "fate": case.fate,
        "sentence": case.sentence,
        "received": case.arrival.instances,
        "expected": case.arrival.expected,
        "removed": case.arrival.removed,
        "first_received_at": iso(case.arrival.first_received_at),
        "last_received_at": iso(case.arrival.last_received_at),
        "ahead_in_queue": case.ahead,
        "job": job_json(case.job, case.deliveries, [], case.history, progress_percent=case.percent),
    }
