"""Pictures of a few slices with the outlines drawn in, to look at without a viewer."""

from pathlib import Path

from matplotlib.image import imsave

from dicom_io.segmentation import Segmentation
from dicom_io.volume import Volume
from reports.findings.measurements import Findings
from reports.pages.drawing import Canvas
from reports.pages.slice_page import HEIGHT, WIDTH, ImageNames, draw_page, most_liver
from reports.pages.window import display_window

LESION_SLICES = 4


def write_overlays(
    volume: Volume,
    segmentation: Segmentation,
    findings: Findings,
    directory: Path,
    names: ImageNames,
) -> list[Path]:
    """Write `overlay-001.png`... into `directory` (made if missing) and return their paths.

    The slice with the most liver first, then the key slices of the four largest lesions; without a liver, the
    middle slice. `names` are those of the images.
    """
    directory.mkdir(parents=True, exist_ok=True)
    largest = most_liver(segmentation)
    first = segmentation.geometry.slices // 2 if largest is None else largest
    planes = dict.fromkeys([first, *(lesion.place.key_slice for lesion in findings.lesions[:LESION_SLICES])])
    window = display_window(volume)
    made_by = f"{segmentation.algorithm.name} {segmentation.algorithm.version}"
    canvas, paths = Canvas(WIDTH, HEIGHT), []
    for number, plane in enumerate(planes, start=1):
        path = directory / f"overlay-{number:03d}.png"
        measured = [lesion for lesion in findings.lesions if lesion.place.key_slice == plane][:LESION_SLICES]
        page = draw_page(
            canvas,
            volume,
            segmentation,
            findings,
            plane,
            window,
            measured=measured,
            made_by=made_by,
            names=names,
        )
        # Most of the time goes into squeezing noise
        imsave(path, page.pixels, pil_kwargs={"compress_level": 1})
        paths.append(path)
    return paths
