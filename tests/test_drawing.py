"""What the drawn figures of the benchmark's page promise."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from baselines.benchmark.drawing import crops_figure, dose_figure, spectra_figure
from baselines.benchmark.tables import TABLES
from kpn_tf.datasets.dose_curve import DoseCurve
from kpn_tf.hounsfield import WINDOWS
from tests.legible import assert_legible

NAMES = ("low dose", *(row.title for row in TABLES[0].rows[1:]), "normal dose")
LUNG = WINDOWS["lung"]


def crops(names=NAMES, side=64):
    rng = np.random.default_rng(3)
    return {name: rng.normal(-600, 300, (side, side)) for name in names}


def drawn_crops():
    return crops_figure(crops(), LUNG)


CURVES = [
    DoseCurve("low dose", 80, (30, 90), (20.0, 25.0), ((19.0, 21.0), (24.0, 26.0))),
    DoseCurve("RED-CNN", 80, (30, 90), (30.0, 33.0), ((29.0, 31.0), (32.0, 34.0))),
    DoseCurve("RED-CNN", 120, (30, 150), (31.0, 34.5), ((30.0, 32.0), (33.0, 35.0))),
]


def drawn_curves():
    return dose_figure(CURVES, "PSNR soft (dB)")


def unwrapped(text):
    return text.replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("names", [NAMES, NAMES[:2], NAMES[:4]])
def test_every_crop_has_a_panel_of_its_own_under_its_name(names):
    slices_hu = crops(names)
    panels = crops_figure(slices_hu, LUNG).axes
    assert [unwrapped(axes.get_title()) for axes in panels] == list(names)
    for axes, slice_hu in zip(panels, slices_hu.values(), strict=True):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), slice_hu)
        assert image.get_clim() == (LUNG.low_hu, LUNG.high_hu)


@pytest.mark.parametrize("side", [64, 128])
def test_all_pixels_of_a_crop_are_equally_large(side):
    slices_hu = crops(NAMES[:4], side)
    figure = crops_figure(slices_hu, LUNG)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    grey = np.asarray(canvas.buffer_rgba())[..., 0].astype(float)
    for axes, slice_hu in zip(figure.axes, slices_hu.values(), strict=True):
        box = axes.get_window_extent()
        rows = np.s_[round(len(grey) - box.y1) : round(len(grey) - box.y0)]
        panel = grey[rows, round(box.x0) : round(box.x1)]
        assert panel.shape == (256, 256)
        expected = 255 * np.clip((slice_hu - LUNG.low_hu) / LUNG.width_hu, 0, 1)
        expected = expected.repeat(256 // side, 0).repeat(256 // side, 1)
        # Its frame is one or two pixels wide; neighbours differ by tens of grey values, the map of greys rounds.
        np.testing.assert_allclose(panel[2:-2, 2:-2], expected[2:-2, 2:-2], atol=2)


@pytest.mark.parametrize("draw", [drawn_crops, drawn_curves])
def test_all_that_is_written_can_be_read(draw):
    assert_legible(draw())


def test_the_curves_run_through_their_values_on_a_common_axis():
    low, high = drawn_curves().axes
    assert [axes.get_title() for axes in (low, high)] == ["80 kV", "120 kV"]
    assert low.get_ylim() == high.get_ylim()
    drawn = [
        (line.get_label(), tuple(line.get_xdata()), tuple(line.get_ydata()))
        for axes in (low, high)
        for line in axes.lines
    ]
    assert drawn == [(curve.denoiser, curve.currents_ma, curve.psnr_db) for curve in CURVES]
    assert (low.get_ylabel(), low.get_xlabel()) == ("PSNR soft (dB)", "tube current (mA)")


def test_a_method_is_in_the_legend_once_and_alike_in_every_panel():
    figure = drawn_curves()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["low dose", "RED-CNN"]
    low, high = figure.axes
    (first, second), (third,) = low.lines, high.lines
    assert (second.get_color(), second.get_marker()) == (third.get_color(), third.get_marker())
    assert first.get_color() != second.get_color()
    assert first.get_marker() != second.get_marker()


def test_no_two_of_many_methods_look_alike():
    curves = [DoseCurve(f"method {i}", 80, (30, 90), (i, i + 1.0), ((0, 0), (0, 0))) for i in range(17)]
    (axes,) = dose_figure(curves, "dB").axes
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 17


def test_spectra_are_drawn_as_given_and_end_where_there_is_no_value():
    spectra = {"low dose": (900.0, 400.0, np.nan), "RED-CNN": (90.0, 20.0, np.nan)}
    figure = spectra_figure((0.1, 0.3, 0.5), spectra)
    (axes,), (legend,) = figure.axes, figure.legends
    for line, (name, spectrum) in zip(axes.lines, spectra.items(), strict=True):
        assert (line.get_label(), tuple(line.get_xdata())) == (name, (0.1, 0.3, 0.5))
        np.testing.assert_array_equal(line.get_ydata(), spectrum)
    assert axes.get_yscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("frequency (1/mm)", "noise power (HU²·mm²)")
    assert [text.get_text() for text in legend.get_texts()] == list(spectra)
