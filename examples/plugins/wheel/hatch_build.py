"""Builds the reward for its wheel, and puts it in, with the manifest that lies beside it."""
import pathlib
import subprocess
import sysconfig

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILD = "make"
REWARD = "libbrightness.so"
PACKAGE = "dag_reward_brightness"


class RewardBuilder(BuildHookInterface):
    def initialize(self, version, build_data):
        if BUILD:
            subprocess.run(BUILD, shell=True, check=True, cwd=self.root)
        reward = pathlib.Path(self.root) / REWARD
        if not reward.is_file():
            raise FileNotFoundError(f"{reward} is missing" + (f": `{BUILD}` made another file" if BUILD else ""))
        manifest = reward.with_name(reward.name + ".json")
        if not manifest.exists():
            self.app.display_warning(f"no {manifest.name}: dag-reward list will not say what it is; dag-reward info ./{REWARD} --json writes it")
        elif manifest.stat().st_mtime < reward.stat().st_mtime:
            self.app.display_warning(f"{manifest.name} is older than {REWARD}: dag-reward check compares them")
        for file in [reward, manifest] if manifest.exists() else [reward]:
            build_data["force_include"][str(file)] = f"{PACKAGE}/{file.name}"
        if reward.suffix == ".so":  # for this kind of machine only
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"
