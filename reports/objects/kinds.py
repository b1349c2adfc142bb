"""The kinds of objects that a result may consist of: one row for each, which says all that differs from kind to kind.

The configuration, the ledger, the stages and the builders read this table; nothing else lists the kinds. It imports no
library that builds objects, so the service reads it cheaply: `Kind.build` names the builder, and who builds imports it.
A new kind is a row here and a module beside this one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from itertools import product
from typing import Literal, get_args

from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage

SegType = Literal["binary", "labelmap"]
"""Which kind of SEG a destination takes (PS3.3 sections A.51 and A.90); the first is the usual one."""

SrClass = Literal["comprehensive_3d", "comprehensive"]
"""Which SOP class its SRs have, with the same content: Comprehensive is for those that do not know the newer one."""

SR_SOP_CLASS_UIDS: Mapping[SrClass | None, str] = {
    "comprehensive_3d": Comprehensive3DSRStorage,
    "comprehensive": ComprehensiveSRStorage,
}

SERIES_NUMBERS = 10
"""How many series numbers the objects of one volume have."""


class FormKey(StrEnum):
    """The keys of a destination that give an object another form."""

    SEG_TYPE = "seg_type"
    SR_CLASS = "sr_class"


class Need(StrEnum):
    """The parts that a volume must have for an object of a kind."""

    LIVER = "liver"
    LESIONS = "lesions"
    PROBABILITIES = "probabilities"
    EXPLANATIONS = "explanations"


class Kinship(IntEnum):
    """How near the content of an SR is to that of another, the nearest first."""

    SAME = 0
    NEAR = 1
    IN_NEED = 2


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    `name` is what a destination's `objects`, the ledger and the outbox call it. `series_offset` says which of the ten
    series numbers of a volume its objects have, `description` is their SeriesDescription. Destinations that differ in
    one of `forms` get objects with other names and UIDs. `needs` is what a volume must have for it.
    `superseded_by` has the kinds that may supersede an SR of this kind that was sent. No destination takes it together
    with one of those that it is `instead_of`. `build` is where its builder stands, which makes the objects of a case;
    None: no destination asks for it. Of a `numbered` kind a volume may have several objects. `verify` is where the
    check stands that proves the object on disk before it is sent.
    """

    name: str
    series_offset: int
    description: str
    forms: tuple[FormKey, ...] = ()
    needs: frozenset[Need] = frozenset()
    superseded_by: Mapping[str, Kinship] = field(default_factory=dict)
    instead_of: tuple[str, ...] = ()
    build: str | None = None
    numbered: bool = False
    verify: str | None = None

    @property
    def is_sr(self) -> bool:
        """True where its objects are SRs."""
        return FormKey.SR_CLASS in self.forms

    @property
    def refers_to_seg(self) -> bool:
        """True where its objects are SRs that refer to the SEG, and so report all findings."""
        return self.is_sr and FormKey.SEG_TYPE in self.forms


def table_of(*kinds: Kind) -> Mapping[str, Kind]:
    """Return the kinds by name. Raises ValueError where two share a name or series number, or one names an unknown."""
    table = {kind.name: kind for kind in kinds}
    if len(table) < len(kinds):
        raise ValueError("two kinds have one name")
    offsets = [kind.series_offset for kind in kinds if kind.build]
    if len(set(offsets)) < len(offsets) or not all(0 < kind.series_offset < SERIES_NUMBERS for kind in kinds):
        raise ValueError(f"each kind has a unique series number from 1 to {SERIES_NUMBERS - 1}")
    if not {name for kind in kinds for name in (*kind.superseded_by, *kind.instead_of)} <= set(table):
        raise ValueError("a kind is superseded by, or is instead of, one that there is not")
    return table


KINDS = table_of(
    Kind(
        "seg",
        series_offset=1,
        description="Porta: liver + lesions",
        forms=(FormKey.SEG_TYPE,),
        needs=frozenset({Need.LIVER}),
        build="reports.objects.seg:build_seg",
        verify="reports.objects.verification:verify_seg",
    ),
    Kind(
        "sr",
        series_offset=2,
        description="Porta: findings",
        forms=(FormKey.SEG_TYPE, FormKey.SR_CLASS),
        superseded_by={"sr": Kinship.SAME, "sr_combined": Kinship.NEAR, "sr_bidirectional": Kinship.IN_NEED},
        build="reports.objects.sr:build_sr",
    ),
    Kind(
        "sr_bidirectional",
        series_offset=3,
        description="Porta: diameters",
        forms=(FormKey.SR_CLASS,),
        needs=frozenset({Need.LESIONS}),
        superseded_by={"sr_bidirectional": Kinship.SAME, "sr_combined": Kinship.NEAR, "sr": Kinship.IN_NEED},
        build="reports.objects.sr_bidirectional:build_bidirectional_sr",
    ),
    Kind(
        "sr_combined",
        series_offset=8,
        description="Porta: findings",
        forms=(FormKey.SEG_TYPE, FormKey.SR_CLASS),
        superseded_by={"sr_combined": Kinship.SAME, "sr": Kinship.NEAR, "sr_bidirectional": Kinship.NEAR},
        instead_of=("sr", "sr_bidirectional"),
        build="reports.objects.sr_combined:build_combined_sr",
    ),
    Kind(
        "key_images",
        series_offset=4,
        description="Porta: key images",
        build="reports.objects.key_images:build_key_images",
        numbered=True,
    ),
    Kind(
        "pdf",
        series_offset=5,
        description="Porta: report (PDF)",
        build="reports.objects.pdf:build_pdf",
        numbered=True,
    ),
    Kind(
        "probability",
        series_offset=6,
        description="Porta: probability",
        needs=frozenset({Need.LIVER, Need.PROBABILITIES}),
        build="reports.objects.seg_fractional:build_fractional_seg",
        verify="reports.objects.verification:verify_fractions",
    ),
    Kind(
        "explain",
        series_offset=7,
        description="Porta: what the network looked at",
        needs=frozenset({Need.EXPLANATIONS}),
        build="reports.objects.explanation_images:build_explanation_images",
        numbered=True,
    ),
    Kind(
        "verdict",
        series_offset=2,  # it stands where the findings would
        description="Porta: not processed",
        forms=(FormKey.SR_CLASS,),
        superseded_by={name: Kinship.NEAR for name in ("sr", "sr_combined", "sr_bidirectional")}
        | {"verdict": Kinship.SAME},
    ),
)
"""All kinds by their names, in the order in which a configuration's faults list them.

A predecessor's content is included "wholly or partially" (PS3.3 section C.17.2): of findings and diameters each
supersedes the other where there is none nearer. A verdict does not take back the findings of an earlier revision,
unless it says that they may not be the patient's."""

CHOICES = tuple(kind.name for kind in KINDS.values() if kind.build)
"""What a destination may ask for. Verdicts are not asked for: whoever takes any SR is told."""


@dataclass(frozen=True)
class Form:
    """A kind in one of its forms: objects of the same form are the same for every destination.

    `seg_type` and `sr_class` are None where objects of the kind do not differ by them. An SR that refers to the SEG is
    another one where the SEG is.
    """

    kind: str
    seg_type: SegType | None = None
    sr_class: SrClass | None = None

    def __post_init__(self) -> None:
        given = {FormKey.SEG_TYPE: self.seg_type, FormKey.SR_CLASS: self.sr_class}
        if {key for key, value in given.items() if value is not None} != set(KINDS[self.kind].forms):
            raise ValueError(f"the form of {self.kind} is told by other keys")

    @property
    def name(self) -> str:
        """The name of its objects in the outbox, from which their UIDs derive; the usual form has the kind's name."""
        labelmap = "_labelmap" if self.seg_type == "labelmap" else ""
        return self.kind + labelmap + ("_comprehensive" if self.sr_class == "comprehensive" else "")


def form_of(kind: str, *, seg_type: SegType = "binary", sr_class: SrClass = "comprehensive_3d") -> Form:
    """Return the form of a kind for a destination that takes these kinds of SEG and SR."""
    forms = KINDS[kind].forms
    return Form(
        kind,
        seg_type if FormKey.SEG_TYPE in forms else None,
        sr_class if FormKey.SR_CLASS in forms else None,
    )


def _forms() -> Iterator[Form]:
    for kind, seg_type, sr_class in product(KINDS, get_args(SegType), get_args(SrClass)):
        yield form_of(kind, seg_type=seg_type, sr_class=sr_class)


def in_order_of_sending(forms: Iterable[Form]) -> list[Form]:
    """Return the forms by their kinds in the order of the table: SEG and SRs before pictures and the PDF."""
    places = {name: place for place, name in enumerate(KINDS)}
    return sorted(forms, key=lambda form: places[form.kind])


FORMS: Mapping[str, Form] = {form.name: form for form in _forms()}
"""Every form by its name."""
