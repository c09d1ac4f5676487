// The bridge's own page: shows the status document of docs/protocol.md, again and again. Whatever comes
// from outside is set as text, never as markup.

// Milliseconds without a word after which nothing shown is of now, and between two questions where no
// stream of events comes through.
const PATIENCE = 6000;
const PAUSE = 1000;
// Answers after which a stream that brought nothing is tried again.
const ANSWERS = 15;

const $ = (id) => document.getElementById(id);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const clock = (date) => date.toLocaleTimeString("en", { hour12: false });

// --- How things are written ---------------------------------------------------------------------

const UNKNOWN = "not known";
const known = (value) => value !== null && value !== undefined;
const number = (options) => {
  const format = new Intl.NumberFormat("en", options);
  return (value) => (known(value) ? format.format(value) : UNKNOWN);
};
const count = number({ maximumFractionDigits: 0 });
const rounded = number({ maximumSignificantDigits: 3 });
const text = (value) => (known(value) ? String(value) : UNKNOWN);

function bytes(value) {
  const [unit, size] = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, least]) => value >= least) ?? ["B", 1];
  return known(value) ? `${rounded(value / size)} ${unit}` : UNKNOWN;
}

function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 1) return `${count(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? rounded(seconds) : Math.floor(seconds)} s`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  const [[large, all], [small, part]] = units.slice(first, first + 2);
  return `${Math.floor(seconds / all)} ${large} ${Math.floor((seconds % all) / part)} ${small}`;
}

function some(list) {
  if (!known(list)) return UNKNOWN;
  const rest = list.length > 5 ? ` and ${count(list.length - 5)} more` : "";
  return list.slice(0, 5).join(", ") + rest;
}

function quantity(resource, value) {
  if (resource === "memory") return bytes(value);
  if (resource !== "cpu") return rounded(value);
  return value < 0.001 ? `${rounded(value * 1e6)} millionths of a core` : `${rounded(value)} cores`;
}

// --- Putting it there: elements are kept and changed, so that focus, selection and scrolling stay ---

function make(name, ...children) {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}

function write(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

function set(element, name, value) {
  if (value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function fill(parent, items, create, show) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, index) => {
    show(parent.children[index] ?? parent.appendChild(create()), item);
  });
}

function facts(id, pairs) {
  fill($(id), pairs, () => make("div", make("dt"), make("dd")), (row, [name, value]) => {
    write(row.children[0], name);
    write(row.children[1], value);
  });
}

function cells(row, values) {
  values.forEach((value, index) => {
    const cell = row.children[index] ?? row.appendChild(make(index ? "td" : "th"));
    if (index === 0) set(cell, "scope", "row");
    write(cell, value);
  });
}

// --- The parts of the page ----------------------------------------------------------------------

function showNode(node) {
  write($("name"), node?.name ?? "");
  facts("node", [
    ["Sessions", count(node?.sessions)],
    ["ejabberd", known(node) ? `${text(node.ejabberd)}, OTP ${text(node.otp)}` : UNKNOWN],
    ["mod_megaphone", text(node?.version)],
    ["Up for", duration(node?.uptime_seconds)],
    ["Virtual hosts", some(node?.vhosts)],
  ]);
}

function showHeadroom(estimates) {
  const first = estimates?.[0];
  $("headroom-table").hidden = !first;
  write($("verdict"), first
    ? `${named(first.resource)} ends first, at about ${rounded(first.capacity)} sessions.`
      + (estimates.some(({ method }) => method === "average")
        ? " * is the average: sessions have not changed enough to tell what one more takes, and there"
          + " is room for more than that."
        : "")
    : "How many sessions the node could hold is not known yet.");
  fill($("headroom"), estimates ?? [], () => make("tr"), (row, one) => {
    cells(row, [
      named(one.resource),
      quantity(one.resource, one.used),
      quantity(one.resource, one.usable),
      quantity(one.resource, one.cost) + (one.method === "average" ? "*" : ""),
      rounded(one.capacity),
      one.high === null ? `${rounded(one.low)} and more` : `${rounded(one.low)} and ${rounded(one.high)}`,
    ]);
    const meter = row.children[6] ?? row.appendChild(make("td", make("meter")));
    gauge(meter.firstElementChild, one);
  });
}

function gauge(meter, { resource, sessions, capacity }) {
  set(meter, "aria-label", `${named(resource)}: ${count(sessions)} sessions of ${rounded(capacity)}`);
  // The largest first: a value beyond it would be cut.
  set(meter, "max", Math.max(capacity, sessions, 1));
  set(meter, "low", capacity * 0.7);
  set(meter, "high", capacity * 0.9);
  set(meter, "optimum", 0);
  set(meter, "value", sessions);
}

const named = (resource) => (resource[0].toUpperCase() + resource.slice(1)).replaceAll("_", " ");

const isOver = ({ state }) => state === "done" || state === "failed";
const handled = ({ sent, gone, dropped, failed }) => sent + gone + dropped + failed;
const outcome = ({ state, error }) => (error ? `${state}: ${error}` : state);

let seenRunning = new Set();

function showBroadcasts(broadcasts, answered) {
  const running = broadcasts.filter((one) => !isOver(one));
  const past = broadcasts.filter(isOver);
  const none = answered ? "None." : "Not known: the node does not answer.";
  for (const [name, list] of [["running", running], ["past", past]]) {
    $(`${name}-none`).hidden = list.length > 0;
    write($(`${name}-none`), none);
  }
  fill($("running"), running, newBroadcast, showRunning);
  $("past-table").hidden = past.length === 0;
  fill($("past"), past, () => make("tr"), showPast);
  for (const one of past.filter(({ id }) => seenRunning.has(id))) {
    write($("news"), `Broadcast ${one.id} is over: ${outcome(one)}, ${count(one.sent)} sent.`);
  }
  if (answered) seenRunning = new Set(running.map(({ id }) => id));
}

const newBroadcast = () => make("li", make("h3"), make("progress"), make("p"));

function showRunning(item, one) {
  const [title, progress, counts] = item.children;
  write(title, `${one.id}: ${one.type}, ${one.state}`);
  set(progress, "aria-label", `Progress of broadcast ${one.id}`);
  // As long as the audience is being counted there is no share of it.
  const share = one.state === "resolving" || !one.recipients ? undefined : handled(one) / one.recipients;
  set(progress, "value", share);
  write(counts, `${count(handled(one))} of ${count(one.recipients)} recipients`
    + (share === undefined ? "" : ` (${Math.floor(share * 100)}%)`)
    + ` in ${duration(one.seconds)}: ${count(one.sent)} sent, ${count(one.gone)} gone,`
    + ` ${count(one.dropped)} dropped, ${count(one.failed)} failed`);
}

function showPast(row, one) {
  cells(row, [
    one.id,
    new Date(one.started * 1000).toLocaleString("en-GB"),
    outcome(one),
    ...[one.recipients, one.sent, one.gone, one.dropped, one.failed].map(count),
    duration(one.seconds),
  ]);
  row.children[2].className = one.state;
}

function showProgram(port, bridge) {
  facts("program", [
    ["State", text(port?.state)],
    ["Connected for", duration(port?.connected_seconds)],
    ["Restarts", count(port?.restarts)],
    ["Last end", port?.reason ?? "none"],
    ["Megaphone", `${bridge.version}, Python ${bridge.python}`],
    ["Process", `${bridge.pid}, up for ${duration(bridge.uptime_seconds)}`],
    ["Memory", bytes(bridge.rss_bytes)],
    ["Waiting for the port", bytes(port?.queued_bytes)],
    ["Loop's lag, at worst", duration(bridge.loop_lag_seconds)],
    ["Python's processes", count(bridge.processes)],
  ]);
  fill($("workers"), bridge.workers, () => make("tr"), (row, worker) => {
    cells(row, [
      text(worker.pid), worker.state, count(worker.batches), count(worker.restarts), bytes(worker.rss_bytes),
    ]);
  });
  showTree($("tree"), bridge.tree ? [bridge.tree] : []);
}

function showTree(list, nodes) {
  fill(list, nodes, () => make("li", make("span"), make("ul")), (item, node) => {
    const up = known(node.uptime_seconds) ? `, up for ${duration(node.uptime_seconds)}` : "";
    const again = node.restarts ? `, restarts: ${count(node.restarts)}` : "";
    write(item.children[0], `${node.id}: ${node.type.replaceAll("_", " ")}, ${node.state}${up}${again}`);
    showTree(item.children[1], node.children);
  });
}

// --- Where it comes from ------------------------------------------------------------------------

let last;

function connection(state, words) {
  document.body.dataset.state = state;
  write($("connection"), words);
  document.title = `${state === "lost" ? "Lost: " : ""}Megaphone ${$("name").textContent}`.trim();
}

function show(status) {
  showNode(status.node);
  showHeadroom(status.bridge.capacity);
  showBroadcasts(status.broadcasts, known(status.node));
  showProgram(status.port, status.bridge);
  $("content").hidden = false;
  const without = `Live, but nothing is known of the node: ${status.port.reason}`;
  connection("live", status.node ? "Live" : without);
}

function received(status) {
  try {
    show(status);
    last = new Date();
  } catch (error) {
    // A mistake of this page's, or a later version's status.
    console.error(error);
    connection("lost", `The status cannot be shown: ${error.message}`);
  }
}

function lost() {
  connection("lost", last
    ? `Connection lost. What is shown is of ${clock(last)}; trying again`
    : "No connection; trying again");
}

// Listens until the stream breaks, is silent, or nobody looks; whether it brought anything.
function listen() {
  return new Promise((resolve) => {
    const source = new EventSource("v1/events");
    let brought = false;
    let silence;
    const end = () => {
      clearTimeout(silence);
      document.removeEventListener("visibilitychange", end);
      source.close();
      resolve(brought);
    };
    const wait = () => {
      clearTimeout(silence);
      silence = setTimeout(() => { lost(); end(); }, PATIENCE);
    };
    source.onmessage = ({ data }) => { brought = true; wait(); received(JSON.parse(data)); };
    source.onerror = end;
    document.addEventListener("visibilitychange", end);
    wait();
  });
}

async function ask() {
  try {
    const answer = await fetch("v1/status", { signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(answer.statusText);
    received(await answer.json());
    return true;
  } catch {
    lost();
    return false;
  }
}

// A browser has few connections for one server: a page that nobody looks at leaves its own to others.
async function visible() {
  if (!document.hidden) return;
  connection("lost", "Not followed while nobody looks");
  await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

for (;;) {
  await visible();
  let answers = await listen() ? 1 : ANSWERS;
  while (answers > 0) {
    await visible();
    if (await ask()) answers -= 1;
    if (answers > 0) await sleep(PAUSE);
  }
}
