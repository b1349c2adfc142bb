"""One set of usable copies serves every object of a volume."""

import copy
from io import BytesIO

import pytest
from pydicom import Dataset

from reports.objects.key_images import build_key_images
from reports.objects.seg import build_seg
from reports.objects.sr import build_sr
from reports.objects.sr_bidirectional import build_bidirectional_sr
from reports.source_headers import usable_headers


def written(ds: Dataset) -> bytes:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def objects_of(case, identity, sources) -> list[bytes]:
    of = {"identity": identity, "frame_numbers": case.volume.frame_numbers, "sources": sources}
    algorithm = case.segmentation.algorithm
    seg = build_seg(case.headers, case.segmentation, case.findings, **of)
    sr = build_sr(case.headers, case.findings, algorithm, seg=seg, **of)
    diameters = build_bidirectional_sr(case.headers, case.volume.geometry, case.findings, algorithm, **of)
    images = build_key_images(case.headers, case.volume, case.segmentation, case.findings, **of)
    return [written(ds) for ds in (seg, sr, diameters, *images)]


@pytest.mark.parametrize("how", [{}, {"frame_numbers": tuple(range(3, 17))}], ids=["images", "frames of one image"])
def test_shared_copies_give_the_same_objects(make_case, identity, how) -> None:
    """With copies made for each object and with one set for all: the same bytes, and nothing is left in the set."""
    case = make_case(**how)
    sources = usable_headers(case.headers, case.volume.geometry.frame_of_reference_uid)
    before = copy.deepcopy(sources)
    shared = objects_of(case, identity, sources)
    assert sources == before
    assert shared == objects_of(case, identity, ())
