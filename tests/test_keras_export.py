"""What Keras itself exports: every network in every format gives the numbers of Keras in the format's own runtime."""

import keras
import numpy as np
import pytest
from keras import ops

import baselines.redcnn
import baselines.wavresnet
from kpn_tf import StructKPN
from kpn_tf.networks import StackKPN

BACKEND = keras.backend.backend()

# tf2onnx comes out wrong of about one WavResNet in fifteen: see export/onnx.py.
ATTEMPTS = 3

NETWORKS = {
    "edge": lambda: StructKPN("edge", blocks=1, channels=8),
    "paper": lambda: StructKPN("paper", blocks=2, channels=8, kernel_size=5),
    "free kernels at half resolution": lambda: StructKPN(trunk="half", blocks=1, channels=8, kernel_size=5),
    "a mixture at full resolution": lambda: StructKPN("edge", trunk="full", blocks=1, channels=8),
    "StackKPN": lambda: StackKPN(3),
    "REDCNN": lambda: baselines.redcnn.REDCNN(channels=8),
    "WavResNet": lambda: baselines.wavresnet.WavResNet(),
}
# These run in `make test`, the rest in `make test-all`: among them every format, and every kind of kernels in LiteRT.
QUICK = {
    *(("edge", name) for name in ("tf_saved_model", "onnx", "openvino", "litert", "converter")),
    *(("paper", name) for name in ("onnx", "litert")),
    *(("StackKPN", name) for name in ("litert", "from JAX")),
}


def cases(names):
    """Every network with each of so many ways to export it."""
    return [
        pytest.param(network, name, marks=[] if (network, name) in QUICK else pytest.mark.slow)
        for network in NETWORKS
        for name in names
    ]


@pytest.fixture(scope="module")
def network(request):
    """A network of few channels with weights that are not its first ones."""
    keras.utils.set_random_seed(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines.wavresnet, "FEATURES", 8)
        patch.setattr(baselines.wavresnet, "MODULES", 1)
        network = NETWORKS[request.param]()
    rng = np.random.default_rng(2)
    network.set_weights([weight + rng.normal(0, 0.01, weight.shape) for weight in network.get_weights()])
    return network


def inputs_of(network, batch, rows, columns):
    """Slices, or stacks and the distances of their slices, as a list of arrays."""
    rng = np.random.default_rng(rows)
    stack_hu = rng.normal(0, 80, (batch, rows, columns, network.slices)).astype("float32")
    if network.slices == 1:
        return [stack_hu]
    return [stack_hu, np.tile(np.float32([1.5, 0, 3]), (batch, 1))]


def of_keras(network, inputs):
    return ops.convert_to_numpy(network(inputs if len(inputs) > 1 else inputs[0]))


def saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # the function alone would lose its variables
    return lambda inputs: np.asarray(loaded.serve(inputs if len(inputs) > 1 else inputs[0]))


def onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def openvino(path):
    import openvino as ov

    # In float32, as Keras: on CPUs that have it, OpenVINO would compute in bfloat16.
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: compiled(inputs)[0]


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))

    def run(inputs):
        # By number of axes: the order of the inputs is LiteRT's own.
        placed = {len(one["shape"]): one["index"] for one in interpreter.get_input_details()}
        for values in inputs:
            interpreter.resize_tensor_input(placed[values.ndim], values.shape)
        interpreter.allocate_tensors()
        for values in inputs:
            interpreter.set_tensor(placed[values.ndim], values)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


FORMATS = {
    "tf_saved_model": ("", saved_model),
    "onnx": (".onnx", onnx),
    "openvino": (".xml", openvino),
    "litert": (".tflite", litert),
}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only from TensorFlow does Keras write all of these")
@pytest.mark.filterwarnings(
    "ignore:In the future `np.object` will be defined:FutureWarning"  # of Keras's copy of tf2onnx's start
)
@pytest.mark.parametrize(("network", "name"), cases(FORMATS), indirect=["network"])
def test_every_format_that_keras_exports_has_the_numbers_of_keras_at_any_size(network, name, tmp_path):
    ending, open_file = FORMATS[name]
    for attempt in range(1, ATTEMPTS + 1):
        path = str(tmp_path / f"network{attempt}{ending}")
        network.export(path, format=name, verbose=False)
        try:
            run = open_file(path)
            # On the grid of every network, and off it; one slice, and two.
            for size in ((1, 48, 32), (2, 25, 31)):
                inputs = inputs_of(network, *size)
                np.testing.assert_allclose(run(inputs), of_keras(network, inputs), atol=2e-3)
        except Exception:
            if name != "onnx" or attempt == ATTEMPTS:
                raise
        else:
            return


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the converter is TensorFlow's")
@pytest.mark.parametrize(("network", "name"), cases(["converter"]), indirect=["network"])
def test_the_converter_of_tensorflow_takes_a_network_in_builtin_operations(network, name, tmp_path):
    import tensorflow as tf

    model = tf.lite.TFLiteConverter.from_keras_model(network).convert()
    (tmp_path / "network.tflite").write_bytes(model)
    inputs = inputs_of(network, 1, 25, 31)
    out = litert(tmp_path / "network.tflite")(inputs)
    np.testing.assert_allclose(out, of_keras(network, inputs), atol=2e-3)


@pytest.mark.skipif(BACKEND != "jax", reason="what JAX alone needs")
@pytest.mark.filterwarnings(
    "ignore:The `native_serialization` parameter is deprecated:DeprecationWarning"  # Keras gives it
)
@pytest.mark.parametrize(("network", "name"), cases(["from JAX"]), indirect=["network"])
def test_from_jax_a_saved_model_takes_the_size_that_it_was_exported_for(network, name, tmp_path):
    inputs = inputs_of(network, 2, 25, 31)
    specs = [keras.InputSpec(shape=(None, *one.shape[1:]), dtype="float32") for one in inputs]
    network.export(
        str(tmp_path / "network"),
        format="tf_saved_model",
        verbose=False,
        input_signature=[specs if len(specs) > 1 else specs[0]],
    )
    run = saved_model(str(tmp_path / "network"))
    np.testing.assert_allclose(run(inputs), of_keras(network, inputs), atol=2e-3)
