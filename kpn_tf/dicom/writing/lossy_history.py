"""Once lossy, always lossy: writing pixels uncompressed does not bring back what was lost (PS3.3 C.7.6.1.1.5)."""

from pydicom import uid

from kpn_tf.dicom.attributes import text

# Transfer syntax -> value of LossyImageCompressionMethod (PS3.3 C.7.6.1.1.5.1).
_METHOD = {
    uid.JPEGExtended12Bit: "ISO_10918_1",
    "1.2.840.10008.1.2.4.55": "ISO_10918_1",
    uid.JPEGLSNearLossless: "ISO_14495_1",
    uid.JPEG2000: "ISO_15444_1",
    uid.HTJ2K: "ISO_15444_15",
}


def set_lossy_history(result, source, uncompressed_bytes, compressed_bytes):
    """Says in an uncompressed dataset that its source was compressed lossily, where only the transfer syntax told.

    Args:
        result: The dataset; has the attributes of the source already.
        source: The source, with its meta header.
        uncompressed_bytes: Size of the pixels.
        compressed_bytes: Their size in the source.
    """
    method = _METHOD.get(source.file_meta.TransferSyntaxUID)
    if method is None:
        return
    result.LossyImageCompression = "01"
    if not text(source, "LossyImageCompressionRatio"):
        result.LossyImageCompressionRatio = f"{uncompressed_bytes / compressed_bytes:.4g}"
    if not text(source, "LossyImageCompressionMethod"):
        result.LossyImageCompressionMethod = method
