"""Which rule a series falls under: the first whose every pattern matches."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydicom import Dataset

from daemon.configuration.config import Rule
from dicom_io import values
from dicom_io.image_file import modality


def first_match(rules: Iterable[Rule], header: Dataset, *, calling_ae_title: str) -> Rule | None:
    """Return the first rule that matches an image of the series and its sender; None where none does."""
    return next((rule for rule in rules if matches(rule, header, calling_ae_title=calling_ae_title)), None)


def matches(rule: Rule, header: Dataset, *, calling_ae_title: str) -> bool:
    """True where, for each keyword of the rule, a pattern fits one of the attribute's values; case does not count."""
    return mismatch(rule, header, calling_ae_title=calling_ae_title) is None


@dataclass(frozen=True)
class Mismatch:
    """The keyword for which no pattern of a rule fits, the patterns, and the values: these are a patient's data."""

    keyword: str
    patterns: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What there is, and what the rule asks for; for the person who asked, and for no log."""
        asked = " or ".join(f'"{pattern}"' for pattern in self.patterns)
        found = ", ".join(f'"{value}"' for value in self.values)
        return f"{self.keyword} is {found}, not {asked}"


def mismatch(rule: Rule, header: Dataset, *, calling_ae_title: str) -> Mismatch | None:
    """Return why a rule does not match: its first keyword that does not fit; None where it matches."""
    for keyword, patterns in rule.match.items():
        found = _values(header, keyword, calling_ae_title)
        if not any(fnmatchcase(value.casefold(), pattern.casefold()) for value in found for pattern in patterns):
            return Mismatch(keyword, tuple(patterns), tuple(found))
    return None


def _values(header: Dataset, keyword: str, calling_ae_title: str) -> list[str]:
    if keyword == "CallingAETitle":
        return [calling_ae_title]
    if keyword == "Modality":
        return [modality(header)]
    return list(values.texts(header, keyword)) or [""]
