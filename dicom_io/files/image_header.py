"""The image header of a file, read once: identity, grid, place, pixel format. No pixels, no patient.

A single-frame image holds one plane, an Enhanced one a plane for each frame. All of it is plain values, so that it
can lie as JSON beside the file and be had again without parsing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Identity = Mapping[str, tuple[str, str]]
"""By keyword two digests, of an attribute's meaning and of its spelling; empty attributes are left out."""


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels are stored (PS3.3 section C.7.6.3). `offset` is where the value of PixelData begins in the file.

    `offset` is None where pixels have to be decoded: compressed, deflated or without PixelData. Bits are 0 and
    `pixel_representation` is None where the file does not say them.
    """

    transfer_syntax_uid: str
    samples_per_pixel: int
    photometric_interpretation: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int | None
    number_of_frames: int
    pixel_padding_value: int | None
    pixel_padding_range_limit: int | None
    offset: int | None


@dataclass(frozen=True)
class Plane:
    """One image plane. Decimal strings are as in the file, for results copy them character by character.

    `frame_number` counts from 1 in an Enhanced image and is None in a single-frame one. `marks` are the values that
    may tell apart the volumes of one series, by keyword (see `MARKS`). Tuples are empty, and texts "", where the file
    says nothing.
    """

    frame_number: int | None
    image_position_patient: tuple[str, ...]
    image_orientation_patient: tuple[str, ...]
    pixel_spacing: tuple[str, ...]
    slice_thickness: str
    image_type: tuple[str, ...]
    rescale_slope: float | None
    rescale_intercept: float | None
    marks: Mapping[str, str]
    rescale_type: str = ""


@dataclass(frozen=True)
class ImageHeader:
    """What one file says. `pixels` is None, and `planes` are empty, where it holds no image.

    UIDs are "" where they are absent or none. `unusable` are the keywords of attributes that are stated and hold
    nothing that can be used: they count as absent.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    frame_of_reference_uid: str
    modality: str
    rows: int
    columns: int
    pixels: PixelFormat | None
    planes: tuple[Plane, ...]
    unusable: tuple[str, ...] = ()
    identity: Identity = field(default_factory=dict)
    """Whose it is and of which study and series: digests, which name nobody."""
    trailing: int = 0
    """Bytes after the pixel data that are no part of a data set."""
    instance_number: int | None = None
    """By which viewers show the image; None where it has none. Nothing is sorted by it."""

    def to_json(self) -> str:
        """As text; `from_json` gives it back."""
        return json.dumps(asdict(self), separators=(",", ":"))


def from_json(text: str) -> ImageHeader:
    """The header that `to_json` wrote. Raises ValueError for anything else, an older form too."""
    try:
        raw: dict[str, Any] = json.loads(text)
        pixels = None if raw["pixels"] is None else PixelFormat(**raw["pixels"])
        planes = tuple(Plane(**_with_tuples(plane)) for plane in raw["planes"])
        identity = {keyword: (meaning, text) for keyword, (meaning, text) in raw["identity"].items()}
        return ImageHeader(**_with_tuples(raw) | {"pixels": pixels, "planes": planes, "identity": identity})
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("not a stored image header") from error


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists alone."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
