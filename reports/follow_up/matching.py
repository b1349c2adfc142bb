"""Which lesions of two studies are the same: the one rule, by lesions laid over each other through a registration.

Pure.

1. The likeness of a lesion and an earlier one is the part of each that lies in the other, their mean, and the nearness
   of their centres: 1 for the same place, 0 from NEAR_MM on. They may be the same from LEAST_LIKENESS on. Those that
   bear the same tracking UID were said to be the same when they were reported, and stay so.
2. Each is paired with one at most, so that the sum of likenesses is the greatest.
3. An earlier lesion left over has merged into a paired lesion that holds at least half of it; a lesion left over has
   split from a paired earlier one that held at least half of it.
4. What is left of the later study is new, what is left of the earlier one has disappeared; but where the images of the
   other study do not reach, nothing is known: it is outside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.optimize import linear_sum_assignment

from dicom_io.geometry import Float, Geometry
from reports.findings.course import PriorLesion
from reports.findings.findings import Lesion
from reports.findings.sizes import Point
from reports.follow_up.registration import Registration, Surface, register, sample_labels

NEAR_MM = 12.0
"""From how far apart centres say nothing any more: livers that breathe and bend lie up to 10 mm off their affine
map."""

LEAST_LIKENESS = 0.1
SAME_UID_LIKENESS = 4.0
"""What a common tracking UID adds: more than places ever come to, which is 2."""

HELD = 0.5
"""How much of a lesion must lie in another one to have merged into it, or split from it."""

SAMPLES = 20_000
"""How many voxels of a lesion are mapped at most, evenly picked."""


@dataclass(frozen=True, eq=False)
class Laid:
    """One study in space: `labels` (slice, row, column) on `geometry`, 1 liver, 2... `lesions` by segment.

    `centroids_lps_mm` are those of the lesions, in their order.
    """

    labels: NDArray[np.uint8]
    geometry: Geometry
    lesions: Sequence[Lesion | PriorLesion]
    centroids_lps_mm: Sequence[Point]
    surface: Surface


@dataclass(frozen=True)
class Group:
    """Lesions that are the same, by their places in the tuples of both studies; the first of each were paired."""

    now: tuple[int, ...]
    before: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Matching:
    """Which lesions of a study are which of an earlier one, by their places in the tuples of both.

    `groups` are in the order of the later lesions. `new` and `unseen` are the later ones that no earlier one is, the
    second where the earlier images do not reach; `gone` and `outside` are the earlier ones that are left, the second
    where the later images do not reach.
    """

    groups: tuple[Group, ...]
    new: tuple[int, ...]
    unseen: tuple[int, ...]
    gone: tuple[int, ...]
    outside: tuple[int, ...]
    registration: Registration

    def heirs(self, before: Sequence[int]) -> tuple[int, ...]:
        """Return which later lesions these earlier ones have become, in their order."""
        return tuple(sorted({now for group in self.groups if set(group.before) & set(before) for now in group.now}))


def match(later: Laid, earlier: Laid) -> Matching:
    """Lay one study over an earlier one. Raises LiversDiffer when the livers do not fit."""
    registration = register(later.surface, earlier.surface)
    groups = _groups(later, earlier, registration)
    known = {now for group in groups for now in group.now}
    left_now = [index for index in range(len(later.lesions)) if index not in known]
    known = {before for group in groups for before in group.before}
    left_before = [index for index in range(len(earlier.lesions)) if index not in known]
    seen = _reached(earlier.geometry, registration.to_prior(_points([later.centroids_lps_mm[i] for i in left_now])))
    inside = _reached(
        later.geometry, registration.from_prior(_points([earlier.centroids_lps_mm[i] for i in left_before]))
    )
    return Matching(
        groups=tuple(groups),
        new=tuple(index for index, is_in in zip(left_now, seen, strict=True) if is_in),
        unseen=tuple(index for index, is_in in zip(left_now, seen, strict=True) if not is_in),
        gone=tuple(index for index, is_in in zip(left_before, inside, strict=True) if is_in),
        outside=tuple(index for index, is_in in zip(left_before, inside, strict=True) if not is_in),
        registration=registration,
    )


def _groups(later: Laid, earlier: Laid, registration: Registration) -> list[Group]:
    """Pairs by likeness, and what merged into them or split from them; in the order of the later lesions."""
    if not later.lesions or not earlier.lesions:
        return []
    # Two tables (lesion, earlier lesion): the part of each that lies in the other
    of_now, of_before = _parts(later, earlier, registration.to_prior), _parts(earlier, later, registration.from_prior).T
    centres = registration.to_prior(_points(later.centroids_lps_mm))
    apart_mm = np.linalg.norm(centres[:, None] - _points(earlier.centroids_lps_mm)[None], axis=-1)
    likeness = (of_now + of_before) / 2 + (1 - apart_mm / NEAR_MM).clip(min=0)
    likeness[likeness < LEAST_LIKENESS] = 0
    tracked = np.array(
        [[now.tracking_uid == then.tracking_uid != "" for then in earlier.lesions] for now in later.lesions]
    )
    likeness[tracked] += SAME_UID_LIKENESS
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    pairs = {int(now): int(before) for now, before in zip(rows, columns, strict=True) if likeness[now, before] > 0}
    members = {now: ([now], [before]) for now, before in pairs.items()}
    owners = {before: now for now, before in pairs.items()}
    for before in sorted(set(range(len(earlier.lesions))) - set(owners)):
        into = max(pairs, key=lambda now: of_before[now, before], default=None)
        if into is not None and of_before[into, before] >= HELD:
            members[into][1].append(before)
    for now in sorted(set(range(len(later.lesions))) - set(pairs)):
        source = max(owners, key=lambda before: of_now[now, before], default=None)
        if source is not None and of_now[now, source] >= HELD:
            members[owners[source]][0].append(now)
    return [Group(tuple(now), tuple(before)) for now, before in members.values()]


def _parts(one: Laid, other: Laid, mapped: Callable[[Float], Float]) -> Float:
    """(lesions of `one`, lesions of `other`) the part of the voxels of each that lies, mapped, in one of the others."""
    boxes = find_objects(one.labels)
    segments = [lesion.segment for lesion in other.lesions]
    shares = np.zeros((len(one.lesions), len(other.lesions)))
    for index, lesion in enumerate(one.lesions):
        box = boxes[lesion.segment - 1]
        voxels = np.argwhere(one.labels[box] == lesion.segment) + [part.start for part in box]
        picked = voxels[:: max(1, len(voxels) // SAMPLES)]
        found = sample_labels(other.labels, other.geometry, mapped(one.geometry.index_to_lps(picked)))
        weights = one.geometry.voxel_volumes_mm3[picked[:, 0]]
        held = np.bincount(found, weights=weights, minlength=256) / weights.sum()
        shares[index] = held[segments]
    return shares


def _points(points_lps_mm: Sequence[Point]) -> Float:
    """(n, 3) LPS mm, of none too."""
    return np.array(points_lps_mm, np.float64).reshape(-1, 3)


def _reached(geometry: Geometry, points_lps_mm: Float) -> list[bool]:
    """Return for each point (n, 3) whether it lies in the stack, or less than NEAR_MM beyond its ends."""
    if len(points_lps_mm) == 0:
        return []
    beyond = np.array([NEAR_MM / geometry.step_mm, 0.5, 0.5])
    indices = geometry.lps_to_index(points_lps_mm)
    within = (indices >= -beyond) & (indices <= np.array(geometry.shape) - 1 + beyond)
    return [bool(each) for each in within.all(axis=-1)]
