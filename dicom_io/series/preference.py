"""Which volume of a series, and which series of a study, is the one to segment; pure.

The phase of a contrast series is seldom stated. What says it, the most certain first: a word in a description or
protocol; the seconds since the bolus; a volume without contrast beside one with it; the order of two acquisitions in
a series that is described as one of several phases (the first arterial, the second portal venous). Whatever none of
these decides is unknown, and then no volume is dropped.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from dicom_io.geometry import lie_apart
from dicom_io.series.series import Series
from dicom_io.series.stacks import THICK_MM, Stack


class Phase(StrEnum):
    """The contrast phases, by the time after the bolus."""

    NATIVE = "native"
    ARTERIAL = "arterial"
    PORTAL = "portal"
    DELAYED = "delayed"


ALL = "all"

PHASE_WORDS = {
    Phase.PORTAL: r"portal|porto|\bpv[pi]?\b|ven(ous|oes|ös|eux|osa)|\bven\b|pfortader",
    Phase.ARTERIAL: r"arter|\bart\b|\bhap\b|aort",
    Phase.DELAYED: r"delay|\blate\b|equilib|spaet|spät|tardi|excret",
    Phase.NATIVE: r"nativ|non.?contrast|without|w/?o\b|unenhanced|plain|\bpre\b|precontrast|sans",
}
MULTIPHASE = r"phase|phas|bolus|dynam"
UNSUITED_KERNEL = r"lung|bone|knochen|poumon|\bos\b|osteo"

ARTERIAL_S = (10.0, 45.0)
PORTAL_S = (45.0, 110.0)
"""Seconds after the start of the bolus, around what protocols aim at (25 to 35 s, 60 to 80 s); later is delayed."""

CLOSE_MM = 20.0
"""Coverages that differ by less cover the liver alike."""


def chosen_stacks(series: Series, prefer: str) -> tuple[tuple[Stack, ...], str]:
    """The volumes of a series to segment, and a sentence for the report ("" for an only volume).

    `prefer` is a Phase or "all". Phase maps are no anatomy and are dropped where a magnitude is there. All volumes
    are taken where it is not certain which one is meant.
    """
    stacks = series.stacks
    if len(stacks) == 1:
        return stacks, " ".join(filter(None, (series.note, _phase_note(stacks[0]))))
    if all(stack.is_range for stack in stacks):
        return stacks, f"{series.note} Each range was segmented for itself."
    taken, note = _chosen_of_several(series, prefer)
    return taken, " ".join(filter(None, (series.note, note)))


def _chosen_of_several(series: Series, prefer: str) -> tuple[tuple[Stack, ...], str]:
    stacks = series.stacks
    images = tuple(stack for stack in stacks if not _is_phase_map(stack)) or stacks
    phases = phases_of(images)
    wanted = tuple(stack for stack, phase in zip(images, phases, strict=True) if phase == prefer)
    if prefer != ALL and len(wanted) == 1:
        stack = wanted[0]
        return wanted, (
            f"The series holds {len(stacks)} volumes; volume {stack.index + 1} ({stack.label}) was segmented, "
            f"taken for the {prefer} phase ({_known_phases(images)[images.index(stack)][1]})."
        )
    if len(images) == 1:
        return images, (
            f"The series holds {len(stacks)} volumes; volume {images[0].index + 1} ({images[0].label}) was segmented."
        )
    if lie_apart([stack.geometry for stack in images]):
        return images, f"The series holds {len(images)} volumes, one beside the other; each was segmented for itself."
    why = "as configured" if prefer == ALL else f"as it is not certain which one is the {prefer} phase"
    return (
        images,
        f"The series holds {len(stacks)} volumes; {len(images)} of them were segmented each for itself, {why}.",
    )


def phases_of(stacks: Sequence[Stack]) -> tuple[Phase | None, ...]:
    """The phase of each volume of one series, None where nothing says it."""
    return tuple(phase for phase, _ in _known_phases(stacks))


Known = tuple[Phase | None, str]
"""The phase of a volume, and in words how it is known: "" where nothing says it."""

UNKNOWN: Known = (None, "")


def _known_phases(stacks: Sequence[Stack]) -> tuple[Known, ...]:
    known = [_known_phase(_marks(stack)) for stack in stacks]
    stated = [phase for phase, _ in known]
    if len(stacks) == 2 and stated[0] == stated[1] and stacks[0].modality == "CT":
        enhanced = [bool(_mark(stack, "ContrastBolusAgent")) for stack in stacks]
        if enhanced[0] != enhanced[1]:
            native = Phase.NATIVE, "without contrast agent, beside a volume with it"
            return tuple(known[0] if contrast else native for contrast in enhanced)
        order = _acquisition_order(stacks)
        if order and re.search(MULTIPHASE, _words(_marks(stacks[0]))):
            pair = (Phase.ARTERIAL, "the first of two acquisitions"), (Phase.PORTAL, "the second of two acquisitions")
            return tuple(pair[order.index(index)] for index in range(2))
    # A word that all volumes of the series share tells nothing of any one of them
    return tuple(known) if len(stacks) == 1 or len(set(stated)) > 1 else (UNKNOWN,) * len(stacks)


def _phase_note(stack: Stack) -> str:
    """Say the phase of an only volume, and how it is known; "" for an MR that states none."""
    phase, how = _known_phase(_marks(stack))
    if phase:
        return f"Contrast phase: {phase}, known by {how}."
    if stack.modality != "CT":
        return ""
    agent = "a contrast agent is named" if _mark(stack, "ContrastBolusAgent") else "no contrast agent is named"
    return f"Contrast phase: not stated in the images; {agent}."


def suitability(series: Series, prefer: str) -> tuple[int | float, ...]:
    """Sortable: of the series of a study, the one with the largest suits best.

    In this order: original axial images; the preferred phase, else none stated, with a contrast agent (for native:
    without) before the others; no kernel for lung or bone; slices of at most 5 mm; the most coverage along the
    patient; the most slices.
    """
    stacks, _ = chosen_stacks(series, prefer)
    stack = stacks[0]
    geometry, kind = stack.geometry, stack.slices[0].plane.image_type
    original = tuple(value.upper() for value in kind[:2]) == ("ORIGINAL", "PRIMARY") and geometry.plane_name == "axial"
    phase = phases_of(stacks)[0] if len(stacks) == 1 else None
    contrast = bool(_mark(stack, "ContrastBolusAgent")) != (prefer == Phase.NATIVE)
    in_phase = 3 if phase == prefer or prefer == ALL else 1 + contrast if phase is None else 0
    coverage_mm = float(geometry.slice_widths_mm.sum())
    return (
        int(original),
        in_phase,
        int(not re.search(UNSUITED_KERNEL, _words(_marks(stack)))),
        int(geometry.step_mm <= THICK_MM + 0.01),
        round(coverage_mm / CLOSE_MM),
        geometry.slices,
    )


def suitability_by_words(description: str, prefer: str) -> tuple[int, int]:
    """Judge a series of which only the description is known: its phase, and no kernel for lung or bone."""
    words = description.casefold()
    phase = _named_phase(words)
    in_phase = 2 if phase == prefer or prefer == ALL else int(phase is None)
    return in_phase, int(not re.search(UNSUITED_KERNEL, words))


def _named_phase(words: str) -> Phase | None:
    named = [phase for phase, pattern in PHASE_WORDS.items() if re.search(pattern, words)]
    return named[0] if len(named) == 1 else None


def stated_phase(marks: Mapping[str, str]) -> Phase | None:
    """The phase that an image states by these values, by keyword: in words, or by the seconds since the bolus."""
    return _known_phase(marks)[0]


def _known_phase(marks: Mapping[str, str]) -> Known:
    if phase := _named_phase(_words(marks)):
        places = [key for key in FREE_TEXTS if re.search(PHASE_WORDS[phase], marks.get(key, "").casefold())]
        return phase, f"a word in {places[0] if places else FREE_TEXTS[0]}"
    seconds = _seconds_since_bolus(marks)
    if seconds is None:
        return UNKNOWN
    how = f"the time since the bolus, {seconds:.0f} s"
    if seconds < ARTERIAL_S[0]:
        return Phase.NATIVE, how
    phase = Phase.ARTERIAL if seconds < ARTERIAL_S[1] else Phase.PORTAL if seconds < PORTAL_S[1] else Phase.DELAYED
    return phase, how


FREE_TEXTS = ("SeriesDescription", "ProtocolName", "ConvolutionKernel")


def _words(marks: Mapping[str, str]) -> str:
    """Return the free texts about a volume, in small letters."""
    return " ".join(marks.get(key, "") for key in FREE_TEXTS).casefold()


def _seconds_since_bolus(marks: Mapping[str, str]) -> float | None:
    start, acquired = marks.get("ContrastBolusStartTime", ""), marks.get("AcquisitionDateTime", "")
    try:
        began = datetime.strptime(start[:6], "%H%M%S")
        taken = datetime.strptime(acquired[8:14], "%H%M%S")
    except ValueError:
        return None
    seconds = (taken - began).total_seconds()
    return seconds if 0 <= seconds < 3600 else None


def _acquisition_order(stacks: Sequence[Stack]) -> list[int] | None:
    """The indices of volumes by acquisition: by time, else by number; None where neither tells all apart."""
    for key in ("AcquisitionDateTime", "AcquisitionNumber"):
        try:
            values = [float(_mark(stack, key)) for stack in stacks]
        except ValueError:
            continue
        if len(set(values)) == len(values):
            return sorted(range(len(stacks)), key=values.__getitem__)
    return None


def _is_phase_map(stack: Stack) -> bool:
    """True for a volume that holds the phase of the MR signal (PS3.3 section C.8.13.3.1.1)."""
    plane = stack.slices[0].plane
    kinds = {value.upper() for value in (*plane.image_type[2:], plane.marks.get("ComplexImageComponent", ""))}
    return stack.modality == "MR" and bool(kinds & {"PHASE", "PHASE MAP", "P"})


def _mark(stack: Stack, key: str) -> str:
    """A value of the first slice."""
    return _marks(stack).get(key, "")


def _marks(stack: Stack) -> Mapping[str, str]:
    return stack.slices[0].plane.marks
