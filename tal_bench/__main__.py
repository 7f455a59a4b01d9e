"""Entry point of `python -m tal_bench`, the same command as `tal-bench`."""

import sys

from tal_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
