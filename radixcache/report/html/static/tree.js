// The prefix tree as an icicle: the root on top, what follows below, width = tokens of a node and all below it,
// colour = how much of it was reused. One node at a time can be reached by tab, the others by arrow keys.
const ROW = 1.75; // rem
const THINNEST = 0.0004; // share of the width below which a node is not laid out

const linkNodes = (raws) => {
  const nodes = [];
  for (const raw of raws) {
    const parent = raw.parent === null ? null : nodes[raw.parent];
    const node = {
      raw,
      parent,
      depth: parent ? parent.depth + 1 : 0,
      children: [],
      total: raw.tokens,
      nodes: 1,
      rank: 0,
    };
    nodes.push(node);
    if (parent) {
      node.rank = parent.children.length;
      parent.children.push(node);
    }
  }
  for (let i = nodes.length - 1; i > 0; i -= 1) {
    nodes[i].parent.total += nodes[i].total;
    nodes[i].parent.nodes += nodes[i].nodes;
  }
  return nodes;
};

// Of the tokens that requests brought to this node, the share that was reused.
const reuse = ({ raw }) => share(raw.reused_tokens, raw.tokens * raw.requests);

const nodeName = (node) =>
  node.raw.folded
    ? `… ${plural(node.raw.folded, "node")} folded`
    : node.raw.text.trim() || (node.parent ? "(no text)" : "all prompts");

const icicle = (raws) => {
  const nodes = linkNodes(raws);
  const depths = nodes.reduce((most, node) => Math.max(most, node.depth), 0) + 1;
  const view = el("div", {
    class: "icicle",
    role: "tree",
    "aria-label": "Prefix tree. Arrow keys move, Enter zooms in, Escape zooms out.",
  });
  const details = el("div", { class: "tree-details", "aria-live": "polite" });
  let zoomed = nodes[0];
  let current = nodes[0];

  const describe = (node) =>
    [
      node.raw.tokens > 0 && plural(node.raw.tokens, "token"),
      plural(node.raw.requests, "request"),
      node.raw.tokens > 0 && `${percent(reuse(node))} reused`,
      node.children.length > 0 &&
        `${count(node.total)} tokens ${node.raw.tokens ? "with all below" : "in all"}`,
    ]
      .filter(Boolean)
      .join(", ");

  const showDetails = () => {
    details.replaceChildren(
      el("p", {}, el("strong", {}, describe(current)), ` · depth ${current.depth}`),
      el("pre", { tabindex: 0, "aria-label": "Text of the node" }, current.raw.text || nodeName(current)),
    );
    zoomIn.disabled = current === zoomed || !current.children.length;
    zoomOut.disabled = !zoomed.parent;
  };

  const place = (node, left, width, row) => {
    const { style } = node.box;
    node.box.hidden = width < THINNEST;
    style.setProperty("left", `${left * 100}%`);
    style.setProperty("width", `${width * 100}%`);
    style.setProperty("top", `${row * ROW}rem`);
    node.box.classList.toggle("thin", width < 0.03);
    let from = left;
    for (const child of node.children) {
      const part = width * share(child.total, node.total);
      place(child, from, part, row + 1);
      from += part;
    }
  };

  const layOut = () => {
    for (const node of nodes) node.box.hidden = true;
    const path = [];
    for (let up = zoomed.parent; up; up = up.parent) path.unshift(up);
    path.forEach((node, row) => {
      node.box.hidden = false;
      node.box.classList.remove("thin");
      for (const [name, value] of [
        ["left", "0"],
        ["width", "100%"],
        ["top", `${row * ROW}rem`],
      ])
        node.box.style.setProperty(name, value);
    });
    place(zoomed, 0, 1, path.length);
    const deepest = nodes.reduce((most, node) => (node.box.hidden ? most : Math.max(most, node.depth)), 0);
    floor.style.setProperty("top", `${(deepest + 1) * ROW}rem`);
  };

  const select = (node, focus = true) => {
    current.box.tabIndex = -1;
    current.box.setAttribute("aria-selected", "false");
    current = node;
    node.box.tabIndex = 0;
    node.box.setAttribute("aria-selected", "true");
    if (focus) node.box.focus();
    showDetails();
  };

  const zoom = (node, focus = true) => {
    zoomed = node;
    layOut();
    select(node, focus);
  };

  const beside = (node, step) => {
    for (let at = node; at.parent && at !== zoomed; at = at.parent) {
      const next = at.parent.children.slice().filter((n) => !n.box.hidden);
      const found = next[next.indexOf(at) + step];
      if (found) return found;
    }
    return null;
  };

  const moves = {
    ArrowDown: (node) => node.children.find((child) => !child.box.hidden),
    ArrowUp: (node) => node.parent,
    ArrowRight: (node) => beside(node, 1),
    ArrowLeft: (node) => beside(node, -1),
    Home: () => nodes[0],
  };

  view.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in moves) {
      const next = moves[event.key](current);
      if (next) select(next);
    } else if (event.key === "Enter" || event.key === " ") zoom(current);
    else if (event.key === "Escape" || event.key === "Backspace") {
      if (zoomed.parent) zoom(zoomed.parent);
    } else return;
    event.preventDefault();
  });

  const zoomIn = el("button", { type: "button", on: { click: () => zoom(current, false) } }, "Zoom in");
  const zoomOut = el(
    "button",
    { type: "button", on: { click: () => zoomed.parent && zoom(zoomed.parent, false) } },
    "Zoom out",
  );
  const wholeTree = el(
    "button",
    { type: "button", on: { click: () => zoom(nodes[0], false) } },
    "Whole tree",
  );

  for (const node of nodes) {
    node.box = el(
      "div",
      {
        role: "treeitem",
        tabindex: -1,
        "aria-level": node.depth + 1,
        "aria-setsize": node.parent ? node.parent.children.length : 1,
        "aria-posinset": node.rank + 1,
        "aria-selected": "false",
        "aria-expanded": node.children.length ? "true" : null,
        "aria-label": `${nodeName(node).slice(0, 120)}: ${describe(node)}`,
        on: {
          click: () => select(node),
          dblclick: () => zoom(node),
        },
      },
      nodeName(node).slice(0, 160).replaceAll("\n", " "),
    );
    node.box.style.setProperty("--reuse", Math.min(1, reuse(node)).toFixed(3));
    view.append(node.box);
  }
  const floor = el("div", { "aria-hidden": "true" });
  floor.style.setProperty("position", "absolute");
  floor.style.setProperty("height", "1px");
  view.append(floor);
  view.style.setProperty("height", `${Math.min(depths, 19) * ROW + 0.15}rem`);
  layOut();
  select(nodes[0], false);
  return [
    el(
      "p",
      { class: "note" },
      "Every box is tokens that the same requests have in common; below it, how they go on. As wide as its tokens and all that follow, and the deeper the colour the more of it was reused. Arrow keys move, Enter zooms in, Escape zooms out.",
    ),
    el(
      "div",
      { class: "tree-tools" },
      zoomIn,
      zoomOut,
      wholeTree,
      el("span", { class: "scale" }, "never reused", el("i", { "aria-hidden": "true" }), "every time"),
    ),
    view,
    details,
  ];
};
