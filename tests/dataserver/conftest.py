"""Makes `serving_bench` importable by the tests of this folder, which is no package."""

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)
