// The rows of the report: what is known of them, which are looked at, where the cut lies and what a reader
// decided. Nothing here knows of the page.

const AS_REPORTED = -1;

/** A row for each entry of the page's data; its texts stay in `detail`. Of rows that are `alike` some may not be in the
    page; those that equal a row and are not are `elsewhere`. */
function rowsOf(data) {
  const { rows, details, facets } = data;
  const inGroup = new Map();
  const counted = new Set();
  rows.group.forEach((group, i) => {
    const others = counted.has(rows.hash[i]) ? 0 : rows.elsewhere?.[i] ?? 0;
    counted.add(rows.hash[i]);
    inGroup.set(group, (inGroup.get(group) ?? 0) + 1 + others);
  });
  return details.map((detail, i) => ({
    index: i,
    line: rows.line[i],
    file: rows.file[i] < 0 ? null : data.names.files[rows.file[i]],
    hash: rows.hash[i],
    distance: rows.distance[i],
    percentile: rows.percentile[i],
    tokens: rows.tokens[i] ?? 0,
    gone: Boolean(rows.gone[i]),
    score: rows.score ? rows.score[i] : null,
    group: rows.group[i],
    alike: inGroup.get(rows.group[i]),
    elsewhere: rows.elsewhere?.[i] ?? 0,
    themes: (detail.themes ?? []).map(([theme]) => theme),
    values: facets.map((facet) => facet.of[i]),
    text: excerptOf(detail.turns),
    detail,
  }));
}

/** The beginning of what was scored. */
function excerptOf(turns) {
  const [, , text] = turns.find(([, scored, said]) => scored && said.trim()) ?? turns.at(-1) ?? ["", 0, ""];
  return text.slice(0, 400).split(/\s+/).join(" ").slice(0, 240);
}

/** What can be asked of the rows, with nothing asked. */
const NOTHING_ASKED = {
  words: "", theme: -1, source: "", state: "all",
  nearest: -Infinity, farthest: Infinity, shortest: 0, longest: Infinity,
};

/** What is searched for: words and "words in quotes", all of which a row must have; `line 12` is that line. */
function wordsOf(text) {
  const line = /^\s*line\s+(\d+)\s*$/i.exec(text);
  if (line) return [`line:${line[1]} `];
  const found = text.toLowerCase().matchAll(/"([^"]+)"?|[^\s"]+/g);
  return [...found].map(([whole, quoted]) => quoted ?? whole);
}

class Model {
  constructor(data) {
    this.data = data;
    this.about = data.about;
    this.rows = rowsOf(data);
    this.asked = { ...NOTHING_ASKED };
    this.sort = { by: data.about.by ? "score" : "distance", descending: Boolean(data.about.by) };
    this.grouped = true;
    this.cut = AS_REPORTED;
    this.decisions = new Map(this.about.decisions.map((one) => [one.row_hash, { ...one }]));
    this.decidedBefore = new Set(this.decisions.keys());
    this.haystacks = null;
    this.listed = new Set(this.rows.map((row) => row.hash));
  }

  /** Decisions on rows that are not in the page, which it cannot count: of a review of all rows, or of other ones. */
  get unlisted() {
    let count = 0;
    for (const hash of this.decisions.keys()) count += Number(!this.listed.has(hash));
    return count;
  }

  /** Rows that are closer than the cut, of all there are; those that went, where it was not moved. */
  get nearer() {
    return this.cut === AS_REPORTED ? this.about.dropped : this.data.curve.rows[this.cut];
  }

  /** The cut that is nearest to what the report did. */
  get reported() {
    const away = this.data.curve.rows.map((count) => Math.abs(count - this.about.dropped));
    return (this.nearestCut ??= away.indexOf(Math.min(...away)));
  }

  /** The place of the cut on the curve. */
  get cutPlace() {
    return this.cut === AS_REPORTED ? this.reported : this.cut;
  }

  /** Whether a row goes by the cut alone; of rows that a person had decided on, the report says something else. */
  goesByCut(row) {
    const byCut = this.cut === AS_REPORTED && !(this.about.by_distance && this.decidedBefore.has(row.hash));
    return byCut ? row.gone : row.distance < this.data.curve.distance[this.cutPlace];
  }

  /** Whether a row goes: by what was decided of it, else by the cut. */
  goes(row) {
    const decided = this.decisions.get(row.hash);
    return decided ? decided.decision === "drop" : this.goesByCut(row);
  }

  /** How many rows go by the cut and by what was decided of rows in the page, and so of those that equal them. */
  get going() {
    let count = this.nearer;
    const seen = new Set();
    for (const row of this.rows) {
      const others = seen.has(row.hash) ? 0 : row.elsewhere;
      seen.add(row.hash);
      count += (Number(this.goes(row)) - Number(this.goesByCut(row))) * (1 + others);
    }
    return count;
  }

  /** How many go by the command: where rows are as close as the last that goes, the report may have split them, and no
      distance does. */
  get commanded() {
    const { cut } = this;
    this.cut = this.cutPlace;
    const count = this.going;
    this.cut = cut;
    return count;
  }

  /** All rows of the page that are the same as this one, or nearly. */
  alike(row) {
    return row.alike > 1 ? this.rows.filter((other) => other.group === row.group) : [row];
  }

  decide(row, decision) {
    const at = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    for (const one of this.grouped ? this.alike(row) : [row]) {
      if (decision === null) this.decisions.delete(one.hash);
      else {
        const reason = this.decisions.get(one.hash)?.reason ?? "";
        this.decisions.set(one.hash, { row_hash: one.hash, line: one.line, file: one.file, decision, reason, at });
      }
    }
  }

  explain(row, reason) {
    for (const one of this.grouped ? this.alike(row) : [row]) {
      const decided = this.decisions.get(one.hash);
      if (decided) decided.reason = reason;
    }
  }

  /** The rows that were asked for, in order; of those that are alike one, where they are grouped. */
  found() {
    const words = wordsOf(this.asked.words);
    if (words.length) this.haystacks ??= this.rows.map((row) => this.#haystack(row));
    const { value, sign } = this.#order();
    const rows = this.rows
      .filter((row) => this.#matches(row) && words.every((word) => this.haystacks[row.index].includes(word)))
      .map((row) => [value(row), row])
      .sort(([a, one], [b, other]) => {
        if (a === b) return one.index - other.index;
        if (a === null || b === null) return a === null ? 1 : -1;  // what is not known comes last
        return sign * (a < b ? -1 : 1);
      })
      .map(([, row]) => row);
    if (!this.grouped) return rows;
    const seen = new Set();
    return rows.filter((row) => !seen.has(row.group) && seen.add(row.group));
  }

  #haystack(row) {
    const { turns, words = [] } = row.detail;
    const themes = row.themes.map((theme) => this.data.names.themes[theme]);
    return [`line:${row.line} `, row.file ?? "", ...turns.map(([, , text]) => text), ...words, ...themes]
      .join("\n").toLowerCase();
  }

  #matches(row) {
    const { theme, source, state, nearest, farthest, shortest, longest } = this.asked;
    return row.distance >= nearest && row.distance <= farthest
      && row.tokens >= shortest && row.tokens <= longest
      && (theme < 0 || row.themes.includes(theme))
      && this.#isFrom(row, source) && this.#isIn(row, state);
  }

  /** `source` is a JSON list: the number of a column, or -1 for the file, and that of its value. */
  #isFrom(row, source) {
    if (!source) return true;
    const [column, value] = JSON.parse(source);
    return column < 0 ? row.file === this.data.names.files[value] : row.values[column] === value;
  }

  #isIn(row, state) {
    const decided = this.decisions.has(row.hash);
    switch (state) {
      case "goes": return this.goes(row);
      case "stays": return !this.goes(row);
      case "changed": return this.goes(row) !== row.gone;
      case "decided": return decided;
      case "undecided": return !decided;
      case "alike": return row.alike > 1;
      default: return true;
    }
  }

  #order() {
    const { themes } = this.data.names;
    const values = {
      distance: (row) => row.distance,
      score: (row) => row.score,
      percentile: (row) => row.percentile,
      tokens: (row) => row.tokens,
      line: (row) => row.index,
      theme: (row) => (row.themes.length ? themes[row.themes[0]] : null),
      state: (row) => Number(!this.goes(row)) + (this.decisions.has(row.hash) ? 0 : 2),
    };
    return { value: values[this.sort.by], sign: this.sort.descending ? -1 : 1 };
  }

  /** What `saefilter filter --decisions` reads. */
  toFile(reviewer) {
    const { input, input_sha256, scores_content_sha256 } = this.about;
    const decisions = [...this.decisions.values()];
    return { kind: "saefilter decisions", version: 1, input, input_sha256, scores_content_sha256, reviewer, decisions };
  }

  /** Takes over the decisions of a file; says what is wrong with it, or nothing. */
  fromFile(file) {
    if (file?.kind !== "saefilter decisions" || file.version !== 1 || !Array.isArray(file.decisions)) {
      return "This is no decisions file of saefilter.";
    }
    if (file.input_sha256 !== this.about.input_sha256) return "These decisions are about other data.";
    for (const one of file.decisions) {
      if (typeof one?.row_hash !== "string" || !/^[0-9a-f]{16}$/.test(one.row_hash) || !["keep", "drop"].includes(one.decision)) {
        return "The file is damaged: a decision names no row, or neither keep nor drop.";
      }
    }
    for (const { row_hash, line, file: name, decision, reason, at } of file.decisions) {
      this.decisions.set(row_hash, { row_hash, line, file: name ?? null, decision, reason: String(reason ?? ""), at });
    }
    return "";
  }

  /** The command that does what the page shows, of a file of decisions where there are any. */
  command(decisions) {
    const { input, scores, output, by_distance } = this.about;
    if (!by_distance && this.cut === AS_REPORTED) return "";
    const cut = this.data.curve.distance[this.cutPlace];
    const words = ["saefilter", "filter", quoted(input), "--scores", quoted(scores), `--min-distance=${cut}`];
    if (decisions) words.push("--decisions", quoted(decisions));
    words.push("-o", quoted(output));
    return words.join(" ");
  }
}

/** A word as a shell reads it. */
function quoted(word) {
  const safe = word.startsWith("-") ? `./${word}` : word;
  return /^[\w./:@%+=,-]+$/.test(safe) ? safe : `'${safe.replaceAll("'", "'\\''")}'`;
}
