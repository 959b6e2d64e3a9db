"""Makes python/ importable, with the library of an installed copy: set DAG_PREFIX to where scripts/install.sh put it."""
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
if "DAG_PREFIX" in os.environ:
    os.environ.setdefault("DAGCORE_LIBRARY", os.environ["DAG_PREFIX"] + "/lib/libdagcore.so.1")
