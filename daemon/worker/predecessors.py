"""Which SRs that were sent the new ones supersede, so that none of them goes on looking like the latest word.

What a destination takes may have changed between two jobs, and where an SR went is not known here: its form alone says
what it tells. So what is sent no more falls to what tells most of the same now; and an SR that is new stands, at its
destination, in the place of the nearest that there was. Under another patient or study it supersedes nothing.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from pydicom import Dataset

from daemon.worker.requests import Replaced, SentSr
from dicom_io.errors import NotDicom
from dicom_io.files.identity import Place, identity_of, place
from dicom_io.files.image_file import read_dataset
from reports.objects.kinds import KINDS, SR_SOP_CLASS_UIDS, Form, Kinship

Distance = tuple[bool, Kinship, bool]


def superseded_forms(form: Form, forms: Set[Form], sent: Sequence[Form]) -> tuple[Form, ...]:
    """Return which forms in `sent` an SR of this form supersedes, where all of `forms` are sent now.

    Of each that was sent the nearest of `forms` do: itself, else one of its kind, of its class of SR if there is one.
    An SR that is new supersedes what is nearest to it too, though the same is still given elsewhere. Verdicts
    count where nothing else was sent: what followed one within its own job superseded it.
    """
    answers = [before for before in sent if before.kind != "verdict"]
    befores = dict.fromkeys(answers if answers and form.kind != "verdict" else sent)
    distances = {before: distance for before in befores if (distance := _distance(before, form)) is not None}
    if not distances:
        return ()
    heirs = {
        before: min(distance for now in {form, *forms} if (distance := _distance(before, now)) is not None)
        for before in distances
    }
    nearest = min(distances.values())
    takes_place = form not in befores and nearest[1] != Kinship.IN_NEED
    return tuple(
        before
        for before, distance in distances.items()
        if distance == heirs[before] or (takes_place and distance == nearest)
    )


def _distance(before: Form, now: Form) -> Distance | None:
    """Return how far one form is from another, the nearest first; None where it never supersedes it."""
    kinship = KINDS[before.kind].superseded_by.get(now.kind)
    return None if kinship is None else (before != now, kinship, before.sr_class != now.sr_class)


@dataclass(frozen=True)
class Predecessors:
    """All objects that the SRs of a job supersede. `volumes` are the indices of those that it reports."""

    study_instance_uid: str = ""
    volumes: tuple[int, ...] = (0,)
    replaced: tuple[Replaced, ...] = ()

    def of(self, form: Form, forms: Set[Form], volume_index: int) -> tuple[SentSr, ...]:
        """The SRs that the one of this form supersedes at a volume; `forms` are all that the job gives."""
        found = (self._of_one_job(item, form, forms, volume_index) for item in self.replaced)
        return tuple(sr for srs in found for sr in srs)

    def _of_one_job(self, sent: Replaced, form: Form, forms: Set[Form], volume_index: int) -> list[SentSr]:
        """Return one SR of each form at most: the volume's, or, where the jobs share none, the first for the first."""
        found: list[SentSr] = []
        for before in superseded_forms(form, forms, [sr.form for sr in sent.srs]):
            by_volume = {sr.volume_index: sr for sr in reversed(sent.srs) if sr.form == before}
            if set(by_volume) & set(self.volumes):
                found += [by_volume[volume_index]] if volume_index in by_volume else []
            elif volume_index == self.volumes[0]:
                found.append(by_volume[min(by_volume)])
        return found

    def references(self, srs: Sequence[SentSr]) -> list[Dataset]:
        """SRs as those that supersede them refer to them."""
        return [self._reference(sr) for sr in srs]

    def _reference(self, sr: SentSr) -> Dataset:
        ds = Dataset()
        ds.SOPClassUID = SR_SOP_CLASS_UIDS[sr.form.sr_class]
        ds.SOPInstanceUID = sr.sop_instance_uid
        ds.SeriesInstanceUID = sr.series_instance_uid
        ds.StudyInstanceUID = self.study_instance_uid
        return ds


NO_PREDECESSORS = Predecessors()


def replaced_at(where: Place, replaced: Sequence[Replaced]) -> tuple[Replaced, ...]:
    """Return what is superseded by an SR that an archive files there: what it files there too, of the last revision.

    An SR whose file is gone counts as filed there: it is of the same series.
    """
    found = []
    for item in replaced:
        near = [sr for sr in item.srs if _place_of(sr) in (None, where)]
        last = max((sr.revision for sr in near), default=0)
        found.append(tuple(sr for sr in near if sr.revision == last))
    return tuple(Replaced(srs) for srs in found if srs)


def _place_of(sr: SentSr) -> Place | None:
    try:
        return None if sr.path is None else place(identity_of(read_dataset(sr.path)))
    except (NotDicom, OSError):
        return None
