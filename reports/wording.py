"""What the lesions come to, in sentences: the same on the summary page and in the PDF."""

from reports.criteria import CRITERIA_CAVEAT, Criterion
from reports.measurements import Findings, Lesion


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


def lesion_place(lesion: Lesion) -> str:
    """Where a lesion lies, as far as it is known: its region, how deep, and that it reaches the edge of the images."""
    parts = [lesion.region or ""]
    if lesion.distance_to_capsule_mm is not None:
        where = "subcapsular, " if lesion.subcapsular else ""
        parts.append(f"{where}{lesion.distance_to_capsule_mm:.1f} mm from the capsule")
    if lesion.contrast_to_liver_hu is not None:
        parts.append(f"{lesion.contrast_to_liver_hu:+.0f} HU against the liver")
    if lesion.touches_border:
        parts.append("at the edge of the images")
    return "; ".join(part for part in parts if part)


def millilitres(volume_ml: float) -> str:
    """A volume as it is written: small ones with a decimal more."""
    return f"{volume_ml:.1f}" if volume_ml >= 1 else f"{volume_ml:.2f}"
