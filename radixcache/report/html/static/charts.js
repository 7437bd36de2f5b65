// Charts: drawn one by one when the text is there.
const charts = [];

const SERIES = [1, 2, 3, 4, 5, 6, 7, 8].map((number) => `var(--series-${number})`);
const ACCENT = "var(--accent)";
const QUIET = "var(--quiet)";

// A logarithmic axis over what is drawn, with round labels: 1, 2 and 5 of every decade if that are few, else 1.
const logAxis = (least, most, show, options) => {
  const decades = Math.log10(most / least);
  const digits = decades > 2.2 ? [1] : decades > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
  const ticks = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most); power += 1) {
    for (const digit of digits) {
      const at = Number((digit * 10 ** power).toPrecision(2));
      ticks.push({ at, text: show(at).replace(/\.0+(?= )/, "") });
    }
  }
  return { type: "log", range: [least, most], ticks, ...options };
};

// A figure with a chart and, folded, its numbers. `draw()` gives what `drawPlot` draws, `table()` the numbers as a
// table, when someone asks for them.
const chart = ({ label, caption, draw, table }) => {
  const plot = el("div", { class: "plot", role: "img", "aria-label": label });
  charts.push({ plot, draw, drawn: false });
  const details = el("details", {}, el("summary", {}, "The numbers"));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(table());
  });
  return el("figure", {}, plot, el("figcaption", {}, caption), details);
};

const drawCharts = (wanted) => {
  for (const known of charts.filter(wanted)) {
    const { traces, layout } = known.draw();
    known.drawn = true;
    drawPlot(known.plot, traces, { showlegend: traces.length > 1, ...layout });
    known.plot.dataset.drawn = "true";
  }
};

// Between two charts the page answers to whoever reads it already.
const drawInTurn = () => {
  const following = charts.find((known) => !known.drawn);
  if (following) {
    drawCharts((known) => known === following);
    window.setTimeout(drawInTurn);
  } else {
    root.dataset.drawn = "true";
    performance.mark("drawn");
  }
};

// At most 80 buckets, each the sum of so many neighbours.
const merged = (buckets) => {
  const size = Math.ceil(buckets.length / 80);
  const found = [];
  for (let from = 0; from < buckets.length; from += size) {
    const part = buckets.slice(from, from + size);
    const sum = (name) => part.reduce((total, b) => total + b[name], 0);
    found.push({ ...part[0], prompt_tokens: sum("prompt_tokens"), cached_tokens: sum("cached_tokens") });
  }
  return found;
};

// The hit rate of buckets of requests. Times are on the axis where every bucket has one.
const rateChart = (given, what) => {
  const buckets = merged(given);
  const timed = buckets.length > 1 && buckets.every((b) => b.timestamp !== null);
  const dated = timed && buckets[0].timestamp > 1e9;
  const start = timed ? buckets[0].timestamp : 0;
  const place = (b) => (dated ? new Date(b.timestamp * 1000) : timed ? b.timestamp - start : b.request + 1);
  const rates = buckets.map((b) => share(b.cached_tokens, b.prompt_tokens));
  const places = buckets.map(place);
  // A step lasts until the next one; the last is as long as the one before.
  if (places.length > 1)
    places.push(dated ? new Date(2 * places.at(-1) - places.at(-2)) : 2 * places.at(-1) - places.at(-2));
  const sum = (name) => buckets.reduce((total, b) => total + b[name], 0);
  const mean = share(sum("cached_tokens"), sum("prompt_tokens"));
  const title = dated ? "time, UTC" : timed ? "seconds from the first request" : "request";
  return chart({
    label: `Hit rate over time, ${what}: ${percent(rates[0])} at first, ${percent(rates.at(-1))} at last, ${percent(mean)} in all.`,
    caption: `Share of prompt tokens reused, ${plural(buckets.length, "bucket")} of consecutive requests; ${percent(mean)} in all.`,
    draw: () => ({
      traces: [
        {
          x: places,
          y: buckets.length > 1 ? [...rates, rates.at(-1)] : rates,
          mode: buckets.length > 1 ? "lines" : "markers",
          line: { color: ACCENT, shape: "hv" },
          fill: true,
        },
      ],
      layout: {
        xaxis: {
          type: dated ? "date" : "linear",
          whole: !timed,
          title,
          show: (x) =>
            dated ? x.toISOString().slice(0, 19).replace("T", " ") : timed ? `${x.toFixed(1)} s` : `request ${count(x)}`,
        },
        yaxis: { range: [0, 1] },
      },
    }),
    table: () =>
      plainTable(
        "Hit rate over time",
        [
          { name: "From request" },
          { name: "Prompt tokens", number: true },
          { name: "Cached", number: true },
          { name: "Hit rate", number: true },
        ],
        buckets.map((b, i) => [
          count(b.request + 1),
          count(b.prompt_tokens),
          count(b.cached_tokens),
          percent(rates[i]),
        ]),
      ),
  });
};

// How long first tokens took, a line a run, on a logarithmic axis.
const ttftChart = ({ edges, runs }) => {
  const names = { off: "cache off", on: "cache on" };
  const middles = runs[0].shares.map((_, i) => Math.sqrt(edges[i] * edges[i + 1]));
  return chart({
    label: `Distribution of the time to first token: ${runs.map((r) => `${names[r.run]}, ${plural(r.requests, "request")}`).join("; ")}.`,
    caption: "Share of requests by time to first token, in bins of equal ratio on a logarithmic axis.",
    draw: () => ({
      traces: runs.map((run) => ({
        name: names[run.run],
        x: middles,
        y: run.shares,
        mode: "lines",
        line: { color: run.run === "on" ? ACCENT : QUIET, shape: "hvh" },
        fill: true,
      })),
      layout: {
        xaxis: logAxis(edges[0], edges.at(-1), seconds, { title: "time to first token", show: seconds }),
        yaxis: {},
      },
    }),
    table: () =>
      plainTable(
        "Time to first token",
        [
          { name: "From" },
          { name: "To", number: true },
          ...runs.map((r) => ({ name: names[r.run], number: true })),
        ],
        middles.map((_, i) => [
          seconds(edges[i]),
          seconds(edges[i + 1]),
          ...runs.map((r) => percent(r.shares[i])),
        ]),
      ),
  });
};
