"""The DICOM node: series come in from scanners, denoised series go out to archives; it may be killed at any point.

`kpn_tf.node.service` runs it. `kpn_tf.node.journal.journal` is its memory, `kpn_tf.node.listener.receiver` the way in,
`kpn_tf.node.conductor` what happens to a series, `kpn_tf.node.sender` the way out.
"""
