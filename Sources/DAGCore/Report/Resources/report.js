"use strict";
// Draws the page of one run, or of several side by side, from the data beside it. See RunPage.swift.

// --- Reading ---------------------------------------------------------------------------------------------------------

/** What the keys of metrics.jsonl mean; docs/algorithms/README.md says more. */
const meanings = {
  reward_mean: "score of the epoch's images, and its standard deviation; circles: fixed prompts and seeds",
  diversity: "how much images of the same prompt differ, 0 to 1",
  base_kl: "distance of the policy to the pretrained model, nats a trajectory",
  loss: "mean of a transition",
  squared_residual: "how far a transition is from balance",
  regularization: "squared distance to the rollout's U-Net output",
  effective_share: "share of the replay buffer that counts",
  flow_gradient_scale: "factor of the flow's gradient",
  policy_scale: "factor of the LoRA after its last step",
  flow_gradient: "mean square of what the flow's gradient asks for",
  clip_fraction: "share of importance ratios outside the clip range",
  base_kl_term: "KL divergence of a step from the pretrained model",
  ratio_deviation: "largest |ratio - 1| within the epoch",
  policy_grad_norm: "of the LoRA, before clipping",
  flow_grad_norm: "of the state flow, before clipping",
  beta: "factor of the score in the target",
  dropped: "trajectories without a score",
  dropped_transitions: "transitions without a score",
  imputed: "scores that were assumed",
  transitions_per_second: "trained, sampling included",
  scoring_share: "share of the time in which training waited for rewards",
};
/** Keys that are the same for all optimiser steps of an epoch. */
const isOfEpoch = (key) =>
  ["reward_mean", "diversity", "base_kl", "beta", "dropped"].includes(key) || key.startsWith("reward/");
const axes = {
  epoch: { label: "epoch", of: (line) => line.epoch + line.part },
  step: { label: "optimiser step", of: (line) => line.step },
  trajectories: { label: "images sampled", of: (line) => line.trajectories },
};

/** Adds to a run of the page: lines of optimiser steps, evaluations and warnings, and lines that are no JSON. */
function read(run, place) {
  const lines = [];
  let broken = 0;
  for (const text of run.metrics.split("\n").filter((line) => line.trim())) {
    try {
      lines.push(JSON.parse(text));
    } catch {
      broken += 1;
    }
  }
  run.color = `var(--run-${place % 8})`;
  run.steps = lines.filter((line) => "loss" in line);
  run.evaluations = lines.filter((line) => "evaluation_samples" in line);
  run.warnings = [...new Set(lines.filter((line) => "warning" in line).map((line) => line.warning))];
  if (broken) run.problems.push(`${broken} lines of metrics.jsonl are no JSON and are left out`);
  const last = run.steps.at(-1);
  const isEpochDone = last && (last.step + 1) % run.updates === 0;
  run.done = last ? last.epoch + (isEpochDone ? 1 : 0) : 0;
  // The part of its epoch that was done before a step.
  for (let k = 0; k < run.steps.length; ) {
    const next = run.steps.findIndex((line, place) => place > k && line.epoch !== run.steps[k].epoch);
    const end = next < 0 ? run.steps.length : next;
    for (let place = k; place < end; place += 1) run.steps[place].part = (place - k) / (end - k);
    k = end;
  }
  for (const line of run.evaluations) {
    const previous = run.steps.findLast((step) => step.epoch < line.epoch);
    line.part = 0;
    line.step = previous ? previous.step + 1 : 0;
    line.trajectories = previous ? previous.trajectories : 0;
  }
  if (run.evaluation !== undefined) {
    try {
      run.evaluation = JSON.parse(run.evaluation);
    } catch {
      run.problems.push("evaluation/evaluation.json is no JSON");
      delete run.evaluation;
    }
  }
}

// --- Elements --------------------------------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const isDrawing = ["svg", "path", "line", "text", "circle", "polygon", "g"].includes(tag);
  const node = isDrawing ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "color") node.style.setProperty("--color", value);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== ""));
  return node;
}

function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "-";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

const swatch = (run) => element("span", { class: "swatch", color: run.color });
const legend = (runs) => element("p", { class: "legend" }, runs.map((run) => element("span", {}, swatch(run), run.name)));

// --- Charts ----------------------------------------------------------------------------------------------------------

const size = { width: 420, height: 210, left: 52, right: 10, top: 8, bottom: 26 };

/** Round numbers from low to high, about `count`. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const result = [];
  const first = Math.ceil(low / step - 1e-9);
  for (let k = 0; k <= 2 * count && (first + k) * step <= high + step * 1e-9; k += 1) result.push((first + k) * step);
  return result;
}

/** Powers of ten, thinned to about `count`, of a logarithmic axis. */
function powers(low, high, count) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first < 1) return [low, Math.sqrt(low * high), high];
  const each = Math.max(1, Math.ceil((last - first) / count));
  return Array.from({ length: Math.floor((last - first) / each) + 1 }, (_, k) => 10 ** (first + k * each));
}

/**
 * A chart of one key: a curve for each run that has it.
 * Curves: [{run, points: [{x, y, spread}], dots: [{x, y}]}], y finite.
 */
function chart(key, curves, axis) {
  const all = curves.flatMap((curve) => [...curve.points, ...curve.dots]);
  const values = all.flatMap((point) => [point.y - (point.spread || 0), point.y + (point.spread || 0)]);
  let low = Math.min(...values);
  let high = Math.max(...values);
  const positive = all.map((point) => point.y);
  const isLogarithmic =
    /loss|residual|norm|kl|deviation/.test(key) && Math.min(...positive) > 0 && Math.max(...positive) / Math.min(...positive) > 100;
  if (!isLogarithmic) {
    // Of values that differ by rounding alone no axis could be drawn.
    const isFlat = high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high));
    const margin = isFlat ? 0.1 * Math.abs(high) || 1 : (high - low) * 0.06;
    low = low >= 0 && low - margin < 0 ? 0 : low - margin;
    high += margin;
  }
  const scale = isLogarithmic ? Math.log10 : (value) => value;
  const start = Math.min(...all.map((point) => point.x));
  const end = Math.max(start + 1e-9, ...all.map((point) => point.x));
  const x = (value) => size.left + ((value - start) / (end - start)) * (size.width - size.left - size.right);
  const bottom = size.height - size.bottom;
  const y = (value) => bottom - ((scale(value) - scale(low)) / (scale(high) - scale(low))) * (bottom - size.top);
  const place = (point, value) => `${x(point.x).toFixed(1)},${y(value).toFixed(1)}`;

  const svg = element("svg", {
    viewBox: `0 0 ${size.width} ${size.height}`, tabindex: 0, role: "img",
    "aria-label": `${key} over ${axis.label}; left and right arrow keys read values`,
  });
  for (const tick of isLogarithmic ? powers(low, high, 4) : ticks(low, high, 4)) {
    svg.append(
      element("line", { class: "grid", x1: size.left, x2: size.width - size.right, y1: y(tick), y2: y(tick) }),
      element("text", { x: size.left - 5, y: y(tick) + 4, "text-anchor": "end" }, number(tick)));
  }
  for (const tick of ticks(start, end, 5)) {
    if (tick !== Math.round(tick)) continue;
    svg.append(element("text", { x: x(tick), y: size.height - 8, "text-anchor": "middle" }, number(tick)));
  }
  for (const { run, points, dots } of curves) {
    if (points.some((point) => point.spread)) {
      const upper = points.map((point) => place(point, point.y + (point.spread || 0)));
      const lower = points.map((point) => place(point, point.y - (point.spread || 0))).reverse();
      svg.append(element("polygon", { class: "spread", color: run.color, points: [...upper, ...lower].join(" ") }));
    }
    const path = points.map((point, k) => (k ? "L" : "M") + place(point, point.y)).join("");
    svg.append(element("path", { class: "curve", color: run.color, d: path }));
    const isSparse = points.length < 2 ? points : [];
    for (const point of [...dots, ...isSparse])
      svg.append(element("circle", { class: "dot", color: run.color, cx: x(point.x), cy: y(point.y), r: 4 }));
  }

  const cursor = element("line", { class: "cursor", y1: size.top, y2: bottom, visibility: "hidden" });
  svg.append(cursor);
  const readout = element("p", { class: "quiet readout", "aria-live": "polite" });
  const places = [...new Set(curves.flatMap((curve) => curve.points.map((point) => point.x)))].sort((a, b) => a - b);
  let current = places.length - 1;
  function show(isCursor) {
    const at = places[current];
    const texts = curves.map(({ run, points }) => {
      const point = points.findLast((candidate) => candidate.x <= at + 1e-9);
      if (!point) return undefined;
      const spread = point.spread ? ` ± ${number(point.spread)}` : "";
      return element("span", {}, curves.length > 1 ? swatch(run) : "", `${number(point.y)}${spread} `);
    });
    readout.replaceChildren(...texts.filter(Boolean), `at ${axis.label} ${number(at)}`);
    cursor.setAttribute("visibility", isCursor ? "visible" : "hidden");
    cursor.setAttribute("x1", x(at));
    cursor.setAttribute("x2", x(at));
  }
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const wanted = ((event.clientX - box.left) / box.width) * size.width;
    current = places.reduce((best, at, k) => (Math.abs(x(at) - wanted) < Math.abs(x(places[best]) - wanted) ? k : best), 0);
    show(true);
  });
  svg.addEventListener("pointerleave", () => show(false));
  svg.addEventListener("blur", () => show(false));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -places.length, End: places.length }[event.key];
    if (!step) return;
    event.preventDefault();
    current = Math.min(places.length - 1, Math.max(0, current + step));
    show(true);
  });
  show(false);
  const note = [meanings[key], isLogarithmic ? "logarithmic" : ""].filter(Boolean).join("; ");
  return element(
    "div", { class: "chart", "data-key": key }, element("h3", {}, key), element("p", { class: "quiet" }, note), svg, readout);
}

/** The curve of a key in a run; undefined if the run does not have it. */
function curve(run, key, axis) {
  let lines = run.steps.filter((line) => Number.isFinite(line[key]));
  if (isOfEpoch(key)) lines = lines.filter((line, k) => k === 0 || lines[k - 1].epoch !== line.epoch);
  const points = lines.map((line) => ({
    x: axis.of(line), y: line[key], spread: key === "reward_mean" ? line.reward_std : 0,
  }));
  const evaluationKey =
    key === "reward_mean" ? "evaluation_reward_mean" : key.startsWith("reward/") ? key.replace("reward/", "evaluation/") : undefined;
  const dots = run.evaluations
    .filter((line) => Number.isFinite(line[evaluationKey]))
    .map((line) => ({ x: axis.of(line), y: line[evaluationKey] }));
  return points.length ? { run, points, dots } : undefined;
}

function charts(runs, keys, axis) {
  const drawn = keys.map((key) => {
    const curves = runs.map((run) => curve(run, key, axis)).filter(Boolean);
    return curves.length ? chart(key, curves, axis) : undefined;
  });
  return element("div", { class: "charts" }, drawn);
}

// --- Sections --------------------------------------------------------------------------------------------------------

function heading(page) {
  const { runs } = page;
  const title = runs.map((run) => run.name).join(", ");
  document.title = `${title} - dag-train`;
  const parts = [element("h1", {}, title)];
  for (const run of runs) {
    const last = run.done < run.epochs ? `${run.done} of ${run.epochs} epochs` : `all ${run.epochs} epochs done`;
    parts.push(
      element("p", {}, runs.length > 1 ? swatch(run) : "", runs.length > 1 ? `${run.name}: ` : "", `${run.algorithm} on ${run.model}, ${last}`),
      element("p", { class: "quiet" }, run.done < run.epochs ? "Go on: " : "Train on: ",
        element("code", {}, run.resume + (run.done < run.epochs ? "" : ` --epochs ${2 * run.epochs}`))));
  }
  return parts;
}

/** What a reader wants first: scores on fixed prompts and seeds before and after, else of the first and newest epoch. */
function figures(run) {
  const last = run.steps.at(-1);
  const first = run.steps[0];
  if (!last) return [];
  const card = (label, before, after, note) =>
    element("div", { class: "figure" }, element("span", { class: "quiet" }, label),
      element("b", {}, before === undefined ? number(after) : `${number(before)} → ${number(after)}`), element("span", { class: "quiet" }, note));
  const [old, now] = [run.evaluations[0], run.evaluations.at(-1)];
  const reward =
    now && now !== old
      ? card("reward", old.evaluation_reward_mean, now.evaluation_reward_mean, `${now.evaluation_samples} fixed prompts and seeds`)
      : card("reward", first.reward_mean, last.reward_mean, "first and newest epoch");
  return [
    reward, card("diversity", first.diversity, last.diversity, "first and newest epoch"),
    card("base_kl", undefined, last.base_kl, "nats from the pretrained model"),
    card("images sampled", undefined, last.trajectories, `${last.step + 1} optimiser steps`),
  ];
}

/** Runs whose sheets show the same prompts and seeds, together. */
function comparable(runs) {
  const groups = new Map();
  for (const run of runs.filter((candidate) => candidate.samples)) {
    const seed = run.settings.flatMap((group) => group.settings).find((setting) => setting.key === "seed")?.value;
    const key = JSON.stringify([run.model, run.samples.prompts, seed]);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()];
}

function images(runs, isOnly) {
  const epochs = [...new Set(runs.flatMap((run) => run.samples.sheets.map((sheet) => sheet.epoch)))].sort((a, b) => a - b);
  const url = (run, sheet) => (sheet.url ??= `url(data:image/jpeg;base64,${sheet.jpeg})`);
  const { samples } = runs[0];
  const earliest = samples.sheets[0].epoch;
  const before = earliest === 0 ? "before training" : `after epoch ${earliest}`;
  const rows = Math.ceil(samples.count / samples.columns);
  const tile = (run, label, k) =>
    element("div", { class: "tile", color: run ? run.color : "var(--quiet)", role: "img", "aria-label": label, "data-tile": k });
  const groups = Array.from({ length: samples.count }, (_, k) => {
    const prompt = samples.prompts[k] ?? "";
    const tiles = [tile(undefined, `${prompt}, ${before}`, k), ...runs.map((run) => tile(run, `${prompt}, ${run.name}`, k))];
    return element("figure", {}, element("div", { class: "pair" }, tiles), element("figcaption", {}, prompt));
  });
  const place = (node, run, sheet) => {
    const [column, row] = [node.dataset.tile % samples.columns, Math.floor(node.dataset.tile / samples.columns)];
    node.style.backgroundImage = url(run, sheet);
    node.style.backgroundSize = `${100 * samples.columns}% ${100 * rows}%`;
    node.style.backgroundPosition = `${(100 * column) / (samples.columns - 1)}% ${(100 * row) / Math.max(1, rows - 1)}%`;
    node.style.aspectRatio = `${run.samples.width} / ${run.samples.height}`;
  };
  const shown = element("output", {});
  function show(k) {
    shown.textContent = `after epoch ${epochs[k]}`;
    for (const group of groups) {
      const [first, ...after] = group.querySelectorAll(".tile");
      place(first, runs[0], samples.sheets[0]);
      after.forEach((node, r) => {
        const sheets = runs[r].samples.sheets;
        place(node, runs[r], sheets.findLast((sheet) => sheet.epoch <= epochs[k]) ?? sheets[0]);
      });
    }
  }
  const wanted = Number(new URLSearchParams(location.hash.slice(1)).get("epoch") ?? NaN);
  const initial = epochs.includes(wanted) ? epochs.indexOf(wanted) : epochs.length - 1;
  const slider = element("input", {
    type: "range", min: 0, max: epochs.length - 1, value: initial, "aria-label": "epoch", oninput: () => show(Number(slider.value)),
  });
  show(initial);
  const width = 5.2 * (runs.length + 1);
  const names = isOnly ? "" : `: ${runs.map((run) => run.name).join(", ")}`;
  return [
    element("h2", {}, `The same prompts and seeds, before and after${names}`),
    element("div", { class: "controls" }, element("label", {}, "epoch"), slider, shown),
    element("p", { class: "legend" }, element("span", {}, element("span", { class: "swatch", color: "var(--quiet)" }), before),
      runs.map((run) => element("span", {}, swatch(run), runs.length > 1 ? run.name : "after"))),
    element("div", { class: `images ${samples.width < 128 ? "small" : ""}`, style: `--group: min(100%, ${width}rem)` }, groups),
  ];
}

function curves(page) {
  const all = [...new Set(page.runs.flatMap((run) => run.steps.flatMap((line) => Object.keys(line))))];
  const main = ["reward_mean", "diversity", "base_kl"].filter((key) => all.includes(key));
  const rewards = all.filter((key) => key.startsWith("reward/")).sort();
  const hidden = ["epoch", "step", "part", "reward_std", "trajectories"];
  // Counts of what failed are of interest only where something has.
  const isQuiet = (key) =>
    ["dropped", "dropped_transitions", "imputed"].includes(key) && page.runs.every((run) => run.steps.every((line) => !line[key]));
  const others = all.filter((key) => ![...main, ...rewards, ...hidden].includes(key) && !isQuiet(key)).sort();
  const container = element("div", {});
  function draw(name) {
    const axis = axes[name];
    container.replaceChildren(
      element("h2", {}, "Reward and distance"), page.runs.length > 1 ? legend(page.runs) : "", charts(page.runs, main, axis),
      ...(rewards.length ? [element("h2", {}, "Rewards by objective"), charts(page.runs, rewards, axis)] : []),
      ...(others.length ? [element("h2", {}, "Training"), charts(page.runs, others, axis)] : []));
  }
  if (!all.length) return [element("p", { class: "quiet" }, "No optimiser step has been made yet.")];
  draw("epoch");
  const choice = element(
    "select", { "aria-label": "horizontal axis", onchange: () => draw(choice.value) },
    Object.entries(axes).map(([name, axis]) => element("option", { value: name }, axis.label)));
  return [element("div", { class: "controls" }, element("label", {}, "curves over ", choice)), container];
}

/** The modes of dag-eval: what an exact sampler would draw, beside what the run draws. */
function reference(run, several) {
  const evaluation = run.evaluation;
  if (!evaluation) return [];
  const columns = [["pretrained", evaluation.base], ...evaluation.reference.map((column) => [`exact, beta ${column.beta}`, column])];
  if (evaluation.lora) columns.push(["this run", evaluation.lora]);
  const keys = [...new Set(columns.flatMap(([, column]) => Object.keys(column)))].filter((key) => !["beta", "is_reliable"].includes(key));
  const order = (key) => (key === "reward" ? 0 : key.startsWith("mode/") ? 1 : key.startsWith("reward/") ? 3 : 2);
  keys.sort((a, b) => order(a) - order(b) || a.localeCompare(b));
  const cell = (entry) => {
    if (entry === undefined) return "";
    const value = entry !== null && typeof entry === "object" ? entry.value : entry;
    const error = entry !== null && typeof entry === "object" ? entry.standard_error : undefined;
    return error === undefined || error === null ? number(value) : `${number(value)} ± ${Number(error.toPrecision(1))}`;
  };
  return [
    element("h2", {}, several ? `Against the exact sampler: ${run.name}` : "Against the exact sampler"),
    element("p", { class: "quiet" }, "What dag-eval found: the pretrained model, what sampling in proportion to its density times exp(beta s) would give, and this run."),
    ...evaluation.warnings.map((line) => element("p", { class: "warning" }, line)),
    element("div", { class: "scroll" }, element("table", {},
      element("tr", {}, element("th", {}), columns.map(([name]) => element("th", { scope: "col" }, name))),
      keys.map((key) => element("tr", {}, element("th", { scope: "row" }, key), columns.map(([, column]) => element("td", {}, cell(column[key]))))))),
  ];
}

function warnings(page) {
  const lines = page.runs.flatMap((run) =>
    [...run.problems, ...run.warnings].map((line) => (page.runs.length > 1 ? `${run.name}: ${line}` : line)));
  return lines.length ? [element("h2", {}, "Warnings"), ...lines.map((line) => element("p", { class: "warning" }, line))] : [];
}

function settings(page) {
  const { runs } = page;
  const rows = runs[0].settings.flatMap((group) => group.settings).map(({ key }) => ({
    key,
    values: runs.map((run) => run.settings.flatMap((group) => group.settings).find((setting) => setting.key === key)),
  }));
  const table = (some) =>
    element("div", { class: "scroll" }, element("table", {},
      runs.length > 1 ? element("tr", {}, element("th", {}), runs.map((run) => element("th", { scope: "col" }, run.name))) : "",
      some.map(({ key, values }) =>
        element("tr", {}, element("th", { scope: "row" }, key), values.map((setting) => element("td", { class: "value" }, setting?.value || "-"))))));
  const isTold = runs.length > 1
    ? ({ values }) => new Set(values.map((setting) => setting?.value)).size > 1
    : ({ values }) => !values[0].isDefault;
  return [
    element("h2", {}, "Settings"),
    element("p", { class: "quiet" }, runs.length > 1 ? "Those in which the runs differ." : "Those that are not the default."),
    table(rows.filter(isTold)), element("details", {}, element("summary", {}, "All settings"), table(rows)),
  ];
}

const page = JSON.parse(document.getElementById("data").textContent);
page.runs.forEach(read);
const several = page.runs.length > 1;
const groups = comparable(page.runs);

/** A section's elements; where a file has something that cannot be drawn, a line about that. */
function section(name, make) {
  try {
    return make();
  } catch (error) {
    return [element("p", { class: "warning" }, `${name} cannot be shown: ${error.message}`)];
  }
}

document.getElementById("page").append(
  ...section("The heading", () => heading(page)),
  ...page.runs.map((run) =>
    element("div", { class: "figures" }, several ? element("p", {}, swatch(run), run.name) : "", section("Figures", () => figures(run)))),
  ...groups.flatMap((runs) => section("Images", () => images(runs, groups.length === 1))),
  ...section("Curves", () => curves(page)),
  ...page.runs.flatMap((run) => section("evaluation.json", () => reference(run, several))),
  ...section("Warnings", () => warnings(page)),
  ...section("Settings", () => settings(page)),
  element("p", { class: "quiet" }, `Made by dag-train ${page.version} from the run's folder.`));
