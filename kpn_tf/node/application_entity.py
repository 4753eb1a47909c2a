"""Who the node is on the network, calling and called."""

from pynetdicom import AE

from kpn_tf.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def application_entity(settings):
    """Returns the `pynetdicom.AE` of `Settings`: title, implementation, patience."""
    ae = AE(settings.node.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    for timeout in ("acse_timeout", "dimse_timeout", "network_timeout", "connection_timeout"):
        setattr(ae, timeout, settings.limits.timeout_s)
    return ae
