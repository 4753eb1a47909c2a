"""The report of a network that sees neighbouring slices: the kernels of all of them, and what came from each."""

import shutil

import numpy as np
import pytest

from export import Release, to_tflite
from kpn_tf import Denoiser
from kpn_tf.denoiser.artefact import WEIGHTS_FOLDER
from kpn_tf.evaluation.stream import chosen_slices
from kpn_tf.hounsfield import AIR_HU
from kpn_tf.report.selection import USUAL_SEEN, _usual_step
from tests.browser import CHROMIUM, LAPTOP, Browser, choose
from tests.command import kpn
from tests.noisy_torso import noisy_volume, write_torso
from tests.stack_network import stack_network

SPACING_MM = 3.0
WHOLE_HU = np.rint(noisy_volume(5, noise_hu=30.0)[:, 20:73, 30:97]).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return stack_network()


@pytest.fixture(scope="module")
def report(network, tmp_path_factory):
    """Every other slice of five, of which the page has the neighbours as well."""
    folder = tmp_path_factory.mktemp("stacks")
    shutil.copy(WEIGHTS_FOLDER / "edge.tflite", folder)
    export = {"precision": "float32", "alone": folder / "edge.tflite"}
    to_tflite(network, folder / "mine.tflite", Release("1", "Apache-2.0", "none"), **export)
    write_torso(folder / "ct" / "five", WHOLE_HU)
    write_torso(folder / "ct" / "single", WHOLE_HU[:1])
    words = ("report", folder / "ct", folder / "report.html", "--weights", folder / "mine.tflite")
    words += ("--every", "2")
    assert kpn(*words) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.resize(LAPTOP)
        browser.open(report)
        browser.wait("document.body.dataset.slice !== undefined")
        browser.evaluate(
            "choose(REPORT.series.findIndex(({ planes }) => planes.axial.length === 3), 'axial')"
        )
        yield browser
        assert browser.complaints() == []


def expected_kernels(network, index, row, column):
    """Keras's kernels for a slice of the series; those of a neighbour that is not there are the slice's own."""
    places = [index - 1, index, index + 1]
    there = [0 <= place < len(WHOLE_HU) for place in places]
    stack_hu = np.stack(
        [WHOLE_HU[place if here else index] for place, here in zip(places, there, strict=True)], -1
    )
    distances_mm = [SPACING_MM * (here and place != index) for place, here in zip(places, there, strict=True)]
    (kernels,) = network.kernels_at(np.maximum(stack_hu, AIR_HU), distances_mm, [row], [column])
    for z in (0, 2):
        if not there[z]:
            kernels[1] += kernels[z]
            kernels[z] = 0
    return kernels


def shown(page, row, column):
    """The kernels of a pixel, as the page shows them, and the rows beside."""
    page.evaluate(f"$('numbers').open = true; point([{row}, {column}])")
    lines = page.evaluate("$('taps').textContent").splitlines()
    rows = page.evaluate("[...$('shape').rows].map((r) => [...r.cells].map((c) => c.textContent))")
    return np.array([[float(tap) for tap in line.split()] for line in lines]).reshape(3, 21, 21), dict(rows)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_page_shows_the_kernels_of_every_slice_that_keras_applies(page, network, number):
    page.evaluate(f"turnTo({number})")
    # The page has the slices as the series has them, from feet to head, and shows the first of every two.
    index = page.evaluate("Number(slice.name.match(/image (\\d+)/)[1]) - 1")
    after_hu = page.evaluate("Array.from(slice.after)")
    for row, column in ((26, 33), (0, 66), (51, 2)):
        kernels, rows = shown(page, row, column)
        expected = expected_kernels(network, index, row, column)
        np.testing.assert_allclose(kernels, expected, atol=1e-5)
        assert kernels.sum() == pytest.approx(1, abs=1e-4)
        made_hu = float(rows["kernel times before"].split()[0])
        assert made_hu == pytest.approx(after_hu[row * WHOLE_HU.shape[2] + column], abs=0.6)
        assert rows["from the slice itself"] == f"{100 * expected[1].sum():.1f} %"
        lower = "not there" if index == 0 else f"{100 * expected[0].sum():.1f} %"
        name = "from slice −1" if index == 0 else "from slice −1, 3.0 mm"
        assert rows[name] == lower


def test_a_map_says_how_much_came_from_other_slices(page, network):
    page.evaluate("turnTo(1)")
    choose(page, "right", "others")
    index = page.evaluate("Number(slice.name.match(/image (\\d+)/)[1]) - 1")
    page.wait("slice.maps")
    for row, column in ((26, 33), (5, 60)):
        share = page.evaluate(f"slice.maps.others[{row} * slice.columns + {column}]")
        kernels = expected_kernels(network, index, row, column)
        assert share == pytest.approx(100 * (kernels[0].sum() + kernels[2].sum()), abs=0.01)
    assert page.evaluate("panes[1].legend.textContent").startswith("0.0")


def test_a_slice_without_neighbours_has_the_kernels_of_the_network_that_denoised_it(page):
    number = page.evaluate("REPORT.series.findIndex(({ planes }) => planes.axial.length === 1)")
    try:
        page.evaluate(f"choose({number}, 'axial')")
        page.evaluate("$('numbers').open = true; point([26, 33])")
        lines = page.evaluate("$('taps').textContent").splitlines()
        kernel = [[float(tap) for tap in line.split()] for line in lines]
        (expected,) = Denoiser("edge", threads=1).kernels_at(np.maximum(WHOLE_HU[0], AIR_HU), [26], [33])
        np.testing.assert_allclose(kernel, expected, atol=1e-5)
        assert page.evaluate("$('kernel').width") == 21
    finally:
        page.evaluate(f"choose({1 - number}, 'axial')")


def test_an_image_that_two_stacks_see_is_in_the_page_once(report):
    text = report.read_text(encoding="utf-8")
    # Five before and three after, and the single slice, before and after.
    assert text.count('id="image-') == 8 + 2


def test_a_page_shows_fewer_slices_where_it_needs_their_neighbours_too():
    assert _usual_step([30], slices=5) == 1
    step = _usual_step([300], slices=5)
    seen, more = (5 * len(chosen_slices(range(300), one)) for one in (step, step - 1))
    assert seen <= USUAL_SEEN < more
