"""A peer that answers every C-STORE, C-FIND, C-ECHO and N-ACTION; prints its port, ends when its stdin is closed."""

import sys
from collections.abc import Iterator

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)


def find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
    """Two matches and the end."""
    for level in ("STUDY", "SERIES"):
        match = Dataset()
        match.QueryRetrieveLevel = level
        yield 0xFF00, match
    yield 0x0000, None


def main() -> None:
    """Serve until stdin ends."""
    ae = AE("PEER")
    ae.maximum_associations = 100
    for sop_class in (
        CTImageStorage,
        StorageCommitmentPushModel,
        StudyRootQueryRetrieveInformationModelFind,
        Verification,
    ):
        ae.add_supported_context(sop_class)
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[
            (evt.EVT_C_STORE, lambda event: 0x0000),
            (evt.EVT_C_FIND, find),
            (evt.EVT_N_ACTION, lambda event: (0x0000, None)),
        ],
    )
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
