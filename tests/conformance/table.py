"""Writes docs/series.md: what `porta series` says of every shared and every made series.

    .venv/bin/python tests/conformance/table.py --write

To stdout without --write. The shared data is looked for in $PORTA_SHARED_DATA or ../shared/data.
"""

import os
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # as a script this folder alone is on the path

from pydicom.uid import UID  # noqa: E402

from dicom_io import geometry, pixel_format, sizes  # noqa: E402
from dicom_io.errors import NotDicom  # noqa: E402
from dicom_io.series import partition, stacks  # noqa: E402
from tests.conformance.cases import expectations, porta_series, shared_cases  # noqa: E402
from tests.conformance.made_series import WRITERS, title  # noqa: E402

PAGE = ROOT / "docs" / "series.md"

HEAD = """\
| series | verdict | volumes (slices x rows x columns; mm between slices, rows, columns) | warnings | left out |
|---|---|---|---|---|
"""

INTRODUCTION = """\
# Which series are read, and how

Every series ends as its volumes, placed right, or as a named verdict. This page says which; it is written by
`.venv/bin/python tests/conformance/table.py --write` out of what `porta series --json` prints, and CI holds it
against `tests/conformance/expected.toml`, which people wrote by hand. The same tests compare every voxel of
every made series with what was written, and a labelled point of each with its place in the patient, to 0.01 mm.

## Read

- CT and MR: single-frame, Enhanced and Legacy Converted Enhanced images, also several files of them.
- Any patient position, and rows and columns in any direction; axial, sagittal, coronal and oblique planes.
- Uneven and overlapping slices; gantry tilt; missing slices up to the limits below, with a warning for the report.
{keys}
- Whatever stands in the attributes by which archives match patients and studies (names, numbers, dates, times, sex):
  it is written into every result byte for byte, with the SpecificCharacterSet of the images, valid or not.
- Localizers, secondary captures, reports, raw data and reformats among the slices are left out and counted.
{syntaxes}
- Uncompressed, 8, 16 and 32 bits, signed or not, whatever the unused bits hold; rescaled slice by slice; padding above
  air becomes air.
- Data sets with VRs or without, in either byte order, deflated or not, native or compressed, whatever the file meta
  information says of them; native pixel data without a length; what stands behind the pixel data is left alone, with a
  warning. What is sent is read by the same reader.

## Refused, or read with a warning

| limit | value |
|---|---|
{limits}
Different positions are one volume, whatever ImageType says. Slices are sorted by position, never by name or number.
Where nothing tells two images at one position apart, nothing is guessed: DUPLICATE_POSITIONS. Only if their pixels are
the same too is one of them dropped, with a warning. Of several ranges those with a liver are reported.
"""

LIMITS = (
    ("slices of a volume, at least", "{stacks.MIN_SLICES}"),
    ("extent of a volume across its slices, at least", "{stacks.MIN_EXTENT_MM:g} mm"),
    ("slices further apart begin another range, which is another volume", "{stacks.MAX_GAP_MM:g} mm"),
    ("missing slices, of those that belong to the grid, at most (one always)", "{stacks.MAX_MISSING_SHARE:.0%}"),
    ("slices further apart are warned of as thick", "{stacks.THICK_MM:g} mm"),
    (
        "images on one another whose rows and columns end nearer than this are on one grid",
        "{geometry.SAME_GRID_MM:g} mm",
    ),
    ("images nearer to one another than this lie at one position", "{geometry.SAME_PLACE_MM:g} mm"),
    ("slice distances that differ by less from their median are even", "{geometry.SPACING_TOLERANCE_MM:g} mm"),
    (
        "field of view along rows and along columns, from to",
        "{sizes.MIN_FIELD_MM:g} (from {sizes.LEAST_PIXELS} pixels on) to {sizes.MAX_FIELD_MM:g} mm",
    ),
    ("distance of neighbouring slices, from to", "{sizes.MIN_STEP_MM:g} to {sizes.MAX_STEP_MM:g} mm"),
    ("from the first to the last slice, at most", "{sizes.MAX_LENGTH_MM:g} mm"),
    ("in-plane drift per mm beyond which a stack is tilted", "{geometry.SHEAR_TOLERANCE:g}"),
)


def main() -> None:
    """The page to stdout, or into docs."""
    default = ROOT.parent / "shared" / "data"
    shared = Path(os.environ.get("PORTA_SHARED_DATA", default))
    with tempfile.TemporaryDirectory() as scratch:
        for name, writer in WRITERS.items():
            writer(Path(scratch) / name)
        text = page(Path(scratch), shared if shared.is_dir() else None)
    if "--write" in sys.argv:
        PAGE.write_text(text)
    else:
        sys.stdout.write(text)


def page(made: Path, shared: Path | None) -> str:
    """The whole page, from the folder of the made series and that of the shared data."""
    limits = "".join(
        f"| {what} | {value.format(stacks=stacks, geometry=geometry, sizes=sizes)} |\n" for what, value in LIMITS
    )
    syntaxes = ", ".join(sorted(UID(syntax).name for syntax in pixel_format.SUPPORTED_SYNTAXES))
    keys = ", ".join(partition.SPLITTING)
    introduction = INTRODUCTION.format(
        limits=limits,
        syntaxes=_item(f"Transfer syntaxes: {syntaxes}."),
        keys=_item(f"Several volumes in one series, told apart by what differs at one place: {keys}."),
    )
    expected, _ = expectations()
    parts = [introduction]
    if shared:
        rows = "".join(_rows(f"`{name}`", shared / name) for name in shared_cases(shared))
        parts.append("## Real series\n\nThose of the shared imaging data; its MANIFEST says where each is from.\n\n")
        parts[-1] += HEAD + rows
    rows = ""
    for name in WRITERS:
        is_read = any(entry.reading != entry.verdict for entry in expected.get(name, []))
        rows += _rows(f"`{name}`: {title(name)}", made / name, *(["--pixels"] if is_read else []))
    parts.append(
        "## Made series\n\nWritten by `tests/conformance/made_*.py`, one case for each thing that differs.\n\n"
    )
    parts[-1] += HEAD + rows
    return "\n".join(parts)


def _item(text: str) -> str:
    return textwrap.fill(text, 120, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _rows(what: str, path: Path, *options: str) -> str:
    """A row for each series of a case."""
    try:
        said = porta_series(path, *options)
    except NotDicom:
        return f"| {what} | no DICOM | | | |\n"
    several = len(said) > 1
    return "".join(_row(f"{what} …{entry['series_instance_uid'][-8:]}" if several else what, entry) for entry in said)


def _row(what: str, entry: dict[str, Any]) -> str:
    volumes = "<br>".join(_volume(volume) for volume in entry["volumes"])
    cells = [what, entry["verdict"], volumes, " ".join(entry["warnings"]), str(entry["left_out"] or "")]
    return f"| {' | '.join(cells)} |\n"


def _volume(volume: dict[str, Any]) -> str:
    step, *pixel = volume["spacing_mm"]
    between = f"{step:.4g}" if step is not None else "{:.3g} to {:.3g}".format(*volume["gaps_mm"])
    words = [" x ".join(map(str, volume["shape"]))]
    words += [" x ".join([between, *(f"{value:.3g}" for value in pixel)])]
    words += [volume["plane"]] + ([f"tilt {volume['tilt_degrees']:.1f}°"] if "TILT" in volume["warnings"] else [])
    return (f"{volume['label']}: " if volume["label"] else "") + "; ".join(words)


if __name__ == "__main__":
    main()
