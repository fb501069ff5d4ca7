// The rows as dots: distance from left to right, length from below. A second look at the same numbers as the table's.

const MAP_HEIGHT = 260;
const MARGIN = { left: 58, right: 12, top: 10, bottom: 38 };
const NEAR_ENOUGH = 12;

class RowMap {
  /** `opened` is called with the row whose dot was clicked. */
  constructor(model, opened) {
    this.model = model;
    this.opened = opened;
    this.rows = [];
    this.dots = [];
    this.canvas = el("canvas", { role: "img", "aria-label": "Rows by distance and length; the table has the same numbers.", click: (event) => this.#choose(event) });
    this.element = el("details", { class: "map", toggle: () => this.draw() }, el("summary", {}, "Map of the rows"),
      el("figure", {}, this.canvas),
      el("p", { class: "hint" }, "One dot a row that is listed: to the left is closer, higher is longer (tokens, on a logarithmic scale). Click a dot to read its row. Rows that are alike lie on one another."));
    new ResizeObserver(() => this.draw()).observe(this.element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(rows, chosen) {
    this.rows = rows;
    this.chosen = chosen;
    this.draw();
  }

  draw() {
    if (!this.element.open) return;
    const ratio = devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    this.canvas.width = width * ratio;
    this.canvas.height = MAP_HEIGHT * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const { x, y } = this.#scales(width);
    this.#axes(pen, x, y, width, color);
    this.dots = this.rows.map((row) => ({ row, left: x.at(row.distance), top: y.at(Math.log10(1 + row.tokens)) }));
    pen.globalAlpha = 0.65;
    for (const { row, left, top } of this.dots) {
      pen.fillStyle = this.model.goes(row) ? color("dropped") : color("kept");
      pen.fillRect(left - 1.75, top - 1.75, 3.5, 3.5);
    }
    pen.globalAlpha = 1;
    const chosen = this.dots.find(({ row }) => row === this.chosen);
    if (chosen) {
      pen.strokeStyle = color("text");
      pen.lineWidth = 2;
      pen.strokeRect(chosen.left - 5, chosen.top - 5, 10, 10);
    }
  }

  #scales(width) {
    const scale = (values, from, to) => {
      let low = Infinity;
      let high = -Infinity;
      for (const value of values) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
      if (!(high > low)) [low, high] = [(Number.isFinite(low) ? low : 0) - 0.5, (Number.isFinite(low) ? low : 0) + 0.5];
      return { low, high, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
    };
    return {
      x: scale(this.model.rows.map((row) => row.distance), MARGIN.left, width - MARGIN.right),
      y: scale(this.model.rows.map((row) => Math.log10(1 + row.tokens)), MAP_HEIGHT - MARGIN.bottom, MARGIN.top),
    };
  }

  #axes(pen, x, y, width, color) {
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = color("muted");
    pen.strokeStyle = color("line");
    pen.textAlign = "center";
    for (let i = 0; i <= 4; i += 1) {
      const value = x.low + (i / 4) * (x.high - x.low);
      pen.fillText(decimal(value, 2), Math.min(Math.max(x.at(value), MARGIN.left + 12), width - MARGIN.right - 14), MAP_HEIGHT - 20);
    }
    pen.fillText("distance", (MARGIN.left + width) / 2, MAP_HEIGHT - 4);
    pen.textAlign = "right";
    for (const tokens of [1, 10, 100, 1000, 10000, 100000]) {
      const value = Math.log10(1 + tokens);
      if (value < y.low || value > y.high) continue;
      pen.fillText(counted(tokens), MARGIN.left - 8, y.at(value) + 4);
      pen.beginPath();
      pen.moveTo(MARGIN.left, y.at(value));
      pen.lineTo(width - MARGIN.right, y.at(value));
      pen.stroke();
    }
  }

  #choose(event) {
    const box = this.canvas.getBoundingClientRect();
    const away = ({ left, top }) => Math.hypot(left - (event.clientX - box.left), top - (event.clientY - box.top));
    let best = null;
    for (const dot of this.dots) if (!best || away(dot) < away(best)) best = dot;
    if (best && away(best) <= NEAR_ENOUGH) this.opened(best.row);
  }
}
