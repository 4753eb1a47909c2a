"""Thin slices of the torso: what noise, neighbours and sharpness along z are measured with."""

import json

import numpy as np
import pytest

from kpn_tf.denoiser import Neighbour
from kpn_tf.dose.simulation import SPECTRA, noise_field
from kpn_tf.evaluation import Pair, denoise_pair
from kpn_tf.evaluation.mean_of_slices import MeanOfSlices
from kpn_tf.metrics import eye_filter, eye_filtered_d_prime
from kpn_tf.phantom import torso
from kpn_tf.quality import sharpness_along_z, stacks, torso_stacks
from kpn_tf.quality.stacks import width
from tests.command import kpn


@pytest.fixture
def white(monkeypatch):
    """White noise in place of that of projections, which takes longer."""

    def field(slice_hu, mm, std_hu, spectrum, rng, region):
        return rng.normal(0, std_hu, slice_hu[region].shape).astype("float32")

    monkeypatch.setattr(stacks, "noise_field", field)


def test_the_noise_of_a_region_is_that_of_the_whole_slice():
    body_hu = torso(96, 128, 1, pixel_spacing_mm=2.8).volume_hu[0]
    region = (slice(20, 61), slice(33, 90))
    whole, part = (
        noise_field(body_hu, 2.8, 20.0, SPECTRA["soft"], np.random.default_rng(2), chosen)
        for chosen in (None, region)
    )
    np.testing.assert_allclose(part, whole[region], atol=1e-4)


def test_a_thin_slice_has_the_noise_of_its_photons_and_neighbours_share_a_part_of_it(white):
    phantom = torso_stacks((0.25,), 1, slice_mm=1.0, slices=3)
    scans = {present: pair for _, present, pair in phantom.scans}
    assert (len(scans), phantom.count) == (2, 2)
    pair = scans[False]
    noise = pair.low_hu - pair.normal_hu
    # 12 HU in 3 mm at the full dose.
    assert noise.std() == pytest.approx(12 * np.sqrt(3) / np.sqrt(0.25), rel=0.02)
    assert [neighbour.distance_mm for neighbour in pair.neighbours] == [1.0, 1.0]
    below, above = (neighbour.slice_hu - pair.normal_hu for neighbour in pair.neighbours)
    soft = np.abs(pair.normal_hu - 105) < 0.1
    assert np.corrcoef(below[soft], noise[soft])[0, 1] == pytest.approx(0.3, abs=0.03)
    assert np.corrcoef(below[soft], above[soft])[0, 1] == pytest.approx(0.02, abs=0.03)


def test_the_discs_are_what_the_middle_slice_cuts_out_of_the_spheres(white):
    phantom = torso_stacks((0.25,), 1, slice_mm=1.0, slices=1)
    radii_mm = {lesion.name: lesion.radius * 0.75 for lesion in phantom.lesions}
    # In `kpn_tf.phantom`: 15 mm wide in the slice, and 8 mm wide, its centre 3 mm away.
    assert radii_mm["-20 HU, 15 mm"] == pytest.approx(7.5, abs=0.2)
    assert radii_mm["+20 HU, 8 mm"] == pytest.approx(np.sqrt(4**2 - 3**2), abs=0.2)
    for lesion in phantom.lesions:
        row, column = (round(c) for c in lesion.centre)
        assert phantom.truth_hu[row, column] - 105 == pytest.approx(lesion.contrast_hu, abs=1)


def test_the_width_along_z_of_one_slice_is_one_slice_and_of_a_mean_of_three_three(white, monkeypatch):
    monkeypatch.setattr(stacks, "SHARPNESS_REALISATIONS", 2)
    found = sharpness_along_z(
        {"mean3": MeanOfSlices(), "same": lambda slice_hu: slice_hu},
        0.25,
        slice_mm=1.0,
        slices=5,
        note=pytest.fail,
    )
    values = {(q.name, q.of): {kind: interval.value for kind, interval in q.values.items()} for q in found}
    for shape in ("plate", "vessel of 1 mm"):
        expected = {"before": 1.0, "same": 1.0, "mean3": 3.0}
        assert values["width along z", shape] == pytest.approx(expected, abs=1e-3)
        expected = {"before": 100.0, "same": 100.0, "mean3": 100 / 3}
        assert values["kept in its slice", shape] == pytest.approx(expected, abs=0.01)


def test_a_width_lies_between_slices_on_straight_lines():
    assert width([0, 0.05, 0.9, 0.05, 0]) == pytest.approx(2 * 0.45 / 0.85)
    assert width([0.9, 0.9, 1.0, 0.9, 0.9]) == 4  # never below half: the ends


def test_a_denoiser_gets_as_many_neighbours_as_it_sees():
    slices_hu = np.arange(5, dtype="float32")[:, None, None] * np.ones((5, 3, 3), "float32")
    beside = tuple(Neighbour(slices_hu[z], float(abs(z - 2))) for z in (0, 1, 3, 4))
    pair = Pair(slices_hu[2], slices_hu[2], "p", "n", (1.0, 1.0), beside)
    seen = []

    def denoiser(slice_hu, neighbours=None):
        seen.append(neighbours)
        return slice_hu

    for slices, expected in ((1, None), (3, beside[1:3]), (5, beside), (7, ())):
        denoiser.slices = slices
        denoise_pair("d", denoiser, pair)
        assert seen.pop() == expected


def test_the_mean_of_slices_takes_what_is_there():
    slice_hu = np.full((2, 2), 3.0)
    beside = [None, Neighbour(np.full((2, 2), 6.0), 1.0)]
    np.testing.assert_allclose(MeanOfSlices()(slice_hu, neighbours=beside), 4.5)
    outside = np.array([[True, False], [False, False]])
    np.testing.assert_allclose(MeanOfSlices()(slice_hu, outside, beside), [[3.0, 4.5], [4.5, 4.5]])


def test_the_eye_sees_four_cycles_a_degree_best():
    frequency = np.linspace(0, 2, 2001)
    seen = eye_filter(frequency)
    # A degree is 8.73 mm at 500 mm.
    assert frequency[seen.argmax()] == pytest.approx(4 / (500 * np.pi / 180), abs=1e-3)
    assert (seen.max(), seen[0]) == (pytest.approx(1.0, abs=1e-4), 0.0)


def test_the_observer_with_an_eye_filter_has_its_d_prime_in_white_noise():
    rng, std_hu, mm = np.random.default_rng(1), 30.0, 0.75
    disc = 20.0 * (np.hypot(*np.mgrid[-15:16, -15:16]) < 5)
    absent, present = rng.normal(0, std_hu, (2, 4000, 31, 31))
    # One frequency after the other, on a plane twice as large so that nothing wraps around.
    rows, columns = (np.fft.fftfreq(62, mm) for _ in range(2))
    spectrum = np.fft.fft2(disc, (62, 62))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            spectrum[i, j] *= eye_filter(np.hypot(row, column)) ** 2
    template = np.fft.ifft2(spectrum).real[:31, :31]
    expected = np.sum(template * disc) / (std_hu * np.sqrt(np.sum(template**2)))
    assert eye_filtered_d_prime(absent, present + disc, disc, mm) == pytest.approx(expected, rel=0.05)


def test_the_command_measures_thin_slices(white, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(stacks, "SHARPNESS_REALISATIONS", 2)
    call = ("quality", "--phantom", "torso", "--slice-mm", "1", "--slices", "3", "--realisations", "6")
    assert kpn(*call, "--denoiser", "mean3", "--output", tmp_path) == 0
    found = json.loads((tmp_path / "quality.json").read_text())
    names = {q["name"] for q in found["quantities"]}
    assert {"detectability d'", "d', eye filter", "contrast", "width along z", "kept in its slice"} <= names
    assert "slices of 1 mm, noise correlated by 0.3" in found["data"]
    capsys.readouterr()
    assert kpn("quality", "--phantom", "torso", "--slices", "3", "--output", tmp_path) == 2
    assert "--slices belongs to --slice-mm" in capsys.readouterr().err
