"""`porta series`: whether each series would be processed, and why not. Judged from the headers, unless asked."""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from daemon.progress import progress_bar
from daemon.terminal import Terminal, plain, styled, warn
from daemon.worker.decoding import Decoder, decoder
from daemon.worker.sources import find_series, foretold_by_headers, name_member, refuse_unfit
from dicom_io.archive import dicom_files
from dicom_io.errors import (
    WARNING_SENTENCES,
    NotDicom,
    SeriesRejected,
    SeriesWarning,
)
from dicom_io.files.image_file import ImageFile
from dicom_io.series.preference import chosen_stacks
from dicom_io.series.series import Series, arrange
from dicom_io.series.stacks import Stack

ACCEPTED = "ACCEPTED"
BY_HEADERS = "By its headers, the series holds {} that can be segmented; its pixels were not read: --pixels reads them."
"""Damaged pixels, values that are no HU and images that only their pixels tell apart are found by reading alone."""


@dataclass(frozen=True)
class VolumeVerdict:
    """One volume: its grid in words and numbers. `taken` says whether `prefer` would have it segmented.

    `spacing_mm` is (slice, row, column), the first None where it is not the same throughout; `gaps_mm` are the
    smallest and the largest distance between neighbouring slices.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float | None, float, float]
    regular: bool
    tilt_degrees: float
    label: str
    plane: str
    gaps_mm: tuple[float, float]
    missing_slices: int
    warnings: tuple[str, ...]
    taken: bool


@dataclass(frozen=True)
class SeriesVerdict:
    """One series: the verdict is ACCEPTED or a RejectReason. What is not known is None; `seconds` is what it took.

    `pixels_read` says whether it is a verdict on the pixels too, and not on the headers alone.
    """

    series_instance_uid: str | None
    modality: str | None
    verdict: str
    sentence: str
    warnings: tuple[str, ...]
    left_out: int | None
    volumes: tuple[VolumeVerdict, ...]
    seconds: float
    pixels_read: bool = False


@dataclass(frozen=True)
class Judged:
    """The verdicts on all series of an input, by SeriesInstanceUID, and what of it could not be read."""

    verdicts: tuple[SeriesVerdict, ...]
    unreadable: tuple[NotDicom, ...]


def print_verdicts(source: Path, *, as_json: bool, prefer: str, pixels: bool) -> None:
    """Print the verdict on each series of a file, folder or zip, and a line on stderr for each unreadable file.

    Raises NotDicom when nothing is readable.
    """
    judged = judge(source, prefer=prefer, pixels=pixels)
    for error in judged.unreadable:
        warn(f"porta: {error}")
    if as_json:
        print(json.dumps([_as_json(verdict) for verdict in judged.verdicts], indent=2))
    else:
        _print_table(judged.verdicts, prefer)


def judge(source: Path, *, prefer: str = "portal", pixels: bool = False) -> Judged:
    """The verdicts on a file, folder or zip; with `pixels` all is decoded too, in another process.

    Raises NotDicom when nothing is readable.
    """
    with tempfile.TemporaryDirectory(prefix="porta-series-") as workdir, decoder() as decode:
        files = dicom_files(source, Path(workdir))
        with progress_bar("reading the headers") as progress:
            found = find_series(files, progress)
        if not found.groups:
            raise NotDicom(source, found.unreadable[0].why if len(files) == 1 else "holds no DICOM files")
        verdicts = []
        with progress_bar("judging") as progress:
            for number, (uid, members) in enumerate(sorted(found.groups.items()), start=1):
                started = time.perf_counter()
                verdict = judge_series(members, prefer=prefer, decode=decode if pixels else None)
                seconds = found.seconds[uid] + time.perf_counter() - started
                verdicts.append(replace(verdict, seconds=round(seconds, 3)))
                progress(number, len(found.groups))
        unreadable = tuple(name_member(error, source, Path(workdir)) for error in found.unreadable)
    return Judged(tuple(verdicts), unreadable)


def judge_series(files: Sequence[ImageFile], *, prefer: str, decode: Decoder | None = None) -> SeriesVerdict:
    """The verdict on one series, as the stages would come to it; its pixels are proved where there is a `decode`."""
    uid = files[0].header.series_instance_uid or None
    modalities = Counter(file.header.modality for file in files if file.header.modality)
    modality = modalities.most_common(1)[0][0] if modalities else None
    try:
        series = arrange(files)
        refuse_unfit(series, None)
        taken = {stack.index for stack in chosen_stacks(series, prefer)[0]}
        series = _readable(series, taken, decode)
    except SeriesRejected as error:
        return SeriesVerdict(uid, modality, str(error.reason), error.sentence, (), None, (), 0.0, decode is not None)
    volumes = tuple(_volume(stack, series, taken=stack.index in taken) for stack in series.stacks)
    warnings = dict.fromkeys(code for stack in series.stacks for code in (*series.warnings, *stack.warnings))
    count = f"{len(volumes)} volumes" if len(volumes) > 1 else "a volume"
    sentence = f"The series holds {count} that can be segmented." if decode else BY_HEADERS.format(count)
    warned, is_read = tuple(warnings), decode is not None
    return SeriesVerdict(uid, series.modality, ACCEPTED, sentence, warned, series.left_out, volumes, 0.0, is_read)


def _readable(series: Series, taken: Collection[int], decode: Decoder | None) -> Series:
    """The series without the volumes whose pixels cannot be read.

    Raises SeriesRejected where none is left of those that are `taken`: no other one is segmented in their place.
    """
    readable: list[Stack] = []
    refusals: dict[int, SeriesRejected] = {}
    for stack in series.stacks:
        try:
            if error := foretold_by_headers(stack):
                raise error
            if decode:
                decode.prove(stack)
            readable.append(stack)
        except SeriesRejected as refusal:
            refusals[stack.index] = refusal
    if all(index in refusals for index in taken):
        raise refusals[min(taken)]
    if not refusals:
        return series
    lost = {item.path for stack in series.stacks for item in stack.slices}
    lost -= {item.path for stack in readable for item in stack.slices}
    warnings = tuple(dict.fromkeys([*series.warnings, str(SeriesWarning.LEFT_OUT)]))
    return replace(series, stacks=tuple(readable), left_out=series.left_out + len(lost), warnings=warnings)


def _volume(stack: Stack, series: Series, *, taken: bool) -> VolumeVerdict:
    geometry = stack.geometry
    gaps = np.diff(geometry.positions_mm) if geometry.slices > 1 else np.array([geometry.slice_spacing_mm])
    step = round(geometry.step_mm, 4) if geometry.is_even else None
    return VolumeVerdict(
        shape=geometry.shape,
        spacing_mm=(step, round(geometry.row_spacing_mm, 6), round(geometry.column_spacing_mm, 6)),
        regular=geometry.is_regular,
        tilt_degrees=round(geometry.tilt_degrees, 2),
        label=stack.label,
        plane=geometry.plane_name,
        gaps_mm=(round(float(gaps.min()), 3), round(float(gaps.max()), 3)),
        missing_slices=geometry.missing_slices,
        warnings=tuple(code for code in stack.warnings if code not in series.warnings),
        taken=taken,
    )


def _as_json(verdict: SeriesVerdict) -> dict[str, Any]:
    """As in the design's section 7, and more behind it."""
    return asdict(verdict)


def _print_table(verdicts: Sequence[SeriesVerdict], prefer: str) -> None:
    table = Table("series", "verdict", "volumes", "s", show_lines=True)
    table.columns[0].overflow, table.columns[3].justify = "fold", "right"
    for verdict in verdicts:
        name = f"{plain(verdict.series_instance_uid or 'no UID')}\n{plain(verdict.modality or 'no modality')}"
        colour = "green" if verdict.verdict == ACCEPTED else "red"
        lines = [] if verdict.verdict == ACCEPTED and verdict.pixels_read else [verdict.sentence]
        lines += [in_words(volume, prefer, several=len(verdict.volumes) > 1) for volume in verdict.volumes]
        lines += [WARNING_SENTENCES[SeriesWarning(code)] for code in verdict.warnings]
        lines += [f"Left out: {verdict.left_out}."] if verdict.left_out else []
        table.add_row(name, styled(verdict.verdict, colour), "\n".join(lines), f"{verdict.seconds:.2f}")
    Terminal(highlight=False).print(table)


def in_words(volume: VolumeVerdict, prefer: str, *, several: bool) -> str:
    """The geometry of a volume, for people."""
    slices, rows, columns = volume.shape
    step, row, column = volume.spacing_mm
    low, high = volume.gaps_mm
    apart = f"{step:g} mm apart" if step is not None else f"{low:.1f} to {high:.1f} mm apart"
    words = [f"{slices} {volume.plane} slices, {apart}", f"{rows} × {columns} pixels of {row:.3g} × {column:.3g} mm"]
    words += [f"tilted by {volume.tilt_degrees:.1f}°"] if SeriesWarning.TILT in volume.warnings else []
    words += [f"{volume.missing_slices} missing"] if volume.missing_slices else []
    text = "; ".join(words)
    if several:
        text = f"{volume.label}: {text}" + (f" (taken for {prefer})" if volume.taken else "")
    return text
