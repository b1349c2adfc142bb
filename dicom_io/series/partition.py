"""Which images of one direction and grid make up which volume: phases, echoes, components, time points, b-values.

Different positions are one volume, whatever ImageType says. Where several images lie at one position, the attributes
that tell them apart there tell the volumes apart everywhere.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations, pairwise
from statistics import median
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.files.image_file import SPLITTING
from dicom_io.geometry import SAME_PLACE_MM, SPACING_TOLERANCE_MM, Float

T = TypeVar("T")

MOST_KEYS = 3
"""By how many attributes at once volumes are told apart (echo, component and time point, say)."""

SEAM_SLICES = 2
"""At how many positions two acquisitions that follow one another along the table may overlap and be one volume."""

TIMES = ("AcquisitionDateTime", "ContentTime")

INTERLEAVING = ("AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers")
"""What tells apart volumes that lie between one another's slices, as two breath-holds of free position do."""

NUMBERS = frozenset(
    (
        *("EchoTime", "DiffusionBValue", "DiffusionGradientOrientation", "TriggerTime", "InversionTime"),
        *("FlipAngle", "KVP", "SliceThickness"),
    )
)
"""Attributes that are measured: values that differ by less than NUMBER_TOLERANCE are one value, however written."""

NUMBER_TOLERANCE = 1e-3
"""In the unit of the attribute: milliseconds, degrees, kV, mm."""

NEAREST = 64
"""With how many values before it, in their order, a value is compared; each of a thousand slices may have its own."""

SPOKEN = frozenset(SPLITTING) - {"ContrastBolusAgent", "AcquisitionDateTime", "ContentTime", "StackID"}
"""Attributes whose values are numbers and codes, and may stand in a label."""


@dataclass(frozen=True, eq=False)
class Placed(Generic[T]):
    """An image and where it lies: `origin` (3,) LPS mm, `orientation` (6,) cosines, `marks` by keyword.

    `again` are images that are taken for this one, sent a second time.
    """

    slice: T
    origin: Float
    orientation: Float
    marks: Mapping[str, str]
    again: tuple[T, ...] = ()


@dataclass(frozen=True, eq=False)
class Part(Generic[T]):
    """The images of one volume, in no order, and what tells them from the others."""

    placed: tuple[Placed[T], ...]
    label: str


def clusters(points_mm: Float, tolerance_mm: float) -> list[NDArray[np.intp]]:
    """Indices of things that are one thing, the largest group first; `points_mm` (n, points, 3) says where each lies.

    No point of a member is further than `tolerance_mm` from that of another: a chain of small differences joins
    nothing, and who comes first decides nothing.
    """
    groups = []
    left = np.arange(len(points_mm))
    while len(left):
        points = points_mm[left]
        seed = points[_distances(points, np.median(points, axis=0)).argmin()]
        around = points[_distances(points, seed) <= tolerance_mm]
        member = _distances(points, (around.min(axis=0) + around.max(axis=0)) / 2) <= tolerance_mm / 2
        if not member.any():
            member = _distances(points, seed) <= tolerance_mm / 2
        groups.append(left[member])
        left = left[~member]
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def _distances(points_mm: Float, from_mm: Float) -> Float:
    """(n,) the largest distance of any point of each."""
    return np.asarray(np.linalg.norm(points_mm - from_mm, axis=-1).max(axis=-1))


def volumes_of(images: Sequence[Placed[T]], min_slices: int) -> list[Part[T]]:
    """The volumes that parallel images on one grid make up; some may be too small to be read.

    Raises SeriesRejected(DUPLICATE_POSITIONS) when several images lie at the same positions and nothing tells the
    volumes apart.
    """
    places = _places(images)
    counts = np.bincount(places)
    if counts.max() == 1:
        return _interleaved(images, min_slices) or [Part(tuple(images), "")]
    if len(counts) < min_slices:  # too few slices in any case: no need to know which is which
        return [Part(tuple(images[int(np.flatnonzero(places == place)[0])] for place in range(len(counts))), "")]
    images = _with_one_value_each(images)
    keys = [key for key in SPLITTING if _varies_at_one_place(images, places, key)]
    splits = []
    for size in range(1, min(MOST_KEYS, len(keys)) + 1):
        for combination in combinations(keys, size):
            groups = _grouped(images, combination)
            if all(len(np.unique(places[group])) == len(group) for group in groups.values()):
                splits.append((len(groups), size, groups, combination))
    if splits:
        _, _, groups, combination = min(splits, key=lambda split: split[:2])
        if max(map(len, groups.values())) >= min_slices:
            return _end_to_end(images, places, groups) or list(_parts(images, groups, combination))
    for key in TIMES:
        groups = _by_time(images, key, int(counts.max()))
        if groups and all(len(np.unique(places[group])) == len(group) >= min_slices for group in groups.values()):
            return list(_parts(images, groups, (key,)))
    raise SeriesRejected(RejectReason.DUPLICATE_POSITIONS, f"{counts.max()} at one position.")


def each_once(images: Sequence[Placed[T]], are_same: Callable[[T, T], bool]) -> list[Placed[T]]:
    """The images without those that came again, which stand in `again` of the one that stays, the first.

    `are_same` is asked of images at one place that a time at most tells apart. Where most places have several images,
    one for each volume, no place loses one of these: slices of air are alike in all phases.
    """
    keys = [key for key in SPLITTING if key not in TIMES]
    marks = [tuple(_mark(image, key) for key in keys) for image in _with_one_value_each(images)]
    places = _places(images).tolist()
    firsts: dict[Hashable, list[int]] = {}
    twins: dict[int, int] = {}
    for index, alike in enumerate(zip(places, marks, strict=True)):
        others = firsts.setdefault(alike, [])
        first = next((other for other in others if are_same(images[other].slice, images[index].slice)), None)
        if first is None:
            others.append(index)
        else:
            twins[index] = first
    left = Counter(places)
    volumes = median(Counter(place for index, place in enumerate(places) if index not in twins).values())
    again: dict[int, list[T]] = {}
    dropped = set()
    for index, first in twins.items():
        if left[places[index]] > volumes:
            left[places[index]] -= 1
            again.setdefault(first, []).append(images[index].slice)
            dropped.add(index)
    return [
        replace(image, again=tuple(again.get(index, ()))) for index, image in enumerate(images) if index not in dropped
    ]


def ranges(images: Sequence[Placed[T]], max_gap_mm: float) -> list[list[Placed[T]]]:
    """Parallel images by the ranges that they lie in, with more than `max_gap_mm` between them along the normal."""
    orientation = images[0].orientation
    positions = np.array([image.origin for image in images]) @ np.cross(orientation[:3], orientation[3:])
    order = np.argsort(positions, kind="stable")
    ends = np.flatnonzero(np.diff(positions[order]) > max_gap_mm) + 1
    return [[images[index] for index in part] for part in np.split(order, ends)]


def _places(images: Sequence[Placed[T]]) -> NDArray[np.intp]:
    """The number of the position along the normal at which each image lies."""
    orientation = images[0].orientation
    positions = np.array([image.origin for image in images]) @ np.cross(orientation[:3], orientation[3:])
    order = np.argsort(positions, kind="stable")
    places = np.empty(len(images), dtype=np.intp)
    places[order] = np.r_[0, np.cumsum(np.diff(positions[order]) > SAME_PLACE_MM)]
    return places


def _varies_at_one_place(images: Sequence[Placed[T]], places: NDArray[np.intp], key: str) -> bool:
    values: dict[int, str] = {}
    pairs = zip(places.tolist(), (_mark(image, key) for image in images), strict=True)
    return any(values.setdefault(place, value) != value for place, value in pairs)


def _with_one_value_each(images: Sequence[Placed[T]]) -> list[Placed[T]]:
    """The images, with one spelling of each measured value: 2.30 and 2.3000001 ms are one echo time."""
    spelling: dict[tuple[str, str], str] = {}
    for key in NUMBERS:
        texts = {_mark(image, key) for image in images}
        texts.discard("")
        kept: list[tuple[tuple[float, ...], str]] = []
        for values, text in sorted((_numbers(text), text) for text in texts):
            same = next((known for known in kept[-NEAREST:] if _is_same(known[0], values)), None)
            spelling[key, text] = same[1] if same else text
            kept += [] if same else [(values, text)]
    return [
        replace(image, marks={key: spelling.get((key, text), text) for key, text in image.marks.items()})
        for image in images
    ]


def _numbers(text: str) -> tuple[float, ...]:
    """The values of a multi-valued attribute; () where one is no finite number."""
    try:
        values = tuple(float(value) for value in text.split("\\"))
    except ValueError:
        return ()
    return values if np.isfinite(values).all() else ()


def _is_same(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return 0 < len(one) == len(other) and bool(np.abs(np.subtract(one, other)).max() <= NUMBER_TOLERANCE)


def _grouped(images: Sequence[Placed[T]], keys: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(tuple(_mark(image, key) for key in keys), []).append(index)
    return groups


def _by_time(images: Sequence[Placed[T]], key: str, count: int) -> dict[tuple[str, ...], list[int]]:
    """Divide images into `count` runs of time by the longest pauses; {} where not all of them have a time.

    Scanners give every slice another time: those of one phase lie close together, phases do not.
    """
    try:
        seconds = np.array([_seconds(_mark(image, key)) for image in images])
    except ValueError:
        return {}
    order = np.argsort(seconds, kind="stable")
    pauses = np.sort(np.argsort(-np.diff(seconds[order]), kind="stable")[: count - 1]) + 1
    runs = np.split(order, pauses)
    if any(seconds[before[-1]] == seconds[after[0]] for before, after in pairwise(runs)):
        return {}
    return {(f"{number}",): run.tolist() for number, run in enumerate(runs)}


def _seconds(text: str) -> float:
    """The time of day of a DT or TM value in seconds. Raises ValueError."""
    date, time = (text[:8], text[8:]) if len(text.partition(".")[0]) > 6 else ("", text)
    days = datetime.strptime(date, "%Y%m%d").toordinal() if date else 0
    whole, _, fraction = time.partition(".")
    if len(whole) != 6 or not whole.isdigit():
        raise ValueError("not a time")
    return days * 86400 + int(whole[:2]) * 3600 + int(whole[2:4]) * 60 + float(f"{whole[4:]}.{fraction[:6] or 0}")


def _end_to_end(
    images: Sequence[Placed[T]], places: NDArray[np.intp], groups: Mapping[tuple[str, ...], Sequence[int]]
) -> list[Part[T]]:
    """Join groups into one volume where they follow one another along the normal, with a seam at most; else []."""
    held: dict[int, int] = {}
    shared = 0
    for group in sorted(groups.values(), key=len, reverse=True):
        shared = max(shared, sum(int(places[index]) in held for index in group))
        for index in group:
            held.setdefault(int(places[index]), index)
    whole = sorted(groups.values(), key=len)
    is_seam = shared <= SEAM_SLICES < len(whole[0])
    return [Part(tuple(images[index] for index in held.values()), "")] if is_seam else []


def _interleaved(images: Sequence[Placed[T]], min_slices: int) -> list[Part[T]]:
    """Even volumes that lie between one another's slices and together make no even one; [] if that is not so."""
    orientation = images[0].orientation
    positions = np.array([image.origin for image in images]) @ np.cross(orientation[:3], orientation[3:])
    if _is_even(positions):
        return []
    for key in INTERLEAVING:
        groups = _grouped(images, (key,))
        if len(groups) < 2 or min(map(len, groups.values())) < min_slices:
            continue
        spans = [positions[group] for group in groups.values()]
        shared = min(float(span.max()) for span in spans) - max(float(span.min()) for span in spans)
        if all(map(_is_even, spans)) and shared > 0.5 * max(float(np.ptp(span)) for span in spans):
            return list(_parts(images, groups, (key,)))
    return []


def _is_even(positions_mm: Float) -> bool:
    gaps = np.diff(np.sort(positions_mm))
    return len(gaps) < 2 or bool(np.ptp(gaps) <= 2 * SPACING_TOLERANCE_MM)


def _parts(
    images: Sequence[Placed[T]], groups: Mapping[tuple[str, ...], Sequence[int]], keys: Sequence[str]
) -> Iterator[Part[T]]:
    values = sorted(groups, key=lambda value: [_sortable(text) for text in value])
    for number, value in enumerate(values, start=1):
        words = []
        for position, (key, text) in enumerate(zip(keys, value, strict=True)):
            if key in SPOKEN:
                others = [set(other[position].split("\\")) for other in values]
                common = set.intersection(*others) if len(others) > 1 else set()
                own = [part for part in text.split("\\") if part not in common]
                words.append(f"{key} {' '.join(own) or 'none'}")
            else:
                words.append(f"{key} {number} of {len(values)}")
        yield Part(tuple(images[index] for index in groups[value]), ", ".join(words))


def _mark(image: Placed[T], key: str) -> str:
    return image.marks.get(key, "")


def _sortable(text: str) -> tuple[int, float, str]:
    """Numbers by value, before texts."""
    try:
        return 0, float(text), ""
    except ValueError:
        return 1, 0.0, text
