// What is asked of Prometheus: its HTTP API, on the server that this page came from.

const PREFIX = document.querySelector("meta[name=path-prefix]").content;
const TIMEOUT = 10000;

async function ask(path, parameters) {
  let answer;
  let document;
  try {
    answer = await fetch(PREFIX + "/api/v1/" + path + "?" + new URLSearchParams(parameters), {
      signal: AbortSignal.timeout(TIMEOUT),
    });
    document = await answer.json();
  } catch (error) {
    throw new Error("Prometheus does not answer");
  }
  if (document.status !== "success") throw new Error(document.error || "status " + answer.status);
  return document.data;
}

function matcher(node) {
  return "instance=" + JSON.stringify(node);
}

async function nodes() {
  return ask("label/instance/values", { "match[]": "megaphone_build_info" });
}

// Labels of the metric's series now, of the value where there is one.
async function instant(query) {
  const data = await ask("query", { query });
  return data.result.map((series) => ({ labels: series.metric, value: Number(series.value[1]) }));
}

// Seconds between two scrapes of the node; a quarter of a minute when Prometheus does not say.
async function scrapeInterval(node) {
  const data = await ask("targets", { state: "active" });
  const target = data.activeTargets.find((one) => one.labels.instance === node);
  return (target && seconds(target.scrapeInterval)) || 15;
}

// A duration as Prometheus writes it, such as 1m30s.
function seconds(text) {
  let total = 0;
  for (const [, number, unit] of (text || "").matchAll(/(\d+)(ms|[smhd])/g)) {
    total += Number(number) * { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 }[unit];
  }
  return total;
}

// The frame that all charts share: aligned to the step, so that points stay where they are.
function frame(range, interval) {
  const step = Math.max(1, Math.ceil(interval), Math.ceil(range / 240));
  const end = Math.floor(Date.now() / 1000 / step) * step;
  return { start: end - Math.floor(range / step) * step, end, step, window: Math.max(20, 4 * interval, step + interval) };
}

// The lines of a panel: a name and points [seconds, value], finite values only.
async function lines(panel, node, view) {
  const found = await Promise.all(panel.queries.map(async ([expression, legend]) => {
    const query = expression.replaceAll("$node", matcher(node)).replaceAll("$window", view.window + "s");
    const data = await ask("query_range", { query, start: view.start, end: view.end, step: view.step });
    return data.result.map((series) => ({
      name: legend.replaceAll(/\{(\w+)\}/g, (whole, label) => series.metric[label] || "?"),
      points: series.values.map(([time, value]) => [time, Number(value)]).filter(([, value]) => Number.isFinite(value)),
    }));
  }));
  return found.flat().filter((line) => line.points.length > 0);
}

// The alerts of Megaphone's rules that are not at rest, for this node; null: there are no such rules.
async function alerts(node) {
  const data = await ask("rules", { type: "alert" });
  const rules = data.groups.flatMap((group) => group.rules).filter((rule) => rule.name.startsWith("Megaphone"));
  if (rules.length === 0) return null;
  return rules.flatMap((rule) => rule.alerts).filter((alert) => alert.labels.instance === node);
}
