"""All charts of one evaluation, or of several beside one another, as PNG files in a folder.

They are drawn from evaluation.json alone (`reports.evaluation.evaluations`), by Matplotlib's Agg without a display.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reports.evaluation.agreement_charts import draw_bland_altman, draw_confusion, draw_roc
from reports.evaluation.composition_charts import draw_composition, draw_lesion_sizes, draw_severity
from reports.evaluation.evaluations import Evaluations
from reports.evaluation.metric_charts import draw_dice, draw_metrics, draw_size_recall


@dataclass(frozen=True)
class Drawn:
    """A chart that was written: its file, and its description for readers who cannot see it."""

    path: Path
    alt: str


@dataclass(frozen=True)
class Kind:
    """One chart of the set."""

    file: str
    alt: str
    draw: Callable[[Evaluations, Path], Path]


def _metrics(structure: str, evaluations: Evaluations, path: Path) -> Path:
    return draw_metrics(evaluations, structure, path)


KINDS = (
    Kind("dice.png", "Bars: Dice of liver and tumour of each model, with 95 % confidence intervals.", draw_dice),
    Kind("liver.png", "Bars: the metrics of the liver of each model.", partial(_metrics, "liver")),
    Kind("tumour.png", "Bars: the metrics of the tumour of each model.", partial(_metrics, "tumour")),
    Kind("lesions.png", "Bars: the part of the true lesions that was found, by their size.", draw_size_recall),
    Kind("roc.png", "ROC curves of liver and tumour by voxel.", draw_roc),
    Kind("confusion.png", "Confusion matrices of background, liver and tumour.", draw_confusion),
    Kind("bland_altman.png", "Bland-Altman plots of the volume of the liver.", draw_bland_altman),
    Kind("composition.png", "Pies: what became of the voxels of liver and tumour.", draw_composition),
    Kind("severity.png", "Pies: severity of the cases, true and found.", draw_severity),
    Kind("sizes.png", "Pies: lesions by size, true and found.", draw_lesion_sizes),
)


def draw_charts(evaluations: Evaluations, folder: Path) -> list[Drawn]:
    """Write every chart of KINDS into `folder` (made if missing), in place of all that earlier ones left there."""
    for old in (*folder.glob("*.png"), *folder.glob(".*.part")):
        old.unlink()
    return [Drawn(kind.draw(evaluations, folder / kind.file), kind.alt) for kind in KINDS]
