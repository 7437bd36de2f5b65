// Hit rates by capacity: curves with their knee and bound.

// Capacities to draw: from the power of ten by which next to nothing has happened in any line, to the largest.
const span = (lines) => {
  const real = lines.filter((l) => l.x.length);
  const most = Math.max(...real.map((l) => l.x.at(-1)));
  const starts = real.map((l) => {
    const flat = l.y.filter((y) => y <= l.y[0] + 0.05 * (l.y.at(-1) - l.y[0])).length;
    return l.x[Math.max(0, flat - 1)];
  });
  const least = 10 ** Math.floor(Math.log10(Math.max(1, Math.min(...starts))));
  return { least, most: Math.max(most, least * 2) };
};

// A bound is known at some capacities only. Between them its line is straight, but never under the line that it
// bounds.
const guide = (bound, { x, y }) => {
  const between = (at) => {
    const next = bound.x.findIndex((known) => known >= at);
    if (next < 0) return bound.y.at(-1);
    if (next === 0) return bound.y[0];
    const part = Math.log(at / bound.x[next - 1]) / Math.log(bound.x[next] / bound.x[next - 1]);
    return bound.y[next - 1] + part * (bound.y[next] - bound.y[next - 1]);
  };
  const places = x.map((_, i) => i).filter((i) => x[i] >= bound.x[0]);
  return { x: places.map((i) => x[i]), y: places.map((i) => Math.max(y[i], between(x[i]))) };
};

const curveChart = (lines, { what, unit, table, sampled }) => {
  const told = lines.map(
    (l) =>
      `${l.name}: ${percent(l.y[0])} to ${percent(l.y.at(-1))}${l.knee ? `, knee at ${amount(l.knee.x)} ${unit} with ${percent(l.knee.y)}` : ""}`,
  );
  const notes = [
    lines.some((l) => l.knee) && "The dot marks the knee, after which more room brings clearly less.",
    lines.some((l) => l.dotted) &&
      "Clairvoyant is the most whole blocks that any eviction policy could reuse if it knew all requests to come.",
    sampled && `Estimated from ${percent(sampled)} of the blocks.`,
  ].filter(Boolean);
  return chart({
    label: `Hit rate by capacity in ${unit}, ${what}. ${told.join("; ")}.`,
    caption: notes.join(" "),
    table,
    draw: () => {
      const { least, most } = span(lines);
      const own = (l, i) => (l.dotted ? QUIET : SERIES[i % SERIES.length]);
      const traces = lines.flatMap((l, i) => {
        const line = { color: own(l, i), dash: l.dotted ? "dot" : "solid" };
        const trace = { name: l.name, x: l.x, y: l.y, mode: "lines", line };
        if (!l.above) return [trace];
        const points = { ...trace, mode: "markers", marker: { size: 5 }, showlegend: false };
        return [{ ...trace, ...guide(l, l.above), hover: false }, points];
      });
      const known = lines.filter((l) => l.knee);
      traces.push(
        ...known.map((l) => ({
          name: "knee",
          x: [l.knee.x],
          y: [l.knee.y],
          mode: "markers",
          marker: { size: 10, color: own(l, lines.indexOf(l)), ring: true },
          hover: false,
          showlegend: false,
        })),
      );
      const annotations = (known.length === 1 ? known : []).map(({ knee }) => ({
        x: knee.x,
        y: knee.y,
        text: `knee, ${amount(knee.x)} ${unit}`,
      }));
      return {
        traces,
        layout: {
          annotations,
          showlegend: lines.length > 1,
          xaxis: logAxis(least, most, amount, {
            title: `cache capacity in ${unit}`,
            show: (x) => `${count(x)} ${unit}`,
          }),
          yaxis: {},
        },
      };
    },
  });
};

const doctorCurve = (sketch) => {
  const best = sketch.points.filter((p) => p.clairvoyant_hit_rate !== null);
  const lines = [
    {
      name: "LRU",
      x: sketch.points.map((p) => p.capacity_blocks),
      y: sketch.points.map((p) => p.hit_rate),
      knee: sketch.knee && { x: sketch.knee.capacity_blocks, y: sketch.knee.hit_rate },
    },
  ];
  if (best.length)
    lines.push({
      name: "clairvoyant",
      dotted: true,
      above: lines[0],
      x: best.map((p) => p.capacity_blocks),
      y: best.map((p) => p.clairvoyant_hit_rate),
    });
  return curveChart(lines, {
    what: `blocks of ${sketch.block_size}`,
    unit: "blocks",
    table: () =>
      plainTable(
        `Hit rate by capacity, blocks of ${count(sketch.block_size)} tokens`,
        [{ name: "Blocks" }, { name: "Hit rate", number: true }, { name: "Clairvoyant", number: true }],
        sketch.points.map((p) => [
          count(p.capacity_blocks),
          percent(p.hit_rate, 2),
          percent(p.clairvoyant_hit_rate, 2),
        ]),
      ),
  });
};

const curveReport = (d) => {
  const own = (c) => d.points.filter((p) => p.namespace === c.namespace && p.block_size === c.block_size);
  const one = d.curves.length === 1;
  const name = (c) =>
    [d.by && (c.namespace || "(no namespace)"), `blocks of ${count(c.block_size)}`]
      .filter(Boolean)
      .join(", ");
  const lines = [];
  for (const c of d.curves) {
    const points = own(c);
    const knee = points.find((p) => p.capacity_blocks === c.knee_blocks);
    lines.push({
      name: one ? "LRU" : name(c),
      x: points.map((p) => p.capacity_tokens),
      y: points.map((p) => p.hit_rate),
      knee: knee && { x: knee.capacity_tokens, y: knee.hit_rate },
    });
  }
  if (one) {
    const best = own(d.curves[0]).filter((p) => p.clairvoyant_hit_rate !== null);
    if (best.length)
      lines.push({
        name: "clairvoyant",
        dotted: true,
        above: lines[0],
        x: best.map((p) => p.capacity_tokens),
        y: best.map((p) => p.clairvoyant_hit_rate),
      });
  }
  const weighed = d.bytes_per_token !== null;
  const rows = (c) =>
    own(c)
      .filter((p) => c.table_blocks.includes(p.capacity_blocks))
      .map((p) => {
        const cells = [
          count(p.capacity_blocks),
          count(p.capacity_tokens),
          ...(weighed ? [(p.capacity_bytes / 1e9).toPrecision(3)] : []),
          percent(p.hit_rate, 2),
          percent(p.clairvoyant_hit_rate, 2),
          p.capacity_blocks === c.knee_blocks
            ? "knee"
            : p.capacity_blocks === c.saturation_blocks
              ? "all"
              : "",
        ];
        if (p.capacity_blocks === c.knee_blocks) cells.mark = "chosen";
        return cells;
      });
  const number = (title) => ({ name: title, number: true });
  const columns = [
    { name: "Blocks" },
    number("Tokens"),
    ...(weighed ? [number("GB")] : []),
    number("Hit rate"),
    number("Clairvoyant"),
    { name: "" },
  ];
  const tables = d.curves.map((c) =>
    plainTable(`Capacities, ${one ? `blocks of ${count(c.block_size)} tokens` : name(c)}`, columns, rows(c)),
  );
  return [
    lines.some((l) => l.x.length) &&
      curveChart(lines, {
        what: logNames(d.logs),
        unit: "tokens",
        sampled: d.sample,
        table: () => el("div", {}, tables),
      }),
    one && tables[0].cloneNode(true),
  ];
};
