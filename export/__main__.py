"""`python -m export NETWORK.keras ARTEFACT.tflite`: a trained network as the file a workstation runs."""

import argparse
import json
from pathlib import Path

import keras

from export.tflite import to_tflite


def main():
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.add_argument("network", type=Path, help="StructKPN saved by Keras")
    parser.add_argument("artefact", type=Path, help=".tflite to write")
    parser.add_argument("--version", required=True, help="version of the weights")
    parser.add_argument("--licence", required=True, help="licence of the weights")
    parser.add_argument("--training-data", required=True, help="one line on what they were trained on")
    words = parser.parse_args()
    # Weights are float32 whatever precision the trunk was trained in; the artefact computes in it as well.
    keras.config.set_dtype_policy("float32")
    try:
        metadata = to_tflite(
            keras.saving.load_model(words.network, compile=False),
            words.artefact,
            version=words.version,
            licence=words.licence,
            training_data=words.training_data,
        )
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(json.dumps(metadata, indent=1))


if __name__ == "__main__":
    main()
