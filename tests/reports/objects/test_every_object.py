"""Every object that a destination can ask for, of every real series that is accepted: clean, and by other readers."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.objects.case import build, verify
from reports.objects.kinds import CHOICES, KINDS
from reports.pages.heat_page import GRADCAM, Explanation

ACCEPTED = [
    "chaos_ct3/ct_dicom",
    "dcm_qa_ct/ge_tilt18_variable_gap_dicom",
    "dcm_qa_mr/philips_enhanced_mr_multiframe_dicom",
    "dcm_qa_mr/philips_enhanced_mr_plus_raw_data_same_series_dicom",
    "dcm_qa_mr/philips_magnitude_and_phase_two_echoes_one_series_dicom",
    "dcm_qa_mr/philips_sagittal_mprage_170_dicom",
    "hcc_tace_seg_007/ct_precontrast_10mm_dicom",
    "hcc_tace_seg_007/ct_two_phases_in_one_series_dicom",
    "hcc_tace_seg_013/study1_recon3_jpegls_dicom",
    "hcc_tace_seg_013/study2_recon3_jpegls_dicom",
    "ircadb_case17/ct_dicom",
    "ircadb_case19/ct_dicom",
    "lits_volume0/ct_dicom",
]
"""As docs/series.md has them, which a test compares with what `porta series` says."""


def test_no_accepted_series_is_left_out() -> None:
    """The list is that of the conformance page."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "series.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if ".zip` | ACCEPTED |" in line]
    assert sorted(row[1].strip(" `").removesuffix(".zip") for row in rows) == ACCEPTED


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_object_is_clean(real_volumes, identity, validate, require_binary, tmp_path, name) -> None:
    """dciodvfy finds nothing that the source does not bring; DCMTK parses the trees of the SRs."""
    dsrdump = require_binary("dsrdump")
    example = real_volumes(name)[-1]
    one = replace(identity, volume_index=1, volume_label="EchoTime 2")
    labels, lesion = example.segmentation.labels, example.findings.lesions[0]
    heat = np.ones(labels.shape[1:], np.float32)
    case = example.reported(
        one,
        probabilities={1: np.uint8(200) * (labels > 0), 2: np.uint8(99) * (labels > 1)},
        explanations={lesion.segment: Explanation(GRADCAM, lesion.place.key_slice, heat, 1.0)},
    )
    objects = {name: build(case, KINDS[name]) for name in CHOICES}
    for name, built in objects.items():
        (series,) = {(ds.SeriesInstanceUID, ds.SeriesNumber, ds.SeriesDescription) for ds in built}
        number = 9010 + KINDS[name].series_offset
        assert series == (one.series_instance_uid(name), number, f"{KINDS[name].description} (EchoTime 2)"[:64])
        for ds in built:
            assert validate(ds) == [], name
            assert ds.StudyInstanceUID == case.source.headers[0].StudyInstanceUID
        if KINDS[name].verify:
            built[0].save_as(tmp_path / "proved.dcm", enforce_file_format=True)
            verify(case, KINDS[name], tmp_path / "proved.dcm")
    for report in (ds for name, built in objects.items() if KINDS[name].is_sr for ds in built):
        report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        done = subprocess.run([dsrdump, str(tmp_path / "sr.dcm")], capture_output=True, text=True, check=True)
        assert done.stderr == ""
