"""What spool and outbox tell of the past, for a ledger that was lost: what was received, and what was reported of it.

Files say by their times when they came, and results by their UIDs whose they are (`reports.identity`): of which series
and revision. An instance that results name, or that is older than they, came before them; every other is a late one. Of
what was removed a tombstone says what the ledger said.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydicom import Dataset

from daemon.configuration.config import Config, Rule
from daemon.errors import FileDamaged, StorageUnusable
from daemon.ledger.rows import Instance, Outgoing, Received, Reported, Tombstone
from daemon.ledger.store import Ledger
from daemon.retention.tombstones import read_tombstones, tombstone_of
from daemon.routing import Candidate, first_match
from daemon.storage.integrity import spooled_sha256
from daemon.storage.spool import Spool
from daemon.upkeep.outbox import Results, read_outbox
from dicom_io.errors import InvalidUID, NotDicom
from dicom_io.files import values
from dicom_io.files.dataset_reader import read_contents
from dicom_io.files.differences import Difference, difference
from dicom_io.files.identity import identity_of, place
from dicom_io.files.image_file import read_dataset
from dicom_io.files.uids import checked_uid
from dicom_io.files.values import DAMAGED
from dicom_io.progress import Progress, ignore_progress

SUBMITTED = "SUBMIT"
"""The sender of a file that names none: a person handed it over."""


def refuse_lost_ledger(spool: Spool, ledger: Ledger) -> None:
    """Raise StorageUnusable where the ledger is empty and the spool holds what was recorded in one.

    A file has its header beside it once its row was committed (`daemon.intake`). One without may be from the very
    first sender, who was not told that it is kept: a kill leaves such a file beside an empty ledger.
    """
    recorded = (*(spool.root / "spool").glob("*/*.header"), *(spool.root / "removed").glob("*.gz"))
    if not ledger.all_series() and recorded and not ledger.all_series():
        raise StorageUnusable(
            f"the ledger is empty, and {spool.root / 'spool'} is not: put the ledger back, "
            "or make it anew with `porta ledger rebuild`"
        )


@dataclass
class Past:
    """What the files of a storage root tell. `left_out` has a line for each file that tells nothing any more.

    `instances` counts those that were given so far; `progress` is told how many series were. No time is after `now`.
    """

    config: Config
    spool: Spool
    progress: Progress = ignore_progress
    now: float = field(default_factory=time.time)
    left_out: list[str] = field(default_factory=list)
    instances: int = 0
    _last: Tombstone | None = field(default=None, init=False)
    """That of the series which was looked at last."""

    @property
    def first_job_id(self) -> int:
        """The first id that no earlier job bears: none of a folder, none of what was removed."""
        folders = [path.name for room in ("outbox", "work") for path in (self.spool.root / room).iterdir()]
        last = max((int(name) for name in folders if name.isdecimal()), default=0)
        for found in read_tombstones(self.spool):
            if isinstance(found, Path):
                self.left_out.append(f"{found.relative_to(self.spool.root)}: damaged, left out")
            else:  # and one id more, which `daemon.ledger.replay` needs to count on from
                last = max(last, *(int(row["id"]) + 1 for row in found.rows["jobs"]))
        return 1 + last

    def events(self) -> Iterator[Received | Reported | Tombstone]:
        """Give what happened: what was removed, then series by series, those first that came first. Raises OSError."""
        for removed in read_tombstones(self.spool):
            if isinstance(removed, Tombstone):
                yield self._as_found(removed)
                self.instances += sum(row["removed_at"] is None for row in removed.rows["instances"])
        results = read_outbox(self.spool)
        whose = {item.sop_instance_uid: found for found in results for item in found.objects}
        by_series: dict[str, list[Results]] = {}
        for found in results:
            by_series.setdefault(found.series_instance_uid, []).append(found)
        folders = sorted((self.spool.root / "spool").glob("*/"), key=_first_time)
        for done, folder in enumerate(folders, start=1):
            received = list(self._received(folder))
            self.instances += len(received)
            self.progress(done, len(folders))
            here = self._brought_back(folder.name) + received
            if not here:
                continue
            uid = here[0].instance.series_instance_uid
            stone = self._tombstone(uid)
            past = {row["revision"] for row in stone.rows["jobs"]} if stone else set()
            of_series = [found for found in by_series.get(uid, ()) if found.revision not in past]
            reports = sorted(of_series, key=lambda found: found.revision)
            rule = self._rule(here)
            late: list[list[Received]] = [[] for _ in range(len(reports) + 1)]
            for item in received:
                late[_reports_before(item, reports)].append(item)
            for index, found in enumerate(reports):
                yield from late[index]
                yield self._reported(found, rule, whose)
            yield from late[-1]

    def _received(self, folder: Path) -> Iterator[Received]:
        """Give the instances of a series in the order in which they came, each with its version."""
        versions = self._versions_of(folder.name)
        for path in sorted(folder.glob("*.dcm"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            try:
                instance, at = self._instance(path), min(path.stat().st_mtime, self.now)
            except (FileDamaged, NotDicom, InvalidUID, OSError):
                self.left_out.append(
                    f"{path.relative_to(self.spool.root)}: damaged, left out; send it again from the PACS"
                )
                continue
            before = versions.setdefault(instance.sop_instance_uid, [])
            if instance.sha256 in {version.sha256 for version in before}:
                continue
            instance = replace(instance, version=len(before) + 1)
            changed = self._change(before[-1], instance) if before else (None, False)
            before.append(instance)
            yield Received(instance, at, *changed)

    def _versions_of(self, series_instance_uid: str) -> dict[str, list[Instance]]:
        """Return what a tombstone says of the instances of a series, by their UIDs, the oldest version first."""
        versions: dict[str, list[Instance]] = {}
        if stone := self._tombstone(series_instance_uid):
            (of_series,) = stone.rows["series"]
            for row in sorted(stone.rows["instances"], key=lambda row: int(row["version"])):
                said = row | {"calling_ae_title": of_series["calling_ae_title"]}
                fields: dict[str, Any] = {key: said.get(key) for key in Instance.__dataclass_fields__}
                versions.setdefault(row["sop_instance_uid"], []).append(Instance(**fields))
        return versions

    def _brought_back(self, series_instance_uid: str) -> list[Received]:
        """Return the instances of a series that were removed, and are here."""
        versions = self._versions_of(series_instance_uid).values()
        return [Received(item, 0.0) for items in versions for item in items if item.removed_at is None]

    def _tombstone(self, series_instance_uid: str) -> Tombstone | None:
        if self._last is None or self._last.series_instance_uid != series_instance_uid:
            found = tombstone_of(self.spool, series_instance_uid)
            self._last = None if found is None else self._as_found(found)
        return self._last

    def _as_found(self, tombstone: Tombstone) -> Tombstone:
        """Return a tombstone in which is not removed what lies there: it came again, or a kill came before."""
        lying = {}
        for path in (self.spool.root / "spool" / tombstone.series_instance_uid).glob("*.dcm"):
            with suppress(FileDamaged, OSError):
                lying[path.name.partition("-")[0], spooled_sha256(path)] = str(path.relative_to(self.spool.root))
        for row in tombstone.rows["instances"]:
            if relative := lying.get((row["sop_instance_uid"], row["sha256"])):
                row |= {"path": relative, "removed_at": None}
        return tombstone

    def _instance(self, path: Path) -> Instance:
        sha256 = spooled_sha256(path)
        ds = read_dataset(path)
        meta = getattr(ds, "file_meta", Dataset())
        return Instance(
            sop_instance_uid=checked_uid(values.uid(ds, "SOPInstanceUID")),
            sop_class_uid=checked_uid(values.uid(ds, "SOPClassUID")),
            transfer_syntax_uid=checked_uid(values.uid(meta, "TransferSyntaxUID")),
            series_instance_uid=checked_uid(values.uid(ds, "SeriesInstanceUID")),
            study_instance_uid=checked_uid(values.uid(ds, "StudyInstanceUID")),
            calling_ae_title=values.text(meta, "SourceApplicationEntityTitle").strip()[:16] or SUBMITTED,
            path=str(path.relative_to(self.spool.root)),
            bytes=path.stat().st_size,
            sha256=sha256,
        )

    def _change(self, before: Instance, after: Instance) -> tuple[str, bool]:
        """Return what a later version changed (it was kept, so it did), and whether it is filed elsewhere."""
        try:
            first, second = (self.spool.root / instance.path for instance in (before, after))
            with first.open("rb") as first_file, second.open("rb") as second_file:
                old, new = read_contents(first_file), read_contents(second_file)
                changed = difference((first_file, old), (second_file, new)) or Difference.PIXELS
            return changed, place(identity_of(old.ds)) != place(identity_of(new.ds))
        except (*DAMAGED, OSError):
            return Difference.PIXELS, before.study_instance_uid != after.study_instance_uid

    def _rule(self, received: Sequence[Received]) -> Rule | None:
        """Return today's rule for a series, by its first image that is readable, as when it is closed."""
        for item in sorted(received, key=lambda item: (item.instance.sop_instance_uid, -item.instance.version)):
            with suppress(NotDicom, OSError):
                header = read_dataset(self.spool.root / item.instance.path)
                began_at = min(one.at for one in received)
                return first_match(self.config.rules, Candidate(header, item.instance.calling_ae_title, began_at))
        return None

    def _reported(self, found: Results, rule: Rule | None, whose: dict[str, Results]) -> Reported:
        others = [whose[uid] for uid in found.predecessors if uid in whose]
        replaced = [other for other in others if other.series_instance_uid != found.series_instance_uid]
        destinations = [self.config.destination(name) for name in rule.destinations] if rule else []
        return Reported(
            series_instance_uid=found.series_instance_uid,
            revision=found.revision,
            at=found.at,
            rule=rule.name if rule else None,
            reject_reason=found.reason,
            outgoing=tuple(
                Outgoing(
                    destination=destination.peer,
                    form=item.form,
                    sop_instance_uid=item.sop_instance_uid,
                    series_instance_uid=item.series_instance_uid,
                    path=item.path,
                    confirm=destination.confirm,
                    volume_index=item.volume_index,
                    sha256=item.sha256,
                    study_instance_uid=item.study_instance_uid or None,
                    is_kept=rule is not None and not rule.send,
                )
                for destination in destinations
                for item in found.objects
                if item.form in destination.profile.as_made([one.form for one in found.objects]).forms
            ),
            replaces=(replaced[0].series_instance_uid, replaced[0].revision) if replaced else None,
        )


def _first_time(folder: Path) -> tuple[float, str]:
    return min((path.stat().st_mtime for path in folder.iterdir()), default=0.0), folder.name


def _reports_before(item: Received, reports: Sequence[Results]) -> int:
    """Return how many of a series' results an instance came after: those that do not name it and are older than it.

    A file that was restored is younger than it says. What names an instance may mean its first version alone.
    """
    for index, found in enumerate(reports):
        is_named = item.instance.version == 1 and item.instance.sop_instance_uid in found.named
        if is_named or item.at <= found.at:
            return index
    return len(reports)
