"""Who makes a result, when, and under which UIDs: the same job and revision give the same identity again."""

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from pydicom import Dataset

from dicom_io.files import values
from dicom_io.files.uids import derive_uid

MANUFACTURER = "Porta Hepatis"
MANUFACTURER_MODEL_NAME = "Porta"


def software_version() -> str:
    """The version that stands in every SEG and SR."""
    return version("porta-hepatis")


@dataclass(frozen=True)
class ResultIdentity:
    """The UIDs, numbers and time of the SEG and the SR of one job, revision and volume.

    `seed` names the job; every UID derives from it, so that walking an edge twice makes the same objects.
    `volume_index` counts the volumes of one series. `created` is UTC; in the objects it is written in the
    node's own time, as the study's times are, unless the source states its offset. The series numbers of the first
    volume follow `series_number`, those of the next ones are 10 more each: high ones, so that viewers list the results
    after the images. `volume_label` is what tells the volume from its siblings
    and stands in the SeriesDescription ("AcquisitionNumber 3"); "" for an only one.
    """

    seed: str
    revision: int
    created: datetime
    software_version: str
    volume_index: int = 0
    volume_label: str = ""
    manufacturer: str = MANUFACTURER
    series_number: int = 9000

    def __post_init__(self) -> None:
        if not self.seed:
            raise ValueError("an identity needs a seed")
        if self.revision < 1 or self.volume_index < 0 or self.series_number < 0:
            raise ValueError("revisions count from 1, volumes and series from 0")
        if self.created.utcoffset() != UTC.utcoffset(None):
            raise ValueError("created must be UTC")

    def series_instance_uid(self, name: str) -> str:
        """SeriesInstanceUID of the object called `name` ("seg", "seg_labelmap", "sr", …): each has its own."""
        return self._uid(f"{name}-series")

    def sop_instance_uid(self, name: str) -> str:
        """SOPInstanceUID of the object called `name`."""
        return self._uid(f"{name}-instance")

    def dimension_organization_uid(self, name: str) -> str:
        """DimensionOrganizationUID of the SEG called `name`."""
        return self._uid(f"{name}-dimensions")

    @property
    def seg_series_instance_uid(self) -> str:
        """SeriesInstanceUID of the SEG that every destination gets that asks for no other."""
        return self.series_instance_uid("seg")

    @property
    def seg_sop_instance_uid(self) -> str:
        """SOPInstanceUID of that SEG."""
        return self.sop_instance_uid("seg")

    @property
    def sr_series_instance_uid(self) -> str:
        """SeriesInstanceUID of the SR that refers to it."""
        return self.series_instance_uid("sr")

    @property
    def sr_sop_instance_uid(self) -> str:
        """SOPInstanceUID of that SR."""
        return self.sop_instance_uid("sr")

    @property
    def device_observer_uid(self) -> str:
        """The software release as an observer; the same for every result it makes."""
        return derive_uid("device", self.manufacturer, self.software_version)

    @property
    def tracking_seed(self) -> str:
        """The seed of the tracking UIDs of a volume's lesions: other volumes, other lesions."""
        return f"{self.seed}/{self.volume_index}" if self.volume_index else self.seed

    @property
    def liver_tracking_uid(self) -> str:
        """Tracking UID of the liver, in SEG and SR; revisions share it, as they share the lesions'."""
        return derive_uid("liver", self.seed, self.volume_index)

    @property
    def summary_tracking_uid(self) -> str:
        """Tracking UID of the SR's group about the liver as a whole."""
        return derive_uid("summary", self.seed, self.volume_index)

    def series_number_of(self, series_offset: int) -> int:
        """SeriesNumber of the volume's objects of one kind (`reports.objects.kinds.Kind.series_offset`)."""
        return self.series_number + 10 * self.volume_index + series_offset

    def _uid(self, kind: str) -> str:
        return derive_uid(kind, self.seed, self.revision, self.volume_index)


def identity_of(
    study_instance_uid: str, series_instance_uid: str, *, revision: int, created: datetime, software_version: str
) -> ResultIdentity:
    """Return the identity of a series' results: always the same for the same revision."""
    seed = f"{study_instance_uid}/{series_instance_uid}"
    return ResultIdentity(seed=seed, revision=revision, created=created, software_version=software_version)


def is_result(ds: Dataset) -> bool:
    """Whether an object says that Porta made it: a result of any node, or the object of `porta check --store`."""
    maker = values.text(ds, "Manufacturer"), values.text(ds, "ManufacturerModelName")
    return maker[0] in (MANUFACTURER, MANUFACTURER_MODEL_NAME) and maker[1] == MANUFACTURER_MODEL_NAME
