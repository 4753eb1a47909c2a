"""Solids of the phantom, asked point by point."""

import math


def in_ellipsoid(point_mm, centre_mm, axes_mm, degrees):
    dx, dy, dz = (p - c for p, c in zip(point_mm, centre_mm, strict=True))
    turn = math.radians(degrees)
    u = dx * math.cos(turn) + dy * math.sin(turn)
    v = dy * math.cos(turn) - dx * math.sin(turn)
    return (u / axes_mm[0]) ** 2 + (v / axes_mm[1]) ** 2 + (dz / axes_mm[2]) ** 2 <= 1


def in_tube(point_mm, start_mm, end_mm, start_radius_mm, end_radius_mm):
    axis = [b - a for a, b in zip(start_mm, end_mm, strict=True)]
    from_start = [p - a for p, a in zip(point_mm, start_mm, strict=True)]
    share = sum(a * b for a, b in zip(axis, from_start, strict=True)) / sum(a * a for a in axis)
    share = min(max(share, 0.0), 1.0)
    nearest = [a + share * d for a, d in zip(start_mm, axis, strict=True)]
    return math.dist(point_mm, nearest) <= start_radius_mm + share * (end_radius_mm - start_radius_mm)
