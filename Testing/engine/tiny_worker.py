"""The worker, able to load the tests' tiny backbone. It trains for as many steps as an environment variable says."""

import os
import sys

from PromptSegLib.engine import worker
from PromptSegLib.learning import correcting, features, tuner
from PromptSegLib.networks.presets import PRESETS
from Testing.support import TINY

if __name__ == "__main__":
    if "--broken" in sys.argv:
        raise SystemExit("libtorch.so: cannot open shared object file")
    PRESETS["tiny"] = TINY
    tuner._FEWEST_STEPS = tuner._MOST_STEPS = correcting.STEPS = int(os.environ.get("PROMPTSEG_TEST_STEPS", "10"))
    # Views of changed slices help no random network, and MONAI takes seconds to import in every process.
    worker.IMPORTED_AHEAD = ()
    features.FeatureCache.augment = lambda cache, enough=None: None  # type: ignore[method-assign]
    worker.main()
