"""What may be said of a study of which nothing is here: it was refused, or never sent. What to do, in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID

from daemon.administration.fates import Fate
from daemon.administration.moments import in_zone
from daemon.configuration.config import Config
from daemon.ledger.rows import Refusal, RefusalKind
from daemon.receiver import would_refuse
from daemon.storage.quarantine import HARMLESS, Entry, Quarantine
from daemon.storage.spool import Spool
from dicom_io.files.dataset_reader import read_contents
from dicom_io.files.values import DAMAGED
from dicom_io.network import scp
from dicom_io.network.storage_classes import may_be_stored
from dicom_io.network.studies import HeldSeries

LATELY_S = 86_400.0
"""How far back refusals are looked at: of which study they were nobody knows."""


@dataclass(frozen=True)
class Absence:
    """A study of which nothing is here; `held` is what the peer `at` has of it, `set_aside` what is in quarantine.

    `asked` are the peers that were asked for it by C-FIND, `unasked` those that could not be. `is_current`: the service
    does not run, or runs with the configuration as the file has it now.
    """

    set_aside: Sequence[Entry] = ()
    refusals: Sequence[Refusal] = ()
    at: str | None = None
    held: Sequence[HeldSeries] = ()
    asked: Sequence[str] = ()
    unasked: Sequence[str] = ()
    is_current: bool = True

    @property
    def fate(self) -> Fate:
        """Refused, where something was that may have been of it."""
        return Fate.REFUSED if self.set_aside or self.refusals else Fate.NOT_SENT

    def sentence(self, config: Config) -> str:
        """What has become of it, and what to do."""
        there = self._there()
        if self.set_aside:
            reasons = ", ".join(sorted({entry.reason for entry in self.set_aside}))
            count = _count(sum(entry.count for entry in self.set_aside), "image", "images")
            return f"{count} of it came and could not be taken in ({reasons}): `porta quarantine` lists them.{there}"
        if self.refusals:
            refused = refusal_sentence(self.refusals[0], config, is_current=self.is_current)
            return f"Nothing of it came.{there} {refused}"
        ours = f"{config.dicom.ae_title} at port {config.dicom.port}"
        return f"Nothing of it came, and nobody was refused in the last 24 h.{there} Send it to {ours}."

    def _there(self) -> str:
        """Which archive has it, or that none was asked, or knows it."""
        if self.at is not None:
            images = sum(series.instances for series in self.held)
            return f" {self.at} has it: {_count(len(self.held), 'series', 'series')}, {images} images."
        said = f" {_names(self.asked)} asked by C-FIND, and no such study is there." if self.asked else ""
        said += f" {', '.join(self.unasked)} could not be asked." if self.unasked else ""
        return said or " No archive was asked: no [[peer]] has query = true, and none is a destination."


def refusal_sentence(refusal: Refusal, config: Config, *, is_current: bool = True) -> str:
    """Who was refused, how often, why, and what to change in the configuration as the file has it now."""
    who = f"{refusal.calling_ae_title or 'a peer without AE title'} at {refusal.host}"
    times = f"{_count(refusal.count, 'time', 'times')}, last {in_zone(refusal.last_at)}"
    if refusal.kind == RefusalKind.CONTEXT:
        name = UID(refusal.reason).name if refusal.reason else "what is no UID"
        is_image = may_be_stored(refusal.reason or "")
        takes = "images in syntaxes that it can decode" if is_image else "images, and none was refused"
        return f"{who} offered {name} and was refused that ({times}): Porta takes {takes}."
    if refusal.kind == RefusalKind.BROKEN_OFF:
        return f"An association of {who} broke off ({refusal.reason}, {times}): have the study sent again."
    return f"{who} was refused ({refusal.reason}, {times}): {_advice(refusal, config, is_current=is_current)}"


def _advice(refusal: Refusal, config: Config, *, is_current: bool) -> str:
    ours, called = config.dicom.ae_title, refusal.called_ae_title
    match would_refuse(config, refusal.calling_ae_title, called, refusal.host):
        case scp.Refusal.CALLING_AE_TITLE:
            peer = f'[[peer]] with ae_title = "{refusal.calling_ae_title}" and accept = true'
            return f"there is no {peer}: add it here, or correct the title there."
        case scp.Refusal.CALLING_HOST:
            return f'its [[peer]] names another host: enter host = "{refusal.host}", or leave it out.'
        case scp.Refusal.CALLED_AE_TITLE:
            return f"it called {called}, and Porta is {ours}: enter {ours} there, or change [dicom] ae_title here."
    if refusal.reason == scp.Refusal.LOCAL_LIMIT:
        return "more associations at once than maximum_associations: it tries again, or raise that."
    if all(peer.tls for peer in config.accepting_peers if peer.ae_title == refusal.calling_ae_title):
        return "its [[peer]] has tls = true: have it call over TLS, or take that away; then have the study sent again."
    first = "" if is_current else "`porta reload`, then "
    return f"the configuration would let it in now: {first}have the study sent again."


def set_aside(spool: Spool, uid: str) -> list[Entry]:
    """The entries of the quarantine whose bytes name this study or series, as far as they can be read."""
    return [
        entry
        for entry in Quarantine(spool).entries()
        if entry.reason not in HARMLESS and uid in _named(spool.root / "quarantine" / f"{entry.id}.dcm")
    ]


def _named(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            ds = read_contents(file).ds
        return tuple(str(ds.get(keyword, "")) for keyword in ("StudyInstanceUID", "SeriesInstanceUID"))
    except (*DAMAGED, OSError):
        return ()


def _names(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'}"


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
