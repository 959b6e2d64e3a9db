# Prints the rewards of this Python's packages as JSON: python3 -c <this>. They are entry points of the group dag_rewards, NAME = MODULE.
# No package is imported. docs/packaging.md says what a package contains.
import sys

if sys.path and sys.path[0] == "":
    del sys.path[0]  # the current folder, where -c looks first
import importlib.machinery
import importlib.util
import json
import os
from importlib.metadata import entry_points


def reward_file(name, module):
    """The file of a reward: MODULE itself, or libNAME.so if it is a package."""
    parts = module.split(".")
    spec = importlib.util.find_spec(parts[0])
    for depth in range(1, len(parts)):  # find_spec of a.b imports a
        places = spec and spec.submodule_search_locations
        spec = places and importlib.machinery.PathFinder.find_spec(".".join(parts[: depth + 1]), places)
    if not spec:
        raise LookupError(f"there is no module {module}")
    places = spec.submodule_search_locations
    if places is None:
        if not (spec.origin or "").endswith(".py"):
            raise LookupError(f"the module {module} is no .py file")
        return os.path.abspath(spec.origin)
    files = [os.path.join(os.path.abspath(place), f"lib{name}.so") for place in places]
    for file in files:
        if os.path.isfile(file):
            return file
    raise LookupError(f"the package {module} has no lib{name}.so")


rewards = []
for point in entry_points(group="dag_rewards"):
    reward = {"name": point.name, "distribution": f"{point.dist.name} {point.dist.version}"}
    try:
        if point.attr:
            raise LookupError(f"its entry point is {point.value}, not a module's name alone")
        reward["file"] = reward_file(point.name, point.module)
    except Exception as error:
        reward["problem"] = f"{error}"
    rewards.append(reward)
rewards.sort(key=lambda reward: (reward["name"], reward["distribution"]))
print("\n" + json.dumps(rewards))
