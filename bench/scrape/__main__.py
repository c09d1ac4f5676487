"""`python -m bench.scrape`."""

import sys

from bench.scrape.run import main

sys.exit(main())
