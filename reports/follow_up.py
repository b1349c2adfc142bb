"""Which lesions are those of an earlier study, and what has become of them.

Pure. The one rule, by lesions laid over each other through `reports.registration`:

1. The likeness of a lesion and an earlier one is the part of each that lies in the other, their mean, and the nearness
   of their centres: 1 for the same place, 0 from NEAR_MM on. They may be the same from LEAST_LIKENESS on.
2. Each is paired with one at most, so that the sum of likenesses is the greatest.
3. An earlier lesion left over has merged into a paired lesion that holds at least half of it; a lesion left over has
   split from a paired earlier one that held at least half of it.
4. What is left now is new, what is left of the earlier study has disappeared; but where the images of the other study
   do not reach, nothing is known: it is outside.

Sizes are never taken through the map: each study is measured on its own images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.optimize import linear_sum_assignment

from dicom_io.geometry import Float, Geometry
from dicom_io.segmentation import LIVER, Segmentation
from reports import criteria
from reports.course import Course, FollowUp, PriorLesion
from reports.findings import Findings, Lesion
from reports.prior import Prior
from reports.registration import Organ, Registration, register, sampled
from reports.response import Growth, Response, Status, response_of

NEAR_MM = 12.0
"""From how far apart centres say nothing any more: livers that breathe and bend lie up to 10 mm off their affine
map."""

LEAST_LIKENESS = 0.1
HELD = 0.5
"""How much of a lesion must lie in another one to have merged into it, or split from it."""

SAMPLES = 20_000
"""How many voxels of a lesion are mapped at most, evenly picked."""

TOO_THICK = "slices of over 5 mm: too thick for RECIST 1.1"


def follow_up(
    findings: Findings, segmentation: Segmentation, prior: Prior, *, study_date: date | None = None
) -> FollowUp:
    """Lay `prior` over what was found in `segmentation`, and say what has become of the lesions.

    Raises LiversDiffer when the livers do not fit; ValueError without a liver.
    """
    registration = register(Organ(segmentation.labels > 0, segmentation.geometry), prior.organ)
    days = (study_date - prior.study_date).days if study_date and prior.study_date else None
    groups = _groups(findings, segmentation, prior, registration)
    courses = _courses(findings.lesions, prior.lesions, groups, days)
    new = [index for index, course in enumerate(courses) if course.status == Status.NEW]
    centres = registration.to_prior(_centres([findings.lesions[index] for index in new]))
    for index, reached in zip(new, _reached(prior.geometry, centres), strict=True):
        if not reached:
            courses[index] = replace(courses[index], status=Status.OUTSIDE)
    grouped = {before for group in groups for before in group.before}
    left = [lesion for index, lesion in enumerate(prior.lesions) if index not in grouped]
    in_images = _reached(segmentation.geometry, registration.from_prior(_centres(left)))
    outside = tuple(lesion for lesion, is_in in zip(left, in_images, strict=True) if not is_in)
    return FollowUp(
        days=days,
        courses=tuple(courses),
        prior_lesions=prior.lesions,
        disappeared=tuple(lesion for lesion in left if lesion not in outside),
        outside=outside,
        response=_response(findings, segmentation.geometry, prior, groups, courses, outside),
        dice=registration.dice,
        surface_mm=registration.surface_mm,
    )


def with_follow_up(findings: Findings, followed: FollowUp) -> Findings:
    """The findings with their course, and with the tracking UIDs that the lesions had in the earlier study."""
    lesions = tuple(
        replace(lesion, tracking_uid=course.tracking_uid)
        for lesion, course in zip(findings.lesions, followed.courses, strict=True)
    )
    return replace(findings, lesions=lesions, follow_up=followed)


@dataclass(frozen=True)
class _Group:
    """Lesions that are the same, by their places in the tuples of both studies; the first of each were paired."""

    now: tuple[int, ...]
    before: tuple[int, ...]


def _groups(findings: Findings, segmentation: Segmentation, prior: Prior, registration: Registration) -> list[_Group]:
    """Pairs by likeness, and what merged into them or split from them; in the order of today's lesions."""
    lesions, earlier = findings.lesions, prior.lesions
    if not lesions or not earlier:
        return []
    here = _Laid(segmentation.labels, segmentation.geometry, tuple(lesion.number + LIVER for lesion in lesions))
    there = _Laid(prior.labels, prior.geometry, tuple(lesion.number + LIVER for lesion in earlier))
    # Two tables (lesion, earlier lesion): the part of each that lies in the other
    of_now, of_before = _parts(here, there, registration.to_prior), _parts(there, here, registration.from_prior).T
    centres = registration.to_prior(_centres(lesions))
    apart_mm = np.linalg.norm(centres[:, None] - _centres(earlier)[None], axis=-1)
    likeness = (of_now + of_before) / 2 + (1 - apart_mm / NEAR_MM).clip(min=0)
    likeness[likeness < LEAST_LIKENESS] = 0
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    pairs = {int(now): int(before) for now, before in zip(rows, columns, strict=True) if likeness[now, before] > 0}
    members = {now: ([now], [before]) for now, before in pairs.items()}
    owners = {before: now for now, before in pairs.items()}
    for before in sorted(set(range(len(earlier))) - set(owners)):
        into = max(pairs, key=lambda now: of_before[now, before], default=None)
        if into is not None and of_before[into, before] >= HELD:
            members[into][1].append(before)
    for now in sorted(set(range(len(lesions))) - set(pairs)):
        source = max(owners, key=lambda before: of_now[now, before], default=None)
        if source is not None and of_now[now, source] >= HELD:
            members[owners[source]][0].append(now)
    return [_Group(tuple(now), tuple(before)) for now, before in members.values()]


@dataclass(frozen=True, eq=False)
class _Laid:
    """The lesions of one study: `segments` are the labels that they have there."""

    labels: NDArray[np.uint8]
    geometry: Geometry
    segments: tuple[int, ...]


def _parts(one: _Laid, other: _Laid, mapped: Callable[[Float], Float]) -> Float:
    """(lesions of `one`, lesions of `other`) the part of the voxels of each that lies, mapped, in one of the others."""
    parts = find_objects(one.labels)
    shares = np.zeros((len(one.segments), len(other.segments)))
    for index, segment in enumerate(one.segments):
        box = parts[segment - 1]
        voxels = np.argwhere(one.labels[box] == segment) + [part.start for part in box]
        picked = voxels[:: max(1, len(voxels) // SAMPLES)]
        found = sampled(other.labels, other.geometry, mapped(one.geometry.index_to_lps(picked)))
        weights = one.geometry.voxel_volumes_mm3[picked[:, 0]]
        held = np.bincount(found, weights=weights, minlength=256) / weights.sum()
        shares[index] = held[list(other.segments)]
    return shares


def _centres(lesions: Sequence[Lesion] | Sequence[PriorLesion]) -> Float:
    """(lesions, 3) LPS mm."""
    return np.array([lesion.centroid_lps_mm for lesion in lesions], np.float64).reshape(-1, 3)


def _reached(geometry: Geometry, points_lps_mm: Float) -> list[bool]:
    """Whether each point (n, 3) lies within the stack, or less than NEAR_MM beyond its first and last plane."""
    if len(points_lps_mm) == 0:
        return []
    beyond = np.array([NEAR_MM / geometry.step_mm, 0.5, 0.5])
    indices = geometry.lps_to_index(points_lps_mm)
    within = (indices >= -beyond) & (indices <= np.array(geometry.shape) - 1 + beyond)
    return [bool(each) for each in within.all(axis=-1)]


def _courses(
    lesions: Sequence[Lesion], earlier: Sequence[PriorLesion], groups: Sequence[_Group], days: int | None
) -> list[Course]:
    courses = [Course(lesion.number, Status.NEW, lesion.tracking_uid) for lesion in lesions]
    for group in groups:
        now, before = [lesions[index] for index in group.now], [earlier[index] for index in group.before]
        growth = Growth(
            prior_diameter_mm=sum(lesion.long_axis_mm for lesion in before),
            diameter_mm=sum(lesion.long_axis_mm for lesion in now),
            prior_volume_ml=sum(lesion.volume_ml for lesion in before),
            volume_ml=sum(lesion.volume_ml for lesion in now),
            days=days,
        )
        status = growth.status
        if len(before) > 1 or len(now) > 1:
            status = Status.MERGED if len(before) > 1 else Status.SPLIT
        for index, lesion in zip(group.now, now, strict=True):
            is_heir = index == group.now[0] and before[0].tracking_uid
            courses[index] = Course(
                number=lesion.number,
                status=status,
                tracking_uid=before[0].tracking_uid if is_heir else lesion.tracking_uid,
                numbers=tuple(other.number for other in now),
                prior_numbers=tuple(other.number for other in before),
                growth=growth,
            )
    return courses


def _response(
    findings: Findings,
    geometry: Geometry,
    prior: Prior,
    groups: Sequence[_Group],
    courses: Sequence[Course],
    outside: Sequence[PriorLesion],
) -> Response:
    """By the targets of the earlier study, and what they are now."""
    if prior.slices_are_thick or criteria.slices_are_thick(geometry, [lesion.key_slice for lesion in findings.lesions]):
        return Response(None, (TOO_THICK,))
    targets = criteria.target_indices([lesion.long_axis_mm for lesion in prior.lesions])
    if any(prior.lesions[index] in outside for index in targets):
        return Response(None, ("a target of the earlier study lies outside of the images",))
    if not findings.lesions and not prior.lesions:
        return Response(None, ("no lesion then, none now",))
    followed = {now for group in groups if set(group.before) & set(targets) for now in group.now}
    new = [
        lesion.long_axis_mm
        for lesion, course in zip(findings.lesions, courses, strict=True)
        if course.status == Status.NEW
    ]
    return response_of(
        prior_targets_mm=[prior.lesions[index].long_axis_mm for index in targets],
        targets_mm=[findings.lesions[index].long_axis_mm for index in sorted(followed)],
        new_mm=new,
        others=findings.lesion_count - len(followed),
    )
