from typing import NamedTuple

import numpy as np
import pytest

from kpn_tf import demo
from kpn_tf.dicom import find_series, read_slice
from kpn_tf.phantom import Tissue, torso


class Identity(NamedTuple):
    model: str = "mean"
    version: str = "1"
    file_sha256: str = "0" * 64
    weights_sha256: str = "1" * 64
    licence: str = "Apache-2.0"


class MeanOfNine:
    """Stands in for a network: quiets noise, blurs edges, keeps means."""

    identity = Identity()
    strength = 1.0
    device = "cpu"

    def __call__(self, slice_hu, padding=None):
        shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        return sum(np.roll(slice_hu, shift, (0, 1)) for shift in shifts).astype(np.float32) / 9


@pytest.fixture(scope="module")
def body():
    return torso(rows=181, columns=193, slices=3, pixel_spacing_mm=2.0)


@pytest.fixture(scope="module")
def shown(body, tmp_path_factory):
    output = tmp_path_factory.mktemp("demo")
    return output, demo.show_torso(output, MeanOfNine(), body)


def test_the_truth_measured_against_itself_is_without_error(body):
    measured = demo.measure(body.volume_hu, body)
    assert measured["PSNR soft (dB)"] == np.inf
    assert measured["SSIM soft"] == pytest.approx(1)
    assert measured["lesion contrast (%)"] == pytest.approx(100)
    assert measured["liver HU error"] == measured["RMSE (HU)"] == 0
    assert measured["noise SD (HU)"] < 0.1


def test_an_offset_in_the_liver_and_a_fainter_lesion_are_seen(body):
    volume_hu = body.volume_hu.copy()
    liver = body.labels == Tissue.LIVER
    lesions = body.labels >= min(lesion.label for lesion in body.lesions)
    around_hu = volume_hu[liver].mean()
    volume_hu[lesions] = around_hu + 0.5 * (volume_hu[lesions] - around_hu)
    volume_hu[liver | lesions] += 2
    measured = demo.measure(volume_hu, body)
    assert measured["liver HU error"] == pytest.approx(2, abs=1e-3)
    assert measured["lesion contrast (%)"] == pytest.approx(50, abs=3)


def test_a_quarter_of_the_dose_doubles_the_noise_the_same_way_each_time(body):
    low_hu = demo.quarter_dose(body)
    assert demo.measure(low_hu, body)["noise SD (HU)"] == pytest.approx(
        2 * demo.NORMAL_DOSE_NOISE_HU, rel=0.2
    )
    np.testing.assert_array_equal(low_hu, demo.quarter_dose(body))


def test_the_table_compares_what_the_job_wrote_with_the_truth(shown):
    output, table = shown
    heading, _, low, denoised = table.splitlines()
    assert heading.startswith("| | PSNR soft (dB) | PSNR lung (dB) | SSIM soft | RMSE (HU) | noise SD (HU) |")
    assert low.startswith("| quarter dose | ")
    assert denoised.startswith("| denoised | ")
    noise_hu = [float(row.split("|")[6]) for row in (low, denoised)]
    assert noise_hu[1] < 0.8 * noise_hu[0]
    (series,), refusals = find_series(output / "denoised")
    assert refusals == []
    assert len(series.slices) == 3


def test_pictures_and_series_are_written(shown):
    output, _ = shown
    assert {path.name for path in output.iterdir()} == {"truth", "quarter_dose", "denoised", "torso.png"}
    truth = find_series(output / "truth")[0][0]
    assert read_slice(truth.slices[0].path).slice_hu.min() == -1000


def test_the_real_slice_comes_from_the_installed_pydicom(tmp_path):
    line = demo.show_real_slice(tmp_path, MeanOfNine())
    assert "CT_small.dcm" in line
    assert (tmp_path / "real_slice.png").is_file()
    assert len(list((tmp_path / "real_slice").rglob("*.dcm"))) == 1


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        demo.main([str(tmp_path)])
    assert "expected a new folder or a former demonstration" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
