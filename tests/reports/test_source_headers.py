"""One set of usable copies serves every object of a volume."""

import copy
from io import BytesIO

import pytest
from pydicom import Dataset

from reports.objects.key_images import build_key_images
from reports.objects.seg import build_seg
from reports.objects.sr import build_sr
from reports.objects.sr_bidirectional import build_bidirectional_sr


def written(ds: Dataset) -> bytes:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


BUILDERS = [build_seg, build_sr, build_bidirectional_sr, build_key_images]


@pytest.mark.parametrize("how", [{}, {"frame_numbers": tuple(range(3, 17))}], ids=["images", "frames of one image"])
def test_shared_copies_give_the_same_objects(make_case, identity, how) -> None:
    """With copies made for each object and with one set for all: the same bytes, and nothing is left in the set."""
    example = make_case(**how)
    case, seg = example.reported(identity), example.seg(identity)
    before = copy.deepcopy(case.source.usable)
    shared = [written(ds) for build in BUILDERS for ds in build(case)]
    assert case.source.usable == before
    assert shared == [written(ds) for build in BUILDERS for ds in build(example.reported(identity, seg=seg))]
