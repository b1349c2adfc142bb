"""What the network looked at, as images that any PACS shows: a page of Grad-CAM for each of the largest lesions.

Secondary captures as the key images are, in a separate series behind them: who takes these without the others
gets no picture that could be taken for the finding itself. Their pages show one slice at two scales, so that they
state no spacing: a ruler on them would measure wrongly.
"""

from pydicom import Dataset

from reports.objects.case import Case
from reports.objects.key_images import Page, secondary_capture
from reports.objects.kinds import KINDS
from reports.objects.result_object import image_names
from reports.pages.drawing import Canvas
from reports.pages.heat_page import HEIGHT, WIDTH, draw_heat_page
from reports.pages.window import display_window

KIND = KINDS["explain"]


def build_explanation_images(case: Case) -> list[Dataset]:
    """Build a page for each lesion that the case has an explanation of, the largest first.

    The same case gives the same bytes. Raises SourceUnusable.
    """
    explained = [lesion for lesion in case.findings.lesions if lesion.segment in case.explanations]
    canvas, window = Canvas(WIDTH, HEIGHT), display_window(case.volume, case.source.headers[0])
    images = []
    for number, lesion in enumerate(explained, start=1):
        explanation = case.explanations[lesion.segment]
        pixels = draw_heat_page(
            canvas,
            case.volume,
            case.segmentation,
            case.findings,
            lesion,
            explanation,
            window=window,
            made_by=case.made_by,
            names=image_names(case),
        )
        comment = f"{explanation.kind.title} of lesion {lesion.number}"
        page = Page(pixels, [case.source.frames[explanation.plane]], comment)
        images.append(secondary_capture(case, KIND, number, page))
    return images
