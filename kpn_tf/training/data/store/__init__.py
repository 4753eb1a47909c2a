"""Prepared stores: the slices of a training on disk, more of them than memory holds."""

from kpn_tf.training.data.store.manifest import EmptyStoreError, StoreError, is_store
from kpn_tf.training.data.store.reading import StoredSlices, open_store
from kpn_tf.training.data.store.scratch import scratch
from kpn_tf.training.data.store.writing import StoreWriter

__all__ = [
    "EmptyStoreError",
    "StoreError",
    "StoreWriter",
    "StoredSlices",
    "is_store",
    "open_store",
    "scratch",
]
