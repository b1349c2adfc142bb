"""Every object that a destination can ask for, of every real series that is accepted: clean, and by other readers."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.objects.key_images import build_key_images
from reports.objects.pdf import build_pdf
from reports.objects.seg_fractional import build_fractional_seg
from reports.objects.sr import build_sr
from reports.objects.sr_bidirectional import build_bidirectional_sr
from reports.objects.sr_combined import build_combined_sr

ACCEPTED = [
    "chaos_ct3/ct_dicom",
    "dcm_qa_ct/ge_tilt18_variable_gap_dicom",
    "dcm_qa_mr/philips_enhanced_mr_multiframe_dicom",
    "dcm_qa_mr/philips_enhanced_mr_plus_raw_data_same_series_dicom",
    "dcm_qa_mr/philips_magnitude_and_phase_two_echoes_one_series_dicom",
    "dcm_qa_mr/philips_sagittal_mprage_170_dicom",
    "hcc_tace_seg_007/ct_precontrast_10mm_dicom",
    "hcc_tace_seg_007/ct_two_phases_in_one_series_dicom",
    "ircadb_case17/ct_dicom",
    "lits_volume0/ct_dicom",
]
"""As docs/conformance.md has them, which a test compares with what `porta series` says."""


def test_no_accepted_series_is_left_out() -> None:
    """The list is that of the conformance page."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "conformance.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if ".zip` | ACCEPTED |" in line]
    assert sorted(row[1].strip(" `").removesuffix(".zip") for row in rows) == ACCEPTED


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_object_is_clean(real_volumes, identity, validate, require_binary, tmp_path, name) -> None:
    """dciodvfy finds nothing that the source does not bring; DCMTK parses the trees of the SRs."""
    dsrdump = require_binary("dsrdump")
    case = real_volumes(name)[-1]
    one = replace(identity, volume_index=1, volume_label="EchoTime 2")
    numbers, algorithm = case.volume.frame_numbers, case.segmentation.algorithm
    of = {"identity": one, "frame_numbers": numbers}
    seg = case.seg(one)
    sr = build_sr(case.headers, case.findings, algorithm, seg=seg, **of)
    diameters = build_bidirectional_sr(case.headers, case.volume.geometry, case.findings, algorithm, **of)
    geometry = case.volume.geometry
    both = build_combined_sr(case.headers, geometry, case.findings, algorithm, seg=seg, **of)
    shown = case.headers, case.volume, case.segmentation, case.findings
    fractions = {1: np.uint8(200) * (case.segmentation.labels > 0), 2: np.uint8(99) * (case.segmentation.labels > 1)}
    probability = build_fractional_seg(case.headers, case.volume.geometry, fractions, algorithm, **of)
    objects = [seg, sr, diameters, both, probability, build_pdf(*shown, **of), *build_key_images(*shown, **of)]
    assert len({ds.SeriesInstanceUID for ds in objects}) == len({ds.SeriesNumber for ds in objects}) == 7
    for ds in objects:
        assert validate(ds) == [], ds.SeriesDescription
        assert ds.StudyInstanceUID == case.headers[0].StudyInstanceUID
    for report in (sr, diameters, both):
        report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        done = subprocess.run([dsrdump, str(tmp_path / "sr.dcm")], capture_output=True, text=True, check=True)
        assert done.stderr == ""
