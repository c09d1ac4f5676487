// Values as text, and the ticks of a scale. Units are those of metrics/dashboards/panel.py.

function digits(value) {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  if (size < 1) return String(Number(value.toPrecision(2)));
  return size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function scaled(value, base, names, like) {
  let power = 0;
  for (let size = Math.abs(like); size >= base && power < names.length - 1; size /= base) power += 1;
  return digits(value / base ** power) + names[power];
}

const TIMES = [[86400, " d", 2], [3600, " h", 2], [60, " min", 2], [1, " s", 1], [1e-3, " ms", 1], [1e-6, " \u00b5s", 0]];

function duration(seconds, like = seconds) {
  if (like === 0) return "0 s";
  const [one, name] = TIMES.find(([size, , least]) => Math.abs(like) >= size * least);
  return digits(seconds / one) + name;
}

const BYTES = [" B", " KiB", " MiB", " GiB", " TiB"];
const COUNTS = ["", " k", " M", " G"];

// In the unit that suits another value, if there is one: all ticks of a scale are written alike.
function written(value, unit, like = value) {
  switch (unit) {
    case "bytes": return scaled(value, 1024, BYTES, like);
    case "bytes_per_second": return scaled(value, 1024, BYTES, like) + "/s";
    case "seconds": return duration(value, like);
    case "ratio": return digits(value * 100) + " %";
    case "count_per_second": return scaled(value, 1000, COUNTS, like) + "/s";
    default: return scaled(value, 1000, COUNTS, like);
  }
}

// What a value of this size is written in.
function whole(size, unit) {
  if (unit.startsWith("bytes")) return 1024 ** Math.max(0, Math.floor(Math.log(size) / Math.log(1024)));
  if (unit !== "seconds" || size < 120) return 1;
  return [86400, 3600, 60].find((one) => size >= 2 * one);
}

// About `count` round values from low to high, both ends included or passed.
function linearTicks(low, high, count, unit) {
  const one = whole(Math.max(high, -low), unit);
  const rough = (high - low) / one / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999) * one;
  const ticks = [];
  for (let n = Math.floor(low / step + 1e-9); ticks.length < 20; n += 1) {
    ticks.push(n * step);
    if (n * step >= high - step * 1e-6) break;
  }
  return ticks;
}

// Powers of ten around the values; every second, third, ... when there are many.
function logarithmicTicks(low, high) {
  const first = Math.floor(Math.log10(low));
  const last = Math.max(first + 1, Math.ceil(Math.log10(high)));
  const every = Math.ceil((last - first) / 5);
  const ticks = [];
  for (let power = first; power < last + every; power += every) ticks.push(10 ** power);
  return ticks;
}
