"""In which form a destination takes objects: that of the configuration, or an older one where it refuses that.

It is asked by an association before results are made, and what it answered holds for an hour: a LABELMAP that it
refuses becomes a BINARY segmentation (PS3.3 sections A.90 and A.51), a Comprehensive 3D SR a Comprehensive SR.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pydicom.uid import EncapsulatedPDFStorage, SecondaryCaptureImageStorage, SegmentationStorage

from daemon.configuration.config import Config, Destination
from daemon.delivery.archives import remote_of
from daemon.log import get_logger
from dicom_io.errors import PeerError
from dicom_io.network.examination import Offer, compressed, connect, examine, uncompressed
from reports.objects.kinds import SR_SOP_CLASS_UIDS, Form, form_of
from reports.objects.profile import Profile

LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage."""
TIMEOUT_S = 5.0
"""For one connection or answer: results wait meanwhile."""
HOLDS_S, UNKNOWN_S = 3600.0, 60.0
"""How long an answer holds, and for how long nobody is asked again who gave none."""

log = get_logger()


def offer_of(form: Form) -> Offer:
    """The SOP class and the transfer syntaxes of the objects of a form."""
    if form.sr_class:
        return uncompressed(SR_SOP_CLASS_UIDS[form.sr_class])
    if form.kind == "probability":
        return compressed(SegmentationStorage)
    if form.kind == "seg":
        return compressed(LABELMAP) if form.seg_type == "labelmap" else uncompressed(SegmentationStorage)
    return uncompressed(EncapsulatedPDFStorage if form.kind == "pdf" else SecondaryCaptureImageStorage)


@dataclass(frozen=True)
class Acceptance:
    """What the destinations of a configuration take. Safe to use from many threads at once."""

    config: Config
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, tuple[float, Profile]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def profile_of(self, destination: Destination) -> Profile:
        """Return what a destination takes; as the configuration says where it cannot be asked, or by DICOMweb."""
        wanted = destination.profile
        if len(wanted.fallbacks) == 0 or self.config.peer(destination.peer).url is not None:
            return wanted
        with self._lock:  # one at a time: who waits for the same finds it here
            until, profile = self._known.get(destination.peer, (-1.0, wanted))
            if self.clock() >= until:
                accepted = self._ask(destination)
                profile = _taken(wanted, accepted)
                self._known[destination.peer] = self.clock() + (HOLDS_S if accepted else UNKNOWN_S), profile
        return profile

    def _ask(self, destination: Destination) -> Mapping[Offer, tuple[str, ...]]:
        wanted = destination.profile
        offers = {offer_of(form) for profile in (wanted, *wanted.fallbacks) for form in profile.forms}
        timeout_s = min(TIMEOUT_S, destination.timeout_s)
        try:
            remote, ours = remote_of(self.config, destination), self.config.dicom.ae_title
            connect(remote, timeout_s=timeout_s)  # sooner than pynetdicom where nobody listens
            return examine(remote, sorted(offers, key=str), calling_ae_title=ours, timeout_s=timeout_s).accepted
        except PeerError as error:  # it is waited for where the results are sent
            log.debug("destination.unasked", destination=destination.peer, error=error)
            return {}


def _taken(wanted: Profile, accepted: Mapping[Offer, tuple[str, ...]]) -> Profile:
    """Return a profile with older forms in the place of those that are refused, where these are taken."""

    def falls_back(refused: Form, older: Form) -> bool:
        return accepted.get(offer_of(refused)) == () and bool(accepted.get(offer_of(older)))

    found = wanted
    if falls_back(form_of("seg", seg_type="labelmap"), form_of("seg")):
        found = replace(found, seg_type="binary")
    if falls_back(form_of("verdict"), form_of("verdict", sr_class="comprehensive")):
        found = replace(found, sr_class="comprehensive")
    return found
