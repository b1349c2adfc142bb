"""The volumes that the images of a series make up, by grid, by what tells them apart and by ranges, or why none."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np

from dicom_io.errors import RejectReason, SeriesRejected
from dicom_io.geometry import SAME_DIRECTION, SAME_PLACE_MM, SPACING_TOLERANCE_MM, Geometry
from dicom_io.series.grids import as_if, by_grid
from dicom_io.series.partition import Part, Placed, ranges, volumes_of
from dicom_io.series.stacks import MAX_GAP_MM, MAX_MISSING_SHARE, MIN_SLICES, Slice, Stack, build_stack, is_derived
from dicom_io.sizes import MAX_STEP_MM


def stacks_of(parts: Sequence[Sequence[Placed[Slice]]]) -> tuple[list[Stack], str]:
    """Return the volumes of a series, from its images by direction and grid, and the remarks on their ranges.

    Raises SeriesRejected when there are none.
    """
    stacks: list[Stack] = []
    notes: list[str] = []
    refusals: list[tuple[bool, int, SeriesRejected]] = []
    unread: list[Placed[Slice]] = []
    for part in parts:
        try:
            volumes = volumes_of(part, MIN_SLICES)
        except SeriesRejected as error:
            refusals.append((not is_derived([item.slice for item in part]), len(part), error))
            unread += part
            continue
        for volume in volumes:
            try:
                found, note = _ranges(volume)
                stacks += found
                notes += [note] if note else []
            except SeriesRejected as error:
                original = not is_derived([item.slice for item in volume.placed])
                refusals.append((original, len(volume.placed), error))
                unread += volume.placed
    read = max(((not is_derived(stack.slices), stack.geometry.slices) for stack in stacks), default=(False, 0))
    original, count, refusal = max(refusals, key=lambda item: item[:2], default=(False, 0, None))
    if refusal is not None and (original, count) > read:
        raise SeriesRejected(_to_blame(refusal.reason, parts), refusal.detail)
    _refuse_in_parts(stacks, unread)
    _refuse_in_turn(stacks)
    return _without_reformats(stacks), " ".join(dict.fromkeys(notes))


def _ranges(volume: Part[Slice]) -> tuple[list[Stack], str]:
    """Return the stack of a volume, or of each of its ranges that is long enough, and the remarks on them.

    Ranges are more than MAX_GAP_MM apart: chest and pelvis in one series, or an abdomen that was scanned in two parts.
    Raises SeriesRejected where no range can be read.
    """
    parts = ranges(volume.placed, MAX_GAP_MM)
    if len(parts) == 1 or len(volume.placed) < MIN_SLICES:
        return [build_stack(volume.placed, volume.label)], ""
    normal = np.cross(volume.placed[0].orientation[:3], volume.placed[0].orientation[3:])
    spans = [(min(part), max(part)) for part in ([float(item.origin @ normal) for item in part] for part in parts)]
    gap_mm = max(after[0] - before[1] for before, after in pairwise(spans))
    stacks: list[Stack] = []
    incomplete: list[tuple[int, SeriesRejected]] = []
    for number, part in enumerate(parts, start=1):
        label = ", ".join(filter(None, (volume.label, f"range {number} of {len(parts)}")))
        try:
            stacks.append(replace(build_stack(part, label), is_range=True))
        except SeriesRejected as error:
            is_short = error.reason in (RejectReason.TOO_SHORT, RejectReason.TOO_FEW_SLICES)
            incomplete += [] if is_short else [(len(part), error)]
    longest, refusal = max(incomplete, key=lambda item: item[0], default=(0, None))
    if refusal and longest > max((stack.geometry.slices for stack in stacks), default=0):
        raise refusal
    if len(parts) == len(volume.placed) and gap_mm > MAX_STEP_MM:
        raise SeriesRejected(RejectReason.IMPOSSIBLE_SIZE, f"Slices {gap_mm:.3g} mm apart.")
    if not stacks:
        raise SeriesRejected(RejectReason.MISSING_SLICES, f"A gap of {gap_mm:.1f} mm.")
    left_out = len(volume.placed) - sum(stack.geometry.slices for stack in stacks)
    said = f"The slices lie in {len(parts)} ranges, up to {gap_mm:.0f} mm apart."
    said += f" {left_out} slices in ranges too short or incomplete to be read were left out." if left_out else ""
    return stacks, said


def _refuse_in_parts(stacks: Sequence[Stack], unread: Sequence[Placed[Slice]]) -> None:
    """Raise SeriesRejected where images that cannot be read lie at too many places of which there is no other.

    PixelSpacing that grows from slice to slice cuts a liver in two, each half on its own grid. The images of a bolus
    that is tracked are many, and lie at one place.
    """
    stack = max(stacks, key=lambda stack: stack.geometry.slices)
    geometry = stack.geometry
    shown = np.concatenate([each.geometry.origins_lps_mm for each in stacks]) @ geometry.normal
    missed = [
        item
        for item in unread
        if not is_derived([item.slice])
        and abs(np.cross(item.orientation[:3], item.orientation[3:]) @ geometry.normal) > SAME_DIRECTION
        and np.abs(shown - item.origin @ geometry.normal).min() > geometry.step_mm / 2
    ]
    places = len({round(float(item.origin @ geometry.normal) / geometry.step_mm) for item in missed})
    if places <= max(1.0, MAX_MISSING_SHARE * (geometry.slices + places)):
        return
    frames = {item.slice.header.frame_of_reference_uid for item in missed}
    is_framed = frames == {stack.slices[0].header.frame_of_reference_uid}
    reason = RejectReason.MIXED_GRIDS if is_framed else RejectReason.MIXED_FRAMES_OF_REFERENCE
    raise SeriesRejected(reason, f"{places} slices are on none that can be read.")


def _refuse_in_turn(stacks: Sequence[Stack]) -> None:
    """Raise SeriesRejected where the slices of two stacks lie on two grids in turn: they are halves of one volume.

    Where PixelSpacing was cut to two decimals in every other header, or another frame of reference stands there, each
    half would be a liver with a report.
    """
    for one, other in combinations((stack.geometry for stack in stacks), 2):
        if one.is_even and other.is_even and abs(float(one.normal @ other.normal)) > SAME_DIRECTION:
            places = np.r_[one.origins_lps_mm, other.origins_lps_mm] @ one.normal
            turns = np.repeat([True, False], [one.slices, other.slices])[np.argsort(places)]
            gaps_mm = np.diff(np.sort(places))
            is_even = np.ptp(gaps_mm) <= 2 * SPACING_TOLERANCE_MM and gaps_mm.min() > SAME_PLACE_MM
            if is_even and (turns[1:] != turns[:-1]).all() and _grid(one) != _grid(other):
                reason = RejectReason.MIXED_GRIDS
                if one.frame_of_reference_uid != other.frame_of_reference_uid:
                    reason = RejectReason.MIXED_FRAMES_OF_REFERENCE
                raise SeriesRejected(reason, "Their slices lie on two grids in turn.")


def _grid(geometry: Geometry) -> tuple[object, ...]:
    """All that tells the planes of two stacks apart but where they lie."""
    cosines = (*geometry.row_cosines.tolist(), *geometry.column_cosines.tolist())
    spacing = geometry.row_spacing_mm, geometry.column_spacing_mm
    return geometry.rows, geometry.columns, geometry.frame_of_reference_uid, spacing, cosines


def _to_blame(reason: RejectReason, parts: Sequence[Sequence[Placed[Slice]]]) -> RejectReason:
    """Return the property that splits the images into too small groups: without it they would make a volume."""
    if reason not in (RejectReason.TOO_FEW_SLICES, RejectReason.TOO_SHORT, RejectReason.MISSING_SLICES):
        return reason
    in_one_frame = [as_if(item, frame_of_reference_uid="") for part in parts for item in part]
    on_one_grid = [_on_any_grid(item) for item in in_one_frame]
    apart = len(parts)
    for mixed, images in (
        (RejectReason.MIXED_FRAMES_OF_REFERENCE, in_one_frame),
        (RejectReason.MIXED_GRIDS, on_one_grid),
    ):
        largest, *others = by_grid(images)
        if len(others) + 1 < apart and _holds_a_volume(largest):
            return mixed
        apart = len(others) + 1
    return RejectReason.MIXED_ORIENTATION if reason == RejectReason.TOO_FEW_SLICES and others else reason


def _on_any_grid(item: Placed[Slice]) -> Placed[Slice]:
    plane = replace(item.slice.plane, pixel_spacing=("1", "1"))
    return as_if(replace(item, slice=replace(item.slice, plane=plane)), rows=512, columns=512)


def _holds_a_volume(placed: Sequence[Placed[Slice]]) -> bool:
    try:
        for volume in volumes_of(placed, MIN_SLICES):
            build_stack(volume.placed, volume.label)
    except SeriesRejected:
        return False
    return True


def _without_reformats(stacks: list[Stack]) -> list[Stack]:
    """Return the stacks without those that were computed from another one of the series, each with its label."""
    kept = [stack for stack in stacks if not is_derived(stack.slices)] or stacks
    labels = [stack.label for stack in kept]
    if len({stack.geometry.plane_name for stack in kept}) > 1:
        labels = [", ".join(filter(None, (stack.geometry.plane_name, stack.label))) for stack in kept]
    if len(set(labels)) < len(labels):
        labels = [", ".join(filter(None, (label, f"part {n} of {len(kept)}"))) for n, label in enumerate(labels, 1)]
    return [replace(stack, label=label if len(kept) > 1 else "") for stack, label in zip(kept, labels, strict=True)]
