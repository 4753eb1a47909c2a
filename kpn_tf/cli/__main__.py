"""`python -m kpn_tf.cli`: the command where its script is not on the path."""

import sys

from kpn_tf.cli import main

sys.exit(main())
