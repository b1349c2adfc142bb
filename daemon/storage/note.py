"""What a running service has written of itself into the lock of its storage root, for the commands beside it."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Self

from daemon.configuration.config import Config


@dataclass(frozen=True)
class Note:
    """Hashes of what a service can take up anew and of all else of its configuration, its file, and its process.

    `answers` counts how often it was told to read its configuration anew, and has; `refused` are the lines of why it
    did not take up what it read last.
    """

    routing: str
    fixed: str
    pid: int
    file: str | None = None
    answers: int = 0
    refused: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config, *, answers: int = 0) -> Self:
        """Return the note of this process, which runs with a configuration."""
        return cls(config.routing_digest, config.fixed_digest, os.getpid(), config.file, answers)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what `text` made; None of another text, as it is while a service is just starting."""
        try:
            values = json.loads(text)
            return cls(**values | {"refused": tuple(values["refused"])})
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def text(self) -> str:
        """It, as it is written."""
        return json.dumps(asdict(self))
