"""The page of an explanation: its heat lies where it is on the slice, and no heat changes nothing."""

from dataclasses import replace

import numpy as np

from reports.pages.drawing import Canvas
from reports.pages.heat_page import GRADCAM, HEIGHT, SIDE, WIDTH, Explanation, draw_heat_page, overlay_heat
from reports.pages.slice_page import ImageNames
from reports.pages.slice_picture import whole_slice
from reports.pages.window import display_window


def page(case, heat, *, highest=1.0):
    lesion = case.findings.lesions[0]
    explanation = Explanation(GRADCAM, lesion.place.key_slice, heat, highest)
    window = display_window(case.volume)
    return draw_heat_page(
        Canvas(WIDTH, HEIGHT),
        case.volume,
        case.segmentation,
        case.findings,
        lesion,
        explanation,
        window=window,
        made_by="resnet50 1.2.0",
        names=ImageNames("CT series 4"),
    )


def test_heat_lies_on_its_own_pixel(make_case) -> None:
    """On the whole slice, hung as radiologists hang it, with rows that run back to front too."""
    for orientation in ((1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0)):
        case = make_case(orientation=orientation)
        geometry, plane = case.volume.geometry, case.findings.lesions[0].place.key_slice
        heat = np.zeros((geometry.rows, geometry.columns), np.float32)
        heat[39, 8] = 1
        cold, hot = page(case, np.zeros_like(heat)), page(case, heat)
        changed = np.argwhere((cold != hot).any(axis=-1)[:SIDE, :SIDE])
        x, y = whole_slice(geometry, plane, SIDE).to_pixels(geometry.index_to_lps([plane, 39, 8]))
        np.testing.assert_allclose(changed.mean(axis=0), [y, x], atol=2)


def test_no_heat_leaves_the_greys() -> None:
    """And the most heat lets them through, in a warm colour."""
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(overlay_heat(greys, np.zeros_like(greys)), np.repeat(greys[..., None], 3, axis=-1))
    bright = overlay_heat(greys, np.full_like(greys, 255)).astype(int)
    assert (np.diff(bright.reshape(-1, 3), axis=0) >= 0).all()
    assert (bright[..., 0] > bright[..., 2]).all()


def test_a_map_without_heat_has_a_page(make_case) -> None:
    """Nothing is divided by its highest value."""
    case = make_case()
    empty = np.zeros(case.volume.geometry.shape[1:], np.float32)
    assert page(case, empty, highest=0.0).shape == (HEIGHT, WIDTH, 3)


def test_no_heat_is_drawn_over_air(make_case) -> None:
    """A map of few pixels spreads into the air around the patient, where there is nothing to explain."""
    case = make_case()
    plane = case.findings.lesions[0].place.key_slice
    array = case.volume.array.copy()
    array[plane, :20] = -1000
    case = replace(case, volume=replace(case.volume, array=array))
    heat = np.ones(case.volume.array.shape[1:], np.float32)
    cold, hot = page(case, np.zeros_like(heat)), page(case, heat)
    rows = np.argwhere((cold != hot).any(axis=-1)[:SIDE, :SIDE])[:, 0]
    geometry = case.volume.geometry
    _, border = whole_slice(geometry, plane, SIDE).to_pixels(geometry.index_to_lps([plane, 19, 8]))
    assert rows.min() >= border - 1 and rows.max() > border + 100
