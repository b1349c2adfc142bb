"""How the weights that ship were made: three real cases and forty phantoms in, weights and their card out.

    python -m models.recipe --data ../shared/data --out runs/chaos_ct3 --leave-out chaos_ct3 --evaluate
    python -m models.recipe --data ../shared/data --out runs/all --steps 1500 --refine --evaluate --folds runs/chaos_ct3

The same recipe with one real case left out says how good the weights are on a patient that they never saw: `--folds`
copies those figures into the card. A run that was stopped goes on from `checkpoint.pt` in its folder.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_io.errors import DicomIOError
from dicom_io.nifti import read_labels
from dicom_io.pixels import read_volume
from dicom_io.series import open_series
from dicom_io.volume import Volume
from models.cards import Preprocessing, read_card
from models.dataset import phantom_case, prepare
from models.errors import CaseUnreadable, ModelError, RunMismatch
from models.inference import Model, load_model, segment
from models.phantom import TRAINING_SEEDS, grid, make_phantom
from models.training import Recipe, train
from models.weights import save_network

VERSION = "1.0.0"
HOW = Preprocessing(
    coarse_spacing_mm=3.0,
    fine_spacing_mm=1.5,
    coarse_step_mm=4.0,
    fine_step_mm=2.0,
    neighbour_mm=4.0,
    window_hu=(-160.0, 240.0),
)
PHANTOMS = TRAINING_SEEDS[:40]
REFINEMENT = Recipe(steps=600, learning_rate=4e-4, seed=1, real_share=0.35)
"""A second, shorter run from the first one's weights, with more of the phantoms and more phantoms."""
REFINEMENT_PHANTOMS = TRAINING_SEEDS[:100]
TEST_SEEDS = range(TRAINING_SEEDS.stop, TRAINING_SEEDS.stop + 5)
"""Phantoms that the figures are measured on: of no seed that training may draw."""
LEFT_OUT, TRAINING_CASE = "left out", "training case"
REPORT_STEPS = 20

Figures = dict[str, float | int | None]


@dataclass(frozen=True)
class Source:
    """A real case in the shared data: a folder with `ct_dicom.zip` and a label volume.

    `merged`: the label volume's liver hides tumours that were not drawn apart.
    """

    name: str
    labels: str
    merged: bool
    origin: str
    licence: str


SOURCES = (
    Source("ircadb_case17", "labels.nii.gz", False, "3D-IRCADb-01 case 17", "CC BY-NC-ND"),
    Source("chaos_ct3", "liver_label.nii.gz", False, "CHAOS CT set 3", "CC BY-SA 4.0"),
    Source("lits_volume0", "liver_label.nii.gz", True, "LiTS volume 0 (tumours not drawn apart)", "CC BY-NC-ND 4.0"),
)


def read_case(data: Path, source: Source) -> tuple[Volume, NDArray[np.uint8]]:
    """The volume of a case and its labels on the same grid.

    Raises CaseUnreadable for a file that is missing or damaged; SeriesRejected, NotDicom or NotNifti for what is
    in it.
    """
    archive = data / source.name / "ct_dicom.zip"
    try:
        with TemporaryDirectory(prefix="porta-recipe-") as folder, ZipFile(archive) as content:
            content.extractall(folder)
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            volume = read_volume(open_series(files).stacks[0])
    except BadZipFile as error:
        raise CaseUnreadable(f"{archive}: not a zip file, or a damaged one") from error
    except OSError as error:
        raise CaseUnreadable(f"{error.filename or archive}: {error.strerror}") from error
    return volume, read_labels(data / source.name / source.labels, volume.geometry)


def claim(out: Path, leave_out: str | None, recipe: Recipe) -> None:
    """Make the folder of a run, or find that it is this run's, which then goes on from its checkpoint.

    Raises RunMismatch: a checkpoint of another run would mix what was left out with what was not.
    """
    run = {"leave_out": leave_out, "recipe": asdict(recipe), "preprocessing": asdict(HOW)}
    text = json.dumps(run, indent=2)
    path = out / "run.txt"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if (out / "checkpoint.pt").exists():
                raise RunMismatch(f"{out}: holds a checkpoint, and no run.txt that says of which run")
            path.write_text(text)
        elif path.read_text() != text:
            raise RunMismatch(f"{out}: holds another run; see its run.txt, or choose another folder")
    except OSError as error:
        raise RunMismatch(f"{error.filename or out}: {error.strerror}") from error


def describe(
    sha256: str, leave_out: str | None, recipe: Recipe, quality: dict[str, Figures], *, refined: bool = False
) -> dict[str, Any]:
    """The card's content: what the weights are, what they learned from, how good they measured."""
    used = [source for source in SOURCES if source.name != leave_out]
    origins = ", ".join(source.origin for source in used)
    phantoms, steps = len(PHANTOMS), f"{recipe.steps} steps"
    if refined:
        phantoms, steps = len(REFINEMENT_PHANTOMS), f"{steps}, then {REFINEMENT.steps} with more phantoms"
    licences = "; ".join(f"{source.origin.partition(' (')[0]} {source.licence}" for source in used)
    return {
        "name": recipe.architecture,
        "version": VERSION if leave_out is None else f"{VERSION}-without-{leave_out}",
        "architecture": recipe.architecture,
        "modalities": ["CT"],
        "sha256": sha256,
        "preprocessing": asdict(HOW),
        "trained_on": f"{origins}, and {phantoms} synthetic phantoms; {steps}",
        "licence": f"non-commercial research only, by the licences of the training data: {licences}",
        "quality": quality,
        "research_use_only": True,
    }


def fold_quality(folders: Sequence[Path]) -> dict[str, Figures]:
    """The figures of left-out real cases in the cards of other runs. Raises CaseUnreadable."""
    names = {f"{source.name}, {LEFT_OUT}" for source in SOURCES}
    quality: dict[str, Figures] = {}
    for folder in folders:
        path = folder / f"{Recipe().architecture}.json"
        try:
            found = {name: figures for name, figures in read_card(path).quality.items() if name in names}
        except OSError as error:
            raise CaseUnreadable(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CaseUnreadable(f"{path}: not a card") from error
        if not found:
            raise CaseUnreadable(f"{path}: has no figures of a case that was left out")
        quality |= found
    return quality


def evaluate(model: Model, data: Path, leave_out: str | None, tell: Callable[[str], None]) -> dict[str, Figures]:
    """Figures of each real case, named with whether it was left out of training, and of phantoms never trained on."""
    quality: dict[str, Figures] = {}

    def add(name: str, figures: Figures) -> None:
        quality[name] = figures
        tell(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))

    for source in SOURCES:
        volume, truth = read_case(data, source)
        role = LEFT_OUT if source.name == leave_out else TRAINING_CASE
        add(f"{source.name}, {role}", measure(model, volume, truth, tumours_drawn=not source.merged))
    for seed in TEST_SEEDS:
        geometry = grid(slices=100, rows=256, columns=256, spacing_mm=(2.5, 1.5, 1.5), seed=seed)
        phantom = make_phantom(geometry, seed=seed, lesions=3)
        figures = measure(model, phantom.volume, phantom.truth, tumours_drawn=True)
        add(f"phantom {seed}, {LEFT_OUT}", figures | {"lesions_truth": len(phantom.lesions)})
    return quality


def measure(model: Model, volume: Volume, truth: NDArray[np.uint8], *, tumours_drawn: bool) -> Figures:
    """Dice of liver (tumours included) and tumour against `truth` (0, 1, 2), volumes and the number of lesions.

    `tumour_dice` is null where the truth has no tumour; `tumour_ml` is then what was found wrongly, unless
    `tumours_drawn` is False: there nobody knows.
    """
    segmentation = segment(model, volume)
    slices_ml = volume.geometry.voxel_volumes_mm3 / 1000

    def millilitres(mask: NDArray[np.bool_]) -> float:
        return round(float(np.count_nonzero(mask, axis=(1, 2)) @ slices_ml), 1)

    liver, true_liver = segmentation.labels > 0, truth > 0
    tumour, true_tumour = segmentation.labels > 1, truth > 1
    return {
        "liver_dice": round(dice(liver, true_liver), 3),
        "tumour_dice": round(dice(tumour, true_tumour), 3) if true_tumour.any() else None,
        "liver_ml": millilitres(liver),
        "liver_ml_truth": millilitres(true_liver),
        "tumour_ml": millilitres(tumour),
        "tumour_ml_truth": millilitres(true_tumour) if tumours_drawn else None,
        "lesions": segmentation.lesion_count,
    }


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Twice the common voxels over all voxels of both; 0 when both are empty."""
    common, both = int(np.count_nonzero(found & truth)), int(np.count_nonzero(found)) + int(np.count_nonzero(truth))
    return 2 * common / max(1, both)


def run(
    data: Path, out: Path, *, leave_out: str | None, recipe: Recipe, refine: bool, tell: Callable[[str], None]
) -> str:
    """Train, write the weights into `out`, and return their sha256."""
    cases = []
    for source in SOURCES:
        if source.name != leave_out:
            tell(f"reading {source.name}")
            cases.append(prepare(*read_case(data, source), HOW, name=source.name, merged=source.merged))
    phantoms = []
    for seed in PHANTOMS:
        phantoms.append(phantom_case(seed, HOW))
        if len(phantoms) % 10 == 0:
            tell(f"phantom {len(phantoms)} of {len(PHANTOMS)}")

    def reporter(steps: int, name: str) -> Callable[[int, float, float], None]:
        losses: list[float] = []

        def report(step: int, loss: float, seconds_left: float) -> None:
            losses.append(loss)
            if step % REPORT_STEPS == 0 or step == steps:
                mean = float(np.mean(losses[-REPORT_STEPS:]))
                tell(f"step {step} of {steps}, loss {mean:.3f}, {seconds_left / 60:.1f} min left")
                with (out / name).open("a") as log:
                    log.write(f"{step},{mean:.4f}\n")

        return report

    report = reporter(recipe.steps, "loss.csv")
    network = train(cases, phantoms, HOW, recipe, checkpoint=out / "checkpoint.pt", report=report)
    if refine:
        tell("refining")
        phantoms += [phantom_case(seed, HOW) for seed in REFINEMENT_PHANTOMS[len(phantoms) :]]
        checkpoint, report = out / "refinement.pt", reporter(REFINEMENT.steps, "refinement-loss.csv")
        network = train(cases, phantoms, HOW, REFINEMENT, checkpoint=checkpoint, report=report, initial=network)
    path = out / f"{recipe.architecture}.safetensors"
    sha256 = save_network(network, path)
    path.chmod(0o644)  # safetensors makes the file its owner's alone; weights that ship are read by any account
    return sha256


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0 done, 1 stopped, 2 the input is wrong."""
    options = _parse(arguments)
    recipe = Recipe(steps=options.steps)
    torch.set_num_threads(options.threads)
    path = options.out / f"{recipe.architecture}.json"

    def tell(line: str) -> None:
        print(line, flush=True)

    def write_card(sha256: str, quality: dict[str, Figures]) -> None:
        part = path.with_suffix(".part")
        card = describe(sha256, options.leave_out, recipe, quality, refined=options.refine)
        part.write_text(json.dumps(card, indent=2) + "\n")
        part.replace(path)

    try:
        folds = fold_quality(options.folds)
        claim(options.out, options.leave_out, recipe)
        sha256 = run(
            options.data, options.out, leave_out=options.leave_out, recipe=recipe, refine=options.refine, tell=tell
        )
        write_card(sha256, folds)
        if options.evaluate:
            model = load_model(read_card(path), threads=options.threads)
            write_card(sha256, folds | evaluate(model, options.data, options.leave_out, tell))
    except (ModelError, DicomIOError) as error:
        print(f"recipe: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("recipe: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 1
    tell(f"{path}: sha256 {sha256}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    summary, _, more = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "recipe",
        usage=argparse.SUPPRESS,  # so that a wrong argument is answered with one line
        description=summary,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of shared imaging data")
    parser.add_argument("--out", type=Path, required=True, help="where checkpoint, weights and card go")
    parser.add_argument("--leave-out", choices=[source.name for source in SOURCES], help="a real case not to train on")
    parser.add_argument("--steps", type=_positive, default=Recipe().steps, help="default %(default)s")
    parser.add_argument("--refine", action="store_true", help="go on with more phantoms, as the shipped weights did")
    parser.add_argument("--evaluate", action="store_true", help="measure the weights and write it into the card")
    parser.add_argument("--folds", type=Path, nargs="+", default=[], help="runs whose left-out figures to copy")
    parser.add_argument("--threads", type=_positive, default=2, help="on the CPU; default %(default)s")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
