"""``python -m parity_tests``: prove the two wings equal, and write the table and the heat map."""

import sys

from parity_tests.report import main

if __name__ == "__main__":
    sys.exit(main())
