"""`porta study`: each fate that a study may have, with its sentence; what was received, and by which way it went."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from daemon.administration import enquiry
from daemon.administration.absences import Absence, refusal_sentence
from daemon.administration.enquiry import is_uid, print_study
from daemon.administration.fates import HALT_ADVICE, SENTENCES, Fate, stages_of
from daemon.choice import Choice, Chosen
from daemon.commands.status import print_jobs
from daemon.configuration.config import Config, Peer, Retention, Rule
from daemon.errors import BadRequest
from daemon.intake import Intake
from daemon.jobs import DeliveryState, Event, HaltCode, Job
from daemon.ledger.desk import Desk
from daemon.ledger.rows import Happened, Refusal, RefusalKind
from daemon.ledger.searches import JobFilter, checked_states
from daemon.ledger.store import Ledger, Outgoing
from daemon.retention import removal
from daemon.storage.note import Note
from daemon.storage.quarantine import Entry, Quarantine
from daemon.storage.spool import Spool, progress_file
from dicom_io.errors import PeerUnreachable, RejectReason
from dicom_io.files.uids import derive_uid
from dicom_io.network.scp import Refusal as Why
from dicom_io.network.studies import HeldSeries
from reports.objects.kinds import FORMS

NOW = time.time()


@dataclass
class Office:
    """A ledger in which studies have come to all kinds of ends."""

    config: Config
    ledger: Ledger
    spool: Spool
    make_ct: Callable[..., bytes]
    capsys: pytest.CaptureFixture[str]
    at: float = NOW - 3600
    archive: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def receive(self, series: int, *, study: int | None = None, images: int = 2) -> Job:
        def of_study(ds: Any) -> None:
            ds.StudyInstanceUID = derive_uid("study", study or series)

        intake = Intake(self.spool, self.ledger, lambda: self.at)
        for index in range(images):
            intake.take(self.make_ct(series, index, change=of_study), calling_ae_title="CT1")
        return self.ledger.jobs_of_series(derive_uid("series", series))[-1]

    def set_aside(self, content: bytes, *, reason: str) -> Entry:
        with self.spool.part() as part:
            part.write(content)
            part.finish()
            return Quarantine(self.spool).keep(part, reason=reason, source="CT1")

    def close(self, series: int, rule: str | None = "liver-ct", **changes: Any) -> Job:
        job = self.receive(series, **changes)
        due = next(
            item
            for item in self.ledger.due_series(now=self.at + 100, quiet_s=20, released_quiet_s=5)
            if item.job_id == job.id
        )
        reason = None if rule else RejectReason.NO_RULE
        self.ledger.close_series(due, now=self.at + 20, rule=rule, reject_reason=reason)
        return self.ledger.job(job.id)

    def choose(self, job: Job) -> Job:
        assert self.ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=self.at + 21)
        return self.ledger.job(job.id)

    def work(self, event: Event, *, confirm: str = "none", at: float = 30, is_kept: bool = False) -> Job:
        """Let a worker do a stage of the next job in the queue."""
        job = self.ledger.claim_job("host/1", now=self.at + at)
        assert job is not None
        outgoing = [
            Outgoing(
                "archive",
                FORMS[name],
                derive_uid(job.id, name),
                "1.2",
                f"outbox/{name}.dcm",
                confirm,
                is_kept=is_kept,
            )
            for name in ("seg", "sr")
            if event == Event.REPORTED
        ]
        assert self.ledger.finish_stage(job, event, now=self.at + at + 5, outgoing=outgoing)
        return self.ledger.job(job.id)

    def report(self, series: int, *, confirm: str = "none", is_kept: bool = False) -> Job:
        self.choose(self.close(series))
        self.work(Event.SEGMENTED)
        return self.work(Event.REPORTED, confirm=confirm, at=40, is_kept=is_kept)

    def deliver(self, job: Job, *states: DeliveryState) -> None:
        for state in states:
            for item in self.ledger.deliveries_of(job.id):
                self.ledger.advance_delivery(item, state, now=self.at + 60, status="0x0000")

    def ask(self, value: str) -> tuple[bool, list[str]]:
        self.capsys.readouterr()
        found = print_study(self.config, value, as_json=False, now=NOW)
        return found, self.capsys.readouterr().out.splitlines()

    def asked(self, value: str) -> dict[str, Any]:
        self.capsys.readouterr()
        print_study(self.config, value, as_json=True, now=NOW)
        (answer,) = json.loads(self.capsys.readouterr().out)
        return dict(answer)


@pytest.fixture
def office(
    make_config: Callable[..., Config],
    spool: Spool,
    ledger: Ledger,
    make_ct: Callable[..., bytes],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    read_log: Any,
) -> Iterator[Office]:
    """With an archive that answers C-FIND by what the test says; a real one is asked in tests/acceptance."""
    usual = make_config()
    mr = Rule(name="liver-mr", match={"Modality": ("MR",)}, model="resnet50", destinations=("archive",))
    config = make_config(rule=(mr, *usual.rules), ledger={"url": str(ledger.database._engine.url)})
    office = Office(config, ledger, spool, make_ct, capsys)

    def find_studies(remote: Any, key: str, value: str, **_: Any) -> list[str]:
        assert remote.ae_title == "ARCHIVE"
        return office.archive.get((key, value), [])

    def find_series(remote: Any, study: str, **_: Any) -> list[HeldSeries]:
        return [HeldSeries(study, "1.2.3", "CT", 312)]

    monkeypatch.setattr(enquiry, "find_studies", find_studies)
    monkeypatch.setattr(enquiry, "find_series", find_series)
    yield office
    assert read_log.events is not None


def refused(office: Office, **changes: Any) -> Refusal:
    values = {
        "kind": RefusalKind.ASSOCIATION,
        "reason": str(Why.CALLING_AE_TITLE),
        "calling_ae_title": "CT9",
        "called_ae_title": "PORTA",
        "host": "192.0.2.9",
        "count": 3,
        "first_at": NOW - 700,
        "last_at": NOW - 600,
    }
    refusal = Refusal(**values | changes)
    office.ledger.count_refusals([refusal])
    return refusal


def not_sent(office: Office) -> None:
    pass


def is_refused(office: Office) -> None:
    refused(office)


def receiving(office: Office) -> None:
    office.at = NOW - 3
    office.receive(1)
    office.ledger.expect({derive_uid("series", 1): 312}, now=NOW)


def no_rule(office: Office) -> None:
    office.config = office.config.model_copy(update={"rules": office.config.rules[:1]})
    office.close(1, None)


def superseded(office: Office) -> None:
    better, worse = office.close(2, study=1), office.close(1)
    choice = Choice(chosen=(Chosen(better),), superseded=(worse,))
    assert office.ledger.choose(choice, [better, worse], now=office.at + 21)


def queued(office: Office) -> None:
    office.deliver(office.report(7), DeliveryState.STORED)
    for series in (8, 9, 1):
        office.choose(office.close(series))


def segmenting(office: Office) -> None:
    office.at = NOW - 42
    office.choose(office.close(1))
    assert office.ledger.claim_job("host/1", now=NOW - 12)
    work = office.spool.work(1)
    work.mkdir()
    progress_file(work).write_text("60")


def reporting(office: Office) -> None:
    office.choose(office.close(1))
    office.work(Event.SEGMENTED)
    assert office.ledger.claim_job("host/1", now=office.at + 40)


def halted(office: Office) -> None:
    office.choose(office.close(1))
    job = office.ledger.claim_job("host/1", now=office.at + 30)
    assert job is not None
    office.ledger.halt(job, HaltCode.MODEL_UNUSABLE, now=office.at + 31)


def delivered(office: Office) -> None:
    office.deliver(office.report(1), DeliveryState.STORED)


def confirmed(office: Office) -> None:
    office.deliver(office.report(1, confirm="query"), DeliveryState.STORED, DeliveryState.CONFIRMED)


def kept(office: Office) -> None:
    office.report(1, is_kept=True)


def sending(office: Office) -> None:
    office.report(1)
    office.ledger.wait_for_destination("archive", now=NOW, until=NOW + 600, status="UNREACHABLE")


def waiting(office: Office) -> None:
    office.close(1)


def not_processed(office: Office) -> None:
    office.choose(office.close(1))
    job = office.ledger.claim_job("host/1", now=office.at + 30)
    assert job is not None
    office.ledger.refuse(job, RejectReason.TOO_SHORT, now=office.at + 31)
    job = office.ledger.job(job.id)
    assert office.ledger.choose(Choice(refused=(job,)), [job], now=office.at + 32)


def cancelled(office: Office) -> None:
    office.ledger.cancel(office.close(1).id, now=office.at + 30)


NOT_THERE = " archive was asked by C-FIND, and no such study is there."
STUDY, SERIES = derive_uid("study", 1), derive_uid("series", 1)
FATES: list[tuple[Callable[[Office], None], Fate, str, str]] = [
    (
        not_sent,
        Fate.NOT_SENT,
        STUDY,
        f"Nothing of it came, and nobody was refused in the last 24 h.{NOT_THERE} Send it to PORTA at port 11112.",
    ),
    (
        is_refused,
        Fate.REFUSED,
        STUDY,
        f"Nothing of it came.{NOT_THERE} CT9 at 192.0.2.9 was refused (CALLING_AE_TITLE, 3 times, last <time>): "
        'there is no [[peer]] with ae_title = "CT9" and accept = true: add it here, or correct the title there.',
    ),
    (
        receiving,
        Fate.RECEIVING,
        STUDY,
        "It is coming in: 2 of 312 images, the last 3.0 s ago; without further images it counts as complete 20 s after "
        "the last: nothing to do.",
    ),
    (
        no_rule,
        Fate.NO_RULE,
        STUDY,
        'No rule matched it (liver-mr: Modality is "CT", not "MR"). If it should be processed: mend the rule, '
        "`porta reload`, `porta rerun 1`.",
    ),
    (
        superseded,
        Fate.SUPERSEDED,
        SERIES,
        f"Of its study series {derive_uid('series', 2)} suits better and is reported in its place: nothing to do.",
    ),
    (
        queued,
        Fate.QUEUED,
        STUDY,
        "It is number 3 in the queue, and should be done in about 30 s: nothing to do.",
    ),
    (segmenting, Fate.SEGMENTING, STUDY, "It is being segmented (60 %), for 12 s now: nothing to do."),
    (
        halted,
        Fate.HALTED,
        STUDY,
        "It stands still since <time> (MODEL_UNUSABLE): the model cannot be used: `porta models verify` says why; "
        "mend that; then `porta retry 1`.",
    ),
    (
        delivered,
        Fate.DELIVERED,
        STUDY,
        "archive took its results with success: nothing to do; where they are missing there, look into its log, and "
        "`porta send 1` sends them again.",
    ),
    (
        confirmed,
        Fate.CONFIRMED,
        STUDY,
        "archive has its results, as it answered to C-FIND: nothing to do.",
    ),
    (
        sending,
        Fate.SENDING,
        STUDY,
        "Its results wait for archive (UNREACHABLE, next at <time>). The destination does not answer: are its host and "
        "port right, is it running, is there a firewall? `porta retry 1` tries at once.",
    ),
    (
        waiting,
        Fate.WAITING,
        STUDY,
        "It is complete, and waits for other series of its study that are still coming in: nothing to do.",
    ),
    (
        not_processed,
        Fate.NOT_PROCESSED,
        STUDY,
        "It is not processed (TOO_SHORT). The stack is too short to hold a liver. Have the missing images sent.",
    ),
    (
        kept,
        Fate.KEPT,
        STUDY,
        "Its rule sends nothing (`send = false`): its results lie in outbox/1 of the storage root; `porta send 1` "
        "sends them.",
    ),
    (cancelled, Fate.CANCELLED, STUDY, "A person ended it: `porta rerun 1` processes it all the same."),
]


@pytest.mark.parametrize(("happens", "fate", "uid", "sentence"), FATES, ids=[row[0].__name__ for row in FATES])
def test_each_fate_has_its_sentence(
    office: Office, happens: Callable[[Office], None], fate: Fate, uid: str, sentence: str
):
    """The last line says what has become of it, and what to do; scripts get the same, with the fate as a code."""
    happens(office)
    found, lines = office.ask(uid)
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>", lines[-1]) == sentence
    assert found is (fate not in (Fate.NOT_SENT, Fate.REFUSED))
    answer = office.asked(uid)
    assert (answer["fate"], answer["sentence"], answer["study_instance_uid"]) == (fate, lines[-1], STUDY)


def remove_all(office: Office) -> None:
    """Retention, long after."""
    days = dict.fromkeys(("delivered_days", "kept_days", "rejected_days", "cancelled_days"), 1)
    config = office.config.model_copy(update={"retention": Retention(**days)})
    removal.Retention(config, office.spool, office.ledger, lambda: NOW + 1e6, lambda: 0.0).carry_out()


@pytest.mark.parametrize(
    ("happens", "sentence"),
    [
        (delivered, "archive took its results. Of it 2 images and its results"),
        (confirmed, "archive has its results. Of it 2 images and its results"),
        (kept, "Its rule sent nothing. Of it 2 images and its results"),
        (cancelled, "A person ended it. Of it 2 images"),
        (not_processed, "It was not processed (TOO_SHORT). Of it 2 images"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_was_removed_is_told_of(office: Office, happens: Callable[[Office], None], sentence: str):
    """What had become of it, that and when its files went, and how it is processed again."""
    happens(office)
    fate = office.asked(STUDY)["fate"]
    remove_all(office)
    _, lines = office.ask(STUDY)
    told = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>", lines[-1])
    assert told.startswith(f"{sentence} were removed by retention on <time>; to process it again, have it sent again")
    assert told.endswith("then `porta rerun 1`.")
    assert [line.split() for line in lines if line.startswith("  removed ")][0][1:3] == ["by", "retention"]
    assert office.asked(STUDY)["fate"] == fate


def test_more_of_what_was_removed(office: Office):
    """A late slice alone waits for the others, which have to be sent again."""
    delivered(office)
    remove_all(office)
    Intake(office.spool, office.ledger, lambda: NOW).take(office.make_ct(1, 2), calling_ae_title="CT1")
    _, lines = office.ask(STUDY)
    assert lines[-1].startswith("More of it came than had been reported. Of it 2 images were removed by retention on ")
    assert lines[-1].endswith(": have all of the series sent again.")


@pytest.mark.parametrize("happens", [row[0] for row in FATES if row[0] not in (not_sent, is_refused)] + [reporting])
def test_jobs_are_found_by_the_state_that_they_are_shown_in(office: Office, happens: Callable[[Office], None]):
    """Whatever word stands in the list may be asked for, and nothing else is found by it."""
    happens(office)

    def listed(*states: str) -> dict[str, str]:
        office.capsys.readouterr()
        print_jobs(office.config, JobFilter(states=checked_states(states)), limit=None, as_json=False)
        rows = [line.split() for line in office.capsys.readouterr().out.splitlines()[1:] if line[:6].strip().isdigit()]
        # job, opened (two words), changed (two), from, images, rule, state
        return {row[0]: row[8] for row in rows}

    every = listed()
    assert every
    for state in {*every.values(), "CONFIRMED"}:
        assert listed(state.lower()) == {job: shown for job, shown in every.items() if shown == state}


def test_jobs_of_a_name_that_nobody_knows(office: Office):
    """It is misspelt; of one that is known and has none there are none."""
    delivered(office)
    for wanted in (JobFilter(rule="liver-tc"), JobFilter(destination="archiv")):
        with pytest.raises(BadRequest, match='; did you mean "'):
            print_jobs(office.config, wanted, limit=None, as_json=False)
    print_jobs(office.config, JobFilter(rule="liver-mr"), limit=None, as_json=False)
    assert office.capsys.readouterr().out.splitlines()[1:] == ["no job is as asked for"]
    with pytest.raises(BadRequest, match="there is no state SEGMENT; there are: RECEIVING"):
        checked_states(["segment"])


def test_the_table_of_fates_is_complete():
    """Every fate there is, every halt that a person must see to."""
    assert {fate for _, fate, _, _ in FATES} == set(Fate) == {*SENTENCES, Fate.NOT_SENT, Fate.REFUSED}
    assert set(HALT_ADVICE) == set(HaltCode)


def test_all_that_is_told_of_a_series(office: Office):
    """What came and when, the job, the rules that did not match, each stage with its duration, each delivery."""
    delivered(office)
    _, lines = office.ask(SERIES)
    told = [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>", line) for line in lines[:-1]]
    assert told == [
        f"study {STUDY}",
        f"series {SERIES}",
        "  received    2 images from CT1, <time> to <time>",
        "  job         1: DELIVERED",
        "  rule        liver-ct",
        '    not liver-mr: Modality is "CT", not "MR"',
        "  receiving   20 s, until <time>",
        "  choosing    1.0 s, until <time>",
        "  queue       9.0 s, until <time>",
        "  segmenting  5.0 s, until <time>",
        "  queue       5.0 s, until <time>",
        "  reporting   5.0 s, until <time>",
        "  delivering  15 s, until <time>",
        "  delivery    seg to archive: STORED 0x0000",
        "  delivery    sr to archive: STORED 0x0000",
    ]


def test_a_study_is_what_its_series_are(office: Office):
    """The fate of a study is the one that says most; of its series each has its own."""
    superseded(office)
    answer = office.asked(STUDY)
    assert answer["fate"] == Fate.QUEUED
    assert [series["fate"] for series in answer["series"]] == [Fate.QUEUED, Fate.SUPERSEDED]


def test_what_was_set_aside_of_a_study(office: Office, make_ct: Callable[..., bytes]):
    """Nothing else came; who sent it has to send it again."""
    bad = make_ct(1, 9)[:-20]
    office.set_aside(bad, reason="UNDECODABLE")
    found, lines = office.ask(STUDY)
    assert (found, lines[-1]) == (
        False,
        f"1 image of it came and could not be taken in (UNDECODABLE): `porta quarantine` lists them.{NOT_THERE}",
    )
    office.receive(1)
    assert "  in quarantine: 1 images: `porta quarantine` lists them" in office.ask(STUDY)[1]


LET_IN = "the configuration would let it in now: have the study sent again."


@pytest.mark.parametrize(
    ("changes", "peer", "sentence"),
    [
        (
            {"reason": "CALLING_HOST"},
            {"host": "192.0.2.1"},
            'its [[peer]] names another host: enter host = "192.0.2.9", or leave it out.',
        ),
        (
            {"reason": "CALLED_AE_TITLE", "called_ae_title": "LIVER"},
            {},
            "it called LIVER, and Porta is PORTA: enter PORTA there, or change [dicom] ae_title here.",
        ),
        (
            {"reason": "LOCAL_LIMIT"},
            {},
            "more associations at once than maximum_associations: it tries again, or raise that.",
        ),
        (
            {"kind": RefusalKind.CONTEXT, "reason": "1.2.840.10008.5.1.4.1.1.2"},
            {},
            "Porta takes images in syntaxes that it can decode.",
        ),
        (
            {"kind": RefusalKind.CONTEXT, "reason": "1.2.840.10008.5.1.4.1.2.2.1"},
            {},
            "Porta takes images, and none was refused.",
        ),
        ({"kind": RefusalKind.BROKEN_OFF, "reason": "ABORTED"}, {}, "have the study sent again."),
        ({"reason": "CALLING_AE_TITLE"}, {}, LET_IN),
        ({"reason": "CALLING_HOST"}, {"networks": ("192.0.2.0/24",)}, LET_IN),
        ({"reason": "CALLED_AE_TITLE"}, {}, LET_IN),
        ({"reason": "CALLING_AE_TITLE"}, {"accept": False}, "add it here, or correct the title there."),
        (
            {"reason": "CALLING_AE_TITLE"},
            {"tls": True},
            "its [[peer]] has tls = true: have it call over TLS, or take that away; then have the study sent again.",
        ),
    ],
    ids=str,
)
def test_each_refusal_says_what_to_change(office: Office, changes: dict[str, Any], peer: dict[str, Any], sentence: str):
    """Here, or at the sender, as the configuration is today: a title or a peer may have been changed since."""
    sender = Peer(**{"name": "ct9", "ae_title": "CT9", "accept": True} | peer)
    config = office.config.model_copy(update={"peers": (*office.config.peers, sender)})
    said = refusal_sentence(refused(office, **changes), config)
    assert said.startswith(("CT9 at 192.0.2.9 ", "An association of CT9 at 192.0.2.9 "))
    assert said.endswith(sentence)


def test_a_mended_configuration_that_the_service_does_not_have_yet(office: Office):
    """It refuses as before until it is told."""
    ct9 = Peer(name="ct9", ae_title="CT9", accept=True)
    refused(office)
    old, office.config = office.config, office.config.model_copy(update={"peers": (*office.config.peers, ct9)})
    with office.spool.lock(Note.of(old).text):
        assert office.ask(STUDY)[1][-1].endswith("would let it in now: `porta reload`, then have the study sent again.")


def test_an_old_refusal_is_nobody_s(office: Office):
    """It was more than a day ago."""
    refused(office, last_at=NOW - 100_000)
    assert office.asked(STUDY)["fate"] == Fate.NOT_SENT


@pytest.mark.parametrize("key", ["AccessionNumber", "PatientID"])
def test_asked_for_by_what_only_the_archive_knows(office: Office, key: str, read_log: Any):
    """Each of its studies is told; the value is in no log and no ledger."""
    office.archive[key, "ZZPHI-4711"] = [STUDY, derive_uid("study", 2)]
    delivered(office)
    found, lines = office.ask("ZZPHI-4711")
    assert found
    assert lines[0] == f"study {STUDY}"
    assert lines[-2:] == [
        f"study {derive_uid('study', 2)}",
        "Nothing of it came, and nobody was refused in the last 24 h. archive has it: 1 series, 312 images. "
        "Send it to PORTA at port 11112.",
    ]
    assert read_log.events is not None


def test_nobody_knows_it(office: Office):
    """Neither we nor the archive; a study that only the archive has is said so."""
    none = f"Nothing of it came, and nobody was refused in the last 24 h.{NOT_THERE} Send it to PORTA at port 11112."
    assert office.ask("4711") == (False, ["no study", none])
    office.archive["StudyInstanceUID", STUDY] = [STUDY]
    assert "archive has it: 1 series, 312 images." in office.ask(STUDY)[1][-1]


def test_an_archive_that_cannot_be_asked(office: Office, monkeypatch: pytest.MonkeyPatch):
    """Or that is not asked: whoever reads the answer knows that it is not the last word."""

    def away(*_: Any, **__: Any) -> list[str]:
        raise PeerUnreachable("127.0.0.1:104: Connection refused")

    monkeypatch.setattr(enquiry, "find_studies", away)
    assert "archive could not be asked. Send it" in office.ask("4711")[1][-1]
    web = Peer(name="archive", ae_title="ARCHIVE", url="https://pacs.example")
    office.config = office.config.model_copy(update={"peers": (web,)})
    assert "archive could not be asked. Send it" in office.ask("4711")[1][-1]
    office.config = office.config.model_copy(update={"peers": (web,), "destinations": ()})
    said = office.ask("4711")[1][-1]
    assert "No archive was asked: no [[peer]] has query = true, and none is a destination. Send it" in said


@pytest.mark.parametrize("value", ["", "  ", "*", "47?1", "a\\b"])
def test_a_pattern_is_no_study(office: Office, value: str):
    """It would list the archive's patients."""
    with pytest.raises(BadRequest, match="whole UID"):
        office.ask(value)


@pytest.mark.parametrize(("value", "is_one"), [("1.2.3", True), ("4711", False), ("1..2", False), ("A-1.2", False)])
def test_what_may_be_a_uid(value: str, is_one: bool):
    """A number alone is an accession number."""
    assert is_uid(value) is is_one


def test_stages_by_clocks_that_jump():
    """No stage takes less than no time."""
    history = [Happened("OPENED", 10, None, None, None), Happened("CLOSED", 5, None, None, None)]
    assert stages_of(history) == [("receiving", 5, 0.0)]
    assert stages_of([]) == []


def test_absence_says_the_worst_first(office: Office):
    """What is in quarantine is of the study for certain; who was refused may have wanted to send another."""
    both = Absence([office.set_aside(b"x", reason="MISMATCH")], [refused(office)])
    assert both.fate == Fate.REFUSED
    assert "MISMATCH" in both.sentence(office.config)


def test_refusals_are_counted_and_bounded(any_ledger: Ledger):
    """The same again is one row; of what strangers make up the latest are kept."""
    desk = Desk(any_ledger)
    one = Refusal(RefusalKind.ASSOCIATION, "CALLING_AE_TITLE", "CT9", "PORTA", "192.0.2.9", 2, 10.0, 11.0)
    any_ledger.count_refusals([one])
    any_ledger.count_refusals([Refusal(**vars(one) | {"count": 3, "first_at": 20.0, "last_at": 21.0})])
    assert desk.refusals(since=0) == [Refusal(**vars(one) | {"count": 5, "last_at": 21.0})]
    assert desk.refusals(since=22) == []
    made_up = [Refusal(**vars(one) | {"calling_ae_title": f"X{n}", "last_at": 100.0 + n}) for n in range(510)]
    any_ledger.count_refusals(made_up)
    kept = desk.refusals(since=0)
    assert len(kept) == 500
    assert kept[0].calling_ae_title == "X509"


def test_a_delivery_that_was_given_up(office: Office):
    """Where, with which answer, and what helps against that."""
    job = office.report(1)
    item = office.ledger.deliveries_of(job.id)[0]
    office.ledger.halt_delivery(item, HaltCode.DELIVERY_REFUSED, now=NOW, status="CLASS_NOT_ACCEPTED")
    said = office.ask(STUDY)[1][-1]
    assert "(DELIVERY_REFUSED at archive, CLASS_NOT_ACCEPTED): The destination does not accept objects" in said
    assert said.endswith("Then `porta retry 1`.")
