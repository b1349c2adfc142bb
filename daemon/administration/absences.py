"""What may be said of a study of which nothing is here: it was refused, or never sent. What to do, in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID

from daemon.administration.fates import Fate
from daemon.administration.moments import in_zone
from daemon.configuration.config import Config
from daemon.ledger.rows import Refusal, RefusalKind
from daemon.storage.quarantine import HARMLESS, Entry, Quarantine
from daemon.storage.spool import Spool
from dicom_io.files.dataset_reader import read_contents
from dicom_io.files.values import DAMAGED
from dicom_io.network.studies import HeldSeries

LATELY_S = 86_400.0
"""How far back refusals are looked at: of which study they were nobody knows."""


@dataclass(frozen=True)
class Absence:
    """A study of which nothing is here; `held` is what the peer `at` has of it, `set_aside` what is in quarantine."""

    set_aside: Sequence[Entry] = ()
    refusals: Sequence[Refusal] = ()
    at: str | None = None
    held: Sequence[HeldSeries] = ()

    @property
    def fate(self) -> Fate:
        """Refused, where something was that may have been of it."""
        return Fate.REFUSED if self.set_aside or self.refusals else Fate.NOT_SENT

    def sentence(self, config: Config) -> str:
        """What has become of it, and what to do."""
        there = ""
        if self.at is not None:
            images = sum(series.instances for series in self.held)
            there = f" {self.at} has it: {_count(len(self.held), 'series', 'series')}, {images} images."
        if self.set_aside:
            reasons = ", ".join(sorted({entry.reason for entry in self.set_aside}))
            count = _count(sum(entry.count for entry in self.set_aside), "image", "images")
            return f"{count} of it came and could not be taken in ({reasons}): `porta quarantine` lists them.{there}"
        if self.refusals:
            return f"Nothing of it came.{there} {refusal_sentence(self.refusals[0], config)}"
        ours = f"{config.dicom.ae_title} at port {config.dicom.port}"
        return f"Nothing of it came, and nobody was refused in the last 24 h.{there} Send it to {ours}."


def refusal_sentence(refusal: Refusal, config: Config) -> str:
    """Who was refused, how often, why, and what to change."""
    who = f"{refusal.calling_ae_title or 'a peer without AE title'} at {refusal.host}"
    times = f"{_count(refusal.count, 'time', 'times')}, last {in_zone(refusal.last_at)}"
    if refusal.kind == RefusalKind.CONTEXT:
        name = UID(refusal.reason).name if refusal.reason else "what is no UID"
        return (
            f"{who} offered {name} and was refused that ({times}): Porta takes images in syntaxes that it can decode."
        )
    if refusal.kind == RefusalKind.BROKEN_OFF:
        return f"An association of {who} broke off ({refusal.reason}, {times}): have the study sent again."
    return f"{who} was refused ({refusal.reason}, {times}): {_advice(refusal, config)}"


def _advice(refusal: Refusal, config: Config) -> str:
    ours = config.dicom.ae_title
    match refusal.reason:
        case "CALLING_AE_TITLE":
            peer = f'[[peer]] with ae_title = "{refusal.calling_ae_title}" and accept = true'
            return f"there is no {peer}: add it here, or correct the title there."
        case "CALLING_HOST":
            return f'its [[peer]] names another host: enter host = "{refusal.host}", or leave it out.'
        case "CALLED_AE_TITLE":
            return (
                f"it called {refusal.called_ae_title}, and Porta is {ours}: enter {ours} there, "
                "or change [dicom] ae_title here."
            )
        case _:
            return "more associations at once than maximum_associations: it tries again, or raise that."


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


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
