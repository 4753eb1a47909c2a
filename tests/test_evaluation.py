import collections
import json
import re
from pathlib import Path

import numpy as np
import pytest

from baselines.benchmark.patients import shared_patients
from kpn_tf.dicom.reading import content, scale
from kpn_tf.evaluation import DenoiserError, Pair, evaluate, paired
from kpn_tf.metrics import psnr, rmse_hu, ssim
from tests.noisy_torso import noisy_volume, write_torso


def pairs(patients=("A", "B"), slices=3, noise_hu=30.0):
    rng = np.random.default_rng(21)
    columns = np.arange(71)
    for patient in patients:
        for i in range(slices):
            normal_hu = np.where(columns < 50, 60.0, -100.0) + rng.normal(0, 5, (63, 71))
            low_hu = (normal_hu + rng.normal(0, noise_hu, normal_hu.shape)).astype(np.float32)
            yield Pair(low_hu, normal_hu, patient, f"{patient}{i}", (0.9, 0.8))


def half(low_hu):
    """Halves the noise of three-by-three means: enough of a denoiser to tell before from after."""
    mean = sum(np.roll(low_hu, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
    return (low_hu + mean) / 2


def mean_of(measure, which):
    return np.mean([measure(pair.normal_hu, which(pair.low_hu)) for pair in pairs()])


def test_the_rows_hold_the_means_of_the_metrics_over_all_slices():
    results = evaluate({"half": half}, pairs(), ("soft", "full"), data_name="stripes")
    low, denoised = results.rows[:2]
    for row, which in ((low, lambda low_hu: low_hu), (denoised, half)):
        for convention in ("soft", "full"):
            expected = mean_of(lambda a, b, c=convention: psnr(a, b, convention=c), which)
            assert row.means[f"psnr_{convention}_db"] == pytest.approx(expected)
            expected = mean_of(lambda a, b, c=convention: ssim(a, b, convention=c), which)
            assert row.means[f"ssim_{convention}"] == pytest.approx(expected)
        assert row.means["rmse_hu"] == pytest.approx(mean_of(rmse_hu, which))
        assert row.slices == 6
        assert row.patient is None
    assert low.denoiser == "low dose"
    assert denoised.means["noise_std_hu"] < low.means["noise_std_hu"]
    # 30 HU added to 5 HU, in regions that hold nothing but one tissue.
    assert low.means["noise_std_hu"] == pytest.approx(np.hypot(30, 5), rel=0.03)
    assert results.normal_noise_std_hu == pytest.approx(5, rel=0.1)


def test_every_patient_has_rows_of_their_own():
    results = evaluate({"half": half}, pairs(("A", "B", "C"), slices=2), data_name="stripes")
    assert [(row.patient, row.denoiser, row.slices) for row in results.rows] == [
        (patient, denoiser, slices)
        for patient, slices in ((None, 6), ("A", 2), ("B", 2), ("C", 2))
        for denoiser in ("low dose", "half")
    ]
    overall, *of_patients = [row.means["psnr_soft_db"] for row in results.rows if row.denoiser == "half"]
    assert overall == pytest.approx(np.mean(of_patients))


def test_a_constant_offset_is_the_hu_shift_and_no_noise():
    shifted = evaluate(
        {"same": np.copy, "offset": lambda low_hu: low_hu + 3}, pairs(), data_name="stripes"
    ).rows
    same, offset = (row.means for row in shifted[1:3])
    assert offset["mean_shift_hu"] - same["mean_shift_hu"] == pytest.approx(3, abs=1e-4)
    assert offset["noise_std_hu"] == pytest.approx(same["noise_std_hu"], rel=1e-5)


def test_intervals_hold_the_mean_and_come_out_the_same_again():
    first, second = (evaluate({"half": half}, pairs(slices=5), data_name="stripes").rows for _ in range(2))
    for row, again in zip(first, second, strict=True):
        for metric, (low, high) in row.intervals.items():
            if metric == "seconds":
                continue
            assert low <= row.means[metric] <= high
            assert (low, high) == again.intervals[metric]
    low, high = first[0].intervals["psnr_soft_db"]
    assert 0 < high - low < 1


def test_a_denoiser_sees_a_copy_of_the_low_dose_only():
    seen = []

    def greedy(low_hu):
        seen.append(low_hu)
        low_hu[:] = 0
        return low_hu

    given = list(pairs())
    before = [pair.low_hu.copy() for pair in given]
    evaluate({"greedy": greedy}, given, data_name="stripes")
    for pair, low_hu, touched in zip(given, before, seen, strict=True):
        np.testing.assert_array_equal(pair.low_hu, low_hu)
        assert touched.dtype == np.float32
        assert not np.shares_memory(touched, pair.low_hu)


def test_a_perfect_denoiser_has_no_finite_psnr_and_the_json_stays_valid():
    given = list(pairs(slices=1))
    normal = iter([pair.normal_hu for pair in given])
    results = evaluate({"oracle": lambda low_hu: next(normal)}, given, data_name="stripes")
    content = json.loads(results.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert results.rows[1].means["psnr_soft_db"] == np.inf
    assert content["rows"][1]["means"]["psnr_soft_db"] is None
    assert content["rows"][1]["means"]["ssim_soft"] == pytest.approx(1)
    assert "| inf [inf, inf] |" in results.to_markdown()


def test_json_and_markdown_say_what_the_numbers_mean():
    results = evaluate({"half": half}, pairs(), ("soft", "lung"), data_name="stripes")
    content, markdown = json.loads(results.to_json()), results.to_markdown()
    assert content["data"] == "stripes"
    assert (content["slices"], content["patients"], content["ssim_flavour"]) == (6, 2, "uniform7")
    assert content["conventions"] == {
        "soft": {"window_hu": [-160, 240], "data_range_hu": 400},
        "lung": {"window_hu": [-1350, 150], "data_range_hu": 1500},
    }
    assert [record["slice"] for record in content["per_slice"]] == ["A0", "A1", "A2", "B0", "B1", "B2"] * 2
    for words in (
        "**stripes**: 6 slices of 2 patients",
        "`soft`: both slices clipped to [-160, 240] HU, data range 400 HU",
        "SSIM: uniform7",
        "bootstrap over slices, 2000 resamples, seed",
        "| PSNR soft (dB) | SSIM soft | PSNR lung (dB) | SSIM lung | RMSE (HU) |",
    ):
        assert words in markdown
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 6
    assert len({line.count("|") for line in table}) == 1
    assert re.match(r"\| all \| half \| 6 \| \d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\] \| 0\.\d{4} ", table[3])
    assert table[4].startswith("| A | low dose | 3 | ")
    assert table[4].endswith("| – |")


def test_slices_without_soft_tissue_have_no_flat_regions_and_still_a_psnr():
    air = [
        Pair(np.full((31, 27), -999.0), np.full((31, 27), -1000.0), "A", f"air {i}", (1, 1)) for i in range(2)
    ]
    row = evaluate({"same": np.copy}, air, ("full",), data_name="air").rows[1]
    assert row.means["psnr_full_db"] == pytest.approx(20 * np.log10(4096))
    assert np.isnan(row.means["noise_std_hu"])
    assert np.isnan(row.means["mean_shift_hu"])


def failing(low_hu):
    raise MemoryError("no room")


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        (failing, "Denoiser 'broken' failed on slice A0: no room"),
        (
            lambda low_hu: low_hu[1:],
            r"shape \(63, 71\) from denoiser 'broken' on slice A0. Received shape: \(62",
        ),
        (lambda low_hu: low_hu * np.nan, r"denoiser 'broken' on slice A0. Received values .* \(float32\)"),
        (lambda low_hu: None, r"denoiser 'broken' on slice A0. Received shape: \(\)"),
        (lambda low_hu: low_hu.astype(complex), r"Received values .* \(complex128\)"),
    ],
)
def test_a_denoiser_that_fails_is_named_with_its_slice(denoiser, message):
    with pytest.raises(DenoiserError, match=message):
        evaluate({"fine": np.copy, "broken": denoiser}, pairs(), data_name="stripes")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate({}, [], data_name="stripes"), "at least one pair in stripes. Received: none"),
        (lambda: evaluate({}, pairs(), ("brain",), data_name="stripes"), r"Received: \('brain',\)"),
        (lambda: evaluate({}, pairs(), "soft", data_name="stripes"), "Received: 'soft'"),
        (lambda: evaluate({}, pairs(), (), data_name="stripes"), r"Received: \(\)"),
        (lambda: evaluate({"low dose": half}, pairs(), data_name="stripes"), "other than 'low dose'"),
        (
            lambda: Pair(np.zeros((11, 7)), np.zeros((7, 11)), "A", "a0", (1, 1)),
            r"in a0. Received: \(11, 7\)",
        ),
        (lambda: Pair(np.full((11, 7), np.nan), np.zeros((11, 7)), "A", "a0", (1, 1)), "finite HU in a0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_slice_is_read_once_for_its_header_and_once_for_its_pixels(tmp_path, monkeypatch):
    reads = collections.Counter()

    def counted(path, mode):
        reads[Path(path).parent.name, Path(path).name] += 1
        return open(path, mode)

    for name in ("low", "normal"):
        write_torso(tmp_path / name, noisy_volume())
    monkeypatch.setattr(content, "open", counted, raising=False)
    # A few slices of a series are looked at beforehand, for their scale: here none.
    monkeypatch.setattr(scale, "_LOOKED_AT", 0)
    folders = {name: tmp_path / name for name in ("low", "normal")}
    assert shared_patients(folders) == ("low", "normal")
    assert set(reads.values()) == {1}
    pairs = list(paired(*folders.values(), every=1, note=note_nothing).pairs)
    assert len(pairs) == len(reads) / 2 > 1
    assert set(reads.values()) == {1 + 2}


def note_nothing(line, failure):
    raise AssertionError(line)
