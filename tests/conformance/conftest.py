"""The made series, each written when it is first asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.made_files import Made
from tests.conformance.made_series import WRITERS


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[Made]]]:
    """`made("tilt_forward")` is the folder of that case and the volumes that were written into it."""
    root = tmp_path_factory.mktemp("made")
    written: dict[str, list[Made]] = {}

    def folder(name: str) -> tuple[Path, list[Made]]:
        if name not in written:
            written[name] = WRITERS[name](root / name)
        return root / name, written[name]

    return folder
