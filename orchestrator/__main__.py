"""`python -m orchestrator`: see orchestrator/cli/app.py."""

import sys

from orchestrator.cli.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
