"""Trained weights come with the package, and what is said of them is true."""

import json

import keras
import numpy as np
import pydicom
import pytest
from ai_edge_litert.interpreter import Interpreter

from baselines import shipped
from baselines.redcnn import REDCNN
from baselines.wavresnet import WavResNet
from export import Release, to_tflite
from export.about import weights_sha256
from kpn_tf import StructKPN
from kpn_tf.cli import train
from kpn_tf.denoiser import Denoiser
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER, fixed_form, open_artefact
from kpn_tf.dicom import read_slice
from kpn_tf.networks import StackKPN
from kpn_tf.networks.cost import gmac
from kpn_tf.trained import TRAINED
from tests.command import kpn
from tests.ct_series import write_ct_series
from tests.noisy_torso import noisy_volume, write_torso

CLASSES = {cls.__name__: cls for cls in (StructKPN, StackKPN, REDCNN, WavResNet)}
RELEASE = Release("1", "Apache-2.0", "none")


@pytest.fixture(scope="module", params=TRAINED)
def named(request):
    """A name, what is known of the weights, and the network with them."""
    trained = TRAINED[request.param]
    return request.param, trained, CLASSES[trained.network].from_preset(request.param)


def test_a_preset_is_trained_and_costs_what_is_said_of_it(named):
    _, trained, network = named
    assert not network.untrained
    assert network.title == trained.model
    # The trained values: batch statistics are none.
    assert sum(np.prod(w.shape) for w in network.trainable_weights) == trained.parameters
    assert trained.gmac_512 == pytest.approx(gmac(network), abs=0.01)
    assert trained.weights_sha256 == weights_sha256(network)


def test_the_training_that_is_told_is_that_of_the_record(named):
    _, trained, _ = named
    if trained.path.parent == shipped.FOLDER:
        training = shipped.record(trained.path.stem)["training"]
        told = "{steps} steps of {batch} patches of {patch}x{patch}, ".format(**training)
        told += f"{100 * training['share_of_papers']:.3g} % of the paper's"
        assert trained.training.startswith(told)
        loss = {"l1": "mean absolute error", "structure": "structure-aware loss"}[training["loss"]]
        assert trained.training.endswith(loss)
    elif trained.network == "StackKPN":
        steps = int(trained.training.split()[0])
        log = trained.path.with_name("stack_log.jsonl").read_text().splitlines()
        assert json.loads(log[-1])["step"] == steps
    else:
        assert trained.training.startswith("16000 steps of 8 patches of 96x96; mean absolute error")


@pytest.mark.parametrize("name", ["edge", "stack", "paper"])
def test_a_file_for_kpn_denoise_has_the_weights_of_the_file_for_keras(name):
    network = keras.saving.load_model(TRAINED[name].path, compile=False)
    assert open_artefact(name).weights_sha256 == weights_sha256(network) == TRAINED[name].weights_sha256


@pytest.mark.parametrize("path", sorted(WEIGHTS_FOLDER.glob("*.tflite")), ids=lambda path: path.stem)
def test_every_shipped_file_has_a_size_when_it_is_loaded_and_the_names_of_the_page_in_its_signature(path):
    interpreter = Interpreter(str(path))
    slices, side = open_artefact(path).slices, 256 if path.stem == "paper" else 512
    shapes = {"slice_hu": [1, side, side, slices], **({"distances_mm": [1, slices]} if slices > 1 else {})}
    names = {"inputs": sorted(shapes), "outputs": ["denoised_hu"]}
    assert interpreter.get_signature_list()["serving_default"] == names
    given = {
        entry["name"].split("_", 2)[2]: entry["shape"].tolist() for entry in interpreter.get_input_details()
    }
    assert given == {f"{name}:0": shape for name, shape in shapes.items()}
    # That of `paper` takes most of a gigabyte.
    if path.stem != "paper":
        interpreter.allocate_tensors()


def test_stack_gives_single_and_thick_slices_to_edge_on_any_device():
    stack, edge, network = (
        Denoiser("stack", threads=1),
        Denoiser("edge", threads=1),
        StackKPN.from_preset("stack"),
    )
    volume_hu = noisy_volume(3)[:, :60, :64].astype("float32")
    np.testing.assert_array_equal(stack(volume_hu[1]), edge(volume_hu[1]))
    thick_hu, thin_hu = (stack.volume(volume_hu, slice_spacing_mm=mm) for mm in (3.6, 3.5))
    np.testing.assert_array_equal(thick_hu, edge.volume(volume_hu, slice_spacing_mm=3.6))
    stack_hu = np.moveaxis(volume_hu[[1, 0, 1, 2, 1]], 0, -1)
    (expected_hu,) = network([stack_hu[None], np.float32([[0, 3.5, 0, 3.5, 0]])])
    np.testing.assert_allclose(thin_hu[1], expected_hu[..., 0], atol=0.05)
    fixed = fixed_form(stack.artefact)
    assert (fixed.path.stem, fixed.alone.path.stem) == ("stack_512", "edge_512")


def test_a_series_is_denoised_by_stack_where_nobody_says_by_what(tmp_path, capfd):
    paths = write_torso(tmp_path / "in", noisy_volume(3))
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--json") == 0
    assert json.loads(capfd.readouterr().out)["network"]["file_sha256"] == open_artefact("stack").file_sha256
    volume_hu = np.stack([read_slice(path).slice_hu for path in paths])
    expected_hu = Denoiser("stack").volume(volume_hu, slice_spacing_mm=3.0)
    derived = {ct.dataset.InstanceNumber: ct for ct in map(read_slice, (tmp_path / "out").rglob("*.dcm"))}
    for path, one_hu in zip(paths, expected_hu, strict=True):
        ct = derived[read_slice(path).dataset.InstanceNumber]
        np.testing.assert_allclose(ct.slice_hu, one_hu, atol=0.51)
        told = "network StackKPN-5 (StructKPN-edge where no neighbour is near)"
        assert told in ct.dataset.DerivationDescription
    np.testing.assert_array_equal(Denoiser()(volume_hu[1]), Denoiser("edge")(volume_hu[1]))


def test_every_weight_that_comes_with_the_baselines_has_a_name():
    named = {trained.path.stem for trained in TRAINED.values() if trained.path.parent == shipped.FOLDER}
    assert named == set(shipped.names())


def test_presets_are_listed_by_network():
    assert list(StructKPN.list_presets()) == ["edge", "paper", "paper-k21-l1"]
    assert list(StackKPN.list_presets()) == ["stack"]
    assert list(REDCNN.list_presets()) == ["redcnn-l1", "redcnn-structure"]
    assert list(WavResNet.list_presets()) == ["wavresnet-l1"]


def test_a_summary_names_the_trained_weights_of_a_network_of_stacks(capsys):
    StackKPN(3).summary()
    assert (
        "Untrained: random weights. StackKPN.from_preset has trained ones: stack." in capsys.readouterr().out
    )


def denoised_by_command(folder, weights):
    """A slice, and what `kpn denoise --weights` makes of it."""
    (path,) = write_ct_series(folder / "in", slices=1, rows=56, columns=48)
    assert kpn("denoise", folder / "in", folder / "out", "--weights", weights) == 0
    (derived,) = (folder / "out").rglob("*.dcm")
    return read_slice(path).slice_hu.astype("float32"), read_slice(derived).slice_hu, pydicom.dcmread(derived)


def test_the_papers_weights_denoise_a_series_by_name(tmp_path):
    slice_hu, derived_hu, dataset = denoised_by_command(tmp_path, "paper")
    network = StructKPN.from_preset("paper")
    expected_hu = np.asarray(network(slice_hu[None, :, :, None]))[0, :, :, 0]
    np.testing.assert_allclose(derived_hu, expected_hu, atol=1.5)  # float16, and DICOM's whole HU
    assert "network StructKPN-paper" in dataset.DerivationDescription
    assert open_artefact("paper").weights_sha256 in dataset.DerivationDescription


def test_a_papers_network_of_ones_own_denoises_a_series_from_its_artefact(tmp_path):
    keras.utils.set_random_seed(7)
    network = StructKPN("paper", blocks=1, channels=8, kernel_size=5)
    to_tflite(network, tmp_path / "mine.tflite", RELEASE, precision="float32")
    slice_hu, derived_hu, dataset = denoised_by_command(tmp_path, tmp_path / "mine.tflite")
    expected_hu = np.asarray(network(slice_hu[None, :, :, None]))[0, :, :, 0]
    np.testing.assert_allclose(derived_hu, expected_hu, atol=0.55)
    assert "network StructKPN-paper, channels=8, blocks=1" in dataset.DerivationDescription


def test_an_unknown_preset_is_told_the_known_ones():
    sentence = "Expected trained weights of StructKPN: edge, paper, paper-k21-l1. Received: 'redcnn-l1'"
    with pytest.raises(ValueError, match=sentence):
        StructKPN.from_preset("redcnn-l1")


def test_a_new_network_says_that_it_is_untrained_and_a_preset_does_not(capsys):
    StructKPN("edge").summary()
    sentence = "Untrained: random weights. StructKPN.from_preset has trained ones: edge, paper, paper-k21-l1."
    assert sentence in capsys.readouterr().out
    network = StructKPN.from_preset("edge", trainable=False, dtype="mixed_bfloat16")
    network.summary()
    assert "Untrained" not in capsys.readouterr().out
    assert (network.trainable, network.dtype_policy.name) == (False, "mixed_bfloat16")


def test_a_network_can_be_trained_for_every_kind_of_trained_weights():
    kinds = {name.split("-")[0] for name in TRAINED}
    # `stack` is `edge` with --slices.
    assert kinds == {*train.NETWORKS, "stack"}
