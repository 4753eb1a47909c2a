import numpy as np
import pytest
from pydicom.dataelem import DataElement

from kpn_tf.dicom import read_slice
from tests.dicom_fixtures import ct_dataset, save


def padded(fill, *, signed=True, tissue=40, rows=21, columns=17):
    """Tissue inside an ellipse, `fill` outside of it."""
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    outside = y**2 + x**2 > 1
    rng = np.random.default_rng(5)
    stored = np.where(outside, fill, rng.integers(tissue - 30, tissue + 30, (rows, columns)))
    return stored.astype("<i2" if signed else "<u2"), outside


@pytest.mark.parametrize("fill_hu", [-2000, -2048, -3024, -3072, -8192])
def test_unmarked_padding_is_found_by_its_impossible_hu(tmp_path, fill_hu):
    stored, outside = padded(fill_hu)
    ct = read_slice(save(ct_dataset(stored), tmp_path / "a.dcm"))
    np.testing.assert_array_equal(ct.padding, outside)
    assert (ct.slice_hu[outside] == fill_hu).all()


@pytest.mark.parametrize("fill_hu", [-1024, -1000])
def test_unmarked_air_is_not_padding(tmp_path, fill_hu):
    stored, _ = padded(fill_hu)
    assert not read_slice(save(ct_dataset(stored), tmp_path / "a.dcm")).padding.any()


def test_declared_padding_is_found_even_if_it_looks_like_air(tmp_path):
    stored, outside = padded(0, signed=False, tissue=1064)
    dataset = ct_dataset(stored, bits_stored=12, intercept="-1024")
    dataset.add_new("PixelPaddingValue", "US", 0)
    np.testing.assert_array_equal(read_slice(save(dataset, tmp_path / "a.dcm")).padding, outside)


def test_a_padding_value_with_the_wrong_sign_is_understood(tmp_path):
    stored, outside = padded(-1500)
    dataset = ct_dataset(stored)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 1500)
    np.testing.assert_array_equal(read_slice(save(dataset, tmp_path / "a.dcm")).padding, outside)


@pytest.mark.parametrize("ends", [(-1500, -1400), (-1400, -1500)])
def test_a_padding_range_covers_both_its_ends(tmp_path, ends):
    stored, outside = padded(-1500)
    stored[0, :] = -1400
    stored[1, 0] = -1450
    stored[10, 8] = -1399
    dataset = ct_dataset(stored)
    for keyword, value in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), ends, strict=True):
        dataset.add_new(keyword, "SS", value)
    expected = outside.copy()
    expected[0, :] = expected[1, 0] = True
    np.testing.assert_array_equal(read_slice(save(dataset, tmp_path / "a.dcm")).padding, expected)


def test_tissue_with_the_padding_value_is_not_padding(tmp_path):
    stored, outside = padded(40)  # a padding value of 40 HU: also muscle
    assert ((stored == 40) & ~outside).any()
    dataset = ct_dataset(stored)
    dataset.add_new("PixelPaddingValue", "SS", 40)
    padding = read_slice(save(dataset, tmp_path / "a.dcm")).padding
    assert padding[outside].all()
    assert not padding[5:-5, 5:-5].any()


def test_a_damaged_padding_value_is_ignored(tmp_path):
    stored, outside = padded(-2000)
    dataset = ct_dataset(stored)
    dataset["PixelPaddingValue"] = DataElement(0x00280120, "LO", "none")
    np.testing.assert_array_equal(read_slice(save(dataset, tmp_path / "a.dcm")).padding, outside)
