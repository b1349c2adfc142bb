"""What `porta check` asks of peers: who answers, what they take, what they can be asked, and what to do where not."""

import socket
import time
from collections.abc import Iterator
from typing import Any

from pydicom.uid import (
    CTImageStorage,
)

from daemon.administration.checked import Checked, Result
from daemon.configuration.config import Config, Destination, Peer
from daemon.delivery.acceptance import LABELMAP, offer_of
from daemon.delivery.statuses import (
    ADVICE,
    CLASS_NOT_ACCEPTED,
    COMMITMENT_NOT_ACCEPTED,
    SYNTAX_NOT_ACCEPTED,
    status_code,
)
from dicom_io.errors import (
    AssociationLost,
    AssociationRefused,
    ContextNotAccepted,
    PeerError,
    PeerUnreachable,
    QueryRefused,
)
from dicom_io.network.commitment import COMMITMENT
from dicom_io.network.examination import GET, NOBODY, Offer, ask, compressed, connect, examine, uncompressed
from dicom_io.network.moving import MOVE
from dicom_io.network.scu import Remote
from dicom_io.web import objects

RETRIEVING = (uncompressed(GET), uncompressed(MOVE))


def peer_checks(config: Config, peer: Peer) -> Iterator[Checked]:
    """Look at all that a peer is to do."""
    name = f"peer {peer.name}"
    if peer.url is not None:
        yield _web_service(config, peer)
        if peer.host is None:
            return
    if peer.host is None or peer.port is None:
        yield Checked(name, Result.OK, "only sends, and is not asked")
        return
    remote = Remote(peer.ae_title, peer.host, peer.port, config.tls_with(peer))
    destination = next((item for item in config.destinations if item.peer == peer.name), None)
    offers = _offers(destination, moves=config.dicom.move_ae_title is not None)
    asking: dict[str, Any] = {"calling_ae_title": config.dicom.ae_title, "timeout_s": config.dicom.acse_timeout_s}
    try:
        connect(remote, timeout_s=config.dicom.acse_timeout_s)
        echoed = examine(remote, list(offers.values()) or [uncompressed(CTImageStorage)], **asking)
    except PeerError as error:
        yield Checked(name, Result.FAILED, str(error), remedy(error, config, peer))
        return
    yield Checked(name, Result.OK, f"{remote} answered C-ECHO in {echoed.seconds * 1000:.0f} ms")
    takes_nothing = (
        None if any(echoed.accepted.values()) else f"it takes nothing but C-ECHO; {_known_there(config, peer)}"
    )
    for names, offer in offers.items():
        taken = echoed.accepted[offer]
        if not taken and offer in RETRIEVING and any(echoed.accepted.get(way) for way in RETRIEVING):
            continue  # one way is enough, and has its line
        if taken:
            yield Checked(name, Result.OK, f"takes {names} ({offer.name}; {', '.join(taken)})")
        else:
            advice = ADVICE[_refusal(offer)] if any(echoed.accepted.values()) else takes_nothing
            yield Checked(name, Result.FAILED, f"does not take {names} ({offer.name})", advice)
    if uses := _asked_for(peer, destination):
        try:
            ask(remote, **asking)
        except PeerError as error:
            said = f"does not answer C-FIND, for {uses}: {error}"
            yield Checked(name, Result.FAILED, said, _remedy_of_find(error, config, peer, uses))
        else:
            yield Checked(name, Result.OK, f"answers C-FIND, for {uses}")


def _web_service(config: Config, peer: Peer) -> Checked:
    """Ask a DICOMweb service for an instance that there is not: whoever answers knows us, and can be asked."""
    name, started = f"peer {peer.name}", time.monotonic()
    nobody = dict.fromkeys(("study_instance_uid", "series_instance_uid", "sop_instance_uid"), NOBODY)
    try:
        objects.holds(peer.web_service, timeout_s=config.dicom.acse_timeout_s, **nobody)
    except PeerError as error:
        return Checked(name, Result.FAILED, f"does not answer QIDO-RS: {error}", remedy(error, config, peer))
    ms = (time.monotonic() - started) * 1000
    return Checked(name, Result.OK, f"{peer.url} answered QIDO-RS in {ms:.0f} ms")


def _offers(destination: Destination | None, *, moves: bool) -> dict[str, Offer]:
    """What a destination is to take, by the names of the objects."""
    if destination is None:
        return {}
    by_offer: dict[Offer, list[str]] = {}
    for form in sorted(destination.profile.forms, key=lambda form: form.name):
        by_offer.setdefault(offer_of(form), []).append(form.name)
    offers = {", ".join(names): offer for offer, names in by_offer.items()}
    if destination.priors:
        offers["C-GET of earlier results"] = uncompressed(GET)
    if destination.priors and moves:
        offers["C-MOVE of earlier results"] = uncompressed(MOVE)
    if destination.confirm == "commitment":
        offers["requests for storage commitment"] = uncompressed(COMMITMENT)
    return offers


def _refusal(offer: Offer) -> str:
    """The code of why an offer is not taken."""
    if offer.sop_class_uid == COMMITMENT:
        return COMMITMENT_NOT_ACCEPTED
    return SYNTAX_NOT_ACCEPTED if offer.syntaxes[0] == compressed(LABELMAP).syntaxes[0] else CLASS_NOT_ACCEPTED


def _asked_for(peer: Peer, destination: Destination | None) -> str:
    uses = ["query"] if peer.query else []
    if destination and destination.confirm == "query":
        uses.append("confirm")
    if destination and destination.priors:
        uses.append("priors")
    return ", ".join(uses)


def remedy(error: PeerError, config: Config, peer: Peer) -> str:
    """Say what to do about a peer that did not do what it was asked."""
    if peer.url is not None:
        return ADVICE.get(status_code(error), "look into its own log")
    if isinstance(error, AssociationRefused):
        if "called AE title" in str(error):
            return f'here: is ae_title = "{peer.ae_title}" of [[peer]] {peer.name} right? There: is that its own title?'
        return f"there: enter {_ours(config)} as a node that may associate, store and query"
    if isinstance(error, ContextNotAccepted):
        return ADVICE[CLASS_NOT_ACCEPTED]
    if isinstance(error, AssociationLost):
        return f"look into its own log; {_known_there(config, peer)}"
    if isinstance(error, PeerUnreachable):
        return "are host and port right, is it running, is there a firewall?"
    return "look into its own log"


def _remedy_of_find(error: PeerError, config: Config, peer: Peer, uses: str) -> str:
    """Say what to do about a peer that takes objects and does not answer a query."""
    if isinstance(error, ContextNotAccepted):
        return f"have it answer C-FIND; or take away what asks it: {uses}"
    if isinstance(error, AssociationLost | QueryRefused):
        return f"may we query there? {_known_there(config, peer)}"
    return remedy(error, config, peer)


def _known_there(config: Config, peer: Peer) -> str:
    """What to look at where a peer lets us in, and does not do for us what it does for those that it knows."""
    return (
        f'there: enter {_ours(config)} as a node that may store and query; here: is ae_title = "{peer.ae_title}" of '
        f"[[peer]] {peer.name} its own title?"
    )


def _ours(config: Config) -> str:
    return f"{config.dicom.ae_title}, {_address(config)}, {config.dicom.port}"


def _address(config: Config) -> str:
    """The address at which others find us, as far as it is known here."""
    host = config.dicom.host
    return socket.gethostname() if host in ("0.0.0.0", "::") else host
