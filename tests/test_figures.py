"""What the figures for Keras users promise: the paper's Fig. 2, and how figures are written."""

import subprocess
import sys
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kpn_tf import StructKPN, StructureAwareLoss, figures
from kpn_tf.denoiser import Neighbour, stacked
from kpn_tf.figures import remarkable_pixels, structure_figure, style, write
from kpn_tf.figures.structure import KERNEL_COLOURS, WEIGHT_COLOURS
from kpn_tf.hounsfield import WINDOWS
from kpn_tf.networks import StackKPN
from tests.legible import assert_legible
from tests.reference.colour_vision import VISIONS, least_distance

ROOT = Path(__file__).parents[1]
PIXELS = {"flat": (5, 40), "edge": (20, 50), "fine": (44, 9)}


class Gaussians:
    """Kernels as wide as the columns they are asked for."""

    def __init__(self, side):
        self.side = side

    def kernels_at(self, slice_hu, rows, columns):
        offsets = np.arange(self.side) - self.side // 2
        squares = offsets[:, None] ** 2 + offsets**2
        kernels = np.exp(-squares / (1 + np.reshape(columns, (-1, 1, 1)) / 4)) - 0.1
        return kernels / kernels.sum(axis=(1, 2), keepdims=True)


def slices_hu(rows=64, columns=64):
    normal_hu = np.random.default_rng(5).normal(40, 20, (rows, columns))
    return normal_hu + np.random.default_rng(6).normal(0, 20, normal_hu.shape), normal_hu


def drawn():
    networks = {
        "StructKPN, the paper's: k = 21, L_S": Gaussians(21),
        "StructKPN edge (this project's): k = 15, L1": Gaussians(15),
    }
    return structure_figure(*slices_hu(), networks, PIXELS)


def shown_pixels(axes):
    """First and last row and column of a panel."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return (top + 0.5, bottom - 0.5), (left + 0.5, right - 0.5)


def test_the_slices_are_shown_as_they_are_through_the_window_asked_for():
    low_hu, normal_hu = slices_hu(48, 57)
    figure = structure_figure(low_hu, normal_hu, {}, [(24, 30)], window="lung")
    assert [axes.get_title() for axes in figure.axes] == ["low dose", "normal dose", "weights of the loss"]
    for axes, slice_hu in zip(figure.axes, (low_hu, normal_hu), strict=False):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), slice_hu.astype(np.float32))
        assert image.get_clim() == (WINDOWS["lung"].low_hu, WINDOWS["lung"].high_hu)


def test_a_pixel_is_the_mixture_of_the_colours_by_the_weights_of_the_loss():
    _, normal_hu = slices_hu(48, 57)
    normal_hu[:, 30:] += 90
    shares = np.asarray(StructureAwareLoss().weights(normal_hu[None, :, :, None].astype(np.float32)))[0]
    panel = structure_figure(normal_hu, normal_hu, {}).axes[2]
    sky, black, orange = (to_rgb(colour) for colour in ("#56B4E9", "#000000", "#E69F00"))
    expected = sum(shares[..., i, None] * np.array(c) for i, c in enumerate((sky, black, orange)))
    np.testing.assert_allclose(panel.images[0].get_array(), expected, atol=1e-6)
    legend = panel.get_legend()
    meant = {
        text.get_text(): patch.get_facecolor()[:3]
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert meant == {"edge: squared error": sky, "flat: absolute error": black, "fine: similarity": orange}


@pytest.mark.parametrize("vision", VISIONS)
def test_edge_flat_and_fine_are_told_apart_by_every_colour_vision(vision):
    pure = np.array([to_rgb(colour) for colour in WEIGHT_COLOURS.values()])
    assert least_distance(pure, vision) > 50
    # What the weights come to: a coherent edge, nothing at all, and strong structure.
    reached = np.array([[0.62, 0.20, 0.18], [0.29, 0.42, 0.29], [0.02, 0.02, 0.96]])
    assert least_distance(reached @ pure, vision) > 23


@pytest.mark.parametrize("vision", VISIONS)
def test_what_a_kernel_adds_and_takes_away_is_told_apart_by_every_colour_vision(vision):
    # From a sixteenth of the largest tap on, a quarter of the way of the scale.
    for way in np.linspace(0.25, 1, 7):
        adds, nothing, takes = colormaps[KERNEL_COLOURS](0.5 + way / 2 * np.array([1, 0, -1]))[:, :3]
        assert least_distance([adds, takes], vision) > 20
        assert least_distance([adds, nothing], vision) > 9
        assert least_distance([takes, nothing], vision) > 9


def test_the_framed_pixels_are_those_asked_for_and_named():
    _, normal, *_ = drawn().axes
    frames = [patch for patch in normal.patches if isinstance(patch, Rectangle)]
    assert {(frame.get_width(), frame.get_height()) for frame in frames} == {(4, 4)}
    assert {tuple(np.add(frame.get_xy(), (2, 2))[::-1]) for frame in frames} == set(PIXELS.values())
    assert {text.get_text(): text.xy[::-1] for text in normal.texts} == PIXELS


def test_a_frame_is_around_its_pixel_on_the_screen():
    low_hu, normal_hu = slices_hu()
    figure = structure_figure(low_hu, normal_hu, {}, [(20, 50)], crop=np.s_[16:48, 32:])
    normal = figure.axes[1]
    figure.draw_without_rendering()
    box, frame = normal.get_window_extent(), normal.patches[0].get_window_extent()
    # 32 pixels over 256: the middle of column 50 is 18.5 pixels from the left, that of row 20 is 4.5 from the top.
    assert (frame.x0 + frame.x1) / 2 - box.x0 == pytest.approx(18.5 * 8)
    assert box.y1 - (frame.y0 + frame.y1) / 2 == pytest.approx(4.5 * 8)


def test_a_crop_shows_a_part_and_changes_nothing_that_is_drawn_in_it():
    low_hu, normal_hu = slices_hu(60, 71)
    whole = structure_figure(low_hu, normal_hu, {"net": Gaussians(9)}, [(20, 50)])
    part = structure_figure(low_hu, normal_hu, {"net": Gaussians(9)}, [(20, 50)], crop=np.s_[8:41, -31:-2])
    for before, after in zip(whole.axes[:3], part.axes[:3], strict=True):
        assert shown_pixels(before) == ((0, 59), (0, 70))
        assert shown_pixels(after) == ((8, 40), (40, 68))
        np.testing.assert_array_equal(before.images[0].get_array(), after.images[0].get_array())
    np.testing.assert_array_equal(whole.axes[3].images[0].get_array(), part.axes[3].images[0].get_array())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_any_number_of_kernels_are_those_of_the_network_at_the_pixels(count):
    keras.utils.set_random_seed(3)
    network = StructKPN("edge", kernel_size=9)
    low_hu, normal_hu = slices_hu(40, 53)
    pixels = [(3 + 5 * i, 50 - 7 * i) for i in range(count)]
    figure = structure_figure(low_hu, normal_hu, {"edge": network}, pixels)
    kernels = network.kernels_at(low_hu, *zip(*pixels, strict=True))
    *panels, scale = figure.axes[3:]
    assert len(panels) == count
    for axes, pixel, kernel in zip(panels, pixels, kernels, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), kernel)
        assert axes.get_title() == f"{pixel}, k = 9, largest tap {np.abs(kernel).max():.3f}"
    assert scale.get_xlabel() == "tap, as a share of the kernel's largest"


@pytest.mark.parametrize("slices", [3, 5])
def test_a_network_of_stacks_has_the_kernels_of_all_its_slices_and_what_came_from_each(slices):
    keras.utils.set_random_seed(3)
    network = StackKPN(slices, kernel_size=9)
    low_hu, normal_hu = slices_hu(40, 53)
    beside = [Neighbour(low_hu + 9 * z, 1.5 * z) for z in range(1, slices - 1)] + [None]
    figure = structure_figure(low_hu, normal_hu, {"stack": network}, [(20, 30)], neighbours=beside)
    (kernels,) = network.kernels_at(*stacked(low_hu.astype("float32"), beside, slices), [20], [30])
    axes = figure.axes[3]
    picture = axes.images[0].get_array()
    assert axes.get_title() == f"(20, 30), k = 9, largest tap {np.abs(kernels).max():.3f}"
    names = ["-1", "0", "+1"] if slices == 3 else ["-2", "-1", "0", "+1", "+2"]
    for name, kernel, text in zip(names, kernels, axes.texts, strict=True):
        assert text.get_text() == f"{name}: {kernel.sum():.0%}"
        left, top = text.xy
        np.testing.assert_array_equal(picture[top + 1 : top + 10, left : left + 9], kernel)
    # The rest of the panel is empty.
    assert np.count_nonzero(~np.isnan(np.ma.filled(picture, np.nan))) == kernels.size
    assert_legible(figure)


def test_each_network_has_kernels_around_a_white_zero_on_scales_of_their_own():
    figure = drawn()
    rows = figure.axes[3:6], figure.axes[6:9]
    assert [row[0].get_ylabel().replace("\n", " ").replace("\xa0", " ") for row in rows] == [
        "StructKPN, the paper's: k = 21, L_S",
        "StructKPN edge (this project's): k = 15, L1",
    ]
    for row, side in zip(rows, (21, 15), strict=True):
        for axes, name in zip(row, PIXELS, strict=True):
            assert axes.get_title().startswith(f"{name}, k = {side}, largest tap 0.")
            (image,) = axes.images
            largest = np.abs(image.get_array()).max()
            # Half the way of the scale is a quarter of the largest tap.
            ways = image.norm(largest * np.array([-1, -0.25, 0, 0.25, 1]))
            np.testing.assert_allclose(ways, [0, 0.25, 0.5, 0.75, 1], atol=1e-12)
            assert image.cmap(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.04)


def test_the_remarkable_pixels_are_flat_edge_and_fine_where_nothing_is_clipped():
    normal_hu = np.full((61, 67), 40.0)
    normal_hu[:, :20] = -900.0  # clipped: its rim does not count
    shares = np.zeros((61, 67, 3))
    for place, channel in (((30, 40), 1), ((15, 45), 0), ((45, 35), 2)):
        shares[place][channel] = 0.8
    shares[30, 19:21] = 0.9
    shares[4, 40] = 0.9  # its neighbourhood leaves the slice
    found = remarkable_pixels(shares, normal_hu)
    assert found == {"flat": (30, 40), "edge": (15, 45), "fine": (45, 35)}
    assert remarkable_pixels(shares, normal_hu, np.s_[20:, :])["edge"] != (15, 45)
    assert remarkable_pixels(shares, normal_hu, np.s_[15:16, 45:46])["fine"] == (15, 45)
    with pytest.raises(ValueError, match="Expected soft tissue with nothing clipped 5 pixels around it"):
        remarkable_pixels(shares, normal_hu - 900)


def test_without_pixels_the_remarkable_ones_are_drawn():
    _, normal_hu = slices_hu(40, 53)
    figure = structure_figure(normal_hu, normal_hu, {"net": Gaussians(9)}, crop=np.s_[4:36, 9:44])
    shares = np.asarray(StructureAwareLoss().weights(normal_hu[None, :, :, None].astype(np.float32)))[0]
    expected = remarkable_pixels(shares, normal_hu, np.s_[4:36, 9:44])
    assert {text.get_text(): text.xy[::-1] for text in figure.axes[1].texts} == expected
    assert [axes.get_title().split(",")[0] for axes in figure.axes[3:6]] == ["flat", "edge", "fine"]


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"normal_hu": np.zeros((40, 54))}, ValueError, r"of one shape .* \(40, 53\) and \(40, 54\)"),
        ({"low_hu": np.zeros((1, 40, 53))}, ValueError, r"Expected two slices of one shape \(H, W\)"),
        ({"window": "brain"}, ValueError, "one of .'full', 'lung', 'soft'.. Received: 'brain'"),
        ({"networks": {"RED-CNN": object()}}, TypeError, "Received: 'RED-CNN', a object without kernels_at"),
        ({"pixels": (20, 30)}, ValueError, r"a sequence of \(row, column\). Received: \(20, 30\)"),
        ({"pixels": []}, ValueError, r"a sequence of \(row, column\). Received: \[\]"),
        ({"pixels": [(20, 53)]}, ValueError, r"columns 0 to 52, which are shown. Received: \(20, 53\)"),
        ({"pixels": [(-1, 5)]}, ValueError, r"rows 0 to 39 .* Received: \(-1, 5\)"),
        ({"crop": np.s_[30:20, :]}, ValueError, r"a crop inside a slice of shape \(40, 53\)"),
        ({"crop": np.s_[:20, :]}, ValueError, r"rows 0 to 19 .* Received: \(20, 30\)"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(change, error, sentence):
    low_hu, normal_hu = slices_hu(40, 53)
    asked = {"low_hu": low_hu, "normal_hu": normal_hu, "networks": {}, "pixels": [(20, 30)], **change}
    with pytest.raises(error, match=sentence):
        structure_figure(**asked)


def test_nothing_given_is_altered():
    low_hu, normal_hu = slices_hu(40, 53)
    before = low_hu.copy(), normal_hu.copy()
    structure_figure(low_hu, normal_hu, {"net": Gaussians(9)}, [(20, 30)])
    np.testing.assert_array_equal((low_hu, normal_hu), before)


def test_all_that_is_written_can_be_read():
    assert_legible(drawn())
    corners = [(0, 0), (0, 63), (63, 0), (63, 63), (31, 31)]
    assert_legible(structure_figure(*slices_hu(), {"net": Gaussians(9)}, corners))


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_the_same_figure_is_the_same_file_whatever_a_user_has_set(name, tmp_path):
    write(drawn(), tmp_path / name)
    written = (tmp_path / name).read_bytes()
    ours = {"font.size": 20.0, "axes.facecolor": "red", "svg.hashsalt": None, "savefig.bbox": "tight"}
    with matplotlib.rc_context(ours):
        write(drawn(), str(tmp_path / name))
        assert {setting: matplotlib.rcParams[setting] for setting in ours} == ours
    assert (tmp_path / name).read_bytes() == written
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_files_name_neither_day_nor_program(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    write(drawn(), tmp_path / "a.png")
    with pillow.open(tmp_path / "a.png") as image:
        assert set(image.info) == {"dpi"}
    write(drawn(), tmp_path / "a.svg")
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
        write(Figure(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in .png or .svg. Received: 'a.jpg'; rename it"):
        write(Figure(), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_no_two_of_72_curves_look_alike():
    looks = {tuple(style.line_style(number).values()) for number in range(72)}
    assert len(looks) == 72


def test_style_and_panels_need_neither_pyplot_nor_keras():
    script = (
        "import sys, kpn_tf.figures.style, kpn_tf.figures.panels\n"
        "print({'matplotlib.pyplot', 'tensorflow', 'keras'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize(("absent", "extra"), [("matplotlib", "figures"), ("keras", "train")])
def test_a_figure_without_its_extra_says_in_one_sentence_how_to_install_it(absent, extra, monkeypatch):
    for name in list(sys.modules):
        if name.startswith(("kpn_tf.figures.", f"{absent}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)
    sentence = rf"kpn_tf.figures.structure_figure needs {absent}: in a checkout, pip install '\.\[{extra}\]'"
    with pytest.raises(ImportError, match=sentence):
        _ = figures.structure_figure


def test_an_unknown_name_is_no_attribute():
    assert "structure_figure" in dir(figures)
    with pytest.raises(AttributeError, match="has no attribute 'pie_chart'"):
        _ = figures.pie_chart
