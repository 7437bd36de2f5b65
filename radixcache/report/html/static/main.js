// Lays the page out from its data.
const start = () => {
  const payload = JSON.parse(document.getElementById("data").textContent);
  const { reports, timelines, ttft, tables, redacted } = payload;
  const main = document.getElementById("main");
  const logs = [...new Set(reports.flatMap((r) => r.data.logs))];
  main.append(
    el("h1", {}, el("span", { class: "outside" }, logNames(logs) || "Report")),
    el(
      "p",
      { class: "sub" },
      "What the prefix cache reused, what it missed, and why",
      redacted ? ". Texts are replaced by their lengths and digests." : ".",
    ),
  );

  reports.forEach(({ kind, name, data }, number) => {
    const id = `r${number + 1}`;
    const [title, draw] = HEADLINES[kind];
    const many = reports.filter((r) => r.kind === kind).length > 1;
    const parts = [draw(data, id)];
    if (kind === "doctor") parts.push(whereTokensWent(data, id), doctorSettings(data));
    if (kind === "replay") {
      const last = data.runs.at(-1);
      parts.push(...equalAnswers(data));
      if (last.cache === "on") parts.push(whereTokensWent(last, id));
      parts.push(replayRuns(data, id), differingOutputs(data) || null);
    }
    if (kind === "simulate") parts.push(...simulateResults(data, id));
    if (kind === "curve") parts.push(...curveReport(data));
    main.append(section(many ? `${title}, ${name}` : title, title, ...parts.filter(Boolean)));
    if (kind !== "doctor") return;
    main.append(section("Findings", "Findings", findingsList(data, id, redacted)));
    if (data.timeline.length)
      main.append(section("Hit rate over time", "Over time", rateChart(data.timeline, name)));
    if (data.curve && data.curve.points.length)
      main.append(section("Hit rate by cache size", "Cache size", doctorCurve(data.curve)));
    if (data.tree.nodes.length > 1) main.append(section("The prefix tree", "Tree", icicle(data.tree.nodes)));
    if (data.pricing) main.append(section("What it costs", "Cost", pricingTable(data.pricing, id, redacted)));
  });

  if (timelines.length) {
    const drawn = timelines.map(({ run, buckets }) =>
      [timelines.length > 1 && el("h3", {}, run), rateChart(buckets, run)].filter(Boolean),
    );
    const both = reports.some(({ kind, data }) => kind === "doctor" && data.timeline.length);
    const title = `Hit rate over time${both ? ", the runs" : ""}`;
    main.append(section(title, both ? "Runs over time" : "Over time", drawn));
  }
  if (ttft) main.append(section("Time to first token", "First token", ttftChart(ttft)));
  tables.forEach((table, number) =>
    main.append(
      section(
        table.title,
        number && tables.length > 1 ? "Requests of runs" : "Requests",
        requestTable(table, number + 1),
      ),
    ),
  );

  document.getElementById("contents").append(
    el(
      "ul",
      {},
      sections.map(({ id, short }) => el("li", {}, el("a", { href: `#${id}` }, short))),
    ),
  );
  const versions = Object.assign({}, ...reports.map((r) => r.data.versions));
  document.getElementById("footer").append(
    el("p", {}, logs.join(", ")),
    el(
      "p",
      {},
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(" · "),
    ),
  );
  startTheme(() => drawCharts((known) => !known.drawn));
  performance.mark("ready");
  document.addEventListener("DOMContentLoaded", drawInTurn); // what draws comes last in the file
};

start();
