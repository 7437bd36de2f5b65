// Charts by plotly: drawn one by one when the text is there, and again when colours change.
const charts = [];

// A colour of the style sheet as plotly wants it.
const colour = (name) => {
  const probe = el("span");
  probe.style.setProperty("color", `var(--${name})`);
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
};

const palette = () => ({
  text: colour("muted"),
  line: colour("line"),
  accent: colour("accent"),
  quiet: colour("quiet"),
  surface: colour("surface"),
  series: [1, 2, 3, 4, 5, 6, 7, 8].map((number) => colour(`series-${number}`)),
});

// plotly takes some markup in names for formatting; what comes from a log must not be.
const plotText = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "% {");

const axis = (colours, options) => ({
  gridcolor: colours.line,
  linecolor: colours.line,
  zeroline: false,
  fixedrange: true,
  automargin: true,
  ...options,
});

const PERCENT_AXIS = { tickformat: ".0%", rangemode: "tozero", nticks: 6 };

// A logarithmic axis over what is drawn, with round labels: 1, 2 and 5 of every decade if that are few, else 1.
const logAxis = (colours, least, most, show, options) => {
  const decades = Math.log10(most / least);
  const digits = decades > 2.2 ? [1] : decades > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
  const ticks = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most); power += 1) {
    for (const digit of digits) {
      const tick = Number((digit * 10 ** power).toPrecision(2));
      if (tick >= least * 0.999 && tick <= most * 1.001) ticks.push(tick);
    }
  }
  const range = [Math.log10(least), Math.log10(most)];
  return axis(colours, {
    type: "log",
    range,
    tickvals: ticks,
    ticktext: ticks.map((tick) => show(tick).replace(/\.0+(?= )/, "")),
    showgrid: false,
    ...options,
  });
};

// A figure with a chart and, folded, its numbers. `draw(colours)` gives plotly's traces and layout, `table()` the
// numbers as a table, when someone asks for them.
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
  const chosen = charts.filter(wanted);
  if (!chosen.length) return;
  const colours = palette();
  const family = getComputedStyle(document.body).fontFamily;
  for (const known of chosen) {
    const { plot } = known;
    const { traces, layout } = known.draw(colours);
    known.drawn = true;
    const common = {
      font: { family, size: 13, color: colours.text },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      height: 320,
      margin: { l: 48, r: 16, t: 12, b: 44 },
      hovermode: "x unified",
      hoverlabel: { bgcolor: colours.surface, bordercolor: colours.line, font: { color: colours.text } },
      dragmode: false,
      showlegend: traces.length > 1,
      legend: {
        orientation: "h",
        x: 0,
        y: 1.02,
        yanchor: "bottom",
        itemclick: false,
        itemdoubleclick: false,
      },
    };
    const config = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false };
    Plotly.react(plot, traces, { ...common, ...layout }, config);
    plot.dataset.drawn = "true";
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
    draw: (colours) => ({
      traces: [
        {
          x: places,
          y: buckets.length > 1 ? [...rates, rates.at(-1)] : rates,
          mode: buckets.length > 1 ? "lines" : "markers",
          line: { color: colours.accent, width: 2, shape: "hv" },
          fill: "tozeroy",
          fillcolor: colours.accent.replace("rgb(", "rgba(").replace(")", ", 0.12)"),
          hovertemplate: "%{y:.1%}<extra></extra>",
        },
      ],
      layout: {
        xaxis: axis(colours, { title: { text: title }, nticks: 6, showgrid: false }),
        yaxis: axis(colours, { ...PERCENT_AXIS, range: [0, 1] }),
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
    draw: (colours) => ({
      traces: runs.map((run) => {
        const own = run.run === "on" ? colours.accent : colours.quiet;
        return {
          name: names[run.run],
          x: middles,
          y: run.shares,
          mode: "lines",
          line: { color: own, width: 2, shape: "hvh" },
          fill: "tozeroy",
          fillcolor: own.replace("rgb(", "rgba(").replace(")", ", 0.15)"),
          hovertemplate: "%{y:.1%}",
        };
      }),
      layout: {
        xaxis: logAxis(colours, edges[0], edges.at(-1), seconds, {
          title: { text: "time to first token" },
          hoverformat: ".3~s",
        }),
        yaxis: axis(colours, { ...PERCENT_AXIS, title: { text: "requests" } }),
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
