// The cut's slider, and what is decided: how many rows go, the command that does it, and the decisions as a file.

class Cut {
  /** `moved` is called when the cut is another. */
  constructor(model, moved) {
    this.model = model;
    const last = model.data.curve.rows.length - 1;
    this.slider = el("input", {
      type: "range", id: "explore-cut", min: 0, max: last, value: model.reported, "aria-describedby": "explore-cut-words",
      input: () => { model.cut = Number(this.slider.value); moved(); },
    });
    this.back = el("button", { type: "button", click: () => { model.cut = AS_REPORTED; this.slider.value = model.reported; moved(); } }, "As reported");
    this.words = el("p", { id: "explore-cut-words" });
    this.element = el("div", { class: "panel cut" },
      el("label", { for: "explore-cut" }, "Cut by distance"), this.slider, this.back, this.words);
    this.told();
  }

  /** Says what the cut comes to. */
  told() {
    const { model } = this;
    const { about, data } = model;
    const moved = model.cut !== AS_REPORTED;
    const change = model.nearer - about.dropped;
    const than = !moved || !change ? "" : `, ${counted(Math.abs(change))} ${change > 0 ? "more" : "fewer"} than in this report`;
    const commanded = about.by_distance ? model.commanded : model.going;
    const split = commanded !== model.going;
    const closer = moved || (about.by_distance && !split)
      ? `closer than ${data.curve.distance[model.cutPlace]}` : `${about.gone} by this report`;
    const unlisted = model.unlisted ? `, not counting ${counted(model.unlisted)} on rows that are not listed here` : "";
    const marks = model.decisions.size ? ` With your decisions ${counted(model.going)} go${unlisted}.` : "";
    const ties = split ? ` Rows as close as the last of them stay, and no distance parts them: by the command ${counted(commanded)} go.` : "";
    this.words.textContent = `${counted(model.nearer)} of ${rowsWord(about.of)} go (${percent(model.nearer / about.of)}), those ${closer}${than}.${marks}${ties}`;
    this.slider.setAttribute("aria-valuetext", `${rowsWord(model.nearer)} go`);
    this.back.disabled = !moved;
  }
}

class Decisions {
  /** `changed` is called when decisions came from a file. */
  constructor(model, changed) {
    this.model = model;
    this.changed = changed;
    // Browsers put something else for what not every file system takes.
    this.name = `${model.about.stem.replace(/[^\p{L}\p{N}_.-]/gu, "_").replace(/^\.+/, "")}.decisions.json`;
    this.unsaved = false;
    this.reviewer = el("input", { type: "text", id: "explore-reviewer", maxlength: 100, autocomplete: "off", value: model.about.reviewer });
    this.save = el("button", { type: "button", class: "main", click: () => this.export() });
    this.file = el("input", { type: "file", id: "explore-load", accept: ".json,application/json", change: () => this.#read() });
    this.command = el("code", { id: "explore-command" });
    this.copy = el("button", { type: "button", click: () => this.#copy() }, "Copy");
    // Of a report that marks or weighs rows, the command still drops them.
    const does = model.about.gone === "dropped" ? "What is shown here is done by " : "The rows that go here are dropped by ";
    this.then = el("p", { class: "then" }, does, this.command, " ", this.copy);
    this.said = el("p", { class: "hint", role: "status" });
    this.element = el("div", { class: "panel decisions" },
      el("label", { for: "explore-reviewer" }, "Your name"), this.reviewer, this.save,
      el("label", { for: "explore-load" }, "Load decisions"), this.file, this.then, this.said);
    addEventListener("beforeunload", (event) => this.unsaved && event.preventDefault());
    this.#remembered();
    this.told();
  }

  /** After a decision: remembers it in this browser, as far as it lets us. */
  decided() {
    this.unsaved = this.model.decisions.size > 0;
    try {
      localStorage.setItem(this.#key, JSON.stringify(this.model.toFile(this.reviewer.value)));
      this.unsaved = false;
    } catch { /* not every browser keeps anything for a file */ }
    this.told();
  }

  told() {
    const { size } = this.model.decisions;
    const command = this.model.command(size ? this.name : "");
    this.save.textContent = size === 1 ? "Export 1 decision" : `Export ${counted(size)} decisions`;
    this.save.disabled = !size;
    this.then.hidden = !command;
    this.command.textContent = command;
  }

  export() {
    const text = `${JSON.stringify(this.model.toFile(this.reviewer.value.trim()), null, 2)}\n`;
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    el("a", { href: address, download: this.name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    this.unsaved = false;
    const next = this.then.hidden
      ? "move the cut to see a command that does that, or give the file to saefilter filter --decisions." : "the command above does that.";
    this.said.textContent = `Exported as ${this.name}. Nothing is dropped yet: ${next}`;
  }

  get #key() {
    return `saefilter decisions ${this.model.about.input_sha256} ${this.model.about.decided}`;
  }

  /** What this browser kept stands for all that was decided, also of what the report begins with. */
  #remembered() {
    const { model } = this;
    const begun = model.decisions;
    try {
      const kept = JSON.parse(localStorage.getItem(this.#key));
      if (!kept) return;
      model.decisions = new Map();
      if (model.fromFile(kept)) throw new Error("damaged");
      this.reviewer.value = String(kept.reviewer ?? "");
      const count = model.decisions.size;
      if (count) this.said.textContent = `Taken up where you left off: ${counted(count)} decided in this browser.`;
    } catch {
      model.decisions = begun;
    }
  }

  async #read() {
    const [file] = this.file.files;
    if (!file) return;
    let problem = "This is not JSON.";
    try {
      const said = JSON.parse(await file.text());
      problem = this.model.fromFile(said);
      if (!problem && !this.reviewer.value) this.reviewer.value = String(said.reviewer ?? "");
    } catch { /* said below */ }
    this.said.textContent = problem || `Loaded: ${counted(this.model.decisions.size)} decided.`;
    this.file.value = "";
    if (!problem) this.changed();
  }

  async #copy() {
    const worked = await copied(this.command.textContent);
    this.said.textContent = worked ? "Copied." : "Could not be copied; select it instead.";
  }
}
