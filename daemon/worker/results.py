"""The objects of one volume, in the outbox: each written once, each SEG read back and proved before it is a result.

seg.dcm, sr_labelmap.dcm, …      one for each form that a destination takes, by its name (`Form.name`)
key_images-<n>.dcm, …            the same of kinds of which a volume may have several (`Kind.numbered`)
findings.json                    the numbers
SHA256SUMS                       the hashes of these files, written last (`keep_sums`)
seg.dcm.held-back                a SEG that does not lie where the findings lie; never sent, and made anew by a retry
"""

import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread, dcmwrite

from daemon.storage.integrity import SUMS, file_sha256, list_sums, read_sums, unsound_files
from daemon.storage.spool import write_durably
from daemon.worker.predecessors import NO_PREDECESSORS, Predecessors
from daemon.worker.requests import Result, SentSr
from dicom_io.segmentation import Algorithm
from reports.errors import GeometryNotProved
from reports.findings.measurements import Findings
from reports.objects.case import Case, build, verify
from reports.objects.findings_json import findings_json
from reports.objects.kinds import KINDS, Form, Kind, in_order_of_sending
from reports.objects.profile import Profile

FINDINGS = "findings.json"
HELD_BACK = ".held-back"

SEG_REFERENCE = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"]
"""What an SR needs of the SEG that it refers to."""


@contextmanager
def _without_search_for_cycles() -> Iterator[None]:
    """The objects of a volume are some hundred thousand elements, none of them garbage before the last is written.

    Python, which would look through all of them again and again meanwhile, takes an eighth of the time for that.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_search_for_cycles()
def write_results(
    case: Case,
    outbox: Path,
    *,
    profiles: Sequence[Profile] = (Profile(),),
    predecessors: Predecessors = NO_PREDECESSORS,
) -> tuple[Result, ...]:
    """Write every object that one of `profiles` names, once, and findings.json; returned in the order of sending.

    Without a liver there is no SEG; without a lesion no SR of diameters, and the other SR says so. But where it has
    earlier diameters to supersede, or anything and the profile has no other SR, there is one of diameters that says so
    too. A SEG is there for the SR that refers to it, even where no profile names it.
    Raises GeometryNotProved, SourceUnusable.
    """
    results: dict[Form, list[Result]] = {}
    given = {form for profile in profiles for form in profile.forms if form.kind != "verdict"}
    for profile in profiles:
        case = replace(case, profile=profile, seg=None)
        for kind in (KINDS[name] for name in dict.fromkeys(["seg", *profile.objects])):
            form = case.form_of(kind)
            superseded = predecessors.of(form, given, case.identity.volume_index)
            if form not in results and (kind.needs <= case.has or _is_awaited(form, profile, superseded)):
                superseding = replace(case, predecessors=predecessors.references(superseded))
                results[form] = _write_kind(superseding, kind, outbox)
            if kind.name == "seg" and form in results:
                case = replace(case, seg=dcmread(results[form][0].path, specific_tags=SEG_REFERENCE))
    content = findings_bytes(case.findings, case.segmentation.algorithm, case.identity.software_version)
    write_durably(outbox / FINDINGS, content)
    return tuple(result for form in in_order_of_sending(results) for result in results[form])


def _is_awaited(form: Form, profile: Profile, superseded: Sequence[SentSr]) -> bool:
    """True where an SR of diameters is due without a lesion: to supersede an earlier one, or as the only SR."""
    alone = not any(KINDS[name].refers_to_seg for name in profile.objects)
    return any(alone or sr.form.kind == form.kind for sr in superseded)


def _write_kind(case: Case, kind: Kind, outbox: Path) -> list[Result]:
    """The objects of a kind as they lie on the disk, each proved where the kind has a proof."""
    form, index = case.form_of(kind), case.identity.volume_index

    def write_numbered(number: int, ds: Dataset) -> Result:
        return write_once(outbox / f"{form.name}-{number}.dcm", lambda: ds, form, volume_index=index)

    if kind.numbered:
        results = [write_numbered(number, ds) for number, ds in enumerate(build(case, kind), start=1)]
    else:
        results = [write_once(outbox / f"{form.name}.dcm", lambda: build(case, kind)[0], form, volume_index=index)]
    for result in results:
        with _held_back_unless_proved(result.path):
            verify(case, kind, result.path)
    return results


@contextmanager
def _held_back_unless_proved(path: Path) -> Iterator[None]:
    """Put the object at `path` aside where GeometryNotProved is raised."""
    try:
        yield
    except GeometryNotProved:
        path.replace(path.with_name(f"{path.name}{HELD_BACK}"))
        raise


def write_once(path: Path, build: Callable[[], Dataset], form: Form, *, volume_index: int = 0) -> Result:
    """The object at `path`, built and written durably if no earlier walk did."""
    if path.exists():
        ds: Dataset = dcmread(path, specific_tags=["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
        sha256 = file_sha256(path)
    else:
        ds = build()
        buffer = BytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        write_durably(path, buffer.getbuffer())
        sha256 = hashlib.sha256(buffer.getbuffer()).hexdigest()
    uids = str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID)
    return Result(form, *uids, path, volume_index, sha256, str(ds.StudyInstanceUID))


def keep_sums(outbox: Path) -> None:
    """Write down, durably, the hashes of all that a walk has left in the folder of a volume."""
    write_durably(outbox / SUMS, list_sums(outbox).encode())


def discard_unsound(outbox: Path) -> None:
    """Remove what an earlier walk left and is not known to be whole: none of it was sent, and it is made anew."""
    if not outbox.exists():
        return
    known = set(read_sums(outbox)) - {path.name for path, _ in unsound_files(outbox)}
    for path in outbox.iterdir():
        if path.name not in (*known, SUMS) and path.suffix != HELD_BACK:
            path.unlink()


def findings_bytes(findings: Findings, algorithm: Algorithm, software_version: str) -> bytes:
    """`findings.json` as it lies on the disk."""
    content: dict[str, Any] = findings_json(findings, algorithm, software=f"porta-hepatis {software_version}")
    return json.dumps(content, indent=2).encode()
