// Elements, and numbers as the report writes them. Text becomes text nodes and never markup, whatever it is.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (a function is a listener, false and null are left out) and children: elements or text. */
function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

/** Untrusted text whose direction cannot reach its surroundings. */
const bdi = (text) => el("bdi", {}, String(text));

const counted = (count) => count.toLocaleString("en-US");
const rowsWord = (count) => `${counted(count)} ${count === 1 ? "row" : "rows"}`;
const decimal = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : "–");

/** A share of 1 in percent: only everything is 100 %, and only nothing is 0 %. */
function percent(share) {
  const value = share * 100;
  if (!Number.isFinite(value)) return "–";
  if (value > 0 && value < 0.01) return "under 0.01%";
  if (value < 10) return `${value > 0 ? Number(value.toPrecision(2)) : 0}%`;
  return value < 90 ? `${value.toFixed(0)}%` : `${Math.floor(value * 10 + 1e-6) / 10}%`;
}

/** A share of 1 as a bar; the number stands beside it. */
function shareBar(share) {
  const width = `${Math.min(100, Math.max(0, 100 * share)).toFixed(1)}%`;
  return svg("svg", { class: "bar", width: "100%", height: 6, "aria-hidden": "true" },
    svg("rect", { class: "track", width: "100%", height: 6, rx: 3 }),
    svg("rect", { class: "dropped", width, height: 6, rx: 3 }));
}

/** Text with some words marked, where they stand as words. */
function marked(text, words) {
  const wanted = words.map((word) => word.trim()).filter(Boolean).sort((a, b) => b.length - a.length);
  if (!wanted.length) return [text];
  const any = wanted.map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|");
  const pieces = text.split(new RegExp(`(?<![\\p{L}\\p{N}])(${any})(?![\\p{L}\\p{N}])`, "iu"));
  return pieces.map((piece, i) => (i % 2 ? el("mark", {}, piece) : piece));
}

/** Puts text where it can be pasted; true where that worked. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {  // not allowed for files in some browsers
    const field = el("textarea", { class: "unseen", readonly: true });
    field.value = text;
    document.body.append(field);
    field.select();
    const worked = document.execCommand("copy");
    field.remove();
    return worked;
  }
}

/** Calls a function once nothing has happened for a moment. */
function soon(action, wait = 120) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), wait);
  };
}
