"""What TensorFlow Serving reads besides the model: requests to warm up with, and two configuration files."""

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from kpn_tf.files import write_text

WARM_UP_SIDE = 512

BATCHING = """\
# How TensorFlow Serving merges requests (--batching_parameters_file).
# The most slices that are computed, and held in memory, at once; a request with more of them is refused.
max_batch_size { value: 8 }
# How long a request waits for others.
batch_timeout_micros { value: 2000 }
# One batch at a time: each is computed on all cores.
num_batch_threads { value: 1 }
max_enqueued_batches { value: 64 }
"""


def write_warm_up(path, model, slices=1):
    """Writes the requests that a server answers before it takes its first: one of each signature, 512×512.

    Args:
        path: File to write; TensorFlow Serving looks for `assets.extra/tf_serving_warmup_requests`.
        model: Name of the model.
        slices: Slices of a stack.
    """
    side = WARM_UP_SIDE
    shape = (1, side, side, slices)
    inputs = {
        "serving_default": {"slice_hu": tf.make_tensor_proto(0, tf.float32, shape)},
        "int16": {"slice_hu": tf.make_tensor_proto(0, tf.int32, shape)},
        "bytes": {
            "slice_bytes": tf.make_tensor_proto([np.zeros(shape, "<i2").tobytes()]),
            "rows": tf.make_tensor_proto([side], tf.int32),
            "columns": tf.make_tensor_proto([side], tf.int32),
        },
    }
    if slices > 1:
        for tensors in inputs.values():
            tensors["distances_mm"] = tf.make_tensor_proto(0, tf.float32, (1, slices))
    with tf.io.TFRecordWriter(str(path)) as records:
        for signature, tensors in inputs.items():
            request = predict_pb2.PredictRequest(inputs=tensors)
            request.model_spec.name = model
            request.model_spec.signature_name = signature
            log = prediction_log_pb2.PredictLog(request=request)
            records.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def write_configuration(base, model):
    """Writes `models.config` and `batching.config` where they are absent: they are there to be edited.

    Args:
        base: Folder of the model's versions, mounted in the server as `/models/<model>`.
        model: Name of the model, part of its address.
    """
    entry = model_server_config_pb2.ModelConfig(
        name=model, base_path=f"/models/{model}", model_platform="tensorflow"
    )
    served = model_server_config_pb2.ModelServerConfig()
    served.model_config_list.config.append(entry)
    for name, text in (("models.config", text_format.MessageToString(served)), ("batching.config", BATCHING)):
        if not (base / name).exists():
            write_text(base / name, text)
