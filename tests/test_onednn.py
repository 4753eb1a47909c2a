"""TensorFlow computes with oneDNN on newer CPUs, and has other kernels elsewhere: everything trains with both."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

NETWORKS = ("edge", "paper", "redcnn", "wavresnet")

# One step of each network with the structure-aware loss, as narrow and shallow as leaves every operation in it; the
# environment is read when TensorFlow is imported.
ONE_STEP = """
import json
import keras
import numpy as np
from baselines import wavresnet
from baselines.redcnn import REDCNN
from kpn_tf import StructKPN, StructureAwareLoss
from kpn_tf.training import TrainingConfig, train

clean_hu = np.full((1, 24, 28, 1), 40, "float32")
noisy_hu = clean_hu + np.random.default_rng(8).normal(0, 25, clean_hu.shape).astype("float32")
wavresnet.FEATURES, wavresnet.MODULES = 8, 1
made = {
    "edge": lambda: StructKPN("edge", blocks=1, channels=8),
    "paper": lambda: StructKPN("paper", blocks=2, channels=8),
    "redcnn": lambda: REDCNN(channels=8),
    "wavresnet": wavresnet.WavResNet,
}
losses = {}
for name, make in made.items():
    keras.utils.set_random_seed(7)
    network = make()
    before = network.get_weights()
    config = TrainingConfig(steps=1, learning_rate=1e-3, ema=0.0)
    (loss,) = train(network, [(noisy_hu, clean_hu)], config, loss=StructureAwareLoss(), progress=False)
    after = network.get_weights()
    moved = sum((old != new).any() for old, new in zip(before, after, strict=True))
    losses[name] = [float(loss), moved / len(after), bool(all(np.isfinite(new).all() for new in after))]
print(json.dumps(losses))
"""


@pytest.fixture(scope="module")
def told():
    """What one step tells with oneDNN off, or with it on where all other tests run without."""
    setting = "1" if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" else "0"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": setting}
    call = [sys.executable, "-c", ONE_STEP]
    run = subprocess.run(
        call, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains_without_onednn_too(told, name):
    loss, moved, finite = told[name]
    assert math.isfinite(loss)
    assert finite
    # All but what a first step from these weights cannot move.
    assert moved > 0.5
