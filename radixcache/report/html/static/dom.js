// Elements from plain values. Text becomes text nodes only; nothing here, or anywhere in the page, parses markup.
const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on")
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""),
  );
  return node;
};

// A number as it is read, with the exact value beside it.
const figure = (name, value, shown) =>
  el("data", { value: value === null || value === undefined ? "" : value, "data-figure": name }, shown);

const sections = [];

const columnClass = (column) => (column.number ? "number" : column.bars ? "bars" : null);

// A part of the page with a heading; `short` is its name in the contents.
const section = (title, short, ...children) => {
  const id = `part-${sections.length + 1}`;
  const node = el("section", { "aria-labelledby": id }, el("h2", { id, tabindex: -1 }, title), ...children);
  sections.push({ id, short });
  return node;
};

// A table from a list of columns ({name, and number or bars}) and rows of cells (text or nodes); the first cell heads its row.
const plainTable = (caption, columns, rows, extra = {}) =>
  el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el(
      "table",
      extra,
      el("caption", {}, caption),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          columns.map((c) => el("th", { scope: "col", class: columnClass(c) }, c.name)),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map((cells) =>
          el(
            "tr",
            { class: cells.mark },
            cells.map((cell, place) =>
              el(
                place ? "td" : "th",
                { scope: place ? null : "row", class: columnClass(columns[place]) },
                cell,
              ),
            ),
          ),
        ),
      ),
    ),
  );

// A bar for a share of 1, beside a figure that says the same in words.
const bar = (share, kind = "") => {
  const fill = el("span", { class: `fill ${kind}` });
  fill.style.setProperty("width", `${Math.max(share > 0 ? 0.5 : 0, Math.min(1, share) * 100)}%`);
  return el("span", { class: "bar", "aria-hidden": "true" }, fill);
};
