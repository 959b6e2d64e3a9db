"""Tables, plots and one HTML page of what study.py has run so far: python Benchmarks/Study/report.py runs/study"""
import base64
import csv
import html
import io
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(Path(__file__).parent), str(ROOT / "Plugins/CIFARClassifier"), str(ROOT / "scripts")]
import train_fashion_classifier as classifier
from study import EXPERIMENTS, LIKED, METHODS, lines, write

COLOURS = dict(zip(METHODS, plt.get_cmap("tab10").colors)) | {"base": "0.5", "target": "0", "ideal": "0.5"}
CLASSES = [classifier.ITEMS.index(name) for name in LIKED]


# --- What the classifiers say of images -----------------------------------------------------------------------------------------------

def network(path):
    net = classifier.ResNet(classifier.WIDTHS)
    net.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
    return net.eval()


@torch.no_grad()
def look(net, pictures):
    """Log-probabilities [n, 10] and the features before the last layer [n, 128] of images [n, 3, 32, 32] in [0, 1]."""
    features = []
    hook = net.fc.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    logits = torch.cat([net(classifier.normalised(part)) for part in pictures.split(256)])
    hook.remove()
    return logits.log_softmax(1).numpy(), torch.cat(features).numpy()


def load(folder):
    return torch.stack([torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1) / 255
                        for path in sorted(folder.glob("*.png"))])


def real(coloured):
    """Test images of the liked classes: gray, or in tiny-sd's colours."""
    v, y = classifier.fashion("t10k")
    v = v[torch.isin(y, torch.tensor(CLASSES))]
    return classifier.coloured(v, *classifier.palette_pair(len(v), torch.Generator().manual_seed(0))) if coloured else classifier.plain(v)


def frechet(a, b):
    """The Frechet distance of Gaussians with the moments of two sets of features (as FID, on the small classifier)."""
    (ma, ca), (mb, cb) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a, b))
    roots = np.linalg.eigvals(ca @ cb).real.clip(0) ** 0.5
    return float(((ma - mb) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * roots.sum())


def spread(features, classes):
    """Mean distance of two images of the same liked class, over these classes."""
    distances = []
    for c in CLASSES:
        x = torch.from_numpy(features[classes == c][:400])
        if len(x) > 1:
            distances.append(torch.pdist(x).mean().item())
    return float(np.mean(distances)) if distances else 0.0


def entropy(shares):
    p = np.asarray(shares) / max(1e-12, np.sum(shares))
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def measures(pictures, nets, reference):
    logs, features = look(nets[0], pictures)
    judged = look(nets[1], pictures)[0]
    best = logs.argmax(1)
    liked = lambda rows: float(np.log(np.exp(rows[:, CLASSES]).sum(1).clip(1e-30)).mean())
    shares = [float((best == c).mean()) for c in CLASSES]
    return {"reward": liked(logs), "held_out_reward": liked(judged), **dict(zip(LIKED, shares)), "other": 1 - sum(shares),
            "entropy": entropy(shares), "diversity": spread(features, best), "frechet": frechet(features, reference)}


# --- Curves -----------------------------------------------------------------------------------------------------------------------------

def curve(folder):
    """By epoch: trajectories before it, reward, held-out reward, diversity, distance to the base model."""
    epochs = {line["epoch"]: line for line in lines(folder)}
    before = [epochs[e]["trajectories"] - epochs[0]["trajectories"] for e in sorted(epochs)]
    keys = ["reward_mean", "reward/cifar_classifier#2/log_probability", "diversity", "base_kl"]
    return [[t, *(epochs[e][k] for k in keys)] for t, e in zip(before, sorted(epochs))]


def smooth(values):
    """Mean of three epochs."""
    return [float(np.mean(values[max(0, k - 1):k + 2])) for k in range(len(values))]


def reached(points, level):
    """Trajectories after which a smoothed curve is above a level; nothing if it never is."""
    xs, ys = [p[0] for p in points], smooth([p[1] for p in points])
    for k, y in enumerate(ys):
        if y >= level:
            return xs[k] if k == 0 else xs[k - 1] + (level - ys[k - 1]) / (y - ys[k - 1]) * (xs[k] - xs[k - 1])
    return None


# --- The page ---------------------------------------------------------------------------------------------------------------------------

class Page:
    def __init__(self, folder):
        self.folder, self.parts = folder, []

    def text(self, tag, text):
        self.parts.append(f"<{tag}>{html.escape(text)}</{tag}>")

    def table(self, header, rows, caption=""):
        row = lambda cells, tag: "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
        self.parts.append(f"<table><caption>{html.escape(caption)}</caption>{row(header, 'th')}{''.join(row(r, 'td') for r in rows)}</table>")

    def picture(self, data, caption=""):
        self.parts.append(f'<figure><img src="data:image/png;base64,{base64.b64encode(data).decode()}" alt="{html.escape(caption)}">'
                          f"<figcaption>{html.escape(caption)}</figcaption></figure>")

    def figure(self, figure, name, caption=""):
        path = self.folder / f"{name}.png"
        figure.tight_layout()
        figure.savefig(path, dpi=110, bbox_inches="tight")
        plt.close(figure)
        self.picture(path.read_bytes(), caption)

    def row(self, items):
        self.parts.append('<div class="row">')
        for data, caption in items:
            self.picture(data, caption)
        self.parts.append("</div>")

    def save(self):
        style = """body{font:16px/1.5 system-ui,sans-serif;max-width:1150px;margin:2em auto;padding:0 1em;color:#222}
            table{border-collapse:collapse;margin:1em 0}caption{text-align:left;color:#666;padding:.3em 0}th,td{padding:.25em .8em;text-align:right;border-bottom:1px solid #ddd}
            th:first-child,td:first-child{text-align:left}figure{margin:.5em 0}img{max-width:100%}figcaption{color:#555}.row{display:flex;flex-wrap:wrap;gap:1em}"""
        (self.folder / "report.html").write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>DAG: study</title><style>{style}</style>{"".join(self.parts)}</html>')


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def grid(pictures, columns=10, scale=2):
    """Pictures [n, 3, h, w], side by side."""
    rows = len(pictures) // columns
    n, c, h, w = pictures.shape
    sheet = (pictures[:rows * columns] * 255).round().byte().reshape(rows, columns, c, h, w).permute(0, 3, 1, 4, 2).reshape(rows * h, columns * w, c)
    return Image.fromarray(sheet.numpy()).resize((columns * w * scale, rows * h * scale), Image.NEAREST)


def mean_and_spread(values, digits=2):
    values = [v for v in values if v is not None]
    if not values:
        return "-"
    text = f"{np.mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {np.std(values, ddof=1):.{digits}f}"


def density_part(page, folder):
    tables = sorted(folder.glob("density/*.csv"))
    if not tables:
        return
    rows = {}
    for path in tables:
        for row in csv.DictReader(open(path)):
            name = row["algorithm"] + ("-anchored" if row["target"] == "anchored" else "")
            rows.setdefault(name, {}).setdefault(int(row["seed"]), []).append(row)
    flat = {(name, seed, row["epoch"]): row for name, seeds in rows.items() for seed, runs in seeds.items() for row in runs}
    write(folder / "density.csv", list(next(iter(flat.values()))), [list(row.values()) for row in flat.values()])
    page.text("h2", "A world whose target is known")
    page.text("p", "A diffusion on a line, whose pretrained model has three equal modes; the target exp(β s) / Z is computed by quadrature. The trainer is the one of every run.")
    centres = np.linspace(-1, 1, 33)[:-1] + 1 / 32
    histogram = lambda row: np.array([float(row[f"cell_{k}"]) for k in range(32)]) * 16
    methods = [m for m in METHODS if m in rows]
    for suffix in ("", "-anchored"):
        these = [m for m in methods if m.endswith("-anchored") == bool(suffix)]
        if not these:
            continue
        figure, axes = plt.subplots(1, 2, figsize=(12, 4))
        axes[0].fill_between(centres, histogram(rows["target" + suffix][0][0]), step="mid", color="0.85", label="target, exact")
        first = rows[these[0]][min(rows[these[0]])][0]
        axes[0].step(centres, histogram(first), where="mid", color="0.4", ls=":", label="before training")
        for m in these:
            last = np.mean([histogram(runs[-1]) for runs in rows[m].values()], axis=0)
            axes[0].step(centres, last, where="mid", color=COLOURS[m], label=m)
            curves = [[float(r["total_variation"]) for r in runs] for runs in rows[m].values()]
            xs, (low, middle, high) = [int(r["trajectories"]) for r in next(iter(rows[m].values()))], (f(curves, axis=0) for f in (np.min, np.mean, np.max))
            axes[1].plot(xs, middle, color=COLOURS[m], label=m)
            axes[1].fill_between(xs, low, high, color=COLOURS[m], alpha=0.2, lw=0)
        if not suffix:
            axes[1].axhline(float(rows["ideal"][0][0]["total_variation"]), color="0.5", ls="--", label="the target's own diffusion")
        axes[0].set(xlabel="x", ylabel="density", ylim=(0, None)), axes[1].set(xlabel="trajectories", ylabel="total variation to the target", ylim=(0, None))
        axes[0].legend(fontsize=8), axes[1].legend(fontsize=8)
        page.figure(figure, "density" + suffix, "Target: " + ("p_base exp(β s)" if suffix else "exp(β s)") + ". Left: after training, mean over seeds. Right: on the way, with the range over seeds.")
        shares = lambda row: " ".join(f"{float(row[f'share_{k}']):.2f}" for k in range(3))
        table = [["target", "0", shares(rows["target" + suffix][0][0])], ["before training", f"{float(first['total_variation']):.3f}", shares(first)]]
        if not suffix:
            table.insert(1, ["the target's own diffusion", f"{float(rows['ideal'][0][0]['total_variation']):.3f}", shares(rows["ideal"][0][0])])
        for m in these:
            final = [runs[-1] for runs in rows[m].values()]
            means = {f"share_{k}": np.mean([float(r[f"share_{k}"]) for r in final]) for k in range(3)}
            table.append([m, mean_and_spread([float(r["total_variation"]) for r in final], 3), shares(means)])
        page.table(["", "total variation", "shares of the modes"], table)


def experiment_part(page, folder, experiment, nets):
    runs = {}
    for path in sorted((folder / experiment.name).glob("*-*/pictures")):
        method, seed = path.parent.name.rsplit("-", 1)
        runs.setdefault(method, {})[int(seed)] = path.parent
    runs = {m: runs[m] for m in METHODS if m in runs}
    if not runs:
        return [], []
    reference = look(nets[0], real(coloured=experiment.prompts is not None))[1]
    base = load(folder / experiment.name / "base")
    results, curves, rows = [], [], {}
    for method, seeds in runs.items():
        for seed, path in seeds.items():
            found = cached(path / "measures.json", lambda: measures(load(path / "pictures"), nets, reference))
            rows.setdefault(method, []).append(found | {"base_kl": lines(path)[-1]["base_kl"]})
            results.append([experiment.name, method, seed, *rows[method][-1].values()])
            curves += [[experiment.name, method, seed, *point] for point in curve(path)]
    untrained = cached(folder / experiment.name / "base.json", lambda: measures(base, nets, reference)) | {"base_kl": 0.0}
    results.insert(0, [experiment.name, "base", 0, *untrained.values()])

    page.text("h2", {"pixels": "The CIFAR-10 experiment's twin: a pixel-space DDPM of clothes", "text": "A text-to-image model with open prompts"}[experiment.name])
    page.text("p", f"Reward: log P({' or '.join(LIKED)}) of a classifier. All methods train on the same number of trajectories; {len(next(iter(runs.values())))} seeds.")
    figure, axes = plt.subplots(1, 3, figsize=(15, 4))
    points = {m: {s: curve(p) for s, p in seeds.items()} for m, seeds in runs.items()}
    for m, seeds in points.items():
        for axis, place in zip(axes, (1, 3, 4)):
            ys = np.array([smooth([p[place] for p in c]) for c in seeds.values()])
            xs = [p[0] for p in next(iter(seeds.values()))]
            axis.plot(xs, ys.mean(0), color=COLOURS[m], label=m)
            axis.fill_between(xs, ys.min(0), ys.max(0), color=COLOURS[m], alpha=0.2, lw=0)
    for axis, name in zip(axes, ("reward", "diversity of pictures", "KL to the base model, nats")):
        axis.set(xlabel="trajectories", ylabel=name)
    axes[2].set_yscale("symlog", linthresh=1)
    axes[0].legend(fontsize=8)
    page.figure(figure, f"{experiment.name}-curves", "Means of three epochs; the range over seeds.")

    level = np.mean([np.mean([p[1] for p in c[-3:]]) for c in points["ddpo"].values()]) if "ddpo" in points else None
    total = max(p[0] for c in points.values() for s in c.values() for p in s)
    header = ["", "reward", "held-out classifier", *LIKED, "other", "entropy", "diversity", "Fréchet", "KL to base"]
    keys = ["reward", "held_out_reward", *LIKED, "other", "entropy", "diversity", "frechet", "base_kl"]
    digits = dict(zip(keys, [2, 2, *[2] * 4, 2, 2, 2, 1, 0]))
    table = [["base", *(f"{untrained[k]:.{digits[k]}f}" for k in keys)]]
    for m in runs:
        table.append([m, *(mean_and_spread([row[k] for row in rows[m]], digits[k]) for k in keys)])
    page.table(header, table, "After training, on images of fixed seeds. Entropy over the liked classes, at most 1.39. Diversity: distance of two images of a class in "
               "the classifier's features. Fréchet: distance to real pictures of the liked classes in these features.")
    if level is not None:
        page.table(["", f"trajectories to DDPO's final reward ({level:.2f})"],
                   [[m, mean_and_spread([reached(c, level) for c in points[m].values()], 0)
                     + ("" if all(reached(c, level) is not None for c in points[m].values()) else f" (not within {total} with some seeds)")] for m in runs])
    items = [(png(grid(order(base, experiment)))), *[png(grid(order(load(next(iter(s.values())) / "pictures"), experiment))) for s in runs.values()]]
    page.row(list(zip(items, ["base", *runs])))
    figure, axis = plt.subplots(figsize=(10, 3.5))
    names = ["base", *runs]
    bottom = np.zeros(len(names))
    for k, name in enumerate([*LIKED, "other"]):
        heights = np.array([untrained[name], *[np.mean([row[name] for row in rows[m]]) for m in runs]])
        axis.bar(names, heights, bottom=bottom, label=name, color=plt.get_cmap("Set2")(k) if name != "other" else "0.85")
        bottom += heights
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)), axis.set_ylabel("share"), axis.tick_params(axis="x", rotation=20)
    page.figure(figure, f"{experiment.name}-classes", "Shares of the classes after training, means over seeds.")
    return results, curves


def order(pictures, experiment):
    """For a grid of 60: the first ones, or some of each prompt."""
    if experiment.prompts is None:
        return pictures[:60]
    each = experiment.pictures
    return torch.cat([pictures[k * each:k * each + 10] for k in (0, 1, 3, 9, 11, 16)])


def cached(path, make):
    if not path.exists():
        path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


def report(folder):
    torch.set_num_threads(1)
    page = Page(folder)
    page.text("h1", "DAG: is it right, and is it better?")
    density_part(page, folder)
    results, curves = [], []
    if (folder / "judge.safetensors").exists():
        nets = network(ROOT / "Plugins/CIFARClassifier/weights/fashion_mnist.safetensors"), network(folder / "judge.safetensors")
        for experiment in EXPERIMENTS:
            more = experiment_part(page, folder, experiment, nets)
            results, curves = results + more[0], curves + more[1]
        write(folder / "results.csv", ["experiment", "method", "seed", "reward", "held_out_reward", *LIKED, "other", "entropy", "diversity", "frechet", "base_kl"], results)
        write(folder / "curves.csv", ["experiment", "method", "seed", "trajectories", "reward", "held_out_reward", "diversity", "base_kl"], curves)
    if (folder / "memory.csv").exists():
        page.text("h2", "Memory")
        table = list(csv.reader(open(folder / "memory.csv")))
        page.table(["algorithm", "graph", "steps", "peak, MB"], table[1:], "Peak memory of dag-train on tiny-sd, 8 trajectories, fp32.")
    page.save()
    print(f"report: {folder / 'report.html'}", flush=True)


if __name__ == "__main__":
    report(Path(sys.argv[1]).resolve())
