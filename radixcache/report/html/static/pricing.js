// What the log costs by each provider's rules.
const pricingTable = (p, id, redacted) => {
  const cost = (name, value) => figure(`${id}.pricing.${name}`, value, money(value, p.currency));
  const rows = p.providers.map((one) => [
    one.name,
    cost(`${one.name}.uncached`, one.uncached),
    cost(`${one.name}.cost`, one.cost),
    percent(one.saved_share),
    bar(one.saved_share, "reused"),
    count(one.cached_tokens),
    count(one.written_tokens),
    el("span", { class: "note" }, `${one.rules}; as of ${one.as_of}`),
  ]);
  const number = (name) => ({ name, number: true });
  const own = p.self_hosted;
  if (own) {
    rows.push([
      "self-hosted prefill",
      cost("self_hosted.uncached", own.uncached),
      cost("self_hosted.cost", own.cost),
      percent(own.saved_share),
      bar(own.saved_share, "reused"),
      count(own.cached_tokens),
      NONE,
      el(
        "span",
        { class: "note" },
        `${money(own.gpu_hour, p.currency)} an hour, ${count(own.prefill_speed)} tokens a second`,
      ),
    ]);
  }
  return [
    plainTable(
      "Cost of this log without a cache, and with each one's",
      [
        { name: "" },
        number("Without"),
        number("With"),
        number("Saved"),
        { name: "", bars: true },
        number("Read"),
        number("Written"),
        { name: "Rules" },
      ],
      rows,
    ),
    redacted
      ? el(
          "p",
          { class: "note" },
          "The assumptions behind these figures are in the report that is not redacted.",
        )
      : el(
          "ul",
          { class: "note" },
          p.assumptions.map((line) => el("li", {}, line)),
        ),
  ];
};
