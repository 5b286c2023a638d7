// The page as a whole: what connects chart, player, cards and decisions, and the keys for all of it.

class Page {
  constructor(config, text) {
    this.config = config;
    this.text = text;
    this.timeline = JSON.parse(text);
    this.streams = streamsOf(this.timeline);
    this.times = Float64Array.from(this.streams[0]?.samples ?? [], (sample) => sample.time_seconds);
    this.labels = [...new Set((this.streams[0]?.samples ?? []).flatMap((sample) => sample.detections.map((item) => item.label)))];
    this.filter = "";
    this.review = new Review(this.timeline, config.digest, () => this.show());
    this.player = config.video ? new Player(config, { time: (seconds) => this.timeMoved(seconds) }) : null;
    this.chart = config.lanes.length ? new Chart(config, this.streams, this.chartEvents()) : null;
    this.drawing = new Drawing(config, (box) => this.cards.editor?.drawn(box));
    this.cards = new Cards(this);
    this.announceSoon = null;
  }

  start() {
    byId("bar").hidden = byId("finish").hidden = !this.config.decides;
    document.documentElement.classList.toggle("fixed", !this.config.decides);
    for (const place of all("[data-download-name]")) place.textContent = this.downloadName;
    byId("filter").addEventListener("change", (event) => this.filterBy(event.target.value));
    byId("note").value = this.review.state.note;
    byId("note").addEventListener("change", (event) => this.note(null, event.target.value));
    byId("reviewer").value = remembered("reviewer");
    byId("reviewer").addEventListener("change", (event) => remember("reviewer", event.target.value.trim()));
    document.addEventListener("click", (event) => this.clicked(event));
    window.addEventListener("beforeunload", (event) => {
      if (!this.review.isKept && !this.review.isSaved) event.preventDefault();
    });
    this.show();
    this.chart?.draw();
    const first = this.cards.shown[0];
    if (first) this.cards.mark(first.dataset.segment);
    new Keys(this);
  }

  chartEvents() {
    return {
      cursor: (seconds, how, values) => this.cursorMoved(seconds, how, values),
      enter: (seconds) => this.playFrom(seconds),
    };
  }

  // What is shown

  show() {
    this.cards.show();
    this.cards.editor?.show();
    this.showChart();
    this.showVerdict();
    this.showBoxes();
    byId("trouble").hidden = this.review.isKept;
    byId("trouble").textContent = "This browser keeps nothing for pages from disk: save before you close this page.";
    for (const [name, steps] of [["undo", this.review.past], ["redo", this.review.future]]) {
      for (const button of all(`[data-do=${name}]`)) {
        button.disabled = !steps.length;
        button.title = steps.length ? `${name}: ${plain(steps.at(-1).says)}` : "";
      }
    }
    if (document.activeElement !== byId("note")) byId("note").value = this.review.state.note;
  }

  showChart() {
    const { review } = this;
    const ids = [...machineSegments(this.timeline), ...review.state.added].map((row) => row.id);
    this.chart?.show(ids.map((id) => ({ segment: review.segment(id), decision: review.decision(id), isCurrent: id === this.cards.current })));
  }

  showVerdict() {
    const segments = remaining(this.timeline, this.review.state);
    const verdict = verdictOf(segments, this.timeline.status);
    const counts = this.counts();
    for (const place of all("[data-live-verdict]")) place.replaceChildren(badge(verdict));
    for (const place of all("[data-progress]")) place.textContent = `${counts.decided} of ${counts.all} decided`;
    for (const bar of all("[data-progress-bar]")) {
      bar.max = Math.max(1, counts.all);
      bar.value = counts.decided;
    }
    byId("summary").textContent = this.summary(counts, verdict);
  }

  counts() {
    const counts = { accepted: 0, rejected: 0, changed: 0, added: this.review.state.added.length, undecided: 0, all: 0, decided: 0 };
    for (const row of machineSegments(this.timeline)) {
      const decision = this.review.decision(row.id);
      counts[decision || "undecided"] += 1;
      counts.all += 1;
      counts.decided += decision ? 1 : 0;
    }
    return counts;
  }

  summary(counts, verdict) {
    const parts = ["accepted", "changed", "rejected", "added", "undecided"].filter((name) => counts[name]).map((name) => `${counts[name]} ${name}`);
    const notes = Object.entries(this.review.state.notes).filter(([id, text]) => text && !this.review.decision(id)).length;
    const lost = notes ? ` ${notes === 1 ? "A note belongs" : `${notes} notes belong`} to segments that are not decided: decide about them, or the file will not have them.` : "";
    return `${parts.join(", ") || "No segments"}. The verdict is then ${verdict} (the machine’s: ${machineOf(this.timeline).verdict}).${lost}`;
  }

  showBoxes() {
    if (!this.player || !this.streams.length) return;
    const { seconds } = this.player;
    const found = detectionsAt(this.streams[0], this.times, seconds);
    this.player.drawBoxes(boxesOf(found, seconds, this.review.state, this.config));
  }

  timeMoved(seconds) {
    this.chart?.moveTo(seconds, "player");
    this.showBoxes();
  }

  cursorMoved(seconds, how, values) {
    const scores = values.filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value}`);
    const state = { unsampled: "not looked at", undecodable: "could not be decoded" }[this.chart.stateAt(seconds)];
    const here = this.segmentsAt(seconds).map((row) => `${row.id} (${row.verdict}, ${WORDS[this.review.decision(row.id)].toLowerCase()})`);
    const text = [state ?? scores.join(", "), here.length ? `in ${here.join(", ")}` : ""].filter(Boolean).join("; ");
    byId("readout").replaceChildren(h("strong", {}, clock(seconds)), " ", h("bdi", {}, text));
    if (how === "key") this.announceLater(text);
    if (how === "click" || (how === "key" && this.player && this.player.video.paused)) this.player?.goTo(seconds);
  }

  segmentsAt(seconds) {
    return remaining(this.timeline, this.review.state).filter((row) => row.stream === undefined && row.start_seconds <= seconds && seconds < row.end_seconds);
  }

  announce(text) {
    byId("announcer").textContent = text;
  }

  /** When whoever moves the cursor has come to rest. */
  announceLater(text) {
    clearTimeout(this.announceSoon);
    this.announceSoon = setTimeout(() => this.announce(text), 400);
  }

  // What is chosen

  select(id) {
    if (id === this.cards.current) return;
    this.cards.edit(false);
    this.cards.mark(id);
    this.player?.veil(true);
    this.showChart();
  }

  /** Select and play: what a click on a card does. */
  choose(id) {
    this.select(id);
    this.cards.focus(id);
    this.playSegment();
  }

  move(step, fits) {
    const isThere = document.activeElement.closest(".card") !== null;
    if (!isThere && !fits && this.cards.current !== null) {
      this.cards.focus(this.cards.current);
      return;
    }
    const id = this.cards.neighbour(step, fits);
    if (id === null) {
      this.announce(step > 0 ? "That is the last one." : "That is the first one.");
      return;
    }
    this.select(id);
    this.cards.focus(id);
  }

  nextUndecided() {
    this.move(1, (id) => this.review.decision(id) === "");
  }

  filterBy(value) {
    this.filter = value;
    this.cards.show();
    const count = this.cards.shown.length;
    this.announce(count === 1 ? "1 segment shown." : `${count} segments shown.`);
  }

  playSegment() {
    const segment = this.review.segment(this.cards.current);
    if (this.player && segment && segment.stream === undefined) this.player.playSegment(segment);
    else if (segment) this.chart?.moveTo(segment.start_seconds, "key");
  }

  playFrom(seconds) {
    if (!this.player) return;
    this.player.goTo(seconds);
    this.player.start();
  }

  // What is decided

  apply(state, says) {
    if (!this.config.decides || state === this.review.state) return;
    this.review.apply(state, says);
    const counts = this.counts();
    this.announce(`${says}. ${counts.decided} of ${counts.all} decided.`);
  }

  /** The current segment's decision; the same again takes it back. */
  decide(decision) {
    const id = this.cards.current;
    if (id === null || !this.review.segment(id)) return;
    const isSame = this.review.state.segments[id]?.decision === decision;
    const { state } = this.review;
    const next = isSame && decision === "rejected" ? decided(state, id, "") : isSame ? cleared(this.timeline, state, id) : decided(state, id, decision);
    const isGone = state.added.some((row) => row.id === id) && decision === "rejected";
    const following = isGone ? this.cards.neighbour(1) ?? this.cards.neighbour(-1) : null;
    this.apply(next, `${id} ${isGone ? "removed" : isSame ? "undecided" : WORDS[decision === "kept" ? "accepted" : decision].toLowerCase()}`);
    if (following === null) return;
    this.select(following);
    this.cards.focus(following);
  }

  clear() {
    const id = this.cards.current;
    if (id !== null) this.apply(cleared(this.timeline, this.review.state, id), `${id} undecided`);
  }

  decideAndGoOn(decision) {
    if (this.review.state.segments[this.cards.current]?.decision !== decision) this.decide(decision);
    this.nextUndecided();
  }

  retime(id, start, end) {
    const before = this.review.segment(id);
    if (!before || (before.start_seconds === start && before.end_seconds === end)) return;
    if (start >= end) {
      this.announce("The end must come after the start: nothing was changed.");
      return;
    }
    this.apply(retimed(this.review.state, id, start, end), `${id} now ${clock(start)} to ${clock(end)}`);
  }

  nudge(which, seconds) {
    const segment = this.review.segment(this.cards.current);
    if (segment) this.setTime(which, segment[`${which}_seconds`] + seconds);
  }

  setTime(which, seconds) {
    const segment = this.review.segment(this.cards.current);
    if (!segment) return;
    const value = microseconds(seconds);
    this.retime(segment.id, which === "start" ? value : segment.start_seconds, which === "end" ? value : segment.end_seconds);
  }

  setToCursor(which) {
    this.setTime(which, this.player && !this.player.isBroken ? this.player.seconds : this.chart?.cursorSeconds ?? this.config.start);
  }

  note(id, text) {
    const before = id === null ? this.review.state.note : noteOf(this.review.state, id);
    if (text !== before) this.apply(noted(this.review.state, id, text), id === null ? "note changed" : `note about ${id} changed`);
  }

  openEditor(field) {
    if (this.cards.current === null) return;
    const editor = this.cards.editor?.id === this.cards.current ? this.cards.editor : this.cards.edit(true);
    const isBox = field === "label";
    if (isBox && editor.label) editor.label.closest("details").open = true;
    editor[field]?.focus();
    editor[field]?.select?.();
  }

  addSegment() {
    byId("add-place").replaceChildren(this.segmentForm());
    byId("new-start").focus();
  }

  segmentForm() {
    const at = this.player && !this.player.isBroken ? this.player.seconds : this.chart?.cursorSeconds ?? this.config.start;
    const number = (id, label, value) => h("span", { class: "number-field" }, h("label", { for: id }, label), h("input", { id, type: "number", step: 0.001, value: microseconds(value) }));
    const choice = (id, label, values) => h("span", { class: "number-field wide" }, h("label", { for: id }, label), h("select", { id }, ...values.map((value) => h("option", { value }, value))));
    const problem = h("p", { class: "problem", role: "alert", id: "new-problem" });
    const form = h("form", { class: "editor new-segment", submit: (event) => this.createSegment(event) },
      h("p", { class: "aside" }, "The whole picture is covered while it lasts; only what was found, where a detector found something."),
      h("div", { class: "fields" }, number("new-start", "Start, s", at), number("new-end", "End, s", Math.min(at + 2, Math.max(this.config.end, at + 0.1))),
        choice("new-category", "Category", this.config.choices), choice("new-verdict", "Verdict", ["block", "review"])),
      h("p", {}, h("button", {}, "Add the segment"), " ", h("button", { type: "button", class: "quiet", click: () => this.closeForm() }, "Cancel")), problem);
    return form;
  }

  closeForm() {
    byId("add-place").replaceChildren();
    if (this.cards.current !== null) this.cards.focus(this.cards.current);
    else document.querySelector("[data-do=add-segment]").focus();
  }

  createSegment(event) {
    event.preventDefault();
    const [start, end] = ["new-start", "new-end"].map((id) => (byId(id).value === "" ? NaN : Number(byId(id).value)));
    const category = byId("new-category").value;
    if (!(start < end) || !category) {
      byId("new-problem").textContent = "Not added. It needs a category, and an end after the start.";
      return;
    }
    const action = this.config.categories.find((row) => row.name === category)?.action ?? "cover";
    const [state, id] = withSegment(this.timeline, this.review.state, { category, verdict: byId("new-verdict").value, action, start, end });
    this.apply(state, `${id} added`);
    byId("add-place").replaceChildren();
    this.select(id);
    this.cards.focus(id);
  }

  undo() {
    const says = this.review.undo();
    this.announce(says ? `Undone: ${says}.` : "Nothing to undo.");
  }

  redo() {
    const says = this.review.redo();
    this.announce(says ? `Done again: ${says}.` : "Nothing to do again.");
  }

  // Saving

  get downloadName() {
    const name = this.config.name.replace(/[\p{Cc}\p{Cf}\\/:*?"<>|]/gu, "_").replace(/^\.+/, "_") || "video";
    return `${name}.reviewed.timeline.json`;
  }

  save() {
    document.activeElement?.blur?.();
    const reviewer = byId("reviewer").value.trim();
    if (!reviewer) {
      byId("reviewer").setAttribute("aria-invalid", "true");
      byId("summary").textContent = "Who decided this? Type your name, then save again.";
      byId("reviewer").focus();
      return;
    }
    byId("reviewer").removeAttribute("aria-invalid");
    const entries = reviewedEntries(this.timeline, this.review.state, { reviewer, at: new Date(), tool: this.config.tool });
    download(withEntries(this.text, entries), this.downloadName);
    this.review.isSaved = true;
    this.showVerdict();
    this.announce(`Saved as ${this.downloadName}.`);
    byId("summary").textContent += ` Saved as ${this.downloadName}.`;
  }

  // What buttons do

  clicked(event) {
    const button = event.target.closest("[data-do]");
    if (!button) return;
    const card = button.closest(".card");
    if (card) this.select(card.dataset.segment);
    this.actions[button.dataset.do]?.(button);
  }

  get actions() {
    return {
      undo: () => this.undo(),
      redo: () => this.redo(),
      help: () => this.help(),
      "close-help": () => byId("help").close(),
      save: () => this.save(),
      "zoom-in": () => this.chart.zoom(2),
      "zoom-out": () => this.chart.zoom(0.5),
      "pan-left": () => this.chart.pan(-0.5),
      "pan-right": () => this.chart.pan(0.5),
      "zoom-all": () => this.chart.all(),
      veil: () => this.player.veil(!this.player.isVeiled),
      play: () => this.player.toggle(),
      "step-back": () => this.player.step(-1),
      "step-on": () => this.player.step(1),
      "play-segment": () => this.playSegment(),
      accept: () => this.decide("kept"),
      reject: () => this.decide("rejected"),
      edit: () => this.cards.edit(),
      "add-segment": () => this.addSegment(),
    };
  }

  help() {
    const dialog = byId("help");
    if (dialog.open) dialog.close();
    else dialog.showModal();
  }

  escape() {
    if (this.drawing.isOn) this.cards.editor?.toggleDrawing(false);
    else if (byId("add-place").firstChild) this.closeForm();
    else if (this.cards.editor) {
      const id = this.cards.current;
      this.cards.edit(false);
      this.cards.focus(id);
    }
  }
}

function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function remembered(name) {
  try {
    return localStorage.getItem(`vidmod.${name}`) ?? "";
  } catch {
    return "";
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`vidmod.${name}`, value);
  } catch {
    // A page from disk may not: then it is typed again.
  }
}

/** Keys for everything; single letters can be turned off (WCAG 2.2, 2.1.4). */
class Keys {
  constructor(page) {
    this.page = page;
    const frame = page.config.frame_seconds;
    const { chart, player } = page;
    this.groups = [
      ["Segments", [
        [["j", "ArrowDown"], "next segment", () => page.move(1)],
        [["k", "ArrowUp"], "segment before", () => page.move(-1)],
        [["u"], "next undecided segment", () => page.nextUndecided()],
        [["a"], "accept", () => page.decide("kept")],
        [["x"], "reject", () => page.decide("rejected")],
        [["A"], "accept, and on to the next undecided", () => page.decideAndGoOn("kept")],
        [["X"], "reject, and on to the next undecided", () => page.decideAndGoOn("rejected")],
        [["c"], "clear the decision", () => page.clear()],
        [["i"], "add a segment", () => page.addSegment()],
      ]],
      ["Change the segment", [
        [["t"], "type its times", () => page.openEditor("start")],
        [["["], "start one frame earlier", () => page.nudge("start", -frame)],
        [["]"], "start one frame later", () => page.nudge("start", frame)],
        [["{"], "start 0.1 s earlier", () => page.nudge("start", -0.1)],
        [["}"], "start 0.1 s later", () => page.nudge("start", 0.1)],
        [[","], "end one frame earlier", () => page.nudge("end", -frame)],
        [["."], "end one frame later", () => page.nudge("end", frame)],
        [["<"], "end 0.1 s earlier", () => page.nudge("end", -0.1)],
        [[">"], "end 0.1 s later", () => page.nudge("end", 0.1)],
        [["s"], `start at the ${player ? "player’s" : "cursor’s"} time`, () => page.setToCursor("start")],
        [["e"], `end at the ${player ? "player’s" : "cursor’s"} time`, () => page.setToCursor("end")],
        [["b"], "add a box", () => page.openEditor("label")],
        [["n"], "write a note", () => page.openEditor("noteField")],
      ]],
      ["Player", player ? [
        [["Enter"], "play the segment", () => page.playSegment()],
        [[" "], "play or pause", () => player.toggle()],
        [["ArrowLeft"], "one frame back", () => player.step(-1)],
        [["ArrowRight"], "one frame on", () => player.step(1)],
        [["v"], "show clearly, or blur again", () => player.veil(!player.isVeiled)],
      ] : []],
      ["Chart", chart ? [
        [["+", "="], "zoom in", () => chart.zoom(2)],
        [["-"], "zoom out", () => chart.zoom(0.5)],
        [["0"], "the whole film", () => chart.all()],
        [["("], "earlier", () => chart.pan(-0.5)],
        [[")"], "later", () => chart.pan(0.5)],
      ] : []],
      ["Page", [
        [["z"], "undo", () => page.undo()],
        [["Z"], "redo", () => page.redo()],
        [["f"], "your name, and a note for all of it", () => byId("reviewer").focus()],
        [["w"], "save the reviewed timeline", () => page.save()],
        [["?"], "these keys", () => page.help()],
      ]],
    ];
    this.known = new Map(this.groups.flatMap(([, rows]) => rows.flatMap(([keys, , run]) => keys.map((key) => [key, run]))));
    this.list();
    this.toggle = byId("keys-on");
    this.toggle.checked = remembered("keys") !== "off";
    this.toggle.addEventListener("change", () => remember("keys", this.toggle.checked ? "on" : "off"));
    document.addEventListener("keydown", (event) => this.pressed(event));
  }

  list() {
    const names = { " ": "Space", ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→" };
    const shown = (key) => h("kbd", {}, names[key] ?? key);
    const extra = { Page: [["Ctrl+Z", "Ctrl+S"], "undo, save"], Chart: [["Ctrl", "wheel"], "zoom at the pointer; Shift and wheel pan"] };
    byId("keys").replaceChildren(...this.groups.filter(([, rows]) => rows.length).map(([title, rows]) => h("section", {}, h("h3", {}, title),
      h("dl", {}, ...[...rows, ...(extra[title] ? [extra[title]] : [])].map(([keys, says]) =>
        h("div", {}, h("dt", {}, ...keys.map(shown)), h("dd", {}, says)))))));
  }

  pressed(event) {
    if (event.defaultPrevented || (byId("help").open && event.key !== "?")) return;
    if (this.withControl(event)) return;
    if (event.key === "Escape") this.page.escape();
    else if (!event.altKey && !event.ctrlKey && !event.metaKey && this.isFree(event)) this.run(event);
  }

  withControl(event) {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return false;
    const key = event.key.toLowerCase();
    if (key === "s") this.page.save();
    else if (isTyping(event.target)) return false;
    else if ((key === "z" && event.shiftKey) || key === "y") this.page.redo();
    else if (key === "z") this.page.undo();
    else return false;
    event.preventDefault();
    return true;
  }

  /** Whether nothing else wants this key. */
  isFree(event) {
    const { target, key } = event;
    if (isTyping(target)) return false;
    const isControl = target.closest("button, a, summary, select, input");
    if (["Enter", " "].includes(key) || key.startsWith("Arrow")) return !isControl && (target === document.body || target.closest("#cards, #player"));
    return this.toggle.checked;
  }

  run(event) {
    const run = this.known.get(event.key);
    if (!run) return;
    event.preventDefault();
    run();
  }
}

function isTyping(target) {
  return target.isContentEditable || target.matches("textarea, select, input:not([type=checkbox]):not([type=range])");
}

async function main() {
  document.documentElement.classList.add("js");
  const config = JSON.parse(byId("config").textContent);
  const text = await inflated(byId("document").textContent.trim());
  const page = new Page(config, text);
  page.start();
  document.documentElement.dataset.ready = "true";
}

main().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").textContent = `Decisions, zoom and playing do not work here (${error.message}). All that was found is below.`;
});
