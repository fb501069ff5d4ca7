// The table of rows. Only those in sight are elements; the others are room.

const BEYOND = 8;

/** Columns: key that sorts, heading, classes, width, and the content of a row's cell. */
const COLUMNS = [
  ["state", "Goes", "state", "5.2rem", (row, model) => stateCell(row, model)],
  ["distance", "Distance", "number", "4.4rem", (row) => [decimal(row.distance, 3)]],
  ["score", "Score", "number", "4.6rem", (row) => [decimal(row.score, 3)]],
  ["percentile", "Closer than", "number wide", "3.8rem", (row) => [row.percentile === null ? "–" : percent(row.percentile / 100)]],
  ["theme", "Theme", "wide", "6rem", (row, model) => (row.themes.length ? [bdi(model.data.names.themes[row.themes[0]])] : ["–"])],
  ["tokens", "Tokens", "number wide", "3.6rem", (row) => [counted(row.tokens)]],
  ["line", "Line", "number wide", "3.2rem", (row) => [lineWords(row)]],
  [null, "Text", "said", "minmax(10rem, 1fr)", (row) => [bdi(row.text || "no text")]],
];

const lineWords = (row) => (row.file === null ? counted(row.line) : bdi(`${row.file}:${row.line}`));

function stateCell(row, model) {
  const goes = model.goes(row);
  const decided = model.decisions.has(row.hash);
  const more = row.alike > 1 && model.grouped ? el("span", { class: "alike" }, ` ×${row.alike}`) : null;
  return [
    el("span", { class: `fate ${goes ? "goes" : "stays"}`, "aria-hidden": "true" }),
    goes ? "goes" : "stays",
    decided ? el("span", { role: "img", "aria-label": "decided" }, " ✓") : null,
    more,
  ];
}

class Table {
  /** `opened` is called with the row that is chosen, `sorted` with a column's key. */
  constructor(model, opened, sorted) {
    this.model = model;
    this.opened = opened;
    this.sorted = sorted;
    this.rows = [];
    this.at = -1;
    const has = { percentile: model.rows.some((row) => row.percentile !== null), theme: model.data.names.themes.length, score: model.about.by };
    this.columns = COLUMNS.filter(([key]) => !(key in has) || has[key]);
    this.head = el("div", { class: "entry head", role: "row", "aria-rowindex": 1 });
    this.room = el("div", { class: "room", role: "rowgroup" });
    this.element = el("div", {
      class: "table", role: "grid", tabindex: 0, "aria-label": "Rows", "aria-readonly": "true",
      scroll: () => this.#draw(),
    }, el("div", { class: "heads", role: "rowgroup" }, this.head), this.room);
    this.element.style.setProperty("--columns", this.columns.map(([key, , , width]) => (key === "line" && model.data.names.files.length ? "8rem" : width)).join(" "));
    new ResizeObserver(() => this.#draw()).observe(this.element);
    this.heads();
  }

  /** The headings, which sort. */
  heads() {
    const { by, descending } = this.model.sort;
    this.head.replaceChildren(...this.columns.map(([key, name, kind]) => {
      const order = key !== by ? null : descending ? "descending" : "ascending";
      const content = key === null ? name : el("button", { type: "button", click: () => this.sorted(key) },
        name, el("span", { "aria-hidden": "true" }, order ? (descending ? " ▾" : " ▴") : ""));
      return el("div", { class: `cell ${kind}`, role: "columnheader", "aria-sort": order }, content);
    }));
  }

  /** In pixels; the style sheet says it in rem, other on a phone. */
  get lineHeight() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--line-height")) * rem;
  }

  /** Other rows, with the row that was chosen kept where it is among them. */
  show(rows) {
    const chosen = this.rows[this.at];
    this.rows = rows;
    this.at = chosen ? rows.indexOf(chosen) : -1;
    this.element.setAttribute("aria-rowcount", rows.length + 1);
    this.element.scrollTop = Math.min(this.element.scrollTop, rows.length * this.lineHeight);
    this.draw();
  }

  /** Draws anew what is in sight. */
  draw() {
    this.drawn = null;
    this.#draw();
  }

  #draw() {
    const height = this.lineHeight;
    const first = Math.max(0, Math.floor(this.element.scrollTop / height) - BEYOND);
    const last = Math.min(this.rows.length, Math.ceil((this.element.scrollTop + this.element.clientHeight) / height) + BEYOND);
    const now = `${first} ${last} ${height}`;
    if (this.drawn === now) return;
    this.drawn = now;
    this.room.style.height = `${this.rows.length * height}px`;
    const lines = [];
    for (let i = first; i < last; i += 1) {
      const line = this.#line(this.rows[i], i);
      line.style.transform = `translateY(${i * height}px)`;
      lines.push(line);
    }
    this.room.replaceChildren(...lines);
    this.#mark();
  }

  #line(row, i) {
    const cells = this.columns.map(([, , kind, , cell]) => el("div", { class: `cell ${kind}`, role: "gridcell" }, ...cell(row, this.model)));
    return el("div", {
      class: "entry", role: "row", id: `explore-row-${row.index}`, "aria-rowindex": i + 2,
      click: () => this.go(i),
    }, ...cells);
  }

  /** Chooses a row by its place and brings it into sight. */
  go(place) {
    if (!this.rows.length) return;
    this.at = Math.min(Math.max(place, 0), this.rows.length - 1);
    const height = this.lineHeight;
    const top = this.at * height;
    const seen = this.element.clientHeight - this.head.offsetHeight;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    if (top + height > this.element.scrollTop + seen) this.element.scrollTop = top + height - seen;
    this.#draw();
    this.#mark();
    this.opened(this.rows[this.at]);
  }

  /** Goes some rows on or back; from nowhere, to the first in sight. */
  move(by) {
    this.go(this.at < 0 ? Math.ceil(this.element.scrollTop / this.lineHeight) : this.at + by);
  }

  #mark() {
    const row = this.rows[this.at];
    const id = row ? `explore-row-${row.index}` : null;
    for (const line of this.room.children) line.setAttribute("aria-selected", String(line.id === id));
    if (id && document.getElementById(id)) this.element.setAttribute("aria-activedescendant", id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /** Rows that a screen of the table holds. */
  get page() {
    return Math.max(1, Math.floor(this.element.clientHeight / this.lineHeight) - 2);
  }
}
