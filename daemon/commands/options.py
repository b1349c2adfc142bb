"""Options of the command line, and the values that some of them may have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Modality(StrEnum):
    """The modality of an image that does not state it."""

    CT = "CT"
    MR = "MR"


class Prefer(StrEnum):
    """The values of a rule's `prefer`."""

    PORTAL = "portal"
    ARTERIAL = "arterial"
    NATIVE = "native"
    DELAYED = "delayed"
    ALL = "all"


class Part(StrEnum):
    """The parts of a split."""

    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


class Method(StrEnum):
    """The methods to explain a lesion."""

    GRADCAM = "gradcam"
    OCCLUSION = "occlusion"
    BOTH = "both"


class Pictures(StrEnum):
    """The cases whose worst results the page of a comparison shows."""

    ALL = "all"
    PHANTOMS = "phantoms"
    NONE = "none"


class LedgerAction(StrEnum):
    """What `porta ledger` can do."""

    REBUILD = "rebuild"


class RulesAction(StrEnum):
    """What `porta rules` can do."""

    TEST = "test"


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The TOML file; else $PORTA_CONFIG, ./porta.toml, /etc/porta/porta.toml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
PreferOption = Annotated[Prefer, typer.Option(help="The phase to segment where a series holds several.")]
