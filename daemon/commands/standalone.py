"""What needs no service: to segment one study."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from daemon.errors import BadRequest
from daemon.progress import progress_bar
from daemon.storage.spool import write_durably
from daemon.terminal import say, warn
from daemon.worker.decoding import Decoder, decoder
from daemon.worker.requests import Engine
from daemon.worker.results import FINDINGS, findings_bytes, write_results
from daemon.worker.sources import find_series, name_member, refuse_too_large, refuse_unfit
from daemon.worker.stages import model_on, refuse_without_model, said_of_empty
from dicom_io.archive import dicom_files
from dicom_io.errors import NotDicom, NotNifti, SeriesRejected, SeriesWarning
from dicom_io.files.image_file import ImageFile
from dicom_io.nifti import has_affine, read_nifti, write_labels
from dicom_io.segmentation import Segmentation
from dicom_io.series.hounsfield import refuse_other_values
from dicom_io.series.preference import chosen_stacks
from dicom_io.series.series import arrange
from dicom_io.series.stacks import Stack
from dicom_io.volume import Volume
from models.cards import fitting
from models.inference import segment
from reports.findings.findings import without_hcc
from reports.findings.measurements import Findings, measure
from reports.identity import identity_of, software_version
from reports.objects.case import measured_case
from reports.objects.result_object import image_names
from reports.pages.overlays import write_overlays
from reports.pages.slice_page import ImageNames
from reports.source_headers import left_out

SEG, SR, LABELS, OVERLAYS = "seg.dcm", "sr.dcm", "labels.nii.gz", "overlay-*.png"
WRITTEN = (SEG, SR, LABELS, FINDINGS, OVERLAYS)


@dataclass(frozen=True)
class Task:
    """One volume to segment: its stack (None: it came from NIfTI), and what the report says of its siblings."""

    stack: Stack | None
    note: str = ""

    @property
    def name(self) -> str:
        """The name that tells it from other volumes of the input; "" for the only one of a NIfTI."""
        if self.stack is None:
            return ""
        uid = f"series {self.stack.series_instance_uid}"
        return f"{uid}, {self.stack.label}" if self.stack.label else uid


def segment_input(
    source: Path,
    out: Path,
    *,
    model: str,
    device: str,
    threads: int | None,
    prefer: str = "portal",
    modality: str | None = None,
) -> None:
    """Segment every series of a DICOM folder or zip, or one NIfTI, and write the results below `out`.

    The first volume's results lie in `out`, those of further series or volumes in `out`/2, `out`/3, … What an earlier
    run left there is removed once it is certain that there is something to segment. `modality` is that of a NIfTI,
    which does not say it; None stands for CT.

    Raises BadRequest for the modality of DICOM, NotDicom, NotNifti, SeriesRejected (when nothing could be segmented),
    ModelError.
    """
    if modality is not None and not is_nifti(source):
        raise BadRequest("--modality is for NIfTI: DICOM images say theirs")
    engine = Engine(device=device, threads=threads)
    if is_nifti(source) and source.resolve() == (out / LABELS).resolve():
        raise NotNifti(f"{source}: lies where the labels are to be written; choose another folder with --out")
    written = 0
    ranges: list[_Done] = []
    for task, volume, several in volumes_of(
        source, out, model, engine, prefer, names=WRITTEN, modality=modality or "CT"
    ):
        done = _Done(task, volume, segment_with_bar(volume, model, engine), several)
        if ranges and not done.is_range_beside(ranges[0]):
            written = _write_all(_with_liver(ranges), out, written)
            ranges = []
        if done.is_range:
            ranges.append(done)
        else:
            written = _write_all([done], out, written)
    _write_all(_with_liver(ranges), out, written)


@dataclass(frozen=True, eq=False)
class _Done:
    """A volume that is segmented, and whether its input has others."""

    task: Task
    volume: Volume
    segmentation: Segmentation
    several: bool

    @property
    def is_range(self) -> bool:
        return self.task.stack is not None and self.task.stack.is_range

    def is_range_beside(self, other: "_Done") -> bool:
        return self.is_range and self.volume.series_instance_uid == other.volume.series_instance_uid


def _with_liver(ranges: Sequence[_Done]) -> list[_Done]:
    """The ranges of one series that hold a liver, with a note of those that hold none; all where none does."""
    empty = [each.task.stack for each in ranges if not each.segmentation.labels.any()]
    if not 0 < len(empty) < len(ranges):
        return list(ranges)
    said = " ".join(said_of_empty(stack) for stack in empty if stack)
    remark(said)
    return [
        replace(
            each,
            task=replace(each.task, note=f"{each.task.note} {said}".strip()),
            segmentation=replace(
                each.segmentation, warnings=(*each.segmentation.warnings, str(SeriesWarning.LEFT_OUT))
            ),
        )
        for each in ranges
        if each.segmentation.labels.any()
    ]


def _write_all(done: Iterable[_Done], out: Path, written: int) -> int:
    """Write the results of volumes behind those that are `written`; returns how many there are now."""
    for each in done:
        written += 1
        folder = volume_folder(out, written)
        findings, names = _write_task(each.task, each.volume, each.segmentation, folder)
        _write_pictures(each.volume, each.segmentation, findings, folder, names)
        if each.several:
            say(f"  {each.task.name}")
    return written


def volume_folder(out: Path, number: int) -> Path:
    """The folder of one of the volumes of an input: the first has `out` itself."""
    return out if number == 1 else out / str(number)


def is_nifti(source: Path) -> bool:
    """True where the name is that of a NIfTI file."""
    return source.name.endswith((".nii", ".nii.gz"))


def volumes_of(
    source: Path, out: Path, model: str, engine: Engine, prefer: str, *, names: Sequence[str], modality: str = "CT"
) -> Iterator[tuple[Task, Volume, bool]]:
    """Yield each volume to segment, and whether there are several.

    Before the first, the model is loaded and what an earlier run left in `out` (`names`, patterns) removed. Says on
    stderr what is left out. Raises NotDicom, NotNifti, SeriesRejected (when nothing could be read), ModelError.
    """
    if is_nifti(source):
        volume = replace(read_nifti(source), modality=modality)
        refuse_too_large([volume.geometry], None)
        refuse_other_values(volume)
        model_on(fitting(model, modality), engine)
        _clear(out, names)
        yield Task(None), volume, False
        return
    with tempfile.TemporaryDirectory(prefix="porta-segment-") as workdir:
        files = dicom_files(source, Path(workdir))
        with progress_bar("reading the headers") as progress:
            found = find_series(files, progress)
        if not found.groups:
            raise NotDicom(source, found.unreadable[0].why if len(files) == 1 else "holds no DICOM files")
        for unreadable in found.unreadable:
            remark(str(name_member(unreadable, source, Path(workdir))))
        refused: dict[str, SeriesRejected] = {}
        tasks: list[tuple[Task, Stack]] = []
        for uid, members in sorted(found.groups.items()):
            try:
                tasks += _tasks(members, model, prefer)
            except SeriesRejected as error:
                refused[f"series {uid}"] = error
        if tasks:
            model_on(fitting(model, tasks[0][1].modality), engine)
            _clear(out, names)
        done = 0
        with decoder() as decode:
            for task, stack in tasks:
                try:
                    volume = _read(stack, decode)
                except SeriesRejected as error:
                    refused[task.name] = error
                    continue
                done += 1
                yield task, volume, len(tasks) > 1
    if not done and len(refused) == 1:
        raise next(iter(refused.values()))
    for name, refusal in refused.items():
        remark(f"{name}: {refusal}")
    if not done:
        raise NotDicom(source, "nothing in it can be segmented")


def _tasks(members: Sequence[ImageFile], model: str, prefer: str) -> list[tuple[Task, Stack]]:
    """The volumes of one series to segment. Raises SeriesRejected."""
    series = arrange(members)
    refuse_without_model(series, model)
    refuse_unfit(series, None)
    stacks, note = chosen_stacks(series, prefer)
    if note:
        remark(f"series {series.series_instance_uid}: {note}")
    return [(Task(stack, note), stack) for stack in stacks]


def _read(stack: Stack, decode: Decoder) -> Volume:
    with progress_bar("reading the pixels") as progress:
        volume = decode.read(stack, progress)
    refuse_other_values(volume)
    return volume


def segment_with_bar(volume: Volume, model: str, engine: Engine) -> Segmentation:
    """Segment a volume, with a bar meanwhile."""
    network = model_on(fitting(model, volume.modality), engine)
    with progress_bar(f"segmenting on {network.device}") as progress:
        return segment(network, volume, progress)


def _write_task(task: Task, volume: Volume, segmentation: Segmentation, out: Path) -> tuple[Findings, ImageNames]:
    """The DICOM objects where there are images to refer to, and findings.json."""
    stack = task.stack
    if stack is None:
        findings = without_hcc(measure(volume, segmentation, tracking_seed=volume.series_instance_uid))
        write_durably(out / FINDINGS, findings_bytes(findings, segmentation.algorithm, software_version()))
        return findings, ImageNames(volume.modality)
    identity = identity_of(
        stack.study_instance_uid,
        stack.series_instance_uid,
        revision=1,
        created=datetime.now(UTC),
        software_version=software_version(),
    )
    identity = replace(identity, volume_index=stack.index, volume_label=stack.label)
    case = measured_case(stack, volume, segmentation, identity=identity, note=task.note)
    case = replace(case, findings=without_hcc(case.findings))
    write_results(case, out)
    if attributes := left_out(case.source.headers[0]):
        warn(f"porta: {out}: {', '.join(attributes)} left out: the images hold no valid value")
    return case.findings, image_names(case)


def _write_pictures(
    volume: Volume, segmentation: Segmentation, findings: Findings, out: Path, names: ImageNames
) -> None:
    """Labels as NIfTI (0, 1 liver, 2 every lesion) and the overlays; a line a result on stdout."""
    if has_affine(volume.geometry):
        write_labels(segmentation.labels.clip(0, 2), volume.geometry, out / LABELS)
    else:
        remark(f"{out / LABELS}: not written, for NIfTI cannot place slices that are not evenly spaced; the SEG can")
    write_overlays(volume, segmentation, findings, out, names)
    say(f"{out}: liver {findings.liver_volume_ml:.0f} mL, {findings.lesion_count} lesions")
    for lesion in findings.lesions:
        said = [
            f"{lesion.size.long_axis_mm:.0f} x {lesion.size.short_axis_mm:.0f} mm",
            f"{lesion.size.volume_ml:.1f} mL",
        ]
        said += [] if lesion.values.hu_mean is None else [f"{lesion.values.hu_mean:.0f} HU"]
        say(f"  lesion {lesion.number}: {', '.join(said)}")


def _clear(out: Path, names: Sequence[str]) -> None:
    """Remove the results of an earlier run, which could be taken for this one's; nothing else."""
    numbered = [folder for folder in out.glob("[0-9]*") if folder.name.isdecimal() and folder.is_dir()]
    for folder in (out, *numbered):
        for name in names:
            for earlier in folder.glob(name):
                earlier.unlink()
        if folder in numbered and not any(folder.iterdir()):
            folder.rmdir()


def remark(line: str) -> None:
    """Print one line on stderr."""
    warn(f"porta: {line}")
