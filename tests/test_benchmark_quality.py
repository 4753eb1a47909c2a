"""What stands beside PSNR on the benchmark's page: noise, structure, faint lesions."""

from types import SimpleNamespace

import numpy as np
import pytest

from baselines.benchmark import quality, quality_tables
from baselines.benchmark.tables import EQUAL_STRUCTKPN, LOW_DOSE, Row, Table
from kpn_tf.evaluation import Pair
from kpn_tf.quality import measure_phantom, measure_series
from tests.noisy_torso import noisy_volume


@pytest.fixture(autouse=True)
def few(monkeypatch):
    # As few as an observer of five channels can do without one of.
    monkeypatch.setattr(quality, "REALISATIONS", 6)


def blurred(slice_hu):
    padded = np.pad(slice_hu, 2, mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).mean(axis=(2, 3))


def halved(slice_hu):
    """Half of every contrast goes, and half of the noise, as no filter does it."""
    return 60 + (slice_hu - 60) / 2


def pairs():
    truth_hu, low_hu = noisy_volume(2), noisy_volume(2) + np.random.default_rng(1).normal(0, 30, (2, 96, 128))
    return [
        Pair(low, truth, "P", str(i), (2.0, 2.0))
        for i, (low, truth) in enumerate(zip(low_hu, truth_hu, strict=True))
    ]


def test_noise_and_structure_are_those_of_kpn_quality():
    found = quality.of_slices("blurred", blurred, quality.references_of(pairs()))
    report = measure_series(pairs(), {"blurred": blurred}, referenced=True, data_name="", note=pytest.fail)
    told = {(q.name, q.of): q.values["blurred"].value for q in report.quantities}
    assert np.mean(found["noise_hu"]) == pytest.approx(told["noise SD", "flat soft tissue"])
    for of in ("edge", "flat", "fine"):
        assert np.mean(found[f"{of}_strength"]) == pytest.approx(told["gradient strength", of])
        assert np.mean(found[f"{of}_coherence"]) == pytest.approx(told["coherence", of])


def test_contrast_and_detectability_are_those_of_kpn_quality():
    found = quality.of_torso("blurred", blurred)
    phantom, scans = quality._torso(6)
    report = measure_phantom(
        phantom, ((1.0, *scan) for scan in scans), {"blurred": blurred}, note=pytest.fail, transfer=()
    )
    told = {(q.name, q.of): q for q in report.quantities}
    (small,) = (lesion.name for lesion in phantom.lesions if lesion.name.endswith(" 8 mm"))
    assert np.mean(found["d_prime_8"]) == pytest.approx(
        told["detectability d'", small].values["blurred"].value
    )
    contrast = told["contrast", small]
    change = contrast.changes["blurred"].value / contrast.values["truth"].value
    strength = (np.mean(found["kept_8"]) - 1) / change
    assert 0 < strength <= 1
    # At that strength half of the noise is left: of a mean over 5 x 5 pixels less is.
    assert found["noise_left"] == [pytest.approx(0.5, abs=0.01)]


def test_what_halves_contrast_and_noise_alike_keeps_half_and_is_as_well_detected():
    found, before = quality.of_torso("halved", halved), quality.of_torso("low dose", None)
    assert found["noise_left"] == [pytest.approx(0.5, abs=1e-3)]
    assert before["noise_left"] == [1.0]
    for group in ("8", "10_15"):
        assert np.mean(before[f"kept_{group}"]) == 1
        # The contrast of noise is halved with that of the lesion: six scans tell a share to a tenth.
        assert np.mean(found[f"kept_{group}"]) == pytest.approx(0.5, abs=0.1)
        np.testing.assert_allclose(found[f"d_prime_{group}"], before[f"d_prime_{group}"], rtol=1e-4)


def test_the_lesions_are_cut_through_their_middle():
    phantom, _ = quality._torso(6)
    assert sorted(float(lesion.name.split()[2]) for lesion in phantom.lesions) == [8, 10, 12, 12, 15, 15]
    for lesion in phantom.lesions:
        assert 2 * lesion.radius * 0.75 == pytest.approx(float(lesion.name.split()[2]), rel=0.05)


def test_the_page_shows_them_beside_one_another_with_intervals_over_seeds_and_samples():
    kept = {
        "slices": {measure: [1.0, 3.0] for measure in quality.MEASURES_OF_SLICES},
        "normal": {measure: [0.5, 0.5] for measure in quality.MEASURES_OF_SLICES},
        "torso": {
            "noise_left": [0.5],
            **{f"{what}_{group}": [0.25, 0.75] for what in ("kept", "d_prime") for group in ("8", "10_15")},
        },
    }
    table = Table("t", (Row("low dose", LOW_DOSE), Row("edge", EQUAL_STRUCTKPN["l1"])))
    stub = SimpleNamespace(quality=lambda method: [kept] if method == EQUAL_STRUCTKPN["l1"] else [])
    lines = quality_tables.quality_lines(table, stub)
    assert "| edge | 50 | 50 [25, 75] | 50 [25, 75] | 0.5 [0.2, 0.8] | 0.5 [0.2, 0.8] |" in lines
    assert f"| edge | 2.0 [1.0, 3.0] |{' 2.00 [1.00, 3.00] |' * 3}{' 2.000 [1.000, 3.000] |' * 3}" in lines
    assert f"| normal dose | 0.5 |{' 0.50 |' * 3}{' 0.500 |' * 3}" in lines
    assert quality_tables.quality_lines(table, SimpleNamespace(quality=lambda method: [])) == []
