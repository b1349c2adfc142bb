"""What a destination takes, apart from where it is and how it is asked."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import product

from reports.objects.kinds import KINDS, Form, Need, SegType, SrClass, form_of


@dataclass(frozen=True)
class Profile:
    """The kinds of objects that a destination takes, and in which form."""

    objects: tuple[str, ...] = ("seg", "sr")
    seg_type: SegType = "binary"
    sr_class: SrClass = "comprehensive_3d"

    def form_of(self, kind: str) -> Form:
        """The form in which it takes objects of a kind."""
        return form_of(kind, seg_type=self.seg_type, sr_class=self.sr_class)

    @property
    def fallbacks(self) -> tuple["Profile", ...]:
        """The same with the forms that older archives take, in the place of newer ones that it names."""
        seg_types: set[SegType] = {self.seg_type, "binary"} if "seg" in self.objects else {self.seg_type}
        sr_classes: set[SrClass] = {self.sr_class, "comprehensive"} if self.takes_verdicts else {self.sr_class}
        every = [Profile(self.objects, *forms) for forms in product(sorted(seg_types), sorted(sr_classes))]
        return tuple(profile for profile in every if profile != self)

    def as_made(self, made: Collection[Form]) -> "Profile":
        """Return this, or of its fallbacks that of which most was made, where that is more."""
        return max((self, *self.fallbacks), key=lambda profile: len(profile.forms & set(made)))

    @property
    def takes_verdicts(self) -> bool:
        """True where it is told why a series has no results: so is every destination that takes any SR."""
        return any(KINDS[kind].is_sr for kind in self.objects)

    @property
    def needs(self) -> frozenset[Need]:
        """The parts that a volume must have for all that it takes."""
        return frozenset(need for kind in self.objects for need in KINDS[kind].needs)

    @property
    def forms(self) -> frozenset[Form]:
        """The forms of all that it takes, verdicts too."""
        kinds = (*self.objects, "verdict") if self.takes_verdicts else self.objects
        return frozenset(map(self.form_of, kinds))
