"""The pages of Grad-CAM as images: what they refer to, where they stand in the study, and that validators agree."""

import io

import numpy as np
import pytest
from pydicom import Dataset

from reports.objects.explanation_images import build_explanation_images
from reports.pages.heat_page import GRADCAM, HEIGHT, WIDTH, Explanation


def explained(case, *numbers: int) -> dict[int, Explanation]:
    draw, shape = np.random.default_rng(2), case.volume.geometry.shape[1:]
    lesions = [lesion for lesion in case.findings.lesions if lesion.number in numbers]
    return {
        lesion.segment: Explanation(GRADCAM, lesion.place.key_slice, draw.random(shape, dtype=np.float32), 1.0)
        for lesion in lesions
    }


def build(case, explanations, identity) -> list[Dataset]:
    return build_explanation_images(case.under(identity, explanations=explanations))


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("how", [{}, {"frame_numbers": range(15, 29), "modality": "MR"}], ids=["plain", "frames"])
def test_a_page_for_each_lesion(make_case, identity, validate, how) -> None:
    """In one series behind the others, each naming the slice that it shows; dciodvfy has nothing to say."""
    case = make_case(**how)
    images = build(case, explained(case, 1, 2), identity)
    assert [image.ImageComments for image in images] == ["Grad-CAM of lesion 1", "Grad-CAM of lesion 2"]
    assert len({image.SeriesInstanceUID for image in images}) == 1
    for image, lesion in zip(images, case.findings.lesions, strict=True):
        assert (image.SeriesNumber, image.Rows, image.Columns) == (9007, HEIGHT, WIDTH)
        assert "PixelSpacing" not in image
        (source,) = image.SourceImageSequence
        assert source.ReferencedSOPInstanceUID == case.headers[lesion.place.key_slice].SOPInstanceUID
        if how:
            assert source.ReferencedFrameNumber == 15 + lesion.place.key_slice
        assert validate(image) == []


def test_the_same_input_gives_the_same_bytes(make_case, identity) -> None:
    """An edge walked twice sends the same objects."""
    case = make_case()
    first, second = (build(case, explained(case, 2), identity) for _ in range(2))
    assert [image.ImageComments for image in first] == ["Grad-CAM of lesion 2"]
    assert list(map(written, first)) == list(map(written, second))


def test_no_explanation_no_image(make_case, identity) -> None:
    """Without lesions, and where the first stage kept no map."""
    assert build(make_case(), {}, identity) == []
    assert build(make_case(lesions=False), {}, identity) == []
