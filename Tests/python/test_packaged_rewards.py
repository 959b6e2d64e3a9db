"""docs/packaging.md: rewards as Python wheels, found by their names; the check on GitHub and its badge."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(os.environ["DAG_BIN"]).resolve()
IMAGES = [str(ROOT / f"Tests/Goldens/rewards/{name}.png") for name in ("words", "lines")]
ACTION = ROOT / ".github/actions/check-reward"


def run(*command, cwd, fails=False, **variables):
    outcome = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | variables)
    assert (outcome.returncode != 0) == fails, outcome
    return outcome.stdout + outcome.stderr if fails else outcome.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with two rewards that were installed from their wheels, in C and in Python."""
    place = tmp_path_factory.mktemp("packaged")
    for name, language, file in [("bright", "c", "libbright.so"), ("sharp", "python", "sharp_reward.py")]:
        run("dag-reward", "new", name, "--language", language, cwd=place)
        if language == "c":
            run("make", cwd=place / name)
        (place / name / f"{file}.json").write_text(
            run("dag-reward", "info", f"./{file}" + (f",python={sys.executable}" if language == "python" else ""), "--json", cwd=place / name))
        run(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--wheel-dir", place, ".",
            cwd=place / name)  # fmt: skip
    wheels = sorted(place.glob("*.whl"))
    assert re.fullmatch(r"dag_reward_bright-1\.0\.0-py3-none-linux_\w+\.whl", wheels[0].name)
    assert wheels[1].name == "dag_reward_sharp-1.0.0-py3-none-any.whl"
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--target", place / "site", *wheels,
        cwd=place)  # fmt: skip
    return place / "site"


def test_they_are_listed_and_found(packages, tmp_path):
    found = {"PYTHONPATH": str(packages), "DAG_PYTHON": sys.executable}
    listed = re.sub(" +", " ", run("dag-reward", "list", cwd=tmp_path, **found))
    assert f"packages of {sys.executable}" in listed
    assert " bright bright 1.0.0: " in listed and "(dag-reward-bright 1.0.0)" in listed and " sharp sharp 1.0.0: " in listed
    places = json.loads(run("dag-reward", "list", "--json", "--python", sys.executable, cwd=tmp_path, PYTHONPATH=str(packages)))
    names = {reward["name"]: reward for reward in places[-1]["rewards"]}
    assert places[-1]["python"] == sys.executable and names["sharp"]["description"]["objectives"][0]["name"] == "sharp"
    assert names["bright"]["file"] == str(packages / "dag_reward_bright/libbright.so")
    for name in names:
        scores = run("dag-reward", "score", name, *IMAGES, cwd=tmp_path, **found)
        assert scores == run("dag-reward", "score", f"{name},python={sys.executable}", *IMAGES, cwd=tmp_path, PYTHONPATH=str(packages))
        assert len(re.findall(r" [\d.]+$", scores, re.M)) == 2
    checked = run("dag-reward", "check", "bright", "--only", "manifest", "--only", "exports", cwd=tmp_path, **found)
    assert "2 of 2 checks passed" in checked


def test_other_trainers_find_them(packages, tmp_path):
    """In dagcore, the packages are those of the Python that it runs in."""
    code = (
        "import dagcore, numpy\n"
        "images = numpy.stack([numpy.full((8, 8, 3), level, numpy.uint8) for level in (51, 204)])\n"
        "print(dagcore.load_reward('bright')(images))\n"
        "print(dagcore.load_reward('sharp').objectives)\n")
    printed = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=f"{packages}:{ROOT / 'python'}").splitlines()
    assert [round(score, 6) for score in json.loads(printed[0])] == [0.2, 0.8] and printed[1] == "{'sharp': 'maximize'}"


def test_wheels_of_other_names(tmp_path):
    """Names that contain the template's own, and a build that makes something else."""
    for language in ["c", "python"]:
        run("dag-reward", "new", "image_brightness", "--language", language, "--folder", language, cwd=tmp_path)
        text = "".join((tmp_path / language / name).read_text() for name in ("pyproject.toml", "hatch_build.py"))
        assert "image_image" not in text and text.count("dag_reward_image_brightness") == 2 and "@" not in text
    (tmp_path / "c/Makefile").write_text("all:\n\ttouch other\n")
    error = run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", ".", cwd=tmp_path / "c", fails=True)
    assert "libimage_brightness.so is missing: `make` made another file" in error


def test_packages_are_not_imported(packages, tmp_path):
    """Their code runs when a reward is used, not when it is looked for, nor does a module of the current folder."""
    for file in [packages / "dag_reward_bright/__init__.py", tmp_path / "json.py", tmp_path / "dag_reward_bright.py"]:
        file.write_text("raise SystemExit('imported')")
    try:
        found = {"PYTHONPATH": str(packages), "DAG_PYTHON": sys.executable}
        assert "bright 1.0.0" in re.sub(" +", " ", run("dag-reward", "list", cwd=tmp_path, **found))
        assert "words.png" in run("dag-reward", "score", "bright", *IMAGES, cwd=tmp_path, **found)
    finally:
        (packages / "dag_reward_bright/__init__.py").unlink()


@pytest.mark.parametrize(
    "points, files, part",
    [
        ("mine = nowhere", [], "reward mine of the package dag-broken 1: there is no module nowhere"),
        ("mine = broken.parts.mine", ["broken/parts/__init__.py"], "there is no module broken.parts.mine"),
        ("mine = broken", ["broken/__init__.py"], "the package broken has no libmine.so"),
        ("mine = broken.parts", ["broken/parts/libmine.txt"], "the package broken.parts has no libmine.so"),
        ("mine = broken.parts", ["broken/parts.txt"], "there is no module broken.parts"),
        ("mine = x y", [], "its entry point is x y, not a module's name alone"),
        ("mine = broken:score", ["broken/__init__.py"], "its entry point is broken:score, not a module's name alone"),
        ("other = broken", ["broken/__init__.py"], "no package of .* has it .*; there are other"),
        ("", [], "none has any reward"),
        ("mine = a", ["a.py"], "several packages of .* have one .dag-broken 1, dag-second 2."),
    ],
)  # fmt: skip
def test_packages_that_have_none(tmp_path, points, files, part):
    for name, version in [("broken", 1)] + [("second", 2)] * part.startswith("several"):
        info = tmp_path / f"site/dag_{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dag-{name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[dag_rewards]\n{points}\n")
    for file in files:
        (tmp_path / "site" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / file).write_text("")
    error = run("dag-reward", "info", f"mine,python={sys.executable}", cwd=tmp_path, fails=True, PYTHONPATH=str(tmp_path / "site"))
    assert re.search(part, error) and error.count("\n") == 1, error
    if not part.startswith("no"):
        assert "cannot be used" in run("dag-reward", "list", "--python", sys.executable, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))


def test_pythons_that_cannot_tell(tmp_path):
    (tmp_path / "old").write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    (tmp_path / "old").chmod(0o755)
    old = (tmp_path / "old", "which takes a Python 3.10 or later: no")
    for python, part in [("/no/python", "no such program"), old, (tmp_path, "a folder; name a Python")]:
        for command in [("info", f"mine,python={python}"), ("list", "--python", python)]:
            assert part in run("dag-reward", *command, cwd=tmp_path, fails=True)
    # Where none was named there may be none: the folders are searched all the same.
    assert "libwarmth.so" in run("dag-reward", "list", cwd=tmp_path, DAG_PYTHON="/no/python")
    assert "no libmine.so in " in run("dag-reward", "info", "mine", cwd=tmp_path, fails=True, DAG_PYTHON="/no/python")


def test_the_check_on_github(packages, tmp_path):
    summary = tmp_path / "summary.md"
    bright = packages / "dag_reward_bright/libbright.so"

    def check(reward, fails=False):
        said = run(sys.executable, ACTION / "check.py", reward, "badge.json", cwd=tmp_path, fails=fails, GITHUB_STEP_SUMMARY=str(summary))
        return json.loads((tmp_path / "badge.json").read_text()), said

    badge, said = check(bright)
    count = len(said.splitlines())
    assert badge == {"schemaVersion": 1, "label": "dag-reward check", "message": f"{count} of {count}", "color": "brightgreen"}
    assert summary.read_text().startswith(f"### {bright}: {count} of {count}") and "| pass | exports | " in summary.read_text()
    (tmp_path / "flat.py").write_text("def score(images, prompts, metadata):\n    return [1] * len(images)\n")
    assert check(f"./flat.py,python={sys.executable}")[0]["color"] == "yellow"
    # Where it is not the reward's own, it says how to mend that.
    shutil.copytree(bright.parent, tmp_path / "copy")
    description = tmp_path / "copy/libbright.so.json"
    description.write_text(description.read_text().replace("1.0.0", "0.9.0"))
    badge, said = check("./copy/libbright.so", fails=True)
    assert badge["message"] == f"{count - 1} of {count}" and badge["color"] == "red"
    run("bash", "-c", re.search("write it again: (.*)", said)[1], cwd=tmp_path)
    assert check("./copy/libbright.so")[0] == check(bright)[0]
    badge, said = check("./nowhere.so", fails=True)
    assert badge["message"] == "cannot be used" and badge["color"] == "red" and "./nowhere.so: no such file" in said


def test_the_badge_is_published(tmp_path):
    """The lines of the workflow in docs/packaging.md."""
    workflow = re.search(r"```yaml\n(.*?)```", (ROOT / "docs/packaging.md").read_text(), re.S)[1]
    script = re.search(r"run: \|\n(.*)", workflow, re.S)[1]
    commit = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "-m", "x"]
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "origin"], check=True)
    for text in ["one", "two"]:  # as on two runners
        clone = tmp_path / text
        subprocess.run(["git", "clone", "--quiet", tmp_path / "origin", clone], check=True, capture_output=True)
        (clone / "README.md").write_text("a reward")
        (clone / ".gitignore").write_text("*.json\n")
        for command in [["git", "checkout", "--quiet", "-B", "main"], ["git", "add", "."], commit]:
            subprocess.run(command, cwd=clone, check=True)
        (clone / "dag-reward.json").write_text(text)
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=clone, check=True, env=os.environ | {"HOME": str(tmp_path)})
        files = subprocess.run(["git", "ls-tree", "--name-only", "badges"], cwd=tmp_path / "origin", check=True, capture_output=True).stdout
        shown = subprocess.run(["git", "show", "badges:dag-reward.json"], cwd=tmp_path / "origin", check=True, capture_output=True).stdout
        assert files == b"dag-reward.json\n" and shown == text.encode()
