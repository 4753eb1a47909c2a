"""Tiles cover an axis once, keep their distance from the cuts, and start on the network's grid."""

from hypothesis import given
from hypothesis import strategies as st

from kpn_tf.denoiser.tiling import tiles


def cut(draw):
    return draw(st.integers(1, 4000)), {
        "limit": draw(st.integers(21, 900)),
        "halo": draw(st.integers(0, 120)),
        "multiple": draw(st.sampled_from([1, 2, 4, 6])),
    }


@given(st.data())
def test_kept_parts_cover_the_axis_once_and_in_order(data):
    length, how = cut(data.draw)
    kept = [pixel for tile in tiles(length, **how) for pixel in range(tile.keep_start, tile.keep_stop)]
    assert kept == list(range(length))


@given(st.data())
def test_a_kept_pixel_is_a_halo_away_from_every_cut(data):
    length, how = cut(data.draw)
    for tile in tiles(length, **how):
        assert tile.start == 0 or tile.keep_start - tile.start >= how["halo"]
        assert tile.stop == length or tile.stop - tile.keep_stop >= how["halo"]


@given(st.data())
def test_cuts_lie_on_the_grid_of_the_network(data):
    length, how = cut(data.draw)
    for tile in tiles(length, **how):
        assert tile.start % how["multiple"] == 0
        assert tile.stop == length or tile.stop % how["multiple"] == 0


@given(st.data())
def test_no_window_is_much_longer_than_the_limit(data):
    length, how = cut(data.draw)
    longest = max(how["limit"], 4 * (how["halo"] + how["multiple"])) + 2 * how["multiple"]
    assert all(tile.stop - tile.start <= longest for tile in tiles(length, **how))


def test_an_axis_within_the_limit_stays_whole():
    assert len(tiles(768, limit=768, halo=40, multiple=4)) == 1


def test_a_slightly_longer_axis_is_cut_in_two_windows_of_nearly_equal_length():
    first, last = tiles(1023, limit=768, halo=40, multiple=4)
    assert abs((first.stop - first.start) - (last.stop - last.start)) < 4
