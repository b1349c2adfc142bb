"""Every length, area and volume against scikit-image and SimpleITK: on phantoms, and on the truth of a real patient."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import label
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from scipy.stats import kurtosis, scoreatpercentile, skew
from skimage.measure import find_contours, marching_cubes, mesh_surface_area

from dicom_io.pixels import read_volume
from dicom_io.segmentation import Segmentation
from dicom_io.series.series import open_series
from dicom_io.volume import Volume
from models.phantom import grid, make_phantom
from reports.findings.measurements import Findings, measure
from tests.reports.findings.test_measurements import ALGORITHM

FERET_VOXELS = 20_000
"""Of lesions larger than this SimpleITK takes long to compare every pair of voxels of the border."""


@pytest.fixture(params=["phantom 1", "phantom 2", "ircadb_case17"])
def measured(request, shared_data, unpacked) -> tuple[Volume, Segmentation, Findings]:
    """A CT, its truth with one number for each tumour, and what was measured."""
    name, _, seed = request.param.partition(" ")
    if name == "phantom":
        geometry = grid(slices=70, rows=180, columns=180, spacing_mm=(3.0, 1.9, 2.1), seed=int(seed))
        phantom = make_phantom(geometry, seed=int(seed), lesions=6)
        volume, labels = phantom.volume, (phantom.truth > 0).astype(np.uint8)
        parts, count = label(phantom.truth == 2)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        for number, part in enumerate(np.argsort(-sizes, kind="stable"), start=2):
            labels[parts == part + 1] = number
    else:
        (stack,) = open_series(unpacked(f"{name}/ct_dicom")).stacks
        volume = read_volume(stack)
        order = np.argsort(np.argsort(stack.geometry.origins_lps_mm[:, 2]))
        truth, instances = (
            np.asarray(nibabel.load(shared_data / name / file).dataobj).transpose(2, 1, 0)[order]
            for file in ("labels.nii.gz", "tumour_instances.nii.gz")
        )
        labels = (truth > 0).astype(np.uint8)
        numbers, counts = np.unique(instances[instances > 0], return_counts=True)
        for number, instance in enumerate(numbers[np.argsort(-counts, kind="stable")], start=2):
            labels[instances == instance] = number
    segmentation = Segmentation(labels, volume.geometry, ALGORITHM)
    return volume, segmentation, measure(volume, segmentation, tracking_seed="job")


def test_figures_agree_with_simpleitk_and_scikit_image(measured) -> None:
    """Volumes within 0.1 %, lengths and centres within half a pixel, meshes and values exactly.

    SimpleITK's Feret diameter runs from voxel centre to voxel centre of the border: longer than that by the extent of
    one voxel in its direction is ours, which runs between the midpoints of outer edges.
    """
    volume, segmentation, findings = measured
    geometry, labels = volume.geometry, segmentation.labels
    spacing = np.array([geometry.step_mm, geometry.row_spacing_mm, geometry.column_spacing_mm])
    half_pixel = spacing[1:].min() / 2
    image, values = (sitk.GetImageFromArray(array) for array in (labels, volume.array))
    for each in (image, values):
        each.SetSpacing(spacing[::-1].tolist())
    shapes, statistics = sitk.LabelShapeStatisticsImageFilter(), sitk.LabelStatisticsImageFilter()
    shapes.Execute(image)
    statistics.Execute(values, image)
    assert findings.lesions
    liver = sum(shapes.GetPhysicalSize(number) for number in shapes.GetLabels())
    assert findings.liver_volume_ml == pytest.approx(liver / 1000, rel=1e-3)
    tumours = sum(shapes.GetPhysicalSize(number) for number in shapes.GetLabels() if number > 1)
    assert findings.burden_percent == pytest.approx(100 * tumours / liver, rel=1e-3)
    assert findings.lesion_count == shapes.GetNumberOfLabels() - 1
    for lesion in findings.lesions:
        assert lesion.size.volume_ml == pytest.approx(shapes.GetPhysicalSize(lesion.segment) / 1000, rel=1e-3)
        assert lesion.values.hu_mean == pytest.approx(statistics.GetMean(lesion.segment))
        inside = volume.array[labels == lesion.segment].astype(float)
        # SimpleITK divides by n - 1, IBSI by n
        sigma = statistics.GetSigma(lesion.segment) * ((len(inside) - 1) / len(inside)) ** 0.5
        assert lesion.values.hu_sd == pytest.approx(sigma)
        assert (lesion.values.hu_p10, lesion.values.hu_p50, lesion.values.hu_p90) == pytest.approx(
            scoreatpercentile(inside, (10, 50, 90))
        )
        assert (lesion.values.skewness, lesion.values.kurtosis) == pytest.approx((skew(inside), kurtosis(inside)))
        centre = np.array(shapes.GetCentroid(lesion.segment))[::-1] / spacing
        assert np.linalg.norm(geometry.index_to_lps(centre) - lesion.place.centroid_lps_mm) < half_pixel
        first = [slice(*(bound + [0, extent])) for bound, extent in _boxes(shapes, lesion.segment)]
        mask = labels[first[0], first[1], first[2]] == lesion.segment
        vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=tuple(spacing))
        assert lesion.shape.surface_mm2 == pytest.approx(mesh_surface_area(vertices, faces), rel=1e-5)
        apexes = vertices[faces].astype(float)
        enclosed_mm3 = abs(np.linalg.det(apexes).sum()) / 6
        assert lesion.shape.mesh_volume_ml == pytest.approx(enclosed_mm3 / 1000, rel=1e-4)
        corners = vertices[ConvexHull(vertices).vertices].astype(float)
        assert lesion.size.diameter_3d_mm == pytest.approx(pdist(corners).max(), abs=1e-3)
        if np.count_nonzero(mask) < FERET_VOXELS:
            feret = _feret(mask, spacing)
            assert feret < lesion.size.diameter_3d_mm <= feret + np.linalg.norm(spacing)
        lengths = [_outline_diameter(plane, spacing[1:]) for plane in mask]
        assert lesion.size.long_axis_mm == pytest.approx(max(lengths), abs=half_pixel)
        key = lesion.place.key_slice - first[0].start
        assert lengths[key] == pytest.approx(max(lengths))
        across = _widest_across(mask[key], lesion, geometry, first)
        assert lesion.size.short_axis_mm == pytest.approx(across, abs=half_pixel)
        assert lesion.place.touches_border == any(
            part.start == 0 or part.stop == size for part, size in zip(first, labels.shape, strict=True)
        )


def _feret(mask, spacing) -> float:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1].tolist())
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.ComputeFeretDiameterOn()
    shapes.Execute(image)
    return float(shapes.GetFeretDiameter(1))


def _boxes(shapes, number):
    box = shapes.GetBoundingBox(number)
    return [(np.array([box[axis], box[axis]]), box[axis + 3]) for axis in (2, 1, 0)]


def _outline_diameter(plane, spacing) -> float:
    """The longest distance between two points of scikit-image's outline of a slice."""
    outlines = find_contours(np.pad(plane, 1).astype(float), 0.5)
    return float(pdist(np.concatenate(outlines) * spacing).max()) if outlines else 0.0


def _widest_across(plane, lesion, geometry, first) -> float:
    """The longest chord across the long axis, by 2001 rays through the half-planes of the convex outline."""
    ends = geometry.lps_to_index(lesion.size.axis_end_points_lps_mm[0])[:, 1:] - [first[1].start, first[2].start]
    spacing = np.array([geometry.row_spacing_mm, geometry.column_spacing_mm])
    ends = ends * spacing
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    across = np.array([-along[1], along[0]])
    outline = np.concatenate(find_contours(np.pad(plane, 1).astype(float), 0.5)) - 1
    sides = ConvexHull(outline * spacing).equations
    lengths = []
    for place in ends[0] + np.linspace(0, 1, 2001)[:, None] * (ends[1] - ends[0]):
        # Each side cuts the ray off above or below
        towards, behind = sides[:, :2] @ across, -(sides[:, :2] @ place + sides[:, 2])
        reach = behind / np.where(np.abs(towards) < 1e-12, np.nan, towards)
        lengths.append(np.nanmin(reach[towards > 0]) - np.nanmax(reach[towards < 0]))
    return max(lengths)
