"""Archives: thousands of series, denoised on Dask distributed as on one machine. Wants the extra [cluster]."""

from kpn_tf.cluster.archive import denoise_archive

__all__ = ["denoise_archive"]
