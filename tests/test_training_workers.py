"""Several machines take the steps of one, and a machine that is killed costs the steps since the last checkpoint."""

import json
import shutil
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from baselines.wavresnet import WavResNet
from kpn_tf.training import loop, strategy_for
from kpn_tf.training.workers import (
    WorkerLostError,
    all_workers_needed,
    expect_equal_parts,
    expect_no_statistics,
)
from tests.training_worker import pairs, start, undisturbed

# What the order of a sum changes: measured below 1e-6 of a loss and 1e-7 of a weight.
LOSS_RTOL, WEIGHT_ATOL = 1e-5, 1e-6


@pytest.fixture(scope="module")
def alone():
    """Losses and weights of the training on one device."""
    return undisturbed(pairs(), strategy_for(1))


@pytest.fixture
def folders(tmp_path):
    """Those of two machines, which share none."""
    made = [tmp_path / "first", tmp_path / "second"]
    for folder in made:
        folder.mkdir()
    return made


def finish(processes):
    """Waits for processes; returns their last lines on standard error."""
    errors = [process.communicate(timeout=300)[1] for process in processes]
    return [error.splitlines()[-1] if error else "" for error in errors]


def expect_results(folders, losses, weights):
    for folder in folders:
        with np.load(folder / "result.npz") as result:
            np.testing.assert_allclose(result["losses"], losses, rtol=LOSS_RTOL)
            assert len(result) == 1 + len(weights)
            for index, weight in enumerate(weights):
                np.testing.assert_allclose(result[f"arr_{index}"], weight, rtol=0, atol=WEIGHT_ATOL)


@pytest.mark.slow
def test_two_machines_take_the_steps_of_one_and_only_the_first_keeps_a_run(alone, folders):
    processes = start(folders)
    last_lines = finish(processes)
    assert [process.returncode for process in processes] == [0, 0], last_lines
    expect_results(folders, *alone)
    assert [path.name for path in folders[1].iterdir()] == ["result.npz"]
    log = [json.loads(line) for line in (folders[0] / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [3, 6]
    assert [entry["loss"] for entry in log] == pytest.approx(
        [np.mean(alone[0][:3]), np.mean(alone[0][3:])], rel=LOSS_RTOL
    )


@pytest.mark.slow
def test_a_killed_machine_stops_the_others_and_all_or_one_go_on_from_the_checkpoint(alone, folders, tmp_path):
    processes = start(folders, steps=(7, 4))
    deadline = time.monotonic() + 300
    while not (folders[1] / "reached").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGKILL)
    last_line, _ = finish(processes)
    assert processes[0].returncode == 1
    assert last_line.endswith(
        "WorkerLostError: Expected all workers to stay until the last step. Received: no answer from one; start all "
        "of them again, and the run goes on from its last checkpoint"
    )
    shutil.copytree(folders[0] / "run", tmp_path / "run")
    again = start(folders)
    last_lines = finish(again)
    assert [process.returncode for process in again] == [0, 0], last_lines
    losses, weights = alone
    # The checkpoint of step 3 was the last.
    expect_results(folders, losses[3:], weights)
    rest, weights_of_one = undisturbed(pairs(), strategy_for(1), tmp_path / "run")
    np.testing.assert_allclose(rest, losses[3:], rtol=LOSS_RTOL)
    for after, before in zip(weights_of_one, weights, strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=WEIGHT_ATOL)


def test_a_machine_with_other_series_is_refused(monkeypatch):
    def chiefs(strategy, values):
        done, digest, *state = values
        return done, digest + 1, *state

    monkeypatch.setattr(loop, "from_chief", chiefs)
    with pytest.raises(
        ValueError, match=r"pairs of the first worker\. Received: others here; give every worker"
    ):
        undisturbed(pairs(), strategy_for(1))


def test_batch_statistics_and_unequal_parts_are_refused():
    for network, replicas in ((WavResNet(), 1), (SimpleNamespace(non_trainable_variables=[]), 2)):
        expect_no_statistics(with_replicas(network, replicas))
    with pytest.raises(
        ValueError, match=r"batch statistics for several workers.*: WavResNet; train it with one"
    ):
        expect_no_statistics(with_replicas(WavResNet(), 2))
    strategy = SimpleNamespace(num_replicas_in_sync=3)
    expect_equal_parts(strategy, 6)
    with pytest.raises(ValueError, match=r"a batch that 3 workers can share equally\. Received: 8 patches"):
        expect_equal_parts(strategy, 8)


def with_replicas(network, replicas):
    """A network as if it were on several devices."""
    class_name = type(network).__name__
    fake = type(class_name, (), {})()
    fake.non_trainable_variables = network.non_trainable_variables
    fake.distribute_strategy = SimpleNamespace(num_replicas_in_sync=replicas)
    return fake


def test_the_processor_is_divided_before_the_first_operation_or_not_at_all():
    tf.constant(0)
    with pytest.raises(ValueError, match=r"among 2 workers before TensorFlow's first operation"):
        strategy_for(2)


def test_more_workers_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one"] if kind == "GPU" else [])
    with pytest.raises(ValueError, match=r"Expected 2 GPUs for as many workers\. Received: a machine with 1"):
        strategy_for(2)


@pytest.mark.parametrize(
    "told",
    [
        None,
        "",
        "{",
        "[]",
        '{"cluster": {"worker": ["one:2222"]}}',
        '{"cluster": {"worker": ["one:2222"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["one:2222"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"ps": ["one:2222"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_tf_config_without_this_machines_place_is_refused(monkeypatch, told):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if told is not None:
        monkeypatch.setenv("TF_CONFIG", told)
    with pytest.raises(ValueError, match=r"Expected TF_CONFIG to name all workers .* Received: ") as refusal:
        strategy_for("TF_CONFIG")
    assert str(refusal.value).endswith(f"Received: {told or 'nothing'}")


def test_only_what_a_lost_machine_causes_is_called_that():
    with pytest.raises(WorkerLostError), all_workers_needed():
        raise tf.errors.UnavailableError(None, None, "gone")
    with pytest.raises(tf.errors.ResourceExhaustedError), all_workers_needed():
        raise tf.errors.ResourceExhaustedError(None, None, "too big")
