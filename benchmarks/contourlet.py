"""Time of the contourlet transform over that of its 15 filters one by one: `python -m benchmarks.contourlet`."""

import statistics
import time

import numpy as np
import tensorflow as tf

from baselines import contourlet
from tests.reference import slow_contourlet

SIDE, ROUNDS = 256, 5


def main():
    """Prints how many times as fast the transform is."""
    image = tf.constant(np.random.default_rng(0).normal(size=(1, SIDE, SIDE, 1)), tf.float32)
    filters = [tf.constant(taps[:, :, None, None], tf.float32) for taps in slow_contourlet.filters()]

    @tf.function
    def one_by_one(image):
        return tf.concat([tf.nn.conv2d(image, taps, 1, "SAME") for taps in filters], axis=-1)

    seconds = {one_by_one: [], tf.function(contourlet.analysis): []}
    for transform in seconds:
        transform(image)  # Traces the graph.
    for _ in range(ROUNDS):
        for transform, taken in seconds.items():
            began = time.perf_counter()
            transform(image)
            taken.append(time.perf_counter() - began)
    slow, fast = map(statistics.median, seconds.values())
    print(f"{SIDE}x{SIDE}: {slow / fast:.1f} times as fast as its filters one by one")


if __name__ == "__main__":
    main()
