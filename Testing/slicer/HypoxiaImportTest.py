"""Inside Slicer: every file of both libraries is where the modules are, and can be imported."""

import importlib
import pkgutil
import unittest

PACKAGES = ("HypoxiaMapperLib", "HypoxiaDosePaintLib")
FRONT_ENDS = ("cli", "demo", "batch", "web")  # the command line has packages of its own


class HypoxiaImportTest(unittest.TestCase):
    """A file that CMake does not list is missing from the build tree and shows here."""

    def test_every_module_can_be_imported(self):
        for name in PACKAGES:
            package = importlib.import_module(name)
            count = 0
            for info in pkgutil.walk_packages(package.__path__, f"{name}."):
                if info.name.split(".")[1].split("_")[0] not in FRONT_ENDS:
                    importlib.import_module(info.name)
                    count += 1
            self.assertGreater(count, 15, name)
