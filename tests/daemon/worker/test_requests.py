"""Each stage, which the service knows by name alone, is there and takes and gives what is said of it."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from daemon.worker import decoding, requests
from daemon.worker.executor import Stage


def stages() -> Iterator[tuple[str, Stage[Any, Any], Any, Any]]:
    """Each stage that a module names, by its own name, with the types of its request and its answer."""
    for module in (requests, decoding):
        for name, hint in get_type_hints(module).items():
            if get_origin(hint) is Stage:
                yield name, getattr(module, name), *get_args(hint)


@pytest.mark.parametrize(("stage", "request_type", "answer"), [found for _, *found in stages()])
def test_a_stage_takes_and_gives_what_its_name_says(stage: Stage[Any, Any], request_type: Any, answer: Any) -> None:
    """mypy believes the name; here it is compared with the function."""
    hints = get_type_hints(stage.load())
    assert hints.pop("return") == answer
    assert next(iter(hints.values())) == request_type


def test_the_names_are_known() -> None:
    """The test above is worth what it finds."""
    assert {name for name, *_ in stages()} == {
        "WARM_UP",
        "SEGMENT",
        "REPORT",
        "VERDICT",
        "SHADOW",
        "SCORE",
        "READ",
        "PROVE",
    }
