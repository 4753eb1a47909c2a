"""Cutting a long axis into overlapping windows whose kept parts meet in exact seams."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """One window along one axis, and the part of it that is kept; all in pixels of the whole axis.

    Args:
        start: First pixel the network sees.
        stop: One past the last pixel the network sees.
        keep_start: First pixel taken from this window.
        keep_stop: One past the last pixel taken from this window.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def tiles(length, *, limit, halo, multiple):
    """Cuts an axis into windows of nearly equal length.

    Every cut edge is at least `halo` pixels away from what is kept, so a kept pixel sees all it would see in
    the uncut axis. Windows start at multiples of `multiple`, so a network that works at a lower resolution
    inside groups the same pixels together as it does in the uncut axis.

    Args:
        length: Pixels along the axis.
        limit: Longest axis that is left whole, and about the longest window.
        halo: How far an output pixel looks, in pixels.
        multiple: Grid the window starts lie on, in pixels.

    Returns:
        List of `Tile`; the kept parts follow each other and cover the axis.

    Example:

    >>> for tile in tiles(20, limit=13, halo=3, multiple=1):
    ...     print(tile)
    Tile(start=0, stop=13, keep_start=0, keep_stop=10)
    Tile(start=7, stop=20, keep_start=10, keep_stop=20)
    """
    halo = _round_up(halo, multiple)
    # A window of which less than half is kept would mostly compute what is thrown away.
    limit = max(limit, 4 * halo)
    if length <= limit:
        return [Tile(0, length, 0, length)]
    count = -(-(length - 2 * halo) // (limit - 2 * halo))
    step = _round_up(-(-(length - 2 * halo) // count), multiple)
    window = step + 2 * halo
    if window >= length:
        return [Tile(0, length, 0, length)]
    starts = [*range(0, length - window, step), (length - window) // multiple * multiple]
    stops = [start + window for start in starts[:-1]] + [length]
    seams = [0, *(start + halo for start in starts[1:]), length]
    return [
        Tile(start, stop, keep_start, keep_stop)
        for start, stop, keep_start, keep_stop in zip(starts, stops, seams[:-1], seams[1:], strict=True)
    ]


def _round_up(value, multiple):
    return -(-value // multiple) * multiple
