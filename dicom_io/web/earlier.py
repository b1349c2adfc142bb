"""A DICOMweb service that is asked for a patient's earlier studies: QIDO-RS, and WADO-RS for what they hold.

PS3.18 sections 10.6 and 10.4. Parts are written to files as they come.
"""

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydicom import Dataset, dcmread
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from dicom_io.earlier_studies import ASKED, Study, earlier_of, is_wanted
from dicom_io.errors import InvalidUID, PeerError, PeerUnreachable
from dicom_io.files.uids import checked_uid
from dicom_io.files.values import DAMAGED
from dicom_io.web.service import WebService, ask, refusal, streamed

INSTANCES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Instances in the transfer syntax that they are kept in (PS3.18 section 8.7.3.5.2)."""


@dataclass(frozen=True)
class WebSession:
    """A service that is asked until `deadline` (monotonic) for studies before `study`: a `Session`."""

    service: WebService
    study: Study
    directory: Path
    timeout_s: float
    deadline: float
    most: int

    def studies(self, modalities: Collection[str]) -> list[Study]:
        """The earlier studies of the same patient, the latest first, that have one of `modalities` or may have."""
        keys = {"PatientID": self.study.patient_id, "includefield": ",".join(ASKED)}
        return earlier_of(self.study, map(Study.of, self._ask("studies", keys)), modalities)

    def series(self, earlier: Study, modality: str) -> list[Dataset]:
        """Of each series of a modality its SeriesInstanceUID, and the description and size that the service says."""
        keys = {"Modality": modality, "includefield": "SeriesDescription,NumberOfSeriesRelatedInstances"}
        answers = self._ask(f"studies/{checked_uid(earlier.study_instance_uid)}/series", keys)
        return [answer for answer in answers if answer.get("Modality") == modality and answer.get("SeriesInstanceUID")]

    def bring(self, study_instance_uid: str, series_instance_uid: str) -> list[Path]:
        """The files of a series, by name; what does not itself say that it is of it, and earlier, is removed."""
        place = f"studies/{checked_uid(study_instance_uid)}/series/{checked_uid(series_instance_uid)}"
        parts = _Parts(self.directory, self.most)
        with streamed(self.service, place, timeout_s=self._left_s(), headers={"Accept": INSTANCES}) as answer:
            if answer.status != 200:
                raise refusal(self.service, answer)
            kind, options = parse_options_header(answer.content_type)
            if kind != b"multipart/related" or not options.get(b"boundary"):
                raise PeerError(f"{self.service} answers WADO-RS with no multipart/related")
            parser = MultipartParser(options[b"boundary"], parts.callbacks())
            try:
                for piece in answer.pieces:
                    self._left_s()
                    parser.write(piece)
                parser.finalize()
            except MultipartParseError:
                raise PeerError(f"{self.service} answers WADO-RS with a broken multipart/related") from None
            finally:
                parts.close()
        return sorted(
            path for path in parts.named() if is_wanted(path, self.study, study_instance_uid, series_instance_uid)
        )

    def _ask(self, path: str, keys: Mapping[str, str]) -> list[Dataset]:
        answer = ask(self.service, path, parameters=keys, timeout_s=self._left_s())
        if answer.status in (204, 404):
            return []
        if answer.status != 200:
            raise refusal(self.service, answer)
        found = []
        for item in answer.body if isinstance(answer.body, list) else []:
            with suppress(*DAMAGED):
                found.append(Dataset.from_json(item))
        return found

    def _left_s(self) -> float:
        """Return the time for the next answer. Raises PeerUnreachable when the time is up."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise PeerUnreachable(f"{self.service} did not answer in time")
        return min(left_s, self.timeout_s)


@dataclass
class _Parts:
    """The parts of an answer, `most` of them, each in a file; what is beyond is passed over."""

    directory: Path
    most: int
    _paths: list[Path] = field(default_factory=list)
    _file: Any = None

    def callbacks(self) -> Any:
        """The functions that the parser calls."""
        return {"on_part_begin": self._begin, "on_part_data": self._write, "on_part_end": self.close}

    def _begin(self) -> None:
        self.close()
        if len(self._paths) < self.most:
            self._paths.append(self.directory / f"{uuid4()}.part")
            self._file = self._paths[-1].open("wb")

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])

    def close(self) -> None:
        """End the part that comes, or none."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def named(self) -> list[Path]:
        """Name each file by its SOP Instance UID; what has none, or was here before, is removed."""
        found = []
        for part in self._paths:
            with suppress(*DAMAGED, InvalidUID, OSError):
                path = self.directory / f"{checked_uid(dcmread(part, stop_before_pixels=True).SOPInstanceUID)}.dcm"
                if not path.exists():  # what came before stays: it was looked at, and may be in use
                    found.append(part.rename(path))
            part.unlink(missing_ok=True)
        return found
