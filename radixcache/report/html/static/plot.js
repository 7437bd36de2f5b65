// Charts as SVG: lines, steps and dots over a linear, logarithmic or time axis, with shares of 1 as y.
"use strict";
const drawPlot = (() => {
  const NS = document.querySelector("svg").namespaceURI;
  const HEIGHT = 320;
  const MARGIN = { top: 12, right: 16, bottom: 48, left: 52 };
  const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  const DAY = 86_400;

  const html = (tag, className, text) => {
    const node = document.createElement(tag);
    node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const svg = (tag, attributes, style, ...children) => {
    const node = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
    for (const [name, value] of Object.entries(style ?? {})) node.style.setProperty(name, value);
    node.append(...children);
    return node;
  };

  const niceStep = (span, most) => {
    const raw = span / most;
    const power = 10 ** Math.floor(Math.log10(raw));
    return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw * 0.999);
  };

  const multiples = (from, to, step) => {
    const found = [];
    for (let i = Math.ceil(from / step - 1e-9); i * step <= to + step * 1e-9; i += 1) found.push(i * step);
    return found;
  };

  const timeTicks = (from, to, most) => {
    const span = (to - from) / 1000;
    const days = [1, 2, 7, 14, 30, 91, 182, 365, 730, 3650].map((n) => n * DAY);
    const step = [...TIME_STEPS, ...days].find((s) => span / s <= most) ?? niceStep(span, most);
    return multiples(from, to, step * 1000).map((at) => {
      const text = new Date(at).toISOString();
      return { at, text: step < 60 ? text.slice(11, 19) : step < DAY ? text.slice(11, 16) : text.slice(0, 10) };
    });
  };

  const xTicks = (axis, from, to, most) => {
    if (axis.ticks) return axis.ticks.filter(({ at }) => at >= from * 0.999 && at <= to * 1.001);
    if (axis.type === "date") return timeTicks(from, to, most);
    const step = Math.max(axis.whole ? 1 : 0, niceStep(to - from, most));
    return multiples(from, to, step).map((at) => ({ at, text: Number(at.toPrecision(6)).toLocaleString("en-US") }));
  };

  const extent = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);

  // Points of a trace on the canvas, in runs without gaps.
  const runs = (trace, place) => {
    const found = [[]];
    trace.x.forEach((x, i) => {
      if (trace.y[i] === null || trace.y[i] === undefined) found.push([]);
      else found.at(-1).push(place(x, trace.y[i]));
    });
    return found.filter((run) => run.length);
  };

  // A run as a path; `hv` steps at the next point, `hvh` half-way to it.
  const pathOf = (run, shape) =>
    run
      .map(([x, y], i) => {
        if (!i) return `M${x},${y}`;
        const [before] = run[i - 1];
        if (shape === "hv") return `H${x}V${y}`;
        return shape === "hvh" ? `H${(before + x) / 2}V${y}H${x}` : `L${x},${y}`;
      })
      .join("");

  // What is under a place of the canvas: for steps the one that it is on, else the nearest point.
  const nearest = (trace, place, at) => {
    let best = -1;
    trace.x.forEach((x, i) => {
      if (trace.y[i] === null || trace.y[i] === undefined) return;
      const [left] = place(x, 0);
      if (trace.line?.shape === "hv") {
        if (left <= at + 0.5 || best < 0) best = i;
      } else if (best < 0 || Math.abs(left - at) < Math.abs(place(trace.x[best], 0)[0] - at)) best = i;
    });
    return best;
  };

  const legendOf = (traces) => {
    const legend = html("div", "legend");
    for (const trace of traces.filter((t) => t.name && t.showlegend !== false)) {
      const entry = html("span", "outside", trace.name);
      const sign = html("i", trace.line?.dash === "dot" ? "dotted" : "");
      sign.style.setProperty("color", trace.line?.color ?? trace.marker.color);
      entry.prepend(sign);
      legend.append(entry);
    }
    return legend;
  };

  const draw = (node, traces, { xaxis, yaxis, annotations = [], showlegend }) => {
    const width = Math.max(220, node.clientWidth);
    const across = width - MARGIN.left - MARGIN.right;
    const down = HEIGHT - MARGIN.top - MARGIN.bottom;
    const xs = traces.flatMap((t) => [...t.x].map(Number));
    const ys = traces.flatMap((t) => t.y.filter((y) => y !== null && y !== undefined));
    let [from, to] = xaxis.range ?? extent(xs);
    if (!(to > from)) [from, to] = [from - 1, from + 1];
    const yStep = niceStep(yaxis.range ? 1 : Math.max(extent(ys)[1], 0.01), 5);
    const top = yaxis.range ? 1 : Math.max(1, Math.ceil(extent(ys)[1] / yStep - 1e-9)) * yStep;
    const scale = xaxis.type === "log" ? Math.log : Number;
    const span = scale(to) - scale(from);
    const place = (x, y) => [((scale(+x) - scale(from)) / span) * across, (1 - y / top) * down];

    const canvas = svg("svg", { width, height: HEIGHT, "aria-hidden": "true", class: "chart" });
    const inside = svg("g", { transform: `translate(${MARGIN.left},${MARGIN.top})` });
    canvas.append(inside);
    for (const y of multiples(0, top, yStep)) {
      const [, height] = place(to, y);
      const text = `${Number((y * 100).toPrecision(4))}%`;
      inside.append(
        svg("line", { x1: 0, x2: across, y1: height, y2: height, class: "grid" }),
        svg("g", { class: "ytick" }, {}, svg("text", { x: -8, y: height + 4, "text-anchor": "end" }, {}, text)),
      );
    }
    let free = -Infinity;
    for (const { at, text } of xTicks(xaxis, from, to, Math.max(2, Math.min(6, across / 90)))) {
      const [left] = place(at, 0);
      const half = text.length * 3.8;
      if (left - half < free) continue;
      free = left + half + 8;
      const anchor = left + half > across + MARGIN.right ? "end" : left < half - MARGIN.left ? "start" : "middle";
      inside.append(
        svg("line", { x1: left, x2: left, y1: down, y2: down + 4, class: "grid" }),
        svg("g", { class: "xtick" }, {}, svg("text", { x: left, y: down + 18, "text-anchor": anchor }, {}, text)),
      );
    }
    inside.append(
      svg("text", { x: across / 2, y: down + 40, "text-anchor": "middle", class: "title" }, {}, xaxis.title),
    );
    // An svg within an svg shows nothing beyond its edges.
    const clipped = svg("svg", { x: 0, y: 0, width: across, height: down + 1 });
    inside.append(clipped);
    for (const trace of traces) {
      for (const run of runs(trace, place)) {
        if (trace.mode !== "markers") {
          const path = pathOf(run, trace.line.shape);
          if (trace.fill)
            clipped.append(
              svg("path", { d: `${path}V${down}H${run[0][0]}Z` }, { fill: trace.line.color, "fill-opacity": 0.12 }),
            );
          const dash = trace.line.dash === "dot" ? { "stroke-dasharray": "2 4" } : {};
          clipped.append(
            svg("path", { d: path, ...dash }, { fill: "none", stroke: trace.line.color, "stroke-width": 2 }),
          );
          continue;
        }
        const { size = 8, color = trace.line?.color, ring } = trace.marker ?? {};
        for (const [cx, cy] of run) {
          if (cx < -0.5 || cx > across + 0.5) continue;
          const edge = ring ? { stroke: "var(--surface)", "stroke-width": 2 } : {};
          inside.append(svg("circle", { cx, cy, r: size / 2 }, { fill: color, ...edge }));
        }
      }
    }
    for (const { x, y, text } of annotations) {
      const [left, height] = place(x, y);
      const late = left > 0.6 * across;
      const at = { x: left + (late ? -8 : 8), y: Math.min(height + (late ? 44 : 24), down - 6), class: "note" };
      inside.append(svg("text", { ...at, "text-anchor": late ? "end" : "start" }, {}, text));
    }

    const cursor = svg("line", { y1: 0, y2: down, class: "cursor" }, { display: "none" });
    inside.append(cursor);
    const tip = html("div", "tip");
    const told = traces.filter((t) => t.hover !== false);
    const hide = () => {
      tip.hidden = true;
      cursor.style.setProperty("display", "none");
    };
    const show = (event) => {
      const at = event.clientX - canvas.getBoundingClientRect().left - MARGIN.left;
      const lead = told[0] && nearest(told[0], place, at);
      if (lead === undefined || lead < 0 || at < -4 || at > across + 4) return hide();
      const x = told[0].x[lead];
      const [left] = place(x, 0);
      tip.replaceChildren(html("b", "", xaxis.show(x)));
      for (const trace of told) {
        const i = trace === told[0] ? lead : nearest(trace, place, left);
        if (i < 0 || Math.abs(place(trace.x[i], 0)[0] - left) > 1) continue;
        const line = html("span", "outside", `${trace.name ? `${trace.name} ` : ""}${(trace.y[i] * 100).toFixed(1)}%`);
        const sign = html("i", "");
        sign.style.setProperty("color", trace.line.color);
        line.prepend(sign);
        tip.append(line);
      }
      tip.hidden = false;
      const right = left > across / 2;
      tip.style.setProperty("left", right ? "auto" : `${MARGIN.left + left + 10}px`);
      tip.style.setProperty("right", right ? `${width - MARGIN.left - left + 10}px` : "auto");
      for (const [name, value] of [["x1", left], ["x2", left]]) cursor.setAttribute(name, String(value));
      cursor.style.removeProperty("display");
      return undefined;
    };
    hide();
    canvas.addEventListener("pointermove", show);
    canvas.addEventListener("pointerleave", hide);
    const area = html("div", "area");
    area.append(canvas, tip);
    node.replaceChildren(...(showlegend ? [legendOf(traces)] : []), area);
    node.data = traces;
    return width;
  };

  // Draw a chart into a node, and again whenever the node's width changes.
  return (node, traces, layout) => {
    let drawn = draw(node, traces, layout);
    node.observer?.disconnect();
    node.observer = new ResizeObserver(() => {
      if (Math.max(220, node.clientWidth) !== drawn) drawn = draw(node, traces, layout);
    });
    node.observer.observe(node);
  };
})();
