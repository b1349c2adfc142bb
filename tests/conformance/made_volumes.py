"""Series that hold several volumes, and Enhanced images, which may hold several too."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RawDataStorage,
    RLELossless,
)

from dicom_io.geometry import Geometry
from tests.conformance.made_files import (
    AS_MR,
    SAGITTAL,
    Change,
    Made,
    both,
    content,
    enhanced,
    object_of,
    save,
    setting,
    stack,
    tilted,
    write,
)

AS_CT = setting()


def _several(
    out: Path, count: int, tell: Callable[[Dataset, int], None], base: Change = AS_CT, **grid: int
) -> list[Made]:
    """`count` volumes at the same positions; `tell(ds, volume)` writes what tells them apart."""
    volumes = [content(stack(**grid), number) for number in range(count)]  # type: ignore[arg-type]
    for number, made in enumerate(volumes):
        write(out, made, both(base, lambda ds, _, number=number: tell(ds, number)), seed=f"volume {number}")
    return volumes


LIVER = setting(SeriesDescription="LIVER 2 PHASE")


def phases_by_acquisition_number(out: Path) -> list[Made]:
    """Arterial and portal-venous phase, as in HCC_007."""
    return _several(out, 2, lambda ds, n: setattr(ds, "AcquisitionNumber", n + 2), LIVER)


def phases_of_different_coverage(out: Path) -> list[Made]:
    """The arterial phase covers fewer positions than the portal-venous one."""
    volumes = [content(stack(11, start_mm=10.0), "arterial"), content(stack(16), "portal")]
    for number, made in enumerate(volumes):
        write(out, made, both(LIVER, setting(AcquisitionNumber=number + 1)), seed=f"phase {number}")
    return volumes


def phases_by_temporal_position(out: Path) -> list[Made]:
    """Three time points of a dynamic MR."""
    return _several(out, 3, lambda ds, n: setattr(ds, "TemporalPositionIdentifier", n + 1), AS_MR)


def phases_by_acquisition_time(out: Path) -> list[Made]:
    """Nothing but the time of acquisition tells the phases apart."""
    return _several(out, 2, lambda ds, n: setattr(ds, "AcquisitionTime", f"12{4 * n:02d}00"), LIVER)


def phases_by_time_of_each_slice(out: Path) -> list[Made]:
    """Each slice has another time, as CT writes it; all of the first phase are before all of the second."""
    volumes = [content(stack(), "first"), content(stack(), "second")]
    for number, made in enumerate(volumes):

        def change(ds: Dataset, index: int, minute: int = 2 * number) -> None:
            LIVER(ds, index)
            ds.AcquisitionTime = ds.ContentTime = f"12{minute:02d}{index:02d}"

        write(out, made, change, seed=f"phase {number}")
    return volumes


def last_phase_broken_off(out: Path) -> list[Made]:
    """Of the third time point four slices were taken before the patient breathed."""
    volumes = [content(stack(4 if number == 2 else 14), f"time {number}") for number in range(3)]
    for number, made in enumerate(volumes):
        write(out, made, both(AS_MR, setting(TemporalPositionIdentifier=number + 1)), seed=f"time {number}")
    return volumes[:2]


def two_kernels(out: Path) -> list[Made]:
    """A soft and a sharp reconstruction of the same slices."""
    return _several(out, 2, lambda ds, n: setattr(ds, "ConvolutionKernel", ("B30f", "B70f")[n]))


def phases_by_contrast_agent(out: Path) -> list[Made]:
    """Without and with contrast agent."""
    return _several(out, 2, lambda ds, n: setattr(ds, "ContrastBolusAgent", "Iomeprol 400") if n else None)


def two_tube_voltages(out: Path) -> list[Made]:
    """Dual energy: 80 and 140 kV."""
    return _several(out, 2, lambda ds, n: setattr(ds, "KVP", ("80", "140")[n]))


def echoes(out: Path) -> list[Made]:
    """Two echoes of an MR."""

    def tell(ds: Dataset, number: int) -> None:
        ds.EchoNumbers, ds.EchoTime = number + 1, ("2.3", "4.6")[number]

    return _several(out, 2, tell, AS_MR)


def magnitude_and_phase(out: Path) -> list[Made]:
    """Magnitude and phase of an MR."""
    return _several(
        out, 2, lambda ds, n: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", ("M", "P")[n], "FFE"]), AS_MR
    )


def b_values_with_directions(out: Path) -> list[Made]:
    """Diffusion: b = 0, and b = 800 in three directions."""
    directions = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    def tell(ds: Dataset, number: int) -> None:
        ds.DiffusionBValue = 800.0 if number else 0.0
        if number:
            ds.DiffusionGradientOrientation = directions[3 - number]

    return _several(out, 4, tell, AS_MR)


def duplicates_that_nothing_tells_apart(out: Path) -> list[Made]:
    """Two volumes at the same positions, alike in all that could tell them apart."""
    _several(out, 2, lambda ds, n: None)
    return []


def a_slice_taken_again(out: Path) -> list[Made]:
    """One slice was acquired a second time, under another AcquisitionNumber."""
    made = content(stack())
    write(out, made)
    again = content(stack(1, start_mm=30.0), "again")
    write(out, again, setting(AcquisitionNumber=2), seed="again")
    return [made]


def a_slice_twice(out: Path) -> list[Made]:
    """A router made one slice again under another UID and number, at another time: the same pixels are used once."""
    made = content(stack())
    write(out, made)
    again = setting(InstanceNumber=999, ContentTime="235959", AcquisitionTime="235959")
    write(out, _only(made, 6), again, seed="again")
    return [made]


def a_slice_twice_in_jpeg_ls(out: Path) -> list[Made]:
    """The same of a compressed series."""
    made = content(stack())
    write(out, made, _in_jpeg_ls)
    write(out, _only(made, 6), _in_jpeg_ls, seed="again")
    return [made]


def a_slice_twice_in_two_syntaxes(out: Path) -> list[Made]:
    """One slice of a native series came again as JPEG-LS: decoded, they have the same pixels."""
    made = content(stack())
    write(out, made)
    write(out, _only(made, 6), _in_jpeg_ls, seed="again")
    return [made]


def a_slice_twice_with_another_sign(out: Path) -> list[Made]:
    """One slice came again, its words without a sign and its intercept changed: the values are the same."""

    def change(ds: Dataset, _: int) -> None:
        words = np.frombuffer(ds.PixelData, "<i2").astype(np.int32)
        ds.PixelRepresentation, ds.RescaleIntercept = 0, str(int(ds.RescaleIntercept) - 2048)
        ds.PixelData = (words + 2048).astype("<u2").tobytes()

    made = content(stack())
    write(out, made)
    write(out, _only(made, 6), change, seed="again")
    return [made]


def every_slice_twice_in_two_syntaxes(out: Path) -> list[Made]:
    """An archive has the whole series twice: as RLE, and as JPEG-LS."""
    made = content(stack())
    for seed, syntax in (("rle", RLELossless), ("jpeg-ls", JPEGLSLossless)):
        write(out, made, lambda ds, _, syntax=syntax: ds.compress(syntax, generate_instance_uid=False), seed=seed)
    return [made]


def enhanced_ct_twice_in_two_syntaxes(out: Path) -> list[Made]:
    """The same of an Enhanced CT: native, and as RLE."""
    volumes = [content(stack())]
    enhanced(out, volumes)
    enhanced(out, volumes, change=lambda ds: ds.compress(RLELossless, generate_instance_uid=False), name="again")
    return volumes


def other_pixels_in_another_syntax(out: Path) -> list[Made]:
    """One slice came again as JPEG-LS, and one pixel of it differs."""
    made = content(stack())
    write(out, made)
    other = _only(made, 6)
    other.array[0, 3, 3] += 1
    write(out, other, _in_jpeg_ls, seed="again")
    return []


def a_slice_twice_nearby(out: Path) -> list[Made]:
    """One slice came again 0.02 mm away, as another software rounds: it is no slice of its own."""
    made = content(stack())
    write(out, made)
    twin = _only(made, 6)
    grid = replace(twin.geometry, origins_lps_mm=twin.geometry.origins_lps_mm + np.array([0, 0, 0.02]))
    write(out, replace(twin, geometry=grid), seed="again")
    return [made]


def every_slice_twice(out: Path) -> list[Made]:
    """An archive has the whole series twice, under other UIDs."""
    made = content(stack())
    write(out, made)
    write(out, made, seed="again")
    return [made]


def two_phases_by_time_deflated(out: Path) -> list[Made]:
    """Two phases that only their times tell apart, deflated: nothing says where pixels lie. Two slices are alike."""
    phases = [content(stack()), content(stack())]
    phases[1].array[2:] += 30
    for made, time in zip(phases, ("120000", "120100"), strict=True):
        syntax = setting(ContentTime=time, AcquisitionTime=time)
        write(out, made, both(syntax, _deflated), seed=time)
    return phases


def a_slice_twice_with_other_pixels(out: Path) -> list[Made]:
    """One slice came twice, and one pixel of it differs: which one is right nobody knows."""
    made = content(stack())
    write(out, made)
    other = _only(made, 6)
    other.array[0, 3, 3] += 1
    write(out, other, seed="again")
    return []


def _deflated(ds: Dataset, _: int) -> None:
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def _in_jpeg_ls(ds: Dataset, index: int) -> None:
    ds.compress(JPEGLSLossless, generate_instance_uid=False)


def _only(made: Made, number: int) -> Made:
    """One slice of a volume."""
    grid = made.geometry
    return replace(
        made,
        array=made.array[number : number + 1].copy(),
        geometry=replace(grid, origins_lps_mm=grid.origins_lps_mm[number : number + 1], slice_spacing_mm=grid.step_mm),
    )


def interleaved_breath_holds(out: Path) -> list[Made]:
    """Two breath-holds whose slices lie between one another's, at no common distance."""
    volumes = [content(stack(), "in"), content(stack(start_mm=1.7), "out")]
    for number, made in enumerate(volumes):
        write(out, made, setting(AcquisitionNumber=number + 1), seed=f"breath {number}")
    return volumes


def two_acquisitions_end_to_end(out: Path) -> list[Made]:
    """Different positions are one volume, whatever AcquisitionNumber and ImageType say."""
    made = content(stack(20))

    def change(ds: Dataset, index: int) -> None:
        ds.AcquisitionNumber = 1 + index // 10
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", *(["ADD"] if index % 2 else [])]

    write(out, made, change)
    return [made]


def enhanced_ct(out: Path) -> list[Made]:
    """Enhanced CT: one volume in one file, its frames in no order."""
    volumes = [content(stack())]
    enhanced(out, volumes)
    return volumes


def enhanced_ct_in_rle(out: Path) -> list[Made]:
    """Enhanced CT, compressed."""
    volumes = [content(stack())]
    enhanced(out, volumes, change=lambda ds: ds.compress(RLELossless, generate_instance_uid=False))
    return volumes


def enhanced_ct_in_two_files(out: Path) -> list[Made]:
    """A concatenation: the upper half in one file, the lower in another."""
    made = content(stack(16))
    for number, part in enumerate((slice(0, 9), slice(9, 16))):
        grid = made.geometry
        half = Geometry(grid.origins_lps_mm[part], grid.row_cosines, grid.column_cosines, 0.9, 0.7, 32, 40, "1.2.3")
        enhanced(out, [Made(made.array[part], half, (0, 0, 0))], name=f"part {number}")
    return [made]


def enhanced_ct_tilted(out: Path) -> list[Made]:
    """Enhanced CT with gantry tilt."""
    volumes = [content(tilted(10, [5.0 * index for index in range(14)]))]
    enhanced(out, volumes)
    return volumes


def legacy_converted_ct(out: Path) -> list[Made]:
    """Legacy Converted Enhanced CT: what archives make of single frames."""
    volumes = [content(stack())]
    enhanced(out, volumes, sop_class_uid=LegacyConvertedEnhancedCTImageStorage, shared=False)
    return volumes


def enhanced_mr_over_time(out: Path) -> list[Made]:
    """Enhanced MR: three temporal positions of one stack in one file."""
    volumes = [content(stack(), f"time {number}") for number in range(3)]

    def mark(frame: Dataset, number: int) -> None:
        frame.FrameContentSequence[0].TemporalPositionIndex = number + 1

    enhanced(out, volumes, mark, sop_class_uid=EnhancedMRImageStorage, modality="MR")
    return volumes


def enhanced_all_per_frame(out: Path) -> list[Made]:
    """Enhanced MR whose frames state orientation and pixel measures each for itself."""
    volumes = [content(stack(spacing_mm=(1.2, 0.8)))]
    enhanced(out, volumes, sop_class_uid=EnhancedMRImageStorage, modality="MR", shared=False)
    return volumes


def enhanced_two_stacks(out: Path) -> list[Made]:
    """Enhanced MR with an axial and a sagittal stack."""
    volumes = [content(stack(16), "axial"), content(stack(14, orientation=SAGITTAL), "sagittal")]

    def mark(frame: Dataset, number: int) -> None:
        frame.FrameContentSequence[0].StackID = str(number + 1)

    enhanced(out, volumes, mark, sop_class_uid=EnhancedMRImageStorage, modality="MR", shared=False)
    return volumes


def raw_data_beside_enhanced_mr(out: Path) -> list[Made]:
    """Philips sends Raw Data under the same SeriesInstanceUID."""
    volumes = [content(stack())]
    enhanced(out, volumes, sop_class_uid=EnhancedMRImageStorage, modality="MR")
    save(object_of(RawDataStorage, "raw", modality="MR"), out, "raw")
    return volumes


def number_of_frames_is_1(out: Path) -> list[Made]:
    """NumberOfFrames in single-frame images."""
    made = content(stack())
    write(out, made, setting(NumberOfFrames=1))
    return [made]
