"""What the worker process does with one series: segment it, write its results, or why there are none. Files in and out.

Each stage is a function of one request (`daemon.worker.requests`) and can be walked twice: what an earlier walk has
written whole is kept, never made again. A series may hold several volumes; each that is segmented
has a folder, named by its index; the first stage writes down which ones those are.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path

from pydicom import Dataset

from daemon.choice import TAKING_BACK
from daemon.errors import FileDamaged
from daemon.ledger.rows import Compared
from daemon.log import get_logger
from daemon.storage.integrity import check_spooled
from daemon.storage.sidecar import read_spooled
from daemon.storage.spool import progress_file
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
from daemon.worker.predecessors import Predecessors, replaced_at
from daemon.worker.prior_images import Segmenting, segmented_prior
from daemon.worker.priors import Priors, compare_with_priors, fetch_priors
from daemon.worker.requests import (
    Engine,
    Reported,
    ReportRequest,
    Result,
    SegmentRequest,
    ShadowRequest,
    VerdictRequest,
    WarmUpRequest,
)
from daemon.worker.results import discard_unsound, keep_sums, write_once, write_results
from daemon.worker.sources import open_spooled, spooled_series
from dicom_io.errors import NotDicom, RejectReason, SeriesRejected, SeriesWarning
from dicom_io.files.identity import Place, place
from dicom_io.files.image_file import read_dataset
from dicom_io.files.values import put
from dicom_io.files.whole_files import sync_folder
from dicom_io.pixels import read_volume
from dicom_io.progress import Progress
from dicom_io.segmentation import LIVER, Segmentation
from dicom_io.series.hounsfield import refuse_other_values
from dicom_io.series.preference import chosen_stacks
from dicom_io.series.series import Series
from dicom_io.series.stacks import Stack
from dicom_io.volume import Volume
from models.cards import find, fitting
from models.disagreement import Disagreement, disagreement
from models.explain import gradcam, look
from models.forward import Shortage, warm_up
from models.inference import Model, load_model, segment, segment_with_probabilities
from models.maps import Heat
from reports.findings.findings import Findings, without_hcc
from reports.identity import ResultIdentity
from reports.objects.case import Case, measured_case
from reports.objects.key_images import LESION_IMAGES
from reports.objects.kinds import Form, Need
from reports.objects.seg_fractional import TUMOUR
from reports.objects.sr import build_rejection_sr
from reports.objects.verification import HELD_BACK
from reports.pages.heat_page import GRADCAM, Explanation
from reports.source_headers import left_out

COARSE_SHARE = 0.1
"""As much of a segmentation is the coarse pass."""

log = get_logger()


@lru_cache(maxsize=2)
def model_on(name: str, engine: Engine) -> Model:
    """The model, loaded once per process. Raises ModelError.

    The log has its device: a worker that finds no GPU, "auto" lets it, computes on the CPU for as long as it lives.
    """
    model = load_model(
        find(name),
        device=engine.device,
        threads=engine.threads,
        sharers=engine.workers,
        compiled=engine.compiled,
        notice=_memory_short,
    )
    log.info("model.loaded", model=model.card.name, version=model.card.version, device=model.device.type)
    return model


def _memory_short(shortage: Shortage) -> None:
    log.warning("memory.short", device=shortage.device, slices=shortage.batch)


def segmented_by(model: str, engine: Engine, volume: Volume) -> Segmentation:
    """Segment a volume. Raises ModelError."""
    return segment(model_on(fitting(model, volume.modality), engine), volume)


def load_models(request: WarmUpRequest) -> None:
    """Load models, and have each look once, before the first series needs them. Raises ModelError."""
    for model in request.models:
        warm_up(model_on(model, request.engine))


def refuse_without_model(series: Series, model: str) -> None:
    """Raise SeriesRejected(NO_MODEL) where the model is not made for the modality of the series. Loads no weights."""
    card = find(fitting(model, series.modality))
    if not card.takes(series.modality):
        made_for = " and ".join(card.modalities)
        detail = f"{card.name} is made for {made_for}, and the series is {series.modality}."
        raise SeriesRejected(RejectReason.NO_MODEL, detail)


def segment_series(request: SegmentRequest) -> tuple[str, ...]:
    """Segment a series, and return the warnings. A volume that cannot be read is left out where there are others.

    Raises SeriesRejected, NotDicom, ModelError.
    """
    work = request.work
    series = spooled_series(request.paths)
    refuse_without_model(series, request.model)
    stacks, note = chosen_stacks(series, request.prefer)
    needs = frozenset(need for profile in request.profiles for need in profile.needs)
    segmented: dict[int, tuple[str, ...]] = {}
    unread: list[tuple[Stack, SeriesRejected]] = []
    for number, stack in enumerate(stacks):
        try:
            model = model_on(fitting(request.model, series.modality), request.engine)
            tell = _percent_kept(work, number, len(stacks))
            found = _segment_stack(stack, model, work / str(stack.index), needs, tell)
        except SeriesRejected as error:
            unread.append((stack, error))
            continue
        segmented[stack.index] = found
    if not segmented:
        raise unread[0][1]
    empty = _ranges_without_liver([stack for stack in stacks if stack.index in segmented], work)
    reported = [index for index in segmented if index not in {stack.index for stack in empty}]
    warnings = [code for index in reported for code in segmented[index]]
    left_out = (str(SeriesWarning.LEFT_OUT),) if unread or empty else ()
    notes = [note, *(f"Volume {stack.index + 1} could not be read ({error.reason})." for stack, error in unread)]
    notes += [said_of_empty(stack) for stack in empty]
    save_segmented(Segmented(tuple(reported), " ".join(filter(None, notes)), left_out), work)
    return tuple(dict.fromkeys([*warnings, *left_out]))


def _ranges_without_liver(stacks: Sequence[Stack], work: Path) -> list[Stack]:
    """The ranges in which no liver was found, where there is one in another: of these nothing is reported."""
    empty = [stack for stack in stacks if stack.is_range and not load_labels(work / str(stack.index)).any()]
    return empty if len(empty) < len(stacks) else []


def said_of_empty(stack: Stack) -> str:
    """Return the sentence of a report about a range in which there is no liver."""
    length_mm = float(stack.geometry.slice_widths_mm.sum())
    return f"There is no liver in {stack.label} ({stack.geometry.slices} slices, {length_mm:.0f} mm): left out."


def _percent_kept(work: Path, volume: int, volumes: int) -> Progress:
    """A Progress of two passes over one of several volumes, kept in `work` as the percent of all that is done."""
    passes, kept = 0, -1

    def tell(done: int, of: int) -> None:
        nonlocal passes, kept
        passes += done == 0
        first, rest = (0.0, COARSE_SHARE) if passes < 2 else (COARSE_SHARE, 1 - COARSE_SHARE)
        percent = int(100 * (volume + first + rest * done / of) / volumes)
        if percent > kept:
            kept = percent
            with suppress(OSError):
                work.mkdir(parents=True, exist_ok=True, mode=0o700)
                progress_file(work).write_text(str(percent))

    return tell


def _segment_stack(
    stack: Stack, model: Model, work: Path, needs: frozenset[Need], progress: Progress
) -> tuple[str, ...]:
    """Segment one volume in a separate function, so that its memory is free before the next one comes."""
    volume = read_volume(stack)
    refuse_other_values(volume)
    if Need.PROBABILITIES in needs:
        segmentation, probabilities = segment_with_probabilities(model, volume, progress)
        save_probabilities(probabilities, work)
    else:
        segmentation = segment(model, volume, progress)
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


def shadow_series(request: ShadowRequest) -> Compared:
    """Return how far the labels of another model are from those in `work`. Writes nothing.

    Raises SeriesRejected, NotDicom, FileDamaged, WorkDamaged (the labels), ModelError.
    """
    series = spooled_series(request.paths)
    refuse_without_model(series, request.model)
    stacks = {stack.index: stack for stack in series.stacks}
    other = model_on(fitting(request.model, series.modality), request.engine)
    volumes = [
        {"volume_index": index, **asdict(_compare_stack(stacks[index], other, request.work / str(index)))}
        for index in load_segmented(request.work, labels_only=True).volumes
    ]
    return Compared(other.card.version, other.card.sha256, tuple(volumes))


def _compare_stack(stack: Stack, model: Model, work: Path) -> Disagreement:
    volume = read_volume(stack)
    return disagreement(load_segmentation(work, stack.geometry), segment(model, volume))


def report_series(request: ReportRequest) -> Reported:
    """Measure what `work` holds, write the objects of each volume, and prove each SEG's geometry.

    Raises GeometryNotProved, SourceUnusable, ModelError, FileDamaged, WorkDamaged.
    """
    work, outbox = request.work, request.outbox
    stacks = {stack.index: stack for stack in spooled_series(request.paths).stacks}
    segmented = load_segmented(work)
    if request.is_incomplete:
        segmented = replace(segmented, warnings=(*segmented.warnings, str(SeriesWarning.INCOMPLETE)))
    first = stacks[segmented.volumes[0]]
    _log_left_out(read_dataset(first.slices[0].path))
    priors = _priors(first, segmented, request)
    replaced = replaced_at(place(first.slices[0].header.identity), request.replaced)
    predecessors = Predecessors(first.study_instance_uid, segmented.volumes, replaced)
    needs = frozenset(need for profile in request.profiles for need in profile.needs)
    results: list[Result] = []
    warnings: list[str] = []
    for index in segmented.volumes:
        stack = stacks[index]
        of_volume = replace(request.identity, volume_index=index, volume_label=stack.label)
        case = _measured(stack, segmented, work / str(index), of_volume, needs)
        case = replace(
            case, findings=compare_with_priors(case.findings, case.segmentation, case.source.headers[0], priors)
        )
        if "hcc" not in request.oncology:
            case = replace(case, findings=without_hcc(case.findings))
        discard_unsound(outbox / str(index))
        results += write_results(case, outbox / str(index), profiles=request.profiles, predecessors=predecessors)
        keep_sums(outbox / str(index))
        warnings += case.findings.warnings
    sync_folder(outbox.parent)  # the job's own folder came with that of its first volume
    return Reported(tuple(results), tuple(dict.fromkeys(warnings)))


def _log_left_out(header: Dataset) -> None:
    """Name what a header says of patient and study and the results do not, because it has no valid form."""
    if attributes := left_out(header):
        log.warning("attributes.left_out", attributes=list(attributes))


def _priors(first: Stack, segmented: Segmented, request: ReportRequest) -> Priors:
    """Return what the findings are compared with: earlier results, else an earlier study that is segmented for it."""
    priors = fetch_priors(first.slices[0].path, request.archives, request.work)
    with_images = [archive for archive in request.archives if archive.images]
    if with_images and not priors.objects and not priors.failed and _has_liver(request.work, segmented):
        again = Segmenting(partial(segmented_by, request.model, request.engine), request.prefer, request.memory_mb)
        return segmented_prior(first, with_images, request.work, request.identity, again)
    return priors


def _has_liver(work: Path, segmented: Segmented) -> bool:
    return any(load_labels(work / str(index)).any() for index in segmented.volumes)


def _measured(stack: Stack, segmented: Segmented, work: Path, identity: ResultIdentity, needs: frozenset[Need]) -> Case:
    """Return the case of one volume, with the results of the first stage that its objects need."""
    segmentation = load_segmentation(work, stack.geometry)
    segmentation = replace(segmentation, warnings=segmentation.warnings + segmented.warnings)
    case = measured_case(stack, read_volume(stack), segmentation, identity=identity, note=segmented.note)
    kept = load_probabilities(work) if Need.PROBABILITIES in needs else None
    heats = load_explanations(work) if Need.EXPLANATIONS in needs else {}
    return replace(
        case,
        probabilities={} if kept is None else {LIVER: kept.liver, TUMOUR: kept.tumour},
        explanations=_explanations(case.findings, heats),
    )


def _explanations(findings: Findings, heats: Mapping[int, Heat]) -> dict[int, Explanation]:
    """Grad-CAM of the lesions whose maps the first stage kept, each on its key slice."""
    explanations = {}
    for lesion in findings.lesions:
        if heat := heats.get(lesion.segment - LIVER):
            plane, highest = lesion.place.key_slice, float(heat.values.max(initial=0.0))
            explanations[lesion.segment] = Explanation(GRADCAM, plane, heat.plane(plane), highest)
    return explanations


def report_verdict(request: VerdictRequest) -> Reported:
    """Write the SRs that say why a series has no results: one for each patient and study that its images name.

    Raises SourceUnusable, NotDicom, FileNotFoundError.
    """
    sentence = _verdict_sentence(request.paths, request.code, request.model, request.memory_mb)
    results: list[Result] = []
    for index, (at, headers) in enumerate(_headers_by_place(request.paths, request.current).items()):
        study = next((str(ds.StudyInstanceUID) for ds in headers if "StudyInstanceUID" in ds), "")
        results += _write_verdict(
            headers,
            sentence,
            replace(request, identity=replace(request.identity, volume_index=index)),
            Predecessors(study, (index,), replaced_at(at, request.replaced)),
        )
    if results:
        sync_folder(request.outbox.parent)
    return Reported(tuple(results), ())


def _write_verdict(
    headers: Sequence[Dataset], sentence: str, request: VerdictRequest, predecessors: Predecessors
) -> list[Result]:
    """Write the SR of the images with these headers, in each form that it is taken in."""
    results: dict[Form, Result] = {}
    index = request.identity.volume_index
    outbox = request.outbox / str(index)
    discard_unsound(outbox)
    forms = {profile.form_of("verdict") for profile in request.profiles if profile.takes_verdicts}
    takes_back = [sr for item in predecessors.replaced for sr in item.srs] if request.code in TAKING_BACK else []
    for form in dict.fromkeys(profile.form_of("verdict") for profile in request.profiles if profile.takes_verdicts):

        def build(form: Form = form) -> Dataset:
            return build_rejection_sr(
                headers,
                sentence,
                request.code,
                identity=request.identity,
                predecessors=predecessors.references(takes_back or predecessors.of(form, forms, index)),
                form=form,
            )

        results[form] = write_once(outbox / f"{form.name}.dcm", build, form, volume_index=index)
    if results:
        _log_left_out(headers[0])
        keep_sums(outbox)
    return list(results.values())


UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def _headers_by_place(paths: Sequence[Path], current: Sequence[Path]) -> dict[Place, list[Dataset]]:
    """The UIDs of every object that has all of them, the first of each patient and study with all that its file says.

    Without those that are filed where one of `current` is. Where no object has the UIDs, one entry holds nothing.
    """
    taken = {place(read_spooled(path).header.identity) for path in current}
    found: dict[Place, list[Dataset]] = {}
    nothing = True
    for path in paths:
        with suppress(FileDamaged, NotDicom):
            check_spooled(path)
            header = read_spooled(path).header
            uids = (
                header.sop_class_uid,
                header.sop_instance_uid,
                header.series_instance_uid,
                header.study_instance_uid,
            )
            at = place(header.identity)
            if not all(uids):
                continue
            nothing = False
            if at in taken:
                continue
            headers = found.setdefault(at, [])
            ds = Dataset() if headers else read_dataset(path)
            for keyword, value in zip((*UIDS, "Modality"), (*uids, header.modality), strict=True):
                put(ds, keyword, value)
            headers.append(ds)
    return {(): []} if nothing else found


def _verdict_sentence(paths: Sequence[Path], code: str, model: str, memory_mb: int | None) -> str:
    """Return the meaning of the code, with its figures where the headers still give them."""
    if code not in list(RejectReason):
        return HELD_BACK
    if code == RejectReason.REASSIGNED:
        return RejectReason.REASSIGNED.sentence
    try:
        refuse_without_model(open_spooled(paths, memory_mb), model)
    except SeriesRejected as error:
        if error.reason == code:
            return error.sentence
    return RejectReason(code).sentence
