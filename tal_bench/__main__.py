"""`python -m tal_bench` is `tal-bench`."""

import sys

from tal_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
