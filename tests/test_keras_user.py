"""The package as a Keras user meets it; runs on every backend of Keras."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import kpn_tf
from baselines.redcnn import REDCNN
from baselines.wavresnet import WavResNet
from kpn_tf import StructKPN, StructureAwareLoss
from kpn_tf.layers import FilterMixture, LocalConv, ResidualBlock, SliceDistances, StackMixture
from kpn_tf.losses import absolute_error
from kpn_tf.networks import StackKPN
from kpn_tf.networks.struct_kpn import PRESETS
from kpn_tf.networks.trunks import EdgeTrunk, PaperTrunk, StackTrunk

BACKEND = keras.backend.backend()

NETWORKS = {
    "edge": lambda **more: StructKPN("edge", **more),
    "paper": lambda **more: StructKPN("paper", blocks=2, channels=8, kernel_size=5, **more),
    "REDCNN": REDCNN,
    "WavResNet": WavResNet,
    "StackKPN": lambda **more: StackKPN(3, **more),
}
# Layer, the shapes that it takes, the shape that it gives.
LAYERS = [
    (lambda: LocalConv(), [(2, 12, 8, 1), (2, 12, 8, 25)], (2, 12, 8, 1)),
    (lambda: FilterMixture(5, 9), [(2, 12, 8, 1), (2, 6, 4, 36)], (2, 12, 8, 1)),
    (lambda: ResidualBlock(4, groups=2), (2, 12, 8, 4), (2, 12, 8, 4)),
    (lambda: PaperTrunk(channels=4, blocks=1), (2, 12, 8, 1), (2, 12, 8, 4)),
    (lambda: EdgeTrunk(channels=4, blocks=1), (2, 12, 8, 1), (2, 6, 4, 4)),
    (lambda: StackMixture(13, 3), [(2, 12, 8, 3), (2, 6, 4, 5)], (2, 12, 8, 1)),
    (lambda: SliceDistances(4), (2, 3), (2, 1, 1, 4)),
    (lambda: StackTrunk(3, channels=4, wide_channels=4, blocks=1), [(2, 12, 8, 3), (2, 3)], (2, 6, 4, 4)),
]


def noise(shape, seed=0, scale=80.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype("float32")


def values(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    keras.utils.set_random_seed(1)
    return NETWORKS[request.param]()


def inputs_for(network, slice_hu):
    """What a network takes: slices, or stacks of the same slice with their distances."""
    if network.slices == 1:
        return slice_hu
    return [np.repeat(slice_hu, network.slices, axis=-1), np.tile(np.float32([1, 0, 1]), (len(slice_hu), 1))]


def test_a_summary_names_the_layers_and_the_parameters(network, capsys):
    network.summary()
    shown = capsys.readouterr().out
    assert f"{network.count_params():,}" in shown
    assert "(None, None, None" in shown


def test_a_network_is_a_layer_of_a_functional_model(network):
    slices = keras.Input((None, None, network.slices), name="slice_hu")
    if network.slices > 1:
        slices = [slices, keras.Input((network.slices,), name="distances_mm")]
    model = keras.Model(slices, network(slices))
    assert model.output_shape == (None, None, None, 1)
    inputs = inputs_for(network, noise((1, 25, 30, 1)))
    np.testing.assert_allclose(values(model(inputs)), values(network(inputs)), atol=1e-3)


def test_the_output_shape_is_known_before_a_slice_is(network):
    for batch, rows, columns in ((None, None, None), (2, 33, 41)):
        shape = (batch, rows, columns, network.slices)
        takes = shape if network.slices == 1 else [shape, (batch, network.slices)]
        assert network.compute_output_shape(takes) == (batch, rows, columns, 1)
    assert network(inputs_for(network, noise((2, 33, 41, 1)))).shape == (2, 33, 41, 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_configuration_holds_dtype_policy_and_trainable(name):
    made = NETWORKS[name](dtype="mixed_bfloat16", trainable=False, name="frozen")
    again = type(made).from_config(json.loads(json.dumps(made.get_config())))
    assert (again.name, again.dtype_policy.name, again.trainable) == ("frozen", "mixed_bfloat16", False)
    assert again.trainable_variables == []
    assert again.count_params() == made.count_params()


def test_a_cloned_network_has_the_same_form_and_weights_of_its_own(network):
    clone = keras.models.clone_model(network)
    assert type(clone) is type(network)
    assert [w.shape for w in clone.weights] == [w.shape for w in network.weights]
    assert clone.weights[0] is not network.weights[0]


def more_for(layer, features):
    """What a layer takes besides its inputs: the mixture of stacks, the convolution that makes scores of features."""
    if not isinstance(layer, StackMixture):
        return {}
    predictor = keras.layers.Conv2D(4 * layer.filters, 1, dtype="float32")
    predictor.build((None, None, None, features))
    return {"predictor": predictor}


@pytest.mark.parametrize(("make", "takes", "gives"), LAYERS)
def test_every_layer_knows_its_output_shape_and_configuration(make, takes, gives):
    layer = make()
    inputs = [noise(shape, 3) for shape in takes] if isinstance(takes, list) else noise(takes, 3)
    symbols = [keras.Input(s[1:], s[0]) for s in takes] if isinstance(takes, list) else keras.Input(takes[1:])
    more = more_for(layer, takes[-1][-1] if isinstance(takes, list) else None)
    assert layer.compute_output_shape(takes) == gives
    assert layer(symbols, **more).shape[1:] == gives[1:]
    out = layer(inputs, **more)
    assert out.shape == gives
    assert {"dtype", "trainable", "name"} <= set(layer.get_config())
    again = type(layer).from_config(layer.get_config())
    again(inputs, **more)
    again.set_weights(layer.get_weights())
    np.testing.assert_allclose(values(again(inputs, **more)), values(out), atol=1e-5)


IMPORTS = [
    # As commands do: they look whether Keras is there before they import it.
    "import kpn_tf, importlib.util; importlib.util.find_spec('keras'); import keras",
    pytest.param("import kpn_tf, keras", marks=pytest.mark.slow),
    pytest.param("import keras, kpn_tf", marks=pytest.mark.slow),
    pytest.param("import kpn_tf; from kpn_tf.layers import LocalConv; import keras", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("imports", IMPORTS)
def test_a_compiled_network_loads_in_a_new_process_after_the_package_alone(imports, tmp_path):
    network = StructKPN("edge", blocks=1, channels=4)
    network.compile(optimizer="adam", loss=StructureAwareLoss())
    slice_hu = noise((1, 24, 28, 1))
    network.fit(slice_hu, slice_hu, verbose=0)
    network.save(tmp_path / "structure.keras")
    network.compile(optimizer="adam", loss=absolute_error)
    network.save(tmp_path / "absolute.keras")
    REDCNN().save(tmp_path / "redcnn.keras")
    StackKPN(3).save(tmp_path / "stack.keras")
    WavResNet().save(tmp_path / "wavresnet.keras")
    np.save(tmp_path / "slice.npy", slice_hu)
    script = f"""
import numpy as np
{imports}
slice_hu = np.load("slice.npy")
for name in ("redcnn", "wavresnet"):
    keras.saving.load_model(name + ".keras")
for name in ("structure", "absolute"):
    network = keras.saving.load_model(name + ".keras")
    np.save(name, keras.ops.convert_to_numpy(network(slice_hu)))
    network.evaluate(slice_hu, slice_hu, verbose=0)
keras.saving.load_model("stack.keras").summary()
"""
    root = Path(kpn_tf.__file__).parents[1]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    np.testing.assert_allclose(np.load(tmp_path / "structure.npy"), values(network(slice_hu)), atol=1e-3)
    np.testing.assert_array_equal(np.load(tmp_path / "structure.npy"), np.load(tmp_path / "absolute.npy"))


def test_a_preset_is_its_arguments():
    for preset, arguments in PRESETS.items():
        other = next(name for name in PRESETS if name != preset)
        spelt_out = StructKPN(other, **arguments)
        assert [w.shape for w in spelt_out.weights] == [w.shape for w in StructKPN(preset).weights]


@pytest.mark.parametrize("trunk", ["full", "half"])
@pytest.mark.parametrize("kernels", ["free", "mixture"])
def test_trunks_and_kernels_combine_and_the_kernels_shown_are_those_applied(trunk, kernels):
    keras.utils.set_random_seed(2)
    network = StructKPN(trunk=trunk, kernels=kernels, blocks=1, channels=6, kernel_size=5)
    slice_hu = noise((24, 28), 4)
    denoised = values(network(slice_hu[None, :, :, None]))[0, :, :, 0]
    rows, columns = np.array([9, 10, 12, 13]), np.array([11, 14, 13, 8])
    shown = network.kernels_at(slice_hu, rows, columns)
    for kernel, row, column in zip(shown, rows, columns, strict=True):
        around = slice_hu[row - 2 : row + 3, column - 2 : column + 3]
        assert denoised[row, column] == pytest.approx((kernel * around).sum(), abs=0.02)
    changed = ["trunk=half"] * (trunk == "half") + ["channels=6", "blocks=1"]
    changed += ["kernels=mixture"] * (kernels == "mixture")
    assert network.title == ", ".join(["StructKPN-paper", *changed])
    again = StructKPN.from_config(network.get_config())
    assert again.get_config() == network.get_config()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"trunk": "quarter"}, r"Expected trunk to be one of \('full', 'half'\). Received: 'quarter'"),
        ({"kernels": "fixed"}, r"Expected kernels to be one of \('free', 'mixture'\). Received: 'fixed'"),
        ({"channels": 0}, r"Expected one channel or more.*Received: channels=0, blocks=24"),
        ({"channels": 7}, r"Expected channels that 2 groups can share. Received: 7"),
        ({"blocks": -1}, r"no negative number of blocks. Received: channels=88, blocks=-1"),
        ({"kernel_size": 4}, r"Expected an odd kernel_size of 3 or more. Received: 4"),
    ],
)
def test_arguments_out_of_range_are_refused_when_the_network_is_built(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        StructKPN("paper", **arguments)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16"])
def test_layers_keep_hu_in_float32_under_every_dtype_policy(policy):
    image = np.full((1, 12, 8, 1), -997.0, "float32")  # bfloat16 and float16 have no such number
    kernels = np.zeros((1, 12, 8, 25), "float32")
    kernels[..., 12] = 1
    out = LocalConv(dtype=policy)([image, kernels])
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    np.testing.assert_array_equal(values(out), image)
    mixture = FilterMixture(5, 9, dtype=policy)
    out = mixture([image, np.zeros((1, 6, 4, 36), "float32")])
    assert keras.backend.standardize_dtype(mixture.bank.dtype) == "float32"
    np.testing.assert_allclose(values(out), image, atol=2e-3)
    stacks = StackMixture(13, 3, dtype=policy)
    out = stacks([np.repeat(image, 3, axis=-1), np.zeros((1, 6, 4, 5), "float32")], **more_for(stacks, 5))
    assert keras.backend.standardize_dtype(stacks.banks[0].dtype) == "float32"
    np.testing.assert_allclose(values(out), image, atol=2e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_networks_take_and_give_float32_under_a_mixed_policy(policy):
    network = StructKPN("edge", dtype=policy)
    flat = np.full((1, 24, 28, 1), -997.0, "float32")
    out = network(flat)
    assert network.trunk.compute_dtype == policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    np.testing.assert_allclose(values(out), flat, atol=1e-2)
    symbol = network(keras.Input((None, None, 1)))
    assert symbol.dtype == "float32"


WRONG = [
    (np.zeros((1, 24, 28, 1), "int16"), r"\(1, 24, 28, 1\), int16; cast it to float32"),
    (np.zeros((24, 28), "float32"), r"\(24, 28\), float32; give it as slices\[None, :, :, None\]"),
    (np.zeros((3, 24, 28), "float32"), r"\(3, 24, 28\), float32; give it as slices\[..., None\]"),
    (np.zeros((1, 24, 28, 3), "float32"), r"\(1, 24, 28, 3\), float32; move the slices to the first axis"),
    (np.zeros((1, 4, 28, 1), "float32"), r"\(1, 4, 28, 1\), float32; pad the slices first"),
    (np.full((1, 24, 28, 1), np.nan, "float32"), r"672 pixels that are NaN or infinite; replace them"),
]


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "StackKPN"], indirect=True)
@pytest.mark.parametrize(("slices", "received"), WRONG)
def test_a_wrong_input_gets_one_sentence_that_names_shape_and_type(network, slices, received):
    sentence = (
        rf"^Expected slices in HU of shape \(B, H, W, 1\) with H and W of {network.least_side} or more, "
    )
    with pytest.raises(ValueError, match=sentence + rf"float32 and finite. Received: .*{received}") as raised:
        network(slices)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=sentence):
        network.predict(slices, verbose=0)


@pytest.mark.parametrize(("slices", "received"), [*WRONG[:4], WRONG[5]])
def test_layers_refuse_the_same_inputs_with_the_same_sentence(slices, received):
    for layer, beside in ((LocalConv(), (1, 24, 28, 25)), (FilterMixture(5, 9), (1, 12, 14, 36))):
        with pytest.raises(ValueError, match=received):
            layer([slices, np.zeros(beside, "float32")])


def test_a_tensor_is_refused_like_an_array(network):
    for wrong in (ops.zeros((24, 28)), keras.Input((None, None, 5))):
        with pytest.raises(ValueError, match=r"Expected .*slices in HU of shape"):
            network(wrong)


STACK, DISTANCES = np.zeros((1, 24, 28, 3), "float32"), np.zeros((1, 3), "float32")
WRONG_STACKS = [
    (STACK, r"Expected \[stack, distances\]: .* \(B, H, W, 3\), .* Received: shape \(1, 24, 28, 3\); kpn_tf"),
    ([STACK], r"Expected \[stack, distances\]: .* Received: list; kpn_tf.denoiser.stacked makes both"),
    ([STACK[..., :1], DISTANCES], r"shape \(B, H, W, 3\) .* Received: shape \(1, 24, 28, 1\), float32"),
    (
        [STACK[:, :5], DISTANCES],
        r"H and W of 21 or more, .* Received: shape \(1, 5, 28, 3\).*; pad the slices",
    ),
    ([np.full_like(STACK, np.nan), DISTANCES], r"2016 pixels that are NaN or infinite"),
    ([STACK, DISTANCES[0]], r"Expected distances in mm of shape \(B, 3\). Received: shape \(3,\); give one"),
]


@pytest.mark.parametrize(("inputs", "sentence"), WRONG_STACKS)
def test_a_wrong_stack_gets_one_sentence_too(inputs, sentence):
    network = StackKPN(3)
    with pytest.raises(ValueError, match=sentence) as raised:
        network(inputs)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=sentence):
        network.predict(inputs, verbose=0)


def test_a_network_prints_whether_it_is_untrained(network):
    assert repr(network).endswith(", built=True, untrained>")
    network.summary()
    offset = next(weight for weight in network.weights if weight.name in ("bias", "beta"))
    before = ops.convert_to_numpy(offset)
    offset.assign(before + 0.5)
    try:
        assert repr(network).endswith(", built=True>")
    finally:
        offset.assign(before)
