"""``python -m relay``: the relay with its settings from the environment (``SIGNALS_RELAY_*``)."""

import sys

from relay.server import main

if __name__ == "__main__":
    sys.exit(main())
