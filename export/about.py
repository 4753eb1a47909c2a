"""What an artefact says of itself: the report inside every file."""

from dataclasses import asdict, dataclass

from export.graphs import grid, slices_of
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


def any_size(network):
    """What the report says an artefact takes and gives that is bound to no size.

    Args:
        network: Keras model.

    Returns:
        Dict of `input`, `output` and `multiple`.
    """
    slices = slices_of(network)
    texts = [
        f"HU, float32, (B, H, W, {count}), any B, any H and W of {network.least_side} or more"
        for count in (slices, 1)
    ]
    distances = f", and distances from the middle slice, mm, float32, (B, {slices})" if slices > 1 else ""
    return {"input": texts[0] + distances, "output": texts[1], "multiple": 1}


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
    slices = slices_of(network)
    stack = (
        f"HU, float32, (1, H, W, {slices}), and distances from the middle slice, mm, float32, (1, {slices})"
    )
    return {
        "model": network.title,
        **asdict(release),
        "weights_sha256": weights_sha256(network),
        "slices": slices,
        "input": "HU, float32, (1, H, W, 1)" if slices == 1 else stack,
        "output": "HU, float32, (1, H, W, 1)",
        "multiple": grid(network),
        "halo": network.reach,
        "parameters": network.count_params(),
        "gmac_512": round(gmac(network), 2),
        "parity": parity,
        **more,
    }
