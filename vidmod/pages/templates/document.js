// The document that the page holds, and small things to build pages with.
//
// A timeline is kept as the text that its file had. What a reviewer decides replaces four of its entries; everything
// else is written again letter by letter, so that numbers which JavaScript cannot hold survive as well.

const byId = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. Text becomes text nodes, so nothing in it is ever markup. */
function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Text that cannot change the order of what stands beside it, where no <bdi> can. */
function plain(text) {
  return text.replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, "\ufffd");
}

async function inflated(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** The text with some of its top-level entries replaced; new ones go behind `tracks`. */
function withEntries(text, replaced) {
  const entries = topLevel(text);
  const rows = [];
  const write = (key, raw) => rows.push(`  ${JSON.stringify(key)}: ${raw}`);
  const written = (value) => JSON.stringify(value, null, 2).replaceAll("\n", "\n  ");
  for (const [key, raw] of entries) {
    write(key, key in replaced ? written(replaced[key]) : raw);
    if (key === "tracks") {
      Object.keys(replaced).filter((name) => !entries.has(name)).forEach((name) => write(name, written(replaced[name])));
    }
  }
  return `{\n${rows.join(",\n")}\n}\n`;
}

/** Key to raw text. Only a top-level key stands at the start of a line behind exactly two spaces. */
function topLevel(text) {
  const entries = new Map();
  let key = null;
  for (const line of text.split("\n").slice(1)) {
    const start = /^ {2}"([^"\\]+)": /.exec(line);
    if (start) {
      key = start[1];
      entries.set(key, line.slice(start[0].length));
    } else if (key !== null && line !== "}" && line !== "") {
      entries.set(key, `${entries.get(key)}\n${line}`);
    }
  }
  for (const [name, raw] of entries) entries.set(name, raw.replace(/,$/, ""));
  return entries;
}

/** Such as 1:02:05.123. */
function clock(seconds) {
  const milliseconds = Math.round(Math.abs(seconds) * 1000);
  const minutes = Math.floor(milliseconds / 60000);
  const rest = ((milliseconds % 60000) / 1000).toFixed(3).padStart(6, "0");
  const hours = Math.floor(minutes / 60);
  const head = hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}` : String(minutes);
  return `${seconds < 0 ? "-" : ""}${head}:${rest}`;
}

function secondsWords(seconds) {
  return seconds >= 1 || seconds === 0 ? `${seconds.toFixed(1)} s` : `${Number(seconds.toPrecision(2))} s`;
}

const microseconds = (seconds) => Math.round(seconds * 1e6) / 1e6;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
