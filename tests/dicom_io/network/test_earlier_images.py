"""The images of earlier studies, named and given by a real Orthanc."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from dicom_io.earlier_studies import Study
from dicom_io.errors import PeerError
from dicom_io.files.image_writer import write_ct_series
from dicom_io.network.earlier import asking
from dicom_io.network.earlier_images import MOST_STUDIES, SLICES, earlier_series
from dicom_io.network.scu import Remote, store
from models.phantom import grid
from tests.dicom_io.network.conftest import PATIENCE_S

GRID = grid(slices=4, rows=16, columns=16, spacing_mm=(5.0, 3.0, 3.0), seed=1)
OURS = Study("1.2.9.1", "ZZPHI-7", date="20240501", time="101500")


def series(folder: Path, seed: str, when: datetime, **about: str) -> list[Path]:
    about = {"patient_name": "ZZPHI^Canary", "patient_id": "ZZPHI-7"} | about
    return write_ct_series(
        np.zeros(GRID.shape, np.int16), GRID, folder / "sent" / seed, seed=seed, acquired=when, **about
    )


def test_the_latest_studies_are_named_and_one_is_brought_as_it_is_kept(orthanc: Remote, tmp_path: Path) -> None:
    """Not today's, another's, another modality's; a compressed series comes compressed, byte for byte."""
    dates = [*(datetime(2024, month, 1, 9) for month in (1, 2, 3, 4)), datetime(2024, 4, 30, 9)]
    dates += [datetime(2024, 5, 1, 9), datetime(2024, 6, 1, 9)]  # earlier on the same day; later
    studies = [series(tmp_path, f"{when:%m%d}", when) for when in dates]
    series(tmp_path, "other", dates[3], patient_id="ZZPHI-8")
    for path in studies[4]:
        ds = dcmread(path)
        ds.SeriesDescription = "Abdomen"
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.save_as(path)
    everything = sorted(path for path in (tmp_path / "sent").rglob("*") if path.is_file())
    store(orthanc, everything, calling_ae_title="US", timeout_s=PATIENCE_S)

    how = {"calling_ae_title": "US", "timeout_s": PATIENCE_S, "limit_s": 60.0, "most": 4}
    with asking(orthanc, OURS, SLICES, directory=tmp_path / "fetched", **how) as session:
        named = earlier_series(session, "CT")
        assert earlier_series(session, "MR") == []
        headers = [dcmread(paths[0]) for paths in reversed(studies[5 - MOST_STUDIES : 5])]
        assert [[each.series_instance_uid for each in one] for one in named] == [
            [ds.SeriesInstanceUID] for ds in headers
        ]
        (chosen,) = named[0]
        uids = (chosen.study.study_instance_uid, chosen.series_instance_uid)
        assert uids == (headers[0].StudyInstanceUID, headers[0].SeriesInstanceUID)
        assert (chosen.description, chosen.images) == ("Abdomen", 4)
        assert "Abdomen" not in repr(chosen)  # free text of a header
        paths = session.bring(*uids)
    given = {dcmread(path).SOPInstanceUID: dcmread(path) for path in studies[4]}
    assert len(paths) == 4
    for path in paths:
        ds = dcmread(path)
        assert ds.file_meta.TransferSyntaxUID == RLELossless
        assert ds.PixelData == given[ds.SOPInstanceUID].PixelData

    # Orthanc looks at the series alone
    with asking(orthanc, OURS, SLICES, directory=tmp_path / "none", **how) as session:
        assert session.bring("1.2.3", uids[1]) == []
    how["most"] = 3
    with asking(orthanc, OURS, SLICES, directory=tmp_path / "few", **how) as session, pytest.raises(PeerError):
        session.bring(*uids)
    assert len(list((tmp_path / "few").iterdir())) == 3
