"""`porta check`: each thing that may be wrong has its line and its remedy, and the last line counts."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from daemon.administration.checked import Result
from daemon.administration.checkup import checks, print_checks
from daemon.administration.rule_checks import covers, doubts, shadows_of
from daemon.administration.rule_logic import are_apart, is_within_pattern
from daemon.administration.storing import store_test_object
from daemon.configuration.config import Config, Destination, Dicom, Engine, Peer, Rule, Storage
from daemon.delivery.acceptance import offer_of
from daemon.intake import Intake
from daemon.jobs import HaltCode
from daemon.ledger.desk import Desk
from daemon.ledger.store import Ledger
from daemon.receiver import Receiver
from daemon.routing import Candidate, fits, mismatch
from daemon.storage.note import Note
from daemon.storage.spool import Spool
from dicom_io.network.commitment import COMMITMENT
from dicom_io.network.scu import FIND
from reports.objects.kinds import FORMS, SR_SOP_CLASS_UIDS

SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", SR_SOP_CLASS_UIDS["comprehensive_3d"]

StartPeer = Callable[..., int]


@pytest.fixture
def start_peer() -> Iterator[StartPeer]:
    """`start_peer(*classes)`: an SCP on loopback that takes these SOP classes, natively; returns its port."""
    servers = []

    def start(
        *classes: str, title: str = "ARCHIVE", find: int | None = 0x0000, strict: bool = False, keeps: bool = False
    ) -> int:
        ae = AE(title)
        ae.require_called_aet = strict
        for uid in (Verification, *classes):
            ae.add_supported_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])

        def answer(event: evt.Event) -> Iterator[tuple[int, Any]]:
            if find is None:
                event.assoc.abort()
                return
            if keeps:
                yield 0xFF00, event.identifier
            yield find, None

        handlers = [(evt.EVT_C_FIND, answer), (evt.EVT_C_STORE, lambda event: 0x0000)]
        servers.append(ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers))
        return int(servers[-1].server_address[1])

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture
def free_here(make_config: Callable[..., Config], read_log: Any) -> Callable[..., Config]:
    """A configuration whose own port is free."""

    def make(port: int = 104, **changes: Any) -> Config:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ours = probe.getsockname()[1]
        return make_config(port, **{"dicom": Dicom(port=ours, acse_timeout_s=5.0)} | changes)

    return make


def found(config: Config, name: str) -> list[tuple[Result, str, str | None]]:
    return [(item.result, item.said, item.remedy) for item in checks(config) if item.name == name]


def test_all_is_right(free_here: Callable[..., Config], start_peer: StartPeer, capsys: pytest.CaptureFixture[str]):
    """Before the first start: nothing is made, each line says ok, and the command succeeds."""
    config = free_here(
        start_peer(SEG, SR, FIND),
        engine=Engine(memory_mb=None),
        destination=(Destination(peer="archive", confirm="query"),),
    )
    assert print_checks(config, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if not line.startswith(("ok ", "warning  memory", "warning  disk"))]
    assert failed == [lines[-1]]
    assert lines[-1].startswith(f"0 of {len(lines) - 1} checks failed, ")
    for words in (
        "is not there yet, and is made by the first start",
        "is made by the first start, by user",
        "is free",
        "peer modality: only sends, and is not asked",
        "answered C-ECHO in",
        "takes seg (Segmentation Storage; Explicit VR Little Endian, Implicit VR Little Endian)",
        "takes sr, verdict (Comprehensive 3D SR Storage",
        "answers C-FIND, for confirm",
    ):
        assert any(words in line for line in lines), words
    assert not config.storage.root.exists()


def test_as_scripts_read_it(free_here: Callable[..., Config], capsys: pytest.CaptureFixture[str]):
    """The same as JSON; nobody listens at the archive's port."""
    config = free_here(1)
    assert not print_checks(config, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["failed"] == 1
    (failed,) = [item for item in said["checks"] if item["result"] == "FAILED"]
    assert failed == {
        "name": "peer archive",
        "result": "FAILED",
        "said": "127.0.0.1:1: Connection refused",
        "remedy": "are host and port right, is it running, is there a firewall?",
    }


def test_an_archive_that_cannot_take_what_it_is_to_take(free_here: Callable[..., Config], start_peer: StartPeer):
    """It answers C-ECHO, and a `check` that says "valid" would be wrong: each object, and C-FIND, is asked for."""
    destination = Destination(peer="archive", objects=("seg", "sr", "pdf"), seg_type="labelmap", confirm="query")
    said = found(free_here(start_peer(SR), destination=(destination,)), "peer archive")
    assert [(result, text.partition(" (")[0].partition(":")[0]) for result, text, _ in said] == [
        (Result.OK, "ARCHIVE at 127.0.0.1"),
        (Result.FAILED, "does not take pdf"),
        (Result.FAILED, "does not take seg_labelmap"),
        (Result.OK, "takes sr_labelmap, verdict"),
        (Result.FAILED, "does not answer C-FIND, for confirm"),
    ]
    assert all(remedy for result, _, remedy in said if result == Result.FAILED)


def test_an_archive_that_is_to_commit_itself(free_here: Callable[..., Config], start_peer: StartPeer):
    """Whether it takes the request is asked for; that it can call back shows only when it does."""
    destination = Destination(peer="archive", objects=("seg",), confirm="commitment")
    for offered, result in (((SEG, SR, COMMITMENT), Result.OK), ((SEG, SR), Result.FAILED)):
        said = found(free_here(start_peer(*offered), destination=(destination,)), "peer archive")
        ((remedy, text),) = [(item[2], item[1]) for item in said if "storage commitment" in item[1]]
        assert {item[0] for item in said} == {Result.OK, result}
        assert text.startswith("takes" if result == Result.OK else "does not take")
        assert (remedy or "").startswith("" if result == Result.OK else "The destination has stored it, and does not")


def test_an_archive_that_refuses_queries(free_here: Callable[..., Config], start_peer: StartPeer):
    """It accepts the context and answers with an error."""
    config = free_here(start_peer(SEG, SR, FIND, find=0xA700), destination=(Destination(peer="archive", priors=True),))
    said = [text for result, text, _ in found(config, "peer archive") if result == Result.FAILED]
    assert said[0].startswith("does not take C-GET of earlier results")
    assert said[1].startswith("does not answer C-FIND, for priors: ARCHIVE at 127.0.0.1")
    assert said[1].endswith("ended a C-FIND with status 0xA700")


def test_an_archive_that_does_not_know_us(free_here: Callable[..., Config], start_peer: StartPeer):
    """It answers C-ECHO and takes nothing else, or breaks off at a query: titles are looked at before anything else."""
    config = free_here(start_peer(), destination=(Destination(peer="archive", confirm="query"),))
    known = (
        f"there: enter PORTA, 127.0.0.1, {config.dicom.port} as a node that may store and query; here: is "
        'ae_title = "ARCHIVE" of [[peer]] archive its own title?'
    )
    said = [(text.partition(" (")[0], remedy) for result, text, remedy in found(config, "peer archive") if remedy]
    nothing = f"it takes nothing but C-ECHO; {known}"
    assert said[:2] == [("does not take seg", nothing), ("does not take sr, verdict", nothing)]
    assert said[2][1] == "have it answer C-FIND; or take away what asks it: confirm"
    lost = free_here(start_peer(SEG, SR, FIND, find=None), destination=config.destinations, dicom=config.dicom)
    (failed,) = [remedy for result, _, remedy in found(lost, "peer archive") if result == Result.FAILED]
    assert failed == f"may we query there? {known}"


def test_titles_that_are_not_known(free_here: Callable[..., Config], start_peer: StartPeer):
    """The title that we call it by, and ours: each ends in what to enter where."""
    (wrong,) = found(free_here(start_peer(SEG, SR, title="ORTHANC", strict=True)), "peer archive")
    assert wrong[1].endswith("rejected the association: called AE title not recognised")
    assert wrong[2] == 'here: is ae_title = "ARCHIVE" of [[peer]] archive right? There: is that its own title?'
    config = free_here(start_peer(SEG, SR))
    with_strict = AE("ARCHIVE")
    with_strict.require_calling_aet = ["SOMEBODY"]
    with_strict.add_supported_context(Verification)
    server = with_strict.start_server(("127.0.0.1", 0), block=False)
    try:
        peers = (Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=server.server_address[1]),)
        (refused,) = found(config.model_copy(update={"peers": peers}), "peer archive")
    finally:
        server.shutdown()
    assert refused[1].endswith("calling AE title not recognised")
    assert refused[2] == (
        f"there: enter PORTA, 127.0.0.1, {config.dicom.port} as a node that may associate, store and query"
    )


def test_the_port(free_here: Callable[..., Config], spool: Spool):
    """Free, another program's, or not the one that the running service listens at."""
    config = free_here()
    (free,) = found(config, "port")
    assert free == (Result.OK, f"127.0.0.1:{config.dicom.port} is free", None)
    with spool.lock(Note.of(config).text):
        (other,) = found(config, "port")
        assert (other[0], other[2]) == (Result.FAILED, "restart it: the file was changed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", config.dicom.port))
        taken.listen()
        (anothers,) = found(config, "port")
        assert anothers[:2] == (
            Result.FAILED,
            f"cannot listen on 127.0.0.1:{config.dicom.port}: Address already in use",
        )


def test_our_own_port_answers(free_here: Callable[..., Config], start_peer: StartPeer, spool: Spool, ledger: Ledger):
    """By C-ECHO of a peer that may call from here; else by a refusal, which `porta study` is not told of."""
    config = free_here()
    receiver = Receiver(config, cast(Intake, None), ledger)
    receiver.start()
    where = f"127.0.0.1:{config.dicom.port}"
    strangers = config.model_copy(update={"peers": config.peers[1:]})
    renamed = config.model_copy(update={"dicom": config.dicom.model_copy(update={"ae_title": "LIVER"})})
    try:
        with spool.lock(Note.of(config).text):
            (echoed,) = found(config, "port")
            receiver.reload(strangers)
            (refused,) = found(strangers, "port")
            (other,) = found(renamed, "port")
        receiver.tell_refusals()
        assert {item.calling_ae_title for item in Desk(ledger).refusals(since=0)} == {"MODALITY"}
    finally:
        receiver.stop(5)
    assert echoed == (Result.OK, f"{where} is Porta's, which runs and answered C-ECHO of MODALITY", None)
    assert refused == (Result.OK, f"{where} is Porta's, which runs and refused us, as no peer calls from here", None)
    assert other[0] == Result.FAILED and other[1].startswith(f"Porta runs, and at {where} MODALITY is refused: ")
    hangs_up = socket.create_server(("127.0.0.1", config.dicom.port), reuse_port=False)
    threading.Thread(target=lambda: hangs_up.accept()[0].close(), daemon=True).start()
    with spool.lock(Note.of(config).text), hangs_up:
        ((result, said, _),) = found(config, "port")
    assert (result, said.startswith(f"Porta runs, and does not answer at {where}: ")) == (Result.FAILED, True)


def test_what_stands_still(free_here: Callable[..., Config], ledger: Ledger, make_instance: Callable[..., Any]):
    """By its reasons; nothing else tells an administrator who only looks."""
    config = free_here(ledger={"url": str(ledger.database._engine.url)})
    assert found(config, "jobs") == [(Result.OK, "none stands still", None)]
    for number, code in enumerate((HaltCode.MODEL_UNUSABLE, HaltCode.MODEL_UNUSABLE, HaltCode.WORKER_FAILED)):
        ledger.record_instance(make_instance(number), now=1.0)
        ledger.halt(ledger.all_jobs()[-1], code, now=2.0)
    ((result, said, remedy),) = found(config, "jobs")
    assert (result, said) == (Result.WARNING, "3 jobs stand still: 2 MODEL_UNUSABLE, 1 WORKER_FAILED")
    assert (remedy or "").startswith("`porta jobs --state HALTED` lists them")


def test_a_service_with_other_rules(free_here: Callable[..., Config], spool: Spool):
    """The file was changed, and the service was not restarted."""
    with spool.lock(replace(Note.of(free_here()), routing="another").text):
        said = found(free_here(), "configuration")
    assert said[-1] == (
        Result.WARNING,
        "the service runs with other peers, destinations or rules than the file has now",
        "`porta reload`",
    )


def test_the_ledger(free_here: Callable[..., Config], ledger: Ledger):
    """Of this version, of a later one, or away."""
    url = str(ledger.database._engine.url)
    config = free_here(ledger={"url": url})
    ((result, said, _),) = found(config, "ledger")
    assert (result, said.endswith("answers, its tables are of this version")) == (Result.OK, True)
    with ledger.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0009'")
    assert "of version 0009, and brought to" in found(config, "ledger")[0][1]
    with ledger.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    ((result, said, remedy),) = found(config, "ledger")
    assert (result, remedy) == (Result.FAILED, "run that version, or restore a backup")
    away = free_here(ledger={"url": "postgresql://porta:hunter2@127.0.0.1:1/porta"})
    ((result, said, _),) = found(away, "ledger")
    assert result == Result.FAILED
    assert "hunter2" not in said


def test_the_storage_root(free_here: Callable[..., Config], spool: Spool, monkeypatch: pytest.MonkeyPatch):
    """Another user's, a file, or a disk that is nearly full."""
    config = free_here()
    assert found(config, "storage")[0][:2] == (Result.OK, f"{spool.root} can be written, by user 0")
    with monkeypatch.context() as patch:
        patch.setattr("os.geteuid", lambda: 12345)
        assert found(config, "storage")[0][0] == Result.FAILED
    file = spool.root / "file"
    file.write_text("")
    for there in (file, Path("/proc")):  # where nothing is free either
        below = free_here(storage=Storage(root=there / "root", min_free_mb=1024))
        assert found(below, "storage")[0][:2] == (Result.FAILED, f"{there} is no folder that user 0 may write in")
        assert found(below, "disk") == []
    full = free_here(storage=Storage(root=spool.root, min_free_mb=10**9))
    assert found(full, "disk")[0][0] == Result.FAILED
    nearly = free_here(storage=Storage(root=spool.root, min_free_mb=spool.free_mb() * 2 // 3))
    assert found(nearly, "disk")[0][0] == Result.WARNING


def test_little_memory(free_here: Callable[..., Config]):
    """The worker would be ended at the first large series."""
    ((result, said, _),) = found(free_here(engine=Engine(memory_mb=1024)), "memory")
    assert result == Result.WARNING
    assert "of which the worker may use 1024" in said


# --- rules


def rule(name: str = "rule", to: str = "archive", enabled: bool = True, **match: Any) -> Rule:
    return Rule(name=name, enabled=enabled, match=as_read(match), model="resnet50", destinations=(to,))


def as_read(value: Any) -> Any:
    """Lists as the file gives them."""
    if isinstance(value, dict):
        return {key: as_read(item) for key, item in value.items()}
    return tuple(map(as_read, value)) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    ("earlier", "later", "does"),
    [
        ({}, {"Modality": "CT"}, True),
        ({"Modality": "CT"}, {"Modality": "ct"}, True),
        ({"Modality": "CT"}, {"Modality": "CT", "SeriesDescription": "*liver*"}, True),
        ({"Modality": "CT", "SeriesDescription": "*liver*"}, {"Modality": "CT"}, False),
        ({"Modality": ("CT", "MR")}, {"Modality": "MR"}, True),
        ({"Modality": "CT"}, {"Modality": ("CT", "MR")}, False),
        ({"Modality": "C?"}, {"Modality": "CT"}, True),
        ({"Modality": "*"}, {"SeriesDescription": "*liver*"}, True),
        ({"SeriesDescription": "*abd*"}, {"SeriesDescription": "*abdomen*"}, True),
        ({"SeriesDescription": "*abdomen*"}, {"SeriesDescription": "*abd*"}, False),
        ({"SeriesDescription": "*liver*"}, {"SeriesDescription": "l?ver"}, False),
        ({"Modality": "MR"}, {"Modality": "CT"}, False),
        ({"SeriesDescription": "re:liv.r"}, {"SeriesDescription": "liver"}, True),
        ({"SeriesDescription": "re:liv.r"}, {"SeriesDescription": "re:liv.r"}, True),
        ({"SeriesDescription": "*liver*"}, {"SeriesDescription": "re:liver|abd"}, False),
        ({"SliceThickness": "<= 5"}, {"SliceThickness": ["1..3", "< 5"]}, True),
        ({"SliceThickness": "< 5"}, {"SliceThickness": "<= 5"}, False),
        ({"SliceThickness": "<= 5"}, {"Modality": "CT"}, False),
        ({"phase": ["portal", "unknown"]}, {"phase": "portal"}, True),
        ({"phase": "portal"}, {"phase": ["portal", "unknown"]}, False),
        ({"phase": ["native", "arterial", "portal", "delayed", "unknown"]}, {"Modality": "CT"}, True),
        ({"hours": "07:00-18:00"}, {"hours": "07:00-18:00", "Modality": "CT"}, True),
        ({"hours": "07:00-18:00"}, {"Modality": "CT"}, False),
        ({"answered": False}, {"Modality": "CT"}, False),
        ({"any": [{"Modality": "CT"}, {"Modality": "MR"}]}, {"Modality": "MR"}, True),
        ({"Modality": ("CT", "MR")}, {"any": [{"Modality": "CT"}, {"Modality": "MR"}]}, True),
        ({"Modality": "CT"}, {"any": [{"Modality": "CT"}, {"Modality": "MR"}]}, False),
        ({"Modality": "CT"}, {"all": [{"Modality": "CT"}, {"SeriesDescription": "*liver*"}]}, True),
        ({"Modality": "CT", "SeriesDescription": "*"}, {"all": [{"Modality": "CT"}]}, True),
        ({"all": [{"Modality": "CT"}, {"KVP": "> 90"}]}, {"Modality": "CT"}, False),
        ({"not": {"Modality": "MR"}}, {"Modality": "CT"}, True),
        ({"not": {"Modality": "MR"}}, {"Modality": "M*"}, False),
        ({"not": {"SeriesDescription": "*scout*"}}, {"SeriesDescription": "liver*"}, False),
        ({"not": {"SeriesDescription": "scout*"}}, {"SeriesDescription": "liver*"}, True),
        ({"not": {"ImageType": "LOCALIZER"}}, {"ImageType": "AXIAL"}, False),
        ({"not": {"hours": "18:00-07:00"}}, {"hours": "08:00-12:00"}, True),
        ({"not": {"phase": "unknown"}}, {"phase": "portal"}, True),
        ({"not": {"SliceThickness": "> 5"}}, {"SliceThickness": "<= 3"}, True),
        ({"not": {"Modality": "CT"}}, {"not": {"Modality": ("CT", "MR")}}, True),
        ({"hours": ["07:00-12:00", "12:00-18:00"]}, {"hours": "08:00-17:00"}, True),
        ({"hours": "22:00-06:00"}, {"hours": ["23:00-01:00", "02:00-03:00"]}, True),
        ({"hours": "22:00-06:00"}, {"hours": "05:00-07:00"}, False),
        ({"SliceThickness": ["< 2", "2..4"]}, {"SliceThickness": "1..3"}, True),
        ({"answered": True}, {"answered": True, "Modality": "CT"}, True),
        ({"SeriesDescription": "*ab?*"}, {"SeriesDescription": "*abd*men*"}, True),
        ({"SeriesDescription": "*[ab]*"}, {"SeriesDescription": "*abd*"}, True),
        ({"SeriesDescription": "*[ab]*"}, {"SeriesDescription": "*?bd*"}, True),
        ({"SeriesDescription": "[b-a]"}, {"SeriesDescription": "a"}, False),
        ({"SeriesDescription": "?bd"}, {"SeriesDescription": "*bd"}, False),
        ({"not": {"Modality": "MR"}}, {"not": {"Modality": ("MR", "PT")}}, True),
    ],
    ids=str,
)
def test_a_rule_that_is_never_reached(earlier: dict[str, Any], later: dict[str, Any], does: bool):
    """Only where it is certain."""
    assert covers(rule(**earlier).match, rule(**later).match) is does


@pytest.mark.parametrize(
    ("rules", "shadows"),
    [
        ([{"Modality": "CT"}, {"Modality": "MR"}, {"Modality": ("CT", "MR")}], ["0", "1"]),
        ([{"Modality": "CT"}, {"Modality": "PT"}, {"Modality": "MR"}, {"Modality": ("CT", "MR")}], ["0", "2"]),
        ([{"phase": "portal"}, {"phase": ["native", "arterial", "delayed", "unknown"]}, {}], ["0", "1"]),
        ([{"phase": "portal"}, {"phase": ["native", "arterial", "delayed"]}, {}], []),
        ([{"hours": "07:00-18:00"}, {"hours": "18:00-07:00"}, {"Modality": "CT"}], ["0", "1"]),
        ([{"hours": "07:00-18:00"}, {"hours": "18:00-06:59"}, {"Modality": "CT"}], []),
        ([{"answered": True}, {"answered": False}, {"Modality": "CT"}], ["0", "1"]),
        ([{"SliceThickness": "<= 3"}, {"SliceThickness": "> 3"}, {"SliceThickness": "1..5"}], ["0", "1"]),
        ([{"SliceThickness": "<= 3"}, {"SliceThickness": "> 3"}, {"Modality": "CT"}], []),
        (
            [
                {"Modality": "CT", "SeriesDescription": "*liver*"},
                {"Modality": "CT", "not": {"SeriesDescription": "*liver*"}},
                {"Modality": "CT"},
            ],
            ["0", "1"],
        ),
        (
            [{"any": [{"Modality": "CT"}, {"phase": "portal"}]}, {"not": {"phase": "portal"}}, {"Modality": "PT"}],
            ["0", "1"],
        ),
    ],
    ids=str,
)
def test_rules_that_shadow_another_together(rules: list[dict[str, Any]], shadows: list[str]):
    """By lists, hours, phases, numbers and what they exclude; the fewest of them are named."""
    *earlier, last = [rule(str(number), **match) for number, match in enumerate(rules)]
    assert [one.name for one in shadows_of(last, earlier)] == shadows


def test_many_rules_are_looked_at_within_bounds():
    """Where a question is too large it is not decided, and nothing is said."""
    many = [rule(str(n), SeriesDescription=f"*{n}*", StudyDescription=f"*{n}*") for n in range(60)]
    assert shadows_of(rule(Modality="CT"), many) == []


ATOMS = st.sampled_from(
    [
        {"Modality": "CT"},
        {"Modality": ("CT", "MR")},
        {"SeriesDescription": "*liver*"},
        {"SeriesDescription": "re:^l"},
        {"SliceThickness": ("<= 3", "5")},
        {"SliceThickness": "> 1"},
        {"answered": True},
    ]
)
MATCHES = st.recursive(
    ATOMS,
    lambda parts: st.builds(
        lambda key, some: {key: some}, st.sampled_from(["any", "all", "not"]), st.lists(parts, min_size=1, max_size=3)
    ),
    max_leaves=4,
)


@given(st.lists(MATCHES, min_size=1, max_size=4))
def test_no_series_reaches_a_rule_that_is_said_to_be_never_reached(matches: list[dict[str, Any]]):
    """As the service matches them; tried with series of every kind that these rules distinguish."""
    *earlier, last = [rule(str(number), **match) for number, match in enumerate(matches)]
    if not shadows_of(last, earlier):
        return
    for modality, description, thickness, is_answered in product(
        ("CT", "MR", "PT"), ("liver", "my liver", "lung", ""), ("1", "2", "4", "5", None), (True, False)
    ):
        header = Dataset()
        header.Modality, header.SeriesDescription, header.SliceThickness = modality, description, thickness
        series = Candidate(header, "CT1", 0.0, lambda answered=is_answered: answered)  # type: ignore[misc]
        assert mismatch(last, series) or not all(mismatch(one, series) for one in earlier)


GLOBS = st.text(alphabet="abC*?[]!", max_size=6).filter(bool)


@given(st.lists(GLOBS, min_size=2, max_size=2), st.text(alphabet="abC[]", max_size=5))
def test_what_is_said_of_two_globs_holds_of_every_text(globs: list[str], text: str):
    """Within: who fits the one fits the other. Apart: nobody fits both."""
    narrow, wide = globs
    if fits(text, narrow):
        assert fits(text, wide) or not is_within_pattern(narrow, wide)
        assert not fits(text, wide) or not are_apart(narrow, wide)


def said_of(config: Config) -> list[str]:
    return [said for said, _ in doubts(config)]


def test_what_may_be_meant_otherwise(make_config: Callable[..., Config]):
    """No rule, shadowed ones, a destination for nobody, our own title, a pattern of another language, no sender."""
    assert said_of(make_config()) == []
    peers = (
        Peer(name="archive", ae_title="PORTA", host="127.0.0.1", port=104),
        Peer(name="ris", ae_title="RIS", host="127.0.0.1", port=105),
    )
    rules = (rule("all", Modality="CT"), rule("liver", Modality="CT", SeriesDescription=".*liver.*"))
    config = make_config(peer=peers, destination=(Destination(peer="archive"), Destination(peer="ris")), rule=rules)
    assert said_of(config) == [
        "rule liver is never reached: all that it matches falls under all before",
        'rule liver: SeriesDescription = ".*liver.*" looks like a regular expression, and is a glob',
        "destination ris is in no rule: nothing is sent there",
        "peer archive has Porta's own AE title PORTA",
        "no peer has accept = true: every association is refused",
    ]
    assert said_of(make_config(rule=()))[0] == "there is no rule: every series ends as NO_RULE"
    assert said_of(make_config(rule=(rule(enabled=False),)))[0].startswith("every rule has enabled = false")


def test_a_rule_that_is_switched_off_shadows_none(make_config: Callable[..., Config]):
    """Nor is anything said of it."""
    on, off = rule("on", Modality="CT"), rule("off", enabled=False, Modality=("CT", ".*"))
    assert said_of(make_config(rule=(off, on, off))) == []


def test_a_rule_that_excludes_itself(make_config: Callable[..., Config]):
    """What it asks for is what it does not want."""
    never = rule(Modality="CT", SeriesDescription="*liver*", **{"not": {"SeriesDescription": "*liv*"}})
    assert said_of(make_config(rule=(never,))) == ["rule rule never matches: `not` excludes all that it asks for"]
    both = rule(**{"all": [{"Modality": "CT"}, {"Modality": "MR"}]})
    assert said_of(make_config(rule=(both,))) == ["rule rule never matches: what it asks for excludes itself"]
    some = rule(Modality="CT", **{"not": {"SeriesDescription": "*scout*"}})
    assert said_of(make_config(rule=(some,))) == []


def test_what_is_a_regular_expression_may_look_like_one(make_config: Callable[..., Config]):
    """After `re:`; within a part, a glob that looks like one is found too."""
    assert said_of(make_config(rule=(rule(SeriesDescription="re:^liver.*$"),))) == []
    nested = rule(**{"any": [{"SeriesDescription": "^liver"}, {"Modality": "CT"}]})
    assert any("looks like a regular expression" in said for said in said_of(make_config(rule=(nested,))))


@pytest.mark.parametrize(
    "pattern",
    [".*liver.*", "^CT$", r"CT\d+", "(CT|MR)", "(?i)liver", "liver$", "abd(omen)?", "[ab]+", "CT[0-9]{2}"],
)
def test_patterns_of_another_language(make_config: Callable[..., Config], pattern: str):
    """They match nothing, or something else."""
    assert any(
        "looks like a regular expression" in said for said in said_of(make_config(rule=(rule(Modality=pattern),)))
    )


@pytest.mark.parametrize(
    "pattern", ["*liver*", "CT?", "[abc]*", "5.0 x 5.0", "B30f", "Liver (portal)*", "a|b", "C+", "[[]x]"]
)
def test_patterns_that_are_globs(make_config: Callable[..., Config], pattern: str):
    """What a description may well hold is no regular expression."""
    assert not any("regular" in said for said in said_of(make_config(rule=(rule(SeriesDescription=pattern),))))


@pytest.mark.parametrize("pattern", ["[abc", "CT [*", "x[!]"])
def test_a_list_of_characters_that_does_not_end(make_config: Callable[..., Config], pattern: str):
    """It stands for itself, which nobody means."""
    (said,) = said_of(make_config(rule=(rule(SeriesDescription=pattern),)))
    assert said == f'rule rule: SeriesDescription = "{pattern}" has a [ without a ], which stands for itself'


def test_every_form_is_offered_as_it_is_written():
    """The SOP class of each object that a destination may take; tests/reports look at the objects themselves."""
    offered = {name: UID(offer_of(form).sop_class_uid).name for name, form in FORMS.items()}
    assert {name for name, uid in offered.items() if uid == "Segmentation Storage"} == {"seg", "probability"}
    assert {name for name, uid in offered.items() if "SR" in uid} == {
        name for name, form in FORMS.items() if form.sr_class
    }
    assert offered["pdf"] == "Encapsulated PDF Storage"
    assert {offered["key_images"], offered["explain"]} == {"Secondary Capture Image Storage"}


def test_storing_a_marked_object(free_here: Callable[..., Config], start_peer: StartPeer):
    """Taken and there; taken and not there; refused; and where no SR is taken nothing is sent."""
    asked_for = Destination(peer="archive", confirm="query")

    def storing(port: int, destination: Destination = asked_for) -> list[tuple[Result, str]]:
        config = free_here(port, destination=(destination,))
        return [
            (item.result, item.said)
            for item in checks(config, storing=store_test_object)
            if item.name == "storing at archive"
        ]

    took = (Result.OK, "took a test object (0x0000); patient PORTA-CHECK, to be deleted there")
    assert storing(start_peer(SEG, SR, FIND)) == [
        took,
        (Result.FAILED, "took it with success and does not have it"),
    ]
    assert storing(start_peer(SEG, SR, FIND, keeps=True))[1] == (Result.OK, "has it, as it answered to C-FIND")
    assert storing(start_peer(SEG, SR), Destination(peer="archive")) == [took]
    ((result, said),) = storing(start_peer(SEG, FIND))
    assert (result, "does not accept Comprehensive 3D SR Storage" in said) == (Result.FAILED, True)
    assert storing(1, Destination(peer="archive", objects=("seg",))) == [
        (Result.OK, "takes no SR, which the test object is: nothing was sent")
    ]
