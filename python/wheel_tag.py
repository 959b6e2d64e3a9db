"""The wheel's tag: any Python 3, and this machine's platform if it carries libdagcore.so (scripts/wheel.sh)."""
import pathlib
import sysconfig

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelTag(BuildHookInterface):
    def initialize(self, version, build_data):
        if (pathlib.Path(self.root) / "dagcore/lib").is_dir():
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"
