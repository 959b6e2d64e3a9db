"""The page of a run, as Chromium draws it, and its event files, as TensorBoard reads them.

    DAG_BIN=.build/release DAG_RUN=<output folder of a short training> pytest Tests/python/test_report.py
"""
import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

BIN = Path(os.environ["DAG_BIN"]).resolve()
RUN = Path(os.environ["DAG_RUN"]).resolve()
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)


def report(*arguments):
    return subprocess.run([BIN / "dag-report", *map(str, arguments)], capture_output=True, text=True, check=False)


def drawn(page, tmp_path, anchor="", script=""):
    """The page's elements once its own program, and then `script`, have run."""
    assert CHROMIUM, "there is no chromium; scripts/setup.sh --python installs it"
    copy = tmp_path / "shown.html"
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}/chromium",
         "--virtual-time-budget=2000", "--dump-dom", f"file://{copy}{anchor}"],
        capture_output=True, text=True, check=True, timeout=120)
    return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.fixture
def run(tmp_path):
    """A copy of the short training."""
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def test_page_of_a_run(run, tmp_path):
    """Training has made the page; it needs no other file."""
    dom = drawn(run / "report.html", tmp_path)
    assert not re.search(r"(src|href)=|@import|url\((?!&quot;data:)", dom)
    keys = re.findall(r'class="chart" data-key="([^"]+)"', dom)
    last = metrics(run)[-1]
    unseen = {"epoch", "step", "reward_std", "trajectories", "dropped", "dropped_transitions", "imputed"}
    assert sorted(keys) == sorted(set(last) - unseen)
    prompts = [json.loads(line) for line in (run / "samples/prompts.jsonl").read_text().splitlines()]
    assert re.findall(r"<figcaption>(.*?)</figcaption>", dom) == [line["prompt"] for line in prompts] and len(prompts) == 16
    assert len({line["seed"] for line in prompts}) == 16
    assert dom.count('class="tile"') == 32 and dom.count("data:image/jpeg;base64,") == 32
    assert "after epoch 2" in dom and "all 2 epochs done" in dom
    readout = re.search(r'data-key="base_kl".*?aria-live="polite"><span>(.*?) </span>at epoch 1<', dom)
    assert readout and float(readout[1]) == pytest.approx(last["base_kl"], rel=1e-3)


def test_images_of_an_epoch(run, tmp_path):
    """The images are those of the sheet whose epoch is chosen: here one that is red."""
    before = Image.open(run / "samples/epoch-0.png")
    Image.new("RGB", before.size, (250, 0, 0)).save(run / "samples/epoch-1.png")
    assert report(run).stdout.strip() == str(run / "report.html")
    dom = drawn(run / "report.html", tmp_path, anchor="#epoch=1")
    assert "after epoch 1" in dom
    pictures = re.findall(r"data:image/jpeg;base64,([^&\"]+)", dom)
    shown = [Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB") for picture in pictures[:2]]
    assert min(shown[1].getpixel((5, 5))[0], 240) == 240 and max(shown[1].getpixel((70, 70))[1:]) < 20
    sheet = before.convert("RGB").crop((2, 2, 98, 98))
    difference = [abs(a - b) for a, b in zip(sheet.tobytes(), shown[0].crop((0, 0, 96, 96)).tobytes(), strict=True)]
    assert sum(difference) / len(difference) < 6


def test_keyboard(run, tmp_path):
    """Arrow keys read a chart's values, and choose the epoch."""
    script = """
        document.querySelector('[data-key=loss] svg').dispatchEvent(new KeyboardEvent('keydown', { key: 'Home' }));
        const slider = document.querySelector('input[type=range]'); slider.value = 0; slider.dispatchEvent(new Event('input'));
        """
    dom = drawn(run / "report.html", tmp_path, script=script)
    first = metrics(run)[0]["loss"]
    chart = dom[dom.index('data-key="loss"'):]
    shown = re.search(r'aria-live="polite"><span>(.*?) </span>at epoch 0<', chart)
    assert shown and float(shown[1]) == pytest.approx(first, rel=1e-3)
    assert "after epoch 0" in dom


def test_several_runs(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "other run"))
    settings = other / "config.yaml"
    settings.write_text(re.sub(r"^beta: .*", "beta: 7", settings.read_text(), flags=re.MULTILINE))
    output = tmp_path / "both.html"
    assert "--output is missing" in report(run, other).stderr
    assert report(run, other, "--output", output).returncode == 0
    dom = drawn(output, tmp_path)
    assert "<title>run, other run - dag-train</title>" in dom
    assert f"dag-train --resume '{other}'" in dom
    assert dom.count('class="tile"') == 48
    chart = dom[dom.index('data-key="reward_mean"'):dom.index('data-key="diversity"')]
    assert chart.count('class="curve"') == 2
    different = dom[dom.index("Those in which the runs differ"):dom.index("All settings")]
    assert re.findall(r'<th scope="row">(.*?)</th>', different) == ["beta"] and ">7<" in different


def test_texts_are_texts(run, tmp_path):
    """Nothing that a run's files say is taken for the page's own."""
    hostile = "</script><img src=x onerror=\"document.title='taken'\"><!--<script>"
    prompts = run / "samples/prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": hostile, "seed": 1}) + "\n" for _ in range(16)))
    with (run / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps({"epoch": 1, "warning": hostile}) + "\n")
    assert report(run).returncode == 0
    dom = drawn(run / "report.html", tmp_path)
    assert "<title>run - dag-train</title>" in dom
    assert dom.count(html.escape(hostile, quote=False)) == 17


def test_what_cannot_be_shown_is_said(run, tmp_path):
    (run / "samples/epoch-1.png").write_bytes(b"no picture")
    (run / "samples/prompts.jsonl").write_text("{")
    with (run / "metrics.jsonl").open("a") as lines:
        lines.write('{"epoch":2,"loss"\n')
    assert report(run).returncode == 0
    dom = drawn(run / "report.html", tmp_path)
    warnings = re.findall(r'<p class="warning">(.*?)</p>', dom)
    assert any("epoch-1.png: neither a PNG nor a JPEG file" in line for line in warnings)
    assert any("prompts.jsonl" in line for line in warnings)
    assert "1 lines of metrics.jsonl are no JSON and are left out" in warnings
    (run / "evaluation").mkdir()
    numbers = {"mode/red": {"value": 0.25, "standard_error": 0.01}, "reward": {"value": 0.5, "standard_error": 0.02}}
    evaluation = {"base": numbers, "reference": [{**numbers, "beta": 50, "is_reliable": True}], "lora": numbers, "warnings": ["too few"]}
    (run / "evaluation/evaluation.json").write_text(json.dumps(evaluation))
    assert report(run).returncode == 0
    dom = drawn(run / "report.html", tmp_path)
    assert "exact, beta 50" in dom and "0.25 ± 0.01" in dom and '<p class="warning">too few</p>' in dom


def test_other_prompts(run, tmp_path):
    """Images of other prompts have rows and captions of their own, and the first sheet is called what it is."""
    other = Path(shutil.copytree(run, tmp_path / "other"))
    (other / "samples/epoch-0.png").unlink()
    (other / "samples/prompts.jsonl").write_text("".join(json.dumps({"prompt": f"a fox {k}", "seed": k}) + "\n" for k in range(16)))
    Image.new("RGB", Image.open(other / "samples/epoch-2.png").size).save(other / "samples/epoch-1.png")
    assert report(run, other, "--output", tmp_path / "both.html").returncode == 0
    dom = drawn(tmp_path / "both.html", tmp_path)
    assert dom.count('class="tile"') == 64 and dom.count(", before training") == 16 and dom.count(", after epoch 1") == 16
    assert re.findall(r"<figcaption>(a fox .*?)</figcaption>", dom) == [f"a fox {k}" for k in range(16)]


def test_awkward_numbers(run, tmp_path):
    """Curves that are flat but for rounding, have gaps, or end within an epoch; sections with files that make no sense."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    for k, line in enumerate(steps):
        line.update(reward_mean=0.7 + (k % 2) * 1.2e-16, reward_std=0, diversity=None, base_kl=0 if k else 5e-324, loss=1e300 * (-1) ** k)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps[:-1]))
    (run / "evaluation").mkdir()
    (run / "evaluation/evaluation.json").write_text("{}")
    assert report(run).returncode == 0
    dom = drawn(run / "report.html", tmp_path)
    assert "1 of 2 epochs" in dom and "dag-train --resume" in dom
    assert 'data-key="loss"' in dom and 'data-key="diversity"' not in dom and "evaluation.json cannot be shown" in dom
    (run / "metrics.jsonl").unlink()
    assert report(run).returncode == 0
    assert "No optimiser step has been made yet." in drawn(run / "report.html", tmp_path)


def test_folders_without_a_run(tmp_path):
    refused = report(tmp_path)
    assert refused.returncode == 2 and refused.stderr == f"dag-report: {tmp_path}: no run there (config.yaml is missing)\n"
    refused = report(RUN, "--output", tmp_path / "no/page.html")
    assert refused.returncode == 1 and "no/page.html: cannot be written" in refused.stderr


def test_event_files(run):
    """What TensorBoard shows is what metrics.jsonl says, also where a run went on from an older state."""
    def events():
        unlimited = {"scalars": 0, "images": 0, "tensors": 0}
        return EventAccumulator(str(run / "tensorboard"), size_guidance=unlimited).Reload()

    def expect_metrics():
        read, lines = events(), metrics(run)
        for tag, key in [("train/loss", "loss"), ("train/base_kl", "base_kl"), ("train/trajectories", "trajectories")]:
            assert [scalar.step for scalar in read.Scalars(tag)] == [line["step"] + 1 for line in lines]
            assert [scalar.value for scalar in read.Scalars(tag)] == pytest.approx([line[key] for line in lines], rel=1e-6)
        rewards = {key for key in lines[0] if key.startswith("reward/")}
        assert rewards and rewards <= set(read.Tags()["scalars"])
        return read, lines

    read, lines = expect_metrics()
    updates = len(lines) // 2
    assert [image.step for image in read.Images("samples")] == [0, 2 * updates]
    sheet = Image.open(io.BytesIO(read.Images("samples")[-1].encoded_image_string))
    assert sheet.size == (read.Images("samples")[-1].width, read.Images("samples")[-1].height)
    assert b"| beta |" in read.Tensors("settings")[0].tensor_proto.string_val[0]

    # A run that was killed within the second epoch goes on from the first one's checkpoint: the later steps are there once.
    (run / "checkpoints" / sorted(path.name for path in (run / "checkpoints").iterdir())[-1]).unlink()
    subprocess.run([BIN / "dag-train", "--resume", run, "--epochs", "3"], cwd=Path(__file__).parents[2], check=True, capture_output=True)
    assert len(list((run / "tensorboard").iterdir())) == 2
    read, lines = expect_metrics()
    assert [image.step for image in read.Images("samples")] == [0, 3 * updates]
    assert "all 3 epochs done" in drawn(run / "report.html", run)
