"""`python -m bench.codec`."""

import sys

from bench.codec.run import main

sys.exit(main())
