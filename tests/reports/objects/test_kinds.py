"""One table says which objects there are, and every reader reads it."""

import pkgutil
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from reports.objects.kinds import CHOICES, FORMS, KINDS, Form, Kind, Kinship, form_of, in_order_of_sending, table_of

ROOT = Path(__file__).resolve().parents[3]
SEG, SR = KINDS["seg"], KINDS["sr"]


def test_every_builder_is_there() -> None:
    """Each choice has one, and nothing else is built."""
    builders = [pkgutil.resolve_name(KINDS[name].build or "") for name in CHOICES]
    assert all(map(callable, builders)) and len(set(builders)) == len(CHOICES)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(SR, series_offset=3),
        replace(SEG, name="sr", series_offset=3),
        replace(SEG, name="other"),
        replace(SEG, name="other", series_offset=10),
        replace(SEG, name="other", series_offset=0),
        replace(SEG, name="other", series_offset=3, superseded_by={"gone": Kinship.NEAR}),
        replace(SEG, name="other", series_offset=3, instead_of=("gone",)),
    ],
)
def test_a_faulty_row_stops_the_import(wrong: Kind) -> None:
    """A name or series number that another has, a number beyond a volume's ten, a kind that there is not."""
    table_of(SEG, replace(SEG, name="other", series_offset=3))
    with pytest.raises(ValueError, match="."):
        table_of(SEG, replace(SR, superseded_by={}), wrong)


def test_every_sr_may_be_superseded_by_its_own_kind_and_by_srs_alone() -> None:
    """Else one would go on looking like the latest word."""
    for kind in KINDS.values():
        assert set(kind.superseded_by) <= {name for name, other in KINDS.items() if other.is_sr}
        assert kind.superseded_by.get(kind.name) == (Kinship.SAME if kind.is_sr else None)


def test_a_name_stands_for_one_form() -> None:
    """And the usual form bears the name of its kind."""
    assert sorted(FORMS) == sorted(
        [
            *("seg", "seg_labelmap", "key_images", "pdf", "probability", "explain"),
            *("sr", "sr_labelmap", "sr_comprehensive", "sr_labelmap_comprehensive"),
            *("sr_combined", "sr_combined_labelmap", "sr_combined_comprehensive", "sr_combined_labelmap_comprehensive"),
            *("sr_bidirectional", "sr_bidirectional_comprehensive", "verdict", "verdict_comprehensive"),
        ]
    )
    assert len(set(FORMS.values())) == len(FORMS)
    for name in KINDS:
        assert form_of(name) == FORMS[name]
    form = form_of("sr", seg_type="labelmap", sr_class="comprehensive")
    assert FORMS["sr_labelmap_comprehensive"] == form == Form("sr", "labelmap", "comprehensive")


def test_a_form_is_told_by_the_keys_of_its_kind() -> None:
    """A SEG has no class of SR, and an SR has one."""
    for keys in ({"seg_type": None}, {"sr_class": "comprehensive"}):
        with pytest.raises(ValueError, match="other keys"):
            replace(FORMS["seg"], **keys)


def test_the_configuration_names_every_choice() -> None:
    """The comment of `objects` in deploy/porta.toml has each, and nothing that there is not; so has the page."""
    text = (ROOT / "deploy" / "porta.toml").read_text()
    block = text[text.index("#objects = ") : text.index("#seg_type = ")]
    named = set(re.findall(r'"(\w+)"', block))
    assert named == set(CHOICES)
    page = (ROOT / "docs" / "objects.md").read_text()
    default = set(tomllib.loads(block.splitlines()[0].removeprefix("#"))["objects"])
    assert set(re.findall(r"^\| `(\w+)` \| (?!what it is)", page, re.MULTILINE)) == set(CHOICES) - default
    for name in default:
        assert f"{9000 + KINDS[name].series_offset}, `{KINDS[name].description}`" in page


def test_the_table_is_read_without_the_libraries_that_build() -> None:
    """The service reads it, and has no use for them."""
    code = "import sys, reports.objects.profile; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"highdicom", "matplotlib", "SimpleITK", "torch"}.isdisjoint(done.stdout.split())


def test_what_is_read_first_is_sent_first() -> None:
    """SEG and SRs before pictures and the PDF, in whatever order a destination lists them."""
    listed = [form_of(name) for name in ("explain", "pdf", "sr_bidirectional", "key_images", "sr", "seg")]
    ordered = [form.kind for form in in_order_of_sending(listed)]
    assert ordered == ["seg", "sr", "sr_bidirectional", "key_images", "pdf", "explain"]
