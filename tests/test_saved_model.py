"""The SavedModel gives Keras's numbers through every signature, wherever it is loaded."""

import json
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from baselines.redcnn import REDCNN
from export import Release, saved_model
from export.parity import ParityError
from export.saved_model import to_saved_model
from export.signatures import bytes_of, signatures
from kpn_tf import StructKPN
from kpn_tf.cli.networks import load_network
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER
from tests.fresh_process import run_without
from tests.test_readme import blocks_of

BY_HAND = [
    block.code
    for block in blocks_of((Path(__file__).parents[1] / "docs/by_hand.md").read_text(encoding="utf-8"))
]
C_LOADER = Path(__file__).parent / "c_loader.py"
RELEASE = Release(version="3", licence="Apache-2.0", training_data="none")


@pytest.fixture(scope="module")
def network():
    return load_network(WEIGHTS_FOLDER / "edge.keras")


@pytest.fixture(scope="module")
def base(network, tmp_path_factory):
    base = tmp_path_factory.mktemp("serving") / "served"
    to_saved_model(network, base, RELEASE)
    return base


@pytest.fixture(scope="module")
def loaded(base):
    return tf.saved_model.load(str(base / "3"))


@pytest.fixture(scope="module")
def slice_hu():
    return np.random.default_rng(5).normal(0, 200, (2, 37, 51, 1)).astype("float32")


@pytest.fixture(scope="module")
def requests(slice_hu):
    """A request to each signature: name to the arrays of its inputs."""
    whole_hu = np.rint(slice_hu).astype("<i2")
    return {
        "serving_default": {"slice_hu": slice_hu},
        "int16": {"slice_hu": whole_hu.astype("int32")},
        "bytes": {
            "slice_bytes": np.array([one.tobytes() for one in whole_hu], object),
            "rows": np.array([37, 37], "int32"),
            "columns": np.array([51, 51], "int32"),
        },
    }


@pytest.fixture(scope="module")
def expected_hu(network, slice_hu):
    """Keras's answer to each of `requests`, and how far from it a signature may be."""
    on_whole_hu = np.asarray(network(np.rint(slice_hu)))
    return {
        "serving_default": (np.asarray(network(slice_hu)), 0.05),
        "int16": (on_whole_hu, 0.55),
        "bytes": (on_whole_hu, 0.55),
    }


def as_hu(answer, shape):
    """The slices in an answer, whatever the signature."""
    ((name, values),) = answer.items()
    if name == "denoised_bytes":
        values = np.stack([np.frombuffer(raw, "<i2").reshape(shape[1:]) for raw in values])
    return np.asarray(values, "float32")


def tensors(request):
    return {
        name: tf.constant(list(values) if values.dtype == object else values)
        for name, values in request.items()
    }


NAMES = ["serving_default", "int16", "bytes"]


@pytest.mark.parametrize("name", NAMES)
def test_a_signature_gives_keras_numbers(loaded, requests, expected_hu, name):
    answer = {key: value.numpy() for key, value in loaded.signatures[name](**tensors(requests[name])).items()}
    truth, tolerance_hu = expected_hu[name]
    np.testing.assert_allclose(as_hu(answer, truth.shape), truth, atol=tolerance_hu)


def test_inputs_and_outputs_are_named_and_typed_and_sizes_are_free(loaded):
    described = {
        name: {
            key: (spec.dtype.name, tuple(spec.shape))
            for key, spec in (signature.structured_input_signature[1] | signature.structured_outputs).items()
        }
        for name, signature in loaded.signatures.items()
    }
    any_batch = (None, None, None, 1)
    assert described == {
        "serving_default": {"slice_hu": ("float32", any_batch), "denoised_hu": ("float32", any_batch)},
        "int16": {"slice_hu": ("int32", any_batch), "denoised_hu": ("int16", any_batch)},
        "bytes": {
            "slice_bytes": ("string", (None,)),
            "rows": ("int32", (None,)),
            "columns": ("int32", (None,)),
            "denoised_bytes": ("string", (None,)),
        },
    }


def test_one_request_of_bytes_holds_slices_of_different_sizes(loaded):
    rng = np.random.default_rng(6)
    slices = [rng.normal(0, 200, shape).astype("<i2") for shape in ((30, 41), (53, 27), (22, 22))]
    answer = loaded.signatures["bytes"](
        slice_bytes=tf.constant([one.tobytes() for one in slices]),
        rows=tf.constant([one.shape[0] for one in slices]),
        columns=tf.constant([one.shape[1] for one in slices]),
    )
    for raw, one in zip(answer["denoised_bytes"].numpy(), slices, strict=True):
        alone = loaded.signatures["int16"](slice_hu=tf.constant(one[None, :, :, None], tf.int32))
        alone = alone["denoised_hu"]
        assert raw == alone.numpy().astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("raw", "rows", "columns"), [(b"\0" * 23, 3, 4), (b"\0" * 26, 3, 4), (b"\0" * 24, 4, 4)]
)
def test_bytes_that_are_not_the_slice_they_claim_to_be_are_refused(loaded, raw, rows, columns):
    words = rf"2 \* rows \* columns bytes.*\[{2 * rows * columns}\].*Received:\] \[{len(raw)}\] \[bytes\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        loaded.signatures["bytes"](
            slice_bytes=tf.constant([raw]), rows=tf.constant([rows]), columns=tf.constant([columns])
        )


def test_whole_hu_are_rounded_half_to_even_and_clipped_to_what_int16_holds():
    half_more, _ = signatures(lambda slice_hu: slice_hu + 0.5)["int16"]
    stored_hu = np.array([0, 1, 2, -1, -2, 32766, 32767], "int32")
    answer = half_more(tf.constant(stored_hu))["denoised_hu"]
    assert answer.numpy().tolist() == [0, 2, 2, 0, -2, 32766, 32767]
    lower, _ = signatures(lambda slice_hu: slice_hu - 40000.0)["int16"]
    assert lower(tf.constant(stored_hu))["denoised_hu"].numpy().tolist() == [-32768] * 5 + [-7234, -7233]


@pytest.mark.parametrize(("beyond_hu", "words"), [(32768, "0 to 32768"), (-32769, "-32769 to 0")])
def test_whole_hu_that_int16_would_wrap_are_refused(loaded, beyond_hu, words):
    slice_hu = np.zeros((1, 22, 24, 1), "int32")
    slice_hu[0, 3, 4] = beyond_hu
    lowest, highest = words.split(" to ")
    told = rf"from -32768 to 32767 HU\. Received:\] \[{lowest}\] \[to\] \[{highest}\] \[HU; clip it"
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        loaded.signatures["int16"](slice_hu=tf.constant(slice_hu))


def test_every_value_of_int16_comes_as_its_two_little_endian_bytes():
    values = np.random.default_rng(7).permutation(np.arange(-(2**15), 2**15).astype("<i2"))
    assert bytes_of(tf.constant(values)).numpy() == values.tobytes()


def test_the_page_runs_the_folder_with_tensorflow_alone(base, network, tmp_path):
    (example,) = (code for code in BY_HAND if "saved_model" in code)
    np.save(tmp_path / "slice.npy", np.random.default_rng(9).normal(0, 100, (39, 58)))
    shutil.copytree(base / "3", tmp_path / "served/1")
    run_without(["kpn_tf", "export", "baselines"], example, tmp_path)
    slice_hu = np.load(tmp_path / "slice.npy").astype("float32")
    expected_hu = np.asarray(network(slice_hu[None, :, :, None]))[0, :, :, 0]
    np.testing.assert_allclose(np.load(tmp_path / "denoised.npy"), expected_hu, atol=0.05)


def test_the_weights_are_there_once_and_train_through_the_default_signature(network, base, slice_hu):
    loaded = tf.saved_model.load(str(base / "3"))
    variables = loaded.trainable_variables
    assert [variable.shape.as_list() for variable in variables] == [list(v.shape) for v in network.weights]
    stored = tf.train.list_variables(str(base / "3/variables/variables"))
    assert len([name for name, _ in stored if "VARIABLE_VALUE" in name]) == len(network.weights)
    denoise = loaded.signatures["serving_default"]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(denoise(slice_hu=tf.constant(slice_hu))["denoised_hu"] ** 2)
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(1e-6 * gradient)
    assert tf.reduce_mean(denoise(slice_hu=tf.constant(slice_hu))["denoised_hu"] ** 2) < loss


def test_the_report_is_in_the_folder(base):
    report = json.loads((base / "3/assets.extra/kpn_tf.json").read_text(encoding="utf-8"))
    assert (report["model"], report["version"]) == ("StructKPN-edge", "3")
    assert {row["signature"] for row in report["parity"]} == set(NAMES)
    assert all(row["largest_hu"] < row["tolerance_hu"] for row in report["parity"])


def test_nothing_is_beside_the_version_but_two_configuration_files(base):
    assert sorted(path.name for path in base.iterdir()) == ["3", "batching.config", "models.config"]


def test_a_network_of_another_family_is_served_under_its_own_name(tmp_path):
    keras.utils.set_random_seed(4)
    report = to_saved_model(REDCNN(channels=3), tmp_path, Release("12", "none", "none"))
    assert report["model"] == "RED-CNN"
    assert 'name: "RED-CNN"' in (tmp_path / "models.config").read_text(encoding="utf-8")
    slice_hu = tf.zeros((3, 31, 23, 1))
    denoised = tf.saved_model.load(str(tmp_path / "12")).signatures["serving_default"](slice_hu=slice_hu)
    assert denoised["denoised_hu"].shape == slice_hu.shape


@pytest.mark.parametrize("version", ["1.0", "v2", "-1", "", "²"])
def test_a_version_that_is_not_a_whole_number_is_refused(network, tmp_path, version):
    with pytest.raises(ValueError, match=rf"whole number.*Received: '{version}'; TensorFlow Serving serves"):
        to_saved_model(network, tmp_path / "served", Release(version, "none", "none"))
    assert not (tmp_path / "served").exists()


def test_a_version_that_exists_is_not_overwritten(network, tmp_path):
    (tmp_path / "3").mkdir()
    with pytest.raises(ValueError, match=r"a version that is not there yet\. Received: .*3, which exists"):
        to_saved_model(network, tmp_path, RELEASE)
    assert not list((tmp_path / "3").iterdir())


def test_an_artefact_that_differs_from_keras_is_not_written(network, tmp_path, monkeypatch):
    keras.utils.set_random_seed(9)
    other = StructKPN("edge")
    monkeypatch.setattr(saved_model.graphs, "any_size", lambda _: other.call)
    with pytest.raises(ParityError, match="HU"):
        to_saved_model(network, tmp_path, RELEASE)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_half_way_leaves_nothing(network, tmp_path, monkeypatch):
    def full_disk(path, model, slices):
        raise OSError("no space left")

    monkeypatch.setattr(saved_model, "_write", lambda network, folder: folder.mkdir())
    monkeypatch.setattr(saved_model, "_parity", lambda network, folder: [])
    monkeypatch.setattr(saved_model, "write_warm_up", full_disk)
    with pytest.raises(OSError, match="no space left"):
        to_saved_model(network, tmp_path, RELEASE)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_process_without_this_package_gives_keras_numbers(base, requests, expected_hu, tmp_path):
    code = """
import numpy as np
import tensorflow as tf

served = tf.saved_model.load(sys.argv[1]).signatures
for name in served:
    request = np.load(name + ".npz", allow_pickle=True)
    tensors = {key: tf.constant(list(v) if v.dtype == object else v) for key, v in request.items()}
    np.savez(name + "_answer.npz", **{key: value.numpy() for key, value in served[name](**tensors).items()})
"""
    for name, request in requests.items():
        np.savez(tmp_path / f"{name}.npz", **request)
    run_without(["kpn_tf", "export", "baselines"], code, tmp_path, base / "3")
    for name, (truth, tolerance_hu) in expected_hu.items():
        with np.load(tmp_path / f"{name}_answer.npz", allow_pickle=True) as answer:
            np.testing.assert_allclose(as_hu(answer, truth.shape), truth, atol=tolerance_hu)


@pytest.mark.skipif(
    sys.platform != "linux", reason="the libraries of TensorFlow's Linux wheel are loaded by name"
)
@pytest.mark.parametrize("name", NAMES)
def test_tensorflows_c_loader_gives_keras_numbers(base, requests, expected_hu, tmp_path, name):
    library = Path(tf.__file__).parent / "libtensorflow_cc.so.2"
    stored = saved_model_pb2.SavedModel.FromString((base / "3/saved_model.pb").read_bytes())
    signature = stored.meta_graphs[0].signature_def[name]
    names = {
        "inputs": {key: tensor.name for key, tensor in signature.inputs.items()},
        "outputs": {key: tensor.name for key, tensor in signature.outputs.items()},
    }
    np.savez(tmp_path / "request.npz", **requests[name])
    run_without(
        ["kpn_tf", "tensorflow", "keras"],
        C_LOADER.read_text(encoding="utf-8"),
        *(tmp_path, library, base / "3", "request.npz", "answer.npz", json.dumps(names)),
    )
    truth, tolerance_hu = expected_hu[name]
    with np.load(tmp_path / "answer.npz", allow_pickle=True) as answer:
        np.testing.assert_allclose(as_hu(answer, truth.shape), truth, atol=tolerance_hu)


def test_versions_of_two_networks_never_lie_in_one_folder(network, tmp_path):
    report = tmp_path / "1/assets.extra/kpn_tf.json"
    report.parent.mkdir(parents=True)
    report.write_text('{"model": "RED-CNN"}')
    release = Release(version="2", licence="Apache-2.0", training_data="none")
    with pytest.raises(ValueError, match=r"versions of StructKPN-edge.*holds RED-CNN; choose another"):
        to_saved_model(network, tmp_path, release)
    assert not (tmp_path / "2").exists()
