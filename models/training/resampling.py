"""A case at the network's two resolutions, by the steps of inference."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dicom_io.volume import Volume
from models.cards import Preprocessing
from models.datasets.cases import LIVER, TUMOUR, Case
from models.errors import CaseUnreadable
from models.preprocessing import Canonical, resample_slices, shrunk_stack, slice_positions, to_canonical, value_window
from models.reslicing import is_axial, reslice

INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class Resampled:
    """Image and labels of a case at one resolution, in memory."""

    image: NDArray[np.int16]
    labels: NDArray[np.uint8]
    spacing_mm: float


def resample(case: Case, how: Preprocessing) -> tuple[Resampled, Resampled, float]:
    """A case at the fine and the coarse resolution, and the distance between its slices in mm.

    The steps are those of inference. A voxel is liver or tumour where at least half of it is. Raises CaseUnreadable
    for a case that this preprocessing is not for.
    """
    volume, geometry = case.volume, case.volume.geometry
    if geometry.slices < 2:
        raise CaseUnreadable(f"{case.name}: has one slice only; training needs neighbours")
    if volume.modality != "CT" and how.window_percentiles is None:
        raise CaseUnreadable(f"{case.name}: is {volume.modality}; set window_percentiles to train on it")
    window = value_window(volume, how)
    liver, tumour = case.labels >= LIVER, case.labels >= TUMOUR
    if is_axial(geometry):
        canonical = to_canonical(volume)
        masks = [replace(canonical, values=canonical.turn(mask), floor=-np.inf) for mask in (liver, tumour)]
    else:  # outside the field of what is no CT there is nothing, which is what outside a mask must be
        resliced = [reslice(volume, how)]
        resliced += [reslice(Volume(mask.astype(np.float32), geometry, "MR", ""), how) for mask in (liver, tumour)]
        canonical, *masks = map(to_canonical, resliced)
    positions = slice_positions(canonical, how.fine_step_mm)
    onto = _upright_mm(masks[0])

    def at(target_mm: float) -> Resampled:
        def planes(of: Canonical) -> Tensor:
            shrunk = shrunk_stack(of, positions, replace(how, neighbour_mm=0.0), target_mm=target_mm)
            read = resample_slices(shrunk.planes, shrunk.positions_mm, positions)
            if shrunk.drift is None:
                return read
            return shrunk.drift.aligned(read, positions, np.full(len(positions), onto))

        values = planes(canonical).numpy()
        if window != how.window_hu:
            scale = (how.window_hu[1] - how.window_hu[0]) / (window[1] - window[0])
            values = (values - window[0]) * scale + how.window_hu[0]
        image = np.clip(np.rint(values), INT16.min, INT16.max).astype(np.int16)
        either, lesion = ((planes(mask) > 0.5).numpy() for mask in masks)
        field_mm2 = np.prod(np.multiply(canonical.values.shape[1:], canonical.spacing_mm))
        spacing = float(np.sqrt(field_mm2 / np.prod(image.shape[1:])))
        return Resampled(image, either.astype(np.uint8) + (either & lesion), spacing)

    return at(how.fine_spacing_mm), at(how.coarse_spacing_mm), float(positions[1] - positions[0])


def _upright_mm(liver: Canonical) -> float:
    """The position over which the slices of a tilted stack are laid: of the middle slice with liver, or of all."""
    has = np.flatnonzero(liver.values.any(axis=(1, 2)))
    middle = has[len(has) // 2] if len(has) else len(liver.positions_mm) // 2
    return float(liver.positions_mm[middle])
