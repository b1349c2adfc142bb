"""Options of the command line, and the values that some of them may have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Modality(StrEnum):
    """What an image is that does not say it."""

    CT = "CT"
    MR = "MR"


class Prefer(StrEnum):
    """What a rule's `prefer` may be."""

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
    """How a lesion is explained."""

    GRADCAM = "gradcam"
    OCCLUSION = "occlusion"
    BOTH = "both"


class Pictures(StrEnum):
    """Whose worst cases the page of a comparison shows."""

    ALL = "all"
    PHANTOMS = "phantoms"
    NONE = "none"


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The TOML file; else $PORTA_CONFIG, ./porta.toml, /etc/porta/porta.toml."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For scripts.")]
PreferOption = Annotated[Prefer, typer.Option(help="Which volume of a series that holds several.")]
