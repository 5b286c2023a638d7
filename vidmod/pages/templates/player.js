// The player: blurred, grey and muted until somebody asks, and again with the next segment.

class Player {
  /** `on.time(seconds)` is called while it plays or seeks; seconds are the source's, as everywhere on the page. */
  constructor(config, on) {
    this.config = config;
    this.on = on;
    this.video = byId("video");
    this.screen = byId("screen");
    this.boxes = byId("screen-boxes");
    this.seek = byId("seek");
    this.offset = 0;
    this.until = null;
    this.isBroken = false;
    this.boxes.setAttribute("viewBox", `0 0 ${config.width} ${config.height}`);
    this.video.muted = true;
    this.listen();
  }

  listen() {
    const { video } = this;
    for (const name of ["timeupdate", "seeked"]) video.addEventListener(name, () => this.told());
    for (const name of ["play", "pause", "ended"]) video.addEventListener(name, () => this.moved());
    video.addEventListener("loadedmetadata", () => this.opened());
    video.addEventListener("error", () => this.broke());
    this.seek.min = this.config.start;
    this.seek.max = this.config.end;
    this.seek.value = this.config.start;
    this.seek.addEventListener("input", () => this.goTo(Number(this.seek.value)));
    // Both may have happened before the script ran.
    if (video.error) this.broke();
    else if (video.readyState >= HTMLMediaElement.HAVE_METADATA) this.opened();
  }

  opened() {
    const { video, config } = this;
    if (!video.videoWidth) {
      this.broke();
      return;
    }
    this.screen.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
    // Some players begin to count where the source begins, others at its own times.
    const ends = [config.end - config.start, config.end].map((end) => Math.abs(video.duration - end));
    this.offset = ends[0] < ends[1] ? config.start : 0;
    this.showClock();
  }

  broke() {
    this.isBroken = true;
    this.screen.classList.add("broken");
    this.says("This browser cannot play the video: its codec is not one that it knows, or the file is no longer there. Decide by the scores and pictures, or open the page in another browser.");
    for (const control of all("button, input", byId("player"))) control.disabled = true;
  }

  says(text) {
    byId("player-says").textContent = text;
  }

  get seconds() {
    return microseconds(this.video.currentTime + this.offset);
  }

  goTo(seconds) {
    if (this.isBroken) return;
    this.until = null;
    this.video.currentTime = Math.max(0, seconds - this.offset);
  }

  /** From the segment's start to its end, and no further. */
  playSegment(segment) {
    if (this.isBroken) return;
    this.video.pause();
    this.goTo(segment.start_seconds);
    this.until = segment.end_seconds;
    this.says(`Playing ${clock(segment.start_seconds)} to ${clock(segment.end_seconds)}.`);
    this.start();
  }

  toggle() {
    if (this.isBroken) return;
    if (this.video.paused) this.start();
    else this.video.pause();
  }

  start() {
    this.video.play().catch((error) => {
      // A pause that comes before the first picture is no failure.
      if (error.name !== "AbortError") this.says(`It does not play: ${error.message}`);
    });
  }

  step(frames) {
    this.video.pause();
    this.goTo(clamp(this.seconds + frames * this.config.frame_seconds, this.config.start, this.config.end));
  }

  moved() {
    byId("player").querySelector("[data-do=play]").textContent = this.video.paused ? "Play" : "Pause";
    if (!this.video.paused) this.follow();
  }

  /** On every picture while it plays: `timeupdate` comes four times a second, which is too late for an end. */
  follow() {
    if (this.video.paused) return;
    if (this.until !== null && this.seconds >= this.until) {
      this.video.pause();
      const end = this.until;
      this.goTo(end);
      this.says(`Stopped at the segment’s end, ${clock(end)}.`);
    }
    this.told();
    requestAnimationFrame(() => this.follow());
  }

  told() {
    this.showClock();
    this.on.time(this.seconds);
  }

  showClock() {
    this.seek.value = this.seconds;
    byId("clock").textContent = clock(this.seconds);
    this.seek.setAttribute("aria-valuetext", clock(this.seconds));
  }

  get isVeiled() {
    return this.video.classList.contains("veiled");
  }

  veil(isVeiled) {
    this.video.classList.toggle("veiled", isVeiled);
    const button = byId("player").querySelector("[data-do=veil]");
    button.setAttribute("aria-pressed", String(!isVeiled));
    button.textContent = isVeiled ? "Show clearly" : "Blur again";
  }

  /** Draw boxes: [{box, kind, title}]. */
  drawBoxes(rows) {
    this.boxes.replaceChildren(...rows.map(({ box, kind, title }) => boxShape(box, `box ${kind}`, title)));
  }
}

function boxShape([x1, y1, x2, y2], kind, title) {
  const attributes = { class: kind, x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) };
  return svg("rect", attributes, svg("title", {}, plain(title)));
}

/** Draw one box on a picture by pointer; `drawn` gets it in pixels of the video as displayed. */
class Drawing {
  constructor(config, drawn) {
    this.config = config;
    this.drawn = drawn;
    this.isOn = false;
    document.addEventListener("pointerdown", (event) => this.pressed(event));
  }

  set(isOn) {
    this.isOn = isOn;
    document.documentElement.classList.toggle("drawing", isOn);
  }

  pressed(event) {
    const surface = this.isOn && event.button === 0 ? event.target.closest("#screen, .card.current .shot-frame") : null;
    const overlay = surface?.querySelector(".boxes");
    if (!overlay) return;
    event.preventDefault();
    const from = this.place(surface, overlay, event);
    const shape = overlay.appendChild(boxShape([...from, ...from], "box drawn", "new"));
    const move = (next) => {
      const box = this.box(from, this.place(surface, overlay, next));
      for (const [name, value] of [["x", box[0]], ["y", box[1]], ["width", box[2] - box[0]], ["height", box[3] - box[1]]]) {
        shape.setAttribute(name, value);
      }
    };
    const end = (last) => {
      document.removeEventListener("pointermove", move);
      shape.remove();
      this.drawn(this.box(from, this.place(surface, overlay, last)), surface);
    };
    document.addEventListener("pointermove", move);
    document.addEventListener("pointerup", end, { once: true });
  }

  place(surface, overlay, event) {
    const [, , width, height] = overlay.getAttribute("viewBox").split(" ").map(Number);
    const box = surface.getBoundingClientRect();
    const share = (at, from, length) => clamp((at - from) / length, 0, 1);
    return [share(event.clientX, box.left, box.width) * width, share(event.clientY, box.top, box.height) * height];
  }

  box(a, b) {
    const rounded = (value) => Math.round(value * 10) / 10;
    return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])].map(rounded);
  }
}
