# Prints the rewards of this Python's packages as JSON: python3 -c <this>. They are entry points of the group dag_rewards, NAME = MODULE.
# No package is imported. docs/packaging.md says what a package contains.
import sys

if sys.path and sys.path[0] == "":
    del sys.path[0]  # the current folder, where -c looks first
import importlib.util
import json
import os
import re
from importlib.metadata import entry_points


class Unusable(Exception):
    """The reason why an entry point is no reward."""


def reward_file(name, module):
    """The file of a reward: MODULE itself, or libNAME.so if it is a package."""
    first, *parts = module.split(".")
    spec = importlib.util.find_spec(first)
    if not spec:
        raise Unusable(f"there is no module {module}")
    file, places = spec.origin, list(spec.submodule_search_locations or [])
    for part in parts:  # by hand: find_spec of a.b imports a
        paths = [os.path.join(place, part) for place in places]
        packages = [path for path in paths if os.path.isfile(os.path.join(path, "__init__.py"))]
        modules = [path + ".py" for path in paths if os.path.isfile(path + ".py")]
        file, places = modules[0] if modules else None, [path for path in paths if os.path.isdir(path)]
        if packages or modules:  # the others have no say
            places = packages[:1]
        elif not places:
            raise Unusable(f"there is no module {module}")
    if not places:
        if not (file or "").endswith(".py"):
            raise Unusable(f"the module {module} is no .py file")
        return os.path.abspath(file)
    libraries = [os.path.join(os.path.abspath(place), f"lib{name}.so") for place in places]
    for library in libraries:
        if os.path.isfile(library):
            return library
    raise Unusable(f"the package {module} has no lib{name}.so")


rewards = []
for point in entry_points(group="dag_rewards"):
    reward = {"name": point.name, "distribution": "unknown"}
    try:
        reward["distribution"] = f"{point.dist.name} {point.dist.version}"
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", point.value):
            raise Unusable(f"its entry point is {point.value}, not a module's name alone")
        reward["file"] = reward_file(point.name, point.value)
    except Unusable as error:
        reward["problem"] = f"{error}"
    except Exception as error:
        reward["problem"] = f"{type(error).__name__}: {error}"
    rewards.append(reward)
rewards.sort(key=lambda reward: (reward["name"], reward["distribution"]))
print("\n" + json.dumps(rewards))
