"""Series that differ in where their planes lie, and in what lies among them."""

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage

from dicom_io.files.image_writer import decimal_string
from dicom_io.geometry import Geometry
from tests.conformance.made_files import (
    CORONAL,
    SAGITTAL,
    Change,
    Made,
    content,
    instance,
    object_of,
    save,
    secondary_capture,
    setting,
    stack,
    tilted,
    turned,
    write,
)


def _on(out: Path, geometry: Geometry, change: Change | None = None) -> list[Made]:
    made = content(geometry)
    write(out, made, change)
    return [made]


def _without(slices: int, step_mm: float, *missing: int) -> Geometry:
    return stack(positions_mm=[step_mm * index for index in range(slices) if index not in missing])


def plain(out: Path) -> list[Made]:
    """Axial, head first, nothing odd."""
    return _on(out, stack())


def feet_first(out: Path) -> list[Made]:
    """Feet first, supine: the planes are sorted from head to feet."""
    return _on(out, stack(orientation=(-1, 0, 0, 0, 1, 0)), setting(PatientPosition="FFS"))


def prone(out: Path) -> list[Made]:
    """Head first, prone."""
    return _on(out, stack(orientation=(-1, 0, 0, 0, -1, 0)), setting(PatientPosition="HFP"))


def on_the_side(out: Path) -> list[Made]:
    """Head first, decubitus right: rows run from front to back."""
    return _on(out, stack(orientation=(0, 1, 0, -1, 0, 0)), setting(PatientPosition="HFDR"))


def rows_backwards(out: Path) -> list[Made]:
    """Rows are counted from back to front, as in LiTS 0."""
    return _on(out, stack(orientation=(1, 0, 0, 0, -1, 0)))


def columns_backwards(out: Path) -> list[Made]:
    """Columns are counted from left to right of the patient."""
    return _on(out, stack(orientation=(-1, 0, 0, 0, 1, 0)))


def oblique(out: Path) -> list[Made]:
    """Turned about all three axes, 12, 18 and 7 degrees: still nearest to axial."""
    return _on(out, stack(orientation=turned(12, 18, 7)))


def between_the_axes(out: Path) -> list[Made]:
    """More than 30 degrees from axial, sagittal and coronal."""
    return _on(out, stack(orientation=turned(35, 35, 0)))


def sagittal(out: Path) -> list[Made]:
    """Acquired sagittal."""
    return _on(out, stack(orientation=SAGITTAL))


def coronal(out: Path) -> list[Made]:
    """Acquired coronal."""
    return _on(out, stack(orientation=CORONAL))


def non_square_pixels(out: Path) -> list[Made]:
    """Rows 1.4 mm apart, columns 0.6 mm."""
    return _on(out, stack(spacing_mm=(1.4, 0.6)))


def overlapping_slices(out: Path) -> list[Made]:
    """Slices of 5 mm every 2.5 mm."""
    return _on(out, stack(24, 2.5), setting(SliceThickness="5"))


def thick_slices(out: Path) -> list[Made]:
    """Slices of 8 mm every 8 mm."""
    return _on(out, stack(14, 8.0))


def positions_of_two_decimals(out: Path) -> list[Made]:
    """Slices every 3.3333 mm whose positions were rounded to 0.01 mm: regular all the same."""
    return _on(out, stack(positions_mm=np.round(np.arange(20) * 10 / 3, 2)))


def numbers_with_exponents(out: Path) -> list[Made]:
    """Decimal strings as 9.000000e-01, which the standard allows."""

    def change(ds: Dataset, _: int) -> None:
        ds.PixelSpacing = [f"{float(value):.6e}" for value in ds.PixelSpacing]
        ds.ImagePositionPatient = [f"{float(value):.6e}" for value in ds.ImagePositionPatient]

    return _on(out, stack(), change)


def uneven_spacing(out: Path) -> list[Made]:
    """Distances between 3.1 and 6.7 mm, no two alike in a row."""
    gaps = [3.1, 4.7, 5.9, 3.7, 4.3, 6.7, 4.1, 5.3, 3.1, 4.9, 6.1, 3.9, 4.4]
    return _on(out, stack(positions_mm=np.cumsum([0.0, *gaps])))


def variable_gaps(out: Path) -> list[Made]:
    """First every 3.3 mm, then every 4.7 mm: distances with no common measure."""
    return _on(out, stack(positions_mm=np.cumsum([0.0, *[3.3] * 8, *[4.7] * 8])))


def thin_in_the_middle(out: Path) -> list[Made]:
    """5 mm slices every 5 mm, 2.5 mm slices every 2.5 mm over the liver, 5 mm again: nothing is missing."""
    gaps = [5.0] * 5 + [2.5] * 10 + [5.0] * 5

    def change(ds: Dataset, index: int) -> None:
        ds.SliceThickness = "2.5" if 5 <= index <= 15 else "5"

    return _on(out, stack(positions_mm=np.cumsum([0.0, *gaps])), change)


def tilt_forward(out: Path) -> list[Made]:
    """Gantry tilt of +18.5 degrees, the table moved 5 mm each time."""
    return _on(out, tilted(18.5, 5.0 * np.arange(14)))


def tilt_backward(out: Path) -> list[Made]:
    """Gantry tilt of -12 degrees."""
    return _on(out, tilted(-12, 5.0 * np.arange(14)))


def tilt_and_uneven(out: Path) -> list[Made]:
    """Gantry tilt of 20 degrees and two table feeds, as in the GE series of dcm_qa_ct."""
    return _on(out, tilted(20, np.cumsum([0.0, *[3.4] * 8, *[5.2] * 8])))


def tilt_and_a_missing_slice(out: Path) -> list[Made]:
    """Gantry tilt of 15 degrees, the eighth of 16 slices lost."""
    return _on(out, tilted(15, [5.0 * index for index in range(16) if index != 7]))


def one_missing_slice(out: Path) -> list[Made]:
    """One of 15 slices was lost."""
    return _on(out, _without(15, 5.0, 6))


def a_few_missing(out: Path) -> list[Made]:
    """Three of 30 slices were lost, two of them neighbours: a tenth, the most that is read."""
    return _on(out, _without(30, 2.5, 9, 10, 20))


def too_many_missing(out: Path) -> list[Made]:
    """Four of 30 slices were lost: more than a tenth."""
    _on(out, _without(30, 2.5, 5, 9, 10, 20))
    return []


def hole_of_25_mm(out: Path) -> list[Made]:
    """Four of 45 slices were lost, all in one place: what lies on either side is read by itself."""
    (made,) = _on(out, _without(45, 5.0, 20, 21, 22, 23))
    return [_but(made, *range(20, 41)), _but(made, *range(20))]


def two_ranges(out: Path) -> list[Made]:
    """Abdomen and pelvis in one series, 60 mm apart, of another slice distance each."""
    (made,) = _on(out, stack(positions_mm=[*np.arange(0, 60, 4.0), *np.arange(116, 180, 5.0)]))
    return [_but(made, *range(15, 28)), _but(made, *range(15))]


def two_ranges_one_short(out: Path) -> list[Made]:
    """Fourteen slices of the abdomen, and 44 mm further on five of the pelvis: too short, left out and said."""
    (made,) = _on(out, stack(positions_mm=[*np.arange(14) * 5.0, *(np.arange(5) * 5.0 + 109)]))
    return [_but(made, *range(14, 19))]


def hole_in_the_larger_range(out: Path) -> list[Made]:
    """Of the longer of two ranges too many slices are missing: the other is no answer for it."""
    longer = [2.5 * index for index in range(40) if index not in (5, 9, 10, 20, 30)]
    _on(out, stack(positions_mm=[*longer, *(np.arange(12) * 5.0 + 160)]))
    return []


def just_long_enough(out: Path) -> list[Made]:
    """Ten slices of 5 mm: 50 mm."""
    return _on(out, stack(10))


def too_short(out: Path) -> list[Made]:
    """Twelve slices every 4 mm: 48 mm."""
    _on(out, stack(12, 4.0))
    return []


def too_few_slices(out: Path) -> list[Made]:
    """Four slices, though they cover 80 mm."""
    _on(out, stack(4, 20.0))
    return []


def localizers_among_slices(out: Path) -> list[Made]:
    """Two scouts were sent with the slices."""
    made = _on(out, stack())
    kind = setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    for name, orientation in (("scout", CORONAL), ("side scout", SAGITTAL)):
        instance(out, name, _lying(orientation, kind))
    return made


def secondary_captures_inside(out: Path) -> list[Made]:
    """A dose page and a screenshot."""
    made = _on(out, stack())
    for name in ("dose page", "screenshot"):
        instance(out, name, secondary_capture)
    return made


def stray_coronal_slice(out: Path) -> list[Made]:
    """One coronal image, said to be original, in an axial series."""
    made = _on(out, stack())
    instance(out, "stray", _lying(CORONAL))
    return made


def coronal_reformat_inside(out: Path) -> list[Made]:
    """The scanner put a whole coronal reformat into the axial series."""
    made = _on(out, stack())
    reformat = content(stack(20, 3.0, orientation=CORONAL), "reformat")
    write(out, reformat, setting(ImageType=["DERIVED", "SECONDARY", "REFORMATTED"]), seed="reformat")
    return made


def useless_reformat_inside(out: Path) -> list[Made]:
    """A coronal reformat of more slices than the axial stack, which covers 40 mm alone: left out like any other."""
    made = _on(out, stack())
    reformat = content(stack(40, 1.0, orientation=CORONAL), "reformat")
    write(out, reformat, setting(ImageType=["DERIVED", "SECONDARY", "REFORMATTED"]), seed="reformat")
    return made


def structured_report_inside(out: Path) -> list[Made]:
    """A report has the SeriesInstanceUID of the images, as in highdicom's example."""
    made = _on(out, stack())
    save(object_of(ComprehensiveSRStorage, "report", modality="SR"), out, "report")
    return made


def slice_on_another_grid(out: Path) -> list[Made]:
    """One slice was reconstructed with larger pixels: left out, and missing where it was."""
    made = content(stack(15))
    write(out, made, lambda ds, index: setattr(ds, "PixelSpacing", ["1.1", "1.1"]) if index == 6 else None)
    return [_but(made, 6)]


def spacing_that_drifts(out: Path) -> list[Made]:
    """PixelSpacing grows by 0.0003 mm from slice to slice: on each of its grids lies a part of the liver."""

    def change(ds: Dataset, index: int) -> None:
        ds.PixelSpacing = [f"{0.9 + 0.0003 * index:.4f}", f"{0.7 + 0.0003 * index:.4f}"]

    write(out, content(stack(30)), change)
    return []


def orientation_that_drifts(out: Path) -> list[Made]:
    """Each plane is turned by 0.02 degrees from the one before."""

    def change(ds: Dataset, index: int) -> None:
        ds.ImageOrientationPatient = [f"{value:.6f}" for value in turned(0.02 * index, 0, 0)]

    write(out, content(stack(30)), change)
    return []


def another_frame_of_reference_at_the_end(out: Path) -> list[Made]:
    """The last four slices of twenty lie in another coordinate system, and are too few for a volume."""
    made = content(stack(20))
    write(out, made, lambda ds, index: setattr(ds, "FrameOfReferenceUID", "1.2.4") if index > 15 else None)
    return []


def decimals_cut_off(out: Path) -> list[Made]:
    """An archive rewrote every other header: spacing and orientation with other decimals, which move no pixel."""
    made = content(stack(15, orientation=turned(1, 2, 3)))

    def rewritten(ds: Dataset, index: int) -> None:
        if index % 2:
            ds.PixelSpacing = ["0.90004", "0.69996"]
            ds.ImageOrientationPatient = [f"{float(value):.4f}" for value in ds.ImageOrientationPatient]

    write(out, made, rewritten)
    return [made]


def slice_of_another_frame_of_reference(out: Path) -> list[Made]:
    """One slice lies in another coordinate system: left out, and missing where it was."""
    made = content(stack(15))
    write(out, made, lambda ds, index: setattr(ds, "FrameOfReferenceUID", "1.2.4") if index == 6 else None)
    return [_but(made, 6)]


def mixed_frames_of_reference(out: Path) -> list[Made]:
    """The patient was laid again: two stacks in two coordinate systems, which must not be joined."""
    volumes = [content(stack(14), "first"), content(stack(12, frame_of_reference_uid="1.2.4", start_mm=70), "second")]
    for number, made in enumerate(volumes):
        write(out, made, seed=f"laid {number}")
    return volumes


def no_frame_of_reference(out: Path) -> list[Made]:
    """FrameOfReferenceUID is absent, as in IRCADb."""
    return _on(out, stack(), setting(FrameOfReferenceUID=None))


def text_beside(out: Path) -> list[Made]:
    """A note lies in the folder."""
    made = _on(out, stack())
    (out / "readme.txt").write_text("Exported on Monday.\n" * 30)
    return made


def _lying(orientation: tuple[int, ...], change: Change = lambda ds, index: None) -> Change:
    def altered(ds: Dataset, index: int) -> None:
        ds.ImageOrientationPatient = [decimal_string(value) for value in orientation]
        change(ds, index)

    return altered


def _but(made: Made, *missing: int) -> Made:
    """Without some slices."""
    grid = made.geometry
    origins = np.delete(grid.origins_lps_mm, missing, axis=0)
    cosines = grid.row_cosines, grid.column_cosines
    spacing = grid.row_spacing_mm, grid.column_spacing_mm
    array = np.delete(made.array, missing, axis=0)
    bright = np.unravel_index(int(array.argmax()), array.shape)
    kept = Geometry(origins, *cosines, *spacing, grid.rows, grid.columns, grid.frame_of_reference_uid)
    return Made(array, kept, tuple(int(index) for index in bright))  # type: ignore[arg-type]
