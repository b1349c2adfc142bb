"""The objects of one volume, in the outbox: each written once, each SEG read back and proved before it is a result.

seg.dcm, sr.dcm, …               one for each name that a destination's profile gives (`Form.name`)
probability.dcm                  the FRACTIONAL SEG, proved as well
key_images-<n>.dcm, …            further objects, of which a volume has several
findings.json                    the numbers
seg.dcm.held-back                a SEG that does not lie where the findings lie; never sent, and made anew by a retry
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydicom import Dataset, dcmread, dcmwrite

from daemon.spool import write_durably
from daemon.worker.predecessors import NO_PREDECESSORS, Predecessors
from daemon.worker.priors import NO_PRIORS, Priors, compared
from daemon.worker.requests import Result, SentSr
from dicom_io.segmentation import Algorithm, Segmentation
from dicom_io.series import Stack, stack_headers
from dicom_io.volume import Volume
from models.maps import Heat, Probabilities
from reports.errors import GeometryNotProved
from reports.findings.measurements import Findings, measure
from reports.identity import ResultIdentity
from reports.objects import seg_fractional
from reports.objects.explanation_images import build_explanation_images
from reports.objects.findings_json import findings_json
from reports.objects.key_images import build_key_images
from reports.objects.kinds import KINDS, Form, form_of
from reports.objects.pdf import build_pdf
from reports.objects.profile import Profile
from reports.objects.seg import build_seg
from reports.objects.sr import build_sr
from reports.objects.sr_bidirectional import build_bidirectional_sr
from reports.objects.sr_combined import build_combined_sr
from reports.objects.verification import verify_fractions, verify_seg
from reports.pages.heat_page import GRADCAM, Explanation
from reports.source_headers import usable_headers

FINDINGS = "findings.json"

SEG_REFERENCE = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"]
"""What an SR needs of the SEG that it refers to."""


@dataclass(frozen=True, eq=False)
class Material:
    """What the objects of a volume are made of; `headers` and `frame_numbers` are its images in slice order."""

    stack: Stack
    headers: tuple[Dataset, ...]
    volume: Volume
    segmentation: Segmentation
    findings: Findings
    identity: ResultIdentity
    volume_note: str
    probabilities: Probabilities | None = None
    heats: Mapping[int, Heat] = field(default_factory=dict)

    @property
    def frame_numbers(self) -> tuple[int | None, ...]:
        """The frame of each slice, None for a single-frame image."""
        return self.stack.frame_numbers

    @cached_property
    def sources(self) -> Sequence[Dataset]:
        """What the builders make of the headers, made once for all of them. Raises SourceUnusable."""
        return usable_headers(self.headers, self.volume.geometry.frame_of_reference_uid)


def _key_images(material: Material) -> Sequence[Dataset]:
    return build_key_images(
        material.headers,
        material.volume,
        material.segmentation,
        material.findings,
        identity=material.identity,
        frame_numbers=material.frame_numbers,
        sources=material.sources,
        volume_note=material.volume_note,
    )


def _pdf(material: Material) -> Sequence[Dataset]:
    return [
        build_pdf(
            material.headers,
            material.volume,
            material.segmentation,
            material.findings,
            identity=material.identity,
            frame_numbers=material.frame_numbers,
            sources=material.sources,
            volume_note=material.volume_note,
        )
    ]


def _explanations(material: Material) -> Sequence[Dataset]:
    """Grad-CAM of the lesions whose maps the first stage kept, each on its key slice."""
    explanations = {}
    for lesion in material.findings.lesions:
        if heat := material.heats.get(lesion.number):
            plane, highest = lesion.place.key_slice, float(heat.values.max(initial=0.0))
            explanations[lesion.number] = Explanation(GRADCAM, plane, heat.plane(plane), highest)
    return build_explanation_images(
        material.headers,
        material.volume,
        material.segmentation,
        material.findings,
        explanations,
        identity=material.identity,
        frame_numbers=material.frame_numbers,
        sources=material.sources,
    )


FURTHER_OBJECTS: dict[str, Callable[[Material], Sequence[Dataset]]] = {
    "key_images": _key_images,
    "pdf": _pdf,
    "explain": _explanations,
}
"""Builders of what else a destination may name in `objects`: any number of objects of a volume, alike for everybody.
The same material must give the same objects, in the same order."""


@contextmanager
def _without_search_for_cycles() -> Iterator[None]:
    """The objects of a volume are some hundred thousand elements, none of them garbage before the last is written.

    Python, which would look through all of them again and again meanwhile, takes an eighth of the time for that.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_search_for_cycles()
def write_results(
    stack: Stack,
    volume: Volume,
    segmentation: Segmentation,
    outbox: Path,
    *,
    identity: ResultIdentity,
    profiles: Sequence[Profile] = (Profile(),),
    volume_note: str = "",
    predecessors: Predecessors = NO_PREDECESSORS,
    probabilities: Probabilities | None = None,
    heats: Mapping[int, Heat] = MappingProxyType({}),
    priors: Priors = NO_PRIORS,
) -> tuple[Findings, tuple[Result, ...]]:
    """Every object that one of `profiles` names, once, and findings.json.

    Without a liver there is no SEG; without a lesion no SR of diameters, and the other SR says so. But where it has
    earlier diameters to supersede, or anything and the profile has no other SR, there is one of diameters that says so
    too. A SEG is there for the SR that refers to it, even where no
    profile names it. Without a liver, or where they were not kept, there are no `probabilities` either. The findings
    are compared with `priors`. Raises GeometryNotProved, SourceUnusable.
    """
    headers = stack_headers(stack)
    findings = measure(volume, segmentation, tracking_seed=identity.tracking_seed)
    findings = compared(findings, segmentation, headers[0], priors)
    material = Material(stack, headers, volume, segmentation, findings, identity, volume_note, probabilities, heats)
    results: dict[Form, list[Result]] = {}
    forms = {form for profile in profiles for form in profile.forms if form.kind != "verdict"}
    for profile in profiles:
        seg = _seg(material, profile, outbox, results) if findings.liver_volume_ml > 0 else None
        for form in map(profile.form_of, profile.objects):
            if form in results:
                continue
            srs = predecessors.of(form, forms, identity.volume_index)
            superseded = predecessors.references(srs)
            kind = KINDS[form.kind]
            if kind.refers_to_seg or (kind.is_sr and (findings.lesions or _is_awaited(profile, srs))):
                results[form] = [_report(material, profile, outbox, form, seg, superseded)]
            elif form.kind == "probability" and probabilities is not None and findings.liver_volume_ml > 0:
                results[form] = [_probability(material, probabilities, outbox)]
            elif form.kind in FURTHER_OBJECTS:
                results[form] = _further(material, form, outbox)
    write_durably(outbox / FINDINGS, findings_bytes(findings, segmentation.algorithm, identity.software_version))
    return findings, tuple(result for form in results for result in results[form])


def _is_awaited(profile: Profile, superseded: Sequence[SentSr]) -> bool:
    """Whether an SR of diameters has a place without a lesion: that of earlier ones, or of the only SR there is."""
    alone = not any(KINDS[kind].refers_to_seg for kind in profile.objects)
    return any(alone or sr.form.kind == "sr_bidirectional" for sr in superseded)


def _seg(material: Material, profile: Profile, outbox: Path, results: dict[Form, list[Result]]) -> Dataset:
    """The SEG of a profile as it lies on the disk, which becomes a result once it is proved."""
    form = profile.form_of("seg")
    path = outbox / f"{form.name}.dcm"
    if form not in results:
        results[form] = [
            kept(
                form,
                path,
                lambda: build_seg(
                    material.headers,
                    material.segmentation,
                    material.findings,
                    identity=material.identity,
                    frame_numbers=material.frame_numbers,
                    sources=material.sources,
                    seg_type=profile.seg_type,
                    name=form.name,
                ),
                material.identity,
            )
        ]
        _prove(path, material)
    return dcmread(path, specific_tags=SEG_REFERENCE)


def _prove(path: Path, material: Material) -> None:
    with _held_back_unless_proved(path):
        verify_seg(
            path,
            material.volume.geometry,
            material.segmentation,
            material.findings,
            material.stack.sop_instance_uids,
            material.frame_numbers,
        )


@contextmanager
def _held_back_unless_proved(path: Path) -> Iterator[None]:
    """Put the object at `path` aside where GeometryNotProved is raised."""
    try:
        yield
    except GeometryNotProved:
        path.replace(path.with_name(f"{path.name}.held-back"))
        raise


def _probability(material: Material, probabilities: Probabilities, outbox: Path) -> Result:
    """The FRACTIONAL SEG, proved as the other one is."""
    values = {seg_fractional.LIVER: probabilities.liver, seg_fractional.TUMOUR: probabilities.tumour}
    form = form_of("probability")
    geometry, path = material.volume.geometry, outbox / f"{form.name}.dcm"
    result = kept(
        form,
        path,
        lambda: seg_fractional.build_fractional_seg(
            material.headers,
            geometry,
            values,
            material.segmentation.algorithm,
            identity=material.identity,
            frame_numbers=material.frame_numbers,
            sources=material.sources,
        ),
        material.identity,
    )
    with _held_back_unless_proved(path):
        verify_fractions(path, geometry, values, material.stack.sop_instance_uids, material.frame_numbers)
    return result


def _report(
    material: Material, profile: Profile, outbox: Path, form: Form, seg: Dataset | None, superseded: Sequence[Dataset]
) -> Result:
    """One of the SRs that a profile may name; that of diameters refers to images alone, the others to the SEG."""
    algorithm = material.segmentation.algorithm
    geometry = material.volume.geometry
    common: dict[str, Any] = {
        "identity": material.identity,
        "predecessors": superseded,
        "frame_numbers": material.frame_numbers,
        "volume_note": material.volume_note,
        "sr_class": profile.sr_class,
        "name": form.name,
    }

    def build() -> Dataset:
        headers, findings = material.headers, material.findings
        if form.kind == "sr_bidirectional":
            common["sources"] = material.sources
            return build_bidirectional_sr(headers, geometry, findings, algorithm, **common)
        common["seg"], common["sources"] = seg, material.sources if seg is not None else ()
        if form.kind == "sr_combined":
            return build_combined_sr(headers, geometry, findings, algorithm, **common)
        return build_sr(headers, findings, algorithm, **common)

    return kept(form, outbox / f"{form.name}.dcm", build, material.identity)


def _further(material: Material, form: Form, outbox: Path) -> list[Result]:
    def keep(number: int, ds: Dataset) -> Result:
        return kept(form, outbox / f"{form.name}-{number}.dcm", lambda: ds, material.identity)

    return [keep(number, ds) for number, ds in enumerate(FURTHER_OBJECTS[form.kind](material), start=1)]


def kept(form: Form, path: Path, build: Callable[[], Dataset], identity: ResultIdentity) -> Result:
    """The object at `path`, built and written durably if no earlier walk did."""
    if path.exists():
        ds: Dataset = dcmread(path, specific_tags=["SOPInstanceUID", "SeriesInstanceUID"])
    else:
        ds = build()
        buffer = BytesIO()
        dcmwrite(buffer, ds, enforce_file_format=True)
        write_durably(path, buffer.getbuffer())
    return Result(form, str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), path, identity.volume_index)


def findings_bytes(findings: Findings, algorithm: Algorithm, software_version: str) -> bytes:
    """`findings.json` as it lies on the disk."""
    content: dict[str, Any] = findings_json(findings, algorithm, software=f"porta-hepatis {software_version}")
    return json.dumps(content, indent=2).encode()
