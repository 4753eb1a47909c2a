"""What chooses weights, of any networks: patients, and faint lesions in a torso that no test has.

    python -m benchmarks.validation_scores VALIDATION NETWORK...

A network is a `.keras` file, or the name of weights that come with the package.
"""

import os
import sys

# Read when TensorFlow is first imported; without it, it greets with lines about its devices.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kpn_tf.networks import load_saved
from kpn_tf.trained import TRAINED
from kpn_tf.training.data.volume_validation import VolumeValidation, validation_stacks

# Slices of the torso: mm from one to the next, and HU of noise.
TORSOS = ((1.0, 41.0), (3.0, 24.0))


def main():
    """Prints the table."""
    folder, *names = sys.argv[1:]
    headings = [f"{what}, {mm:g} mm, {hu:g} HU" for mm, hu in TORSOS for what in ("contrast", "d'")]
    print(f"| network | PSNR, patient (dB) | {' | '.join(headings)} |\n|---|---:|{'---:|' * len(headings)}")
    for name in names:
        network = load_saved(TRAINED[name].path if name in TRAINED else name)
        slices = getattr(network, "slices", 1)
        stacks = validation_stacks(folder, slices, 0, note=lambda line, failure: None)
        found = [VolumeValidation(stacks, slices, 0, step_mm=mm, noise_hu=hu)(network) for mm, hu in TORSOS]
        cells = [f"{one['validation_contrast']:.1%} | {one['validation_d_prime']:+.0%}" for one in found]
        print(f"| `{name}` | {found[0]['validation_psnr_soft']:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
