"""`porta explain`: one study segmented, and for each lesion what the network looked at.

OUT/gradcam-lesion-1.png, occlusion-lesion-1.png          the lesion's key slice with the heat over it
OUT/gradcam-lesion-1.nii.gz, occlusion-lesion-1.nii.gz    the whole map, 0 to 1, on the source's own grid

Further series or volumes have folders 2, 3, … as `porta segment` makes them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.image import imsave

from daemon.commands.standalone import Task, remark, segment_with_bar, volume_folder, volumes_of
from daemon.errors import BadRequest
from daemon.progress import progress_bar
from daemon.terminal import say
from daemon.worker.requests import Engine
from daemon.worker.stages import model_on
from dicom_io.nifti import has_affine, write_fractions
from dicom_io.progress import Progress
from dicom_io.segmentation import Segmentation
from dicom_io.series.series import stack_headers
from dicom_io.volume import Volume
from models.cards import fitting
from models.explain import Scene, gradcam, look, occlusion
from models.inference import Model
from models.maps import Heat
from reports.findings.measurements import Findings, Lesion, measure
from reports.pages.drawing import Canvas
from reports.pages.heat_page import GRADCAM, HEIGHT, OCCLUSION, WIDTH, Explanation, Kind, draw_heat_page
from reports.pages.slice_page import ImageNames
from reports.pages.window import Window, display_window


@dataclass(frozen=True)
class Way:
    """A method to explain a lesion: the names of its files, the words of its pages, the function for its map."""

    name: str
    kind: Kind
    heat: Callable[[Scene, int, Progress], Heat]


def _gradcam(scene: Scene, segment: int, progress: Progress) -> Heat:
    return gradcam(scene, segment)


WAYS = {
    way.name: way
    for way in (
        Way("gradcam", GRADCAM, _gradcam),
        Way("occlusion", OCCLUSION, occlusion),
    )
}
WRITTEN = tuple(f"{name}-lesion-*.{ending}" for name in WAYS for ending in ("png", "nii.gz"))


def explain_input(
    source: Path,
    out: Path,
    *,
    model: str,
    device: str,
    threads: int | None,
    prefer: str = "portal",
    lesion: int | None = None,
    methods: tuple[str, ...] = tuple(WAYS),
) -> None:
    """Explain the lesions of every series of a DICOM folder or zip, or of one NIfTI, or the one called `lesion`.

    What an earlier run left in `out` is removed. No lesion is an answer: it is said, and nothing is written. Raises
    BadRequest where there are lesions and none has that number, and what `standalone.volumes_of` raises.
    """
    engine = Engine(device=device, threads=threads)
    counts: list[int] = []
    volumes = volumes_of(source, out, model, engine, prefer, names=WRITTEN)
    for number, (task, volume, several) in enumerate(volumes, start=1):
        folder = volume_folder(out, number)
        counts.append(_explain_volume(task, volume, folder, model, engine, lesion=lesion, methods=methods))
        if several:
            say(f"  {task.name}")
    if lesion is not None and any(counts) and lesion > max(counts):
        raise BadRequest(f"--lesion: there is no lesion {lesion}, they are numbered from 1 to {max(counts)}")


def _explain_volume(
    task: Task, volume: Volume, out: Path, model: str, engine: Engine, *, lesion: int | None, methods: tuple[str, ...]
) -> int:
    """Write the pages and maps of one volume; returns how many lesions it has."""
    segmentation = segment_with_bar(volume, model, engine)
    findings = measure(volume, segmentation, tracking_seed=volume.series_instance_uid)
    if not findings.lesions:
        what = "no lesion was found" if findings.liver_volume_ml > 0 else "no liver was found"
        say(f"{out}: {what}, so there is nothing to explain")
        return 0
    chosen = [one for one in findings.lesions if lesion in (None, one.number)]
    if not chosen:
        return findings.lesion_count
    scene = _look(model_on(fitting(model, volume.modality), engine), volume, segmentation)
    if scene is None:
        remark(f"{out}: the network does not find the liver again, so its lesions cannot be explained")
        return findings.lesion_count
    out.mkdir(parents=True, exist_ok=True)
    if not has_affine(volume.geometry):
        remark(f"{out}: no maps as NIfTI, which cannot place slices that are not evenly spaced; the pictures are there")
    headers = () if task.stack is None else stack_headers(task.stack)
    window = display_window(volume, headers[0] if headers else None)
    for one, way, heat in _heats(scene, chosen, methods):
        _write(scene, findings, one, way=way, heat=heat, out=out, window=window)
        say(f"{out}: {way.kind.title} of lesion {one.number}, {one.size.long_axis_mm:.0f} mm")
    return findings.lesion_count


def _look(model: Model, volume: Volume, segmentation: Segmentation) -> Scene | None:
    with progress_bar("looking for the liver again") as progress:
        return look(model, volume, segmentation, progress)


def _heats(scene: Scene, lesions: list[Lesion], methods: tuple[str, ...]) -> Iterator[tuple[Lesion, Way, Heat]]:
    """Make one map after another, so that only one is in memory."""
    for lesion in lesions:
        for name in methods:
            way = WAYS[name]
            with progress_bar(f"{way.kind.title} of lesion {lesion.number}") as progress:
                heat = way.heat(scene, lesion.segment, progress)
            yield lesion, way, heat


def _write(
    scene: Scene, findings: Findings, lesion: Lesion, *, way: Way, heat: Heat, out: Path, window: Window
) -> None:
    volume, algorithm = scene.volume, scene.segmentation.algorithm
    highest = float(heat.values.max(initial=0.0))
    explanation = Explanation(way.kind, lesion.place.key_slice, heat.plane(lesion.place.key_slice), highest)
    page = draw_heat_page(
        Canvas(WIDTH, HEIGHT),
        volume,
        scene.segmentation,
        findings,
        lesion,
        explanation,
        window=window,
        made_by=f"{algorithm.name} {algorithm.version}",
        names=ImageNames(volume.modality),
    )
    name = f"{way.name}-lesion-{lesion.number}"
    imsave(out / f"{name}.png", page, pil_kwargs={"compress_level": 1})
    if has_affine(volume.geometry):
        write_fractions(heat.values, heat.first, volume.geometry, out / f"{name}.nii.gz")
