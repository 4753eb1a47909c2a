"""`python -m baselines.benchmark`: the same program as `kpn benchmark`."""

import runpy
import sys

if __name__ == "__main__":
    # The command line stands above this floor: a program may start it, a module may not import it.
    sys.argv[1:1] = ["benchmark"]
    runpy.run_module("kpn_tf.cli", run_name="__main__")
