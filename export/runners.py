"""Every artefact as a function: slices in HU in, slices in HU out, in the runtime it was made for and nothing else."""

from pathlib import Path


def run_artefact(path, threads):
    """Opens an artefact in its runtime, on the CPU; no other runtime is loaded.

    Args:
        path: A `.tflite`, `.onnx`, OpenVINO's `.xml`, a `.keras`, or the folder of a SavedModel's version.
        threads: Threads to compute with.

    Returns:
        Function from a float32 array `(1, H, W, 1)` in HU to the same.
    """
    path = Path(path)
    runtimes = {".tflite": _litert, ".onnx": _onnxruntime, ".xml": _openvino, ".keras": _keras}
    return runtimes.get(path.suffix, _saved_model)(path, threads)


def run_naively(path, threads):
    """`edge` as a kernel prediction network is first written: all kernels, all patches, multiplied and summed.

    Args:
        path: The `.keras` of preset `edge`.
        threads: Threads to compute with.

    Returns:
        Function from a float32 array `(1, H, W, 1)` in HU to the same; `H` and `W` divide by 4.
    """
    tf = _tensorflow(threads)
    from kpn_tf.ops.limits import within_limits
    from kpn_tf.ops.local_conv import local_conv
    from kpn_tf.ops.space_depth import depth_to_space

    network = _loaded(path)
    mixture = network.filtering

    def filtered(batch_hu):
        shares = mixture.shares(network.predictor(network.trunk(batch_hu)))
        bank = tf.reshape(mixture.unit_sum_bank(), (-1, mixture.filters))  # (k * k, C)
        kernels = tf.einsum("bhwc,tc->bhwt", depth_to_space(shares, mixture.stride), bank)
        return local_conv(batch_hu, kernels)

    denoise = tf.function(lambda batch_hu: within_limits(filtered, batch_hu))
    return lambda batch_hu: denoise(batch_hu).numpy()


def _litert(path, threads):
    from kpn_tf import Denoiser

    denoise = Denoiser(path, threads=threads)
    return lambda batch_hu: denoise(batch_hu[0, :, :, 0])[None, :, :, None]


def _onnxruntime(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch_hu: session.run(["denoised_hu"], {"slice_hu": batch_hu})[0]


def _openvino(path, threads):
    from export.silent_openvino import openvino

    as_float32 = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", as_float32)
    return lambda batch_hu: compiled(batch_hu)[0]


def _saved_model(path, threads):
    tf = _tensorflow(threads)
    loaded = tf.saved_model.load(str(path))
    denoise = loaded.signatures["serving_default"]

    def run(batch_hu, loaded=loaded):  # Without it, nobody would hold the variables.
        return denoise(slice_hu=tf.constant(batch_hu))["denoised_hu"].numpy()

    return run


def _keras(path, threads):
    _tensorflow(threads)
    return _loaded(path).predict_on_batch


def _loaded(path):
    from kpn_tf.networks import load_saved

    return load_saved(path)


def _tensorflow(threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return tf
