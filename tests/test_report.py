"""`kpn report`: what the page is given is exact, nobody is named in it, and one bad slice takes nothing else along."""

import json
import re
import shutil
import stat
from importlib import resources

import numpy as np
import pydicom
import pytest
import wasmtime

from export import Release, to_tflite
from kpn_tf import Denoiser, StructKPN
from kpn_tf.cli.networks import load_network
from kpn_tf.denoiser import NoKernelsError, artefact
from kpn_tf.evaluation.stream import chosen_slices
from kpn_tf.metrics import flat_regions, regional_noise_std_hu, window_side
from kpn_tf.report import ReportSlice, document, numbers, proof, selection
from kpn_tf.report.codec import encode
from kpn_tf.report.layers import read_layers
from tests.command import BOX, kpn
from tests.noisy_torso import noisy_volume, write_torso
from tests.reference.slow_slices import decode

EDGE = artefact.WEIGHTS_FOLDER / "edge.tflite"
OLDER = "<!DOCTYPE html><title>kpn_tf report</title>older"


def report(*words, weights="edge"):
    """Runs `kpn report`, by default with a network of single slices: `tests/test_report_stacks.py` has the others."""
    return kpn("report", *words, "--weights", weights)


@pytest.fixture(scope="module")
def edge():
    """The shipped network in Keras."""
    return load_network(artefact.WEIGHTS_FOLDER / "edge.keras")


@pytest.fixture(scope="module")
def torso(tmp_path_factory):
    """A folder with a small scan."""
    folder = tmp_path_factory.mktemp("torso")
    write_torso(folder)
    return folder


@pytest.fixture(scope="module")
def page(torso):
    """Text of its report."""
    path = torso.with_name("torso.html")
    assert report(torso, path) == 0
    return path.read_text(encoding="utf-8")


def test_slices_come_back_as_they_were(rng):
    slice_hu = rng.integers(-1024, 3071, (11, 7)).astype(np.float32)
    slice_hu[3:5, 2] = np.nan
    before = encode(slice_hu, 1.0)
    codes, decoded_hu = decode(before, 11, 7)
    np.testing.assert_array_equal(decoded_hu, slice_hu)
    after_hu = np.rint(slice_hu / 2)
    np.testing.assert_array_equal(decode(encode(after_hu, 1.0, [before]), 11, 7, [codes])[1], after_hu)


def test_what_a_slice_shares_with_the_one_before_is_not_stored_twice(rng):
    noise_hu = np.rint(rng.normal(0, 30, (2, 96, 101)))
    before = encode(noise_hu[0], 1.0)
    after_hu = np.rint(noise_hu[0] / 2)
    assert len(encode(after_hu, 1.0, [before]).text) < 0.5 * len(encode(after_hu, 1.0).text)
    # Noise of 30 HU has an entropy of log2(30 √(2πe)) = 6.95 bits; base 85 makes 5 letters of 32 bits.
    assert len(before.text) < 1.06 * 6.95 / 8 * 1.25 * noise_hu[0].size


def test_steps_other_than_one_and_the_whole_range_of_16_bits_come_back(rng):
    slice_hu = -1024 + 0.5 * rng.integers(0, 2**16 - 1, (7, 11))
    slice_hu[0, :2] = -1024, -1024 + 0.5 * (2**16 - 2)
    np.testing.assert_array_equal(decode(encode(slice_hu, 0.5), 7, 11)[1], slice_hu)


def test_a_slice_without_any_field_of_view_is_all_outside():
    assert np.isnan(decode(encode(np.full((3, 4), np.nan), 1.0), 3, 4)[1]).all()


def test_what_was_denoised_is_rounded_to_what_its_series_can_store():
    _, decoded_hu = decode(encode(np.array([[-1000.0, 0.49], [0.51, 40.2]]), 1.0), 2, 2)
    assert decoded_hu.tolist() == [[-1000, 0], [1, 40]]


@pytest.fixture
def rng():
    return np.random.default_rng(20261122)


def test_a_file_that_does_not_tell_its_kernels_has_no_layers_to_read():
    with pytest.raises(NoKernelsError, match=r"tells the shares of its filters. Received: box.tflite"):
        read_layers(BOX)


def test_the_layers_of_the_file_are_all_that_the_network_has():
    network = read_layers(EDGE)
    parameters = sum(filters.size + bias.size for filters, bias in network.weights)
    assert parameters + 21 * 21 * 32 == StructKPN("edge").count_params()
    assert [bank.shape for bank in network.banks] == [(4, 21, 21, 32)]
    assert network.layers[0] == {"kind": "slice_hu"}
    # One convolution to features, five residual blocks of two and one more, down, up, the scores.
    strides = [layer["stride"] for layer in network.layers if layer["kind"] == "conv_2d"]
    assert strides == [1, 1, 1, 2, *(1,) * 8, 1, 1, 1, 1]


def test_a_file_in_half_precision_has_the_same_layers_with_rounded_numbers(edge, tmp_path):
    to_tflite(edge, tmp_path / "half.tflite", Release("0", "Apache-2.0", "none"), side=100)
    whole, half = read_layers(EDGE), read_layers(tmp_path / "half.tflite")
    for layer, of_half in zip(whole.layers, half.layers, strict=True):
        assert of_half == layer | ({"value": of_half["value"]} if "value" in layer else {})
        assert of_half.get("value", 0) == pytest.approx(layer.get("value", 0), rel=2**-11)
    for (filters, _), (rounded, _) in zip(whole.weights, half.weights, strict=True):
        np.testing.assert_array_equal(rounded, filters.astype(np.float16))


def test_a_network_with_a_layer_that_the_page_does_not_know_has_no_kernels(tmp_path):
    network = StructKPN("edge", trunk="full", channels=8, blocks=1)
    to_tflite(network, tmp_path / "fine.tflite", Release("0", "Apache-2.0", "none"))
    with pytest.raises(
        NoKernelsError, match=r"layers that the page can compute. Received: fine.tflite \(conv_2d of HU"
    ):
        read_layers(tmp_path / "fine.tflite")


def test_a_page_holds_the_filters_of_the_file_if_their_kernels_filter_as_the_denoiser_did():
    denoiser = Denoiser("edge", threads=1)
    slice_hu = noisy_volume()[1].astype(np.float32)
    network = proof.proved_network(denoiser, slice_hu)
    (bank,) = network.banks
    np.testing.assert_allclose(bank.sum(axis=(1, 2)), 1, atol=1e-5)
    np.testing.assert_array_equal(bank, read_layers(EDGE).banks[0])


def test_kernels_that_do_not_filter_as_the_denoiser_did_are_not_shown(monkeypatch):
    denoiser = Denoiser("edge", threads=1)
    true = denoiser.kernels_at
    monkeypatch.setattr(denoiser, "kernels_at", lambda *places, **more: true(*places, **more)[:, ::-1])
    with pytest.raises(NoKernelsError, match=r"filter up to \S+ HU away from what it made"):
        proof.proved_network(denoiser, noisy_volume()[1])


def test_the_webassembly_is_its_text_assembled():
    page = resources.files("kpn_tf.report") / "page"
    text = (page / "cell.wat").read_text(encoding="utf-8")
    assert wasmtime.wat2wasm(text) == (page / "cell.wasm").read_bytes()


def test_the_noise_map_looks_at_ten_millimetres():
    assert window_side((0.75, 0.75)) * 0.75 == pytest.approx(10, abs=0.75)
    assert window_side((2.8, 2.8)) == 3


def test_a_page_asks_for_nothing_outside_itself(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    code = re.sub(r'<script type="text/plain" id="[a-z\d-]+">[^<]*</script>', "", page)
    assert len(code) < 100_000
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|\b(?:fetch|XMLHttpRequest|WebSocket)\b""", code)
    assert "{{" not in code


def test_a_page_names_nobody_unless_asked(torso, page, tmp_path, capfd):
    secrets = ("Secret", "ID-0815", str(torso))
    assert not [secret for secret in secrets if secret in page]
    assert report(torso, tmp_path / "named.html", "--patient") == 0
    out, _ = capfd.readouterr()
    assert "Secret" not in out
    assert "Secret^Person, ID-0815" in (tmp_path / "named.html").read_text(encoding="utf-8")


def test_a_name_in_a_header_is_text_in_the_page(tmp_path):
    write_torso(tmp_path / "in", noisy_volume()[:1], changes={"PatientName": "<script>alert(1)</script>"})
    assert report(tmp_path / "in", tmp_path / "r.html", "--patient") == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_everybody_shown_is_named_where_it_is_asked_for(tmp_path):
    write_torso(tmp_path / "in" / "a", noisy_volume()[:2])
    write_torso(tmp_path / "in" / "b", noisy_volume()[1:, :40], changes={"PatientName": "Other^Person"})
    assert report(tmp_path / "in", tmp_path / "r.html", "--patient") == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    said = re.search(r"<p>(.*?)</p>", page)[1]
    assert re.fullmatch(r"(\w+\^Person, ID-0815, \d+(; |, )){2}2 series: 4 slices", said)
    assert {"Secret", "Other"} == set(re.findall(r"(\w+)\^", said))


@pytest.mark.parametrize("name", ["{{data}}", "{{origin}}", "{{style}}"])
def test_a_name_that_looks_like_a_place_of_the_page_is_text(tmp_path, name):
    write_torso(tmp_path / "in", noisy_volume()[:1], changes={"ConvolutionKernel": name})
    assert report(tmp_path / "in", tmp_path / "r.html") == 0
    assert f"({name})" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_what_is_no_report_is_never_replaced(torso, tmp_path, capfd):
    shutil.copytree(torso, tmp_path / "in")
    slice_file = sorted((tmp_path / "in").iterdir())[0].rename(tmp_path / "in" / "slice.html")
    (tmp_path / "link.html").symlink_to(slice_file)
    (tmp_path / "page.html").write_text("<!DOCTYPE html><title>mine</title>", encoding="utf-8")
    there = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for path in (slice_file, tmp_path / "link.html", tmp_path / "page.html"):
        assert report(tmp_path / "in", path) == 2
        expected = f"expected OUTPUT to be new or an older report, received {path}, which is another file"
        assert expected in capfd.readouterr().err
    assert (tmp_path / "link.html").is_symlink()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == there


def test_a_report_may_have_the_longest_name_there_is(torso, tmp_path):
    path = tmp_path / ("r" * 250 + ".html")
    assert report(torso, path) == 0
    assert report(torso, path) == 0


def test_research_use_is_said_twice_and_the_network_named(page):
    assert page.count("Research use, not for diagnosis") == 2
    edge = Denoiser("edge").identity
    assert f"file SHA-256 {edge.file_sha256[:12]}..., weights SHA-256 {edge.weights_sha256[:12]}..." in page


def test_a_page_shows_thirty_slices_at_most_unless_told_otherwise(tmp_path, capfd):
    write_torso(tmp_path / "in", np.repeat(noisy_volume(), 11, axis=0)[:, :32, :32])
    assert report(tmp_path / "in", tmp_path / "r.html") == 0
    assert "17 slices, one in 2 of 33" in capfd.readouterr().out
    assert report(tmp_path / "in", tmp_path / "r.html", "--every", "1") == 0
    assert "33 slices ->" in capfd.readouterr().out


def test_one_bad_slice_is_named_and_the_others_are_shown(torso, tmp_path, capfd):
    shutil.copytree(torso, tmp_path / "in")
    bad = sorted((tmp_path / "in").iterdir())[1]
    dataset = pydicom.dcmread(bad)
    dataset.PixelData = dataset.PixelData[:100]
    dataset.save_as(bad)
    assert report(tmp_path / "in", tmp_path / "r.html") == 1
    out, err = capfd.readouterr()
    assert f"failed: {bad}: " in err
    assert len(re.findall(r'"kind": "before"', (tmp_path / "r.html").read_text(encoding="utf-8"))) == 2
    assert "2 slices ->" in out


def test_a_slice_that_cannot_be_decoded_is_counted_out_and_the_patient_named_by_the_next(
    torso, tmp_path, capfd
):
    shutil.copytree(torso, tmp_path / "in")
    bad = sorted((tmp_path / "in").iterdir())[0]
    dataset = pydicom.dcmread(bad)
    dataset.compress(pydicom.uid.RLELossless)
    dataset.PixelData = dataset.PixelData[:60] + bytes(len(dataset.PixelData) - 60)
    dataset.save_as(bad)
    assert report(tmp_path / "in", tmp_path / "r.html", "--patient") == 1
    out, err = capfd.readouterr()
    assert f"failed: {bad}: " in err
    assert "3 slices, 1 of them left out ->" in out
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Secret^Person, ID-0815" in page
    assert '"1 of 3 slices could not be used."' in page


def test_a_slice_keeps_its_number_where_only_some_have_a_normal_dose(torso, tmp_path):
    shutil.copytree(torso, tmp_path / "normal")
    sorted((tmp_path / "normal").iterdir())[0].unlink()
    low = tmp_path / "low"
    write_torso(low, noisy_volume(noise_hu=30.0))
    words = (low, "--reference", tmp_path / "normal", tmp_path / "r.html")
    assert report(*words) == 1
    names = re.findall(r'"name": "image (\d+) at', (tmp_path / "r.html").read_text(encoding="utf-8"))
    assert names == ["2", "3"]


@pytest.mark.parametrize("shape", [(5, 40), (1, 1)])
def test_a_slice_too_small_for_ssim_is_shown_without(tmp_path, shape):
    small_hu = noisy_volume()[:2, 40 : 40 + shape[0], 40 : 40 + shape[1]]
    for name, noise_hu in (("low", 9), ("normal", 0)):
        write_torso(tmp_path / name, small_hu + noise_hu)
    words = (tmp_path / "low", "--reference", tmp_path / "normal", tmp_path / "r.html")
    assert report(*words) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert '["SSIM soft", "\\u2013", "\\u2013", "\\u2013"]' in page
    assert '["RMSE (HU)", "9.00", ' in page


@pytest.mark.parametrize(
    ("lengths", "shown"), [([33], 17), ([40, 1, 1, 1], 23), ([15] * 4, 20), ([1] * 31, 31), ([30], 30)]
)
def test_as_many_slices_are_taken_as_make_thirty_at_most_though_one_of_each_series(lengths, shown):
    step = selection._usual_step(lengths)
    assert sum(len(chosen_slices(range(n), step)) for n in lengths) == shown


def test_nothing_is_left_behind_where_no_slice_can_be_used(tmp_path, capfd):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.dcm").write_text("no CT", encoding="utf-8")
    assert report(tmp_path / "in", tmp_path / "r.html") == 1
    assert "expected CT slices to show" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_older_report_stays_whole_until_the_new_one_is(torso, tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text(OLDER, encoding="utf-8")
    monkeypatch.setattr(document, "_write_about", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    assert report(torso, path) == 1
    assert path.read_text(encoding="utf-8") == OLDER
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_what_was_denoised_already_is_not_denoised_again(torso, tmp_path, capfd):
    assert kpn("denoise", torso, tmp_path / "out", "--weights", BOX) == 0
    assert report(tmp_path / "out", tmp_path / "r.html") == 1
    assert "denoised by kpn_tf already; give the series it was made from" in capfd.readouterr().err


def test_a_network_of_another_kind_is_reported_without_kernels(torso, tmp_path):
    assert report(torso, tmp_path / "r.html", weights=BOX) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No kernels are shown: Expected a network whose file tells" in page
    assert 'id="wasm"' not in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("r.txt",), "expected OUTPUT to end in .html, such as report.html, received r.txt"),
        (("nowhere/r.html",), "expected a file in a folder that can be written"),
        (("r.html", "--reference", "nowhere"), "which does not exist"),
        (("r.html", "--beside", "nowhere"), "which does not exist"),
        (("r.html", "--strength", "0.4", "0.4"), "expected every strength once, received 0.4 0.4"),
        ((), "the following arguments are required: OUTPUT"),
    ],
)
def test_a_wrong_call_is_one_sentence(torso, tmp_path, monkeypatch, capfd, words, said):
    monkeypatch.chdir(tmp_path)
    assert report(torso, *words) == 2
    assert said in capfd.readouterr().err


def test_a_report_is_its_owners_alone(torso, tmp_path):
    assert report(torso, tmp_path / "r.html") == 0
    assert stat.S_IMODE((tmp_path / "r.html").stat().st_mode) == 0o600


def test_images_have_the_number_that_a_pacs_shows(tmp_path):
    # From head to feet, as scanners count; slices are sorted from the feet.
    for number, path in zip((103, 102, 101), write_torso(tmp_path / "in"), strict=True):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = number
        dataset.save_as(path)
    assert report(tmp_path / "in", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    names = re.findall(r'"name": "(image \S+ at \S+ mm)"', page)
    assert names == ["image 103 at -3.0 mm", "image 102 at 0.0 mm", "image 101 at 3.0 mm"]


def about(path):
    """What the page knows about its images."""
    return json.loads(re.search(r"const REPORT = (.*);</script>", path.read_text(encoding="utf-8"))[1])


def test_several_series_are_apart_and_each_has_numbers_of_its_own(tmp_path):
    noisier_hu = noisy_volume(noise_hu=30.0)
    write_torso(tmp_path / "in" / "a")
    write_torso(tmp_path / "in" / "b", noisier_hu)
    assert report(tmp_path / "in", tmp_path / "r.html") == 0
    for series in about(tmp_path / "r.html")["series"]:
        assert len(series["planes"]["axial"]) == 3
    noises_hu = sorted(float(series["rows"][1][1]) for series in about(tmp_path / "r.html")["series"])
    # Noise of 12 and of 30 HU; what is flat by chance counts, which makes both smaller alike.
    assert noises_hu[1] / noises_hu[0] == pytest.approx(30 / 12, rel=0.1)


def test_the_noise_of_a_strength_is_that_of_the_mixture_of_both_images(rng):
    before_hu = rng.normal(40, 20, (96, 101)).astype(np.float32)
    after_hu = (40 + 0.3 * (before_hu - 40) + rng.normal(0, 1, before_hu.shape)).astype(np.float32)
    images_hu = {"before": before_hu, "after": after_hu}
    piece = ReportSlice("a", "axial", "1", images_hu, {}, (1.0, 1.0))
    record = numbers.measured(piece, (0.35, 1.0))
    still, slope, bend = record["variance"]
    for strength in (0.35, 1.0):
        polynomial = still + slope * strength + bend * strength**2
        assert np.sqrt(polynomial) == pytest.approx(record["noise"][f"after, {strength:g}"], rel=1e-6)
    mixed_hu = 0.65 * before_hu + 0.35 * after_hu
    regions = flat_regions(before_hu, (1.0, 1.0))
    assert record["noise"]["after, 0.35"] == pytest.approx(regional_noise_std_hu(mixed_hu, regions), rel=1e-4)


def test_means_are_over_the_slices_that_all_images_have():
    records = [
        {"noise": {"before": 10.0, "after, 1": 4.0, "series": 6.0}, "variance": [1.0, 0.0, 0.0]},
        {"noise": {"before": 20.0, "after, 1": 8.0}, "variance": [1.0, 0.0, 0.0]},
        {"noise": {"before": np.nan, "after, 1": np.nan}, "variance": [np.nan] * 3},
    ]
    summary = numbers.summary(records)
    assert summary["rows"] == [["", "before", "after, 1", "series"], ["noise SD (HU)", "10.0", "4.0", "6.0"]]
    assert summary["variances"] == [[1.0, 0.0, 0.0]] * 2


def test_what_lies_elsewhere_is_not_shown_beside(torso, tmp_path, capfd):
    write_torso(tmp_path / "other", noisy_volume()[:, :, 1:])
    assert report(torso, tmp_path / "r.html", "--beside", tmp_path / "other") == 1
    expected = "no series of the patient, size, pixel spacing and positions of one that is shown"
    assert f"failed: {tmp_path / 'other'}: {expected}" in capfd.readouterr().err
    assert [
        image["kind"] for image in about(tmp_path / "r.html")["series"][0]["planes"]["axial"][0]["images"]
    ] == [
        "before",
        "after",
    ]


def test_unevenly_spaced_slices_have_no_planes_and_the_report_says_so(tmp_path, capfd):
    write_torso(tmp_path / "in", noisy_volume(slices=4)[:, :32, :32])[1].unlink()
    assert report(tmp_path / "in", tmp_path / "r.html", "--planes", "2") == 1
    assert "slices are not evenly spaced, so it has no coronal and sagittal planes" in capfd.readouterr().err
    assert list(about(tmp_path / "r.html")["series"][0]["planes"]) == ["axial"]
