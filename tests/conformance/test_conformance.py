"""Every series of the shared data and every made one against what was expected by hand; then their voxels."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from daemon.commands.cli import app
from daemon.intake import decode
from dicom_io.errors import NotDicom, RejectReason, SeriesWarning
from dicom_io.pixels import read_volume
from dicom_io.series.series import group_by_series, open_series, stack_headers
from tests.conformance.cases import Expected, expectations, porta_series, shared_cases
from tests.conformance.made_files import Made
from tests.conformance.made_series import WRITERS
from tests.conformance.table import PAGE, page

MakeCase = Callable[[str], tuple[Path, list[Made]]]

EXPECTED, NO_DICOM = expectations()
ACCEPTED = [name for name in WRITERS if name in EXPECTED and EXPECTED[name][0].reading == "ACCEPTED"]

OF_A_JOB = {RejectReason.NO_RULE, RejectReason.NO_MODEL, RejectReason.SUPERSEDED_BY_BETTER, RejectReason.REASSIGNED}


@pytest.fixture
def case(request: pytest.FixtureRequest, made: MakeCase) -> Callable[[str], Path]:
    """The folder or file of a case, made or shared."""
    return lambda name: made(name)[0] if name in WRITERS else request.getfixturevalue("shared_data") / name


@pytest.mark.parametrize("name", EXPECTED)
def test_the_verdict_is_the_expected_one(name: str, case: Callable[[str], Path]) -> None:
    """Verdict, volumes, warnings and what is left out, of each series of a case."""
    said = porta_series(case(name))
    assert len(said) == len(EXPECTED[name])
    for expected in EXPECTED[name]:
        (series,) = (entry for entry in said if (entry["series_instance_uid"] or "").endswith(expected.uid))
        assert series["verdict"] == expected.verdict, series["sentence"]
        assert sorted(series["warnings"]) == sorted(expected.warnings)
        assert (series["left_out"] or 0) == expected.left_out
        assert len(series["volumes"]) == len(expected.volumes)
        for volume, wanted in zip(series["volumes"], expected.volumes, strict=True):
            spacing = [None if value == "uneven" else pytest.approx(value, abs=6e-4) for value in wanted["spacing_mm"]]
            assert volume["shape"] == wanted["shape"]
            assert volume["spacing_mm"] == spacing
            assert (volume["regular"], volume["plane"]) == (wanted["regular"], wanted["plane"])
            assert volume["tilt_degrees"] == pytest.approx(wanted["tilt_degrees"], abs=0.06)
            assert volume["label"] == wanted.get("label", volume["label"])


@pytest.mark.parametrize("name", sorted(NO_DICOM))
def test_what_is_no_dicom_is_said_to_be_none(name: str, case: Callable[[str], Path]) -> None:
    with pytest.raises(NotDicom):
        porta_series(case(name))


@pytest.mark.parametrize(
    ("name", "prefer", "taken"),
    [(name, key, value) for name in EXPECTED for each in EXPECTED[name] for key, value in each.prefer.items()],
)
def test_the_preferred_volume_is_taken(name: str, prefer: str, taken: list[int], case: Callable[[str], Path]) -> None:
    """All of them where it is not certain which one is meant."""
    (series,) = porta_series(case(name), "--prefer", prefer)
    assert [number for number, volume in enumerate(series["volumes"]) if volume["taken"]] == taken


@pytest.mark.parametrize(
    ("name", "expected"),
    [(name, each) for name in EXPECTED for each in EXPECTED[name] if each.reading != each.verdict],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_shows_when_pixels_are_read(name: str, expected: Expected, case: Callable[[str], Path]) -> None:
    (series,) = porta_series(case(name), "--pixels")
    assert series["verdict"] == expected.reading, series["sentence"]


def test_every_made_case_is_expected_and_the_reverse() -> None:
    made = {name for name in {*EXPECTED, *NO_DICOM} if "/" not in name}
    assert made == set(WRITERS)


def test_every_shared_series_is_expected_and_the_reverse(shared_data: Path) -> None:
    expected = {name for name in {*EXPECTED, *NO_DICOM} if "/" in name}
    assert expected == set(shared_cases(shared_data))


def test_every_reason_and_warning_occurs_in_a_made_case() -> None:
    """All that images can earn; the other reasons are a job's."""
    entries = [entry for name in WRITERS for entry in EXPECTED.get(name, [])]
    reasons = {entry.reading for entry in entries} | {entry.verdict for entry in entries}
    assert reasons == {"ACCEPTED", *set(RejectReason) - OF_A_JOB}
    assert {code for entry in entries for code in entry.warnings} == set(SeriesWarning) - {SeriesWarning.INCOMPLETE}


@pytest.mark.parametrize("name", [name for name in ACCEPTED if len(EXPECTED[name][0].volumes) > 1])
def test_volumes_are_told_apart_by_their_labels(name: str, case: Callable[[str], Path]) -> None:
    """A report that names the volume it is about must not name two."""
    (series,) = porta_series(case(name))
    labels = [volume["label"] for volume in series["volumes"]]
    assert all(labels) and len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", ["greek_name", "japanese_name", "broken_character_set"])
def test_no_name_is_printed(name: str, case: Callable[[str], Path]) -> None:
    """Not in the table either, and the headers for the results are there all the same."""
    result = CliRunner().invoke(app, ["series", str(case(name))])
    assert result.exit_code == 0
    assert not re.search("ller|rgen|Διον|Yamada|山田", result.output)
    (stack,) = open_series(sorted(case(name).iterdir())).stacks
    assert len(stack_headers(stack)) == 14


@pytest.mark.parametrize("name", sorted(set(ACCEPTED) - {"bare_data_sets", "text_beside"}))
def test_what_is_read_is_taken_in(name: str, made: MakeCase) -> None:
    """One reader for both ways in: what `segment` reads is acknowledged to a sender, whatever its header says."""
    for path in made(name)[0].iterdir():
        with path.open("rb") as file:
            assert decode(file).ds.SOPInstanceUID


@pytest.mark.parametrize("name", ACCEPTED)
def test_voxels_and_places_are_those_that_were_written(name: str, made: MakeCase) -> None:
    """Every voxel of every made volume, and the LPS position of its brightest one, by an equation of the test's own."""
    folder, written = made(name)
    groups, _ = group_by_series(sorted(folder.iterdir()))
    (files,) = groups.values()
    stacks = open_series([file.path for file in files]).stacks
    assert len(stacks) == len(written)
    for stack, truth in zip(stacks, written, strict=True):
        volume = read_volume(stack)
        array, geometry = volume.array, volume.geometry
        brightest = np.unravel_index(int(array.argmax()), array.shape)
        assert np.abs(geometry.index_to_lps(brightest) - truth.bright_lps_mm).max() <= 0.01
        backwards = float(geometry.normal @ truth.geometry.normal) < 0
        assert not backwards
        assert array.shape == truth.array.shape
        np.testing.assert_allclose(array, truth.array, rtol=1e-6, atol=1e-3)
        corners = np.array([[0, 0, 0], [len(array) - 1, 0, 0]])
        assert np.abs(geometry.index_to_lps(corners) - truth.geometry.origins_lps_mm[[0, -1]]).max() <= 0.01


def test_the_page_is_what_the_command_writes(made: MakeCase, shared_data: Path) -> None:
    """`python tests/conformance/table.py --write` brings it up to date."""
    for name in WRITERS:
        folder, _ = made(name)
    assert PAGE.read_text() == page(folder.parent, shared_data)
