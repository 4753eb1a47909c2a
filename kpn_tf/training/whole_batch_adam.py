"""Adam for several devices on TensorFlow."""

import keras
import tensorflow as tf


class WholeBatchAdam(keras.optimizers.Adam):
    """Adam that clips the gradient of the whole batch.

    Keras 3.15 clips that of each replica and sums them afterwards: the norm would depend on how many there are.
    """

    def _clip_gradients(self, grads):
        return super()._clip_gradients(tf.distribute.get_replica_context().all_reduce("sum", grads))

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars
