"""``python -m snnbench``: the command line."""

import sys

from snnbench.cli import main

sys.exit(main())
