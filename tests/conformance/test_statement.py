"""The conformance statement says what the program does: its tables are today's, and a receiver is asked for all."""

import re
from collections.abc import Iterator

import pytest
from pynetdicom import AE, build_context
from pynetdicom.sop_class import CTImageStorage, ModalityWorklistInformationFind, Verification

from daemon.configuration.config import Config, Dicom, Peer, Storage
from daemon.intake import Intake, open_storage
from daemon.receiver import Receiver
from dicom_io.errors import AssociationRefused
from dicom_io.network import scu
from dicom_io.network.scp import REJECTIONS, Refusal
from dicom_io.network.scu import REASONS
from tests.conformance.statement import PAGE, marked, written

UIDS = re.compile(r"`([\d.]+)`")
MOST_CONTEXTS = 127
"""Of one request there are 128; Verification is one."""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """That of the service's own receiver, as it listens for MODALITY."""
    root = tmp_path_factory.mktemp("statement") / "root"
    config = Config(
        dicom=Dicom(port=1),
        peer=(Peer(name="modality", ae_title="MODALITY", accept=True),),
        storage=Storage(root=root, min_free_mb=0),
    )
    spool, ledger = open_storage(config)
    # Any free port: the configuration has none such
    receiver = Receiver(
        config.model_copy(update={"dicom": config.dicom.model_copy(update={"port": 0})}), Intake(spool, ledger), ledger
    )
    yield receiver.start()
    receiver.stop(5)
    ledger.close()


def listed(name: str) -> list[str]:
    """The UIDs of a table of the page, as it lies in docs/."""
    found = marked(name).search(PAGE.read_text())
    assert found is not None
    return UIDS.findall(found[2])


def associate(
    port: int, contexts: list[tuple[str, list[str]]], *, ae_title: str = "PORTA"
) -> "tuple[list[tuple[str, str]], AE]":
    """What is accepted of these contexts: abstract and transfer syntax of each, and the result of C-ECHO."""
    ae = AE("MODALITY")
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, syntaxes)
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", port, ae_title=ae_title)
    try:
        assert assoc.is_established
        assert assoc.send_c_echo().Status == 0x0000
        return [(str(item.abstract_syntax), str(item.transfer_syntax[0])) for item in assoc.accepted_contexts]
    finally:
        assoc.release()


def test_the_tables_are_those_of_the_program():
    """`statement.py --write` has nothing to write."""
    assert written(PAGE.read_text()) == PAGE.read_text()


def test_every_storage_class_of_the_statement_is_accepted(port: int):
    """With C-ECHO on the same associations."""
    classes = listed("storage")
    assert len(classes) > MOST_CONTEXTS
    for start in range(0, len(classes), MOST_CONTEXTS):
        proposed = classes[start : start + MOST_CONTEXTS]
        accepted = associate(port, [(uid, [listed("syntaxes")[0]]) for uid in proposed])
        assert {uid for uid, _ in accepted} == {*proposed, Verification}


def test_every_transfer_syntax_of_the_statement_is_accepted_and_no_other(port: int):
    """Each by itself; what names no encoding of a data set is refused."""
    syntaxes = listed("syntaxes")
    refused = ["1.2.840.10008.1.2.6.1", "1.2.3.4.5"]
    contexts = [(str(CTImageStorage), [syntax]) for syntax in (*syntaxes, *refused)]
    accepted: set[str] = set()
    for start in range(0, len(contexts), MOST_CONTEXTS):
        some = contexts[start : start + MOST_CONTEXTS]
        ae = AE("MODALITY")
        ae.requested_contexts = [build_context(*context) for context in some]
        assoc = ae.associate("127.0.0.1", port, ae_title="PORTA")
        assert assoc.is_established
        accepted |= {str(item.transfer_syntax[0]) for item in assoc.accepted_contexts}
        assoc.release()
    assert accepted == set(syntaxes)


def test_the_order_of_preference_is_that_of_the_statement(port: int):
    """Of one context with many transfer syntaxes the first of the table is taken."""
    syntaxes = listed("syntaxes")
    accepted = associate(port, [(str(CTImageStorage), syntaxes[60:0:-1])])
    assert (str(CTImageStorage), syntaxes[1]) in accepted


def test_what_the_statement_does_not_offer_is_refused(port: int):
    """No worklist; and who calls another title gets the reason of the table."""
    accepted = associate(port, [(str(ModalityWorklistInformationFind), [listed("syntaxes")[0]])])
    assert [uid for uid, _ in accepted] == [Verification]
    with pytest.raises(AssociationRefused, match=REASONS[REJECTIONS[Refusal.CALLING_AE_TITLE][1:]]):
        scu.echo(scu.Remote("PORTA", "127.0.0.1", port), calling_ae_title="STRANGER", timeout_s=20)
