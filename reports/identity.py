"""Who makes a result, when, and under which UIDs: the same job and revision give the same identity again."""

from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_io.uids import derive_uid

MANUFACTURER_MODEL_NAME = "Porta"


@dataclass(frozen=True)
class ResultIdentity:
    """What the SEG and the SR of one job, revision and volume are called.

    `seed` names the job; every UID derives from it, so that walking an edge twice makes the same objects.
    `volume_index` counts the volumes of one series. `created` is UTC; in the objects it is written in the
    node's own time, as the study's times are, unless the source states its offset. SEG and SR of the first volume
    get the series numbers `series_number` + 1 and + 2, of the next ones 10 more each: high ones, so that viewers
    list the results after the images. `volume_label` is what tells the volume from its siblings and stands in the
    SeriesDescription ("AcquisitionNumber 3"); "" for an only one.
    """

    seed: str
    revision: int
    created: datetime
    software_version: str
    volume_index: int = 0
    volume_label: str = ""
    manufacturer: str = "Porta Hepatis"
    series_number: int = 9000

    def __post_init__(self) -> None:
        if not self.seed:
            raise ValueError("an identity needs a seed")
        if self.revision < 1 or self.volume_index < 0 or self.series_number < 0:
            raise ValueError("revisions count from 1, volumes and series from 0")
        if self.created.utcoffset() != UTC.utcoffset(None):
            raise ValueError("created must be UTC")

    @property
    def seg_series_instance_uid(self) -> str:
        """SeriesInstanceUID of the SEG."""
        return self._uid("seg-series")

    @property
    def seg_sop_instance_uid(self) -> str:
        """SOPInstanceUID of the SEG."""
        return self._uid("seg-instance")

    @property
    def seg_dimension_organization_uid(self) -> str:
        """DimensionOrganizationUID of the SEG."""
        return self._uid("seg-dimensions")

    @property
    def sr_series_instance_uid(self) -> str:
        """SeriesInstanceUID of the SR."""
        return self._uid("sr-series")

    @property
    def sr_sop_instance_uid(self) -> str:
        """SOPInstanceUID of the SR."""
        return self._uid("sr-instance")

    @property
    def device_observer_uid(self) -> str:
        """The software release as an observer; the same for every result it makes."""
        return derive_uid("device", self.manufacturer, self.software_version)

    @property
    def tracking_seed(self) -> str:
        """What the tracking UIDs of a volume's lesions derive from: other volumes, other lesions."""
        return f"{self.seed}/{self.volume_index}" if self.volume_index else self.seed

    @property
    def liver_tracking_uid(self) -> str:
        """Tracking UID of the liver, in SEG and SR; revisions share it, as they share the lesions'."""
        return derive_uid("liver", self.seed, self.volume_index)

    @property
    def summary_tracking_uid(self) -> str:
        """Tracking UID of the SR's group about the liver as a whole."""
        return derive_uid("summary", self.seed, self.volume_index)

    @property
    def seg_series_number(self) -> int:
        """SeriesNumber of the SEG."""
        return self.series_number + 10 * self.volume_index + 1

    @property
    def sr_series_number(self) -> int:
        """SeriesNumber of the SR."""
        return self.series_number + 10 * self.volume_index + 2

    def _uid(self, kind: str) -> str:
        return derive_uid(kind, self.seed, self.revision, self.volume_index)
