"""Prepared stores: the slices of a training on disk, more of them than memory holds."""

from kpn_tf.store.manifest import EmptyStoreError, StoreError, is_store
from kpn_tf.store.reading import StoredSlices, open_store
from kpn_tf.store.spill import spill
from kpn_tf.store.writing import StoreWriter

__all__ = ["EmptyStoreError", "StoreError", "StoreWriter", "StoredSlices", "is_store", "open_store", "spill"]
