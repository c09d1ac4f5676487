"""`python -m bench.capacity`."""

import sys

from bench.capacity.run import main

sys.exit(main())
