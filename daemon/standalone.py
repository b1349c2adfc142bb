"""What needs no service: to segment one study, and to make a phantom."""

import json
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import Progress

from daemon.spool import write_durably
from daemon.stages import FINDINGS, Engine, findings_bytes, identity_of, model_on, software_version, write_results
from dicom_io.archive import dicom_files
from dicom_io.errors import NotDicom, SeriesRejected
from dicom_io.image_writer import write_ct_series
from dicom_io.nifti import read_nifti, write_labels
from dicom_io.segmentation import Segmentation
from dicom_io.series import Series, arrange, group_by_series, read_volume
from dicom_io.volume import Volume
from models.inference import segment
from models.phantom import Phantom, grid, make_phantom
from reports.measurements import Findings, measure
from reports.overlays import write_overlays


def segment_input(source: Path, out: Path, *, model: str, device: str, threads: int | None) -> None:
    """Segment every series of a DICOM folder or zip, or one NIfTI, and write the results below `out`.

    Raises NotDicom, NotNifti, SeriesRejected (when no series could be read), ModelError.
    """
    engine = Engine(device=device, threads=threads)
    if source.name.endswith((".nii", ".nii.gz")):
        _segment_nifti(source, out, model, engine)
        return
    with tempfile.TemporaryDirectory(prefix="porta-segment-") as workdir:
        groups, unreadable = group_by_series(dicom_files(source, Path(workdir)))
        if not groups:
            raise unreadable[0] if unreadable else NotDicom(source, "holds no files")
        for error in unreadable:
            print(f"porta: {error}", file=sys.stderr)
        refused: list[SeriesRejected] = []
        done = 0
        for uid, members in sorted(groups.items()):
            try:
                series = arrange([header for header, _ in members], [path for _, path in members])
                _segment_series(series, out if done == 0 else out / str(done + 1), model, engine)
                done += 1
            except SeriesRejected as error:
                if len(groups) == 1:
                    raise
                print(f"porta: series {uid}: {error}", file=sys.stderr)
                refused.append(error)
        if not done:
            raise refused[0]


def _segment_nifti(source: Path, out: Path, model: str, engine: Engine) -> None:
    volume = read_nifti(source)
    segmentation = _segmented(volume, model, engine)
    findings = measure(volume, segmentation, tracking_seed=volume.series_instance_uid)
    write_durably(out / FINDINGS, findings_bytes(findings, segmentation.algorithm, software_version()))
    _write_pictures(volume, segmentation, findings, out)


def _segment_series(series: Series, out: Path, model: str, engine: Engine) -> None:
    volume = read_volume(series)
    segmentation = _segmented(volume, model, engine)
    identity = identity_of(
        str(series.headers[0].StudyInstanceUID),
        series.series_instance_uid,
        revision=1,
        created=datetime.now(UTC),
        software_version=software_version(),
    )
    for earlier in (*out.glob("seg.dcm"), *out.glob("sr.dcm"), *out.glob("overlay-*.png")):
        earlier.unlink()
    reported = write_results(series, volume, segmentation, out, identity)
    _write_pictures(volume, segmentation, reported.findings, out)


def _segmented(volume: Volume, model: str, engine: Engine) -> Segmentation:
    network = model_on(model, engine)
    with Progress(transient=True) as progress:
        task = progress.add_task(f"segmenting on {network.device}", total=None)
        return segment(network, volume, lambda done, of: progress.update(task, completed=done, total=of))


def _write_pictures(volume: Volume, segmentation: Segmentation, findings: Findings, out: Path) -> None:
    """Labels as NIfTI (0, 1 liver, 2 every lesion) and the overlays; a line a result on stdout."""
    write_labels(segmentation.labels.clip(0, 2), volume.geometry, out / "labels.nii.gz")
    write_overlays(volume, segmentation, findings, out)
    print(f"{out}: liver {findings.liver_volume_ml:.0f} mL, {findings.lesion_count} lesions")
    for lesion in findings.lesions:
        axes = f"{lesion.long_axis_mm:.0f} x {lesion.short_axis_mm:.0f} mm"
        print(f"  lesion {lesion.number}: {axes}, {lesion.volume_ml:.1f} mL, {lesion.hu_mean:.0f} HU")


@dataclass(frozen=True)
class WrittenPhantom:
    """A phantom, and its files."""

    phantom: Phantom
    paths: list[Path]


def write_phantom(
    out: Path,
    *,
    seed: int,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    lesions: int | None,
    lesion_axes_mm: tuple[float, float],
    noise_hu: float,
) -> WrittenPhantom:
    """A phantom CT series in OUT/dicom, its truth in OUT/truth.nii.gz and OUT/truth.json.

    Raises NotDicom when `out` holds files already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise NotDicom(out, "not an empty folder")
    geometry = grid(slices=shape[0], rows=shape[1], columns=shape[2], spacing_mm=spacing_mm, seed=seed)
    phantom = make_phantom(geometry, seed=seed, lesions=lesions, lesion_axes_mm=lesion_axes_mm, noise_hu=noise_hu)
    name = "-".join(map(str, (seed, *shape, *spacing_mm, lesions, *lesion_axes_mm, noise_hu)))
    paths = write_ct_series(phantom.volume.array, geometry, out / "dicom", seed=name)
    write_labels(phantom.truth, geometry, out / "truth.nii.gz")
    volumes = geometry.voxel_volumes_mm3[:, None, None] / 1000
    truth = {
        "seed": seed,
        "liver_volume_ml": float(((phantom.truth > 0) * volumes).sum()),
        "lesions": [{"centre_lps_mm": lesion.centre, "semi_axes_mm": lesion.axes} for lesion in phantom.lesions],
        "lesion_volume_ml": float(((phantom.truth > 1) * volumes).sum()),
    }
    (out / "truth.json").write_text(json.dumps(truth, indent=2))
    return WrittenPhantom(phantom, paths)
