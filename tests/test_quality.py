"""`kpn_tf.quality`: what is put into phantoms comes out, and every number has its interval."""

import json

import numpy as np
import pytest
from scipy import stats

from kpn_tf.evaluation import Pair, Place
from kpn_tf.metrics import known_detectability, laguerre_gauss_channels
from kpn_tf.quality import lcd_phantom, measure_phantom, measure_series, torso_phantom
from kpn_tf.quality.intervals import Interval, bootstrap, jackknife, spread, students_t
from kpn_tf.quality.metaimage import open_metaimage
from kpn_tf.quality.report import cell

SIDE, NOISE_HU, PLATEAUS_HU = 97, 20.0, {(30, 30): (4.0, 6.0), (30, 66): (3.0, 4.0)}


def truth():
    """Water in air with two discs: radius and contrast by centre."""
    rows, columns = np.indices((SIDE, SIDE))
    truth_hu = np.where(np.hypot(rows - 48, columns - 48) < 44, 0.0, -1000.0)
    for (row, column), (radius, contrast_hu) in PLATEAUS_HU.items():
        truth_hu[np.hypot(rows - row, columns - column) <= radius] = contrast_hu
    return truth_hu


def write_lcd(folder, realisations=12, doses=(10, 55)):
    """Writes the layout of the phantom with white noise, whose observer is known."""
    rng = np.random.default_rng(1)
    header = "ObjectType = Image\nNDims = {n}\nElementByteOrderMSB = False\nDimSize = {size}\nElementType = {kind}\n"
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        header.format(n=2, size=f"{SIDE} {SIDE}", kind="MET_USHORT") + "ElementDataFile = ground_truth.raw.\n"
    )
    (folder / "ground_truth.mhd").write_text(text)
    (truth() + 1000).astype("<u2").tofile(folder / "ground_truth.raw")
    for dose in doses:
        for name, truth_hu in (("present", truth()), ("absent", np.minimum(truth(), 0))):
            place = folder / f"dose_{dose:03d}" / f"signal_{name}"
            place.mkdir(parents=True)
            text = header.format(n=3, size=f"{SIDE} {SIDE} {realisations}", kind="MET_SHORT")
            text += f"ElementDataFile = signal_{name}_%03d.raw 1 {realisations} 1\n"
            (place / f"signal_{name}.mhd").write_text(text)
            for i in range(1, realisations + 1):
                noisy_hu = truth_hu + rng.normal(0, NOISE_HU * (10 / dose) ** 0.5, truth_hu.shape)
                np.rint(noisy_hu + 1000).astype("<i2").tofile(place / f"signal_{name}_{i:03d}.raw")
    return folder


@pytest.fixture(scope="module")
def lcd_folder(tmp_path_factory):
    return write_lcd(tmp_path_factory.mktemp("lcd") / "phantom")


@pytest.fixture(scope="module")
def lcd_report(lcd_folder):
    phantom = lcd_phantom(lcd_folder, pytest.fail)
    denoisers = {"shift": lambda hu: hu + 3.0, "half": lambda hu: 0.5 * hu}
    return measure_phantom(phantom, phantom.scans, denoisers, note=pytest.fail)


def only(report, name, of, dose):
    (found,) = (q for q in report.quantities if (q.name, q.of, q.dose) == (name, of, dose))
    return found


def test_students_t_is_that_of_scipy():
    for degrees in (4, 9, 39):
        assert students_t(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-4)


def test_the_jackknife_of_a_mean_is_students_interval():
    values = np.random.default_rng(2).normal(3, 2, 17)
    found = jackknife(lambda i: values[i].mean(), 17)
    expected = stats.t.interval(0.95, 16, values.mean(), stats.sem(values))
    np.testing.assert_allclose(found, [values.mean(), *expected], rtol=1e-5)


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_and_pairs_its_columns():
    values = np.random.default_rng(3).normal(0, 2, (400, 1)) + np.array([0.0, 5.0])
    value, draws = bootstrap(lambda i: values[i].mean(0), 400)
    low, high = spread(value[0], draws[:, 0])[1:]
    assert high - low == pytest.approx(2 * 1.96 * values[:, 0].std() / 20, rel=0.1)
    np.testing.assert_allclose(draws[:, 1] - draws[:, 0], 5, atol=1e-12)


def test_one_sample_has_a_value_and_no_interval():
    value, draws = bootstrap(lambda i: [7.0], 1)
    assert cell(spread(value[0], draws[:, 0])) == "7.00"
    assert cell(Interval(float("nan"))) == "–"
    assert cell(Interval(-0.5, -1.25, 0.25), sign="+") == "-0.50 [-1.25, +0.25]"


def test_discs_of_the_ground_truth_are_found_with_their_size_and_contrast(lcd_folder):
    lesions = lcd_phantom(lcd_folder, pytest.fail).lesions
    assert [lesion.contrast_hu for lesion in lesions] == [4.0, 6.0]
    assert [lesion.radius for lesion in lesions] == pytest.approx([3.04, 3.95], abs=0.01)
    assert [lesion.centre for lesion in lesions] == [(30, 66), (30, 30)]


def test_noise_contrast_and_detectability_of_the_phantom_are_what_was_put_in(lcd_report):
    assert lcd_report.samples == {0.1: 12, 0.55: 12}
    for dose, noise_hu in ((0.1, NOISE_HU), (0.55, NOISE_HU * (10 / 55) ** 0.5)):
        noise = only(lcd_report, "noise SD", "flat soft tissue", dose).values["before"]
        assert noise.value == pytest.approx(noise_hu, rel=0.02)
        low, high = noise.low, noise.high
        assert low < noise.value < high
        # White noise up to the corner frequency of the rings has its mean at two thirds of it.
        texture = only(lcd_report, "NPS, mean frequency", "flat soft tissue", dose).values["before"]
        assert 0.25 < texture.value < 0.33
        for radius, contrast_hu in PLATEAUS_HU.values():
            of = f"{contrast_hu:+.0f} HU, {2 * np.sqrt(area(radius) / np.pi):.1f} pixels"
            contrast = only(lcd_report, "contrast", of, dose)
            assert contrast.values["truth"].value == contrast_hu
            # Within a whole width of the interval, not half of one: eight of them are looked at.
            value, low, high = contrast.values["before"]
            assert abs(value - contrast_hu) < high - low < 8
            observed = only(lcd_report, "detectability d'", of, dose).values["before"]
            expected = expected_detectability(radius, contrast_hu, noise_hu)
            assert abs(observed.value - expected) < observed.high - observed.low < 4


def area(radius):
    offset = np.arange(-9, 10)
    return (np.hypot(offset[:, None], offset) <= radius).sum()


def expected_detectability(radius, contrast_hu, noise_hu):
    measured = np.sqrt(area(radius) / np.pi)
    reach = int(np.ceil(2 * measured)) + 1
    offset = np.arange(-reach, reach + 1)
    signal = contrast_hu * (np.hypot(offset[:, None], offset) <= radius)
    channels = laguerre_gauss_channels(2 * reach + 1, 4 / 3 * measured, 5)
    return known_detectability(signal, noise_hu**2 * np.eye(signal.size), channels)


def test_a_shift_is_all_bias_and_half_the_hu_half_of_everything_but_detectability(lcd_report):
    for name in ("noise SD", "noise SD map, median"):
        (of,) = {q.of for q in lcd_report.quantities if q.name == name}
        found = only(lcd_report, name, of, 0.1)
        assert found.changes["shift"].value == pytest.approx(0, abs=1e-5)
        assert found.values["half"].value == pytest.approx(found.values["before"].value / 2, rel=1e-6)
    bias = only(lcd_report, "HU bias, mean", "cells of the body", 0.1)
    assert bias.changes["shift"].value == pytest.approx(3, abs=1e-5)
    # Half the HU of a cell at the rim, most of it air, is hundreds of HU off; noise of 20 HU in 12 scans leaves little.
    furthest = only(lcd_report, "HU bias of the mean scan, furthest", "one cell", 0.1)
    assert furthest.values["half"].value > 100
    assert 3 < furthest.values["shift"].value < 5.5
    assert abs(furthest.values["before"].value) < 2.5
    assert furthest.values["truth"].value == 0
    assert furthest.changes == {}
    for of in {q.of for q in lcd_report.quantities if q.name == "CNR"}:
        for name in ("CNR", "detectability d'"):
            found = only(lcd_report, name, of, 0.55)
            for denoiser in ("shift", "half"):
                assert found.changes[denoiser].value == pytest.approx(0, abs=1e-5)
        assert only(lcd_report, "contrast", of, 0.55).values["half"].value == pytest.approx(
            only(lcd_report, "contrast", of, 0.55).values["before"].value / 2, rel=1e-5
        )


def test_the_document_holds_no_number_that_json_has_not(lcd_report):
    document = json.loads(lcd_report.to_json(kpn_tf="1"))
    assert document["kpn_tf"] == "1"
    assert {q["dose"] for q in document["quantities"]} == {0.1, 0.55}
    assert {curve["kind"] for curve in document["noise_power_spectrum"]} == {
        "before",
        "shift",
        "half",
        "truth",
    }
    assert document["task_transfer_function"] == []
    assert lcd_report.to_markdown().count("| detectability d' |") == 4


def test_a_scan_that_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path):
    folder = write_lcd(tmp_path / "phantom", realisations=7, doses=(10,))
    with open(folder / "dose_010/signal_absent/signal_absent_003.raw", "ab") as file:
        file.write(b"more")
    notes = []
    phantom = lcd_phantom(folder, lambda *note: notes.append(note))
    report = measure_phantom(phantom, phantom.scans, {}, note=pytest.fail)
    assert report.samples == {0.1: 6}
    ((line, failure),) = notes
    assert failure
    assert "signal_absent_003.raw. Received: 18822 bytes" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "ground_truth.mhd").unlink(), r"Expected ground_truth.mhd and folders dose_NNN"),
        (
            lambda f: (f / "ground_truth.mhd").write_bytes(b"\xff\xfe\0"),
            r"MetaImage header .* Received: something",
        ),
        (
            lambda f: (f / "dose_010/signal_present/signal_present.mhd").rename(f / "away.mhd"),
            r"each with one .mhd in signal_present",
        ),
        (lambda f: (truth() * 0 + 900).astype("<u2").tofile(f / "ground_truth.raw"), r"Received: 0 discs"),
    ],
)
def test_a_folder_of_something_else_is_refused_in_one_sentence(tmp_path, change, message):
    folder = write_lcd(tmp_path / "phantom", realisations=5, doses=(10,))
    change(folder)
    with pytest.raises(ValueError, match=message):
        lcd_phantom(folder, pytest.fail)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "DimSize = 4 3\nElementType = MET_SHORT\nElementDataFile = ../a.raw\n",
            r"raw files of one slice each",
        ),
        ("DimSize = 4 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n", r"raw files of one slice each"),
        ("DimSize = 4 3\nElementType = MET_LONG\nElementDataFile = a.raw\n", r"ElementType"),
        (
            "DimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = a%d.raw 1 3 1\n",
            r"as many files as slices",
        ),
        (
            "DimSize = 4 3\nElementType = MET_SHORT\nElementDataFile = a.raw\nCompressedData = True\n",
            r"header",
        ),
    ],
)
def test_a_header_that_is_not_understood_is_refused(tmp_path, text, message):
    (tmp_path / "image.mhd").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_metaimage(tmp_path / "image.mhd")


def test_a_metaimage_is_read_in_its_byte_order_rows_after_rows(tmp_path):
    stored = np.arange(-5, 7).reshape(3, 4)
    stored.astype(">i2").tofile(tmp_path / "a.raw")
    (tmp_path / "image.mhd").write_text(
        "DimSize = 4 3\nElementType = MET_SHORT\nElementByteOrderMSB = True\nElementDataFile = a.raw\n"
    )
    image = open_metaimage(tmp_path / "image.mhd")
    np.testing.assert_array_equal(image.read(image.files[0]), stored)


def test_the_sample_data_of_lcd_ct_have_their_four_discs_and_are_harder_at_a_tenth_of_the_dose(ct_data):
    phantom = lcd_phantom(ct_data / "phantom" / "mita_lcd_simulated", pytest.fail)
    # LCD_CT makes discs of 3, 5, 7 and 10 mm: their ratio is known, though the size of a pixel is not.
    assert [lesion.contrast_hu for lesion in phantom.lesions] == [14, 7, 5, 3]
    radii = np.array([lesion.radius for lesion in phantom.lesions])
    np.testing.assert_allclose(radii / radii[-1], [0.3, 0.5, 0.7, 1.0], rtol=0.02)
    report = measure_phantom(phantom, phantom.scans, {}, note=pytest.fail)
    assert report.samples == {0.1: 10, 0.55: 10, 1.0: 10}
    found = {(q.of, q.dose): q.values["before"] for q in report.quantities if q.name == "detectability d'"}
    assert len(found) == 12
    for lesion in phantom.lesions:
        assert found[lesion.name, 1.0].value > found[lesion.name, 0.1].value


@pytest.fixture(scope="module")
def torso_report():
    phantom = torso_phantom([0.25], 6)
    return measure_phantom(phantom, phantom.scans, {"three": three_pixel_mean}, note=pytest.fail)


def three_pixel_mean(slice_hu):
    """Mean over three columns: its own spectrum is known."""
    padded = np.pad(slice_hu, ((0, 0), (1, 1)), mode="edge")
    return (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3


@pytest.mark.slow
def test_the_torso_has_the_noise_and_contrasts_that_it_was_given(torso_report):
    noise = only(torso_report, "noise SD", "flat soft tissue", 0.25)
    # 24 HU over all soft tissue; the flat regions lie inside, where noise is stronger.
    assert noise.values["before"].value == pytest.approx(27, rel=0.05)
    assert noise.values["truth"].value < 0.1
    for of, contrast_hu in (("-20 HU, 15 mm", -20), ("+100 HU, 15 mm", 100), ("+16 HU, 5 mm", 16)):
        contrast = only(torso_report, "contrast", of, 0.25)
        assert contrast.values["truth"].value == pytest.approx(contrast_hu, rel=0.1)
        assert contrast.values["before"].value == pytest.approx(contrast.values["truth"].value, abs=6)
    # Point spread 0.5 mm and the aperture of a pixel of 0.75 mm.
    f50 = only(torso_report, "TTF, f50", "+100 HU, 15 mm", 0.25).values["truth"].value
    assert np.exp(-2 * (np.pi * 0.5 * f50) ** 2) * np.sinc(0.75 * f50) == pytest.approx(0.5, abs=0.02)


def test_the_torso_has_the_noise_of_the_dose_over_its_soft_tissue():
    _, _, pair = next(iter(torso_phantom([0.25], 1).scans))
    soft = (pair.normal_hu > -100) & (pair.normal_hu < 150)
    assert (pair.low_hu - pair.normal_hu)[soft].std() == pytest.approx(24, rel=0.03)


@pytest.mark.slow
def test_a_mean_over_columns_keeps_hu_and_lowers_what_its_transfer_lowers(torso_report):
    assert abs(only(torso_report, "HU bias, mean", "cells of the body", 0.25).changes["three"].value) < 0.1
    assert only(torso_report, "noise SD", "flat soft tissue", 0.25).changes["three"].high < 0
    ((fy, fx), before) = torso_report.curves.plane["before"]
    (_, after) = torso_report.curves.plane["three"]
    gain = ((1 + 2 * np.cos(2 * np.pi * fx * 0.75)) / 3) ** 2
    strong = (np.abs(fx) > 0.1) & (np.abs(fx) < 0.3)
    np.testing.assert_allclose(after[:, strong].sum(0) / before[:, strong].sum(0), gain[strong], rtol=0.15)
    transfer = torso_report.curves.transfer["+100 HU, 15 mm"]
    assert transfer["three"].frequency_at(0.5) < transfer["truth"].frequency_at(0.5)
    assert len(fy) == 21


def pairs(shape=(96, 101), count=4, spacing_mm=(1.0, 1.0)):
    for i in range(count):
        noise = np.random.default_rng([5, i]).normal(0, 20, shape)
        yield Pair(60 + noise, 60 + noise / 4, "a", f"slice {i}", spacing_mm)


def test_with_a_reference_that_is_the_judge_and_has_a_column():
    report = measure_series(pairs(), {"same": np.copy}, referenced=True, data_name="pairs", note=pytest.fail)
    noise = only(report, "noise SD", "flat soft tissue", None)
    assert noise.values["before"].value == pytest.approx(20, rel=0.05)
    assert noise.values["reference"].value == pytest.approx(5, rel=0.05)
    assert list(noise.changes) == ["same"]
    assert noise.changes["same"].value == pytest.approx(0, abs=1e-5)
    (strength,) = (q for q in report.quantities if (q.name, q.of) == ("gradient strength", "flat"))
    assert strength.values["before"].value == pytest.approx(4 * strength.values["reference"].value, rel=0.05)


def test_series_of_other_pixels_share_one_radial_spectrum():
    both = [*pairs(), *pairs((120, 131), spacing_mm=(0.8, 0.8))]
    report = measure_series(both, {}, referenced=False, data_name="both", note=pytest.fail)
    frequency, nps = report.curves.radial[None]["before"]
    assert frequency[-1] <= 0.5
    # 400 HU² on pixels of 1 mm² and of 0.64 mm²; boxes of 15 mm, as many in each: the mean lies between.
    assert 400 * 0.7 < nps[1:].mean() < 400 * 0.95
    assert report.curves.plane["before"][1].shape == (15, 15)


def test_a_slice_that_a_denoiser_fails_on_is_named_and_left_out_for_all():
    calls, notes = [], []

    def fails_once(slice_hu):
        calls.append(slice_hu)
        if len(calls) == 2:
            raise RuntimeError("out of ideas")
        return slice_hu

    report = measure_series(
        pairs(), {"own": fails_once}, referenced=False, data_name="x", note=lambda *note: notes.append(note)
    )
    assert report.samples == {None: 3}
    assert notes == [("Denoiser 'own' failed on slice slice 1: out of ideas", True)]


def test_a_slice_too_small_to_measure_is_named_and_the_rest_goes_on():
    notes = []
    both = [*pairs((5, 7), count=1), *pairs(count=2)]
    report = measure_series(both, {}, referenced=False, data_name="x", note=lambda *note: notes.append(note))
    assert report.samples == {None: 2}
    ((line, failure),) = notes
    assert failure
    assert line.startswith("slice 0: Expected")


def test_without_a_slice_there_is_nothing_to_report():
    with pytest.raises(ValueError, match=r"at least one slice in nothing. Received: none; check its folder"):
        measure_series([], {}, referenced=False, data_name="nothing", note=pytest.fail)


def test_every_figure_can_be_read(lcd_report, torso_report):
    pytest.importorskip("matplotlib")
    from kpn_tf.figures import quality_figures
    from tests.legible import assert_legible

    torso_figures, lcd_figures = quality_figures(torso_report), quality_figures(lcd_report)
    assert set(torso_figures) == {"nps", "nps_2d", "noise_map", "bias", "ttf", "detectability"}
    assert set(lcd_figures) == {"nps", "nps_2d", "noise_map", "bias", "detectability"}
    for figure in (*torso_figures.values(), *lcd_figures.values()):
        assert_legible(figure)


def test_curves_show_the_numbers_of_the_report(lcd_report):
    pytest.importorskip("matplotlib")
    from kpn_tf.figures import quality_figures

    figures = quality_figures(lcd_report)
    line, *_ = figures["nps"].axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xydata().T, lcd_report.curves.radial[0.1]["before"])
    panel = figures["detectability"].axes[0]
    shown = panel.containers[0].lines[0].get_ydata()
    expected = [
        only(lcd_report, "detectability d'", panel.get_title(), dose).values["before"][0]
        for dose in (0.1, 0.55)
    ]
    np.testing.assert_array_equal(shown, expected)


def test_noise_in_slab_means_and_along_z_is_that_of_correlated_slices():
    rng = np.random.default_rng(3)
    fields = rng.normal(0.0, 20.0, (33, 120, 120))
    noise = (fields[1:] + fields[:-1]) / np.sqrt(2)  # correlation of neighbours: 0.5
    volume_hu = 50.0 + noise.astype(np.float32)
    pairs = [
        Pair(one, one, "a", str(i), (1.0, 1.0), place=Place("s", i, 1.0 * i))
        for i, one in enumerate(volume_hu)
    ]
    report = measure_series(
        pairs,
        {"half": lambda slice_hu: 50.0 + (slice_hu - 50.0) / 2},
        referenced=False,
        data_name="n",
        note=None,
    )
    found = {q.name: q.values for q in report.quantities}
    # The mean of five: variance (5 + 2·4·0.5)/25 of one slice's.
    expected_hu = 20.0 * np.sqrt(9 / 25)
    slab = found["noise SD in slab means"]
    assert slab["before"].value == pytest.approx(expected_hu, rel=0.05)
    assert slab["half"].value == pytest.approx(slab["before"].value / 2, rel=1e-5)
    assert found["noise correlation along z"]["before"].value == pytest.approx(0.5, abs=0.03)
    assert {"slab means", "correlation along z"} <= set(report.conventions)


@pytest.mark.parametrize(
    ("step_mm", "indices"),
    [(5.0, range(6)), (1.0, range(0, 12, 2)), (1.0, [0, 1, 2, 3, 9, 10])],
)
def test_slabs_are_of_neighbouring_thin_slices_alone(step_mm, indices):
    rng = np.random.default_rng(3)
    pairs = []
    for i in indices:
        one = (50.0 + rng.normal(0.0, 20.0, (90, 90))).astype(np.float32)
        pairs.append(Pair(one, one, "a", str(i), (1.0, 1.0), place=Place("s", i, step_mm * i)))
    report = measure_series(pairs, {}, referenced=False, data_name="n", note=None)
    assert "noise SD in slab means" not in {q.name for q in report.quantities}
