"""What an administrator has the service do, and what the commands say of it."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.administration.conditions import condition
from daemon.administration.interventions import Stalled, cancel_job, reload_service, rerun_jobs, retry_jobs, send_job
from daemon.administration.moments import for_so_long, moment
from daemon.choice import Choice, Chosen
from daemon.configuration.config import Config, Destination, Dicom, Log, Peer
from daemon.configuration.match import Match
from daemon.errors import BadRequest, ConfigurationError, StorageUnusable, UnknownJob, WrongState
from daemon.intake import Intake
from daemon.jobs import DeliveryState, Event, HaltCode, Job, State
from daemon.ledger.searches import JobFilter
from daemon.ledger.store import Ledger, Outgoing
from daemon.storage.note import Note
from daemon.storage.spool import Spool
from dicom_io.errors import RejectReason
from dicom_io.files.uids import derive_uid
from reports.objects.kinds import FORMS

Said = Callable[[], list[str]]


@pytest.fixture
def config(make_config: Callable[..., Config], ledger: Ledger, read_log: Any) -> Iterator[Config]:
    """With a second destination that no rule names."""
    usual = make_config()
    ris = Peer(name="ris", ae_title="RIS", host="127.0.0.1", port=105)
    yield make_config(
        peer=(*usual.peers, ris),
        destination=(*usual.destinations, Destination(peer="ris", objects=("sr", "pdf"), confirm="query")),
        ledger={"url": str(ledger.database._engine.url)},
    )
    assert read_log.events is not None


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What was printed since, both streams."""

    def lines() -> list[str]:
        out, err = capsys.readouterr()
        return [*out.splitlines(), *err.splitlines()]

    return lines


@pytest.fixture
def receive(config: Config, spool: Spool, ledger: Ledger, clock: Any, make_ct: Callable[..., bytes]) -> Any:
    """`receive(series, rule)`: two images of a series, closed under the rule, or by none."""

    def received(series: int, rule: str | None = None) -> Job:
        for index in (1, 2):
            Intake(spool, ledger, clock).take(make_ct(series, index), calling_ae_title="MODALITY")
        due = ledger.due_series(now=clock() + 100, quiet_s=20, released_quiet_s=5)[-1]
        reason = None if rule else RejectReason.NO_RULE
        ledger.close_series(due, now=clock() + 100, rule=rule, reject_reason=reason)
        return ledger.job(due.job_id)

    return received


def report(
    config: Config,
    ledger: Ledger,
    job: Job,
    *,
    now: float,
    names: tuple[str, ...] = ("seg", "sr"),
    to: str = "archive",
) -> Job:
    """Take a job to DELIVERED, with objects at the archive and in the outbox."""
    assert ledger.choose(Choice(chosen=(Chosen(job),)), ledger.jobs_of_study(job.study_instance_uid), now=now)
    outgoing = []
    for name in names:
        path = Path("outbox") / str(job.id) / f"{name}.dcm"
        (config.storage.root / path).parent.mkdir(parents=True, exist_ok=True)
        (config.storage.root / path).write_bytes(name.encode())
        outgoing.append(Outgoing(to, FORMS[name], derive_uid(name), derive_uid(name, 2), str(path), "none"))
    for event, items in ((Event.SEGMENTED, []), (Event.REPORTED, outgoing)):
        claimed = ledger.claim_job("host/1", now=now)
        assert claimed is not None
        ledger.finish_stage(claimed, event, now=now, outgoing=items)
    for item in ledger.deliveries_of(job.id):
        ledger.advance_delivery(item, DeliveryState.STORED, now=now, status="0x0000")
    return ledger.job(job.id)


# --- rerun


def test_rerun_of_what_no_rule_matched(config: Config, ledger: Ledger, receive: Any, said: Said):
    """Each series that a rule matches now, the oldest first; the others are named, and stay."""
    receive(1)
    receive(2)
    other = receive(3, "liver-ct")
    assert rerun_jobs(config, JobFilter(reason="NO_RULE"))
    assert said() == [
        "job 1 is processed again, under rule liver-ct",
        "job 2 is processed again, under rule liver-ct",
        "the service does not run: it goes on once it is started",
    ]
    assert [job.state for job in ledger.all_jobs()] == [State.RECEIVING, State.RECEIVING, State.RECEIVED]
    assert not rerun_jobs(config, JobFilter(reason="NO_RULE"))
    assert said() == ["nothing is processed again"]
    assert ledger.job(other.id) == other


def test_rerun_where_no_rule_matches_today_either(config: Config, ledger: Ledger, receive: Any, said: Said):
    """Nothing is changed, and no value of the images is named."""
    job = receive(1)
    (rule,) = config.rules
    mr = config.model_copy(
        update={"rules": (rule.model_copy(update={"match": Match.model_validate({"Modality": ("MR",)})}),)}
    )
    assert not rerun_jobs(mr, JobFilter(ids=(1,)))
    uid = derive_uid("series", 1)
    assert said() == [
        "nothing is processed again",
        f"porta: job 1: no rule matches it today either: `porta study {uid}` says why",
    ]
    assert ledger.job(1) == job


def test_rerun_of_images_that_are_gone(config: Config, receive: Any, said: Said):
    """They have to be sent again."""
    receive(1)
    for path in (config.storage.root / "spool").rglob("*.dcm"):
        path.unlink()
    assert not rerun_jobs(config, JobFilter(ids=(1,)))
    assert said()[1] == "porta: job 1: its images are gone or damaged: have them sent again"


def test_rerun_of_an_earlier_job_is_of_the_last_of_its_series(
    config: Config, ledger: Ledger, receive: Any, clock: Any, said: Said
):
    """Of two ids of one series too: one new revision."""
    report(config, ledger, receive(1, "liver-ct"), now=clock())
    assert rerun_jobs(config, JobFilter(ids=(1, 1)))
    assert said()[0] == "job 2 is revision 2 of the series of job 1, under rule liver-ct"
    assert not rerun_jobs(config, JobFilter(ids=(1,)))
    assert said()[1] == "porta: job 2 is RECEIVING: cannot rerun it: it is being received"


def test_rerun_of_nothing_in_particular(config: Config, spool: Spool):
    """Nobody means all jobs by saying nothing."""
    with pytest.raises(BadRequest, match="which jobs"):
        rerun_jobs(config, JobFilter())
    with pytest.raises(UnknownJob):
        rerun_jobs(config, JobFilter(ids=(7,)))


def test_rerun_beside_a_service_with_other_rules(config: Config, spool: Spool, receive: Any, said: Said):
    """It would match by those; one with the same rules does it at once."""
    receive(1)
    other = replace(Note.of(config), routing="other")
    with spool.lock(other.text), pytest.raises(BadRequest, match="`porta reload`, then rerun"):
        rerun_jobs(config, JobFilter(ids=(1,)))
    with spool.lock(Note.of(config).text):
        assert rerun_jobs(config, JobFilter(ids=(1,)))
    assert said() == ["job 1 is processed again, under rule liver-ct"]


def test_the_digests_are_of_what_can_be_taken_up_and_of_the_rest(config: Config):
    """Another log level is no other rule; another pattern is."""
    (rule,) = config.rules
    quiet = config.model_copy(update={"log": Log(level="error")})
    assert (quiet.routing_digest, quiet.fixed_changes(config)) == (config.routing_digest, [("log", "level")])
    assert quiet.fixed_digest != config.fixed_digest
    other = rule.model_copy(update={"match": Match.model_validate({"Modality": ("MR",)})})
    mr = config.model_copy(update={"rules": (other,)})
    assert (mr.fixed_digest, mr.fixed_changes(config)) == (config.fixed_digest, [])
    assert mr.routing_digest != config.routing_digest
    moved = config.model_copy(update={"dicom": Dicom(ae_title="LIVER", port=104)})
    assert (moved.fixed_digest, moved.fixed_changes(config)) == (config.fixed_digest, [])
    assert moved.routing_digest != config.routing_digest
    wider = config.model_copy(update={"dicom": Dicom(host="0.0.0.0")})
    assert wider.fixed_changes(config) == [("dicom", "host")]
    assert wider.fixed_digest != config.fixed_digest


# --- reload


def test_reload_where_none_runs_or_it_has_it_already(config: Config, spool: Spool, said: Said):
    """No process is told anything."""
    for note in ("", "just starting"):
        with spool.lock(note), pytest.raises(BadRequest, match="does not run, or is just starting"):
            reload_service(config)
    with spool.lock(Note.of(config).text):
        reload_service(config)
    assert said() == ["the service has this configuration already"]


@pytest.fixture
def service(config: Config, spool: Spool) -> Iterator[Callable[[Note], None]]:
    """`service(note)`: one that runs with other rules, and answers a SIGHUP with this note."""
    before = Note.of(config.model_copy(update={"rules": ()}))
    kept = signal.getsignal(signal.SIGHUP)
    with spool.lock(before.text) as lock:

        def answer_with(note: Note) -> None:
            signal.signal(signal.SIGHUP, lambda *_: spool.note(lock, note.text))

        yield answer_with
    signal.signal(signal.SIGHUP, kept)


def test_reload_tells_the_process_and_waits(config: Config, service: Callable[[Note], None], said: Said):
    """Until it has written down that it has taken it up."""
    service(Note.of(config, answers=1))
    reload_service(config)
    assert said() == ["the service has taken it up; what was running goes on"]


def test_reload_says_at_once_why_the_service_does_not_take_it_up(config: Config, service: Callable[[Note], None]):
    """In the service's words, whatever the reason; and where it has another file than the command."""
    refused = ("/etc/porta/porta.toml:3: dicom.port: cannot listen on 0.0.0.0:104: Address already in use",)
    service(replace(Note.of(config.model_copy(update={"rules": ()})), answers=1, refused=refused))
    with pytest.raises(ConfigurationError) as caught:
        reload_service(config)
    assert caught.value.faults == refused
    service(replace(Note.of(config), answers=2, routing="another", file="/etc/porta/porta.toml"))
    with pytest.raises(BadRequest, match="has taken up /etc/porta/porta.toml, which is not as"):
        reload_service(config)


def test_a_service_that_ends_while_it_is_told(config: Config, spool: Spool):
    """Nobody waits for it."""
    lock = spool.lock(replace(Note.of(config), routing="other").text)
    before = signal.signal(signal.SIGHUP, lambda *_: lock.close())
    try:
        with pytest.raises(BadRequest, match="has ended meanwhile"):
            reload_service(config)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_that_is_not_ours_to_tell(config: Config, spool: Spool):
    """It is gone, or another user's."""
    gone = replace(Note.of(config), routing="other", pid=2**22 + 1)
    with spool.lock(gone.text), pytest.raises(BadRequest, match="cannot be told"):
        reload_service(config)


# --- send


def test_send_again_and_elsewhere(config: Config, ledger: Ledger, receive: Any, clock: Any, said: Said):
    """To where it went; then to one that had nothing, which takes what was made and is told what was not."""
    report(config, ledger, receive(1, "liver-ct"), now=clock())
    send_job(config, 1, None)
    assert said() == ["job 1: 2 objects to archive", "the service does not run: it sends once it is started"]
    assert [(item.destination, item.state) for item in ledger.deliveries_of(1)] == [("archive", "PENDING")] * 2
    send_job(config, 1, "ris")
    assert said()[:2] == [
        "job 1: 1 object to ris",
        "not made for this job, and not sent to ris: pdf (`porta rerun 1`)",
    ]
    new = ledger.deliveries_of(1)[-1]
    assert (new.destination, new.object, new.confirm, new.state) == ("ris", "sr", "query", "PENDING")
    assert new.sop_instance_uid == derive_uid("sr")
    send_job(config, 1, "ris")
    assert len(ledger.deliveries_of(1)) == 3
    assert ledger.job(1).state == State.REPORTED


def test_a_verdict_is_sent_elsewhere_alone(config: Config, ledger: Ledger, receive: Any, clock: Any, said: Said):
    """Nothing else was ever to be made of such a job."""
    report(config, ledger, receive(1, "liver-ct"), now=clock(), names=("verdict",))
    send_job(config, 1, "ris")
    assert said()[:2] == ["job 1: 1 object to ris", "the service does not run: it sends once it is started"]


def test_what_cannot_be_sent(config: Config, ledger: Ledger, receive: Any, clock: Any):
    """No results, no such destination, nothing that it takes, files that are gone: each says so."""
    receive(1)
    with pytest.raises(BadRequest, match=r"job 1 is REJECTED: it has no results \(NO_RULE\); `porta study 2.25"):
        send_job(config, 1, None)
    receive(9, "liver-ct")
    with pytest.raises(BadRequest, match="job 2 is RECEIVED: it has no results yet; `porta study 2.25"):
        send_job(config, 2, None)
    ledger.cancel(2, now=clock())
    with pytest.raises(BadRequest, match="job 2 is CANCELLED: what was cancelled is not sent; `porta rerun 2` makes"):
        send_job(config, 2, None)
    report(config, ledger, receive(2, "liver-ct"), now=clock(), names=("seg",))
    with pytest.raises(BadRequest, match="there is no destination pacs; there are: archive, ris"):
        send_job(config, 3, "pacs")
    with pytest.raises(BadRequest, match="job 3 has nothing that ris takes"):
        send_job(config, 3, "ris")
    (config.storage.root / "outbox" / "3" / "seg.dcm").unlink()
    with pytest.raises(BadRequest, match="not there any more: `porta rerun 3` makes the results anew"):
        send_job(config, 3, None)
    assert ledger.job(3).state == State.DELIVERED


def test_superseded_results_are_not_sent(config: Config, ledger: Ledger, receive: Any, clock: Any):
    """An archive would have them beside those that took their place."""
    report(config, ledger, receive(1, "liver-ct"), now=clock())
    assert rerun_jobs(config, JobFilter(ids=(1,)))
    send_job(config, 1, None)  # the newer ones are not made yet
    for item in ledger.deliveries_of(1):
        ledger.advance_delivery(item, DeliveryState.STORED, now=clock(), status="0x0000")
    due = ledger.due_series(now=clock() + 1000, quiet_s=20, released_quiet_s=5)[-1]
    ledger.close_series(due, now=clock() + 1000, rule="liver-ct", reject_reason=None)
    report(config, ledger, ledger.job(2), now=clock() + 1000)
    with pytest.raises(BadRequest, match="job 1 were superseded by those of job 2: `porta send 2`"):
        send_job(config, 1, None)


# --- retry, cancel


def test_retry_of_some_or_all(config: Config, ledger: Ledger, receive: Any, clock: Any, said: Said):
    """By id a line each; else a line for all; nothing is nothing."""
    for number in (1, 2, 3):
        ledger.halt(receive(number, "liver-ct"), HaltCode.MODEL_UNUSABLE, now=clock())
    with pytest.raises(BadRequest, match="which jobs"):
        retry_jobs(config, Stalled())
    retry_jobs(config, Stalled(ids=(2,)))
    assert said() == ["job 2 goes on"]
    with pytest.raises(WrongState):
        retry_jobs(config, Stalled(ids=(2,)))
    retry_jobs(config, Stalled(reason="RULE_GONE"))
    assert said() == ["nothing stands still or waits"]
    retry_jobs(config, Stalled(every=True))
    assert said() == ["2 jobs (1, 3) go on"]
    assert not [job for job in ledger.all_jobs() if job.halt]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Stalled(destination="achive"), '--destination: there is no destination achive; did you mean "archive"?'),
        (Stalled(every=True, destination="x"), "--destination: there is no destination x; known: archive, old, ris"),
        (
            Stalled(reason="MODEL_UNUSABEL"),
            '--reason: there is no reason MODEL_UNUSABEL; did you mean "MODEL_UNUSABLE"?',
        ),
        (
            Stalled(reason="NO_RULE"),
            "--reason: NO_RULE ends a job: `porta rerun --reason NO_RULE` matches such again",
        ),
    ],
    ids=str,
)
def test_a_misspelt_name_is_no_reason_to_do_nothing(
    config: Config, ledger: Ledger, receive: Any, clock: Any, wanted: Stalled, said: str
):
    """Whoever reads "nothing stands still" goes to bed. Names that only the ledger has are known."""
    job = report(config, ledger, receive(1, "liver-ct"), now=clock(), to="old")
    assert job.state == State.DELIVERED
    with pytest.raises(BadRequest) as caught:
        retry_jobs(config, wanted)
    assert str(caught.value) == said


def test_retry_for_a_destination_that_is_gone(config: Config, ledger: Ledger, receive: Any, clock: Any, said: Said):
    """It would stand still again at once; what else the job stands still for goes on."""
    now = clock()
    report(config, ledger, receive(1, "liver-ct"), now=now)
    send_job(config, 1, "ris")
    for item in ledger.deliveries_of(1):
        if item.destination == "ris":
            ledger.halt_delivery(item, HaltCode.DESTINATION_GONE, now=now, status="NO_DESTINATION")
    gone = config.model_copy(update={"destinations": config.destinations[:1]})
    said()
    for wanted in (
        Stalled(ids=(1,)),
        Stalled(every=True),
        Stalled(destination="ris"),
        Stalled(reason="NO_DESTINATION"),
    ):
        assert not retry_jobs(gone, wanted)
        assert said() == [
            "porta: job 1: the configuration has no destination ris any more: enter it again and `porta reload`, or "
            "`porta send 1 --to` another one"
        ]
    assert retry_jobs(config, Stalled(every=True))
    assert said() == ["job 1 goes on"]


def test_rerun_for_a_reason_that_there_is_not(config: Config, spool: Spool, ledger: Ledger):
    """Nor by it."""
    with pytest.raises(BadRequest, match='there is no reason NORULE; did you mean "NO_RULE"'):
        rerun_jobs(config, JobFilter(reason="NORULE"))


def test_another_user_changes_nothing(config: Config, receive: Any, monkeypatch: pytest.MonkeyPatch):
    """The service could not read what this user writes."""
    receive(1)
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    for change in (
        lambda: cancel_job(config, 1),
        lambda: send_job(config, 1, None),
        lambda: rerun_jobs(config, JobFilter(ids=(1,))),
        lambda: retry_jobs(config, Stalled(every=True)),
    ):
        with pytest.raises(StorageUnusable, match="run this as that user"):
            change()


# --- words


def test_moments():
    """Ago, a date, a time with a zone and one without; what is none says how to write one."""
    now = 1_000_000.0
    assert moment("--since", None, now=now) is None
    assert [moment("--since", text, now=now) for text in ("30s", "2h", "7d")] == [now - 30, now - 7200, now - 604_800]
    assert moment("--since", "1970-01-01T00:00:10+00:00", now=now) == 10
    local = moment("--since", "2026-03-01", now=now)
    assert local is not None and abs(local - 1_772_323_200) <= 14 * 3600
    for text in ("yesterday", "2h ago", "", "99999999999999-01-01"):
        with pytest.raises(BadRequest, match="--since"):
            moment("--since", text, now=now)


def test_durations():
    """Two digits or so, in the unit that a person would say."""
    said = [for_so_long(seconds) for seconds in (0.04, 9.5, 12.2, 119, 150, 7000, 7300, 190_000)]
    assert said == ["0.0 s", "9.5 s", "12 s", "119 s", "2 min", "117 min", "2 h", "2 days"]


def test_conditions(config: Config, ledger: Ledger, receive: Any, clock: Any):
    """State, why, and the command that helps, where one does."""
    rejected = receive(1)
    assert condition(rejected, []) == "job 1 is REJECTED (NO_RULE): `porta rerun 1`"
    waiting = receive(2, "liver-ct")
    assert condition(waiting, []) == "job 2 is RECEIVED"
    ledger.halt(waiting, HaltCode.MODEL_UNUSABLE, now=clock())
    assert condition(ledger.job(2), []) == "job 2 is RECEIVED (halted: MODEL_UNUSABLE): `porta retry 2`"
    ledger.cancel(2, now=clock())
    assert condition(ledger.job(2), []) == "job 2 is CANCELLED: `porta rerun 2`"
    done = report(config, ledger, receive(3, "liver-ct"), now=clock())
    assert condition(done, ledger.deliveries_of(3)) == "job 3 is DELIVERED"
