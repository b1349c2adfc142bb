"""`porta phantom`: abdomens that never lived, written as DICOM series or as NIfTI, with their truth."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import numpy as np

from daemon.errors import BadRequest
from daemon.progress import progress_bar
from daemon.storage.spool import write_durably
from dicom_io.errors import NotDicom
from dicom_io.files.image_writer import write_ct_series, write_mr_series
from dicom_io.nifti import write_image, write_labels
from models.cards import LICENCES
from models.datasets.phantoms import COLLECTION, PHANTOM_TRUTH
from models.phantom import Kernel, Phantom, Phase, Placement, Tissue, Weighting, grid, make_phantom

LABELS, INSTANCES, TRUTH, SERIES = "labels.nii.gz", "tumour_instances.nii.gz", PHANTOM_TRUTH, "dicom"
DESCRIPTION = "dataset.json"
LARGEST_VOXELS = 2**29
"""1 GiB of image; the truth and its instances need as much again."""
_DESCRIPTION = {
    Phase.NATIVE: "Native",
    Phase.ARTERIAL: "Arterial",
    Phase.PORTAL: "Portal venous",
    Phase.DELAYED: "Delayed",
    Weighting.T1: "T1",
    Weighting.T2: "T2",
}


class PhantomModality(StrEnum):
    """The modalities of phantoms."""

    CT = "CT"
    MR = "MR"


class PhantomFormat(StrEnum):
    """The file formats of phantoms."""

    DICOM = "dicom"
    NIFTI = "nifti"


Choice = TypeVar("Choice", bound=StrEnum)


def parse_choice(kind: type[Choice], value: str, option: str) -> Choice:
    """The member of an enumeration that an option names, in capitals or not. Raises BadRequest where none is."""
    for member in kind:
        if member.value.lower() == value.lower():
            return member
    raise BadRequest(f"{option} must be one of {', '.join(member.value for member in kind)}")


def contrast_of(modality: str, phase: str | None, weighting: str | None) -> Phase | Weighting:
    """Return the kind of image that is asked for: a phase of a CT, or the weighting of an MR. Raises BadRequest."""
    if parse_choice(PhantomModality, modality, "--modality") is PhantomModality.CT:
        if weighting is not None:
            raise BadRequest("--weighting is for --modality MR")
        return parse_choice(Phase, phase or Phase.PORTAL, "--phase")
    if phase is not None:
        raise BadRequest("--phase is for --modality CT")
    return parse_choice(Weighting, weighting or Weighting.T1, "--weighting")


@dataclass(frozen=True)
class PhantomOrder:
    """What a phantom is to be: its grid, its lesions and how it is imaged; all but the seed.

    `shape` (slices, rows, columns); `spacing_mm` between them; `lesion_axes_mm` least and greatest semi-axis;
    `lesion_kinds` None draws them.

    Raises BadRequest, with one line, for what cannot be drawn.
    """

    shape: tuple[int, int, int] = (100, 256, 256)
    spacing_mm: tuple[float, float, float] = (2.5, 1.5, 1.5)
    lesions: int | None = None
    lesion_axes_mm: tuple[float, float] = (4.0, 25.0)
    lesion_kinds: tuple[Tissue, ...] | None = None
    lesion_variety: float = 1.0
    placement: Placement = Placement.APART
    contrast: Phase | Weighting = Phase.PORTAL
    noise: float = 12.0
    kernel: Kernel = Kernel.STANDARD
    thickness_mm: float | None = None

    def __post_init__(self) -> None:
        slices, rows, columns = self.shape
        faults = {
            "--slices must be from 5 to 2000": 5 <= slices <= 2000,
            "--rows must be from 64 to 1024": 64 <= rows <= 1024,
            "--columns must be from 64 to 1024": 64 <= columns <= 1024,
            "--slices, --rows and --columns make too large a volume": slices * rows * columns <= LARGEST_VOXELS,
            "--spacing must be from 0.1 to 20 mm": all(0.1 <= mm <= 20 for mm in self.spacing_mm),
            "--lesions must be from 0 to 100": self.lesions is None or 0 <= self.lesions <= 100,
            "--lesion-size must be two numbers from 1 to 200 mm, the smaller first": (
                0.5 <= self.lesion_axes_mm[0] <= self.lesion_axes_mm[1] <= 100
            ),
            "--noise must be from 0 to 200": 0 <= self.noise <= 200,
            "--thickness must be from 0.1 to 20 mm": self.thickness_mm is None or 0.1 <= self.thickness_mm <= 20,
        }
        for fault, right in faults.items():
            if not right:
                raise BadRequest(fault)


@dataclass(frozen=True)
class WrittenPhantom:
    """A phantom, and the files of its image."""

    phantom: Phantom
    paths: list[Path]


def write_phantoms(out: Path, order: PhantomOrder, *, seed: int, count: int, how: PhantomFormat) -> int:
    """Write phantoms of the seeds from `seed` on; return how many lesions they have.

    DICOM: see `write_phantom`, several each in a folder `phantom-SEED`. NIfTI: pairs laid out as those of LiTS, so that
    they can be trained on, `volume-SEED.nii.gz` and `segmentation-SEED.nii.gz`, and a dataset.json that calls them
    phantoms and names their modality: readers take them for the patients that training draws of these seeds.

    Raises NotDicom when `out` holds files already, and BadRequest for a count or a seed that is none.
    """
    if not 1 <= count <= 10_000:
        raise BadRequest("--count must be from 1 to 10000")
    if not 0 <= seed < 2**31:
        raise BadRequest("--seed must be from 0 to 2147483647")
    _refuse_used(out)
    if how is PhantomFormat.NIFTI:
        out.mkdir(parents=True, exist_ok=True)
        write_durably(out / DESCRIPTION, json.dumps(_description(order), indent=2).encode())
    lesions = 0
    with progress_bar("drawing phantoms") as progress:
        for number in range(count):
            progress(number, count)
            if how is PhantomFormat.DICOM:
                folder = out if count == 1 else out / f"phantom-{seed + number}"
                phantom = write_phantom(folder, order, seed=seed + number).phantom
            else:
                phantom = _write_pair(out, order, seed=seed + number)
            lesions += len(phantom.lesions)
    return lesions


def write_phantom(out: Path, order: PhantomOrder, *, seed: int) -> WrittenPhantom:
    """A phantom series in OUT/dicom, beside it its truth: labels and single tumours as NIfTI, figures as JSON.

    Raises NotDicom when `out` holds files already.
    """
    _refuse_used(out)
    phantom = _drawn(order, seed)
    volume = phantom.volume
    write = write_ct_series if volume.modality == "CT" else write_mr_series
    paths = write(
        volume.array,
        volume.geometry,
        out / SERIES,
        seed=f"{seed} {order}",  # all fields: what looks different is another series
        patient_id=f"PHANTOM-{seed}",
        series_description=_DESCRIPTION[order.contrast],
        slice_thickness_mm=order.thickness_mm,
    )
    write_labels(phantom.truth, volume.geometry, out / LABELS)
    if phantom.instances is not None and phantom.lesions:
        write_labels(phantom.instances, volume.geometry, out / INSTANCES)
    write_durably(out / TRUTH, json.dumps(_figures(phantom, seed), indent=2).encode())
    return WrittenPhantom(phantom, paths)


def _refuse_used(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise NotDicom(out, "not an empty folder")


def _drawn(order: PhantomOrder, seed: int) -> Phantom:
    slices, rows, columns = order.shape
    return make_phantom(
        grid(slices=slices, rows=rows, columns=columns, spacing_mm=order.spacing_mm, seed=seed),
        seed=seed,
        lesions=order.lesions,
        lesion_axes_mm=order.lesion_axes_mm,
        lesion_kinds=order.lesion_kinds,
        lesion_variety=order.lesion_variety,
        placement=order.placement,
        contrast=order.contrast,
        noise_hu=order.noise,
        kernel=order.kernel,
        thickness_mm=order.thickness_mm,
    )


def _write_pair(out: Path, order: PhantomOrder, *, seed: int) -> Phantom:
    phantom = _drawn(order, seed)
    write_image(phantom.volume.array, phantom.volume.geometry, out / f"volume-{seed}.nii.gz")
    write_labels(phantom.truth, phantom.volume.geometry, out / f"segmentation-{seed}.nii.gz")
    return phantom


def _description(order: PhantomOrder) -> dict[str, object]:
    """dataset.json, as the Decathlon has it."""
    modality = PhantomModality.CT if isinstance(order.contrast, Phase) else PhantomModality.MR
    labels = {"0": "background", "1": "liver", "2": "tumour"}
    return {"name": COLLECTION, "modality": {"0": modality.value}, "labels": labels, "licence": LICENCES[COLLECTION]}


def lesion_volumes_ml(phantom: Phantom) -> list[float]:
    """The volume of each of `Phantom.lesions`, as many voxels as the truth gives it."""
    if phantom.instances is None:
        raise ValueError("nobody kept this phantom's lesions apart")
    slices_ml = phantom.volume.geometry.voxel_volumes_mm3 / 1000
    numbers = range(1, len(phantom.lesions) + 1)
    return [float(np.count_nonzero(phantom.instances == number, axis=(1, 2)) @ slices_ml) for number in numbers]


def liver_volume_ml(phantom: Phantom) -> float:
    """The volume of the liver with its lesions."""
    slices_ml = phantom.volume.geometry.voxel_volumes_mm3 / 1000
    return float(np.count_nonzero(phantom.truth, axis=(1, 2)) @ slices_ml)


def _figures(phantom: Phantom, seed: int) -> dict[str, object]:
    volumes = lesion_volumes_ml(phantom)
    return {
        "seed": seed,
        "liver_volume_ml": liver_volume_ml(phantom),
        "lesions": [
            {
                "centre_lps_mm": lesion.centre,
                "semi_axes_mm": lesion.axes,
                "kind": lesion.kind.value,
                "volume_ml": volume_ml,
            }
            for lesion, volume_ml in zip(phantom.lesions, volumes, strict=True)
        ],
        "lesion_volume_ml": sum(volumes),
    }
