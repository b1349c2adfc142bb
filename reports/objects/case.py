"""The inputs of the objects of one volume: its images, its findings, and the remarks on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_io.files import values
from dicom_io.segmentation import Segmentation
from dicom_io.series.series import stack_headers
from dicom_io.series.stacks import Stack
from dicom_io.volume import Volume
from reports.findings.measurements import Findings, measure
from reports.identity import ResultIdentity
from reports.objects.kinds import Form, Kind, Need
from reports.objects.profile import Profile
from reports.pages.heat_page import Explanation
from reports.source_frames import SourceFrame, source_frames
from reports.source_headers import usable_headers


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The images of one volume in slice order.

    `headers` are theirs, without pixel data; the first has patient and study. `frames` says which image, and which
    frame of it, each slice is. `usable` are copies of the headers that every library and validator accepts. All three
    are shared by the objects of a volume, and read only.
    """

    headers: tuple[Dataset, ...]
    frames: tuple[SourceFrame, ...]
    usable: tuple[Dataset, ...]


def source_images(
    headers: Sequence[Dataset], frame_numbers: Sequence[int | None], frame_of_reference_uid: str | None
) -> SourceImages:
    """Return the images with these headers; `frame_numbers` is empty where none is a frame.

    `frame_of_reference_uid` is that of the SEG, None where there is none. Raises SourceUnusable, and ValueError where
    the numbers of headers and frames differ.
    """
    usable = usable_headers(headers, frame_of_reference_uid)
    return SourceImages(tuple(headers), tuple(source_frames(usable, frame_numbers)), tuple(usable))


@dataclass(frozen=True, eq=False)
class Case:
    """One volume with its findings, for destinations of one profile.

    `note` is a sentence that says which volume of the series was segmented. `probabilities` are the network's, by
    segment number, in 1/255 on the volume's grid, and `explanations` what it looked at to draw a lesion, by its
    segment number: empty where no destination takes them. `seg` is the SEG of the profile, which its SRs refer to
    (its UIDs are enough); None without a liver. `predecessors` are the SRs that the next object supersedes.
    Raises ValueError where the parts differ in size.
    """

    source: SourceImages
    volume: Volume
    segmentation: Segmentation
    findings: Findings
    identity: ResultIdentity
    note: str = ""
    probabilities: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    explanations: Mapping[int, Explanation] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)
    seg: Dataset | None = None
    predecessors: Sequence[Dataset] = ()

    def __post_init__(self) -> None:
        shape = self.volume.geometry.shape
        grids = [self.segmentation.labels, *self.probabilities.values()]
        if len(self.source.headers) != shape[0] or any(grid.shape != shape for grid in grids):
            raise ValueError("one header per slice; labels and probabilities on the volume's grid")

    @property
    def has(self) -> frozenset[Need]:
        """The needs of objects that this case meets."""
        there = {
            Need.LIVER: self.findings.liver_volume_ml > 0,
            Need.LESIONS: bool(self.findings.lesions),
            Need.PROBABILITIES: bool(self.probabilities),
            Need.EXPLANATIONS: bool(self.explanations),
        }
        return frozenset(need for need, is_there in there.items() if is_there)

    def form_of(self, kind: Kind) -> Form:
        """The form of a kind in which its destinations take it."""
        return self.profile.form_of(kind.name)

    @property
    def made_by(self) -> str:
        """Program and model with their versions, as they stand on a page."""
        algorithm = self.segmentation.algorithm
        return f"Porta {self.identity.software_version}, {algorithm.name} {algorithm.version}"


def measured_case(
    stack: Stack, volume: Volume, segmentation: Segmentation, *, identity: ResultIdentity, note: str = ""
) -> Case:
    """The case of one volume of a series, measured. Raises SourceUnusable."""
    headers = stack_headers(stack)
    findings = with_image_numbers(measure(volume, segmentation, tracking_seed=identity.tracking_seed), headers)
    # Without a SEG no object states a frame of reference that its source does not
    frame_of_reference_uid = volume.geometry.frame_of_reference_uid if findings.liver_volume_ml > 0 else None
    source = source_images(headers, stack.frame_numbers, frame_of_reference_uid)
    return Case(source, volume, segmentation, findings, identity, note)


def with_image_numbers(findings: Findings, headers: Sequence[Dataset]) -> Findings:
    """Give each lesion the InstanceNumber of its key image, by which viewers show it."""
    numbers = [values.integer(header, "InstanceNumber") for header in headers]
    lesions = tuple(
        replace(lesion, place=replace(lesion.place, key_instance_number=numbers[lesion.place.key_slice]))
        for lesion in findings.lesions
    )
    return replace(findings, lesions=lesions)


def build(case: Case, kind: Kind) -> Sequence[Dataset]:
    """Build the objects of a kind for a case. Raises SourceUnusable, and ValueError for a kind without a builder."""
    if kind.build is None:
        raise ValueError(f"{kind.name} is not built of a case")
    objects: Sequence[Dataset] = resolve_name(kind.build)(case)
    return objects


def verify(case: Case, kind: Kind, path: Path) -> None:
    """Prove that the object at `path` says what the case does, if objects of its kind are. Raises GeometryNotProved."""
    if kind.verify:
        resolve_name(kind.verify)(path, case)
