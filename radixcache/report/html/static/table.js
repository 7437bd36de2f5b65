// The requests, a page at a time, so that a hundred thousand are as quick as a hundred. Sorting and filtering work
// on an array of row numbers; cells are made for the page in view only.
const PAGE_ROWS = 25;
const OPERATORS = {
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "=": (a, b) => a === b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
};
const COMPARISON = /^([a-z_]+)(<=|>=|<|>|=)(-?[0-9.]+)$/i;

const cellText = (column, row) => {
  const value = column.values[row];
  if (column.kind === "text")
    return column.name === "cause" ? words(column.texts[value]) : column.texts[value];
  if (value === null) return NONE;
  if (column.kind === "seconds") return seconds(value);
  if (column.kind === "time")
    return value > 1e9 && value < 1e11
      ? new Date(value * 1000).toISOString().replace("T", " ").slice(0, 19)
      : `${value.toFixed(1)} s`;
  return column.name.endsWith("line") ? String(value) : count(value);
};

// What to sort a row by: numbers as they are, texts by their place in alphabetical order.
const sortKeys = (column) => {
  if (column.kind !== "text") return column.values;
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const order = column.texts.map((_, code) => code).sort((a, b) => compare(column.texts[a], column.texts[b]));
  const ranks = new Int32Array(order.length);
  order.forEach((code, rank) => (ranks[code] = rank));
  return column.values.map((code) => ranks[code]);
};

// Rows that hold every word of the filter in some text, and for which every comparison of a number holds.
const matchingRows = (table, filter) => {
  const terms = filter.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const tests = terms.map((term) => {
    const parts = COMPARISON.exec(term);
    const column =
      parts &&
      table.columns.find(
        (c) => c.kind !== "text" && [c.name, c.label.toLowerCase()].some((n) => n.startsWith(parts[1])),
      );
    if (column) {
      const holds = OPERATORS[parts[2]];
      const than = Number(parts[3]);
      return (row) => column.values[row] !== null && holds(column.values[row], than);
    }
    const found = table.columns
      .filter((c) => c.kind === "text")
      .map((c) => {
        const shown = c.texts.map((text) =>
          Number((c.name === "cause" ? words(text) : text).toLowerCase().includes(term)),
        );
        return { values: c.values, has: Uint8Array.from(shown) };
      });
    return (row) => found.some((c) => c.has[c.values[row]] === 1);
  });
  const rows = [];
  for (let row = 0; row < table.rows; row += 1) if (tests.every((test) => test(row))) rows.push(row);
  return Int32Array.from(rows);
};

const sortRows = (rows, keys, descending) => {
  const way = descending ? -1 : 1;
  return rows.sort((a, b) => {
    const x = keys[a];
    const y = keys[b];
    if (x === y) return a - b;
    if (x === null) return 1; // what was not measured comes last, either way
    if (y === null) return -1;
    return x < y ? -way : way;
  });
};

const requestTable = (table, number) => {
  let filter = "";
  let sorted = null; // {column, descending}
  let page = 0;
  let rows = matchingRows(table, "");
  const body = el("tbody");
  const status = el("output", { "aria-live": "polite", "data-figure": `table.${number}.status` });
  const total =
    table.total > table.rows ? `; those are the requests that missed most of ${count(table.total)}` : "";

  const draw = () => {
    const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
    page = Math.min(Math.max(0, page), pages - 1);
    const shown = rows.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS);
    body.replaceChildren(
      ...Array.from(shown, (row) =>
        el(
          "tr",
          {},
          table.columns.map((c) => {
            const text = cellText(c, row);
            return el(
              "td",
              { class: c.kind === "text" ? null : "number", title: text.length > 40 ? text : null },
              text,
            );
          }),
        ),
      ),
    );
    const from = rows.length ? page * PAGE_ROWS + 1 : 0;
    const of = rows.length === table.rows ? "" : `, filtered from ${count(table.rows)}`;
    status.replaceChildren(
      `${count(from)} to ${count(from + Math.max(0, shown.length - 1))} of ${count(rows.length)}${of}${total}`,
    );
    first.disabled = previous.disabled = page === 0;
    next.disabled = last.disabled = page === pages - 1;
  };

  const update = () => {
    rows = matchingRows(table, filter);
    if (sorted) rows = sortRows(rows, sorted.keys, sorted.descending);
    page = 0;
    draw();
  };

  const sortBy = (column, head) => {
    const again = sorted && sorted.column === column;
    const descending = again ? !sorted.descending : column.kind !== "text" && column.name !== "line";
    sorted = { column, keys: again ? sorted.keys : sortKeys(column), descending };
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    update();
  };

  const heads = table.columns.map((column) => {
    const head = el("th", { scope: "col", class: column.kind === "text" ? null : "number" });
    head.append(el("button", { type: "button", on: { click: () => sortBy(column, head) } }, column.label));
    return head;
  });

  const go = (label, to) =>
    el(
      "button",
      {
        type: "button",
        on: {
          click: () => {
            page = to();
            draw();
          },
        },
      },
      label,
    );
  const first = go("First", () => 0);
  const previous = go("Previous", () => page - 1);
  const next = go("Next", () => page + 1);
  const last = go("Last", () => Infinity);

  const id = `filter-${number}`;
  let waiting;
  const input = el("input", {
    type: "search",
    id,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": `${id}-how`,
    on: {
      input: () => {
        window.clearTimeout(waiting);
        waiting = window.setTimeout(() => {
          filter = input.value;
          update();
        }, 80);
      },
    },
  });
  draw();
  return [
    el(
      "div",
      { class: "table-tools" },
      el("div", { class: "field" }, el("label", { for: id }, "Filter"), input),
    ),
    el(
      "p",
      { class: "note", id: `${id}-how` },
      "Words that occur in a row, and comparisons such as ",
      el("code", {}, "cached<100"),
      " or ",
      el("code", {}, "missed>=2000"),
      ". A column's title sorts by it.",
    ),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": table.title },
      el(
        "table",
        { class: "requests" },
        el("caption", { class: "unseen" }, table.title),
        el("thead", {}, el("tr", {}, heads)),
        body,
      ),
    ),
    el("div", { class: "pager" }, status, first, previous, next, last),
  ];
};
