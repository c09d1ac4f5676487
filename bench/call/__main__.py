"""`python -m bench.call`."""

import sys

from bench.call.run import main

sys.exit(main())
