"""The trained weights that come with the package: what they are, what they cost, how long they were trained."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_EQUAL_BUDGET = "4800 steps of 4 patches of 64x64, 2.5 % of the paper's; {}"


@dataclass(frozen=True)
class Trained:
    """Trained weights of a network.

    Args:
        model: Title of the network.
        network: Name of its class.
        file: Its `.keras`, from the folder that holds the package.
        parameters: Number of trained values.
        gmac_512: Multiply-accumulates for a slice of 512x512 in units of 1e9.
        training: Budget of the training, and its loss.
        weights_sha256: Hash of the trained values, equal in all forms of a network.
        licence: Licence of the weights.
    """

    model: str
    network: str
    file: str
    parameters: int
    gmac_512: float
    training: str
    weights_sha256: str
    licence: str = "Apache-2.0"

    @property
    def path(self) -> Path:
        """Path of the `.keras`."""
        return _ROOT / self.file

    @property
    def file_sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


_PAPER = ("StructKPN-paper", "StructKPN")
_PAPER_COST = (1_981_763, 518.12)
_REDCNN_COST = (1_848_865, 458.4)

# The weights of every command, of the node and of `kpn_tf.Denoiser` where none are named.
DEFAULT_WEIGHTS = "stack"

# Name for `from_preset`, for `--weights` and for `--denoiser` -> the weights. Counted by Keras, which `kpn info` does
# without; tests/test_trained.py holds numbers and hashes to the networks.
TRAINED = {
    "edge": Trained(
        "StructKPN-edge",
        "StructKPN",
        "kpn_tf/weights/edge.keras",
        369_664,
        12.0,
        "16000 steps of 8 patches of 96x96; mean absolute error",
        "e7c8288c53682801f0ec132acc6cdf51594038055b86c6d705136833894ba14c",
    ),
    "paper": Trained(
        *_PAPER,
        "baselines/weights/paper-k21-structure.keras",
        *_PAPER_COST,
        _EQUAL_BUDGET.format("structure-aware loss"),
        "bbc5d7736f5d646a44047e0aac8a96996e1f6a1fa97882d7a1e9793a0ebf6739",
    ),
    "paper-k21-l1": Trained(
        *_PAPER,
        "baselines/weights/paper-k21-l1.keras",
        *_PAPER_COST,
        _EQUAL_BUDGET.format("mean absolute error"),
        "a188c7b677cfcafa1aafa03223df0dfc2d879f8ddf9c7f96b9d3a727efc4aaf4",
    ),
    "redcnn-l1": Trained(
        "RED-CNN",
        "REDCNN",
        "baselines/weights/redcnn-l1.keras",
        *_REDCNN_COST,
        _EQUAL_BUDGET.format("mean absolute error"),
        "12f7b623f94890bb3b74e4af4c59a45ad0e4beefec9345c4bf55d84403003915",
    ),
    "redcnn-structure": Trained(
        "RED-CNN",
        "REDCNN",
        "baselines/weights/redcnn-structure.keras",
        *_REDCNN_COST,
        _EQUAL_BUDGET.format("structure-aware loss"),
        "6caeda369c19b21539a8be3a9a609464b1d308021f152c0e1a57f9def206b48f",
    ),
    "wavresnet-l1": Trained(
        "WavResNet",
        "WavResNet",
        "baselines/weights/wavresnet-l1.keras",
        4_169_231,
        1092.83,
        _EQUAL_BUDGET.format("mean absolute error"),
        "361d23c5f99fc3440b22bea1739a8cf9d28efbe0ace6acb5a9770b65f709e34a",
    ),
    "stack": Trained(
        "StackKPN-5",
        "StackKPN",
        "kpn_tf/weights/stack.keras",
        272_032,
        7.38,
        "34500 steps of 8 patches of 72x72 with five slices; Huber's error, lesions weighed",
        "cb3fe6dc6bcaf1c7a8ed947d3ce5c1f90717fac9e4d51f8a880078b95cd3c777",
    ),
}
