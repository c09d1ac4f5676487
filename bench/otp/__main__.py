"""`python -m bench.otp`."""

import sys

from bench.otp.run import main

sys.exit(main())
