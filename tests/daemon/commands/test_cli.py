"""The command as people and scripts meet it: its exit codes, one line for each fault, and no traceback ever."""

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import typer

import daemon.errors
import dicom_io.errors
import models.errors
import reports.errors
from daemon.choice import Choice, Chosen
from daemon.commands.cli import PANELS, app, main, one_line_errors
from daemon.delivery.statuses import ADVICE
from daemon.intake import Intake
from daemon.jobs import DeliveryState, Event, HaltCode
from daemon.ledger.store import Instance, Ledger, Outgoing
from daemon.storage.spool import Spool, progress_file, write_durably
from dicom_io.errors import RejectReason
from dicom_io.files.uids import derive_uid
from reports.objects.kinds import FORMS

CONFIG = """\
[dicom]
port = {port}
[[peer]]
name = "archive"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {peer_port}
[[destination]]
peer = "archive"
confirm = "query"
[[rule]]
name = "liver-ct"
match = {{ Modality = "CT" }}
model = "resnet50"
destinations = ["archive"]
[storage]
root = "{root}"
min_free_mb = 0
"""

JOB_KEYS = [
    "id",
    "series_instance_uid",
    "study_instance_uid",
    "revision",
    "calling_ae_title",
    "rule",
    "state",
    "reject_reason",
    "attempts",
    "not_before",
    "halt",
    "instances",
    "warnings",
    "deliveries",
    "shadows",
    "created_at",
    "updated_at",
    "stages",
    "stage",
    "progress_percent",
    "removed_at",
]
DELIVERY_KEYS = ["destination", "object", "sop_instance_uid", "state", "attempts", "not_before", "last_status"]
DELIVERY_KEYS += ["halt", "advice"]
"""The formats of DESIGN.md section 7."""

NOW = 1_767_225_600.0
"""2026-01-01T00:00:00Z"""


@dataclass
class Answer:
    """What a command said and returned."""

    code: int
    out: str
    lines: list[str]


@dataclass
class Desk:
    """A configuration, and somebody who types commands."""

    directory: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def config(self) -> Path:
        return self.directory / "porta.toml"

    def configure(self, text: str = CONFIG, **values: Any) -> None:
        defaults = {"port": 11112, "peer_port": 104, "root": self.root}
        self.config.write_text(text.format(**defaults | values))

    def porta_here(self, *arguments: str) -> Answer:
        """The same entry in this process, which need not load torch for each of many commands."""
        self.monkeypatch.setattr(sys, "argv", ["porta", *arguments, "--config", str(self.config)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return Answer(int(ended.value.code or 0), said.out, said.err.splitlines())

    def porta(self, *arguments: str | Path, config: bool = True) -> Answer:
        """The command as a process of its own; without `config` it finds the file by $PORTA_CONFIG."""
        command = [sys.executable, "-m", "daemon.commands.cli", *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if name != "PORTA_CONFIG"}
        if config:
            command += ["--config", str(self.config)]
        else:
            environment["PORTA_CONFIG"] = str(self.config)
        environment["PYTHONPATH"] = str(Path(__file__).parents[3])
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=self.directory, timeout=250, check=False
        )
        assert "Traceback" not in done.stderr
        assert "ZZPHI" not in done.stdout + done.stderr
        return Answer(done.returncode, done.stdout, done.stderr.splitlines())

    def ledger(self) -> Ledger:
        Spool(self.root).prepare()
        ledger = Ledger(f"sqlite:///{self.root / 'ledger.sqlite'}")
        ledger.migrate()
        return ledger


@pytest.fixture
def desk(tmp_path: Path, read_log: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path, capsys, monkeypatch)
    desk.configure()
    return desk


def fill(ledger: Ledger, make_instance: Callable[..., Instance]) -> None:
    """Four jobs: one rejected, one halted, one half delivered, one just coming in."""
    for number in (1, 2, 3):
        for index in (1, 2):
            ledger.record_instance(make_instance(number, index), now=NOW)
    rejected, halted, delivered = ledger.due_series(now=NOW + 100, quiet_s=20, released_quiet_s=5)
    ledger.close_series(rejected, now=NOW + 100, rule=None, reject_reason=RejectReason.NO_RULE)
    ledger.close_series(halted, now=NOW + 100, rule="liver-ct", priority=9)
    ledger.close_series(delivered, now=NOW + 100, rule="liver-ct")
    for number in (2, 3):
        closed = ledger.job(number)
        assert ledger.choose(Choice(chosen=(Chosen(closed),)), [closed], now=NOW + 100)
    job = ledger.claim_job("host/1", now=NOW + 100)
    assert job is not None
    ledger.halt(job, HaltCode.WORKER_FAILED, now=NOW + 101)
    for event in (Event.SEGMENTED, Event.REPORTED):
        job = ledger.claim_job("host/1", now=NOW + 100)
        assert job is not None
        outgoing = [
            Outgoing(
                "archive", FORMS[name], derive_uid(name), derive_uid(name, "series"), f"outbox/3/{name}.dcm", "query"
            )
            for name in ("seg", "sr")
        ]
        ledger.finish_stage(
            job, event, now=NOW + 102, warnings=["SHORT"], outgoing=outgoing if event == Event.REPORTED else ()
        )
    seg, sr = ledger.deliveries_of(job.id)
    ledger.advance_delivery(seg, DeliveryState.STORED, now=NOW + 103, status="0x0000")
    ledger.postpone_delivery(sr, until=NOW + 110, status="UNREACHABLE", counts=True)
    ledger.record_instance(make_instance(4), now=NOW + 200)


def test_jobs_as_scripts_read_them(desk: Desk, make_instance: Callable[..., Instance]):
    """Every key of the design in its order, null where unknown, times in ISO 8601 UTC; the table has the same jobs."""
    ledger = desk.ledger()
    fill(ledger, make_instance)
    ledger.close()
    answer = desk.porta("jobs", "--json")
    assert (answer.code, answer.lines) == (0, [])
    receiving, delivered, halted, rejected = json.loads(answer.out)
    for job in (rejected, halted, delivered, receiving):
        assert list(job) == JOB_KEYS
        assert all(list(delivery) == DELIVERY_KEYS for delivery in job["deliveries"])
    assert rejected == {
        "id": 1,
        "series_instance_uid": derive_uid("series", 1),
        "study_instance_uid": derive_uid("study", 1),
        "revision": 1,
        "calling_ae_title": "MODALITY",
        "rule": None,
        "state": "REJECTED",
        "reject_reason": "NO_RULE",
        "attempts": 0,
        "not_before": None,
        "halt": None,
        "instances": 2,
        "warnings": [],
        "deliveries": [],
        "shadows": [],
        "created_at": "2026-01-01T00:00:00+00:00",
        "updated_at": "2026-01-01T00:01:40+00:00",
        "stages": [{"stage": "judging", "ended_at": "2026-01-01T00:01:40+00:00", "seconds": 100.0}],
        "stage": None,
        "progress_percent": None,
        "removed_at": None,
    }
    assert (halted["state"], halted["halt"], halted["attempts"]) == ("RECEIVED", "WORKER_FAILED", 1)
    assert (delivered["state"], delivered["warnings"]) == ("REPORTED", ["SHORT"])
    assert delivered["deliveries"] == [
        {
            "destination": "archive",
            "object": "seg",
            "sop_instance_uid": derive_uid("seg"),
            "state": "STORED",
            "attempts": 0,
            "not_before": None,
            "last_status": "0x0000",
            "halt": None,
            "advice": None,
        },
        {
            "destination": "archive",
            "object": "sr",
            "sop_instance_uid": derive_uid("sr"),
            "state": "PENDING",
            "attempts": 1,
            "not_before": "2026-01-01T00:01:50+00:00",
            "last_status": "UNREACHABLE",
            "halt": None,
            "advice": ADVICE["UNREACHABLE"],
        },
    ]
    assert (receiving["state"], receiving["instances"]) == ("RECEIVING", 1)
    table = desk.porta("jobs", config=False)
    assert table.code == 0
    for word in (
        "REJECTED NO_RULE",
        "HALTED WORKER_FAILED",
        "REPORTED archive UNREACHABLE",
        "RECEIVING",
        "liver-ct",
        "01-01",
    ):
        assert word in table.out
    assert max(map(len, table.out.splitlines())) <= 80


def test_a_running_stage_is_shown(desk: Desk, make_instance: Callable[..., Instance]):
    """The stage of each job that is to be worked on, and how much of the segmentation is done."""
    ledger = desk.ledger()
    for number in (1, 2, 3):
        ledger.record_instance(make_instance(number), now=NOW)
    for due in ledger.due_series(now=NOW + 100, quiet_s=20, released_quiet_s=5):
        ledger.close_series(due, now=NOW + 100, rule="liver-ct")
    for number in (1, 2):
        job = ledger.job(number)
        assert ledger.choose(Choice(chosen=(Chosen(job),)), [job], now=NOW + 100)
    assert ledger.claim_job("host/1", now=NOW + 100)
    ledger.close()
    work = Spool(desk.root).work(1)
    work.mkdir(parents=True)
    progress_file(work).write_text("60")
    lines = desk.porta_here("jobs").out.splitlines()
    assert [line.split("liver-ct")[1].strip() for line in lines[1:]] == [
        "WAITING for its study",
        "QUEUED",
        "SEGMENTING 60 %",
    ]
    found = json.loads(desk.porta_here("jobs", "--json").out)
    shown = [("WAITING", None), ("QUEUED", None), ("SEGMENTING", 60)]
    assert [(job["stage"], job["progress_percent"]) for job in found] == shown
    progress_file(work).write_text("")  # as it is being written
    assert json.loads(desk.porta_here("job", "1").out)["progress_percent"] is None


def test_jobs_of_a_peer_with_a_hostile_title(desk: Desk, make_instance: Callable[..., Instance]):
    """What an AE title holds is text in the table, whatever Rich or the terminal would make of it."""
    ledger = desk.ledger()
    hostile = replace(make_instance(1), calling_ae_title="[/x]\x1b[2J[b]")
    ledger.record_instance(hostile, now=NOW)
    ledger.close()
    answer = desk.porta_here("jobs")
    assert answer.code == 0
    assert r"[/x]\x1b[2…" in answer.out
    assert "\x1b" not in answer.out


def test_job_retry_and_cancel(desk: Desk, make_instance: Callable[..., Instance]):
    """One job with its history; a retry of what does not halt, a cancel of what has ended, a job that is not there."""
    ledger = desk.ledger()
    fill(ledger, make_instance)
    answer = desk.porta_here("job", "2")
    assert answer.code == 0
    job = json.loads(answer.out)
    assert list(job) == [*JOB_KEYS, "events"]
    assert [event["event"] for event in job["events"]] == ["OPENED", "CLOSED", "CHOSEN", "STARTED", "HALTED"]
    assert job["events"][-1]["at"] == "2026-01-01T00:01:41+00:00"

    assert desk.porta_here("job", "2", "--json").out == answer.out

    assert desk.porta_here("retry", "2").code == 0
    assert ledger.job(2).halt is None
    assert desk.porta_here("cancel", "2").code == 0
    assert ledger.job(2).state == "CANCELLED"
    for arguments, line in (
        (("retry", "1"), "porta: job 1 is REJECTED: cannot retry it"),
        (("retry",), "porta: which jobs? name their ids, or --all, --destination or --reason"),
        (
            ("rerun", "--since", "soon"),
            'porta: --since: "soon" is no time; write 30m, 12h or 7d (ago), 2026-03-01, or 2026-03-01T08:30',
        ),
        (
            ("send", "1"),
            f"porta: job 1 is REJECTED: it has no results (NO_RULE); `porta study {derive_uid('series', 1)}` says why",
        ),
        (("jobs", "--rule", "liver"), 'porta: --rule: there is no rule liver; did you mean "liver-ct"?'),
        (("cancel", "1"), "porta: job 1 is REJECTED: cannot cancel it"),
        (("job", "99"), "porta: there is no job 99"),
    ):
        answer = desk.porta_here(*arguments)
        assert (answer.code, answer.out, answer.lines) == (2, "", [line])
    ledger.close()


def test_verify(desk: Desk, make_ct: Callable[..., bytes]):
    """Exit code 0 where all is whole, 1 with a line and what heals it, the same as JSON, 2 where there is no ledger."""
    answer = desk.porta_here("verify")
    assert (answer.code, len(answer.lines)) == (2, 1)
    ledger = desk.ledger()
    Intake(Spool(desk.root), ledger).take(make_ct(), calling_ae_title="MODALITY")
    answer = desk.porta_here("verify")
    assert answer.code == 0
    assert answer.out.startswith("1 instances and 0 results looked at, ")
    (path,) = desk.root.glob("spool/*/*.dcm")
    path.write_bytes(b"damaged")
    answer = desk.porta_here("verify")
    assert answer.code == 1
    assert answer.out.startswith(f"DAMAGED {path.relative_to(desk.root)}: send the instance again from the PACS")
    answer = desk.porta_here("verify", "--json")
    assert answer.code == 1
    (finding,) = json.loads(answer.out)["findings"]
    assert (finding["fault"], finding["sop_instance_uid"]) == ("DAMAGED", derive_uid("instance", 1, 1))
    ledger.close()


def test_a_ledger_that_was_lost(desk: Desk, make_ct: Callable[..., bytes]):
    """The service does not start beside a full spool; rebuild makes the ledger anew once, and says what it left out."""
    intake = Intake(Spool(desk.root), desk.ledger())
    for index in (1, 2, 3):
        intake.take(make_ct(1, index), calling_ae_title="MODALITY")
    for path in desk.root.glob("ledger.sqlite*"):
        path.unlink()
    answer = desk.porta_here("run")
    assert (answer.code, len(answer.lines)) == (2, 1)
    assert "porta ledger rebuild" in answer.lines[0]
    damaged = sorted(desk.root.glob("spool/*/*.dcm"))[0]
    damaged.write_bytes(b"damaged")
    answer = desk.porta_here("ledger", "rebuild")
    assert answer.code == 1
    assert answer.out == "2 instances of 1 series; 1 jobs, of which 0 are reported; 1 files left out\n"
    assert answer.lines == [f"{damaged.relative_to(desk.root)}: damaged, left out; send it again from the PACS"]
    answer = desk.porta_here("ledger", "rebuild")
    assert (answer.code, len(answer.lines)) == (2, 1)
    assert "not empty" in answer.lines[0]


def test_a_wrong_configuration(desk: Desk):
    """One line for each fault with the key and the line of the file, and exit 2, before anything is made."""
    wrong = CONFIG.replace('"ARCHIVE"', '"A TITLE THAT IS TOO LONG"').replace("min_free_mb", "min_fre_mb")
    desk.configure(wrong, port=99999)
    answer = desk.porta("run")
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.lines) == 3
    for line, (number, key) in zip(answer.lines, [(2, "dicom.port"), (5, "ae_title"), (18, "min_fre_mb")], strict=True):
        assert line.startswith(f"porta: {desk.config}:{number}: ")
        assert key in line
    assert "min_free_mb" in answer.lines[2]
    assert not desk.root.exists()


def commands() -> Iterator[tuple[str, Any]]:
    """Each command with its name, those of `porta models` too."""
    groups = [("porta", typer.main.get_command(app))]
    while groups:
        name, command = groups.pop()
        yield name, command
        groups += [(f"{name} {key}", below) for key, below in getattr(command, "commands", {}).items()]


OPTIONS = [
    pytest.param(command, option, id=f"{name} {option.opts[0]}")
    for name, command in commands()
    for option in command.params
    if "[default: " in (option.get_help_record(command.context_class(command)) or ("", ""))[1]
]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_a_default_that_the_help_shows_can_be_typed(command: Any, option: Any):
    """As it stands there, and means the same."""
    context = command.context_class(command)
    shown = option.get_help_record(context)[1].partition("[default: ")[2].partition("]")[0].partition(";")[0]
    words = tuple(shlex.split(shown))
    assert len(words) == option.nargs
    typed = option.process_value(context, words if option.nargs > 1 else words[0])
    assert typed == option.process_value(context, option.default)


def test_the_help_has_every_command_in_a_panel_in_the_order_of_a_sites_life():
    """From the first try to models of one's own; none is left in the panel that Typer makes up."""
    shown = [command.rich_help_panel for command in typer.main.get_command(app).commands.values()]
    assert list(dict.fromkeys(shown)) == [*PANELS]
    assert shown == sorted(shown, key=list(PANELS).index)


ROOTS = {
    dicom_io.errors: dicom_io.errors.DicomIOError,
    models.errors: models.errors.ModelError,
    reports.errors: reports.errors.ReportError,
    daemon.errors: daemon.errors.DaemonError,
}
ERRORS = [
    kind
    for module, root in ROOTS.items()
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, root)
]
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "ContextNotAccepted": ("ARCHIVE at 127.0.0.1:104", "1.2.840.10008.1.1"),
    "ConfigurationError": (["porta.toml:1: a", "porta.toml:2: b"],),
    "SeriesRejected": (RejectReason.TOO_SHORT, "4 mm."),
    "QueryRefused": ("PEER", 0xC000),
    "CommitmentRefused": ("PEER", 0x0110),
    "WebRefused": ("PEER", 503),
    "StoreRefused": (0xA700,),
    "WrongState": (3, "RECEIVED", "retry"),
}
"""Of the errors that are made of more than a word."""
KEYWORDS: dict[str, dict[str, str]] = {"ContextNotAccepted": {"name": "Verification"}}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_a_line_and_an_exit_code(kind: type[Any], capsys: pytest.CaptureFixture[str]):
    """Of whichever folder it is: what it says, a line for each fault, and the code that it carries."""
    error = kind(*ARGUMENTS.get(kind.__name__, ("what it says",)), **KEYWORDS.get(kind.__name__, {}))
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise error
    assert ended.value.code == kind.exit_code
    assert kind.exit_code in (1, 2)
    assert capsys.readouterr().err.splitlines() == [f"porta: {line}" for line in str(error).splitlines()] != []


def test_no_configuration(desk: Desk):
    """The file that is named is not there."""
    desk.config.unlink()
    answer = desk.porta_here("jobs")
    assert (answer.code, answer.lines) == (2, [f"porta: {desk.config}: there is no such file; `porta init` writes one"])


def test_a_storage_root_that_is_a_file(desk: Desk):
    """The service does not start, and says why."""
    desk.root.write_text("not a folder")
    answer = desk.porta("run")
    assert answer.code == 2
    assert answer.lines[0].startswith(f"porta: {desk.config}:17: storage.root: storage root {desk.root}: user ")
    assert answer.lines[0].endswith("cannot use it (File exists): give it to that user, or name another folder")


def test_a_port_that_is_taken(desk: Desk):
    """The service does not start; its root is free for the next one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        desk.configure(port=port)
        answer = desk.porta("run")
    assert answer.code == 2
    said = [line for line in answer.lines if not line.startswith("{")]
    assert said == [
        f"porta: {desk.config}:2: dicom.port: cannot listen on 127.0.0.1:{port}: Address already in use; end what has "
        "the port, or choose another one"
    ]
    Spool(desk.root).lock().close()


def test_a_ledger_that_cannot_be_reached(desk: Desk):
    """Is nobody's wrong input: exit 1, one line with host and reason, and no password."""
    url = "postgresql://porta:hunter2@127.0.0.1:1/porta"
    desk.configure(CONFIG + f'[ledger]\nurl = "{url}"\n')
    answer = desk.porta_here("jobs")
    reason = "connection refused: is it running, and are host and port right"
    assert (answer.code, answer.lines) == (
        1,
        [f"porta: the ledger cannot be used: PostgreSQL at 127.0.0.1:1: {reason}"],
    )


def test_submit_takes_what_is_good(desk: Desk, make_ct: Callable[..., bytes]):
    """A text file among images: aside with one line, exit 2 at the end, and the images are in."""
    folder = desk.directory / "study"
    folder.mkdir()
    for index in (1, 2, 3):
        (folder / f"{index}.dcm").write_bytes(make_ct(1, index))
    text = desk.directory / "notes.txt"
    text.write_text("ZZPHI^CANARY is no image")
    answer = desk.porta("submit", text, desk.directory / "nowhere", folder)
    assert answer.code == 2
    assert [line for line in answer.lines if not line.startswith("{")] == [
        f"{text}: UNDECODABLE, kept in quarantine",
        f"{desk.directory / 'nowhere'}: no such file or folder",
    ]
    ledger = desk.ledger()
    (job,) = ledger.all_jobs()
    assert (job.calling_ae_title, job.instances, job.state) == ("SUBMIT", 3, "RECEIVING")
    ledger.close()
    (kept,) = (desk.root / "quarantine").glob("*.dcm")
    assert kept.read_bytes() == text.read_bytes()
    assert desk.porta("submit", folder).code == 0


def test_the_service_ends_while_a_peer_is_silent(
    desk: Desk, make_instance: Callable[..., Instance], make_ct: Callable[..., bytes], until: Callable[..., None]
):
    """SIGTERM in the middle of a delivery that waits for an answer: exit 0 within ten seconds, and nothing is lost."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        without_rules = CONFIG[: CONFIG.index("[[rule]]")] + CONFIG[CONFIG.index("[storage]") :]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        desk.configure(without_rules, port=port, peer_port=silent.getsockname()[1])
        ledger = desk.ledger()
        fill(ledger, make_instance)
        seg, sr = ledger.deliveries_of(3)
        write_durably(desk.root / sr.path, make_ct())
        command = [sys.executable, "-m", "daemon.commands.cli", "run", "-c", str(desk.config)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=desk.directory) as service:
            try:
                silent.settimeout(250)
                connection, _ = silent.accept()
                # It has said what it wants, and waits for an answer now.
                assert connection.recv(1) == b"\x01"
                service.terminate()
                assert service.wait(10) == 0
            finally:
                service.kill()
        connection.close()
    again = ledger.deliveries_of(3)
    assert [(item.state, item.attempts) for item in again] == [("STORED", 0), ("PENDING", 1)]
    assert seg.sop_instance_uid == again[0].sop_instance_uid
    ledger.close()
