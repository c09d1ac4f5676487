// The page: which node and range, when it asks again, and how a moment is read from a chart.

// Seconds between two looks, if scrapes are no further apart.
const REFRESH = 2;
const byId = (id) => document.getElementById(id);
const panels = JSON.parse(byId("panels").textContent).map((panel) => {
  const figure = byId(panel.id);
  return Object.assign(panel, {
    chart: figure.querySelector(".chart"),
    legend: figure.querySelector(".legend"),
    note: figure.querySelector(".note"),
    now: figure.querySelector(".now"),
    title: figure.querySelector("h3").textContent,
    series: [],
    seen: false,
    moment: null,
  });
});
const state = { node: null, interval: 15, view: null, paused: false, busy: false, again: false, timer: null };

// --- one panel ---

// A line that has ended has no value now.
function valueAt(line, moment) {
  const { end, step } = state.view;
  const point = moment === null
    ? line.points.findLast(([time]) => end - time < step * 1.5)
    : line.points.find(([time]) => Math.abs(time - moment) < step / 2);
  return point === undefined ? null : point[1];
}

function readings(panel) {
  return panel.series.map((line) => {
    const value = valueAt(line, panel.moment);
    return [line.name, value === null ? "\u2013" : written(value, panel.unit)];
  });
}

function show(panel) {
  if (panel.moment !== null && panel.moment < state.view.start) panel.moment = null;
  const read = readings(panel);
  panel.note.textContent = panel.series.length ? "" : "No data in this range.";
  if (panel.series.length) draw(panel, panel.series, state.view, panel.moment);
  else panel.chart.replaceChildren();
  panel.legend.replaceChildren(...read.map(([name, text], index) => {
    const item = document.createElement("li");
    const key = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    key.setAttribute("aria-hidden", "true");
    element(key, "line", { class: "s k" + (index % 10) + style(index), x1: 0, x2: "100%", y1: "50%", y2: "50%" });
    const value = document.createElement("b");
    value.textContent = text;
    item.append(key, name + " ", value);
    return item;
  }));
  if (panel.now) panel.now.textContent = read.length ? read[0][1] : "\u2013";
  const said = read.map(([name, text]) => name + " " + text).join(", ");
  panel.chart.setAttribute("aria-label", panel.title + ": " + (said || "no data") + ". Arrow keys read earlier values.");
}

async function load(panel) {
  try {
    panel.series = await lines(panel, state.node, state.view);
    show(panel);
  } catch (error) {
    panel.note.textContent = error.message;
  }
}

// --- reading a moment ---

function read(panel, moment, aloud) {
  panel.moment = moment;
  if (!panel.series.length) return;
  show(panel);
  if (!aloud || moment === null) return;
  const said = readings(panel).map(([name, text]) => name + " " + text).join(", ");
  byId("reading").textContent = clock(state.view).format(moment * 1000) + ": " + said;
}

function onKey(panel, event) {
  const view = state.view;
  if (view === null) return;
  const from = panel.moment === null ? view.end : panel.moment;
  const far = event.shiftKey ? 10 : 1;
  const to = {
    ArrowLeft: Math.max(view.start, from - far * view.step),
    ArrowRight: Math.min(view.end, from + far * view.step),
    Home: view.start,
    End: view.end,
    Escape: null,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  read(panel, to, true);
}

function onPointer(panel, event) {
  const view = state.view;
  if (view === null) return;
  const box = panel.chart.getBoundingClientRect();
  const part = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
  const time = view.start + Math.min(1, Math.max(0, part)) * (view.end - view.start);
  read(panel, view.start + Math.round((time - view.start) / view.step) * view.step, false);
}

// --- all of them ---

function trouble(text) {
  const place = byId("trouble");
  if (place.textContent !== text) place.textContent = text;
  place.hidden = text === "";
}

async function showNodes() {
  const names = await nodes();
  const choice = byId("node");
  const wanted = state.node || new URLSearchParams(location.hash.slice(1)).get("node");
  if (names.join("\n") !== Array.from(choice.options, (option) => option.value).join("\n")) {
    choice.replaceChildren(...names.map((name) => new Option(name, name)));
  }
  const node = names.includes(wanted) ? wanted : names[0];
  if (node === undefined) throw new Error("Prometheus has no metrics of Megaphone: has it a job for it, and does the target answer?");
  choice.value = node;
  state.node = node;
  state.interval = await scrapeInterval(node);
}

// Says in the header what the node is; returns what is wrong with it, or nothing.
async function showFacts() {
  const chosen = "{" + matcher(state.node) + "}";
  const [info, up] = await Promise.all([instant("megaphone_node_info" + chosen), instant("up" + chosen)]);
  const labels = info.length ? info[0].labels : null;
  byId("facts").textContent = labels === null ? "" : labels.node + ", ejabberd " + labels.ejabberd +
    ", OTP " + labels.otp + ", Megaphone " + labels.megaphone + "; scraped every " + duration(state.interval);
  if (up.length && up[0].value === 0) return "The port program of this node does not answer Prometheus.";
  return labels === null ? "The node does not answer; what is measured in it is absent." : "";
}

async function showAlerts() {
  const found = await alerts(state.node);
  const texts = found === null ? [["", "No alert rules of Megaphone are loaded."]] : found.map((alert) => [
    alert.labels.severity,
    alert.state + ", " + alert.labels.severity + ": " + alert.annotations.summary + " (" + alert.annotations.runbook_url + ")",
  ]);
  if (texts.length === 0) texts.push(["", "No alerts."]);
  byId("alerts").replaceChildren(...texts.map(([severity, text]) => {
    const item = document.createElement("li");
    item.className = severity;
    item.textContent = text;
    return item;
  }));
}

async function look() {
  try {
    await showNodes();
    state.view = frame(Number(byId("range").value), state.interval);
    const [wrong] = await Promise.all([showFacts(), showAlerts(), ...panels.filter((panel) => panel.seen).map(load)]);
    trouble(wrong);
  } catch (error) {
    trouble(error.message);
  }
}

// One look at a time; who asks meanwhile gets another one after it.
async function refresh() {
  clearTimeout(state.timer);
  state.again = true;
  if (state.busy) return;
  state.busy = true;
  while (state.again) {
    state.again = false;
    if (!document.hidden) await look();
  }
  state.busy = false;
  if (!state.paused) state.timer = setTimeout(refresh, Math.max(REFRESH, state.interval) * 1000);
}

// A choice is kept in the address, to be bookmarked.
function chosen() {
  state.node = byId("node").value || null;
  const hash = new URLSearchParams({ range: byId("range").value });
  if (state.node !== null) hash.set("node", state.node);
  history.replaceState(null, "", "#" + hash);
  for (const panel of panels) panel.moment = null;
  refresh();
}

function start() {
  const range = new URLSearchParams(location.hash.slice(1)).get("range");
  if (Array.from(byId("range").options).some((option) => option.value === range)) byId("range").value = range;
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("node").addEventListener("change", chosen);
  byId("range").addEventListener("change", chosen);
  byId("pause").addEventListener("click", () => {
    state.paused = !state.paused;
    byId("pause").setAttribute("aria-pressed", state.paused);
    if (state.paused) clearTimeout(state.timer);
    else refresh();
  });
  document.addEventListener("visibilitychange", () => { if (!state.paused) refresh(); });
  const visible = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const panel = panels.find((one) => one.chart === entry.target);
      panel.seen = entry.isIntersecting;
      if (panel.seen && state.view !== null) load(panel);
    }
  }, { rootMargin: "50%" });
  const sized = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const panel = panels.find((one) => one.chart === entry.target);
      if (panel.series.length) show(panel);
    }
  });
  for (const panel of panels) {
    visible.observe(panel.chart);
    sized.observe(panel.chart);
    panel.chart.addEventListener("keydown", (event) => onKey(panel, event));
    panel.chart.addEventListener("pointermove", (event) => onPointer(panel, event));
    panel.chart.addEventListener("pointerleave", () => read(panel, null, false));
    panel.chart.addEventListener("blur", () => read(panel, null, false));
  }
  refresh();
}

start();
