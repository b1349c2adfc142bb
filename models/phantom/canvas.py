"""What is painted on: a few slices of a phantom at a time, so that a large one needs no more memory."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.phantom.body import Body, Outline, stretch
from models.phantom.space import Axes, Float, Point, Window

Values = NDArray[np.floating[Any]]


class Shape(Protocol):
    """A surface with a box around it."""

    def distance(self, axes: Axes) -> Float:
        """Signed distance, mm."""
        ...

    def bounds(self, margin_mm: float) -> tuple[Point, Point]:
        """The corners of a box that holds it with a margin."""
        ...


@dataclass(frozen=True, eq=False)
class Canvas:
    """The slices at `axes`: values (slice, row, column) to paint on, and what the trunk is there.

    `edge_mm` is a pixel's width: a surface that crosses a pixel colours it in part. `cavity`, `muscle`, `skin`,
    `dome`: signed distances in mm to the trunk's outlines and the diaphragm, negative inside and below it.
    """

    axes: Axes
    values: Float
    edge_mm: float
    outline: Outline
    cavity: Float
    muscle: Float
    skin: Float
    dome: Float

    def paint(self, distance: Float, value: Values | float, window: Window | None = None) -> None:
        """Colour what lies inside of a surface, by as much of each pixel as it covers."""
        values = self.values if window is None else self.values[window]
        cover = np.clip(np.float32(0.5) - distance * np.float32(1 / self.edge_mm), 0, 1)
        values += cover * (np.asarray(value, dtype=np.float32) - values)

    def paint_shape(self, shape: Shape, value: float, *, within: Float | None = None, margin_mm: float = 0.0) -> None:
        """Colour a shape, grown by `margin_mm`, in its own box; `within`: only inside of another surface."""
        window = self.axes.window(*shape.bounds(margin_mm + self.edge_mm))
        if window is None:
            return
        distance = shape.distance(self.axes.part(window)) - np.float32(margin_mm)
        self.paint(distance if within is None else np.maximum(distance, within[window]), value, window)

    def part(self, window: Window) -> "Canvas":
        """A part of it; what is painted there is on the whole."""
        return replace(
            self,
            axes=self.axes.part(window),
            outline=self.outline.part(window),
            **{name: getattr(self, name)[window] for name in ("values", "cavity", "muscle", "skin", "dome")},
        )


def canvas(body: Body, axes: Axes, plane: Outline, edge_mm: float, background: float) -> Canvas:
    """An empty canvas: `background` everywhere."""
    wide = stretch(body, axes)
    bumps = body.surface.on(axes)
    ripple = np.float32(1.2) * body.unevenness.on(axes)
    z = axes.open[2]
    return Canvas(
        axes=axes,
        values=np.full(axes.shape, background, dtype=np.float32),
        edge_mm=edge_mm,
        outline=plane,
        cavity=plane.radius - wide * plane.cavity + np.float32(1.5) * bumps,
        muscle=plane.radius - wide * plane.muscle + np.float32(1.5) * bumps + ripple,
        skin=plane.radius - wide * plane.skin + np.float32(3.0) * bumps,
        dome=np.asarray(z - plane.dome + np.float32(2.0) * bumps, dtype=np.float32),
    )
