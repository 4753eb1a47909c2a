"""The devices that share each batch of a training: of this machine, or of the machines that TF_CONFIG names."""

import contextlib
import json
import os

import keras
import tensorflow as tf

# The environment variable that `tf.distribute` reads, and the word that asks for it.
TF_CONFIG = "TF_CONFIG"


class WorkerLostError(RuntimeError):
    """Another machine of the training has gone; the run folder has what all of them go on from."""


def strategy_for(workers: int | str) -> tf.distribute.Strategy:
    """The strategy in whose scope a network is created that several devices will train.

    Args:
        workers: Number of devices of this machine: its GPUs or, where it has none, logical devices of its CPU,
            which share its cores. Or `"TF_CONFIG"`: the machines that the environment variable names, each with all
            its GPUs; returns when all of them have started.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: If the machine has fewer GPUs, TensorFlow has already counted its devices, or the variable does
            not say which machines there are and which of them this is, or cannot be followed.

    Example:

    ```python
    with strategy_for(2).scope():
        network = StructKPN("edge")
    train(network, pairs, config)  # each device gets half of every batch
    ```
    """
    if isinstance(workers, str):
        address = _own_address()
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.OpError as error:
            raise ValueError(
                f"Expected TF_CONFIG to give this machine an address that it can listen at. Received: {address}, "
                f"{error.message}"
            ) from error
    if workers == 1:
        return tf.distribute.get_strategy()
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and len(gpus) < workers:
        raise ValueError(f"Expected {workers} GPUs for as many workers. Received: a machine with {len(gpus)}")
    if not gpus:
        _divide_processor(workers)
    kind = "GPU" if gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{index}" for index in range(workers)])


def _divide_processor(workers):
    """Makes logical devices of the CPU, unless the caller has."""
    (processor,) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(processor) or ()) >= workers:
        return
    try:
        tf.config.set_logical_device_configuration(
            processor, [tf.config.LogicalDeviceConfiguration()] * workers
        )
    except RuntimeError as error:
        raise ValueError(
            f"Expected to divide the CPU among {workers} workers before TensorFlow's first operation. "
            "Received: a call after it; call strategy_for first"
        ) from error


def _own_address():
    """This machine's address of TF_CONFIG; `tf.distribute` replaces what is missing there by guesses."""
    told = os.environ.get(TF_CONFIG)
    with contextlib.suppress(TypeError, KeyError, IndexError, ValueError):
        stated = json.loads(told)
        kind, index = stated["task"]["type"], int(stated["task"]["index"])
        if kind in ("chief", "worker") and index >= 0:
            return stated["cluster"][kind][index]
    raise ValueError(
        'Expected TF_CONFIG to name all workers and which of them this is, such as {"cluster": {"worker": '
        '["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}. '
        f"Received: {told or 'nothing'}"
    )


def expect_no_statistics(network):
    """Makes sure that several devices train a network as one would.

    Args:
        network: Keras model.

    Raises:
        ValueError: If it keeps something besides weights, such as batch statistics, of which each device would have
            its own, and several devices would train it.
    """
    if network.distribute_strategy.num_replicas_in_sync > 1 and network.non_trainable_variables:
        raise ValueError(
            "Expected a network without batch statistics for several workers: each would have its own. "
            f"Received: {type(network).__name__}; train it with one"
        )


def expect_equal_parts(strategy, patches):
    """Makes sure that the mean of the replicas' losses is that of the batch.

    Args:
        strategy: `tf.distribute.Strategy`.
        patches: Number of patches in a batch.

    Raises:
        ValueError: If its replicas cannot have equally many of them.
    """
    if patches % strategy.num_replicas_in_sync:
        raise ValueError(
            f"Expected a batch that {strategy.num_replicas_in_sync} workers can share equally. "
            f"Received: {patches} patches"
        )


def shares(strategy, batch):
    """A batch cut into as many equal parts as there are replicas, in their order.

    Args:
        strategy: `tf.distribute.Strategy`.
        batch: Arrays `(B, ...)` in tuples, the same on every machine.

    Returns:
        The same tuples of tensors `(B / replicas, ...)`, one for each array and replica of this machine.

    Raises:
        ValueError: If the parts would not be equal.
    """
    whole = len(keras.tree.flatten(batch)[0])
    expect_equal_parts(strategy, whole)
    size = whole // strategy.num_replicas_in_sync

    def share_of(images):
        def share(context):
            first = context.replica_id_in_sync_group * size
            return tf.constant(images[first : first + size])

        return strategy.experimental_distribute_values_from_function(share)

    return keras.tree.map_structure(share_of, batch)


def from_chief(strategy, values):
    """What the first replica has, on every machine.

    Args:
        strategy: `tf.distribute.Strategy`.
        values: Tensors or arrays, of the same shapes on every machine.

    Returns:
        List of tensors.
    """

    def offered(value):
        value = tf.convert_to_tensor(value)
        return strategy.experimental_distribute_values_from_function(
            lambda context: value if context.replica_id_in_sync_group == 0 else tf.zeros_like(value)
        )

    return [strategy.reduce("SUM", offered(value), axis=None) for value in values]


@contextlib.contextmanager
def all_workers_needed():
    """Turns what `tf.distribute` says when another machine has gone into one sentence.

    Raises:
        WorkerLostError: If one has gone.
    """
    try:
        yield
    # A machine that has gone is unavailable, one that has started anew is not what was expected.
    except (tf.errors.UnavailableError, tf.errors.FailedPreconditionError) as error:
        raise WorkerLostError(
            "Expected all workers to stay until the last step. Received: no answer from one; start all of them again, "
            "and the run goes on from its last checkpoint"
        ) from error
