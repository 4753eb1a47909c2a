import json
import zipfile

import keras
import numpy as np
import pytest

from export import __main__ as command
from export.parity import largest_difference_hu
from export.tflite import gmac, to_tflite
from kpn_tf import Denoiser, StructKPN
from kpn_tf.cli import about
from kpn_tf.networks.struct_kpn import PRESETS


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(1)
    return StructKPN("edge")


@pytest.fixture(scope="module")
def artefact(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "edge.tflite"
    return path, to_tflite(network, path, version="1", licence="Apache-2.0", training_data="none")


@pytest.mark.parametrize("shape", [(64, 96), (37, 51), (9, 30)])
def test_the_artefact_gives_keras_numbers_on_any_size(network, artefact, shape):
    slice_hu = np.random.default_rng(2).normal(0, 200, shape).astype("float32")
    out = Denoiser(artefact[0])(slice_hu)
    assert out.shape == shape
    if min(shape) > 21:
        expected = np.asarray(network(slice_hu[None, :, :, None]))[0, :, :, 0]
        np.testing.assert_allclose(out, expected, atol=0.05)


def test_the_artefact_says_what_it_is(network, artefact):
    path, metadata = artefact
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("metadata.json")) == metadata
    assert metadata["parameters"] == network.count_params()
    assert metadata["parity_hu"] < 0.05


def test_the_same_network_gives_the_same_file(network, artefact, tmp_path):
    to_tflite(network, tmp_path / "again.tflite", version="1", licence="Apache-2.0", training_data="none")
    assert (tmp_path / "again.tflite").read_bytes() == artefact[0].read_bytes()


def test_an_artefact_that_differs_from_keras_is_not_written(network, tmp_path, monkeypatch):
    monkeypatch.setattr("export.tflite.largest_difference_hu", lambda model, network: 0.051)
    with pytest.raises(ValueError, match=r"within 0\.05 HU of Keras\. Received: 0\.051 HU; not written"):
        to_tflite(network, tmp_path / "edge.tflite", version="1", licence="none", training_data="none")
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    words = ["--version", "1", "--licence", "none", "--training-data", "none"]
    monkeypatch.setattr("sys.argv", ["export", str(tmp_path / "absent.keras"), "a.tflite", *words])
    with pytest.raises(SystemExit, match="1"):
        command.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m export: ")
    assert "absent.keras" in line


def test_an_output_pixel_looks_no_further_than_the_network_says(network):
    slice_hu = np.random.default_rng(3).normal(0, 100, (160, 160)).astype("float32")
    far = slice_hu.copy()
    reach = network.reach
    far[: 80 - reach], far[80 + reach + 1 :] = 500.0, -500.0
    far[:, : 80 - reach], far[:, 80 + reach + 1 :] = -500.0, 500.0
    one, other = (np.asarray(network(s[None, :, :, None]))[0, 80, 80, 0] for s in (slice_hu, far))
    assert one == pytest.approx(other, abs=1e-3)


# 518 GMAC a slice: counted by hand from Fig. 1 of the paper, 1,981,763 weights less the biases, at every pixel.
def test_the_papers_network_costs_518_gmac_a_slice():
    paper = StructKPN("paper")
    biases = 2 * 88 + 24 * 2 * 88 + 2 * 441
    assert gmac(paper) == pytest.approx((paper.count_params() - biases) * 512 * 512 / 1e9, rel=1e-6)
    assert gmac(paper) == pytest.approx(518, abs=0.5)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_command_line_tells_of_a_preset_is_true(preset):
    network = StructKPN(preset)
    assert about.PRESETS[preset] == (network.count_params(), round(gmac(network), 2))


def test_the_command_line_knows_every_preset():
    assert set(about.PRESETS) == set(PRESETS)


def test_the_parity_check_notices_other_weights(network, artefact):
    keras.utils.set_random_seed(9)
    assert largest_difference_hu(artefact[0].read_bytes(), StructKPN("edge")) > 0.05
    assert largest_difference_hu(artefact[0].read_bytes(), network) < 0.05
