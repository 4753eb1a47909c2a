import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pydicom
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from pydicom.data import get_testdata_file

from baselines.benchmark.cost import measured
from baselines.redcnn import REDCNN
from export import Release, to_tflite
from export.about import weights_sha256
from export.graphs import any_size
from export.parity import ParityError, compare, comparison_slices
from kpn_tf import Denoiser, StructKPN
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER
from kpn_tf.networks.cost import gmac
from kpn_tf.phantom import torso
from tests.fresh_process import run_without

BY_HAND = Path(__file__).parents[1] / "docs/by_hand.md"
RELEASE = Release(version="1", licence="Apache-2.0", training_data="none")


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(1)
    return StructKPN("edge")


@pytest.fixture(scope="module")
def paper():
    """Small kernels, a small trunk (what is tested follows it), scores as moderate as those of a trained network."""
    keras.utils.set_random_seed(4)
    paper = StructKPN("paper", kernel_size=5, channels=24, blocks=2)
    scores = paper.predictor.layers[-1]
    scores.kernel.assign(0.05 * scores.kernel)
    scores.bias.assign(np.random.default_rng(5).normal(0, 1, scores.bias.shape))
    return paper


@pytest.fixture(scope="module")
def artefact(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "edge.tflite"
    return path, to_tflite(network, path, RELEASE, precision="float32")


@pytest.mark.parametrize("shape", [(64, 96), (37, 51), (9, 30)])
def test_the_artefact_gives_keras_numbers_on_any_size(network, artefact, shape):
    slice_hu = np.random.default_rng(2).normal(0, 200, shape).astype("float32")
    out = Denoiser(artefact[0])(slice_hu)
    assert out.shape == shape
    if min(shape) > 21:
        expected = np.asarray(network(slice_hu[None, :, :, None]))[0, :, :, 0]
        np.testing.assert_allclose(out, expected, atol=0.05)


def test_the_artefact_says_what_it_is(network, artefact):
    path, report = artefact
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("metadata.json")) == report
    assert report["model"] == "StructKPN-edge"
    assert report["parameters"] == network.count_params()
    assert report["weights_sha256"] == weights_sha256(network)
    assert [compared["slice"] for compared in report["parity"]] == ["real", "anatomy", "random"]
    assert all(compared["largest_hu"] < 0.05 for compared in report["parity"])


def test_a_loaded_file_allocates_and_runs_before_anybody_resizes_it(artefact, network):
    interpreter = Interpreter(str(artefact[0]))
    interpreter.allocate_tensors()
    ((entry,), (exit_,)) = interpreter.get_input_details(), interpreter.get_output_details()
    assert entry["shape"].tolist() == exit_["shape"].tolist() == [1, 512, 512, 1]
    assert entry["shape_signature"].tolist() == [1, -1, -1, 1]
    # The middle of a larger slice: a pixel sees 45 pixels around.
    slice_hu = np.random.default_rng(4).normal(0, 100, (1, 512, 512, 1)).astype("float32")
    interpreter.set_tensor(entry["index"], slice_hu)
    interpreter.invoke()
    middle = interpreter.get_tensor(exit_["index"])[:, 248:260, 248:260]
    expected_hu = network(slice_hu[:, 200:308, 200:308])[:, 48:60, 48:60]
    np.testing.assert_allclose(middle, expected_hu, atol=0.05)


def test_inputs_and_outputs_have_names_in_the_signature(artefact):
    signatures = Interpreter(str(artefact[0])).get_signature_list()
    assert signatures == {
        "serving_default": {"inputs": ["slice_hu"], "outputs": ["denoised_hu"]},
        "shares": {"inputs": ["slice_hu"], "outputs": ["filters_0", "shares"]},
    }


def test_the_page_runs_the_file_with_litert_alone(artefact, network, tmp_path):
    example = re.search(r"## LiteRT\n.*?```python\n(.*?)```", BY_HAND.read_text(encoding="utf-8"), re.DOTALL)[
        1
    ]
    shutil.copy(artefact[0], tmp_path)
    # Both sides leave a remainder by 4.
    np.save(tmp_path / "slice.npy", np.random.default_rng(9).normal(0, 100, (39, 58)))
    printed = run_without(["kpn_tf", "export", "tensorflow", "keras"], example, tmp_path)
    assert printed.startswith("StructKPN-edge 1 ")
    slice_hu = np.load(tmp_path / "slice.npy").astype("float32")
    expected_hu = np.asarray(network(slice_hu[None, :, :, None]))[0, :, :, 0]
    np.testing.assert_allclose(np.load(tmp_path / "denoised.npy"), expected_hu, atol=0.05)


def test_the_same_network_gives_the_same_file(network, artefact, tmp_path):
    to_tflite(network, tmp_path / "again.tflite", RELEASE, precision="float32")
    assert (tmp_path / "again.tflite").read_bytes() == artefact[0].read_bytes()


def test_half_precision_halves_the_file_and_stays_within_one_hu(network, artefact, tmp_path):
    report = to_tflite(network, tmp_path / "half.tflite", RELEASE)
    assert report["precision"] == "float16"
    assert (tmp_path / "half.tflite").stat().st_size < 0.6 * artefact[0].stat().st_size
    assert 0.005 < max(compared["largest_hu"] for compared in report["parity"]) < 1.0


def test_a_static_artefact_takes_one_size_and_says_so(network, tmp_path):
    report = to_tflite(network, tmp_path / "static.tflite", RELEASE, precision="float32", side=104)
    interpreter = Interpreter(str(tmp_path / "static.tflite"))
    assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [1, 104, 104, 1]
    assert report["side"] == 104
    assert {(compared["rows"], compared["columns"]) for compared in report["parity"]} == {(104, 104)}


def test_a_side_off_the_grid_of_the_network_is_refused(network, tmp_path):
    with pytest.raises(ValueError, match=r"side of 100 or more that divides by 4.*Received: 106"):
        to_tflite(network, tmp_path / "edge.tflite", RELEASE, side=106)


def test_the_papers_network_in_strips_gives_its_own_numbers(paper, tmp_path):
    report = to_tflite(paper, tmp_path / "paper.tflite", RELEASE, precision="float32")
    assert report["multiple"] == 8
    # Not 512: it goes through in pieces.
    interpreter = Interpreter(str(tmp_path / "paper.tflite"))
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 256, 256, 1]
    assert max(compared["largest_hu"] for compared in report["parity"]) < 0.05


def test_the_papers_network_in_half_precision_stays_within_one_hu(paper, tmp_path):
    report = to_tflite(paper, tmp_path / "paper.tflite", RELEASE, side=48)
    assert max(compared["largest_hu"] for compared in report["parity"]) < 1.0


@pytest.mark.slow
def test_the_papers_network_denoises_512_pixels_square_in_less_than_a_gigabyte(tmp_path, monkeypatch):
    # What is measured here is memory: the comparison of numbers, above, takes its time.
    monkeypatch.setattr("export.tflite.compare", lambda *slices, **how: [])
    report = to_tflite(StructKPN("paper"), tmp_path / "paper.tflite", RELEASE, precision="float32")
    assert report["whole_side"] == 256
    lines = (
        "import sys, numpy",
        "from kpn_tf import Denoiser",
        "Denoiser(sys.argv[1])(numpy.zeros((512, 512)))",
    )
    _, _, peak_mb = measured(sys.executable, "-c", "\n".join(lines), tmp_path / "paper.tflite")
    assert peak_mb < 1000


@pytest.mark.parametrize("shape", [(2, 45, 51, 1), (1, 32, 24, 1), (1, 7, 9, 1)])
def test_strips_of_any_height_meet_in_exact_seams(paper, shape):
    slice_hu = np.random.default_rng(6).normal(0, 100, shape).astype("float32")
    function = tf.function(any_size(paper), input_signature=[tf.TensorSpec((None, None, None, 1))])
    np.testing.assert_allclose(function(slice_hu), paper(slice_hu), atol=0.02)


def test_an_operation_without_builtin_form_fails_the_export(network, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "export.tflite.whole",
        lambda _: lambda slice_hu: tf.image.extract_patches(slice_hu, *([[1, 1, 1, 1]] * 3), padding="SAME"),
    )
    with pytest.raises(ValueError, match=r"builtin form in TFLite\. Received: tf\.ExtractImagePatches"):
        to_tflite(network, tmp_path / "edge.tflite", RELEASE)
    assert not list(tmp_path.iterdir())


def test_red_cnn_exports_as_well(tmp_path):
    keras.utils.set_random_seed(3)
    report = to_tflite(REDCNN(), tmp_path / "redcnn.tflite", RELEASE, precision="float32", side=44)
    assert report["model"] == "RED-CNN"
    assert report["halo"] == 20


def test_an_artefact_that_differs_from_keras_is_not_written(network, tmp_path, monkeypatch):
    monkeypatch.setattr("export.tflite.TOLERANCE_HU", {"float16": 0.001})
    with pytest.raises(
        ParityError, match=r"within 0\.001 HU of Keras\. Received: .* on the real slice; not written"
    ):
        to_tflite(network, tmp_path / "edge.tflite", RELEASE)
    assert not list(tmp_path.iterdir())


def test_no_number_is_no_parity(network):
    with pytest.raises(ParityError, match="nan HU on the real slice"):
        compare(lambda batch_hu: np.full_like(batch_hu, np.nan), network, 0.05)


def test_the_parity_check_notices_other_weights(network):
    keras.utils.set_random_seed(9)
    other = StructKPN("edge")
    with pytest.raises(ParityError, match="on the real slice"):
        compare(other, network, 0.05)
    assert all(compared["largest_hu"] < 0.05 for compared in compare(network, network, 0.05))


def test_one_slice_of_the_comparison_is_real_ct():
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    stored_hu = dataset.pixel_array * dataset.RescaleSlope + dataset.RescaleIntercept
    np.testing.assert_array_equal(comparison_slices()["real"], stored_hu)
    assert {slice_hu.shape for slice_hu in comparison_slices(200).values()} == {(200, 200)}


def low_dose_slices(count):
    """Inside a body: steps from air to tissue are more than integers of 16 and 8 bits are good for."""
    body_hu = torso(104, 104, slices=count, pixel_spacing_mm=1.5, slice_spacing_mm=20.0).volume_hu
    return body_hu.clip(-100, 150) + np.random.default_rng(8).normal(0, 25, body_hu.shape)


def shipped():
    return keras.saving.load_model(WEIGHTS_FOLDER / "edge.keras", compile=False)


def test_integers_of_sixteen_bits_are_judged_on_slices_that_did_not_set_their_ranges(tmp_path):
    report = to_tflite(
        shipped(),
        tmp_path / "edge.tflite",
        RELEASE,
        precision="int16x8",
        side=104,
        calibration=low_dose_slices(4),
    )
    assert [compared["slice"] for compared in report["parity"]] == ["calibration 2", "calibration 4"]
    assert all(0.05 < compared["rms_soft_tissue_hu"] < 2.0 for compared in report["parity"])


def test_integers_of_eight_bits_are_too_coarse_for_hu_and_not_written(tmp_path):
    with pytest.raises(ParityError, match=r"within 2\.0 HU RMS of Keras in soft tissue.*use float16"):
        to_tflite(
            shipped(),
            tmp_path / "edge.tflite",
            RELEASE,
            precision="int8",
            side=104,
            calibration=low_dose_slices(2),
        )
    assert not list(tmp_path.iterdir())


def test_integers_without_calibration_are_refused(network, tmp_path):
    with pytest.raises(ValueError, match=r"calibration slices with integers and only there\. Received: int8"):
        to_tflite(network, tmp_path / "edge.tflite", RELEASE, precision="int8")
    with pytest.raises(ValueError, match=r"at least two calibration slices\. Received: 1"):
        to_tflite(
            network, tmp_path / "edge.tflite", RELEASE, precision="int8", calibration=low_dose_slices(1)
        )


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
