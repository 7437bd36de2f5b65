// The first thing to read of each report: a few figures, the hit rate first.
const figures = (items) =>
  el(
    "dl",
    { class: "figures" },
    items
      .filter((item) => item)
      .map(({ label, name, value, shown, remark }, place) =>
        el(
          "div",
          { class: place === 0 && "first" },
          el("dt", {}, label),
          el("dd", { class: "value" }, name ? figure(name, value, shown) : shown),
          remark && el("dd", { class: "remark" }, remark),
        ),
      ),
  );

const reusedRemark = (r) => `${count(r.cached_tokens)} of ${count(r.prompt_tokens)} prompt tokens reused`;

const requestsItem = (r, id) => ({
  label: "Requests",
  name: `${id}.requests`,
  value: r.requests,
  shown: count(r.requests),
  remark: [
    r.sessions !== undefined && r.sessions !== null && plural(r.sessions, "session"),
    r.bad_lines > 0 && `${plural(r.bad_lines, "bad line")} skipped`,
  ]
    .filter(Boolean)
    .join(", "),
});

const doctorFigures = (d, id) => {
  const best = d.findings
    .filter((f) => f.hit_rate_after !== null)
    .sort((a, b) => b.hit_rate_after - a.hit_rate_after)[0];
  return figures([
    {
      label: "Hit rate",
      name: `${id}.hit_rate`,
      value: d.hit_rate,
      shown: percent(d.hit_rate),
      remark: reusedRemark(d),
    },
    best &&
      best.hit_rate_after > d.hit_rate && {
        label: "With the best single change",
        name: `${id}.best_hit_rate`,
        value: best.hit_rate_after,
        shown: percent(best.hit_rate_after),
        remark: "measured on the rewritten log",
      },
    d.what_if && {
      label: "With the edits asked for",
      name: `${id}.what_if_hit_rate`,
      value: d.what_if.hit_rate,
      shown: percent(d.what_if.hit_rate),
      remark: `${count(Math.abs(d.what_if.gain_tokens))} tokens ${d.what_if.gain_tokens < 0 ? "more" : "less"} to compute`,
    },
    {
      label: "Tokens missed",
      name: `${id}.missed`,
      value: d.prompt_tokens - d.cached_tokens,
      shown: amount(d.prompt_tokens - d.cached_tokens),
      remark: plural(d.findings.length, "finding"),
    },
    requestsItem(d, id),
  ]);
};

const replayFigures = (d, id) => {
  const last = d.runs.at(-1);
  const off = d.runs.length === 2 ? d.runs[0] : null;
  const change = (label, name, before, after) => ({
    label,
    name: `${id}.${name}`,
    value: after,
    shown: seconds(after),
    remark: off
      ? [`${seconds(before)} with the cache off`, times(before, after)].filter(Boolean).join(", ")
      : "",
  });
  return figures([
    last.cache === "on" && {
      label: "Hit rate",
      name: `${id}.hit_rate`,
      value: last.hit_rate,
      shown: percent(last.hit_rate),
      remark: reusedRemark(last),
    },
    change("Time to first token, median", "ttft_p50", off && off.ttft_s.p50, last.ttft_s.p50),
    change("Total time", "wall_s", off && off.wall_s, last.wall_s),
    off && {
      label: "Outputs",
      name: `${id}.identical_outputs`,
      value: d.identical_outputs,
      shown: d.identical_outputs ? "identical" : "different",
      remark: d.equality.outcome,
    },
    requestsItem(d, id),
  ]);
};

// Whether answers depend on batching and cache hits, and what is wrong with them.
const equalAnswers = ({ equality }) => [
  el("p", { class: "note" }, equality.promise),
  equality.broken && el("p", { class: "note" }, el("strong", {}, equality.broken)),
];

const simulateFigures = (d, id) => {
  const real = d.results.filter((r) => r.policy !== "clairvoyant");
  const rate = d.whole_blocks ? "hit_rate_whole_blocks" : "hit_rate";
  const best = [...real].sort((a, b) => b[rate] - a[rate])[0];
  const room = (r) =>
    r.capacity_blocks === null
      ? "without a limit"
      : `with ${count(r.capacity_blocks)} blocks of ${count(r.block_size)}`;
  return figures([
    best && {
      label: "Best hit rate",
      name: `${id}.best_hit_rate`,
      value: best[rate],
      shown: percent(best[rate]),
      remark: `${best.policy}, ${room(best)}`,
    },
    {
      label: "Prompt tokens",
      name: `${id}.prompt_tokens`,
      value: d.prompt_tokens,
      shown: amount(d.prompt_tokens),
    },
    requestsItem(d, id),
  ]);
};

const curveFigures = (d, id) => {
  const curve = d.curves[0];
  if (d.curves.length !== 1) {
    return figures([
      {
        label: "Hit rate, at most",
        name: `${id}.unbounded_hit_rate`,
        value: Math.max(...d.curves.map((c) => c.unbounded_hit_rate)),
        shown: percent(Math.max(...d.curves.map((c) => c.unbounded_hit_rate))),
        remark: `the highest of ${count(d.curves.length)} curves, one for each ${d.by ?? "block size"}`,
      },
      requestsItem(d, id),
    ]);
  }
  const knee = d.points.find((p) => p.capacity_blocks === curve.knee_blocks);
  return figures([
    {
      label: "Hit rate, at most",
      name: `${id}.unbounded_hit_rate`,
      value: curve.unbounded_hit_rate,
      shown: percent(curve.unbounded_hit_rate),
      remark: `with ${amount(curve.saturation_blocks * curve.block_size)} tokens of room`,
    },
    knee && {
      label: "At the knee",
      name: `${id}.knee_hit_rate`,
      value: knee.hit_rate,
      shown: percent(knee.hit_rate),
      remark: `with ${amount(knee.capacity_tokens)} tokens of room`,
    },
    {
      label: "Prompt tokens",
      name: `${id}.prompt_tokens`,
      value: curve.prompt_tokens,
      shown: amount(curve.prompt_tokens),
    },
    requestsItem(d, id),
  ]);
};

const HEADLINES = {
  doctor: ["Diagnosis", doctorFigures],
  replay: ["Replay", replayFigures],
  simulate: ["Simulation", simulateFigures],
  curve: ["Hit rate by cache size", curveFigures],
};

// What kind of cache the doctor looked at.
const doctorSettings = ({ settings: s }) =>
  el(
    "p",
    { class: "note" },
    [
      s.capacity_blocks === null
        ? "A cache that never evicts"
        : `A cache of ${count(s.capacity_blocks)} blocks, ${s.policy}`,
      `blocks of ${count(s.block_size)} tokens`,
      s.tokenizer !== null && `tokenizer ${s.tokenizer}`,
      s.namespace_by !== null && `namespaces by ${s.namespace_by}`,
      s.interleave !== null && `${s.interleave} sessions in turns`,
    ]
      .filter(Boolean)
      .join(" · "),
  );

// Where the prompt tokens went: reused, or missed for one reason each.
const whereTokensWent = (r, id) => {
  const causes = Object.entries(r.missed_tokens)
    .filter(([, tokens]) => tokens > 0)
    .sort((a, b) => b[1] - a[1]);
  const row = (name, label, tokens, meaning, kind) => [
    label,
    figure(`${id}.${name}`, tokens, count(tokens)),
    percent(share(tokens, r.prompt_tokens)),
    bar(share(tokens, r.prompt_tokens), kind),
    el("span", { class: "note" }, meaning),
  ];
  return plainTable(
    "Where the prompt tokens went",
    [
      { name: "" },
      { name: "Tokens", number: true },
      { name: "Share", number: true },
      { name: "", bars: true },
      { name: "" },
    ],
    [
      row("cached_tokens", "reused", r.cached_tokens, "from the cache", "reused"),
      ...causes.map(([cause, tokens]) =>
        row(`missed.${cause}`, words(cause), tokens, MEANINGS[cause] ?? "", ""),
      ),
    ],
  );
};
