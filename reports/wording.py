"""What the lesions come to, in sentences: the same on the summary page and in the PDF."""

from reports.criteria import CRITERIA_CAVEAT, Criterion
from reports.measurements import Findings


def assessment(findings: Findings) -> tuple[str, ...]:
    """Spread and sum of diameters, severity with its reasons, computed criteria and their caveat: a sentence each."""
    if not findings.lesions:
        return ("No liver lesion was found.",)
    spread = ", ".join(part for part in (findings.spread, findings.lobes) if part)
    size = "" if findings.size_category is None else f"; the largest: {findings.size_category} mm"
    first = f"Spread: {spread}{size}."
    if findings.target_diameter_sum_mm is not None:
        first += f" Sum of target diameters (RECIST 1.1): {findings.target_diameter_sum_mm:.1f} mm."
    sentences = [first]
    if findings.severity.reasons:
        sentences.append(f"Severity {findings.severity.level}: {'; '.join(findings.severity.reasons)}.")
    named = (("Milan", findings.milan), ("Up-to-seven", findings.up_to_seven))
    criteria = [_criterion(name, criterion) for name, criterion in named if criterion is not None]
    return (*sentences, *criteria, *([CRITERIA_CAVEAT] if criteria else []))


def _criterion(name: str, criterion: Criterion) -> str:
    return f"{name} {'met' if criterion.met else 'not met'}, computed: {criterion.computed}."


def millilitres(volume_ml: float) -> str:
    """A volume as it is written: small ones with a decimal more."""
    return f"{volume_ml:.1f}" if volume_ml >= 1 else f"{volume_ml:.2f}"
