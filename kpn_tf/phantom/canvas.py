"""One slice of labels on a fine grid, and the solids that are cut by it."""

import numpy as np


class Canvas:
    """Labels of one slice; later solids cover earlier ones.

    Args:
        rows: Height in fine pixels.
        columns: Width in fine pixels.
        spacing_mm: Distance between fine pixels.
        z_mm: Where the slice lies.
    """

    def __init__(self, rows, columns, spacing_mm, z_mm):
        self.labels = np.zeros((rows, columns), np.uint8)
        self.z_mm = z_mm
        self._spacing_mm = spacing_mm
        self._y = ((np.arange(rows) - (rows - 1) / 2) * spacing_mm).astype(np.float32)
        self._x = ((np.arange(columns) - (columns - 1) / 2) * spacing_mm).astype(np.float32)

    def _box(self, x0, x1, y0, y1):
        """The fine pixels between two corners in mm: a view of the labels, `y` as a column, `x` as a row."""
        rows = slice(*np.searchsorted(self._y, (y0, y1)))
        columns = slice(*np.searchsorted(self._x, (x0, x1)))
        return self.labels[rows, columns], self._y[rows, None], self._x[None, columns]

    def ellipsoid(self, label, centre_mm, axes_mm, degrees=0.0, power=2.0, only=None):
        """Draws the slice's cut through an ellipsoid.

        Args:
            label: What it is made of.
            centre_mm: `(x, y)`, or `(x, y, z)`; without z it is a cylinder along z.
            axes_mm: Half axes `(a, b)` or `(a, b, c)`.
            degrees: Turns the a axis from x towards y.
            power: Exponent of the in-plane norm; above 2 the outline comes closer to a rectangle.
            only: Labels that may be covered; `None` covers all.
        """
        (cx, cy, *cz), (a, b, *c) = centre_mm, axes_mm
        if c:
            left = 1 - ((self.z_mm - cz[0]) / c[0]) ** 2
            if left <= 0:
                return
            a, b = a * left**0.5, b * left**0.5
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        reach_x, reach_y = a * abs(cosine) + b * abs(sine), a * abs(sine) + b * abs(cosine)
        labels, y, x = self._box(cx - reach_x, cx + reach_x, cy - reach_y, cy + reach_y)
        u, v = x - np.float32(cx), y - np.float32(cy)
        if degrees:  # otherwise a row and a column, and only the comparison below is two-dimensional
            u, v = (
                np.float32(cosine) * u + np.float32(sine) * v,
                np.float32(cosine) * v - np.float32(sine) * u,
            )
        inside = np.abs(u / np.float32(a)) ** power + np.abs(v / np.float32(b)) ** power <= 1
        self._cover(labels, inside, label, only)

    def band(self, label, x_mm, top_mm, thickness_mm, curvature_per_mm):
        """Draws a sheet of even thickness that hangs through like a parabola, `x_mm` to both sides."""
        labels, y, x = self._box(-x_mm, x_mm, -np.inf, np.inf)
        depth = y - np.float32(top_mm) + np.float32(curvature_per_mm) * x * x
        self._cover(labels, (depth >= 0) & (depth <= thickness_mm), label, None)

    def tubes(self, label, tubes_mm, only):
        """Draws the slice's cut through round tubes.

        Args:
            label: What they are made of.
            tubes_mm: `(n, 8)`: start x, y, z, end x, y, z, start radius, end radius.
            only: Labels that may be covered.
        """
        radius = tubes_mm[:, 6:].max(1)
        low = np.minimum(tubes_mm[:, 2], tubes_mm[:, 5]) - radius
        high = np.maximum(tubes_mm[:, 2], tubes_mm[:, 5]) + radius
        for *ends, r0, r1 in tubes_mm[(low <= self.z_mm) & (self.z_mm <= high)].tolist():
            (x0, y0, z0), (x1, y1, z1) = ends[:3], ends[3:]
            r = max(r0, r1)
            labels, y, x = self._box(min(x0, x1) - r, max(x0, x1) + r, min(y0, y1) - r, max(y0, y1) + r)
            dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
            px, py, pz = x - np.float32(x0), y - np.float32(y0), self.z_mm - z0
            along = (px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz)
            along = np.clip(along, 0, 1)
            distance2 = (px - along * dx) ** 2 + (py - along * dy) ** 2 + (pz - along * dz) ** 2
            self._cover(labels, distance2 <= (r0 + along * (r1 - r0)) ** 2, label, only)

    @staticmethod
    def _cover(labels, inside, label, only):
        if only is not None:
            # Few labels are named here, and comparing with each is several times faster than np.isin.
            inside = inside & np.logical_or.reduce([labels == other for other in only])
        labels[inside] = label
