"""What the worker process does with one series: segment it, write its results, or why there are none. Files in and out.

Each stage is a function of paths and plain values, so that it can be sent to another process and walked twice: what
an earlier walk has written whole is kept, never made again. A series may hold several volumes; each that is segmented
has a folder of its own, named by its index, and which ones those are is written down by the first stage.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from pydicom import Dataset

from daemon.ledger.rows import Compared
from daemon.log import get_logger
from daemon.sidecar import read_spooled
from daemon.spool import sync_folder
from daemon.worker.handover import (
    Segmented,
    load_explanations,
    load_labels,
    load_probabilities,
    load_segmentation,
    load_segmented,
    save_explanations,
    save_probabilities,
    save_segmentation,
    save_segmented,
)
from daemon.worker.predecessors import Predecessors, Replaced
from daemon.worker.prior_images import Segmenting, segmented_prior
from daemon.worker.priors import Archive, Priors, fetch_priors
from daemon.worker.results import Result, kept, write_results
from daemon.worker.sources import open_spooled, spooled_series
from dicom_io.errors import NotDicom, RejectReason, SeriesRejected, SeriesWarning
from dicom_io.image_file import read_dataset
from dicom_io.pixels import read_volume
from dicom_io.preference import chosen_stacks
from dicom_io.segmentation import LIVER, Segmentation
from dicom_io.series import Series, Stack
from dicom_io.volume import Volume
from models.cards import find
from models.disagreement import Disagreement, disagreement
from models.explain import Heat, gradcam, look
from models.forward import Shortage
from models.inference import Model, load_model, segment, segment_with_probabilities
from reports.findings.measurements import Findings
from reports.identity import ResultIdentity
from reports.objects.key_images import LESION_IMAGES
from reports.objects.kinds import Form, Need
from reports.objects.profile import Profile
from reports.objects.sr import build_rejection_sr
from reports.objects.verification import HELD_BACK

log = get_logger()


def software_version() -> str:
    """The version that stands in every SEG and SR."""
    return version("porta-hepatis")


@dataclass(frozen=True)
class Engine:
    """Where and how a model runs."""

    device: str = "auto"
    threads: int | None = None
    compiled: bool = False


@dataclass(frozen=True)
class Reported:
    """What the report stage leaves: the objects of all volumes in the order they are to be sent, and the warnings."""

    results: tuple[Result, ...]
    warnings: tuple[str, ...]


@lru_cache(maxsize=2)
def model_on(name: str, engine: Engine) -> Model:
    """The model, loaded once per process. Raises ModelError.

    The log has its device: a worker that finds no GPU, "auto" lets it, computes on the CPU for as long as it lives.
    """
    model = load_model(
        find(name), device=engine.device, threads=engine.threads, compiled=engine.compiled, notice=_memory_short
    )
    log.info("model.loaded", model=model.card.name, version=model.card.version, device=model.device.type)
    return model


def _memory_short(shortage: Shortage) -> None:
    log.warning("memory.short", device=shortage.device, slices=shortage.batch)


def segmented_by(model: str, engine: Engine, volume: Volume) -> Segmentation:
    """What the model finds in a volume. Raises ModelError."""
    return segment(model_on(model, engine), volume)


def load_models(models: Sequence[str], engine: Engine) -> None:
    """Load models before the first series needs them. Raises ModelError."""
    for model in models:
        model_on(model, engine)


def refuse_without_model(series: Series, model: str) -> None:
    """Raise SeriesRejected(NO_MODEL) where the model is not made for the modality of the series. Loads no weights."""
    card = find(model)
    if not card.takes(series.modality):
        made_for = " and ".join(card.modalities)
        detail = f"{card.name} is made for {made_for}, and the series is {series.modality}."
        raise SeriesRejected(RejectReason.NO_MODEL, detail)


def segment_series(
    paths: Sequence[Path],
    model: str,
    engine: Engine,
    work: Path,
    prefer: str,
    profiles: Sequence[Profile] = (Profile(),),
) -> tuple[str, ...]:
    """Segment the volumes of a series that `prefer` chooses, and keep the labels of volume i in `work`/i.

    And what else the `profiles` of the destinations need of the network. Returns the warnings. A volume whose pixels
    cannot be read is left out where there are others.
    Raises SeriesRejected, NotDicom, ModelError.
    """
    series = spooled_series(paths)
    refuse_without_model(series, model)
    stacks, note = chosen_stacks(series, prefer)
    needs = frozenset(need for profile in profiles for need in profile.needs)
    segmented: list[int] = []
    warnings: list[str] = []
    unread: list[tuple[Stack, SeriesRejected]] = []
    for stack in stacks:
        try:
            warnings += _segment_stack(stack, model_on(model, engine), work / str(stack.index), needs)
            segmented.append(stack.index)
        except SeriesRejected as error:
            unread.append((stack, error))
    if not segmented:
        raise unread[0][1]
    left_out = (str(SeriesWarning.LEFT_OUT),) if unread else ()
    notes = [note, *(f"Volume {stack.index + 1} could not be read ({error.reason})." for stack, error in unread)]
    save_segmented(Segmented(tuple(segmented), " ".join(filter(None, notes)), left_out), work)
    return tuple(dict.fromkeys([*warnings, *left_out]))


def _segment_stack(stack: Stack, model: Model, work: Path, needs: frozenset[Need]) -> tuple[str, ...]:
    """A function of its own, so that one volume is gone from memory before the next one comes."""
    volume = read_volume(stack)
    if Need.PROBABILITIES in needs:
        segmentation, probabilities = segment_with_probabilities(model, volume)
        save_probabilities(probabilities, work)
    else:
        segmentation = segment(model, volume)
    if Need.EXPLANATIONS in needs:
        save_explanations(_explained(model, volume, segmentation), work)
    save_segmentation(segmentation, work)
    return segmentation.warnings


def _explained(model: Model, volume: Volume, segmentation: Segmentation) -> dict[int, Heat]:
    """Grad-CAM of the largest lesions, by number; none where the network does not find the liver again.

    Nor where there is no memory for it: gradients need more than the segmentation, which stands without them.
    """
    numbers = range(1, min(segmentation.lesion_count, LESION_IMAGES) + 1)
    try:
        scene = look(model, volume, segmentation) if numbers else None
        return {} if scene is None else {number: gradcam(scene, number + LIVER) for number in numbers}
    except MemoryError:
        log.warning("explanation.left_out", lesions=len(numbers))
        return {}


def shadow_series(paths: Sequence[Path], model: str, engine: Engine, work: Path) -> Compared:
    """Segment the volumes of which `work` has labels with another model, and say how far the two are apart.

    Writes nothing. Raises SeriesRejected, NotDicom, FileNotFoundError (the labels are gone), ModelError.
    """
    series = spooled_series(paths)
    refuse_without_model(series, model)
    stacks = {stack.index: stack for stack in series.stacks}
    other = model_on(model, engine)
    volumes = [
        {"volume_index": index, **asdict(_compare_stack(stacks[index], other, work / str(index)))}
        for index in load_segmented(work).volumes
    ]
    return Compared(other.card.version, other.card.sha256, tuple(volumes))


def _compare_stack(stack: Stack, model: Model, work: Path) -> Disagreement:
    volume = read_volume(stack)
    return disagreement(load_segmentation(work, stack.geometry), segment(model, volume))


def report_series(
    paths: Sequence[Path],
    work: Path,
    outbox: Path,
    identity: ResultIdentity,
    profiles: Sequence[Profile] = (Profile(),),
    replaced: Sequence[Replaced] = (),
    archives: Sequence[Archive] = (),
    again: Segmenting | None = None,
) -> Reported:
    """Measure what `work` holds, write the objects of volume i to `outbox`/i, and prove each SEG's geometry.

    `identity` is that of the first volume; `profiles` say what the destinations take. The SRs supersede those of
    `replaced`. The findings are compared with what `archives` have of the patient's earlier studies; where that is
    nothing but images, these are segmented as `again` says. Raises GeometryNotProved, SourceUnusable, ModelError.
    """
    stacks = {stack.index: stack for stack in spooled_series(paths).stacks}
    segmented = load_segmented(work)
    priors = fetch_priors(stacks[segmented.volumes[0]].slices[0].path, archives, work)
    with_images = [archive for archive in archives if archive.images]
    if again and with_images and not priors.objects and not priors.failed and _has_liver(work, segmented):
        first = stacks[segmented.volumes[0]]
        priors = segmented_prior(first, with_images, work, identity, again)
    results: list[Result] = []
    warnings: list[str] = []
    for index in segmented.volumes:
        stack = stacks[index]
        findings, written = _report_stack(
            stack,
            segmented,
            work / str(index),
            outbox / str(index),
            replace(identity, volume_index=index, volume_label=stack.label),
            profiles,
            Predecessors(stack.study_instance_uid, segmented.volumes, tuple(replaced)),
            priors,
        )
        results += written
        warnings += findings.warnings
    sync_folder(outbox.parent)  # the job's own folder came with that of its first volume
    return Reported(tuple(results), tuple(dict.fromkeys(warnings)))


def _has_liver(work: Path, segmented: Segmented) -> bool:
    return any(load_labels(work / str(index)).any() for index in segmented.volumes)


def _report_stack(
    stack: Stack,
    segmented: Segmented,
    work: Path,
    outbox: Path,
    identity: ResultIdentity,
    profiles: Sequence[Profile],
    predecessors: Predecessors,
    priors: Priors,
) -> tuple[Findings, tuple[Result, ...]]:
    needs = frozenset(need for profile in profiles for need in profile.needs)
    segmentation = load_segmentation(work, stack.geometry)
    segmentation = replace(segmentation, warnings=segmentation.warnings + segmented.warnings)
    return write_results(
        stack,
        read_volume(stack),
        segmentation,
        outbox,
        identity=identity,
        profiles=profiles,
        volume_note=segmented.note,
        predecessors=predecessors,
        probabilities=load_probabilities(work) if Need.PROBABILITIES in needs else None,
        heats=load_explanations(work) if Need.EXPLANATIONS in needs else {},
        priors=priors,
    )


def report_verdict(
    paths: Sequence[Path],
    outbox: Path,
    identity: ResultIdentity,
    code: str,
    model: str,
    memory_mb: int | None,
    profiles: Sequence[Profile] = (Profile(),),
    replaced: Sequence[Replaced] = (),
) -> Reported:
    """Write to `outbox`/0 the SR that says why the series has no results, in each class that `profiles` ask for.

    `code` is a RejectReason, or GEOMETRY_NOT_PROVED; `model` and `memory_mb` are what the series was judged for.
    Raises SourceUnusable, NotDicom, FileNotFoundError.
    """
    headers = _verdict_headers(paths)
    sentence = _verdict_sentence(paths, code, model, memory_mb)
    study = next((str(ds.StudyInstanceUID) for ds in headers if "StudyInstanceUID" in ds), "")
    predecessors = Predecessors(study, replaced=tuple(replaced))
    results: dict[Form, Result] = {}
    forms = {profile.form_of("verdict") for profile in profiles if profile.takes_verdicts}
    for profile in profiles:
        form = profile.form_of("verdict")
        if form in results or not profile.takes_verdicts:
            continue

        def build(form: Form = form, profile: Profile = profile) -> Dataset:
            return build_rejection_sr(
                headers,
                sentence,
                code,
                identity=identity,
                predecessors=predecessors.references(predecessors.of(form, forms, 0)),
                sr_class=profile.sr_class,
                name=form.name,
            )

        results[form] = kept(form, outbox / "0" / f"{form.name}.dcm", build, identity)
    if results:
        sync_folder(outbox.parent)
    return Reported(tuple(results.values()), ())


def _verdict_headers(paths: Sequence[Path]) -> list[Dataset]:
    """The UIDs of every object that has all of them, the first with all that its file says."""
    headers: list[Dataset] = []
    for path in paths:
        with suppress(NotDicom):
            header = read_spooled(path).header
            uids = (
                header.sop_class_uid,
                header.sop_instance_uid,
                header.series_instance_uid,
                header.study_instance_uid,
            )
            if not all(uids):
                continue
            ds = Dataset() if headers else read_dataset(path)
            ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID = uids
            ds.Modality = header.modality
            headers.append(ds)
    return headers


def _verdict_sentence(paths: Sequence[Path], code: str, model: str, memory_mb: int | None) -> str:
    """What the code means, and the figures behind it where the headers still give them."""
    if code not in list(RejectReason):
        return HELD_BACK
    try:
        refuse_without_model(open_spooled(paths, memory_mb), model)
    except SeriesRejected as error:
        if error.reason == code:
            return error.sentence
    return RejectReason(code).sentence


def identity_of(
    study_instance_uid: str, series_instance_uid: str, *, revision: int, created: datetime, software_version: str
) -> ResultIdentity:
    """The identity of a series' results: the same whenever and wherever the same revision is made."""
    seed = f"{study_instance_uid}/{series_instance_uid}"
    return ResultIdentity(seed=seed, revision=revision, created=created, software_version=software_version)
