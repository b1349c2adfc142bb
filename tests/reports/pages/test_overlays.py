"""The pictures: which slices, and that they are those of the key images. What lies where: test_slice_picture."""

import numpy as np
from matplotlib.image import imread

from reports.pages.drawing import Canvas
from reports.pages.overlays import write_overlays
from reports.pages.slice_page import HEIGHT, WIDTH, ImageNames, draw_page, most_liver
from reports.pages.window import display_window

NAMES = ImageNames("CT series 4")


def drawn(case, folder):
    return write_overlays(case.volume, case.segmentation, case.findings, folder, NAMES)


def test_the_liver_and_each_key_slice_are_drawn(make_case, tmp_path) -> None:
    """Numbered from 001, in a folder that need not exist."""
    case = make_case()
    paths = drawn(case, tmp_path / "new")
    areas = np.count_nonzero(case.segmentation.labels, axis=(1, 2))
    slices = {int(areas.argmax()), *(lesion.place.key_slice for lesion in case.findings.lesions)}
    assert [path.name for path in paths] == [f"overlay-{n:03d}.png" for n in range(1, len(slices) + 1)]
    assert all(imread(path).shape == (HEIGHT, WIDTH, 4) for path in paths)


def test_without_a_liver_the_middle_is_drawn(make_case, tmp_path) -> None:
    """There is always something to look at."""
    assert len(drawn(make_case(liver=False), tmp_path)) == 1


def test_a_picture_is_the_page_of_its_slice(make_case, tmp_path) -> None:
    """Pixel by pixel, with the calipers of every lesion that was measured there."""
    case = make_case()
    path = drawn(case, tmp_path)[0]
    plane = most_liver(case.segmentation)
    measured = [lesion for lesion in case.findings.lesions if lesion.place.key_slice == plane]
    page = draw_page(
        Canvas(WIDTH, HEIGHT),
        case.volume,
        case.segmentation,
        case.findings,
        plane,
        display_window(case.volume),
        measured=measured,
        made_by="resnet50 1.2.0",
        names=NAMES,
    )
    np.testing.assert_array_equal(np.rint(imread(path)[..., :3] * 255), page.pixels)
