"""A series is denoised with the neighbours that it has, and with no others."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from kpn_tf import read_volume
from kpn_tf.batch import denoise
from kpn_tf.batch.pipeline import _with_slices_around
from kpn_tf.denoiser import Denoiser, Neighbour, neighbours_of
from kpn_tf.dicom import DicomError, find_series, read_slice
from tests.noisy_torso import noisy_volume, write_torso
from tests.test_denoiser import BOX, STANDINS, box_mean

WEIGHTED = STANDINS / "weighted.tflite"


def weighted(middle_hu, *beside):
    """What the stand-in makes of a slice and `(slice, distance)` of the others."""
    return middle_hu + sum(distance / 10 * (slice_hu - middle_hu) for slice_hu, distance in beside)


def volume_of(slices, rows=24, columns=30):
    return np.random.default_rng(5).normal(40, 100, (slices, rows, columns)).astype("float32")


@pytest.mark.parametrize(
    ("index", "positions_mm", "slices", "expected"),
    [
        (2, [0, 1, 2, 3, 4], 5, [(0, 2.0), (1, 1.0), (3, 1.0), (4, 2.0)]),
        (0, [0, 1, 2, 3, 4], 5, [None, None, (1, 1.0), (2, 2.0)]),
        (2, [0, 1, 2, 4, 5, 6], 5, [(0, 2.0), (1, 1.0), None, None]),  # a slice is missing behind it
        (1, [0, 0, 1, 1], 3, [None, None]),  # two phases at each place
        (0, [7.0], 5, [None] * 4),
        (1, [0, 15, 30], 5, [None, (0, 15.0), (2, 15.0), None]),
        (1, [0, 25, 50], 3, [None, None]),
        (0, [0, 3], 1, []),
    ],
)
def test_neighbours_are_those_that_lie_near_without_a_gap(index, positions_mm, slices, expected):
    assert neighbours_of(index, positions_mm, slices) == expected


def test_a_volume_is_denoised_with_its_neighbours_at_their_distance():
    denoiser, volume_hu = Denoiser(WEIGHTED, threads=1), volume_of(4)
    assert denoiser.slices == 3
    denoised_hu = denoiser.volume(volume_hu, slice_spacing_mm=1.5)
    np.testing.assert_array_equal(volume_hu, volume_of(4))
    beside = [[1], [0, 2], [1, 3], [2]]
    for index, others in enumerate(beside):
        expected = weighted(volume_hu[index], *((volume_hu[other], 1.5) for other in others))
        np.testing.assert_allclose(denoised_hu[index], expected, atol=1e-3)


@pytest.mark.parametrize("of_slices", [False, True])
def test_a_masked_volume_is_refused_as_a_masked_slice_is(of_slices):
    masked = np.ma.masked_less(volume_of(3), -300)
    with pytest.raises(
        ValueError, match="Received: a masked array; give its data, and its mask as `padding`"
    ):
        Denoiser(BOX, threads=1).volume(list(masked) if of_slices else masked, slice_spacing_mm=1.0)


def test_a_single_slice_has_no_neighbours():
    slice_hu = volume_of(1)[0]
    np.testing.assert_allclose(Denoiser(WEIGHTED, threads=1)(slice_hu), slice_hu, atol=1e-3)


def test_a_network_of_single_slices_denoises_a_volume_slice_by_slice():
    volume_hu = volume_of(2)
    denoised_hu = Denoiser(BOX, threads=1).volume(volume_hu, slice_spacing_mm=1.0)
    np.testing.assert_allclose(denoised_hu[1], box_mean(volume_hu[1]), atol=1e-3)


def test_neighbours_have_air_in_their_padding_and_the_slice_keeps_its_own():
    volume_hu = volume_of(2)
    padding = np.zeros(volume_hu.shape, bool)
    padding[0, :3], padding[1, :, :4] = True, True
    volume_hu[padding] = -3024.0
    denoised_hu = Denoiser(WEIGHTED, threads=1).volume(volume_hu, slice_spacing_mm=2.0, padding=padding)
    seen_hu = np.where(padding, -1000.0, volume_hu)
    expected = np.where(padding[0], volume_hu[0], weighted(seen_hu[0], (seen_hu[1], 2.0)))
    np.testing.assert_allclose(denoised_hu[0], expected, atol=1e-3)


def test_half_the_strength_applies_half_of_the_correction():
    volume_hu = volume_of(2)
    half, full = (
        Denoiser(WEIGHTED, threads=1, strength=s).volume(volume_hu, slice_spacing_mm=1.0) for s in (0.5, 1.0)
    )
    np.testing.assert_allclose(half, (volume_hu + full) / 2, atol=1e-3)


def test_memory_holds_one_stack_and_progress_is_told(monkeypatch):
    denoiser, seen = Denoiser(WEIGHTED, threads=1), []
    infer = denoiser._infer
    monkeypatch.setattr(
        denoiser, "_infer", lambda tile_hu, mm: seen.append(tile_hu.shape) or infer(tile_hu, mm)
    )
    told = []
    denoiser.volume(volume_of(5), slice_spacing_mm=1.0, progress=lambda slices: told.extend(slices) or slices)
    assert seen == [(24, 30, 3)] * 5
    assert told == list(range(5))


def test_wrong_volumes_and_neighbours_are_refused():
    denoiser, volume_hu = Denoiser(WEIGHTED, threads=1), volume_of(2)
    with pytest.raises(ValueError, match=r"volume of shape \(Z, H, W\). Received: shape \(24, 30\)"):
        denoiser.volume(volume_hu[0], slice_spacing_mm=1.0)
    with pytest.raises(ValueError, match=r"slice_spacing_mm above 0. Received: 0"):
        denoiser.volume(volume_hu, slice_spacing_mm=0)
    with pytest.raises(ValueError, match="padding of the volume's shape"):
        denoiser.volume(volume_hu, slice_spacing_mm=1.0, padding=np.zeros((24, 30), bool))
    with pytest.raises(ValueError, match=r"Expected 2 neighbours or none. Received: 1"):
        denoiser(volume_hu[0], neighbours=[None])
    with pytest.raises(ValueError, match=r"neighbours of shape \(24, 30\)"):
        denoiser(volume_hu[0], neighbours=[None, Neighbour(volume_hu[1, :5], 1.0)])
    broken = volume_hu[1].copy()
    broken[3, 3] = np.nan
    with pytest.raises(ValueError, match="1 pixels that are NaN"):
        denoiser(volume_hu[0], neighbours=[None, Neighbour(broken, 1.0)])


def test_a_job_gives_each_slice_its_neighbours_and_a_file_that_was_cut_off_leaves_a_gap(tmp_path):
    paths = write_torso(tmp_path / "in", noisy_volume(5))
    paths[3].write_bytes(paths[3].read_bytes()[:-5000])  # its pixels end early
    denoiser = Denoiser(WEIGHTED, threads=1)
    report = denoise(tmp_path / "in", tmp_path / "out", denoiser)
    assert [(series.outcome, series.slices) for series in report.series] == [("written", 4)]
    [made] = find_series(tmp_path / "out")[0]
    before = [read_slice(path).slice_hu if i != 3 else None for i, path in enumerate(paths)]
    beside = {0: [1], 1: [0, 2], 2: [1], 4: []}
    for (index, others), file in zip(beside.items(), made.slices, strict=True):
        expected = weighted(before[index], *((before[other], 3.0) for other in others))
        np.testing.assert_allclose(read_slice(file.path).slice_hu, np.rint(expected), atol=0.51)


def test_a_series_that_is_completed_has_the_pixels_of_one_that_was_made_at_once(tmp_path):
    write_torso(tmp_path / "in", noisy_volume(9))
    denoiser = Denoiser(WEIGHTED, threads=1)
    denoise(tmp_path / "in", tmp_path / "once", denoiser)
    [once] = find_series(tmp_path / "once")[0]
    shutil.copytree(tmp_path / "once", tmp_path / "again")
    [again] = find_series(tmp_path / "again")[0]
    for index in (0, 4, 5):  # Their neighbours are there already.
        again.slices[index].path.unlink()
    report = denoise(tmp_path / "in", tmp_path / "again", denoiser)
    assert [(one.outcome, one.written, one.kept) for one in report.series] == [("written", 3, 6)]
    for first, second in zip(once.slices, again.slices, strict=True):
        assert first.path.read_bytes() == second.path.read_bytes()


def test_slices_around_are_those_of_one_geometry_that_could_be_read():
    def works(series, cts):
        return [
            SimpleNamespace(
                series=series, slice_file=name, ct=name if read else None, index=index, wanted=name != "b"
            )
            for index, (name, read) in enumerate(cts)
        ]

    first, second = object(), object()
    end = SimpleNamespace(series=None, slice_file=None, ct=None)
    row = [
        *works(first, [("a", True), ("b", True), ("c", False), ("d", True)]),
        *works(second, [("e", True)]),
        end,
        *works(first, [("f", True), ("g", True)]),
        end,
    ]
    coming = iter([*row, None])
    decoded = SimpleNamespace(get=lambda: next(coming))
    found = [(work.slice_file, *beside) for work, beside in _with_slices_around(decoded, 1)]
    assert found == [
        ("a", {1: "b"}),  # b is there already: it is a neighbour alone
        ("c", {-1: "b", 1: "d"}),
        ("d", {}),
        ("e", {}),
        (None,),
        ("f", {1: "g"}),
        ("g", {-1: "f"}),
        (None,),
    ]


def test_no_more_slices_wait_than_are_needed_around_one():
    waiting = []

    def get():
        waiting.append(1)
        return (
            None
            if len(waiting) > 20
            else SimpleNamespace(
                series="s", slice_file=len(waiting), ct=len(waiting), index=len(waiting), wanted=True
            )
        )

    for work, beside in _with_slices_around(SimpleNamespace(get=get), 2):
        assert len(waiting) <= work.slice_file + 2 + (work.slice_file > 18)
        assert set(beside[0]) <= {-2, -1, 1, 2}


def test_a_folder_with_one_series_is_read_as_one_volume(tmp_path):
    paths = write_torso(tmp_path, noisy_volume(3))
    ct = read_volume(tmp_path)
    assert (ct.volume_hu.shape, ct.volume_hu.dtype, ct.padding.dtype) == ((3, 96, 128), np.float32, bool)
    assert (ct.pixel_spacing_mm, ct.slice_spacing_mm) == ((2.8, 2.8), 3.0)
    np.testing.assert_array_equal(ct.volume_hu[1], read_slice(paths[1]).slice_hu)
    assert read_volume(paths[0]).slice_spacing_mm == 3.0  # its thickness


def test_what_is_no_single_even_series_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(DicomError, match=r"Expected one CT series of one geometry. Received: 0"):
        read_volume(tmp_path)
    paths = write_torso(tmp_path, noisy_volume(5))
    paths[2].unlink()
    with pytest.raises(
        DicomError, match=r"evenly spaced slices with positions. Received: steps of 3 to 6 mm"
    ):
        read_volume(tmp_path)
