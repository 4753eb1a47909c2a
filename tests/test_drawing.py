"""What the drawn figures of the benchmark's page promise."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text

from baselines.drawing import crops_figure, dose_figure, structure_figure
from baselines.tables import TABLES
from kpn_tf.datasets.dose_curve import DoseCurve
from kpn_tf.figures import write
from kpn_tf.hounsfield import WINDOWS

NAMES = ("low dose", *(row.title for row in TABLES[0].rows[1:]), "normal dose")
PIXELS = {"flat": (5, 40), "edge": (20, 50), "fine": (44, 9)}
LUNG = WINDOWS["lung"]


def crops(names=NAMES, side=64):
    rng = np.random.default_rng(3)
    return {name: rng.normal(-600, 300, (side, side)) for name in names}


def drawn_crops():
    return crops_figure(crops(), LUNG)


def drawn_structure():
    rng = np.random.default_rng(5)
    slice_hu = rng.normal(40, 60, (64, 64))
    kernels = {
        "StructKPN, the paper's: k = 21, L_S": rng.normal(0, 0.01, (3, 21, 21)),
        "StructKPN edge (this project's): k = 15, L1": rng.normal(0, 0.1, (3, 15, 15)),
    }
    shares = rng.uniform(0, 1, (64, 64, 3))
    return structure_figure(slice_hu, slice_hu, WINDOWS["soft"], shares, PIXELS, kernels)


CURVES = [
    DoseCurve("low dose", 80, (30, 90), (20.0, 25.0), ((19.0, 21.0), (24.0, 26.0))),
    DoseCurve("RED-CNN", 80, (30, 90), (30.0, 33.0), ((29.0, 31.0), (32.0, 34.0))),
    DoseCurve("RED-CNN", 120, (30, 150), (31.0, 34.5), ((30.0, 32.0), (33.0, 35.0))),
]


def drawn_curves():
    return dose_figure(CURVES, "PSNR soft (dB)")


DRAWN = (drawn_crops, drawn_structure, drawn_curves)


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


@pytest.mark.parametrize("draw", DRAWN)
def test_everything_written_is_large_enough_inside_the_figure_and_beside_all_else(draw):
    figure = draw()
    FigureCanvasAgg(figure).draw()
    assert figure.bbox.width <= 900
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= 8
    boxes = [text.get_window_extent() for text in texts]
    for box in boxes:
        assert box.x0 >= 0 <= box.y0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    obstacles = [axes.get_window_extent() for axes in figure.axes]
    for i, (text, box) in enumerate(zip(texts, boxes, strict=True)):
        assert not any(box.overlaps(other) for other in boxes[:i]), text
        if not isinstance(text, Annotation):
            assert not any(box.overlaps(panel) for panel in obstacles), text


def test_the_framed_pixels_are_those_asked_for_and_named():
    _, normal, *_ = drawn_structure().axes
    frames = [patch for patch in normal.patches if isinstance(patch, Rectangle)]
    centres = {tuple(np.add(frame.get_xy(), (4, 4))[::-1]) for frame in frames}
    assert {(frame.get_width(), frame.get_height()) for frame in frames} == {(8, 8)}
    assert centres == set(PIXELS.values())
    named = {text.get_text(): text.xy[::-1] for text in normal.texts}
    assert named == PIXELS


def test_the_map_of_the_loss_says_what_its_colours_mean():
    _, _, shares, *_ = drawn_structure().axes
    legend = shares.get_legend()
    meant = {
        text.get_text(): patch.get_facecolor()[:3]
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert meant == {"squared error": (1, 0, 0), "absolute error": (0, 1, 0), "similarity": (0, 0, 1)}
    assert shares.images[0].get_array().shape == (64, 64, 3)


def test_each_network_has_a_row_of_kernels_around_a_white_zero():
    figure = drawn_structure()
    rows = figure.axes[3:6], figure.axes[6:9]
    assert [unwrapped(row[0].get_ylabel()) for row in rows] == [
        "StructKPN, the paper's: k = 21, L_S",
        "StructKPN edge (this project's): k = 15, L1",
    ]
    for row, side in zip(rows, (21, 15), strict=True):
        for axes, name in zip(row, PIXELS, strict=True):
            assert axes.get_title().startswith(f"{name}, k = {side}, largest tap 0.")
            (image,) = axes.images
            assert image.get_array().shape == (side, side)
            assert np.abs(image.get_array()).max() == 1
            # Half the way of the scale is a quarter of the largest tap.
            assert list(image.norm([-1, -0.25, 0, 0.25, 1])) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
            assert image.cmap(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.04)


def test_without_a_network_there_are_no_kernels_and_no_scale_for_them():
    slice_hu = np.zeros((64, 64))
    figure = structure_figure(slice_hu, slice_hu, LUNG, np.zeros((64, 64, 3)), PIXELS, {})
    assert [axes.get_title() for axes in figure.axes] == ["low dose", "normal dose", "weights of the loss"]


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


@pytest.mark.parametrize(
    ("draw", "name"), [(drawn_crops, "a.png"), (drawn_structure, "a.png"), (drawn_curves, "a.svg")]
)
def test_the_same_figure_is_the_same_file_whatever_a_user_has_set(draw, name, tmp_path):
    write(draw(), tmp_path / name)
    written = (tmp_path / name).read_bytes()
    ours = {"font.size": 20.0, "axes.facecolor": "red", "svg.hashsalt": None, "savefig.bbox": "tight"}
    with matplotlib.rc_context(ours):
        write(draw(), tmp_path / name)
        assert {setting: matplotlib.rcParams[setting] for setting in ours} == ours
    assert (tmp_path / name).read_bytes() == written
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_files_name_neither_day_nor_program(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    write(drawn_crops(), tmp_path / "a.png")
    with pillow.open(tmp_path / "a.png") as image:
        assert set(image.info) == {"dpi"}
    write(drawn_curves(), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "<dc:date>" not in text
    assert "matplotlib.org" not in text


def test_a_file_is_written_whole_or_left_alone(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"before")

    def interrupted(self, path, **options):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(drawn_crops(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_drawing_needs_no_pyplot(tmp_path):
    script = (
        "import pathlib, sys\n"
        "from baselines.drawing import dose_figure\n"
        "from kpn_tf.datasets.dose_curve import DoseCurve\n"
        "from kpn_tf.figures import write\n"
        "curve = DoseCurve('low dose', 80, (30,), (20.0,), ((19.0, 21.0),))\n"
        f"write(dose_figure([curve], 'dB'), pathlib.Path({str(tmp_path)!r}) / 'a.svg')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
