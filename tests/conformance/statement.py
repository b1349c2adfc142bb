"""Writes the tables of docs/conformance-statement.md: what the program negotiates, answers and writes.

    .venv/bin/python tests/conformance/statement.py --write

To stdout without --write. The sentences of the page are people's; each table lies between two marks with its name.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # as a script this folder alone is on the path

from pydicom.uid import (  # noqa: E402
    UID,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom.sop_class import (  # noqa: E402
    _STORAGE_CLASSES,
    LabelMapSegmentationStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from daemon.configuration.config import Dicom  # noqa: E402
from daemon.intake import STATUS, Verdict  # noqa: E402
from dicom_io.files.image_file import MODALITY_OF  # noqa: E402
from dicom_io.network.earlier_results import RESULTS  # noqa: E402
from dicom_io.network.moving import MOVE  # noqa: E402
from dicom_io.network.scp import REJECTIONS, TO_STRANGERS  # noqa: E402
from dicom_io.network.scu import REASONS  # noqa: E402
from dicom_io.network.storage_classes import NAMED_STORAGE, transfer_syntaxes  # noqa: E402
from dicom_io.pixel_format import SUPPORTED_SYNTAXES  # noqa: E402
from reports.objects.kinds import FORMS, SR_SOP_CLASS_UIDS, Form  # noqa: E402
from reports.source_headers import DESCRIBING, KEYS  # noqa: E402

PAGE = ROOT / "docs" / "conformance-statement.md"
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

SAID = {
    Verdict.STORED: "kept",
    Verdict.REPLACED: "kept, and counts in the place of the one before",
    Verdict.ALREADY_STORED: "was kept before",
    Verdict.NO_ROOM: "no room, or the ledger does not commit: send it again",
    Verdict.DUPLICATE_DIFFERENT: "was kept before, with a difference that matters for no result: set aside",
    Verdict.UNDECODABLE: "no data set, or a broken one: set aside",
    Verdict.INVALID_UID: "a UID that is none: set aside",
    Verdict.MISMATCH: "another SOP Instance UID in the data set than in the request: set aside",
    Verdict.NO_IMAGE: "holds no slices: set aside",
    Verdict.CORRECTION: "a SEG that somebody drew on images that are here: kept, and compared with what was sent",
    Verdict.OWN_RESULT: "made by Porta, here or elsewhere: set aside",
}


def row(*cells: object) -> str:
    """One line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    return "\n".join([row(*head), "|" + "---|" * len(head), *(row(*cells) for cells in rows)])


def name_of(uid: str) -> str:
    """The name of a UID; of a class that pydicom does not name yet, the words of its keyword."""
    words = {str(value): re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key) for key, value in _STORAGE_CLASSES.items()}
    return UID(uid).name if UID(uid).name != uid else words[uid]


def named(uid: str) -> str:
    """The name of a UID, and the UID."""
    return f"{name_of(uid)} | `{UID(uid)}`"


def storage() -> str:
    """Every storage class that is accepted by its name."""
    return table(
        ("SOP class", "SOP class UID", "processed"),
        ((named(uid), MODALITY_OF.get(uid, "")) for uid in sorted(NAMED_STORAGE, key=name_of)),
    )


def syntaxes() -> str:
    """Every transfer syntax that is accepted for storage, and whether its pixels are read."""
    return table(
        ("transfer syntax", "UID", "pixels are read"),
        ((named(uid), "yes" if uid in SUPPORTED_SYNTAXES else "no: kept") for uid in transfer_syntaxes()),
    )


def sop_class_of(form: Form) -> str:
    """The SOP class of the objects of a form."""
    if form.sr_class:
        return str(SR_SOP_CLASS_UIDS[form.sr_class])
    if form.kind == "seg":
        return str(LabelMapSegmentationStorage if form.seg_type == "labelmap" else SegmentationStorage)
    others = {"probability": SegmentationStorage, "pdf": EncapsulatedPDFStorage}
    return str(others.get(form.kind, SecondaryCaptureImageStorage))


def syntax_of(form: Form) -> str:
    """The transfer syntax in which the objects of a form are written."""
    compressed = form.kind == "probability" or (form.kind == "seg" and form.seg_type == "labelmap")
    return str(RLELossless if compressed else ExplicitVRLittleEndian)


def scu() -> str:
    """What Porta proposes as an SCU."""
    stored = sorted({(sop_class_of(form), syntax_of(form)) for form in FORMS.values()})
    both = ", ".join(uid.name for uid in NATIVE)
    rows: list[tuple[object, ...]] = [("verification", named(Verification), both, "SCU", "`porta check`")]
    for sop_class, syntax in stored:
        again = "" if syntax == RLELossless else f", {ImplicitVRLittleEndian.name} where the peer takes no other"
        rows.append(("storage", named(sop_class), UID(syntax).name + again, "SCU", "results"))
    find, get = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
    rows += [
        ("query", named(find), both, "SCU", "`query`, `confirm`, `priors`"),
        ("retrieve", named(get), both, "SCU", "`priors`, `prior_images`"),
        ("retrieve", named(MOVE), both, "SCU", "the same, with `move_ae_title`"),
    ]
    rows += [("retrieve", named(uid), "as the archive keeps it", "SCP", "`priors`") for uid in RESULTS]
    rows += [
        ("retrieve", named(uid), "as the archive keeps it", "SCP", "`prior_images`") for uid in sorted(MODALITY_OF)
    ]
    rows.append(("commitment", named(StorageCommitmentPushModel), both, "SCU", '`confirm = "commitment"`'))
    return table(("activity", "SOP class", "UID", "transfer syntax", "role", "where configured"), rows)


def statuses() -> str:
    """Each answer to a C-STORE."""
    rows = [(f"0x{STATUS[verdict]:04X}", verdict, SAID[verdict]) for verdict in Verdict]
    rows.append(("0xC002", "–", "what Porta did not foresee: send it again"))
    return table(("status", "verdict", "the instance"), rows)


def rejections() -> str:
    """Each A-ASSOCIATE-RJ."""
    rows = [(*code, reason, REASONS[code[1:]]) for reason, code in REJECTIONS.items()]
    rows.append((*TO_STRANGERS, "whatever it is, to who is not known by the host", REASONS[TO_STRANGERS[1:]]))
    return table(("result", "source", "reason", "why", "as peers read it"), rows)


def objects() -> str:
    """Each kind of object in each of its forms."""
    return table(
        ("object", "SOP class", "SOP class UID", "transfer syntax"),
        ((f"`{form.name}`", named(sop_class_of(form)), UID(syntax_of(form)).name) for form in FORMS.values()),
    )


def copied() -> str:
    """The attributes that results have from the images."""
    return "\n".join(
        [
            f"- As they stand, byte for byte: {', '.join(KEYS)}, StudyInstanceUID, SpecificCharacterSet.",
            f"- Where their value is valid: {', '.join(DESCRIBING)}.",
        ]
    )


def parameters() -> str:
    """The parameters of the AE and their defaults."""
    return table(("`[dicom]`", "default"), ((f"`{name}`", field.default) for name, field in Dicom.model_fields.items()))


TABLES: dict[str, Callable[[], str]] = {
    maker.__name__: maker for maker in (storage, syntaxes, scu, statuses, rejections, objects, copied, parameters)
}


def marked(name: str) -> "re.Pattern[str]":
    """What lies between the marks of a table, and the marks."""
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- /{name} -->)", re.DOTALL)


def written(page: str) -> str:
    """The page with every table as the program is now. Raises ValueError where the marks of one are missing."""
    for name, maker in TABLES.items():
        content = maker() + "\n"
        page, count = marked(name).subn(lambda found, content=content: found[1] + content + found[3], page)
        if count != 1:
            raise ValueError(f"{PAGE.name} has {count} places for the table {name}")
    return page


if __name__ == "__main__":
    text = written(PAGE.read_text())
    if "--write" in sys.argv:
        PAGE.write_text(text)
    else:
        print(text)
