"""A case in files: where they lie, what tells that they changed, and one line for whatever is wrong with them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from dicom_io.errors import DicomIOError
from models.datasets.cases import LIVER, TUMOUR, Case
from models.errors import UNFORESEEN, CaseUnreadable

LABEL_VALUES = ((1, LIVER), (2, TUMOUR))
"""What the values of a label volume mean where nothing else says it; 0 is background."""


@dataclass(frozen=True)
class FileSource:
    """A CaseSource of files. `reader` is a function of this package, so that a source can travel to another process.

    `images`, `truths`: files, folders or archives. `instances`: a label volume of tumours drawn one by one.
    `values`: pairs of a value in the truth and its class (0, 1, 2). `tumours_drawn` False: label 1 may hide tumours.
    `person`: PatientID, by which discovery finds the examinations of one patient; it is in memory alone, never written.
    """

    name: str
    patient: str
    collection: str
    reader: Callable[["FileSource"], Case]
    images: tuple[Path, ...]
    truths: tuple[Path, ...]
    instances: Path | None = None
    values: tuple[tuple[int, int], ...] = LABEL_VALUES
    modality: str = "CT"
    tumours_drawn: bool = True
    person: str = field(default="", repr=False, compare=False)

    @cached_property
    def fingerprint(self) -> str:
        """Hash names, sizes and times of change of all files, and how they are read. No file is opened.

        What cannot be looked at is no fault yet: `read` will name it.
        """
        digest = sha256(repr((self.reader.__name__, self.values, self.modality, self.tumours_drawn)).encode())
        for path in (*self.images, *self.truths, *([self.instances] if self.instances else [])):
            try:
                for file in files_below(path):
                    state = file.stat()
                    named = file.relative_to(path.parent).as_posix()
                    digest.update(f"{named} {state.st_size} {state.st_mtime_ns}\n".encode())
            except OSError as error:
                digest.update(f"{path.name} {error.errno}\n".encode())
        return digest.hexdigest()

    def read(self) -> Case:
        """The case. Raises CaseUnreadable."""
        try:
            return self.reader(self)
        except DicomIOError as error:
            raise CaseUnreadable(f"{self.name}: {error}") from error
        except OSError as error:
            raise CaseUnreadable(f"{self.name}: {error.filename or self.images[0]}: {error.strerror}") from error
        except UNFORESEEN as error:
            raise CaseUnreadable(f"{self.name}: {self.images[0]}: cannot be read, {type(error).__name__}") from error


def files_below(path: Path) -> Sequence[Path]:
    """The file, or all files below the folder, sorted; links are followed, to each folder once."""
    if not path.is_dir():
        return [path] if path.exists() else []
    files, seen = list[Path](), set[tuple[int, int]]()
    for folder, folders, names in os.walk(path, followlinks=True):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        files += (file for name in names if (file := Path(folder, name)).is_file())
    return sorted(files)
