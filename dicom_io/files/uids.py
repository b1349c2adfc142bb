"""UIDs that can be made again, and the check that keeps a stranger's UID from becoming a path."""

import re
from uuid import UUID, uuid5

from dicom_io.errors import InvalidUID

_NAMESPACE = UUID("b4a1d1f6-0c2e-5b0e-9a55-6f7a70686570")


def derive_uid(*parts: str | int) -> str:
    """Return the same UID for the same parts, always and everywhere (2.25 + UUIDv5, PS3.5 section B.2)."""
    return f"2.25.{uuid5(_NAMESPACE, '/'.join(str(part) for part in parts)).int}"


def checked_uid(value: object) -> str:
    """`value` as text if it is a UID (PS3.5 section 9.1: digits and dots, at most 64); raises InvalidUID.

    Components with leading zeros, which some scanners write, are let through: they are harmless as a path.
    """
    text = str(value).strip("\0 ")
    if len(text) > 64 or not re.fullmatch(r"[0-9]+(\.[0-9]+)+", text):
        raise InvalidUID("not a UID")
    return text
