"""On JAX, `keras.distribution.DataParallel` takes the steps of one device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own: JAX counts its devices once, and Keras has one backend.
STEPS = """
import json
import jax, keras
from tests.training_worker import CONFIG, pairs
from kpn_tf import StructKPN
from kpn_tf.losses import absolute_error
from kpn_tf.training import make_optimizer


def losses(distribution):
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(2)
    network = StructKPN("edge")
    network.compile(loss=absolute_error, optimizer=make_optimizer(CONFIG))
    history = network.fit(pairs(), epochs=6, steps_per_epoch=1, shuffle=False, verbose=0)
    return history.history["loss"], len(network.trainable_variables[0].value.sharding.device_set)


both = keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"])
print(json.dumps([jax.device_count(), losses(None), losses(both)]))
"""


@pytest.mark.slow
def test_two_devices_under_jax_take_the_steps_of_one():
    finished = subprocess.run(
        [sys.executable, "-c", STEPS],
        cwd=Path(__file__).parents[1],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    devices, (alone, one), (together, two) = json.loads(finished.stdout.splitlines()[-1])
    assert (devices, one, two) == (2, 1, 2)
    assert len(alone) == 6
    assert together == pytest.approx(alone, rel=1e-5)
