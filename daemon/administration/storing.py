"""`porta check --store`: an object that says that it is a test, stored at a destination."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daemon.administration.checked import Checked, Result
from daemon.administration.peer_checks import remedy
from daemon.configuration.config import Config, Destination
from daemon.delivery.archives import reach
from daemon.delivery.statuses import ADVICE
from dicom_io.errors import PeerError
from reports.objects.marked_object import PATIENT_ID, marked_sr


def store_test_object(config: Config, destination: Destination) -> Iterator[Checked]:
    """Store an SR that says that it is a test, and ask whether it is there."""
    name, peer = f"storing at {destination.peer}", config.peer(destination.peer)
    form = next((form for form in sorted(destination.profile.forms, key=lambda form: form.name) if form.sr_class), None)
    if form is None or form.sr_class is None:
        yield Checked(name, Result.OK, "takes no SR, which the test object is: nothing was sent")
        return
    archive = reach(config, destination)
    sr = marked_sr(form.sr_class)
    try:
        with tempfile.TemporaryDirectory(prefix="porta-check-") as folder:
            path = Path(folder) / "sr.dcm"
            sr.save_as(path, enforce_file_format=True)
            status = archive.store(path)
        yield Checked(
            name, Result.OK, f"took a test object (0x{status:04X}); patient {PATIENT_ID}, to be deleted there"
        )
        if destination.confirm == "query":
            keywords = ("study", "series", "sop")
            uids = (sr.StudyInstanceUID, sr.SeriesInstanceUID, sr.SOPInstanceUID)
            where: dict[str, Any] = {f"{key}_instance_uid": str(uid) for key, uid in zip(keywords, uids, strict=True)}
            held, asked = archive.holds(**where), "QIDO-RS" if peer.url else "C-FIND"
            said = f"has it, as it answered to {asked}" if held else "took it with success and does not have it"
            result = Result.OK if held else Result.FAILED
            yield Checked(name, result, said, None if held else ADVICE["NOT_HELD"])
    except PeerError as error:
        yield Checked(name, Result.FAILED, str(error), remedy(error, config, peer))
