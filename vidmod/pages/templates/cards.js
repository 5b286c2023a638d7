// The cards of segments, and the tools in the one that is being changed.

const WORDS = { "": "Undecided", accepted: "Accepted", rejected: "Rejected", changed: "Changed", added: "Added" };

class Cards {
  constructor(page) {
    this.page = page;
    this.list = byId("cards");
    // HTML cannot hold every character that an id can, a script can.
    all(".card", this.list).forEach((card, index) => {
      card.dataset.segment = page.config.ids[index];
    });
    this.elements = new Map(all(".card", this.list).map((card) => [card.dataset.segment, card]));
    this.current = null;
    this.editor = null;
    this.list.addEventListener("click", (event) => this.clicked(event));
    this.list.addEventListener("focusin", (event) => this.focused(event));
  }

  /** The cards that are to be seen, in the order of the page. */
  get shown() {
    return all(".card", this.list).filter((card) => !card.parentElement.hidden);
  }

  clicked(event) {
    const card = event.target.closest(".card");
    const isDone = event.target.closest("button, input, select, textarea, a, summary, .shot-frame");
    if (card && !isDone) this.page.choose(card.dataset.segment);
  }

  focused(event) {
    const card = event.target.closest(".card");
    if (card && card.dataset.segment !== this.current) this.page.select(card.dataset.segment);
  }

  /** Make one the current: only its controls are reached by Tab, so that 500 cards are one stop. */
  mark(id) {
    for (const known of [this.current, id]) {
      const card = this.elements.get(known);
      if (!card) continue;
      card.classList.toggle("current", known === id);
      card.tabIndex = known === id ? 0 : -1;
      for (const button of all(".card-tools button", card)) button.tabIndex = known === id ? 0 : -1;
    }
    this.current = id;
  }

  /** The next card, or the one before; the next one that fits if `fits` is given. */
  neighbour(step, fits = () => true) {
    const cards = this.shown;
    const at = cards.findIndex((card) => card.dataset.segment === this.current);
    for (let place = at + step; place >= 0 && place < cards.length; place += step) {
      if (fits(cards[place].dataset.segment)) return cards[place].dataset.segment;
    }
    return null;
  }

  focus(id) {
    const card = this.elements.get(id);
    card?.focus({ preventScroll: true });
    card?.scrollIntoView({ block: "nearest" });
  }

  /** Bring every card up to what is decided. */
  show() {
    const { review } = this.page;
    for (const row of review.state.added) if (!this.elements.has(row.id)) this.build(row);
    const { tracks, dismissed } = review.state;
    const isBoxed = this.boxed?.tracks !== tracks || this.boxed?.dismissed !== dismissed;
    this.boxed = { tracks, dismissed };
    for (const [id, card] of this.elements) {
      const segment = review.segment(id);
      const decision = review.decision(id);
      const state = JSON.stringify([segment, decision, noteOf(review.state, id), this.page.filter]);
      if (card.dataset.state === state && !isBoxed) continue;
      card.dataset.state = state;
      card.parentElement.hidden = !segment || !this.fits(segment, decision);
      if (segment) this.showOne(card, segment, decision);
    }
  }

  fits(segment, decision) {
    const wanted = this.page.filter;
    if (!wanted || segment.id === this.current) return true;
    if (wanted === "undecided") return decision === "";
    return wanted === "rejected" ? decision === "rejected" : segment.verdict === wanted;
  }

  showOne(card, segment, decision) {
    card.className = `card ${segment.verdict} ${decision} ${segment.id === this.current ? "current" : ""}`;
    const length = segment.end_seconds - segment.start_seconds;
    const times = [h("time", {}, clock(segment.start_seconds)), " – ", h("time", {}, clock(segment.end_seconds))];
    card.querySelector("[data-times]").replaceChildren(...times);
    card.querySelector("[data-length]").textContent = secondsWords(length);
    const word = card.querySelector("[data-decision]");
    word.textContent = WORDS[decision];
    word.className = `decision ${decision || "undecided"}`;
    const pressed = { accept: decision === "accepted" || decision === "changed", reject: decision === "rejected" };
    for (const [name, isPressed] of Object.entries(pressed)) {
      card.querySelector(`[data-do=${name}]`)?.setAttribute("aria-pressed", String(isPressed));
    }
    this.showNote(card, segment.id);
    this.showMore(card, segment, decision);
    this.showBoxes(card, segment);
  }

  showNote(card, id) {
    const text = noteOf(this.page.review.state, id);
    const note = card.querySelector("[data-note]");
    note.hidden = !text;
    note.firstElementChild.textContent = text;
  }

  /** What else is to be known of a decision: the machine's times, boxes that stay. */
  showMore(card, segment, decision) {
    const lines = [];
    const found = foundOf(this.page.timeline, segment.id);
    if (decision === "changed") lines.push(`The machine: ${clock(found.start_seconds)} to ${clock(found.end_seconds)}.`);
    const during = (row) => row.start_seconds < segment.end_seconds && segment.start_seconds < row.end_seconds;
    const drawn = this.page.review.state.tracks.filter(during).length;
    const removed = this.page.review.state.dismissed.filter(during).length;
    const boxes = (count) => (count === 1 ? "1 box" : `${count} boxes`);
    if (removed) lines.push(`${boxes(removed)} removed.`);
    if (drawn) lines.push(decision === "rejected" ? `${boxes(drawn)} drawn here will still be covered: remove what is not wanted.` : `${boxes(drawn)} drawn.`);
    const more = card.querySelector("[data-more]");
    more.hidden = !lines.length;
    more.textContent = lines.join(" ");
  }

  /** The boxes on the pictures: struck out if dismissed, and what was drawn. */
  showBoxes(card, segment) {
    const shots = all(".shot", card);
    if (!shots.length) return;
    const { streams, review, config } = this.page;
    const stream = streamOf(streams, segment);
    for (const shot of shots) {
      const sample = stream?.samples.find((row) => String(row.pts) === shot.dataset.pts);
      if (!sample) continue;
      const found = sample.detections.map((item) => ({ item, box: item.box, at: sample }));
      const rows = boxesOf(found, sample.time_seconds, review.state, config);
      shot.querySelector(".boxes").replaceChildren(...rows.map(({ box, kind, title }) => boxShape(box, `box ${kind}`, title)));
    }
  }

  /** A card for a segment of the reviewer's own. */
  build(row) {
    const place = `segment-${row.id}`;
    const button = (name, text, key, kind) => h("button", { type: "button", tabindex: -1, class: kind, "data-do": name }, `${text} `, h("kbd", {}, key));
    const card = h("article", { class: "card", id: place, "data-segment": row.id, tabindex: -1, "aria-labelledby": `${place}-title` },
      h("header", { class: "card-head" },
        h("h3", { id: `${place}-title` }, h("span", { class: "card-time", "data-times": true }), " ", h("span", { class: "card-what" }, h("bdi", {}, row.category))),
        h("p", { class: "card-facts" }, h("span", { class: "id" }, h("bdi", {}, row.id)), " ", h("span", { "data-length": true })),
        h("p", { class: "card-verdicts" }, badge(row.verdict), " ", h("span", { "data-decision": true }))),
      h("p", { class: "card-note", "data-note": true, hidden: true }, h("bdi", {})),
      h("p", { class: "card-more aside", "data-more": true, hidden: true }),
      h("div", { class: "card-tools", role: "group", "aria-label": plain(`Decide about ${row.id}`) },
        this.page.player ? button("play-segment", "Play", "↵", "quiet") : null,
        button("reject", "Remove", "x", "choice reject"), button("edit", "Change", "t", "quiet")),
      h("div", { class: "editor-place", "data-editor": true }));
    this.elements.set(row.id, card);
    const after = all(".card", this.list).find((other) => (this.page.review.segment(other.dataset.segment)?.start_seconds ?? -Infinity) > row.start_seconds);
    this.list.insertBefore(h("li", {}, card), after?.parentElement ?? null);
    byId("no-segments")?.remove();
  }

  /** Open or close the tools of the current card. */
  edit(isOpen = this.editor?.id !== this.current) {
    this.editor?.close();
    const card = this.elements.get(this.editor?.id ?? "");
    card?.querySelector("[data-do=edit]").setAttribute("aria-expanded", "false");
    this.editor = isOpen && this.current !== null ? new Editor(this.page, this.elements.get(this.current)) : null;
    if (this.editor) this.elements.get(this.current).querySelector("[data-do=edit]").setAttribute("aria-expanded", "true");
    return this.editor;
  }
}

/** How detections and tracks are drawn at a time; `found` is [{item, box, at}]. */
function boxesOf(found, seconds, state, config) {
  const detections = found.map(({ item, box, at }) => {
    const isJudged = config.categories.some((category) => isOf(category, item.model ?? "", item.label));
    const isGone = dismissedBy(state.dismissed, item.label, item.box, at.time_seconds) !== null;
    return { box, kind: `${isJudged ? "" : "unjudged"} ${isGone ? "dismissed" : ""}`, title: `${item.label} ${item.score.toFixed(2)}` };
  });
  const drawn = tracksAt(state.tracks, seconds).map(({ track, box }) => ({ box, kind: "drawn", title: track.label }));
  return [...detections, ...drawn];
}

function badge(verdict) {
  return byId(`badge-${verdict}`).content.firstElementChild.cloneNode(true);
}

/** The tools in the current card: times, boxes, a note. */
class Editor {
  constructor(page, card) {
    this.page = page;
    this.id = card.dataset.segment;
    this.place = card.querySelector("[data-editor]");
    this.listed = [];
    this.form = h("div", { class: "editor" }, this.times(), this.boxes(), this.note());
    this.place.replaceChildren(this.form);
    this.show();
  }

  close() {
    this.page.drawing.set(false);
    this.page.note(this.id, this.noteField.value);
    this.place.replaceChildren();
  }

  get segment() {
    return this.page.review.segment(this.id);
  }

  /** Bring the fields up to what is decided. */
  show() {
    const { segment } = this;
    if (!segment) return;
    for (const [input, value] of [[this.start, segment.start_seconds], [this.end, segment.end_seconds]]) {
      if (document.activeElement !== input || Number(input.value) !== value) input.value = value;
    }
    this.listBoxes();
  }

  times() {
    const field = (which, label) => {
      const input = h("input", { type: "number", step: 0.001, id: `edit-${which}`, change: () => this.retime() });
      this[which] = input;
      const nudge = (seconds, text, name) => h("button", { type: "button", class: "quiet small", "aria-label": `${label} ${name}`,
        click: () => this.page.nudge(which, seconds) }, text);
      const frame = this.page.config.frame_seconds;
      return h("div", { class: "time-field" }, h("label", { for: `edit-${which}` }, `${label}, s`),
        h("span", { class: "time-row" }, nudge(-0.1, "−0.1", "0.1 s earlier"), nudge(-frame, "‹", "one frame earlier"), input,
          nudge(frame, "›", "one frame later"), nudge(0.1, "+0.1", "0.1 s later"),
          h("button", { type: "button", class: "quiet small", click: () => this.page.setToCursor(which) }, this.page.player ? "Player’s time" : "Cursor’s time")));
    };
    this.problem = h("p", { class: "problem", role: "alert" });
    return h("fieldset", {}, h("legend", {}, "Times"), h("div", { class: "time-fields" }, field("start", "Start"), field("end", "End")), this.problem);
  }

  retime() {
    const [start, end] = [Number(this.start.value), Number(this.end.value)];
    const isGood = this.start.value !== "" && this.end.value !== "" && start < end;
    this.problem.textContent = isGood ? "" : "The end must come after the start: nothing was changed.";
    if (isGood) this.page.retime(this.id, start, end);
  }

  note() {
    const text = noteOf(this.page.review.state, this.id);
    this.noteField = h("textarea", { id: "edit-note", rows: 2, maxlength: 4000, change: () => this.page.note(this.id, this.noteField.value) });
    this.noteField.value = text;
    return h("fieldset", {}, h("legend", {}, "Note"), h("label", { for: "edit-note", class: "visually-hidden" }, "Note about this segment"), this.noteField);
  }

  boxes() {
    this.boxList = h("ul", { class: "box-list" });
    const isElsewhere = this.segment.stream !== undefined || !this.page.timeline.source.video;
    return h("fieldset", {}, h("legend", {}, "Boxes"), this.boxList,
      isElsewhere ? h("p", { class: "aside" }, "Boxes can be added to the main picture only.") : this.newBox());
  }

  /** What was found, drawn and removed in this segment, as a list with a button each. */
  listBoxes() {
    const { review, streams } = this.page;
    const { segment } = this;
    const { tracks, dismissed } = review.state;
    const state = [JSON.stringify(segment), tracks, dismissed];
    if (state.every((part, index) => part === this.listed[index])) return;
    this.listed = state;
    const during = (row) => row.start_seconds < segment.end_seconds && segment.start_seconds < row.end_seconds;
    const stream = streamOf(streams, segment);
    const isFirst = stream !== null && stream === streams[0];
    const chains = stream ? chainsIn(stream, segment) : [];
    const rows = [
      ...chains.filter((chain) => this.isLeft(chain)).map((chain) => this.chainRow(stream, chain, isFirst)),
      ...tracks.filter(during).map((track) => this.trackRow(track, "tracks", "drawn", "Remove")),
      ...dismissed.filter(during).map((track) => this.trackRow(track, "dismissed", "removed", "Put back")),
    ];
    this.boxList.replaceChildren(...(rows.length ? rows : [h("li", { class: "aside" }, "No detector found anything in it: accepted, the whole picture is covered. To cover a part only, reject it and add a box.")]));
  }

  /** Whether any of its boxes has not been removed. */
  isLeft(chain) {
    const { dismissed } = this.page.review.state;
    return chain.items.some(({ sample, box }) => !dismissedBy(dismissed, chain.label, box, sample.time_seconds));
  }

  chainRow(stream, chain, canRemove) {
    const [first, last] = [chain.items[0].sample.time_seconds, chain.items.at(-1).sample.time_seconds];
    const peak = Math.max(...chain.items.map((item) => item.score));
    const count = chain.items.length === 1 ? "1 picture" : `${chain.items.length} pictures`;
    const text = `${clock(first)}${last > first ? ` to ${clock(last)}` : ""}, ${count}, up to ${peak.toFixed(2)}`;
    const everywhere = h("button", { type: "button", class: "quiet small", click: () => this.dismiss(stream, chain, 0, chain.items.length - 1) }, "Remove in this segment");
    const pictures = h("details", {}, h("summary", {}, "In one picture"));
    pictures.addEventListener("toggle", () => this.listPictures(pictures, stream, chain), { once: true });
    return h("li", {}, h("bdi", {}, chain.label), ` ${text} `, canRemove ? everywhere : null, canRemove && chain.items.length > 1 ? pictures : null);
  }

  /** Only when asked for: a long segment has hundreds. */
  listPictures(place, stream, chain) {
    const { state } = this.page.review;
    const buttons = chain.items.map(({ sample, box }, index) => {
      const isGone = dismissedBy(state.dismissed, chain.label, box, sample.time_seconds) !== null;
      return h("button", { type: "button", class: "quiet small", disabled: isGone, "aria-label": `Remove at ${clock(sample.time_seconds)}`,
        click: () => this.dismiss(stream, chain, index, index) }, clock(sample.time_seconds));
    });
    place.append(h("p", { class: "box-pictures" }, ...buttons));
  }

  dismiss(stream, chain, first, last) {
    const { review } = this.page;
    this.page.apply(withTrack(review.state, "dismissed", dismissal(stream, chain, first, last)), `box of ${chain.label} removed`);
    this.refocus();
  }

  trackRow(track, list, word, undo) {
    const drop = () => {
      this.page.apply(withoutTrack(this.page.review.state, list, track.id), `box of ${track.label} ${list === "tracks" ? "removed" : "put back"}`);
      this.refocus();
    };
    return h("li", { class: word }, h("bdi", {}, track.label), ` ${word}, ${clock(track.start_seconds)} to ${clock(track.end_seconds)} `,
      h("button", { type: "button", class: "quiet small", click: drop }, undo));
  }

  /** The button that was pressed is gone: the focus stays near. */
  refocus() {
    if (document.activeElement === document.body) (this.boxList.querySelector("button") ?? this.label).focus();
  }

  newBox() {
    const { config } = this.page;
    const labels = [...new Set([...config.categories.flatMap((row) => row.labels.map((label) => label.split(".").at(-1))), ...this.page.labels])];
    const number = (name, label, value, max) => {
      this[name] = h("input", { type: "number", step: "any", min: 0, max, id: `edit-${name}`, value });
      return h("span", { class: "number-field" }, h("label", { for: `edit-${name}` }, label), this[name]);
    };
    this.label = h("input", { id: "edit-label", list: "edit-labels", value: this.segment ? Object.keys(this.segment.labels)[0] ?? labels[0] ?? "" : "", maxlength: 200 });
    this.drawButton = h("button", { type: "button", class: "quiet small", "aria-pressed": "false", click: () => this.toggleDrawing() }, "Draw it");
    this.boxProblem = h("p", { class: "problem", role: "alert" });
    const { width, height } = config;
    const third = (length, share) => Math.round(length * share);
    return h("details", { class: "new-box" }, h("summary", {}, "Add a box"),
      h("p", { class: "aside" }, "Type where it is, in pixels of the picture as displayed, or draw it on the player or on a picture. It is covered while it lasts, beside what was found."),
      h("div", { class: "fields" },
        h("span", { class: "number-field wide" }, h("label", { for: "edit-label" }, "Label"), this.label, h("datalist", { id: "edit-labels" }, ...labels.map((value) => h("option", { value })))),
        number("from", "From, s", this.segment.start_seconds), number("to", "To, s", this.segment.end_seconds)),
      h("div", { class: "fields" },
        number("x1", "Left", third(width, 1 / 3), width), number("y1", "Top", third(height, 1 / 3), height),
        number("x2", "Right", third(width, 2 / 3), width), number("y2", "Bottom", third(height, 2 / 3), height)),
      h("p", {}, this.drawButton, " ", h("button", { type: "button", class: "small", click: () => this.addBox() }, "Add the box")), this.boxProblem);
  }

  toggleDrawing(isOn = !this.page.drawing.isOn) {
    this.page.drawing.set(isOn);
    if (isOn) this.page.player?.video.pause();
    this.drawButton.setAttribute("aria-pressed", String(isOn));
    this.drawButton.textContent = isOn ? "Draw on the picture now" : "Draw it";
  }

  drawn(box) {
    ["x1", "y1", "x2", "y2"].forEach((name, index) => {
      this[name].value = box[index];
    });
    this.toggleDrawing(false);
    this.addBox();
  }

  addBox() {
    const { config, review } = this.page;
    const value = (name) => (this[name].value === "" ? NaN : Number(this[name].value));
    const [x1, y1, x2, y2, from, to] = ["x1", "y1", "x2", "y2", "from", "to"].map(value);
    const isInside = x1 >= 0 && y1 >= 0 && x2 <= config.width && y2 <= config.height;
    const isGood = x1 < x2 && y1 < y2 && isInside && from < to && this.label.value.trim() !== "";
    this.boxProblem.textContent = isGood ? "" : `Not added. It needs a label, left < right ≤ ${config.width}, top < bottom ≤ ${config.height}, and from < to.`;
    if (!isGood) return;
    const [number, base] = this.page.timeline.source.video.time_base.split("/").map(Number);
    const pts = Math.round((from * base) / number);
    const track = {
      label: this.label.value.trim(), start_seconds: microseconds(from), end_seconds: microseconds(to),
      boxes: [{ pts, time_seconds: microseconds(from), box: [x1, y1, x2, y2] }],
    };
    this.page.apply(withTrack(review.state, "tracks", track), `box of ${track.label} added`);
  }
}
