// What a reviewer decides. States are never changed, only followed by others: that is what undo needs.
//
// The document that comes of it is the one that vidmod/reviewing.py makes of the same decisions.

const VERDICTS = ["pass", "review", "block"];
const SAME_SECONDS = 1e-6;

const machineSegments = (timeline) => (timeline.review ? timeline.review.machine.segments : timeline.segments);

const foundById = new WeakMap();

/** The machine's segment of that id. */
function foundOf(timeline, id) {
  if (!foundById.has(timeline)) foundById.set(timeline, new Map(machineSegments(timeline).map((row) => [row.id, row])));
  return foundById.get(timeline).get(id);
}

/** Where a review begins: at what the page shows, undecided or as an earlier review left it. */
function initialState(timeline) {
  const rows = timeline.review?.decisions ?? [];
  const decided = new Set(rows.map((row) => row.segment));
  const left = new Map(timeline.segments.map((row) => [row.id, row]));
  const edits = machineSegments(timeline).map((row) => {
    const now = left.get(row.id) ?? row;
    const decision = !left.has(row.id) ? "rejected" : decided.has(row.id) ? "kept" : "";
    return [row.id, { decision, start: now.start_seconds, end: now.end_seconds }];
  });
  return {
    // An id may be any text, __proto__ too: entries and computed keys define, an assignment would not.
    segments: Object.fromEntries(edits),
    added: timeline.segments.filter((row) => !foundOf(timeline, row.id)),
    tracks: timeline.tracks,
    dismissed: timeline.review?.dismissed ?? [],
    notes: Object.fromEntries(rows.filter((row) => row.note).map((row) => [row.segment, row.note])),
    note: timeline.review?.note ?? "",
  };
}

/** Whether what a browser kept can be gone on from: any page from disk may have written there. */
function isState(timeline, state) {
  const isNumber = (value) => typeof value === "number";
  const isTrack = (row) => typeof row.id === "string" && typeof row.label === "string" && isNumber(row.start_seconds)
    && isNumber(row.end_seconds) && row.boxes.every(({ box, pts }) => isNumber(pts) && box.length === 4 && box.every(isNumber));
  const isEdit = (id) => ["", "kept", "rejected"].includes(state.segments[id].decision)
    && isNumber(state.segments[id].start) && isNumber(state.segments[id].end);
  const isAdded = (row) => typeof row.id === "string" && typeof row.category === "string" && VERDICTS.includes(row.verdict)
    && isNumber(row.start_seconds) && isNumber(row.end_seconds);
  const areTexts = [state.note, ...Object.values(state.notes)].every((text) => typeof text === "string");
  return areTexts && machineSegments(timeline).every((row) => isEdit(row.id)) && state.added.every(isAdded)
    && [...state.tracks, ...state.dismissed].every(isTrack);
}

const noteOf = (state, id) => (Object.hasOwn(state.notes, id) ? state.notes[id] : "");

/** What is decided about a segment now: accepted, rejected, changed, added, or nothing. */
function decisionOf(timeline, state, id) {
  if (state.added.some((row) => row.id === id)) return "added";
  const edit = state.segments[id];
  const found = foundOf(timeline, id);
  if (!edit || !found) return "";
  if (edit.decision !== "kept") return edit.decision;
  return isSame(found, edit) ? "accepted" : "changed";
}

const isSame = (found, edit) =>
  Math.abs(found.start_seconds - edit.start) <= SAME_SECONDS && Math.abs(found.end_seconds - edit.end) <= SAME_SECONDS;

function decided(state, id, decision) {
  if (state.added.some((row) => row.id === id)) {
    return decision === "rejected" ? { ...state, added: state.added.filter((row) => row.id !== id) } : state;
  }
  return { ...state, segments: { ...state.segments, [id]: { ...state.segments[id], decision } } };
}

/** Nothing is decided, and the times are the machine's. */
function cleared(timeline, state, id) {
  const found = foundOf(timeline, id);
  if (!found) return state;
  const edit = { decision: "", start: found.start_seconds, end: found.end_seconds };
  return { ...state, segments: { ...state.segments, [id]: edit } };
}

function retimed(state, id, start, end) {
  start = microseconds(start);
  end = microseconds(end);
  if (state.added.some((row) => row.id === id)) {
    const added = state.added.map((row) => (row.id === id ? { ...row, start_seconds: start, end_seconds: end } : row));
    return { ...state, added };
  }
  return { ...state, segments: { ...state.segments, [id]: { decision: "kept", start, end } } };
}

function noted(state, id, text) {
  return id === null ? { ...state, note: text } : { ...state, notes: { ...state.notes, [id]: text } };
}

/** A segment of the reviewer's own; a person is sure, so its score is 1. */
function withSegment(timeline, state, { category, verdict, action, start, end }) {
  const known = new Set([...machineSegments(timeline), ...state.added, ...timeline.segments].map((row) => row.id));
  const row = {
    id: unused("r", known), category, verdict, action,
    start_seconds: microseconds(start), end_seconds: microseconds(end), peak: 1, mean: 1, labels: {},
  };
  return [{ ...state, added: [...state.added, row] }, row.id];
}

function unused(letter, known) {
  let number = 1;
  while (known.has(`${letter}${number}`)) number += 1;
  return `${letter}${number}`;
}

const trackIds = (state) => new Set([...state.tracks, ...state.dismissed].map((row) => row.id));

function withTrack(state, list, track) {
  return { ...state, [list]: [...state[list], { id: unused("b", trackIds(state)), ...track }] };
}

function withoutTrack(state, list, id) {
  return { ...state, [list]: state[list].filter((row) => row.id !== id) };
}

/** A segment as it is now. */
function current(timeline, state, id) {
  const added = state.added.find((row) => row.id === id);
  if (added) return added;
  const found = foundOf(timeline, id);
  const edit = state.segments[id];
  return found && edit ? { ...found, start_seconds: edit.start, end_seconds: edit.end } : null;
}

/** All that is not rejected. */
function remaining(timeline, state) {
  const kept = machineSegments(timeline).filter((row) => state.segments[row.id]?.decision !== "rejected");
  return [...kept.map((row) => current(timeline, state, row.id)), ...state.added];
}

/** The worst segment's verdict, but never pass where something is unknown: vidmod/judging.py's verdict_of. */
function verdictOf(segments, status) {
  const found = [status === "complete" ? "pass" : "review", ...segments.map((row) => row.verdict)];
  return VERDICTS[Math.max(...found.map((verdict) => VERDICTS.indexOf(verdict)))];
}

/** The entries of the timeline that are the reviewer's. */
function reviewedEntries(timeline, state, { reviewer, at, tool }) {
  const segments = remaining(timeline, state).map((row) => ({ action: "cover", ...row })).sort(byTime);
  return {
    verdict: verdictOf(segments, timeline.status),
    segments,
    tracks: state.tracks,
    review: {
      reviewer,
      reviewed: `${at.toISOString().slice(0, 19)}+00:00`,
      note: state.note,
      tool,
      decisions: decisionRows(timeline, state),
      dismissed: state.dismissed,
      machine: machineOf(timeline),
    },
  };
}

function machineOf(timeline) {
  if (timeline.review) return timeline.review.machine;
  return { verdict: timeline.verdict, segments: timeline.segments, tracks: timeline.tracks };
}

function decisionRows(timeline, state) {
  const ids = [...machineSegments(timeline), ...state.added].map((row) => row.id);
  return ids
    .map((segment) => ({ segment, decision: decisionOf(timeline, state, segment) }))
    .filter((row) => row.decision)
    .map((row) => (noteOf(state, row.segment) ? { ...row, note: noteOf(state, row.segment) } : row));
}

function byTime(a, b) {
  return a.start_seconds - b.start_seconds || a.end_seconds - b.end_seconds || byCodePoints(a.category, b.category);
}

/** As Python compares text; JavaScript's own order differs beyond the Basic Multilingual Plane. */
function byCodePoints(a, b) {
  const left = [...a].map((letter) => letter.codePointAt(0));
  const right = [...b].map((letter) => letter.codePointAt(0));
  const place = left.findIndex((code, index) => code !== right[index]);
  if (place < 0) return left.length - right.length;
  return place < right.length ? left[place] - right[place] : 1;
}

/** States with what came before and after; each is kept in the browser, if that lets a page from disk do so. */
class Review {
  constructor(timeline, key, changed) {
    this.timeline = timeline;
    this.key = `vidmod.review.${key}`;
    this.changed = changed;
    this.past = [];
    this.future = [];
    this.isKept = true;
    this.isSaved = true;
    this.state = this.restored() ?? initialState(timeline);
  }

  /** Follow the state by another; `says` is what undo is about. */
  apply(state, says) {
    if (state === this.state) return;
    this.past.push({ state: this.state, says });
    this.future = [];
    this.set(state);
  }

  undo() {
    return this.swap(this.past, this.future);
  }

  redo() {
    return this.swap(this.future, this.past);
  }

  swap(from, to) {
    const step = from.pop();
    if (!step) return null;
    to.push({ state: this.state, says: step.says });
    this.set(step.state);
    return step.says;
  }

  set(state) {
    this.state = state;
    this.isSaved = false;
    this.keep();
    this.changed();
  }

  keep() {
    // Tracks can be megabytes, which a browser does not keep; those of the page itself need not be.
    const { tracks, ...rest } = this.state;
    const state = tracks === this.timeline.tracks ? rest : this.state;
    try {
      localStorage.setItem(this.key, JSON.stringify({ version: 1, state }));
      this.isKept = true;
    } catch {
      this.isKept = false;
    }
  }

  restored() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.key));
      const state = { tracks: this.timeline.tracks, ...kept.state };
      return kept.version === 1 && isState(this.timeline, state) ? state : null;
    } catch {
      return null;
    }
  }

  decision(id) {
    return decisionOf(this.timeline, this.state, id);
  }

  segment(id) {
    return current(this.timeline, this.state, id);
  }
}
