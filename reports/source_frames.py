"""Frames of Enhanced sources as highdicom can take them, and the references to them put right afterwards.

highdicom takes one multi-frame image whole, with the frames of every volume in it, and fails where orientation or
pixel measures stand in the frames. So it is given single-frame images under names that last only until the object
is built: each then becomes again the frame that it is (PS3.3 table 10-3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from dicom_io.files.uids import derive_uid


@dataclass(frozen=True)
class SourceFrame:
    """The image that a plane is, or the frame of it; frames count from 1, None is a single-frame image."""

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None


def source_frames(sources: Sequence[Dataset], frame_numbers: Sequence[int | None]) -> list[SourceFrame]:
    """Return the source of each plane. `frame_numbers` has one for each, or is empty for single-frame images alone.

    Raises ValueError when it has another length.
    """
    return [
        SourceFrame(str(source.SOPClassUID), str(source.SOPInstanceUID), number)
        for source, number in zip(sources, frame_numbers or [None] * len(sources), strict=True)
    ]


def as_single_frames(
    sources: Sequence[Dataset], frames: Sequence[SourceFrame]
) -> tuple[list[Dataset], dict[str, SourceFrame]]:
    """The sources, with copies in place of those that are frames; and what is meant by each SOPInstanceUID now."""
    images = [
        source if frame.frame_number is None else _renamed_copy(source, frame.sop_instance_uid, frame.frame_number)
        for source, frame in zip(sources, frames, strict=True)
    ]
    return images, {str(image.SOPInstanceUID): frame for image, frame in zip(images, frames, strict=True)}


def _renamed_copy(source: Dataset, sop_instance_uid: str, frame_number: int) -> Dataset:
    copy = Dataset()
    copy.update(source)
    # Added, not set: the copy shares the source's elements, and setting would change those
    sop_class_uid = MRImageStorage if source.Modality == "MR" else CTImageStorage
    copy.add(DataElement("SOPClassUID", "UI", sop_class_uid))
    copy.add(DataElement("SOPInstanceUID", "UI", derive_uid("single-frame", sop_instance_uid, frame_number)))
    return copy


def name_true_sources(seg: Dataset, meant: Mapping[str, SourceFrame]) -> None:
    """Put the true references into a SEG made of `as_single_frames`: a frame for each frame, and the images.

    ReferencedSeriesSequence lists each image once; SourceImageSequence says which of its frames were used. Where no
    image has frames, every reference is true already.
    """
    if all(frame.frame_number is None for frame in meant.values()):
        return
    for groups in seg.PerFrameFunctionalGroupsSequence:
        for derivation in groups.DerivationImageSequence:
            derivation.SourceImageSequence = [
                _renamed(item, meant[str(item.ReferencedSOPInstanceUID)]) for item in derivation.SourceImageSequence
            ]
    used: dict[tuple[str, str], list[int]] = {}
    for frame in meant.values():
        numbers = used.setdefault((frame.sop_class_uid, frame.sop_instance_uid), [])
        if frame.frame_number is not None:
            numbers.append(frame.frame_number)
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [_reference(*image) for image in used]
    seg.SourceImageSequence = [_reference(*image, sorted(numbers)) for image, numbers in used.items()]


def _renamed(item: Dataset, frame: SourceFrame) -> Dataset:
    """A copy with the rest of it (purpose, locations preserved): highdicom lets the segments share their items."""
    numbers = [] if frame.frame_number is None else [frame.frame_number]
    copy = _reference(frame.sop_class_uid, frame.sop_instance_uid, numbers)
    for element in item:
        if element.tag not in copy:
            copy.add(element)
    return copy


def _reference(sop_class_uid: str, sop_instance_uid: str, frame_numbers: Sequence[int] = ()) -> Dataset:
    """SOP Instance Reference; with frames an Image SOP Instance Reference (PS3.3 tables 10-11 and 10-3)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    if frame_numbers:
        item.ReferencedFrameNumber = list(frame_numbers) if len(frame_numbers) > 1 else frame_numbers[0]
    return item
