// The chart: what the page was made with is drawn anew for any stretch of time.

const BINS = 500;
const LEAST_SECONDS = 0.4;
const STEPS = [0.04, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];

/** Round times for an axis. */
function ticksOf(start, end, most) {
  const step = STEPS.find((seconds) => (end - start) / seconds <= most) ?? (end - start) / most;
  const ticks = [];
  for (let number = Math.ceil(start / step - 1e-9); number * step <= end + 1e-9; number += 1) ticks.push(number * step);
  return { step, ticks };
}

/** Places in 0 to 1000 with the lowest and the highest score at each. */
function columnsOf(times, scores, view, first, after) {
  const x = (seconds) => (1000 * (seconds - view.start)) / (view.end - view.start);
  const columns = [];
  for (let place = first; place < after; place += 1) {
    const at = after - first <= BINS ? x(times[place]) : (Math.floor((x(times[place]) / 1000) * BINS) + 0.5) * (1000 / BINS);
    const last = columns.at(-1);
    if (last && last.x === at) {
      last.low = Math.min(last.low, scores[place]);
      last.high = Math.max(last.high, scores[place]);
    } else columns.push({ x: at, low: scores[place], high: scores[place] });
  }
  return columns;
}

function pathOf(columns, key) {
  const points = columns.map((row) => `${row.x.toFixed(1)} ${(100 * (1 - row[key])).toFixed(1)}`);
  return points.length === 1 ? `M${points[0]}h.5` : `M${points[0]}L${points.slice(1).join(" ")}`;
}

const closed = (columns, key) => `${pathOf(columns, key)}V100H${columns[0].x.toFixed(1)}Z`;

class Chart {
  /** `on.cursor(seconds, how)` is called when the cursor moved; `how` is hover, key or click. */
  constructor(config, streams, on) {
    this.config = config;
    this.on = on;
    this.streams = streams;
    this.whole = { start: config.start, end: Math.max(config.end, config.start + 1e-3) };
    this.view = { ...this.whole };
    this.cursorSeconds = config.start;
    this.isUsed = false;
    this.surface = byId("surface");
    this.cursor = byId("cursor");
    this.lanes = config.lanes.map((lane, index) => this.lane(lane, index));
    this.segments = [];
    this.listen();
  }

  lane({ category, place }, index) {
    const element = document.querySelector(`[data-lane="${index}"]`);
    const stream = this.streams[place];
    const kind = this.config.categories[category];
    return { element, stream, kind, place, ...seriesOf(stream?.samples ?? [], kind) };
  }

  get length() {
    return this.view.end - this.view.start;
  }

  percent(seconds) {
    return (100 * (seconds - this.view.start)) / this.length;
  }

  /** Show what is decided now: [{segment, decision, isCurrent}]. */
  show(segments) {
    this.segments = segments;
    this.drawBars();
  }

  draw() {
    for (const lane of this.lanes) this.drawCurves(lane);
    this.drawBars();
    this.drawAxis();
    this.drawOverview();
    this.placeCursor();
  }

  drawCurves(lane) {
    const parts = this.parts(lane);
    const curves = lane.element.querySelector("[data-curves]");
    const join = (draw) => parts.map(draw).join("");
    curves.replaceChildren(
      svg("path", { class: "area", d: join((part) => closed(part, "high")) }),
      svg("path", { class: "floor", d: join((part) => (part.some((row) => row.low < row.high) ? closed(part, "low") : "")) }),
      svg("path", { class: "line", d: join((part) => pathOf(part, "high")) }),
    );
    const gaps = lane.element.querySelector("[data-gaps]");
    gaps?.replaceChildren(...this.gaps(lane).map((row) => this.bar(row.start_seconds, row.end_seconds, `gap ${row.state}`)));
  }

  /** The visible samples, one more on each side, cut at what was not looked at. */
  parts(lane) {
    const edges = [-Infinity, ...this.gaps(lane).map((row) => row.start_seconds), Infinity];
    const first = Math.max(0, placeAt(lane.times, this.view.start) - 1);
    const after = Math.min(lane.times.length, placeAt(lane.times, this.view.end) + 1);
    const parts = [];
    for (let index = 0; index + 1 < edges.length; index += 1) {
      const low = Math.max(first, placeAt(lane.times, edges[index]));
      const high = Math.min(after, placeAt(lane.times, edges[index + 1]));
      if (low < high) parts.push(columnsOf(lane.times, lane.scores, this.view, low, high));
    }
    return parts;
  }

  gaps(lane) {
    return lane.place === 0 ? lane.stream.coverage.filter((row) => row.state !== "analysed") : [];
  }

  bar(start, end, kind) {
    const x = clamp(this.percent(start), 0, 100);
    const width = Math.max(0.15, clamp(this.percent(end), 0, 100) - x);
    const isOut = end < this.view.start || start > this.view.end;
    return svg("rect", { class: kind, x: `${x}%`, y: 0, width: `${isOut ? 0 : width}%`, height: "100%" });
  }

  drawBars() {
    for (const lane of this.lanes) {
      const shown = this.segments.filter(({ segment }) => segment.category === lane.kind.name && streamOf(this.streams, segment) === lane.stream);
      const bars = shown.map(({ segment, decision, isCurrent }) => {
        const kind = `span ${segment.verdict} ${decision} ${isCurrent ? "current" : ""}`;
        const bar = this.bar(segment.start_seconds, segment.end_seconds, kind);
        bar.append(svg("title", {}, plain(`${segment.id}: ${segment.category}, ${decision || "undecided"}`)));
        return bar;
      });
      lane.element.querySelector("[data-bars]").replaceChildren(...bars);
    }
  }

  drawAxis() {
    const axis = document.querySelector("#chart [data-axis]");
    const most = clamp(Math.floor(axis.clientWidth / 90), 2, 10);
    const { step, ticks } = ticksOf(this.view.start, this.view.end, most);
    axis.replaceChildren(...ticks.flatMap((seconds) => this.tick(seconds, step)));
  }

  tick(seconds, step) {
    const x = this.percent(seconds);
    const place = x > 96 ? "last" : x < 4 ? "first" : "";
    const text = clock(seconds);
    return [
      svg("line", { x1: `${x}%`, x2: `${x}%`, y1: 0, y2: 5 }),
      svg("text", { x: `${x}%`, y: 17, class: place }, step < 1 ? text : text.split(".")[0]),
    ];
  }

  drawOverview() {
    const overview = byId("overview");
    const isWhole = this.length >= this.whole.end - this.whole.start - 1e-9;
    overview.toggleAttribute("hidden", isWhole);
    const share = (seconds) => `${(100 * (seconds - this.whole.start)) / (this.whole.end - this.whole.start)}%`;
    const width = `${(100 * this.length) / (this.whole.end - this.whole.start)}%`;
    const spans = this.segments.map(({ segment }) => svg("rect", {
      class: `span ${segment.verdict}`, x: share(segment.start_seconds), y: 2, height: 8,
      width: `${Math.max(0.2, (100 * (segment.end_seconds - segment.start_seconds)) / (this.whole.end - this.whole.start))}%`,
    }));
    overview.replaceChildren(...spans, svg("rect", { class: "window", x: share(this.view.start), y: 0.5, width, height: 11, rx: 3 }));
  }

  /** Show [start, end), as much of it as there is. */
  look(start, end) {
    const most = this.whole.end - this.whole.start;
    const length = clamp(end - start, Math.min(LEAST_SECONDS, most), most);
    const middle = (start + end) / 2;
    const from = clamp(middle - length / 2, this.whole.start, this.whole.end - length);
    this.view = { start: from, end: from + length };
    this.draw();
  }

  zoom(factor, around = this.isInView(this.cursorSeconds) ? this.cursorSeconds : (this.view.start + this.view.end) / 2) {
    const share = (around - this.view.start) / this.length;
    const most = this.whole.end - this.whole.start;
    const length = clamp(this.length / factor, Math.min(LEAST_SECONDS, most), most);
    this.look(around - share * length, around + (1 - share) * length);
  }

  pan(share) {
    this.look(this.view.start + share * this.length, this.view.end + share * this.length);
  }

  all() {
    this.look(this.whole.start, this.whole.end);
  }

  isInView(seconds) {
    return this.view.start <= seconds && seconds <= this.view.end;
  }

  /** Put the cursor somewhere; the view follows unless the cursor is only pointed. */
  moveTo(seconds, how) {
    this.cursorSeconds = clamp(seconds, this.whole.start, this.whole.end);
    this.isUsed = true;
    if (how !== "hover" && !this.isInView(this.cursorSeconds)) {
      this.look(this.cursorSeconds - this.length / 2, this.cursorSeconds + this.length / 2);
    }
    this.placeCursor();
    this.surface.setAttribute("aria-valuenow", this.cursorSeconds.toFixed(3));
    this.surface.setAttribute("aria-valuetext", clock(this.cursorSeconds));
    const values = this.lanes.map((lane) => this.scoreAt(lane));
    this.lanes.forEach((lane, index) => {
      lane.element.querySelector("[data-now]").textContent = values[index] ?? "";
    });
    this.on.cursor(this.cursorSeconds, how, this.lanes.map((lane, index) => [lane.kind.name, values[index]]));
  }

  scoreAt(lane) {
    const place = nearest(lane.times, this.cursorSeconds);
    return place < 0 || this.stateAt(this.cursorSeconds) !== "analysed" ? null : lane.scores[place].toFixed(2);
  }

  stateAt(seconds) {
    const coverage = this.streams[0]?.coverage ?? [];
    const row = coverage.find((span) => span.start_seconds <= seconds && seconds < span.end_seconds);
    return row?.state ?? (coverage.length && seconds === coverage.at(-1).end_seconds ? coverage.at(-1).state : "unsampled");
  }

  placeCursor() {
    this.cursor.hidden = !this.isUsed || !this.isInView(this.cursorSeconds);
    this.cursor.style.left = `${this.percent(this.cursorSeconds)}%`;
  }

  /** By so many samples. */
  step(count) {
    const times = this.lanes[0]?.times ?? [];
    if (!times.length) return;
    const at = nearest(times, this.cursorSeconds);
    this.moveTo(times[clamp(at + count, 0, times.length - 1)], "key");
  }

  secondsAt(event) {
    const box = this.surface.getBoundingClientRect();
    return this.view.start + ((event.clientX - box.left) / box.width) * this.length;
  }

  listen() {
    this.surface.setAttribute("aria-valuemin", this.whole.start);
    this.surface.setAttribute("aria-valuemax", this.whole.end);
    this.surface.addEventListener("pointermove", (event) => this.pointed(event));
    this.surface.addEventListener("pointerdown", (event) => this.pressed(event));
    this.surface.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    this.surface.addEventListener("keydown", (event) => this.keyed(event));
    let width = 0;
    new ResizeObserver(([entry]) => {
      if (entry.contentRect.width === width) return;
      width = entry.contentRect.width;
      this.drawAxis();
    }).observe(this.surface);
  }

  pointed(event) {
    if (this.drag) {
      const moved = event.clientX - this.drag.x;
      this.drag.isPan ||= Math.abs(moved) > 4;
      const seconds = (moved / this.surface.clientWidth) * this.length;
      if (this.drag.isPan) this.look(this.drag.start - seconds, this.drag.end - seconds);
    } else this.moveTo(this.secondsAt(event), "hover");
  }

  pressed(event) {
    if (event.button !== 0) return;
    this.drag = { x: event.clientX, isPan: false, ...this.view };
    const ended = (last) => {
      const wasPan = this.drag?.isPan;
      this.drag = null;
      if (!wasPan && last.type === "pointerup") this.moveTo(this.secondsAt(last), "click");
    };
    this.surface.setPointerCapture(event.pointerId);
    this.surface.addEventListener("pointerup", ended, { once: true });
    this.surface.addEventListener("pointercancel", ended, { once: true });
  }

  /** A plain wheel scrolls the page, as everywhere. */
  wheeled(event) {
    const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    if (event.ctrlKey || event.metaKey) this.zoom(event.deltaY < 0 ? 1.25 : 0.8, this.secondsAt(event));
    else if (sideways) this.pan(clamp(sideways / 800, -0.5, 0.5));
    else return;
    event.preventDefault();
  }

  keyed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const count = event.shiftKey ? 10 : 1;
    const moves = {
      ArrowLeft: () => this.step(-count),
      ArrowRight: () => this.step(count),
      ArrowDown: () => this.step(-count),
      ArrowUp: () => this.step(count),
      Home: () => this.moveTo(this.whole.start, "key"),
      End: () => this.moveTo(this.whole.end, "key"),
      PageUp: () => this.pan(-0.8),
      PageDown: () => this.pan(0.8),
      Enter: () => this.on.enter(this.cursorSeconds),
    };
    if (!moves[event.key]) return;
    moves[event.key]();
    event.preventDefault();
    event.stopPropagation();
  }
}
