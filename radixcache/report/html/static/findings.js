// Why prompts missed, what lost most first, each with two requests side by side.
const KIND_TITLES = {
  volatile_text: "Text that changes from request to request appears early in the prompt",
  reordered: "The same pieces come in another order",
  json_layout: "The same JSON is written in another layout",
  history_rewritten: "Earlier turns were rewritten",
  tools_changed: "The tools changed",
  template_not_stable: "The chat template renders earlier turns differently later",
  retokenised: "Answers come back as other tokens than were generated",
  capacity: "The cache is too small",
  policy: "Another eviction policy would keep more",
  partial_block: "Prefixes end inside a block",
  expired: "Prefixes expire before they come back",
  other_namespace: "Prefixes are known in another namespace",
  model_changed: "The model or adapter changed",
  not_yet_computed: "Requests come before the prefix they share is computed",
  too_large: "Prompts are larger than the cache",
};

const place = (where) =>
  [
    where.part === "message" && where.message !== null ? `message ${where.message + 1}` : where.part,
    where.role && where.role !== where.part && `(${where.role})`,
    where.line !== null && where.line !== undefined && `line ${count(where.line)}`,
  ]
    .filter(Boolean)
    .join(", ")
    .replace(", (", " (");

const side = (name, at) =>
  el(
    "figure",
    { class: "side" },
    el("figcaption", {}, `${name}: `, el("span", { class: "outside" }, `${fileName(at.source)}:${at.line}`)),
    el(
      "pre",
      { tabindex: 0 },
      at.before,
      el("span", { class: "unseen" }, at.differs ? " [differs: " : " [nothing here] "),
      at.differs ? el("mark", {}, at.differs) : el("mark", { class: "nothing", "aria-hidden": "true" }, "∅"),
      el("span", { class: "unseen" }, at.differs ? "] " : ""),
      at.after,
    ),
  );

const finding = (f, d, id, redacted) => {
  const name = `${id}.${f.id}`;
  const gains = [
    ["Requests", figure(`${name}.requests`, f.requests, count(f.requests))],
    place(f.where) && ["Where", place(f.where)],
    f.prefill_s !== null && ["Prefill", figure(`${name}.prefill_s`, f.prefill_s, seconds(f.prefill_s))],
    f.money && ["Cost", figure(`${name}.money`, f.money.amount, money(f.money.amount, f.money.currency))],
    f.gain_tokens !== null && [
      "Measured gain",
      el("strong", {}, figure(`${name}.gain_tokens`, f.gain_tokens, `${count(f.gain_tokens)} tokens`)),
    ],
    f.hit_rate_after !== null && [
      "Hit rate",
      el(
        "strong",
        {},
        `${percent(d.hit_rate)} → `,
        figure(`${name}.hit_rate_after`, f.hit_rate_after, percent(f.hit_rate_after)),
      ),
    ],
  ].filter(Boolean);
  return el(
    "li",
    { class: "finding", id: `${id}-${f.id}` },
    el(
      "div",
      { class: "finding-head" },
      el("h3", {}, redacted ? (KIND_TITLES[f.kind] ?? words(f.kind)) : f.title),
      el(
        "span",
        { class: "lost" },
        figure(`${name}.tokens_lost`, f.tokens_lost, `${f.sampled ? "about " : ""}${count(f.tokens_lost)}`),
        ` tokens lost, ${percent(share(f.tokens_lost, d.prompt_tokens - d.cached_tokens), 0)} of all missed`,
      ),
    ),
    !redacted && f.advice && el("p", {}, f.advice),
    el(
      "ul",
      { class: "gains" },
      gains.map(([label, value]) => el("li", {}, `${label}: `, value)),
    ),
    f.edit &&
      !redacted &&
      el("p", {}, `${f.edit.description} `, el("code", {}, `--what-if ${quoted(f.edit.what_if)}`)),
    f.examples.map((e) => el("div", { class: "sides" }, side("Earlier", e.left), side("Missed", e.right))),
  );
};

const findingsList = (d, id, redacted) =>
  d.findings.length
    ? el(
        "ol",
        { class: "findings" },
        d.findings.map((f) => finding(f, d, id, redacted)),
      )
    : el("p", {}, "Nothing was found that a change to the prompts or the cache would mend.");
