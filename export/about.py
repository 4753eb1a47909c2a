"""What an artefact says of itself: the report inside every file."""

from dataclasses import asdict, dataclass

from export.graphs import grid
from kpn_tf.networks.cost import gmac
from kpn_tf.networks.fingerprint import weights_sha256


@dataclass(frozen=True)
class Release:
    """What only people know of trained weights.

    Args:
        version: Version of the weights.
        licence: Licence of the weights.
        training_data: One line on what they were trained on.
    """

    version: str
    licence: str
    training_data: str


def describe(network, release, parity, **more):
    """The report of an artefact: what it is, what it takes and gives, and how far it is from Keras.

    Args:
        network: Keras model.
        release: `Release`.
        parity: What `export.parity.compare` returned.
        more: What is particular to this artefact, such as `side` or `precision`.

    Returns:
        Dict that `json.dumps` takes.
    """
    return {
        "model": network.title,
        **asdict(release),
        "weights_sha256": weights_sha256(network),
        "input": "HU, float32, (1, H, W, 1)",
        "output": "HU, float32, (1, H, W, 1)",
        "multiple": grid(network),
        "halo": network.reach,
        "parameters": network.count_params(),
        "gmac_512": round(gmac(network), 2),
        "parity": parity,
        **more,
    }
