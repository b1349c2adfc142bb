"""Lines and text on pixels: where they lie, and that they are always the same."""

import warnings

import numpy as np
import pytest

from reports.pages.drawing import BLACK, WHITE, Box, Canvas


def inked(canvas: Canvas, threshold: int = 40) -> Box:
    rows, columns = np.nonzero(canvas.pixels.max(axis=-1) > threshold)
    return Box(columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)


def test_a_line_lies_on_its_pixels() -> None:
    """Whole numbers are pixel centres, counted from the top left."""
    canvas = Canvas(40, 30)
    canvas.line([(10, 5), (10, 20)], (255, 0, 0), width=1)
    assert np.argwhere(canvas.pixels[..., 0] > 200)[:, 1].tolist() == [10] * 14
    assert inked(canvas).top in (5, 6) and inked(canvas).bottom in (20, 21)
    canvas = Canvas(40, 30)
    canvas.line([(3, 7), (30, 7)], (0, 255, 0), width=3)
    assert sorted(set(np.argwhere(canvas.pixels[..., 1] > 128)[:, 0])) == [6, 7, 8]


def test_a_line_stays_within_its_box() -> None:
    """The caption is not drawn over."""
    canvas = Canvas(40, 30)
    canvas.line([(5, 5), (5, 29)], WHITE, width=3, within=Box(0, 0, 40, 20))
    assert canvas.pixels[:20].any() and not canvas.pixels[20:].any()


@pytest.mark.parametrize("align", ["left", "center", "right"])
def test_text_covers_the_box_that_it_says(align) -> None:
    """And its size is that which was measured before."""
    canvas = Canvas(300, 80)
    box = canvas.text(150, 50, "34.2 mm", 20, align=align)
    assert (box.width, box.height) == canvas.text_size("34.2 mm", 20)
    ink = inked(canvas)
    assert box.left <= ink.left and ink.right <= box.right and box.top <= ink.top and ink.bottom <= box.bottom
    assert {"left": box.left, "center": box.left + box.width / 2, "right": box.right}[align] == pytest.approx(
        150, abs=1
    )
    assert ink.bottom in (49, 50)


def test_text_at_the_edge_is_cut_off() -> None:
    """Nothing fails, and nothing comes out on the other side."""
    canvas = Canvas(60, 40)
    for x, baseline in ((-30, 20), (50, 20), (10, 2), (10, 45), (500, 500)):
        canvas.text(x, baseline, "Lesion", 20, halo=True)
    assert canvas.pixels.any()


def test_a_halo_darkens_what_lies_around() -> None:
    """White letters are read on white bone."""
    canvas = Canvas(80, 60, WHITE)
    canvas.text(20, 40, "L", 30, halo=True)
    assert (canvas.pixels == 0).all(axis=-1).sum() > 50


def test_what_the_font_lacks_is_no_warning() -> None:
    """It would quote the text, and the host's other fonts are not asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unknown, question = Canvas(200, 40), Canvas(200, 40)
        unknown.text(5, 30, "山田 ab", 20)
        question.text(5, 30, "?? ab", 20)
        Canvas(200, 40).text(5, 30, "", 20)
    np.testing.assert_array_equal(unknown.pixels, question.pixels)


def test_lines_break_where_the_room_ends() -> None:
    """No word is lost, none of the lines is wider, and a word that is itself too wide stands alone."""
    canvas = Canvas(10, 10)
    text = "The gantry was tilted: the slices are not stacked along their normal, " * 3 + "x" * 90
    lines = canvas.wrapped(text, 18, 400)
    assert " ".join(lines).split() == text.split()
    assert all(canvas.text_size(line, 18)[0] <= 402 for line in lines[:-1]) and lines[-1] == "x" * 90
    assert canvas.wrapped("", 18, 400) == []


def test_a_text_that_is_too_long_ends_with_dots() -> None:
    """As long as there is room, and not shortened where it fits."""
    canvas = Canvas(10, 10)
    short = canvas.shortened("a name of a model that is a very long one", 18, 200)
    assert short.endswith("...") and 150 < canvas.text_size(short, 18)[0] <= 200
    assert canvas.shortened("short", 18, 200) == "short"


def test_the_same_calls_give_the_same_pixels() -> None:
    """Also after other texts were set, and after what was drawn before is covered."""

    def drawn(canvas: Canvas) -> bytes:
        canvas.fill(Box(0, 0, 200, 100), BLACK)
        canvas.line([(3.3, 4.4), (150.2, 80.8)], (10, 200, 30), width=1.7, halo=1.5)
        canvas.frame(Box(10, 10, 50, 40), WHITE)
        canvas.text(20, 60, "Lesion 1", 21, bold=True, halo=True)
        return canvas.pixels.tobytes()

    used = Canvas(200, 100)
    used.text(5, 50, "something else", 33)
    used.fill(Box(50, 50, 100, 20), WHITE)
    assert drawn(Canvas(200, 100)) == drawn(Canvas(200, 100)) == drawn(used)


def test_boxes_know_what_they_share() -> None:
    """And move no farther than they must."""
    box = Box(10, 10, 20, 10)
    assert box.overlap(Box(20, 15, 100, 100)) == 50 and box.overlap(Box(30, 10, 5, 5)) == 0
    assert box.moved_into(Box(0, 0, 100, 100)) == box
    assert box.moved_into(Box(15, 0, 100, 15)) == Box(15, 5, 20, 10)
