"""How good the results are, by what people corrected and by the results themselves: by model, scanner and rule.

Read from the files of results and images, made at most once in FRESH_S, and kept in memory alone. Means of many and
figures of corrections, of no patient by name.
"""

import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

from daemon.administration.corrections import correction_json
from daemon.completeness import first_header
from daemon.console.drift import MEASURES, Drift, drift_of
from daemon.console.state import ConsoleState
from daemon.errors import FileDamaged
from daemon.jobs import OUT, Correction, CorrectionState, Job, State
from daemon.ledger.corrections import Corrections
from daemon.ledger.searches import JobFilter
from dicom_io.errors import NotDicom
from dicom_io.files import values

FRESH_S = 60.0
RESULTS, CORRECTIONS = 1000, 500
"""As many of the latest are looked at."""
READ_AT_ONCE = 100
"""Of results that were not read before; the next look goes on."""
SHOWN = 30
UNKNOWN = "unknown"
BY = ("model", "scanner", "rule")
SHOWN_MEANS = ("liver_dice", "lesion_dice", "removed", "added", "confidence", "liver_ml")

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Sample:
    """What is known of one result, refusal or correction: when, what it is grouped by, and its measures."""

    at: float
    groups: Mapping[str, str]
    measures: Values


@dataclass
class Quality:
    """The figures of a console. Safe to use from many threads."""

    console: ConsoleState
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made_at: float = -1e9
    _last: dict[str, Any] = field(default_factory=lambda: {"groups": [], "drift": [], "weeks": {}, "latest": []})
    _results: dict[int, Sample] = field(default_factory=dict)
    _scanners: dict[str, str] = field(default_factory=dict)

    @property
    def drift(self) -> list[dict[str, Any]]:
        """What drifted when it was last looked."""
        found: list[dict[str, Any]] = self._last["drift"]
        return found

    def latest(self) -> dict[str, Any]:
        """Return the figures, no older than FRESH_S. Raises LedgerUnavailable."""
        with self._lock:
            if time.monotonic() - self._made_at >= FRESH_S:
                self._last = self._made()
                self._made_at = time.monotonic()
            return self._last

    def _made(self) -> dict[str, Any]:
        corrections = Corrections(self.console.ledger).latest(limit=CORRECTIONS)
        scored = [item for item in corrections if item.state == CorrectionState.SCORED]
        samples = [sample for item in reversed(scored) for sample in self._of_correction(item)]
        samples += self._of_results() + self._of_refusals()
        return {
            "groups": [
                _row(by, name, of_group) for by in BY for name, of_group in sorted(_grouped(samples, by).items())
            ],
            "drift": [asdict(each) | {"sentence": each.sentence} for each in _drifts(samples)],
            "weeks": {name: _weeks(found) for name, found in sorted(_grouped(samples, "model").items())},
            "latest": [self._shown(item) for item in corrections[:SHOWN]],
        }

    def _of_correction(self, item: Correction) -> Iterable[Sample]:
        job = self.console.ledger.job(item.job_id or 0)
        groups = self._groups(job, f"{item.model} {item.version}")
        for figures in item.volumes:
            measures: dict[str, float | None] = {key: figures[key] for key in ("liver_dice", "lesion_dice")}
            measures["removed"] = float((figures["lesions"] or 0) - (figures["lesions_met"] or 0))
            measures["added"] = float((figures["shadow_lesions"] or 0) - (figures["shadow_lesions_met"] or 0))
            yield Sample(item.received_at, groups, measures)

    def _of_results(self) -> list[Sample]:
        wanted = JobFilter(states=tuple(map(str, OUT)))
        found = [job for job in self.console.desk.jobs(wanted, limit=RESULTS) if job.reject_reason is None]
        known = {job.id: self._results[job.id] for job in found if job.id in self._results}
        for job in [job for job in found if job.id not in known][:READ_AT_ONCE]:
            known[job.id] = self._of_result(job)
        self._results = known
        return sorted(known.values(), key=lambda sample: sample.at)

    def _of_result(self, job: Job) -> Sample:
        """Read what a result says of itself: the mean over its volumes; nothing where its files are gone."""
        model, read = UNKNOWN, defaultdict[str, list[float]](list)
        for path in sorted(self.console.spool.outbox(job.id).glob("*/findings.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                findings = json.loads(path.read_text())
                model = f"{findings['model']['name']} {findings['model']['version']}"
                told = [("liver_ml", findings["liver"]["volume_ml"])]
                told += [("expected_dice", findings["liver"].get("expected_dice"))]
                told += [("confidence", lesion["confidence"]) for lesion in findings["lesions"]]
                for name, value in told:
                    if value is not None:
                        read[name].append(float(value))
        measures: Values = {name: fmean(each) for name, each in read.items()} | {"refused": 0.0}
        return Sample(job.created_at, self._groups(job, model), measures)

    def _of_refusals(self) -> list[Sample]:
        """Refusals of series that a rule was meant for; which model and scanner they had is not asked."""
        found = self.console.desk.jobs(JobFilter(states=(str(State.REJECTED),)), limit=RESULTS)
        return [Sample(job.created_at, {"rule": job.rule}, {"refused": 1.0}) for job in found if job.rule]

    def _groups(self, job: Job, model: str) -> dict[str, str]:
        return {"model": model, "scanner": self._scanner(job.series_instance_uid), "rule": job.rule or UNKNOWN}

    def _scanner(self, series_instance_uid: str) -> str:
        """Maker and type of a scanner, as its images say; letters, digits and dashes alone."""
        if series_instance_uid not in self._scanners:
            header = None
            with suppress(FileDamaged, NotDicom, OSError):
                header = first_header(self.console.spool, self.console.ledger, series_instance_uid)
            said = [values.text(header, key) for key in ("Manufacturer", "ManufacturerModelName")] if header else []
            name = re.sub(r"[^A-Za-z0-9]+", "-", " ".join(said)).strip("-")[:48]
            self._scanners[series_instance_uid] = name or UNKNOWN
            while len(self._scanners) > 2 * (RESULTS + CORRECTIONS):
                del self._scanners[next(iter(self._scanners))]
        return self._scanners[series_instance_uid]

    def _shown(self, item: Correction) -> dict[str, Any]:
        """A correction with its volumes in mL: those of the findings, and the same with the differences."""
        told = correction_json(item)
        for volume in told["volumes"]:
            path = self.console.spool.outbox(item.job_id or 0) / str(volume["volume"]) / "findings.json"
            volume["liver_ml"] = volume["corrected_liver_ml"] = None
            with suppress(OSError, ValueError, KeyError, TypeError):
                ours = float(json.loads(path.read_text())["liver"]["volume_ml"])
                volume["liver_ml"] = round(ours, 1)
                if volume["liver_volume_difference"] is not None:
                    volume["corrected_liver_ml"] = round(ours * (1 + volume["liver_volume_difference"]), 1)
        return told


def _grouped(samples: Iterable[Sample], by: str) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: sample.at):
        if by in sample.groups:
            groups[sample.groups[by]].append(sample)
    return groups


def _of_measure(samples: Iterable[Sample], measure: str) -> list[float]:
    return [value for sample in samples if (value := sample.measures.get(measure)) is not None]


def _mean(samples: Iterable[Sample], measure: str) -> float | None:
    found = _of_measure(samples, measure)
    return round(fmean(found), 4) if found else None


def _row(by: str, name: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """The means of a group; None where nothing is known."""
    refused = _mean(samples, "refused")
    return {
        "by": by,
        "name": name,
        "corrections": len(_of_measure(samples, "removed")),
        "results": sum(sample.measures.get("refused") == 0 for sample in samples),
        **{key: _mean(samples, key) for key in SHOWN_MEANS},
        "refused_percent": None if refused is None or by != "rule" else round(100 * refused, 1),
    }


def _drifts(samples: Sequence[Sample]) -> list[Drift]:
    return [
        drift
        for by in BY
        for name, of_group in sorted(_grouped(samples, by).items())
        for measure in MEASURES
        if (measure != "refused" or by == "rule")
        and (drift := drift_of(by, name, measure, _of_measure(of_group, measure)))
    ]


def _weeks(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """The mean Dice of each week (its Monday) in which anything was corrected."""
    weeks: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if "removed" in sample.measures:
            day = datetime.fromtimestamp(sample.at, UTC).date()
            weeks[str(day - timedelta(days=day.weekday()))].append(sample)
    return [
        {
            "week": week,
            "corrections": len(found),
            **{
                key: fmean(each) if (each := _of_measure(found, key)) else None for key in ("liver_dice", "lesion_dice")
            },
        }
        for week, found in weeks.items()
    ]
