"""docs/architecture.md says what the code says, and the README's example is complete."""

import re
import tomllib
from pathlib import Path

from daemon.configuration.config import parse
from daemon.intake import QUARANTINED, STATUS
from daemon.jobs import TRANSITIONS, HaltCode, State
from dicom_io.network.endings import Ending

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
README = (ROOT / "README.md").read_text()


def test_the_page_has_every_move_and_no_other() -> None:
    """The table of moves is TRANSITIONS, each once."""
    rows = re.findall(r"^\| `([A-Z]+)` \| `([A-Z_]+)` \| `([A-Z]+)` \|$", PAGE, re.MULTILINE)
    moves = {(str(state), str(event)): str(target) for (state, event), target in TRANSITIONS.items()}
    assert {(state, event): target for state, event, target in rows} == moves
    assert len(rows) == len(moves)


def test_the_page_shows_the_ladders_of_the_contracts() -> None:
    """Each folder's lines are those that lint-imports checks, in their order."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    ladders = {contract["containers"][0]: contract["layers"] for contract in contracts if "containers" in contract}
    shown = re.findall(r"^\*\*(\w+)\*\*\n\n((?:    .+\n)+)", PAGE, re.MULTILINE)
    assert {folder: [line.strip() for line in lines.splitlines()] for folder, lines in shown} == ladders


def test_the_page_explains_every_state() -> None:
    """One row for each state."""
    explained = re.findall(r"^\| `([A-Z]+)` \| [^|`]", PAGE, re.MULTILINE)
    assert explained == [str(state) for state in State]


def test_the_page_has_every_halt() -> None:
    """Each code that `decide` gives stands in the table of errors."""
    assert set(re.findall(r"Halt\(`([A-Z_]+)`\)", PAGE)) == set(HaltCode)


def test_the_page_has_every_answer_to_a_c_store() -> None:
    """The statuses of the promise, and the names that quarantined files bear."""
    answered = {int(status, 16) for status in re.findall(r"\| (0x[0-9A-F]{4}) \|", PAGE)}
    assert answered == {*STATUS.values(), 0xC002}
    assert all(f"`{verdict}`" in PAGE for verdict in QUARANTINED)


def test_the_page_has_every_end_of_an_association() -> None:
    """Each reason of `association.ended`; a release and a rejection are none."""
    reasons = re.findall(r"^\| [^`|].* \| `([A-Z_]+)` \|$", PAGE, re.MULTILINE)
    assert set(reasons) == set(Ending) - {Ending.RELEASED, Ending.REJECTED}


def test_the_readme_s_configuration_is_complete() -> None:
    """It loads as it stands."""
    (example,) = re.findall(r"```toml\n(.+?)```", README, re.DOTALL)
    config = parse(example.encode(), known_models=["resnet50"])
    assert [peer.name for peer in config.accepting_peers] == ["orthanc", "modality"]
    assert (config.series.quiet_s, config.series.released_quiet_s) == (20, 5)
