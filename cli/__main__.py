"""Started by ``bin/stock-forecast``."""

import atexit
import gc

from cli.main import app

# A training in this process imports torch, which leaves a million objects that stay. With the default, Python looks
# through the new ones every few hundred.
GC_THRESHOLD = (50_000, 20, 50)

if __name__ == "__main__":
    gc.set_threshold(*GC_THRESHOLD)
    atexit.register(gc.freeze)  # else Python looks through all of them several times before it ends
    app(prog_name="stock-forecast")
