"""Connected pixels are those of SciPy's labels."""

import numpy as np
import pytest
from scipy import ndimage

from kpn_tf.connected import connected


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.6])
def test_what_is_connected_has_the_labels_of_the_start(corners, share):
    rng = np.random.default_rng(3)
    mask = rng.random((37, 51)) < share
    start = rng.random(mask.shape) < 0.01
    labels, _ = ndimage.label(mask, np.ones((3, 3)) if corners else None)
    expected = np.isin(labels, np.unique(labels[start & mask])) & mask
    before = mask.copy(), start.copy()
    np.testing.assert_array_equal(connected(mask, start, corners=corners), expected)
    np.testing.assert_array_equal((mask, start), before)


def test_nothing_is_connected_with_a_start_outside_of_the_mask():
    mask = np.eye(11, 7, dtype=bool)
    assert not connected(mask, ~mask, corners=True).any()
