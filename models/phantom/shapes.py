"""Surfaces as distances: negative inside, positive outside, in mm near the surface, 0 on it."""

from dataclasses import dataclass

import numpy as np

from models.phantom.space import Axes, Float, Point


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and semi-axes in LPS mm."""

    centre: Point
    axes: Point

    def radius(self, x: Float, y: Float, z: Float) -> Float:
        """The normalised radius: 0 at the centre, 1 on the surface."""
        (cx, cy, cz), (ax, ay, az) = self.centre, self.axes
        squares = ((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2
        return np.asarray(np.sqrt(squares), dtype=np.float32)

    def distance(self, axes: Axes) -> Float:
        """Signed distance, to scale where the surface is about as far as the mean semi-axis."""
        return np.asarray((self.radius(*axes.open) - 1) * np.float32(np.mean(self.axes)), dtype=np.float32)

    def bounds(self, margin_mm: float) -> tuple[Point, Point]:
        """The corners of a box that holds it with a margin."""
        reach = np.array(self.axes) + margin_mm
        low, high = np.array(self.centre) - reach, np.array(self.centre) + reach
        return point(low), point(high)


@dataclass(frozen=True)
class Segment:
    """A straight piece of a tube that tapers from `start_radius_mm` to `end_radius_mm`, its ends round."""

    start: Point
    end: Point
    start_radius_mm: float
    end_radius_mm: float

    def distance(self, axes: Axes) -> Float:
        """Signed distance to the tube's wall."""
        x, y, z = axes.open
        (ax, ay, az), direction = self.start, np.subtract(self.end, self.start)
        length = float(direction @ direction)
        dx, dy, dz = x - np.float32(ax), y - np.float32(ay), z - np.float32(az)
        ux, uy, uz = (direction / max(length, 1e-6)).astype(np.float32)
        along = np.clip(dx * ux + dy * uy + dz * uz, 0, 1)
        vx, vy, vz = direction.astype(np.float32)
        away = np.sqrt((dx - along * vx) ** 2 + (dy - along * vy) ** 2 + (dz - along * vz) ** 2)
        radius = np.float32(self.start_radius_mm) + along * np.float32(self.end_radius_mm - self.start_radius_mm)
        return np.asarray(away - radius, dtype=np.float32)

    def bounds(self, margin_mm: float) -> tuple[Point, Point]:
        """The corners of a box that holds it with a margin."""
        reach = max(self.start_radius_mm, self.end_radius_mm) + margin_mm
        low, high = np.minimum(self.start, self.end) - reach, np.maximum(self.start, self.end) + reach
        return point(low), point(high)


@dataclass(frozen=True)
class Tube:
    """Segments end to end: a vessel, a bowel, a stomach."""

    segments: tuple[Segment, ...]

    def distance(self, axes: Axes, blend_mm: float = 0.0) -> Float:
        """Signed distance to the nearest segment; `blend_mm` rounds the joints."""
        distance = self.segments[0].distance(axes)
        for segment in self.segments[1:]:
            other = segment.distance(axes)
            distance = joined(distance, other, blend_mm) if blend_mm else np.minimum(distance, other)
        return distance

    def bounds(self, margin_mm: float) -> tuple[Point, Point]:
        """The corners of a box that holds it with a margin."""
        boxes = [segment.bounds(margin_mm) for segment in self.segments]
        return point(np.min([box[0] for box in boxes], axis=0)), point(np.max([box[1] for box in boxes], axis=0))


def tube(*stations: tuple[Point, float]) -> Tube:
    """A tube through points, with its radius at each."""
    pairs = zip(stations[:-1], stations[1:], strict=True)
    return Tube(tuple(Segment(start, end, first, last) for (start, first), (end, last) in pairs))


def common(one: Float, two: Float, blend_mm: float) -> Float:
    """The intersection of two shapes, its edge rounded over `blend_mm`."""
    soft = np.maximum(np.float32(blend_mm) - np.abs(one - two), 0)
    return np.asarray(np.maximum(one, two) + soft * soft * np.float32(0.25 / blend_mm), dtype=np.float32)


def joined(one: Float, two: Float, blend_mm: float) -> Float:
    """The union of two shapes, the groove between them filled over `blend_mm`."""
    return -common(-one, -two, blend_mm)


def without(one: Float, two: Float, blend_mm: float) -> Float:
    """What of the first shape the second leaves."""
    return common(one, -two, blend_mm)


def point(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Point:
    """Three plain floats."""
    x, y, z = (float(value) for value in values)
    return x, y, z
