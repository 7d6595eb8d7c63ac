"""The worker, able to load the tests' tiny backbone."""

import sys

from PromptSegLib.engine.worker import main
from PromptSegLib.networks.punet import PRESETS
from Testing.support import TINY

if __name__ == "__main__":
    if "--broken" in sys.argv:
        raise SystemExit("libtorch.so: cannot open shared object file")
    PRESETS["tiny"] = TINY
    main()
