// One chart as SVG: axes, bounds, lines or areas, and the hair line of the moment that is read.

const MARGIN = { left: 62, right: 8, top: 8, bottom: 20 };

function element(parent, name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key of Object.keys(attributes)) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// Each line's lower and upper edge: stacked ones stand on the ones before.
function edges(panel, series) {
  const floor = new Map();
  return series.map((line) => line.points.map(([time, value]) => {
    if (panel.kind !== "stack") return [time, 0, value];
    const low = floor.get(time) || 0;
    floor.set(time, low + value);
    return [time, low, low + value];
  }));
}

function verticalScale(panel, shapes, height) {
  const values = shapes.flat().flatMap(([, low, high]) => (panel.kind === "stack" ? [low, high] : [high]));
  let low = Math.min(...values);
  let high = Math.max(...values);
  const top = MARGIN.top;
  const span = height - MARGIN.top - MARGIN.bottom;
  if (panel.logarithmic) {
    const positive = values.filter((value) => value > 0);
    const ticks = positive.length ? logarithmicTicks(Math.min(...positive), Math.max(...positive)) : [1, 10];
    const first = Math.log10(ticks[0]);
    const last = Math.log10(ticks[ticks.length - 1]);
    const y = (value) => top + span * (1 - (Math.log10(Math.max(value, ticks[0])) - first) / (last - first));
    return { ticks, y, high: ticks[ticks.length - 1] };
  }
  low = Math.min(0, low);
  for (const bound of [panel.warning, panel.critical]) if (bound && high > bound * 0.6) high = Math.max(high, bound);
  if (high <= low) high = low + 1;
  const ticks = linearTicks(low, high, 4, panel.unit);
  const bottom = ticks[0];
  const range = ticks[ticks.length - 1] - bottom;
  return { ticks, y: (value) => top + span * (1 - (value - bottom) / range), high: ticks[ticks.length - 1] };
}

function clock(view) {
  const range = view.end - view.start;
  if (range > 172800) return new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit" });
  const style = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (range <= 900) style.second = "2-digit";
  return new Intl.DateTimeFormat(undefined, style);
}

// Points that follow each other within a step and a half belong to one stroke.
function strokes(shape, step) {
  const found = [];
  let last = -Infinity;
  for (const point of shape) {
    if (point[0] - last > step * 1.5) found.push([]);
    found[found.length - 1].push(point);
    last = point[0];
  }
  return found;
}

function style(index) {
  return index % 10 < 5 ? "" : " dashed";
}

function draw(panel, series, view, moment) {
  const box = panel.chart;
  const width = box.clientWidth;
  const height = box.clientHeight;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 " + width + " " + height);
  svg.setAttribute("aria-hidden", "true");
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const x = (time) => MARGIN.left + ((time - view.start) / (view.end - view.start)) * (right - MARGIN.left);
  const shapes = edges(panel, series);
  const { ticks, y, high } = verticalScale(panel, shapes, height);
  for (const tick of ticks) {
    const like = panel.logarithmic ? tick : ticks[ticks.length - 1];
    element(svg, "line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) });
    element(svg, "text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, written(tick, panel.unit, like));
  }
  const format = clock(view);
  for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
    const time = view.start + part * (view.end - view.start);
    element(svg, "text", { x: x(time), y: height - 4, "text-anchor": anchor }, format.format(time * 1000));
  }
  for (const severity of ["warning", "critical"]) {
    const bound = panel[severity];
    if (bound && bound <= high) element(svg, "line", { class: "bound " + severity, x1: MARGIN.left, x2: right, y1: y(bound), y2: y(bound) });
  }
  shapes.forEach((shape, index) => {
    const key = index % 10;
    // Nothing of a stack adds nothing to be seen: its line would hide the one below.
    if (index > 0 && panel.kind === "stack" && shape.every(([, from, to]) => from === to)) return;
    for (const stroke of strokes(shape, view.step)) {
      const upper = stroke.map(([time, , value]) => x(time).toFixed(1) + "," + y(value).toFixed(1));
      if (stroke.length === 1) {
        const [time, , value] = stroke[0];
        element(svg, "circle", { class: "f" + key, cx: x(time), cy: y(value), r: 2 });
        continue;
      }
      if (panel.kind !== "lines") {
        const lower = stroke.map(([time, value]) => x(time).toFixed(1) + "," + y(value).toFixed(1)).reverse();
        element(svg, "polygon", { class: "area f" + key, points: upper.concat(lower).join(" ") });
      }
      element(svg, "polyline", { class: "s k" + key + style(index), points: upper.join(" ") });
    }
  });
  if (moment !== null) element(svg, "line", { class: "hair", x1: x(moment), x2: x(moment), y1: MARGIN.top, y2: bottom });
  box.replaceChildren(svg);
}
