"""3D-IRCADb-01: `3Dircadb1.N/` with PATIENT_DICOM and MASKS_DICOM, each a folder or a .zip as downloaded.

MASKS_DICOM has a folder of DICOM images, 0 and 255, for each structure. `liver` takes in its tumours; every folder
whose name begins with livertumor is merged into tumour and kept as an instance, or its components are where the name is
a plural. Cysts (livercyst, liverkyst, liverkyste) are no tumours and stay liver; so does what no name says is a tumour
of the liver (`tumor` of patient 7, metastasectomie). LABELLED_DICOM and MESHES_VTK are not looked at.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import SeriesRejected
from dicom_io.files.image_file import ImageFile
from dicom_io.geometry import Geometry
from dicom_io.pixels import read_volume
from dicom_io.series.stacks import Slice, Stack
from models.datasets.cases import Case
from models.datasets.images import NamedFiles, image_files, open_images, unpack
from models.datasets.layout import Claim, Folder
from models.datasets.patients import IRCADB, ircadb_patient
from models.datasets.sources import FileSource
from models.datasets.truth import Bool, merge_masks
from models.errors import CaseUnreadable

PATIENT, MASKS = "PATIENT_DICOM", "MASKS_DICOM"
LIVER_FOLDER = "liver"
TUMOUR_FOLDER = re.compile(r"livertumou?r(s?)", re.IGNORECASE)
PLACE_TOLERANCE = 0.1
"""How far, in slices, a mask may lie from the image that it belongs to."""


def claim(folder: Folder) -> Claim | None:
    """The case of a folder that has PATIENT_DICOM; None where it has not."""
    images, masks = folder.child(PATIENT), folder.child(MASKS)
    if images is None:
        return None
    claimed = frozenset([*folder.folders, *folder.files])
    if masks is None:
        return Claim((), (f"{folder.said(images)}: no {MASKS} beside it",), claimed)
    name = folder.path.resolve().name
    match = re.search(r"(\d+)$", name)
    source = FileSource(
        name=name,
        patient=ircadb_patient(int(match[1])) if match else f"{IRCADB}/{name}",
        collection=IRCADB,
        reader=read,
        images=(images,),
        truths=(masks,),
    )
    return Claim((source,), (), claimed)


def read(source: FileSource) -> Case:
    """The series, and its masks matched by their position or, where they have none, by the number of their file."""
    (patient,), (masks,) = source.images, source.truths
    with unpack(patient) as files:
        stack = open_images([path for _, path in files], patient).stacks[0]
        numbers = {path: _number(name) for name, path in files}
        order = [numbers[item.path] for item in stack.slices]
        volume = read_volume(stack)
    with unpack(masks) as files:
        structures: dict[str, NamedFiles] = defaultdict(list)
        for name, path in files:
            structures[name.parent.name].append((name, path))
        tumours = sorted(name for name in structures if TUMOUR_FOLDER.match(name))
        livers = [name for name in structures if name.casefold() == LIVER_FOLDER]
        if not livers:
            raise CaseUnreadable(f"{masks}: no mask called {LIVER_FOLDER}")
        drawn = [_mask(structures[name], stack.geometry, order, masks / name) for name in (livers[0], *tumours)]
    plural = [(match := TUMOUR_FOLDER.match(name)) is not None and bool(match[1]) for name in tumours]
    labels, instances = merge_masks(drawn[0], drawn[1:], apart=[not several for several in plural])
    return Case(source.name, source.patient, volume, labels, instances, source.tumours_drawn)


def _mask(files: NamedFiles, geometry: Geometry, order: Sequence[int | None], said: Path) -> Bool:
    """(slice, row, column) of one structure on the grid of the images, whose files have the numbers of `order`."""
    images = image_files([path for _, path in files], said)
    if len(images) != geometry.slices:
        raise CaseUnreadable(f"{said}: {len(images)} masks for {geometry.slices} images")
    if any((file.header.rows, file.header.columns) != geometry.shape[1:] for file in images):
        raise CaseUnreadable(f"{said}: its masks are of another size than the images")
    slices = _slices_by_position(images, geometry)
    if slices is None:
        numbers = {path: _number(name) for name, path in files}
        by_number = {number: index for index, number in enumerate(order) if number is not None}
        slices = [by_number.get(number, -1) if (number := numbers[file.path]) is not None else -1 for file in images]
        if sorted(slices) != list(range(geometry.slices)):
            raise CaseUnreadable(f"{said}: neither position nor file number says which mask belongs to which image")
    mask = np.empty(geometry.shape, bool)
    mask[slices] = _values(images, said) > 0
    return mask


def _slices_by_position(images: Sequence[ImageFile], geometry: Geometry) -> list[int] | None:
    """The slice of each mask by ImagePositionPatient; None where they have none, or not one for each slice."""
    try:
        places = np.array([[float(value) for value in file.header.planes[0].image_position_patient] for file in images])
    except ValueError:
        return None
    if places.shape != (geometry.slices, 3) or not np.isfinite(places).all():
        return None
    index = geometry.lps_to_index(places)[:, 0]
    nearest = np.rint(index).astype(int)
    if np.abs(index - nearest).max() > PLACE_TOLERANCE or sorted(nearest) != list(range(geometry.slices)):
        return None
    return [int(number) for number in nearest]


def _values(images: Sequence[ImageFile], said: Path) -> NDArray[np.int16] | NDArray[np.float32]:
    """Read the values of images in the order of the files, whatever place they state."""
    header = images[0].header
    pile = Geometry(
        origins_lps_mm=np.arange(len(images))[:, None] * np.array([0.0, 0.0, 1.0]),
        row_cosines=np.array([1.0, 0.0, 0.0]),
        column_cosines=np.array([0.0, 1.0, 0.0]),
        row_spacing_mm=1.0,
        column_spacing_mm=1.0,
        rows=header.rows,
        columns=header.columns,
        frame_of_reference_uid="",
    )
    slices = tuple(Slice(file.path, file.header, file.header.planes[0]) for file in images)
    try:
        return read_volume(Stack(slices, pile)).array
    except SeriesRejected as error:
        raise CaseUnreadable(f"{said}: {error}") from error


def _number(name: PurePosixPath) -> int | None:
    """The last number in a file's name: `image_17` is 17."""
    found = re.findall(r"\d+", name.stem)
    return int(found[-1]) if found else None
