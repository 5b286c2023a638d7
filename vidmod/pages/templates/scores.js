// What the samples say: scores of categories over time, boxes, and which boxes belong together.

// Of two boxes of one label in samples that follow each other, by intersection over union: they are of one thing.
const LINKED = 0.1;
// A detector misses a thing now and then.
const MISSED_SAMPLES = 2;
// What redaction takes for the same as a dismissed box: vidmod/redacting/covering.py.
const SAME_OVERLAP = 0.5;
// Redaction looks at every picture, and finds a thing before and after the samples do.
const BEYOND_SECONDS = 1;

const isOf = (category, model, label) =>
  category.labels.includes(label) || category.labels.includes(`${model}.${label}`);

/** The streams with samples: that of the player first. */
function streamsOf(timeline) {
  const first = { stream: null, kind: null, video: timeline.source.video, coverage: timeline.coverage, samples: timeline.samples };
  return timeline.source.video ? [first, ...(timeline.other_streams ?? [])] : [];
}

function streamOf(streams, segment) {
  if (segment.stream === undefined) return streams[0] ?? null;
  const named = streams.slice(1).filter((row) => row.stream === segment.stream);
  return named.find((row) => row.kind === segment.kind) ?? named[0] ?? null;
}

function shownSize(video) {
  const isTurned = Math.abs(video.rotation) === 90;
  return isTurned ? [video.height, video.width] : [video.width, video.height];
}

function bestScore(sample, category) {
  let best = 0;
  for (const [model, labels] of Object.entries(sample.scores)) {
    for (const [label, score] of Object.entries(labels)) if (isOf(category, model, label)) best = Math.max(best, score);
  }
  for (const item of sample.detections) {
    if (isOf(category, item.model ?? "", item.label)) best = Math.max(best, item.score);
  }
  return best;
}

function seriesOf(samples, category) {
  return {
    times: Float64Array.from(samples, (sample) => sample.time_seconds),
    scores: Float64Array.from(samples, (sample) => bestScore(sample, category)),
  };
}

/** The first place whose time is at or after `seconds`. */
function placeAt(times, seconds) {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < seconds) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The sample nearest in time. */
function nearest(times, seconds) {
  if (!times.length) return -1;
  const after = placeAt(times, seconds);
  if (after === 0) return 0;
  if (after === times.length) return after - 1;
  return seconds - times[after - 1] <= times[after] - seconds ? after - 1 : after;
}

function overlap(a, b) {
  const common = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common;
  return total > 0 ? common / total : 0;
}

/** Detections of a segment's samples, those of one thing together: [{label, items: [{place, sample, box, score}]}]. */
function chainsIn(stream, segment) {
  const chains = [];
  let open = [];
  stream.samples.forEach((sample, place) => {
    if (!isDuring(sample, segment)) return;
    open = open.filter((chain) => place - chain.items.at(-1).place <= MISSED_SAMPLES + 1);
    const free = new Set(open);
    for (const item of sample.detections) {
      const chain = linked(item, free) ?? opened(item, chains, open);
      free.delete(chain);
      chain.items.push({ place, sample, box: item.box, score: item.score });
    }
  });
  return chains;
}

const isDuring = (sample, segment) =>
  sample.time_seconds < segment.end_seconds && segment.start_seconds < sample.time_seconds + Math.max(sample.duration_seconds ?? 0, 1e-6);

function linked(item, free) {
  let best = null;
  let most = LINKED;
  for (const chain of free) {
    const share = chain.label === item.label ? overlap(chain.items.at(-1).box, item.box) : 0;
    if (share >= most) [best, most] = [chain, share];
  }
  return best;
}

function opened(item, chains, open) {
  const chain = { label: item.label, model: item.model ?? "", items: [] };
  chains.push(chain);
  open.push(chain);
  return chain;
}

/** A track of boxes that are not to be covered: from midway to the sample before to midway to the one after. */
function dismissal(stream, chain, first, last) {
  const time = (place) => stream.samples[place].time_seconds;
  const [from, to] = [chain.items[first], chain.items[last]];
  const isFirst = first === 0 || from.place === 0;
  const isLast = last === chain.items.length - 1 || to.place === stream.samples.length - 1;
  const start = isFirst ? time(from.place) - BEYOND_SECONDS : (time(from.place - 1) + time(from.place)) / 2;
  const end = isLast ? time(to.place) + BEYOND_SECONDS : (time(to.place) + time(to.place + 1)) / 2;
  return {
    label: chain.label,
    start_seconds: microseconds(start),
    end_seconds: microseconds(end),
    boxes: chain.items.slice(first, last + 1).map(({ sample, box }) => ({
      pts: sample.pts, time_seconds: sample.time_seconds, box,
    })),
  };
}

/** Where a track's box is at some time, between two of its boxes in a straight line. */
function boxAt(track, seconds) {
  const rows = track.boxes;
  if (!rows.length) return null;
  const before = rows.filter((row) => row.time_seconds <= seconds).at(-1) ?? rows[0];
  const after = rows.find((row) => row.time_seconds >= seconds) ?? rows.at(-1);
  const length = after.time_seconds - before.time_seconds;
  const share = length > 0 ? (seconds - before.time_seconds) / length : 0;
  return before.box.map((value, index) => value + (after.box[index] - value) * share);
}

/** Tracks that are shown at that time, with their boxes then. */
function tracksAt(tracks, seconds) {
  return tracks
    .filter((track) => track.boxes.length && track.start_seconds <= seconds && seconds < track.end_seconds)
    .map((track) => ({ track, box: boxAt(track, seconds) }));
}

/** The dismissal that a detection falls under. */
function dismissedBy(dismissed, label, box, seconds) {
  const found = tracksAt(dismissed, seconds).find((row) => row.track.label === label && overlap(row.box, box) >= SAME_OVERLAP);
  return found?.track ?? null;
}

/** What detectors see at some time: between two samples a box moves in a straight line to the one it is linked with. */
function detectionsAt(stream, times, seconds) {
  const after = placeAt(times, seconds);
  const place = nearest(times, seconds);
  if (place < 0 || Math.abs(times[place] - seconds) > BEYOND_SECONDS) return [];
  const [before, following] = [stream.samples[after - 1], stream.samples[after]];
  const other = place === after ? before : following;
  const sample = stream.samples[place];
  return sample.detections.map((item) => {
    const twin = other?.detections.find((row) => row.label === item.label && overlap(row.box, item.box) >= LINKED);
    if (!twin || other.time_seconds === sample.time_seconds) return { item, box: item.box, at: sample };
    const share = clamp((seconds - sample.time_seconds) / (other.time_seconds - sample.time_seconds), 0, 1);
    return { item, box: item.box.map((value, index) => value + (twin.box[index] - value) * share), at: sample };
  });
}
