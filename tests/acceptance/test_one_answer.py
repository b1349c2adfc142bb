"""A study of several series, phases and late slices gets one answer, and says what it replaces."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmread

from daemon.jobs import State
from dicom_io.errors import RejectReason
from dicom_io.seg_reader import read_seg
from dicom_io.series.series import open_series
from tests.acceptance.conftest import Site, comments, until


def test_the_portal_phase_of_the_better_series(site: Site, unpacked: Callable[[str], list[Path]]) -> None:
    """HCC_007: 10 mm before contrast, and two phases in one series; the second phase of that one is reported."""
    phases = unpacked("hcc_tace_seg_007/ct_two_phases_in_one_series_dicom")
    native = unpacked("hcc_tace_seg_007/ct_precontrast_10mm_dicom")
    site.start()
    everything = [*phases, *native]
    assert site.send(random.Random(3).sample(everything, len(everything))) == len(everything)
    until(lambda: sorted(site.states()) == [State.CONFIRMED, State.REJECTED], seconds=280, what="one answer")

    reasons = {job.series_instance_uid: job.reject_reason for job in site.jobs()}
    source = dcmread(phases[0], stop_before_pixels=True)
    assert reasons.pop(str(source.SeriesInstanceUID)) is None
    assert list(reasons.values()) == [RejectReason.SUPERSEDED_BY_BETTER]
    seg_paths, sr_paths = site.results(str(source.StudyInstanceUID))
    assert (len(seg_paths), len(sr_paths)) == (1, 1)
    assert "AcquisitionNumber 3" in comments(dcmread(sr_paths[0]))

    portal = open_series(phases).stacks[1]
    assert portal.label == "AcquisitionNumber 3"
    for segment in read_seg(seg_paths[0]):
        assert {uid for frame in segment.source_sop_instance_uids for uid in frame} <= set(portal.sop_instance_uids)
        planes = portal.geometry.lps_to_index(segment.origins_lps_mm)
        assert np.abs(planes - np.rint(planes)).max() < 1e-3
    liver = read_seg(seg_paths[0])[0]
    assert liver.volume_ml > 500


def test_a_late_slice_makes_a_revision_that_says_so(site: Site, phantom_series: Callable[[int], list[Path]]) -> None:
    """The first results stand with a slice missing and say it; the next ones name them and have all slices."""
    paths = phantom_series(1)
    late = paths[17]
    site.start()
    assert site.send([path for path in paths if path != late]) == len(paths) - 1
    until(lambda: site.states() == [State.CONFIRMED], seconds=280, what="the first answer")
    study = str(dcmread(late).StudyInstanceUID)
    (first,) = (dcmread(path) for path in site.results(study, "first")[1])
    assert "MISSING_SLICES" in comments(first)

    assert site.send([late]) == 1
    until(lambda: site.states() == [State.CONFIRMED] * 2, seconds=280, what="the second answer")
    segs, srs = ([dcmread(path) for path in kind] for kind in site.results(study, "second"))
    assert (len(segs), len(srs)) == (2, 2)
    (second,) = (sr for sr in srs if sr.SOPInstanceUID != first.SOPInstanceUID)
    (predecessor,) = second.PredecessorDocumentsSequence
    named = predecessor.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == first.SOPInstanceUID
    assert "MISSING_SLICES" not in comments(second)
    assert sorted("revision 2" in seg.ContentDescription for seg in segs) == [False, True]
