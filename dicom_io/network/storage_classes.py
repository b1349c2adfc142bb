"""Which presentation contexts are taken: Verification, and every abstract syntax that may be a storage class.

One refused object fails a PACS's whole send. So whatever may be stored is, standard, retired or a vendor's own; what
is no image is for whoever stores it to keep aside.
"""

from collections.abc import Iterable
from functools import lru_cache

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AllStoragePresentationContexts, NonPatientObjectPresentationContexts, build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

NOT_FOR_STORAGE = frozenset(
    {
        "1.2.840.10008.1.2.6.1",  # RFC 2557 MIME encapsulation: e-mail
        "1.2.840.10008.1.2.6.2",  # XML Encoding: Native DICOM Model
        "1.2.840.10008.1.2.7.1",  # SMPTE ST 2110: real-time video and audio, PS3.22
        "1.2.840.10008.1.2.7.2",
        "1.2.840.10008.1.2.7.3",
    }
)
"""Transfer syntaxes that name no encoding of a C-STORE data set."""

STANDARD = "1.2.840.10008."
STANDARD_STORAGE = "1.2.840.10008.5.1.4.1.1."
"""The roots of all UIDs of the standard, and of the storage classes that later editions add (PS3.6 annex A)."""

NAMED_STORAGE = frozenset(
    str(context.abstract_syntax) for context in (*AllStoragePresentationContexts, *NonPatientObjectPresentationContexts)
)


def transfer_syntaxes() -> list[str]:
    """Every transfer syntax that pydicom can name and a data set can be sent in, the preferred ones first."""
    first = [str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)]
    named = sorted(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
    return first + [uid for uid in named if uid not in first and uid not in NOT_FOR_STORAGE]


def may_be_stored(abstract_syntax: str) -> bool:
    """Whether an abstract syntax may be a storage class: one by its name, one not known yet, or a private one."""
    if abstract_syntax in NAMED_STORAGE:
        return True
    name, kind = UID_dictionary.get(abstract_syntax, ("", ""))[:2]
    if name:
        return kind == "SOP Class" and "Storage" in name and "Storage Commitment" not in name
    return not abstract_syntax.startswith(STANDARD) or abstract_syntax.startswith(STANDARD_STORAGE)


def negotiable(
    proposed: Iterable[PresentationContext], *, may_store: bool = True, may_report: bool = False
) -> list[PresentationContext]:
    """What is offered to a peer that proposes these contexts, as far as it may store and report on commitments.

    A private class may come in its vendor's own transfer syntax: nothing of it needs to be read. In all others a
    syntax that pydicom cannot name is refused, so that the peer sends one that can be decoded.
    """
    unnamed: dict[str, list[str]] = {}
    for context in proposed:
        abstract_syntax = str(context.abstract_syntax)
        own = unnamed.setdefault(abstract_syntax, [])
        if not abstract_syntax.startswith(STANDARD):
            own += [str(uid) for uid in context.transfer_syntax or () if uid not in UID_dictionary]
    offers = []
    for abstract_syntax, own in unnamed.items():
        if abstract_syntax == Verification:
            offers.append(build_context(Verification, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
        elif abstract_syntax == StorageCommitmentPushModel and may_report:
            report = build_context(StorageCommitmentPushModel, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
            report.scu_role = report.scp_role = True  # the peer is the SCP of what we asked for (PS3.4 section J.3.3)
            offers.append(report)
        elif may_store and may_be_stored(abstract_syntax):
            offers.append(
                build_context(abstract_syntax, [*transfer_syntaxes(), *own]) if own else _offer(abstract_syntax)
            )
    return offers


def prepare() -> None:
    """Make the offers for the storage classes of the standard, before a peer waits for them."""
    for abstract_syntax in NAMED_STORAGE:
        _offer(abstract_syntax)


@lru_cache(maxsize=1024)
def _offer(abstract_syntax: str) -> PresentationContext:
    """A context that is only read: to make one takes 3 ms, and a PACS proposes 128."""
    return build_context(abstract_syntax, transfer_syntaxes())
