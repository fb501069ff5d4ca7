// One row, opened: what it says, what brought it close, and what is decided of it.

/** Which of a row's words are marked in its text: those that carry its themes, else those that weigh most. */
function carryingWords(detail) {
  const carrying = (detail.themes ?? []).flatMap(([, , , words]) => words);
  return carrying.length ? carrying : detail.marked ?? detail.words ?? [];
}

function turnsOf(row) {
  const { turns } = row.detail;
  const words = carryingWords(row.detail);
  if (!turns.length) return [el("p", { class: "empty" }, "No text to show.")];
  return turns.map(([role, scored, text]) =>
    el("div", { class: scored ? "turn scored" : "turn" },
      el("p", { class: "role" }, bdi(role)),
      el("p", {}, el("bdi", {}, ...(scored ? marked(text, words) : [text])))));
}

function themesOf(row, names) {
  return (row.detail.themes ?? []).map(([theme, share, usual, words]) =>
    el("li", {},
      el("div", {}, el("b", {}, percent(share)), shareBar(share)),
      el("div", {},
        el("b", { class: "theme" }, bdi(names.themes[theme])),
        el("span", { class: "near" }, `${percent(usual)} in harmless rows`),
        words.length ? el("div", {}, ...words.flatMap((word, i) => [i ? ", " : "", el("mark", {}, bdi(word))])) : null)));
}

function featuresOf(row, names) {
  return (row.detail.features ?? []).map(([number, share]) => {
    const [feature, label, toxic, toxicLabel, cosine] = names.features[number];
    const near = feature === toxic ? ["a feature of the toxic set"]
      : ["next to toxic feature “", bdi(toxicLabel), `” #${toxic}, cosine ${decimal(cosine, 2)}`];
    return el("li", {},
      el("div", {}, el("b", {}, percent(share)), shareBar(share)),
      el("div", {}, bdi(label), " ", el("span", { class: "id" }, `#${feature}`), el("span", { class: "near" }, ...near)));
  });
}

function closestOf(row, names) {
  if (!row.detail.closest) return null;
  const [example, cosine] = row.detail.closest;
  const [text, prompt] = names.examples[example];
  return el("p", { class: "closest" }, "Closest to: ",
    prompt ? el("span", { class: "near" }, bdi(prompt)) : null,
    "“", bdi(text), "” ", el("span", { class: "id" }, `cosine ${decimal(cosine, 2)}`));
}

function evidenceOf(row, names) {
  const themes = themesOf(row, names);
  const features = featuresOf(row, names);
  const words = row.detail.words ?? [];
  const list = (items) => el("ul", {}, ...items);
  const weighty = words.length
    ? el("p", { class: "words" }, "Weightiest words: ", ...words.flatMap((word, i) => [i ? ", " : "", bdi(word)])) : null;
  const single = [features.length ? list(features) : el("p", { class: "empty" }, "No single feature."), weighty];
  if (!themes.length && !row.detail.closest) return el("div", { class: "evidence" }, ...single);
  return el("div", { class: "evidence" },
    themes.length ? list(themes) : el("p", { class: "empty" }, "No theme of the toxic set stands out."),
    closestOf(row, names),
    el("details", {}, el("summary", {}, "Single features"), ...single));
}

/** What a percentile says; `reference` is the name of the user's own reference rows. */
function percentileWords(percentile, reference) {
  const one = reference ? ["row of ", bdi(reference)] : ["harmless reference sample"];
  if (percentile >= 100) return ["closer than every ", ...one];
  if (percentile <= 0) return ["not closer than any ", ...one];
  const several = reference ? ["the rows of ", bdi(reference)] : ["harmless reference samples"];
  return [`closer than ${percent(percentile / 100)} of `, ...several];
}

function factsOf(row, model) {
  const { about, data } = model;
  const facts = [["distance ", el("b", {}, decimal(row.distance, 3))]];
  if (row.score !== null) facts.unshift([bdi(about.by), " ", el("b", {}, decimal(row.score, 3))]);
  if (row.percentile !== null) facts.push(percentileWords(row.percentile, about.reference));
  facts.push([`${counted(row.tokens)} tokens`]);
  if (row.detail.cut) facts.push(["cut at the token limit"]);
  if (row.gone) facts.push([`${about.gone} by this report`]);
  if (row.detail.reason !== undefined) facts.push([bdi(data.names.reasons[row.detail.reason])]);
  row.values.forEach((value, i) => {
    if (value >= 0) facts.push([bdi(data.facets[i].name), ": ", bdi(data.facets[i].values[value])]);
  });
  return facts.map((fact) => el("span", {}, ...fact));
}

function alikeOf(row, model) {
  if (row.alike < 2) return null;
  const others = model.alike(row).filter((other) => other !== row);
  const named = others.slice(0, 12).map((other) => (other.file === null ? `line ${other.line}` : `${other.file}:${other.line}`));
  const rest = row.alike - 1 - others.length;
  const hidden = rest ? `${rowsWord(rest)} that ${rest === 1 ? "is" : "are"} not listed here` : "";
  if (!named.length) return el("p", { class: "hint" }, `Equal to ${hidden}. What you decide holds for ${rest === 1 ? "it" : "them"} too.`);
  const more = (others.length > named.length ? ` and ${counted(others.length - named.length)} more` : "") + (hidden && `, and to ${hidden}`);
  const same = others.every((other) => other.hash === row.hash) ? "Equal to" : "Equal or nearly equal to";
  const too = model.grouped ? " What you decide holds for these rows too." : "";
  return el("p", { class: "hint" }, `${same} `, bdi(named.join(", ")), `${more}.${too}`);
}

class Opened {
  /** `decide` is called with `keep`, `drop` or null, `explain` with a reason. */
  constructor(model, decide, explain) {
    this.model = model;
    this.row = null;
    this.reason = el("input", { type: "text", id: "explore-reason", maxlength: 500, autocomplete: "off", input: () => explain(this.reason.value) });
    this.drop = el("button", { type: "button", "aria-pressed": "false", click: () => decide("drop") }, "Drop ", el("kbd", {}, "d"));
    this.keep = el("button", { type: "button", "aria-pressed": "false", click: () => decide("keep") }, "Keep ", el("kbd", {}, "k"));
    this.undo = el("button", { type: "button", click: () => decide(null) }, "Undo ", el("kbd", {}, "u"));
    this.body = el("div", { class: "body", tabindex: 0, role: "group", "aria-label": "The row’s text and evidence" });
    this.facts = el("div", { class: "facts" });
    this.title = el("h3", {}, "No row is open");
    this.marks = el("div", { class: "marks", hidden: true }, this.drop, this.keep, this.undo,
      el("label", { for: "explore-reason" }, "Reason"), this.reason);
    this.body.append(el("p", { class: "hint" }, "Choose a row to read it here."));
    this.element = el("div", { class: "opened", role: "region", "aria-label": "The open row" }, el("div", { class: "heading" }, this.title, this.facts, this.marks), this.body);
  }

  /** Shows a row from its beginning. */
  open(row) {
    const { names } = this.model.data;
    this.row = row;
    const where = row.file === null ? `Line ${row.line}` : `Line ${row.line} of ${row.file}`;
    this.title.replaceChildren(bdi(where));
    this.facts.replaceChildren(...factsOf(row, this.model));
    const alike = alikeOf(row, this.model);
    this.body.replaceChildren(...(alike ? [alike] : []), el("div", { class: "turns" }, ...turnsOf(row)), evidenceOf(row, names));
    this.body.scrollTop = 0;
    this.marks.hidden = false;
    this.decided();
  }

  /** Shows what is decided of it. */
  decided() {
    const decided = this.row && this.model.decisions.get(this.row.hash);
    this.drop.setAttribute("aria-pressed", String(decided?.decision === "drop"));
    this.keep.setAttribute("aria-pressed", String(decided?.decision === "keep"));
    this.undo.disabled = !decided;
    this.reason.disabled = !decided;
    this.reason.placeholder = decided ? "" : "once it is decided";
    if (document.activeElement !== this.reason) this.reason.value = decided?.reason ?? "";
  }
}
