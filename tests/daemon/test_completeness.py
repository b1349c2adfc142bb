"""When a series is closed: by the count of a peer that is really asked, by gaps and releases, and by quiet."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.events import Event

from daemon.completeness import Asker, Closer, is_open
from daemon.configuration.config import Config, Peer
from daemon.intake import Intake
from daemon.jobs import HaltCode, Job, State
from daemon.judgement import Judge
from daemon.ledger.store import Ledger
from daemon.storage.sidecar import read_spooled
from daemon.storage.spool import Spool
from dicom_io.errors import Cure, NotDicom, RejectReason, SeriesRejected
from dicom_io.files.uids import derive_uid
from dicom_io.series.series import Series, arrange

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENCE_S = 20


def opened(paths: Sequence[Path], memory_mb: int | None) -> Series:
    return arrange([read_spooled(path) for path in paths])


@dataclass
class Pacs:
    """A peer that answers C-FIND: how many instances it has of each series, by number; and what it was asked."""

    port: int = 0
    has: dict[int, int] = field(default_factory=dict)
    status: int = 0x0000
    asked: list[str] = field(default_factory=list)

    def answer(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.append(str(event.identifier.SeriesInstanceUID))
        for number, size in self.has.items():
            ds = Dataset()
            ds.SeriesInstanceUID = derive_uid("series", number)
            ds.NumberOfSeriesRelatedInstances = size
            yield 0xFF00, ds
        yield self.status, None


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    peer, ae = Pacs(), AE("PACS")
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        contexts=[build_context(FIND, ImplicitVRLittleEndian)],
        evt_handlers=[(evt.EVT_C_FIND, peer.answer)],
    )
    peer.port = server.server_address[1]
    yield peer
    ae.shutdown()


@dataclass
class Door:
    """What stands between a sender and the pipeline."""

    asker: Asker
    closer: Closer
    intake: Intake
    ledger: Ledger
    spool: Spool
    clock: Any
    make_ct: Callable[..., bytes]

    def receive(
        self, *indexes: int, series: int = 1, study: int = 1, change: Callable[[Any], None] | None = None
    ) -> None:
        def in_study(ds: Any) -> None:
            ds.StudyInstanceUID = derive_uid("study", study)
            if change:
                change(ds)

        for index in indexes:
            self.intake.take(self.make_ct(series, index, change=in_study), calling_ae_title="PACS")

    def release(self, *series: int) -> None:
        self.ledger.release_series([derive_uid("series", number) for number in series or (1,)], now=self.clock())

    def after(self, seconds: float) -> tuple[bool, int]:
        """Time passes: whether the peer had news then, and how many series were closed."""
        self.clock.pass_s(seconds)
        return self.asker.ask_due(), self.closer.close_due()

    @property
    def job(self) -> Job:
        return self.ledger.all_jobs()[-1]


@pytest.fixture
def make_door(
    spool: Spool,
    ledger: Ledger,
    clock: Any,
    pacs: Pacs,
    make_ct: Callable[..., bytes],
    make_config: Callable[..., Config],
    read_log: Any,
    tmp_path: Path,
    assert_no_canary: Callable[[Path], None],
) -> Iterator[Callable[..., Door]]:
    def make(*, port: int | None = None, open_series: Any = opened, **asking: Any) -> Door:
        peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=port or pacs.port, accept=True, query=True)
        config = make_config()
        judge = Judge(config, spool, ledger, open_series)
        return Door(
            Asker(config, peer, ledger, clock, **asking),
            Closer(config, spool, ledger, judge, clock=clock),
            Intake(spool, ledger, clock),
            ledger,
            spool,
            clock,
            make_ct,
        )

    yield make
    assert read_log.events is not None
    assert_no_canary(tmp_path)


MakeDoor = Callable[..., Door]
WHOLE = range(1, 13)
"""The twelve images of a series of 60 mm."""


# --- proved


def test_a_series_that_is_all_here_is_closed_soon(make_door: MakeDoor, pacs: Pacs, read_log: Any):
    """The peer is asked 0.3 s after the last image, its count is ours, and after 2 s it still is."""
    door = make_door()
    door.receive(*WHOLE)
    pacs.has = {1: 12}
    assert door.after(0.2) == (False, 0)
    assert pacs.asked == []
    assert door.after(0.11) == (False, 0)
    assert pacs.asked == [derive_uid("series", 1)]
    assert door.after(1.6) == (False, 0)
    assert door.after(0.1) == (True, 1)
    assert pacs.asked == [derive_uid("series", 1)] * 2
    assert (door.job.state, door.job.instances) == (State.RECEIVED, 12)
    (line,) = read_log.named("series.closed")
    assert (line["code"], line["instances"], line["missing"]) == ("PROVED", 12, 0)


def test_a_count_that_does_not_hold_proves_nothing(make_door: MakeDoor, pacs: Pacs):
    """The peer has received more itself when it is asked again; then it is waited for."""
    door = make_door()
    door.receive(*WHOLE)
    pacs.has = {1: 12}
    assert door.after(0.3) == (False, 0)
    pacs.has = {1: 13}
    assert door.after(1.8) == (False, 0)
    assert door.after(1) == (False, 0)
    door.receive(13)
    assert door.after(6.3) == (True, 1)  # twice the pause before it
    assert door.job.instances == 13


def test_a_release_is_news(make_door: MakeDoor, pacs: Pacs):
    """The sender has gone: it is asked without waiting for 0.3 s whether it has more."""
    door = make_door()
    door.receive(*WHOLE)
    door.release()
    pacs.has = {1: 12}
    assert door.after(0) == (False, 0)
    assert len(pacs.asked) == 1
    assert door.after(2) == (True, 1)


def test_the_last_of_those_that_the_peer_has_closes_the_series(make_door: MakeDoor, pacs: Pacs):
    """It said twelve when eight were here: with the twelfth the series may be complete, and two seconds later it is."""
    door = make_door()
    pacs.has = {1: 12}
    door.receive(*range(1, 9))
    assert door.after(0.3) == (False, 0)
    for index in (9, 10, 11):
        door.receive(index)
        assert door.after(0.1) == (False, 0)
    door.receive(12)
    assert door.after(0) == (False, 0)
    assert door.after(2) == (True, 1)
    assert len(pacs.asked) == 2


@pytest.mark.parametrize("pause_s", [0.6, 2.5, 6, 9])
@pytest.mark.parametrize("released", [False, True], ids=["one association", "one for each image"])
def test_a_peer_that_forwards_as_it_receives_is_never_believed_too_soon(
    make_door: MakeDoor, pacs: Pacs, read_log: Any, pause_s: float, released: bool
):
    """Its count is ours after each image, from the first; nothing is closed before the last, and then at once."""
    door = make_door()
    for index in range(1, 31):
        pacs.has = {1: index}
        door.receive(index)
        if released:
            door.release()
        for _ in range(round(pause_s / 0.1)):
            assert door.after(0.1)[1] == 0, index
    waited_s = pause_s
    while not door.after(0.1)[1]:
        waited_s += 0.1
    assert waited_s <= min(max(2 * pause_s, 2), 20) + 0.5
    (line,) = read_log.named("series.closed")
    assert line["instances"] == 30


@pytest.mark.parametrize("indexes", [[1], [1, 2, 3], range(1, 10)], ids=["one", "three", "45 mm"])
def test_what_more_slices_could_cure_waits_for_quiet_though_it_is_proved(
    make_door: MakeDoor, pacs: Pacs, indexes: Sequence[int]
):
    """A "not processed" in the study that the next slice makes untrue would stay there."""
    door = make_door()
    door.receive(*indexes)
    door.release()
    pacs.has = {1: len(indexes)}
    assert [door.after(1)[1] for _ in range(20)] == [0] * 19 + [1]


def test_a_gap_that_is_the_archive_s_too_does_not_wait(make_door: MakeDoor, pacs: Pacs):
    """One slice is missing, and the archive has no more: it is read with a warning, and soon."""
    door = make_door()
    door.receive(*[index for index in range(1, 21) if index != 7])
    pacs.has = {1: 19}
    assert door.after(2) == (True, 1)


def test_a_peer_that_has_more_is_waited_for(make_door: MakeDoor, pacs: Pacs, read_log: Any):
    """Longer than `released_quiet_s`; after `quiet_s` the series is closed as it is, and the log says what it lacks."""
    door = make_door()
    pacs.has = {1: 15}
    door.receive(*WHOLE)
    door.release()
    times = [door.after(1) for _ in range(19)]
    assert times == [(False, 0)] * 19
    assert 4 <= len(pacs.asked) <= 6
    assert {(line["missing"], line["peer"]) for line in read_log.named("series.awaited")} == {(3, "pacs")}
    assert door.after(1)[1] == 1
    (line,) = read_log.named("series.closed")
    assert (line["code"], line["instances"], line["missing"]) == ("QUIET", 12, 3)
    assert door.job.state == State.RECEIVED


@pytest.mark.parametrize("has", [{}, {1: 0}, {1: 7}, {2: 12}], ids=str)
def test_a_peer_that_has_fewer_or_none_proves_nothing(make_door: MakeDoor, pacs: Pacs, has: dict[int, int]):
    """Then the times decide, as if it had not been asked."""
    door = make_door()
    pacs.has = has
    door.receive(*WHOLE)
    door.release()
    assert door.after(0.3) == (False, 0)
    assert door.after(4.6) == (False, 0)
    assert door.after(0.1)[1] == 1
    assert len(pacs.asked) <= 4


def test_several_series_of_a_study_are_asked_about_at_once(make_door: MakeDoor, pacs: Pacs):
    """One query; each is closed by its own count."""
    door = make_door()
    pacs.has = {1: 12, 2: 13}
    door.receive(*WHOLE, series=1)
    door.receive(*WHOLE, series=2)
    assert door.after(0.3) == (False, 0)
    assert pacs.asked == [""]
    assert door.after(1.8) == (True, 1)
    door.receive(13, series=2)
    assert door.after(4.3) == (True, 1)  # twice the pause before it
    assert [job.state for job in door.ledger.all_jobs()] == [State.RECEIVED] * 2


def test_a_silent_series_is_asked_about_ever_more_seldom(make_door: MakeDoor, pacs: Pacs):
    """A sender that stands still for long, with a `quiet_s` that waits for it."""
    door = make_door()
    pacs.has = {1: 99}
    door.receive(*WHOLE)
    times = []
    for _ in range(60 * 4):
        before = len(pacs.asked)
        door.clock.pass_s(0.25)
        door.asker.ask_due()
        times += [door.clock()] if len(pacs.asked) > before else []
    pauses = [round(later - earlier, 2) for earlier, later in zip(times, times[1:], strict=False)]
    assert pauses[:4] == [1.5, 2, 4, 8]
    assert set(pauses[4:]) == {8}


def test_only_what_this_peer_sends_is_asked_for(make_door: MakeDoor, pacs: Pacs, make_ct: Callable[..., bytes]):
    """Another sender's series is not this peer's business; nor is one that is closed."""
    door = make_door()
    door.intake.take(make_ct(5), calling_ae_title="MODALITY")
    assert door.after(1) == (False, 0)
    assert pacs.asked == []
    door.receive(*WHOLE)
    assert door.after(20)[1] == 2
    pacs.asked.clear()
    assert door.after(20) == (False, 0)
    assert pacs.asked == []


# --- a peer that fails


def test_a_peer_that_fails_is_left_alone_for_a_while(make_door: MakeDoor, pacs: Pacs, read_log: Any):
    """Ever longer; the times close the series meanwhile, and an answer is worth having again."""
    door = make_door()
    pacs.status = 0xC001
    pacs.has = {1: 12}
    door.receive(*WHOLE)
    attempts = []
    for second in range(1, 20):
        before = len(pacs.asked)
        assert door.after(1) == (False, 0)
        attempts += [second] if len(pacs.asked) > before else []
    assert attempts == [1, 3, 7, 15]
    lines = read_log.named("peer.failed")
    assert [line["delay_s"] for line in lines] == [2, 4, 8, 16]
    assert {(line["peer"], line["level"]) for line in lines} == {("pacs", "warning")}
    assert door.after(1)[1] == 1
    pacs.status = 0x0000
    door.receive(13)
    pacs.has = {1: 13}
    assert door.after(16) == (True, 1)


@pytest.mark.parametrize("what", ["nobody there", "says nothing"])
def test_a_peer_that_does_not_answer(make_door: MakeDoor, read_log: Any, what: str):
    """Is given up after its time; the series is closed when it has been released, as without it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = int(silent.getsockname()[1])
        if what == "nobody there":
            silent.close()
        door = make_door(port=port, timeout_s=0.3)
        door.receive(*WHOLE)
        door.release()
        assert door.after(0.3) == (False, 0)
    assert len(read_log.named("peer.failed")) == 1
    assert door.after(4.8)[1] == 1


def test_a_slow_peer_holds_up_no_closing(make_door: MakeDoor, pacs: Pacs):
    """It is asked in a thread of its own; another series is closed while it thinks."""
    door = make_door()
    asked, leave = threading.Event(), threading.Event()
    answer = pacs.answer

    def slowly(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        asked.set()
        leave.wait(PATIENCE_S)
        yield from answer(event)

    ae = AE("PACS")
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        contexts=[build_context(FIND, ImplicitVRLittleEndian)],
        evt_handlers=[(evt.EVT_C_FIND, slowly)],
    )
    asker = replace(door.asker, peer=door.asker.peer.model_copy(update={"port": server.server_address[1]}))
    door.receive(*WHOLE)
    door.clock.pass_s(20)
    thread = threading.Thread(target=asker.ask_due)
    thread.start()
    assert asked.wait(PATIENCE_S)
    assert door.closer.close_due() == 1
    assert thread.is_alive()
    leave.set()
    thread.join(PATIENCE_S)
    ae.shutdown()


# --- by the times


def test_a_quiet_series_is_closed_under_its_rule(make_door: MakeDoor, read_log: Any):
    """Not before its time; and then once."""
    door = make_door()
    door.receive(1, 2, 3)
    for seconds, closed in ((0, 0), (19.9, 0), (0.1, 1), (5, 0)):
        door.clock.pass_s(seconds)
        assert door.closer.close_due() == closed
    assert (door.job.state, door.job.rule, door.job.instances) == (State.RECEIVED, "liver-ct", 3)
    (line,) = read_log.named("series.closed")
    assert (line["job_id"], line["instances"], line["rule"], line["code"]) == (door.job.id, 3, "liver-ct", "QUIET")


def close_after_release(door: Door) -> float:
    """Seconds from the release to the closing, without a peer that could be asked."""
    door.release()
    start = door.clock()
    while not door.closer.close_due():
        door.clock.pass_s(0.5)
    return float(door.clock() - start)


def test_a_released_series_without_a_gap_is_closed_sooner(make_door: MakeDoor, read_log: Any):
    """`released_quiet_s` of the configuration."""
    door = make_door()
    door.receive(*WHOLE)
    assert close_after_release(door) == 5
    assert [line["code"] for line in read_log.named("series.closed")] == ["RELEASED"]


@pytest.mark.parametrize(
    "indexes",
    [
        [index for index in range(1, 21) if index != 7],
        [1, 2, 3],
        [1],
        [*range(1, 5), *range(17, 21)],
    ],
    ids=["one missing", "too few", "one", "a hole"],
)
def test_a_released_series_with_a_gap_waits_for_quiet(make_door: MakeDoor, read_log: Any, indexes: list[int]):
    """What is missing may be on its way over another association. It is looked at once, not at each tick."""
    looks: list[int] = []

    def look(paths: Sequence[Path], memory_mb: int | None) -> Series:
        looks.append(len(paths))
        return opened(paths, memory_mb)

    door = make_door(open_series=look)
    door.receive(*indexes)
    assert close_after_release(door) == 20
    assert looks == [len(indexes)]
    assert len(read_log.named("series.gapped")) == 1


def test_the_gap_is_filled(make_door: MakeDoor):
    """The missing slice comes with another association: then the release of that one counts."""
    door = make_door()
    door.receive(*[index for index in WHOLE if index != 7])
    door.release()
    door.clock.pass_s(6)
    assert door.closer.close_due() == 0
    door.receive(7)
    assert close_after_release(door) == 12  # twice the pause before it


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        lambda ds: delattr(ds, "ImagePositionPatient"),
        lambda ds: delattr(ds, "PixelSpacing"),
    ],
    ids=["scout", "no position", "no spacing"],
)
def test_what_no_further_slice_could_cure_does_not_hold_up_its_study(
    make_door: MakeDoor, change: Callable[[Any], None]
):
    """A scout stays a scout: the other series of the study wait for it no longer than for any."""
    door = make_door()
    door.receive(*WHOLE, change=change)
    assert close_after_release(door) == 5


@pytest.mark.parametrize("error", [NotDicom("spool/1"), FileNotFoundError(2, "gone"), ValueError("ZZPHI^CANARY")])
def test_a_series_that_cannot_be_looked_at_is_closed_in_its_time(make_door: MakeDoor, error: Exception):
    """And keeps no other from being closed; what is wrong with it the choice will find."""

    def fail(paths: Sequence[Path], memory_mb: int | None) -> Series:
        raise error

    door = make_door(open_series=fail)
    door.receive(*WHOLE)
    assert close_after_release(door) == 5


@pytest.mark.parametrize("reason", RejectReason)
def test_a_reason_that_slices_may_cure_leaves_room_for_them(reason: RejectReason):
    """Those about what is not there; those about what is there stay."""
    assert is_open(SeriesRejected(reason)) == (reason.cure is Cure.MORE_SLICES)


def test_a_series_no_rule_matches_is_rejected(make_door: MakeDoor):
    """Never silence: the job is there with its reason. Whether it has gaps is nobody's concern."""
    door = make_door()
    door.receive(1, change=lambda ds: setattr(ds, "Modality", "MR"))
    assert close_after_release(door) == 5
    assert (door.job.state, door.job.reject_reason, door.job.rule) == (State.REJECTED, RejectReason.NO_RULE, None)


def test_a_file_that_is_gone_does_not_hold_up_the_others(make_door: MakeDoor):
    """The rule is found by another file of the series; other series are closed whatever became of this one."""
    door = make_door()
    door.receive(1, 2, series=1)
    door.receive(1, series=2)
    door.receive(1, series=3)
    one, _ = door.ledger.instance_paths(derive_uid("series", 1))
    (only,) = door.ledger.instance_paths(derive_uid("series", 2))
    for path in (one, only):
        (door.spool.root / path).unlink()
    door.clock.pass_s(20)
    assert door.closer.close_due() == 2
    states = {job.series_instance_uid: (job.state, job.halt) for job in door.ledger.all_jobs()}
    assert states == {
        derive_uid("series", 1): (State.RECEIVED, None),
        derive_uid("series", 2): (State.RECEIVING, HaltCode.SPOOL_UNREADABLE),
        derive_uid("series", 3): (State.RECEIVED, None),
    }


def test_silence_counts_while_somebody_listens(make_door: MakeDoor):
    """A service that was down for an hour in the middle of a series waits for the rest of it."""
    door = make_door()
    door.receive(1)
    door.clock.pass_s(3600)
    again = replace(door.closer, listening_since=door.clock())
    assert again.close_due() == 0
    door.clock.pass_s(19.9)
    assert again.close_due() == 0
    door.clock.pass_s(0.1)
    assert again.close_due() == 1
