"""A network that does not do what it is for is found out before the first patient."""

import numpy as np
import pytest

from kpn_tf.denoiser import Denoiser
from kpn_tf.node.network.self_test import SelfTestError, self_test


def blurred(slice_hu):
    """Takes the noise away, and the edges with it."""
    rows = sum(np.roll(slice_hu, shift, 0) for shift in range(-8, 9)) / 17
    return sum(np.roll(rows, shift, 1) for shift in range(-8, 9)) / 17


def test_a_network_of_stacks_is_tried_with_neighbours_and_without():
    edge = Denoiser("edge", threads=2)

    def stacks(wrong_with):
        def denoise(slice_hu, padding=None, neighbours=()):
            assert [one.distance_mm for one in neighbours] in ([], [1.0, 1.0])
            return edge(slice_hu) + 5.0 * (len(neighbours) == wrong_with)

        denoise.slices = 3
        return denoise

    assert self_test(stacks(None))[0] < 0.6
    for neighbours in (0, 2):
        with pytest.raises(SelfTestError, match="moves its liver by at most 1 HU"):
            self_test(stacks(neighbours))


def test_the_shipped_network_leaves_two_fifths_of_the_error_and_keeps_the_liver():
    error_left, shift_hu = self_test(Denoiser("edge", threads=2))
    assert error_left == pytest.approx(0.39, abs=0.02)
    assert abs(shift_hu) < 0.2


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (lambda slice_hu: slice_hu, "Received: 100% and 0.00 HU"),
        (blurred, "Expected a network that leaves at most 60% of a torso's error"),
        (lambda slice_hu: slice_hu * np.nan, "Received: nan% and nan HU"),
        (lambda slice_hu: Denoiser("edge", threads=2)(slice_hu) + 1.5, "moves its liver by at most 1 HU"),
    ],
)
def test_what_does_nothing_blurs_breaks_or_shifts_is_refused(network, said):
    with pytest.raises(SelfTestError, match=said):
        self_test(network)
