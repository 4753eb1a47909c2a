import dataclasses

import numpy as np
import pytest

from kpn_tf.denoiser import Neighbour
from kpn_tf.dose.series_noise import SeriesNoise
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.training.data import volume_folders
from kpn_tf.training.data.drawn_lesions import LesionRange, draw_lesions
from kpn_tf.training.data.volumes import TrainingVolume, load_volume, save_volume, training_volume
from kpn_tf.training.volume_pairs import VolumePairs

DEPTH, SIDE = 15, 48


def flat_volume(step_mm=3.0, correlation=0.5, noise_std_hu=0.0, level_hu=40.0):
    fields = np.random.default_rng(1).normal(size=(2, 9, SIDE, SIDE)).astype("float16")
    return TrainingVolume(
        np.full((DEPTH, SIDE, SIDE), level_hu, "float16"),
        0.8,
        step_mm,
        np.arange(9),
        fields,
        correlation,
        noise_std_hu,
    )


def pairs_of(*volumes, **options):
    defaults = {"slices": 5, "batch_size": 64, "steps": 3, "patch": 32, "lesion_share": 0.0}
    return VolumePairs(volumes or (flat_volume(),), **{**defaults, **options})


def test_a_batch_depends_on_seed_and_index_alone():
    first, again = pairs_of(), pairs_of()
    again[2]
    for one, other in zip((*first[1][0], first[1][1]), (*again[1][0], again[1][1]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.any(first[1][1] != pairs_of(seed=1)[1][1])


def test_stacks_distances_and_targets_have_their_shapes_and_the_middle_lies_in_the_middle():
    (stacks, distances_mm), normal, weights = pairs_of()[0]
    assert (stacks.shape, distances_mm.shape, normal.shape) == ((64, 32, 32, 5), (64, 5), (64, 32, 32, 1))
    assert weights.shape == normal.shape
    assert {array.dtype for array in (stacks, distances_mm, normal, weights)} == {np.dtype("float32")}
    assert np.all(distances_mm[:, 2] == 0)


def test_most_stacks_are_resampled_to_thin_slices_and_others_are_a_series_own():
    def steps_mm(volume):
        (_, distances_mm), *_ = pairs_of(volume, batch_size=128)[0]
        steps = distances_mm[:, [1, 3]].max(axis=1)
        return steps[steps > 0]

    for own_mm in (3.0, 1.0):
        there = steps_mm(flat_volume(step_mm=own_mm))
        assert np.mean(there == own_mm) == pytest.approx(0.15, abs=0.1)
        assert np.all((there == own_mm) | ((there >= 0.6) & (there <= 2.5)))


def test_a_resampled_stack_lies_at_its_positions_along_z():
    volume = flat_volume(step_mm=2.0)
    ramp = np.arange(DEPTH, dtype="float16")[:, None, None] * np.full((SIDE, SIDE), 2.0, "float16")
    volume = dataclasses.replace(volume, target_hu=ramp)  # HU are mm along z
    (stacks, distances_mm), *_ = pairs_of(volume, noise_hu=(1e-3, 1e-3))[0]
    there = distances_mm[:, 1] * distances_mm[:, 3] > 0
    steps_hu = np.abs(stacks[there][..., 3] - stacks[there][..., 1]).mean(axis=(1, 2))
    # Away from the ends, where there is nothing to average on one side.
    expected = distances_mm[there][:, 1] + distances_mm[there][:, 3]
    assert np.median(np.abs(steps_hu - expected)) < 0.1


def test_a_neighbour_that_is_not_there_is_the_middle_slice_at_distance_0():
    (stacks, distances_mm), *_ = pairs_of()[0]
    there = distances_mm > 0
    same = np.all(stacks == stacks[..., 2:3], axis=(1, 2))
    np.testing.assert_array_equal(same, ~there)
    counts = there.sum(1)
    # Complete stacks, single slices, and both kinds in between.
    assert np.mean(counts == 4) == pytest.approx(0.65, abs=0.2)
    assert np.mean(counts == 0) == pytest.approx(0.18, abs=0.15)
    assert set(counts) >= {0, 2, 4}


def test_the_low_dose_has_the_noise_asked_for_and_the_target_a_quarter_of_it():
    (stacks, _), normal, _ = pairs_of(noise_hu=(10.0, 10.0))[0]
    added, kept = stacks[..., 2] - 40, normal[..., 0] - 40
    assert added.std() == pytest.approx(10 / np.sqrt(0.25), rel=0.05)
    np.testing.assert_allclose(kept, 0.25 * added, atol=1e-3)


def test_neighbours_in_a_series_own_slices_have_noise_of_its_own_correlation():
    (stacks, distances_mm), *_ = pairs_of(flat_volume(correlation=0.6), batch_size=256)[0]
    own = stacks[np.all(distances_mm[:, [1, 3]] == 3.0, axis=1)] - 40
    together = np.mean(own[..., 1] * own[..., 2], axis=(1, 2)) / np.mean(own[..., 2] ** 2, axis=(1, 2))
    # Six of ten stacks have the series' own noise, the others another texture with any correlation up to 0.6.
    assert np.median(together) == pytest.approx(0.57, abs=0.06)
    assert together.min() < 0.25


def test_lesions_are_in_the_stack_and_in_the_target():
    (stacks, _), normal, _ = pairs_of(noise_hu=(1e-3, 1e-3), lesion_share=1.0)[0]
    assert np.mean(np.abs(normal - 40).max(axis=(1, 2, 3)) > 2) > 0.9
    np.testing.assert_allclose(stacks[..., 2:3], normal, atol=0.02)


def test_a_pixel_of_a_lesion_counts_ten_times_as_much_as_others():
    _, normal, weights = pairs_of(noise_hu=(1e-3, 1e-3), lesion_share=0.5)[0]
    assert weights.mean() == pytest.approx(1.0, rel=1e-5)
    change_hu = np.abs(normal - 40)
    assert weights[change_hu > 5] == pytest.approx(10 * weights.min(), rel=1e-5)
    assert weights[change_hu < 0.01] == pytest.approx(weights.min(), rel=0.03)
    between = np.abs(change_hu - 2) < 0.05
    assert weights[between] == pytest.approx(5.5 * weights.min(), rel=0.05)


def test_a_lesion_is_an_ellipsoid_of_its_size_and_contrast_that_ends_with_the_tissue():
    stack_hu = np.full((5, 64, 64), 60.0, "float32")
    stack_hu[:, :, :8] = -800.0
    one = LesionRange((12.0, 12.0), (20.0, 20.0), (0.4, 0.4), most=1, vessel_share=0.0, plate_share=0.0)
    drawn_hu = draw_lesions(stack_hu, [-2, -1, 0, 1, 2], 1.0, 1.0, one, np.random.default_rng(0))
    change = drawn_hu - stack_hu
    assert np.abs(change).max() == pytest.approx(20, rel=0.02)
    assert len(np.unique(np.sign(change[np.abs(change) > 1]))) == 1
    assert np.all(change[:, :, :8] == 0)
    np.testing.assert_array_equal(stack_hu[:, :, 8:], 60.0)
    # The middle slice lies inside: a disc at most 12 mm times e^0.3 wide.
    area = np.count_nonzero(np.abs(change[2]) > 10)
    assert 10 < area < np.pi * (6 * np.exp(0.6)) ** 2


def test_a_vessel_is_long_in_the_plane_and_thin_along_z():
    stack_hu = np.full((5, 96, 96), 60.0, "float32")
    one = LesionRange(
        most=1, vessel_share=1.0, vessel_diameter_mm=(1.0, 1.0), vessel_contrast_hu=(100.0, 100.0)
    )
    change = draw_lesions(stack_hu, [-2, -1, 0, 1, 2], 1.0, 1.0, one, np.random.default_rng(1)) - 60
    inside = np.argwhere(np.abs(change[2]) > 20)
    extents = np.linalg.svd(inside - inside.mean(0), compute_uv=False)
    assert extents[0] > 5 * extents[1]
    assert np.abs(change[[0, 4]]).max() < 0.1 * np.abs(change[2]).max()


def test_a_plate_lies_in_one_slice_alone():
    stack_hu = np.full((5, 96, 96), 60.0, "float32")
    one = LesionRange(
        most=1, vessel_share=0.0, plate_share=1.0, plate_mm=(20.0, 20.0), vessel_contrast_hu=(100.0, 100.0)
    )
    changes = [
        np.abs(draw_lesions(stack_hu, [-2, -1, 0, 1, 2], 1.0, 1.0, one, np.random.default_rng(i)) - 60)
        for i in range(8)
    ]
    greatest = np.mean([change.max(axis=(1, 2)) for change in changes], axis=0)
    assert greatest[2] > 50
    assert np.all(greatest[[0, 4]] < 1)
    assert np.count_nonzero(changes[0][2] > 30) == pytest.approx(np.pi * 10**2, rel=0.5)


def test_nothing_is_drawn_where_there_is_no_soft_tissue():
    air = np.full((3, 16, 16), -1000.0, "float32")
    drawn = draw_lesions(air, [-1, 0, 1], 1.0, 1.0, LesionRange(), np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, air)


def test_a_volume_survives_its_folder(tmp_path):
    rng = np.random.default_rng(3)
    made = training_volume(
        rng.normal(40, 5, (13, 64, 64)).astype("float32"),
        2.0,
        3.0,
        noise=SeriesNoise(12.0, SPECTRA["soft"]),
        correlation=0.2,
        noise_std_hu=3.0,
        rng=rng,
    )
    assert made.fields.shape == (2, 7, 64, 64)
    assert made.fields.astype("float32").std() == pytest.approx(1.0, rel=0.4)
    assert load_volume(tmp_path / "volume") is None
    save_volume(made, tmp_path / "volume")
    again = load_volume(tmp_path / "volume")
    np.testing.assert_array_equal(again.target_hu, made.target_hu)
    np.testing.assert_array_equal(again.fields, made.fields)
    np.testing.assert_array_equal(again.places, made.places)
    assert (again.step_mm, again.correlation, again.noise_std_hu) == (3.0, 0.2, 3.0)


def test_volumes_too_short_or_too_small_are_refused():
    with pytest.raises(ValueError, match=r"Expected 7 slices that are 5 mm or more apart. Received: 2"):
        training_volume(
            np.zeros((3, 16, 16), "float32"),
            1.0,
            3.0,
            noise=SeriesNoise(12.0, SPECTRA["soft"]),
            correlation=0.0,
            noise_std_hu=0.0,
            rng=np.random.default_rng(0),
        )
    with pytest.raises(ValueError, match="slices of at least 64×64 pixels"):
        pairs_of(patch=64)
    with pytest.raises(ValueError, match=r"an odd number of slices. Received: 4"):
        pairs_of(slices=4)
    with pytest.raises(ValueError, match=r"at least one volume to draw stacks from. Received: none"):
        VolumePairs([], slices=5, batch_size=1, steps=1)


def test_both_networks_clean_thick_slices_as_well():
    first, second = volume_folders._cleaners()
    assert [first.artefact.path.stem, second.artefact.path.stem] == ["edge", "stack"]
    # With the network of single slices at hand, as it is shipped, these would go to that.
    assert second.used_with([Neighbour(np.zeros((5, 7)), 5.0)]) is second
