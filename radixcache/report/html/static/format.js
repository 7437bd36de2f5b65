// Numbers as people read them; the same rules as on the terminal.
const NONE = "–";

const count = (value) => (value === null || value === undefined ? NONE : value.toLocaleString("en-US"));

// What rounds to nothing has no sign.
const percent = (value, digits = 1) =>
  value === null || value === undefined ? NONE : `${(value * 100).toFixed(digits).replace(/^-(?=[0.]*$)/, "")}%`;

const seconds = (value) => {
  if (value === null || value === undefined) return NONE;
  if (value < 0.9995) return `${(value * 1000).toFixed(value >= 0.0995 ? 0 : 1)} ms`;
  if (value < 9.995) return `${value.toFixed(2)} s`;
  return value < 6000 ? `${value.toFixed(1)} s` : `${(value / 3600).toFixed(1)} h`;
};

const times = (before, after) => {
  if (before === null || !after) return "";
  const ratio = before / after;
  return `${ratio.toFixed(ratio >= 9.95 ? 1 : 2)}×`;
};

const amount = (value) => {
  for (const [unit, scale] of [
    ["G", 1e9],
    ["M", 1e6],
    ["k", 1e3],
  ]) {
    if (value >= scale) {
      const size = value / scale;
      return `${size.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0)} ${unit}`;
    }
  }
  return String(value);
};

// As one word of a shell's command line.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const money = (value, currency) => {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  const digits = size >= 999.5 ? 0 : size >= 0.995 || !size ? 2 : 4;
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  const number = size.toLocaleString("en-US", options);
  const sign = value < 0 && /[1-9]/.test(number) ? "-" : "";
  return currency === "USD" ? `${sign}$${number}` : `${sign}${number} ${currency}`;
};

const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

const words = (name) => name.replaceAll("_", " ");

const share = (part, whole) => (whole ? part / whole : 0);

const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

// Logs by their last names, the first few of them.
const logNames = (logs) => {
  const more = logs.length > 3 ? ` and ${logs.length - 3} more` : "";
  return logs.slice(0, 3).map(fileName).join(", ") + more;
};

const MEANINGS = {
  never_seen: "no earlier prompt began like this",
  diverged: "an earlier prompt went on differently",
  evicted: "cached once, then made room for others",
  expired: "cached once, then too old",
  partial_block: "too small a part of a block to keep",
  other_namespace: "known, but only in another namespace",
  not_yet_computed: "another request was still computing it",
  last_token: "a full hit computes its last token again",
  cache_off: "the cache was off for this request",
  model_changed: "known, but for another model or adapter",
};
