"""Cases at the network's two resolutions, made once and then read from the disk as if they were in memory.

    CACHE/NAME-KEY/{fine,coarse}-{image,labels}.npy   case.json

A folder is made under another name and renamed when it is whole, so that one that is there is complete; KEY changes
with the source's fingerprint and with everything in Preprocessing. Several processes may fill one cache.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_io.errors import DicomIOError
from dicom_io.progress import Progress, ignore_progress
from models.cards import Preprocessing
from models.datasets.cases import LIVER, TUMOUR, Case, CaseSource
from models.datasets.processes import Ended, each
from models.errors import UNFORESEEN, CaseUnreadable, RunMismatch
from models.training.resampling import Resampled, resample

FORMAT = 2
"""Counts the ways in which cases were prepared: a change of this module that changes the arrays is one more."""
CASE_FILE = "case.json"


@dataclass(frozen=True, eq=False)
class PreparedStack:
    """A case at one resolution, on the canonical grid (superior, posterior, left); arrays mapped from files, read-only.

    `image` (slice, row, column) int16: HU for CT; for MR scaled so that the values which become -1 and 1 are those of
    `Preprocessing.window_hu`. `labels` (slice, row, column) uint8: 0, 1 liver, 2 tumour. `spacing_mm`: between pixels.
    `liver_slices`, `tumour_slices`: the numbers of the slices that have a voxel of liver (or tumour), or of tumour.
    """

    image: NDArray[np.int16]
    labels: NDArray[np.uint8]
    spacing_mm: float
    liver_slices: NDArray[np.intp]
    tumour_slices: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One examination at both resolutions of the network, its slices `step_mm` apart in both.

    `tumours_drawn` False: label 1 may hide tumours. `folder`: where it is mapped from, and what is sent to another
    process in the arrays' place; None for one that was made by hand. `modality` "CT" or "MR".
    """

    name: str
    patient: str
    collection: str
    tumours_drawn: bool
    step_mm: float
    fine: PreparedStack
    coarse: PreparedStack
    folder: Path | None = None
    modality: str = "CT"

    def __reduce__(self) -> tuple[object, ...]:
        if self.folder is not None:
            return read_prepared, (self.folder,)
        return PreparedCase, (
            *(self.name, self.patient, self.collection, self.tumours_drawn, self.step_mm, self.fine, self.coarse),
            *(None, self.modality),
        )


@dataclass(frozen=True, eq=False)
class Prepared:
    """The cases that training draws from, in the order of the sources.

    `skipped`: a line for each case that could not be prepared. `sha256` of all arrays, and of what else training asks
    of a case (name, patient, collection, whether tumours are drawn, distances): the data's hash.
    """

    cases: tuple[PreparedCase, ...]
    skipped: tuple[str, ...]
    sha256: str


def prepare(
    sources: Sequence[CaseSource],
    how: Preprocessing,
    cache: Path,
    *,
    processes: int = 1,
    progress: Progress = ignore_progress,
) -> Prepared:
    """Prepare every case as inference sees it, or take it from `cache`. `progress` is told cases done, and of how many.

    A case that cannot be read, or is not for this preprocessing, is named in `skipped`. Raises RunMismatch when the
    cache cannot be written, or two sources have one name.
    """
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RunMismatch(f"{', '.join(twice)}: two cases have this name; rename a folder or leave one out")
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunMismatch(f"{cache}: cannot be written, {error.strerror}") from error
    folders = {source.name: cache / folder_name(source, how) for source in sources}
    missing = [source for source in sources if not _is_whole(folders[source.name], how)]
    faults: dict[str, str] = {}
    done = len(sources) - len(missing)
    progress(done, len(sources))
    task = partial(_make, how=how, cache=cache)
    for source, fault in each(task, missing, processes=processes, first=_alone):
        done += 1
        progress(done, len(sources))
        if isinstance(fault, RunMismatch):
            raise fault
        if fault is not None:
            faults[source.name] = (
                str(fault) if not isinstance(fault, Ended) else f"{source.name}: not prepared, {fault}"
            )
    kept = [source.name for source in sources if source.name not in faults]
    cases = tuple(read_prepared(folders[name]) for name in kept)
    content = sorted((name, _facts(folders[name])["sha256"]) for name in kept)
    skipped = tuple(faults[name] for name in names if name in faults)
    return Prepared(cases, skipped, sha256(json.dumps(content).encode()).hexdigest())


def folder_name(source: CaseSource, how: Preprocessing) -> str:
    """The name of a case's folder in a cache: the same for the same content, prepared in the same way."""
    key = [FORMAT, source.name, source.patient, source.collection, source.fingerprint, asdict(how)]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", source.name)[:60].strip(".-")
    return f"{readable}-{sha256(json.dumps(key).encode()).hexdigest()[:16]}"


def read_prepared(folder: Path) -> PreparedCase:
    """Read the case of a complete folder. Raises CaseUnreadable for one that was changed."""
    facts = _facts(folder)
    try:
        return _mapped_case(facts, folder)
    except (LookupError, TypeError, ValueError) as error:
        raise CaseUnreadable(f"{folder / CASE_FILE}: damaged; remove the folder, it is made again") from error


def _mapped_case(facts: dict[str, Any], folder: Path) -> PreparedCase:
    def stack(name: str) -> PreparedStack:
        raw = facts[name]
        return PreparedStack(
            image=_mapped(folder / f"{name}-image.npy"),
            labels=_mapped(folder / f"{name}-labels.npy"),
            spacing_mm=raw["spacing_mm"],
            liver_slices=np.array(raw["liver_slices"], dtype=np.intp),
            tumour_slices=np.array(raw["tumour_slices"], dtype=np.intp),
        )

    return PreparedCase(
        name=facts["name"],
        patient=facts["patient"],
        collection=facts["collection"],
        tumours_drawn=facts["tumours_drawn"],
        step_mm=facts["step_mm"],
        fine=stack("fine"),
        coarse=stack("coarse"),
        folder=folder,
        modality=facts.get("modality", "CT"),
    )


def _alone() -> None:
    """Use one thread: this process is one of several."""
    torch.set_num_threads(1)


def _make(source: CaseSource, how: Preprocessing, cache: Path) -> CaseUnreadable | RunMismatch | None:
    """Make the folder of a case; what went wrong comes back as a value, as it may come from another process."""
    folder = cache / folder_name(source, how)
    try:
        with _claimed(folder, how) as part:
            if part is None:
                return None
            try:
                case = source.read()
                resampled = resample(case, how)
            except CaseUnreadable as error:
                return error
            except DicomIOError as error:
                return CaseUnreadable(f"{source.name}: {error}")
            except OSError as error:
                return CaseUnreadable(f"{source.name}: cannot be read, {error.strerror}")
            except MemoryError:
                return CaseUnreadable(f"{source.name}: too large for the memory of this machine")
            except UNFORESEEN as error:
                return CaseUnreadable(f"{source.name}: cannot be prepared, {type(error).__name__}")
            _write(source, case, resampled, part)
            shutil.rmtree(folder, ignore_errors=True)  # one that is not whole
            part.rename(folder)
    except OSError as error:
        return RunMismatch(f"{cache}: cannot be written, {error.strerror}")
    return None


@contextmanager
def _claimed(folder: Path, how: Preprocessing) -> Iterator[Path | None]:
    """An empty folder to fill in for `folder`, this process's alone; None when another has just made it.

    What a process left that was killed is emptied; the kernel gave back its claim.
    """
    part = folder.with_name(f"{folder.name}.part")
    claim = _lock(part)
    try:
        if _is_whole(folder, how):
            shutil.rmtree(part, ignore_errors=True)
            yield None
            return
        for left in part.iterdir():
            left.unlink()
        yield part
        shutil.rmtree(part, ignore_errors=True)
    finally:
        os.close(claim)


def _lock(part: Path) -> int:
    """The descriptor of a folder of this name that is locked; it is made, and made again while others remove it."""
    while True:
        claim = -1
        with suppress(FileExistsError):
            part.mkdir()
        with suppress(FileNotFoundError):
            claim = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(claim, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(claim), part.stat()):
                return claim
        if claim >= 0:
            os.close(claim)


def _write(source: CaseSource, case: Case, resampled: tuple[Resampled, Resampled, float], folder: Path) -> None:
    """Write all files of a case; they are on the disk when this returns."""
    fine, coarse, step_mm = resampled
    facts: dict[str, Any] = {
        "name": source.name,
        "patient": source.patient,
        "collection": source.collection,
        "tumours_drawn": case.tumours_drawn,
        "step_mm": step_mm,
    }
    content = sha256(json.dumps(facts).encode())
    for name, stack in (("fine", fine), ("coarse", coarse)):
        for kind, array in (("image", stack.image), ("labels", stack.labels)):
            content.update(np.ascontiguousarray(array).data)
            with (folder / f"{name}-{kind}.npy").open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
        highest = stack.labels.max(axis=(1, 2))
        facts[name] = {
            "spacing_mm": stack.spacing_mm,
            "liver_slices": np.flatnonzero(highest >= LIVER).tolist(),
            "tumour_slices": np.flatnonzero(highest >= TUMOUR).tolist(),
        }
    facts["sha256"] = content.hexdigest()
    facts["modality"] = case.volume.modality  # not in the hash, which is older
    with (folder / CASE_FILE).open("w") as file:
        json.dump(facts, file)
        file.flush()
        os.fsync(file.fileno())


def _is_whole(folder: Path, how: Preprocessing) -> bool:
    """True where a case can be mapped from there; a damaged one is made again.

    So is one that does not state its modality, unless only CT could be prepared in this way.
    """
    try:
        read_prepared(folder)
        return how.window_percentiles is None or "modality" in _facts(folder)
    except CaseUnreadable:
        return False


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / CASE_FILE).read_text())
        facts["sha256"]
    except OSError as error:
        raise CaseUnreadable(f"{folder / CASE_FILE}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise CaseUnreadable(f"{folder / CASE_FILE}: damaged; remove the folder, it is made again") from error
    return facts


def _mapped(path: Path) -> NDArray[Any]:
    """The array of a .npy file, read-only, its pages read when they are touched.

    Mapped by torch, which closes the file behind it: numpy holds one open for each array, and a few hundred cases
    would use up what a process may open.
    """
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
        size = start + int(np.prod(shape)) * dtype.itemsize
        if path.stat().st_size != size:
            raise CaseUnreadable(f"{path}: damaged; remove its folder, it is made again")
        # Shared would mean writable in the file itself; private pages are shared too until somebody writes
        whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
    except (OSError, ValueError, RuntimeError) as error:
        raise CaseUnreadable(f"{path}: cannot be read; remove its folder, it is made again") from error
    array: NDArray[Any] = whole[start:].view(dtype).reshape(shape)
    array.setflags(write=False)
    return array
