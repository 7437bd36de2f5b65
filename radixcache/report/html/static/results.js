// The runs of a replay side by side, and the table of a simulation.

const replayRuns = (d, id) => {
  const both = d.runs.length === 2;
  const line = (label, key, show, compared) => {
    const values = d.runs.map((r) => key.split(".").reduce((value, part) => value[part], r));
    return [
      label,
      ...values.map((v, i) => figure(`${id}.${d.runs[i].cache}.${key}`, v, show(v))),
      ...(both ? [compared ? times(values[0], values[1]) : ""] : []),
    ];
  };
  const rows = [
    line("Requests answered", "requests", count),
    d.runs.some((r) => r.refused) && line("Requests refused", "refused", count),
    line("Prompt tokens", "prompt_tokens", count),
    line("Cached tokens", "cached_tokens", count),
    line("Hit rate", "hit_rate", percent),
    line("Prefill tokens computed", "prefill_tokens", count, true),
    line("Decode tokens computed", "decode_tokens", count),
    ...["p50", "p90", "p99"].map((p) => line(`Time to first token, ${p}`, `ttft_s.${p}`, seconds, true)),
    ...["p50", "p90", "p99"].map((p) => line(`Latency, ${p}`, `latency_s.${p}`, seconds, true)),
    line("Total time", "wall_s", seconds, true),
    line("Wasted room in blocks", "block_waste", percent),
    line("Control plane's share", "control_share", (v) => percent(v, 2)),
    d.runs.some((r) => r.preemptions) && line("Preemptions", "preemptions", count),
  ].filter(Boolean);
  const columns = [
    { name: "" },
    ...d.runs.map((r) => ({ name: `cache ${r.cache}`, number: true })),
    ...(both ? [{ name: "off / on", number: true }] : []),
  ];
  return plainTable("The runs side by side", columns, rows);
};

const differingOutputs = (d) =>
  d.differing_requests.length > 0 &&
  plainTable(
    "Different outputs, token ids from where they part",
    [
      { name: "Request" },
      { name: "From token", number: true },
      { name: "Cache off" },
      { name: "Cache on" },
      { name: "Verdict" },
    ],
    d.differing_requests.map((r, place) => [
      `${fileName(r.source)}:${r.line}`,
      count(r.token),
      r.off.join(" ") || "(end)",
      r.on.join(" ") || "(end)",
      d.equality.verdicts[place],
    ]),
  );

const simulateResults = (d, id) => {
  const key = d.whole_blocks ? "hit_rate_whole_blocks" : "hit_rate";
  const sizes = [...new Set(d.results.map((r) => r.block_size))];
  return sizes.flatMap((size) => {
    const results = d.results.filter((r) => r.block_size === size);
    const policies = [...new Set(results.map((r) => r.policy))];
    const capacities = [...new Set(results.map((r) => r.capacity_blocks))];
    const at = (policy, capacity, name) =>
      results.find((r) => r.policy === policy && r.capacity_blocks === capacity)?.[name];
    const row = (capacity, name) => {
      const real = policies.filter((p) => p !== "clairvoyant").map((p) => at(p, capacity, name) ?? 0);
      return policies.map((policy) => {
        const rate = at(policy, capacity, name);
        if (policy === "clairvoyant" && name === "hit_rate") return NONE;
        const node = figure(
          `${id}.${size}.${capacity ?? "unbounded"}.${policy}.${name}`,
          rate,
          percent(rate, 2),
        );
        return policy !== "clairvoyant" && real.length > 1 && rate === Math.max(...real)
          ? el("strong", {}, node)
          : node;
      });
    };
    const rows = capacities.flatMap((capacity) => {
      const room = capacity === null ? "unbounded" : count(capacity);
      const tokens = capacity === null ? "" : amount(capacity * size);
      const whole = [room, tokens, "whole blocks", ...row(capacity, "hit_rate_whole_blocks")];
      return d.whole_blocks ? [whole] : [[room, tokens, "as served", ...row(capacity, "hit_rate")], whole];
    });
    const table = plainTable(
      `Hit rate, blocks of ${count(size)} tokens`,
      [
        { name: "Blocks" },
        { name: "Tokens", number: true },
        { name: "Counted" },
        ...policies.map((p) => ({ name: p, number: true })),
      ],
      rows,
    );
    const sized = capacities.filter((c) => c !== null).sort((a, b) => a - b);
    if (sized.length < 3) return [table];
    const lines = policies.map((policy) => ({
      name: policy,
      dotted: policy === "clairvoyant",
      x: sized.map((c) => c * size),
      y: sized.map((c) => at(policy, c, policy === "clairvoyant" ? "hit_rate_whole_blocks" : key) ?? null),
    }));
    return [
      curveChart(lines, { what: `blocks of ${size}`, unit: "tokens", table: () => table.cloneNode(true) }),
      table,
    ];
  });
};
