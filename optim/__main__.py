"""`python -m optim`."""

import signal
import sys

from optim.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's end is an interrupt, too
    sys.exit(main())
