// The section that looks through rows: its parts put together, and the keys.

/** Where they do the same, those of `saefilter review` (review/session.py). */
const KEYS = [
  ["k", "keep the row, and on to the next"],
  ["d", "drop it, and on to the next"],
  ["s, b or arrows", "next and previous row"],
  ["u", "undo what was decided"],
  ["r", "reason of the open row’s decision, or else of the last one; Enter leads back"],
  ["Enter", "read the open row; Esc leads back"],
  ["/", "search"],
  ["?", "these keys"],
];
const STATES = [
  ["all", "All rows"], ["goes", "That go"], ["stays", "That stay"], ["changed", "Other than in this report"],
  ["decided", "Decided"], ["undecided", "Not decided"], ["alike", "With equal rows"],
];

class Explorer {
  constructor(section, place, data) {
    this.model = new Model(data);
    this.table = new Table(this.model, (row) => this.#open(row), (key) => this.#sort(key));
    this.opened = new Opened(this.model, (decision) => this.#decide(decision), (reason) => this.#explain(reason));
    this.cut = new Cut(this.model, () => this.#changed());
    this.decisions = new Decisions(this.model, () => this.#changed());
    this.map = new RowMap(this.model, (row) => this.#goTo(row));
    this.status = el("p", { class: "status", role: "status" });
    this.keys = el("details", { class: "keys" }, el("summary", {}, "Keys"),
      el("dl", {}, ...KEYS.flatMap(([key, what]) => [el("dt", {}, key), el("dd", {}, what)])));
    place.append(
      el("p", { class: "hint" }, this.#which()), this.cut.element, this.#filters(), this.status,
      el("div", { class: "panes" }, this.table.element, this.opened.element),
      this.keys, this.decisions.element, this.map.element);
    place.addEventListener("keydown", (event) => this.#key(event));
    section.hidden = false;
    this.#changed();
  }

  /** Which rows these are. */
  #which() {
    const { of, shown, nearest, drawn, unread, by } = this.model.about;
    const first = by ? "the first to go" : "the nearest";
    const some = drawn
      ? `${rowsWord(shown)} of ${counted(of)}: ${first} ${counted(nearest)}, and ${counted(drawn)} drawn at random from all others. The cut counts all ${counted(of)}.`
      : `All ${rowsWord(of)} that have a distance.`;
    const guessed = unread ? ` ${rowsWord(unread)} that were only estimated are neither listed nor counted.` : "";
    return `${some}${guessed} Long texts are shortened. Nothing leaves this page: search, filters and decisions work in your browser.`;
  }

  #filters() {
    const { model } = this;
    const { names, facets } = model.data;
    const ask = (name, read) => (event) => { model.asked[name] = read(event.target.value); this.#changed(); };
    const option = (value, text) => el("option", { value }, String(text));
    const field = (id, name, control) => el("div", { class: "field" }, el("label", { for: id }, name), control);
    const choice = (id, name, asked, read, options) => field(id, name, el("select", { id, change: ask(asked, read) }, ...options));
    const later = soon((text) => { model.asked.words = text; this.#changed(); });
    this.search = el("input", { type: "search", id: "explore-search", autocomplete: "off", input: () => later(this.search.value) });
    const number = (id, asked, nothing, label) => el("input", {
      type: "number", id, step: "any", "aria-label": label, input: ask(asked, (text) => (text === "" ? nothing : Number(text))),
    });
    const between = (name, low, high) => el("div", { class: "field", role: "group", "aria-label": name }, el("span", {}, name), el("div", { class: "between" }, low, "–", high));
    const groups = [...(names.files.length > 1 ? [{ name: "File", values: names.files, number: -1 }] : []), ...facets.map((facet, i) => ({ ...facet, number: i }))];
    this.grouping = el("input", { type: "checkbox", id: "explore-group", checked: true, change: () => { model.grouped = this.grouping.checked; this.#changed(); } });
    this.form = el("form", { class: "filters", "aria-label": "Filters", submit: (event) => event.preventDefault(), reset: () => this.#reset() },
      field("explore-search", "Search", this.search),
      choice("explore-state", "Rows", "state", String, STATES.map(([value, text]) => option(value, text))),
      names.themes.length ? choice("explore-theme", "Theme", "theme", Number, [option(-1, "Any"), ...names.themes.map((theme, i) => option(i, theme))]) : null,
      groups.length ? choice("explore-source", "Source", "source", String, [option("", "Any"), ...groups.map((group) =>
        el("optgroup", { label: group.name }, ...group.values.map((value, i) => option(JSON.stringify([group.number, i]), value === "" ? "(empty)" : value))))]) : null,
      between("Distance", number("explore-near", "nearest", -Infinity, "Distance from"), number("explore-far", "farthest", Infinity, "Distance to")),
      between("Tokens", number("explore-short", "shortest", 0, "Tokens from"), number("explore-long", "longest", Infinity, "Tokens to")),
      el("div", { class: "field check" }, this.grouping, el("label", { for: "explore-group" }, "Equal rows as one")),
      el("button", { type: "reset" }, "Reset"));
    return this.form;
  }

  #reset() {
    this.model.asked = { ...NOTHING_ASKED };
    this.model.grouped = true;
    setTimeout(() => this.#changed());  // once the form has its values back
  }

  /** After anything else was asked for, cut or decided. */
  #changed() {
    const { model, table } = this;
    const rows = model.found();
    table.show(rows);
    this.map.show(rows, this.opened.row);
    this.cut.told();
    this.decisions.told();
    this.opened.decided();
    const equal = model.grouped ? new Set(model.rows.map((row) => row.group)).size : model.rows.length;
    this.status.textContent = `${counted(rows.length)} of ${rowsWord(equal)}${model.grouped && equal < model.rows.length ? `, equal ones as one` : ""}`;
  }

  #open(row) {
    if (this.opened.row !== row) this.opened.open(row);
    this.map.show(this.table.rows, row);
  }

  /** Opens a row wherever it was asked for. */
  #goTo(row) {
    const place = this.table.rows.findIndex((other) => other === row);
    if (place >= 0) this.table.go(place);
  }

  #sort(key) {
    const { sort } = this.model;
    sort.descending = sort.by === key ? !sort.descending : key === "score";
    sort.by = key;
    this.table.heads();
    this.#changed();
  }

  /** The decision stays in sight: the list is not asked for anew, so that the next row is the next one. */
  #decide(decision) {
    const { row } = this.opened;
    if (!row) return;
    this.model.decide(row, decision);
    this.last = row;
    this.decisions.decided();
    this.cut.told();
    this.opened.decided();
    this.table.draw();
    this.map.draw();
  }

  /** To the open row's reason; where `d` or `k` has just led on to a row without a decision, back to theirs. Else
      what is typed next would be taken for keys, and `k` and `d` decide. */
  #reason() {
    const { decisions } = this.model;
    if (!decisions.has(this.opened.row?.hash) && decisions.has(this.last?.hash)) this.#goTo(this.last);
    this.opened.reason.focus();
  }

  #explain(reason) {
    if (!this.opened.row) return;
    this.model.explain(this.opened.row, reason);
    this.decisions.decided();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const written = event.key === "Enter" && event.target === this.opened.reason;
    if (written || (event.key === "Escape" && !this.table.element.contains(event.target))) {
      event.preventDefault();
      this.table.element.focus();
      return;
    }
    if (event.target.matches("input, select, textarea, summary") || (event.target.matches("button") && ["Enter", " "].includes(event.key))) return;
    const inTable = this.table.element.contains(event.target);
    const { table } = this;
    const decided = (decision) => { this.#decide(decision); table.move(1); };
    const everywhere = {
      k: () => decided("keep"), d: () => decided("drop"), s: () => table.move(1), b: () => table.move(-1),
      u: () => this.#decide(null), r: () => this.#reason(),
      "/": () => this.search.focus(), "?": () => { this.keys.open = !this.keys.open; },
    };
    const here = {
      ArrowDown: () => table.move(1), ArrowUp: () => table.move(-1), PageDown: () => table.move(table.page),
      PageUp: () => table.move(-table.page), Home: () => table.go(0), End: () => table.go(table.rows.length - 1),
      Enter: () => this.opened.body.focus(),
    };
    const action = everywhere[event.key] ?? (inTable ? here[event.key] : undefined);
    if (!action) return;
    event.preventDefault();
    action();
  }
}

const block = document.getElementById("explore-data");
if (block) new Explorer(document.getElementById("explore"), document.getElementById("explorer"), JSON.parse(block.textContent));
