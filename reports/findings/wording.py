"""What the lesions come to, in sentences: the same on the summary page and in the PDF."""

from collections import Counter
from collections.abc import Sequence

from reports.findings.caveats import LOW_CONFIDENCE_BELOW
from reports.findings.course import Course, FollowUp, PriorLesion, earlier_by
from reports.findings.criteria import BILOBAR, CRITERIA_CAVEAT, FEW, MULTIFOCAL, NONE, SOLITARY, UNILOBAR, Criterion
from reports.findings.measurements import Findings, Lesion
from reports.findings.response import CATEGORY_NAMES, RESPONSE_CAVEAT, Category, Response, Status

NAMED = 5
"""Of how many lesions that are gone the size is said."""


def assessment(findings: Findings) -> tuple[str, ...]:
    """Spread and sum of diameters, severity, the course since an earlier study, computed criteria: a sentence each.

    A caveat follows what it belongs to.
    """
    if not findings.is_judged:
        return ("Lesions are not reported: the images are unlike those that the model was trained on.",)
    if not findings.lesions:
        return ("No liver lesion was found.", *course_assessment(findings))
    spread = ", ".join(part for part in (_SPREAD_WORDS[findings.spread], _LOBE_WORDS.get(findings.lobes or "")) if part)
    size = "" if findings.size_category is None else f"; the largest: {findings.size_category} mm"
    first = f"Spread: {spread}{size}."
    if findings.target_diameter_sum_mm is not None:
        # The targets that RECIST follows are those of the baseline: one sum of one name
        is_followed = findings.follow_up is not None and findings.follow_up.response.sum_mm is not None
        named = "With this study as baseline, sum of target diameters" if is_followed else "Sum of target diameters"
        first += f" {named} (RECIST 1.1): {findings.target_diameter_sum_mm:.1f} mm."
    sentences = [first]
    sentences += [_doubtful_target(lesion) for lesion in findings.lesions if lesion.target and lesion.is_doubtful]
    if findings.severity.reasons:
        level = findings.severity.level or "not known"
        sentences.append(f"Severity {level}: {'; '.join(findings.severity.reasons)}.")
    computed = (("Milan", findings.milan), ("Up-to-seven", findings.up_to_seven))
    criteria = [_criterion(name, criterion) for name, criterion in computed if criterion is not None]
    return (*sentences, *course_assessment(findings), *criteria, *([CRITERIA_CAVEAT] if criteria else []))


def _doubtful_target(lesion: Lesion) -> str:
    return (
        f"Target T{lesion.target} (lesion {lesion.number}) has a confidence of {lesion.confidence:.2f}, "
        f"under {LOW_CONFIDENCE_BELOW:g}: check that it is a lesion before it is followed."
    )


_SPREAD_WORDS = {
    NONE: "no lesion",
    SOLITARY: "one lesion",
    FEW: "two or three lesions",
    MULTIFOCAL: "more than three lesions",
}
_LOBE_WORDS = {UNILOBAR: "in one half of the liver", BILOBAR: "in both halves of the liver"}


def course_assessment(findings: Findings) -> tuple[str, ...]:
    """Say what has become of the lesions since an earlier study, and RECIST's category with its caveat."""
    followed = findings.follow_up
    if followed is None:
        return ()
    counts = Counter(lesion.course.status for lesion in findings.lesions if lesion.course)
    parts = [f"{counts[status]} {words}" for status, words in _STATUS_WORDS.items() if counts[status]]
    parts += [
        f"{len(gone)} {words} ({_axes(gone)} then)"
        for gone, words in ((followed.disappeared, "disappeared"), (followed.outside, "outside these images"))
        if gone
    ]
    response = followed.response
    category = response.category
    named = "no category" if category is None else _categories(response, category)
    return (
        f"Lesions against {earlier_study(findings)}: {', '.join(parts) if parts else 'none in either study'}.",
        *_all_studies(followed),
        f"RECIST 1.1, suggested: {named}: {'; '.join(response.reasons)}.",
        RESPONSE_CAVEAT,
    )


def _categories(response: Response, category: Category) -> str:
    """The overall category and its parts: "progressive disease (PD; targets SD, non-targets PD, no new lesion)"."""
    parts = [
        f"{which} {of}" for which, of in (("targets", response.target), ("non-targets", response.non_target)) if of
    ]
    of = ", ".join([*parts, "new lesions" if response.has_new else "no new lesion"])
    name = CATEGORY_NAMES[category]
    return f"{name} ({of})" if category == Category.NEITHER else f"{name} ({category}; {of})"


def _all_studies(followed: FollowUp) -> tuple[str, ...]:
    """The way from the first study to the last before today's, where there are several."""
    if len(followed.studies) < 2:
        return ()
    parts = []
    for study in followed.studies:
        roles = [name for name, has in (("baseline", study.is_baseline), ("nadir", study.is_nadir)) if has]
        roles += ["from its report only"] if study.is_from_report else []
        count, volume_ml = len(study.lesions), sum(lesion.volume_ml for lesion in study.lesions)
        named = f" ({', '.join(roles)})" if roles else ""
        part = f"{earlier_by(study.days)}{named}: {count} lesion{'s' * (count != 1)}"
        part += f", {millilitres(volume_ml)} mL" if count else ""
        part += "" if study.target_sum_mm is None else f", targets {study.target_sum_mm:.1f} mm"
        parts.append(part)
    return (f"Earlier studies: {'; '.join(parts)}.",)


def _axes(lesions: Sequence[PriorLesion]) -> str:
    """The long axes of the largest of them."""
    axes = sorted((lesion.long_axis_mm for lesion in lesions), reverse=True)
    return ", ".join(f"{axis:.1f} mm" for axis in axes[:NAMED]) + (", ..." if len(axes) > NAMED else "")


def earlier_study(findings: Findings) -> str:
    """The earlier study by its distance in days: "a study of 90 days earlier"."""
    days = findings.follow_up.days if findings.follow_up else None
    if days is None:
        return "an earlier study"
    return f"a study of {earlier_by(days)}" if days else "an earlier study of the same day"


_STATUS_WORDS = {
    Status.NEW: "new",
    Status.GROWN: "grown",
    Status.STABLE: "stable",
    Status.SHRUNK: "shrunk",
    Status.MERGED: "merged",
    Status.SPLIT: "split",
    Status.OUTSIDE: "outside the images of the earlier study",
}


def lesion_course(findings: Findings, lesion: Lesion) -> str:
    """Say what has become of a lesion since the earlier study: "" where there is none to compare with."""
    course = lesion.course
    if course is None:
        return ""
    if course.growth is None:
        where = "new since" if course.status == Status.NEW else "outside the images of"
        return f"{where[0].upper()}{where[1:]} {earlier_study(findings)}.{_before(findings, lesion)}"
    growth = course.growth
    then = f"lesion{'s' * (len(course.prior_numbers) > 1)} {', '.join(map(str, course.prior_numbers))} then"
    now = f", now lesions {', '.join(map(str, course.numbers))}" if len(course.numbers) > 1 else ""
    doubled = f", doubling time {growth.doubling_days:.0f} days" if growth.doubling_days else ""
    return (
        f"{course.status.capitalize()} since {earlier_study(findings)} ({then}{now}): "
        f"long axis from {growth.prior_diameter_mm:.1f} to {growth.diameter_mm:.1f} mm "
        f"({growth.diameter_change_mm:+.1f} mm, {growth.diameter_percent:+.1f} %), "
        f"volume from {millilitres(growth.prior_volume_ml)} to {millilitres(growth.volume_ml)} mL "
        f"({growth.volume_percent:+.1f} %){doubled}.{_before(findings, lesion)}"
    )


def _before(findings: Findings, lesion: Lesion) -> str:
    """Say what the lesion was in the further studies."""
    parts = [
        f"{earlier_by(study.days)} {course.growth.prior_diameter_mm:.1f} mm, "
        f"{millilitres(course.growth.prior_volume_ml)} mL"
        for study, course in findings.history(lesion)
        if course.growth is not None and not study.is_compared
    ]
    return f" Also: {'; '.join(parts)}." if parts else ""


def course_cell(course: Course | None) -> str:
    """The change of the volume, as it stands in a table."""
    if course is None or course.growth is None:
        return "-" if course is None else course.status.value
    return f"{course.growth.volume_percent:+.0f} %"


def _criterion(name: str, criterion: Criterion) -> str:
    return f"{name} {'met' if criterion.met else 'not met'}, computed: {criterion.computed}."


def lesion_sentence(findings: Findings, lesion: Lesion) -> str:
    """Say of a lesion what is read first: where it is, its size, its values and how sure the model is."""
    size, place, values = lesion.size, lesion.place, lesion.values
    parts = [f"{size.long_axis_mm:.1f} x {size.short_axis_mm:.1f} mm", f"{millilitres(size.volume_ml)} mL"]
    if values.hu_mean is not None:
        liver = "" if findings.liver_hu_mean is None else f" (liver {findings.liver_hu_mean:.0f})"
        parts.append(f"{values.hu_mean:.0f} HU{liver}")
    if lesion.confidence is not None:
        parts.append(f"certainty {lesion.confidence:.2f}")
    where = f"{place.key_image} ({place.key_position})"
    mark = f", target {lesion.target_name}" if lesion.target else ""
    return f"Lesion {lesion.number}, {place.region}: {', '.join(parts)}; {where}{mark}."


def lesion_place(lesion: Lesion) -> str:
    """Say how deep a lesion lies, as far as known, how bright it is, and that it reaches the edge of the images."""
    parts = []
    if lesion.place.distance_to_capsule_mm is not None:
        where = "subcapsular, " if lesion.place.subcapsular else ""
        parts.append(f"{where}{lesion.place.distance_to_capsule_mm:.1f} mm from the capsule")
    if lesion.values.contrast_to_liver_hu is not None:
        parts.append(f"{lesion.values.contrast_to_liver_hu:+.0f} HU relative to the liver")
    if not lesion.certain:
        parts.append("not certain: at an uncertain outline of the liver")
    if lesion.place.touches_border:
        parts.append("at the edge of the images")
    return "; ".join(part for part in parts if part)


def uncounted(findings: Findings) -> str:
    """Say that the images are without numbers, where they are: slices then count from the feet (or back, or right)."""
    is_counted = all(lesion.place.key_image.startswith(("image", "frame")) for lesion in findings.lesions)
    return "" if is_counted else "; the images have no numbers, so that slices are counted as they lie"


def millilitres(volume_ml: float) -> str:
    """Write a volume: small ones with a decimal more."""
    return f"{volume_ml:.1f}" if volume_ml >= 1 else f"{volume_ml:.2f}"
