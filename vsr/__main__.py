"""``python -m vsr`` is ``vsr-upscale``."""

import sys

from vsr.cli import main

sys.exit(main())
