"""A volume and its results, for the page on which they are read: slices, labels, findings; each read from its file.

Labels come from the SEG that was sent, not from what made it: a viewer shows what an archive would.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.console.state import ConsoleState
from daemon.errors import BadRequest, FileDamaged
from daemon.jobs import OUT
from daemon.storage.integrity import check_file, read_sums
from daemon.storage.sidecar import read_spooled
from dicom_io.errors import DicomIOError, SeriesRejected
from dicom_io.geometry import Geometry
from dicom_io.pixels import read_volume
from dicom_io.seg_labels import labels_on
from dicom_io.seg_reader import SegmentMask, read_seg
from dicom_io.series.series import arrange
from dicom_io.series.stacks import Stack

KEPT = 4
"""Readings in memory; each holds labels, 100 MB for 400 slices."""


class NotReadable(BadRequest):
    """A job has nothing to read, or its files are gone; the message says which."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One volume of a job: its slices as they are sorted, `labels` (slice, row, column) by segment, and findings."""

    stack: Stack
    labels: NDArray[np.uint8]
    segments: tuple[tuple[int, str], ...]
    findings: Mapping[str, Any]

    def slice_values(self, index: int) -> NDArray[np.int16]:
        """Return HU or signal (row, column) of a slice. Raises NotReadable."""
        geometry = self.stack.geometry
        of_one = replace(geometry, origins_lps_mm=geometry.origins_lps_mm[index : index + 1])
        try:
            volume = read_volume(replace(self.stack, slices=(self.stack.slices[index],), geometry=of_one))
        except (DicomIOError, OSError) as error:
            raise NotReadable("this slice cannot be read any more") from error
        values: NDArray[np.int16] = np.clip(np.rint(volume.array[0]), -32768, 32767).astype("<i2")
        return values

    def description(self) -> dict[str, Any]:
        """Return what a page needs to know before it shows a slice; places of lesions in slices, rows and columns."""
        geometry = self.stack.geometry
        lesions = [_placed(lesion, geometry, self.stack) for lesion in self.findings.get("lesions", [])]
        return {
            "shape": list(geometry.shape),
            "spacing_mm": [geometry.step_mm, geometry.row_spacing_mm, geometry.column_spacing_mm],
            "flip": [bool(geometry.column_cosines[1] < 0), bool(geometry.row_cosines[0] < 0)],
            "modality": self.stack.modality,
            "plane": geometry.plane_name,
            "segments": [{"number": number, "label": label} for number, label in self.segments],
            "slices_with": {
                str(number): [int(k) for k in np.flatnonzero((self.labels == number).any(axis=(1, 2)))]
                for number, _ in self.segments
            },
            "lesions": lesions,
            "findings": {key: value for key, value in self.findings.items() if key != "lesions"},
        }


@dataclass
class Readings:
    """The latest readings of a console. Safe to use from many threads."""

    console: ConsoleState
    _kept: OrderedDict[tuple[int, int], Reading] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, job_id: int, volume: int) -> Reading:
        """Return the reading of a volume of a job. Raises UnknownJob, NotReadable."""
        with self._lock:  # one at a time: the second who asks for the same finds it here
            key = job_id, volume
            if key not in self._kept:
                self._kept[key] = _read(self.console, job_id, volume)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def volumes(self, job_id: int) -> list[int]:
        """Return the volumes of a job that have findings. Raises UnknownJob."""
        self.console.ledger.job(job_id)
        folder = self.console.spool.outbox(job_id)
        return sorted(int(path.parent.name) for path in folder.glob("*/findings.json") if path.parent.name.isdecimal())


def _read(console: ConsoleState, job_id: int, volume: int) -> Reading:
    job = console.ledger.job(job_id)
    folder = console.spool.outbox(job_id) / str(volume)
    if job.state not in OUT or job.reject_reason or not (folder / "findings.json").is_file():
        raise NotReadable("there are no results to read: see the page of the study")
    try:
        sums = read_sums(folder)
        check_file(folder / "findings.json", sums.get("findings.json"))
        findings = json.loads((folder / "findings.json").read_text())
        seg = next((folder / name for name in ("seg.dcm", "seg_labelmap.dcm") if (folder / name).is_file()), None)
        masks: Sequence[SegmentMask] = ()
        if seg is not None:
            check_file(seg, sums.get(seg.name))
            masks = read_seg(seg)
        paths = console.ledger.instance_paths(job.series_instance_uid)
        series = arrange([read_spooled(console.spool.root / path) for path in paths])
    except (DicomIOError, SeriesRejected, FileDamaged, OSError, ValueError) as error:
        raise NotReadable("its images or results are gone or damaged: `porta verify` names the file") from error
    stack = _stack_of(series.stacks, masks, volume)
    return Reading(stack, labels_on(stack, masks), tuple((mask.number, mask.label) for mask in masks), findings)


def _stack_of(stacks: Sequence[Stack], masks: Sequence[SegmentMask], volume: int) -> Stack:
    """The volume that the SEG was made of; the one of that number where there is none."""
    sources = {uid for mask in masks for frame in mask.source_sop_instance_uids for uid in frame}
    for stack in stacks:
        if sources & set(stack.sop_instance_uids):
            return stack
    if sources or volume >= len(stacks):
        raise NotReadable("its images are not those that the results were made of")
    return stacks[volume]


def _placed(lesion: Mapping[str, Any], geometry: Geometry, stack: Stack) -> dict[str, Any]:
    """A lesion of findings.json with its key slice as an index, and the ends of its axes as (row, column)."""
    ends = lesion.get("axis_end_points_lps_mm")
    points = None
    if ends:
        indices = geometry.lps_to_index(np.asarray(ends, float).reshape(-1, 3))
        points = [[round(float(value), 2) for value in point[1:]] for point in indices]
    key = str(lesion.get("key_sop_instance_uid")), lesion.get("key_frame_number")
    keys = zip(stack.sop_instance_uids, stack.frame_numbers, strict=True)
    index = next((index for index, each in enumerate(keys) if each == key), None)
    return {**lesion, "index": index, "axes": points}
