"""Which SRs that were sent the new ones supersede, so that none of them goes on looking like the latest word. Pure.

What a destination takes may have changed between two jobs, and where an SR went is not known here: its name alone says
what it tells and in which form. So what is sent no more falls to what tells most of the same now; and an SR that is
new stands, at its destination, in the place of the nearest that there was.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from pydicom import Dataset

from daemon.configuration.config import kind_of, sr_class_of
from reports.objects.sr_document import SOP_CLASSES

SAME, NEAR, IN_NEED = 0, 1, 2

HEIRS: Mapping[str, Mapping[str, int]] = {
    "sr": {"sr": SAME, "sr_combined": NEAR, "sr_bidirectional": IN_NEED},
    "sr_combined": {"sr_combined": SAME, "sr": NEAR, "sr_bidirectional": NEAR},
    "sr_bidirectional": {"sr_bidirectional": SAME, "sr_combined": NEAR, "sr": IN_NEED},
    "verdict": {"verdict": SAME, "sr": NEAR, "sr_combined": NEAR, "sr_bidirectional": NEAR},
}
"""By the kind of an SR that was sent: the kinds that may supersede it, and how near they are. A predecessor's content
is included "wholly or partially" (PS3.3 section C.17.2): of findings and diameters each is the other's heir where there
is none nearer. A verdict does not take back the findings of an earlier revision."""

Distance = tuple[bool, int, bool]


@dataclass(frozen=True)
class SentSr:
    """An SR that was sent: the name it has in the outbox, its volume and its UIDs."""

    object: str
    volume_index: int
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Replaced:
    """What an earlier job sent, an answer or a verdict, that the SRs of this one supersede. Holds one SR at least."""

    srs: tuple[SentSr, ...]

    def superseded_by(
        self, name: str, names: Set[str], volume_index: int, volumes: Sequence[int]
    ) -> tuple[SentSr, ...]:
        """The SRs that the one called `name` of a volume supersedes, of each name one at most.

        `names` are all that this job gives and `volumes` all that it reports. Of each name it is that of the same
        volume, or, where the two jobs share none, the first by the first.
        """
        found: list[SentSr] = []
        for before in superseded_names(name, names, [sr.object for sr in self.srs]):
            by_volume = {sr.volume_index: sr for sr in reversed(self.srs) if sr.object == before}
            if set(by_volume) & set(volumes):
                found += [by_volume[volume_index]] if volume_index in by_volume else []
            elif volume_index == volumes[0]:
                found.append(by_volume[min(by_volume)])
        return tuple(found)


def superseded_names(name: str, names: Set[str], sent: Sequence[str]) -> tuple[str, ...]:
    """Which of the names in `sent` an SR called `name` supersedes where all of `names` are given now.

    Of each that was sent the nearest of `names` do: itself, else one of its kind, of its class of SR if there is one.
    An SR that is new supersedes what is nearest to it too, though the same is still given elsewhere. Verdicts
    count where nothing else was sent: what followed one within its own job superseded it.
    """
    answers = [before for before in sent if kind_of(before) != "verdict"]
    befores = dict.fromkeys(answers if answers and kind_of(name) != "verdict" else sent)
    distances = {before: distance for before in befores if (distance := _distance(before, name)) is not None}
    if not distances:
        return ()
    heirs = {
        before: min(distance for now in {name, *names} if (distance := _distance(before, now)) is not None)
        for before in distances
    }
    nearest = min(distances.values())
    takes_place = name not in befores and nearest[1] != IN_NEED
    return tuple(
        before
        for before, distance in distances.items()
        if distance == heirs[before] or (takes_place and distance == nearest)
    )


def _distance(before: str, now: str) -> Distance | None:
    """How far one name is from another, the nearest first; None where it never supersedes it."""
    kinship = HEIRS[kind_of(before)].get(kind_of(now))
    return None if kinship is None else (before != now, kinship, sr_class_of(before) != sr_class_of(now))


@dataclass(frozen=True)
class Predecessors:
    """All that the SRs of a job supersede. `volumes` are the indices of those that it reports."""

    study_instance_uid: str = ""
    volumes: tuple[int, ...] = (0,)
    replaced: tuple[Replaced, ...] = ()

    def of(self, name: str, names: Set[str], volume_index: int) -> tuple[SentSr, ...]:
        """The SRs that the one called `name` of a volume supersedes; `names` are all that the job gives."""
        found = (item.superseded_by(name, names, volume_index, self.volumes) for item in self.replaced)
        return tuple(sr for srs in found for sr in srs)

    def references(self, srs: Sequence[SentSr]) -> list[Dataset]:
        """SRs as those that supersede them refer to them."""
        return [self._reference(sr) for sr in srs]

    def _reference(self, sr: SentSr) -> Dataset:
        ds = Dataset()
        ds.SOPClassUID = SOP_CLASSES[sr_class_of(sr.object)]
        ds.SOPInstanceUID = sr.sop_instance_uid
        ds.SeriesInstanceUID = sr.series_instance_uid
        ds.StudyInstanceUID = self.study_instance_uid
        return ds


NO_PREDECESSORS = Predecessors()
