"""A destination as it is reached: by DICOM, or by DICOMweb where its peer has a `url`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from daemon.configuration.config import Config, Destination
from daemon.errors import DestinationGone
from dicom_io.network import scu
from dicom_io.network.scu import Remote
from dicom_io.pace import Pace
from dicom_io.web import objects
from dicom_io.web.service import WebService


class Archive(Protocol):
    """What delivery asks of a destination."""

    def store(self, path: Path) -> int:
        """Store a file as it is; return 0x0000, or a warning. Raises PeerError, NotDicom, FileNotFoundError."""
        ...

    def holds(self, *, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether it has the instance. Raises PeerError."""
        ...


def reach(config: Config, destination: Destination, pace: Pace | None = None) -> Archive:
    """Return how a destination is reached, and at which pace. Raises DestinationGone."""
    peer = config.peer(destination.peer)
    if peer.url is not None:
        return _ByWeb(peer.web_service, destination.timeout_s, pace)
    return _ByDicom(remote_of(config, destination), config.dicom.ae_title, destination.timeout_s, pace)


def remote_of(config: Config, destination: Destination) -> Remote:
    """Return where a destination listens. Raises DestinationGone."""
    peer = config.peer(destination.peer)
    if peer.host is None or peer.port is None:  # the configuration is checked for this; a later one may differ
        raise DestinationGone(destination.peer)
    return Remote(peer.ae_title, peer.host, peer.port, config.tls_with(peer))


@dataclass(frozen=True)
class _ByDicom:
    remote: Remote
    calling_ae_title: str
    timeout_s: float
    pace: Pace | None

    def __str__(self) -> str:
        return str(self.remote)

    def store(self, path: Path) -> int:
        (status,) = scu.store(
            self.remote,
            [path],
            calling_ae_title=self.calling_ae_title,
            timeout_s=self.timeout_s,
            pace=self.pace,
        )
        return status

    def holds(self, *, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        return scu.holds(
            self.remote,
            study_instance_uid=study_instance_uid,
            series_instance_uid=series_instance_uid,
            sop_instance_uid=sop_instance_uid,
            calling_ae_title=self.calling_ae_title,
            timeout_s=self.timeout_s,
        )


@dataclass(frozen=True)
class _ByWeb:
    service: WebService
    timeout_s: float
    pace: Pace | None

    def __str__(self) -> str:
        return str(self.service)

    def store(self, path: Path) -> int:
        return objects.store(self.service, path, timeout_s=self.timeout_s, pace=self.pace)

    def holds(self, *, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        return objects.holds(
            self.service,
            study_instance_uid=study_instance_uid,
            series_instance_uid=series_instance_uid,
            sop_instance_uid=sop_instance_uid,
            timeout_s=self.timeout_s,
        )
