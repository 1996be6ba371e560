"use strict";
// Draws a run: what is in view, and nothing else. Times are microseconds.

const run = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const lanes = byId("lanes"), overview = byId("overview"), tip = byId("tip"), log = byId("log");
const pen = lanes.getContext("2d"), smallPen = overview.getContext("2d");

const name = (machine) => (machine === null ? "all" : "n" + (machine + 1));
const events = run.events.map(([at, machine, what, text], place) =>
  ({ at, machine, what, text: run.texts[text], place }));
const messages = run.messages.map(([at, from, arrives, to, what, term, text, fate]) =>
  ({ at, from, arrives, to, what, term, text: run.texts[text], fate }));
const violations = events.filter((event) => event.what === "violation");
const longest = messages.reduce((most, m) => Math.max(most, (m.arrives ?? m.at) - m.at), 0);
const LOST_FLIGHT = 800; // how far a lost message is drawn, if nothing says how fast its link is
const usual = (() => {
  const flights = messages.filter((m) => m.arrives !== null).map((m) => m.arrives - m.at);
  flights.sort((a, b) => a - b);
  return flights.length ? flights[flights.length >> 1] : LOST_FLIGHT;
})();

// ---- what is shown

const KINDS = [
  ["vote", "votes", 2.2, []],
  ["append", "records", 1.6, []],
  ["ack", "acks", 1, [5, 3]],
  ["heartbeat", "heartbeats", 1, [1.5, 3.5]],
  ["catchup", "catchups", 1.8, [9, 3, 2, 3]],
  ["other", "others", 1, [2, 2]],
];
const shown = new Set(KINDS.map(([kind]) => kind));
const MAJOR = new Set(["start", "crash", "disk", "aside", "cut", "fault", "relief", "elected", "snapshot", "violation"]);
const MOST_MESSAGES = 6000, MOST_MARKS = 240, MOST_LINES = 400;
const whole = { from: run.from, to: run.to };
const span = whole.to - whole.from;
whole.from -= span * 0.02;
whole.to += span * 0.02;
const view = { ...whole };
let group = run.groups[0] ?? null, wanted = "", hovered = null, pointer = null, drawn = [];

// ---- colours

const style = getComputedStyle(document.documentElement);
let paint = {};
const dark = matchMedia("(prefers-color-scheme: dark)");
function readColours() {
  for (const key of ["paper", "panel", "ink", "soft", "line", "grid", "bad", "good", "down", "focus"]) {
    paint[key] = style.getPropertyValue("--" + key).trim();
  }
}
readColours();
dark.addEventListener("change", () => { readColours(); patterns.clear(); draw(); drawLegend(); });

// Neighbouring terms lie far apart on the wheel.
const hue = (term) => (term * 137.508 + 75) % 360;
function termColour(term, alpha = 1) {
  if (!term) return dark.matches ? `hsl(220 8% 62% / ${alpha})` : `hsl(220 8% 52% / ${alpha})`;
  return `hsl(${hue(term).toFixed(1)} ${dark.matches ? "62% 64%" : "64% 43%"} / ${alpha})`;
}
const patterns = new Map();
function hatch(colour) {
  if (!patterns.has(colour)) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const c = tile.getContext("2d");
    c.strokeStyle = colour;
    c.lineWidth = 1.6;
    for (const shift of [-8, 0, 8]) {
      c.beginPath(); c.moveTo(shift, 8); c.lineTo(shift + 8, 0); c.stroke();
    }
    patterns.set(colour, pen.createPattern(tile, "repeat"));
  }
  return patterns.get(colour);
}

// ---- where things are

const LEFT = 54, TOP = 40, BOTTOM = 22;
let size = { width: 0, height: 0, ratio: 1 };
const scale = () => (size.width - LEFT - 14) / (view.to - view.from);
const toX = (at) => LEFT + (at - view.from) * scale();
const toTime = (x) => view.from + (x - LEFT) / scale();
const gap = () => (size.height - TOP - BOTTOM) / Math.max(1, run.machines);
const laneY = (machine) => TOP + gap() * (machine + 0.5);
const half = () => Math.max(6, Math.min(14, gap() * 0.15));

/// The place of the first that is not before `at`.
function first(list, at) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].at < at) low = middle + 1; else high = middle;
  }
  return low;
}

function seconds(at, width = view.to - view.from) {
  const digits = width > 5e7 ? 1 : width > 2e6 ? 3 : width > 2e4 ? 4 : 6;
  return (at / 1e6).toFixed(digits);
}
function length(micros) {
  if (micros >= 1e6) return (micros / 1e6).toFixed(2) + " s";
  return micros >= 1000 ? (micros / 1000).toFixed(micros >= 1e5 ? 0 : 2) + " ms" : Math.round(micros) + " µs";
}

// ---- drawing

function fit(canvas, c) {
  const box = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
  const width = Math.round(box.width * ratio), height = Math.round(box.height * ratio);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { width: box.width, height: box.height, ratio };
}

let asked = false, changed = true;
function draw() {
  changed = true;
  drawSoon();
}
function drawSoon() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (changed) {
      changed = false;
      size = fit(lanes, pen);
      drawLanes();
      keep();
      drawOverview();
      logSoon();
    } else {
      restore();
    }
    if (hovered) inLanes(drawHovered);
  });
}

// What is pointed at changes with each move, and what lies below it does not.
const kept = document.createElement("canvas"), keptPen = kept.getContext("2d");
function keep() {
  kept.width = lanes.width; kept.height = lanes.height;
  keptPen.drawImage(lanes, 0, 0);
}
function restore() {
  pen.clearRect(0, 0, size.width, size.height);
  pen.drawImage(kept, 0, 0, size.width, size.height);
}

function inLanes(drawIt) {
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, size.width - LEFT, size.height);
  pen.clip();
  drawIt();
  pen.restore();
}

function drawLanes() {
  drawn = [];
  pen.clearRect(0, 0, size.width, size.height);
  drawAxis();
  drawViolations();
  inLanes(() => {
    drawMessages();
    drawSpans();
    drawMarks();
  });
  drawNames();
}

function drawAxis() {
  const width = view.to - view.from, wish = width / Math.max(3, (size.width - LEFT) / 130);
  const power = 10 ** Math.floor(Math.log10(wish));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wish);
  pen.font = "12px system-ui, 'Liberation Sans', sans-serif";
  pen.textBaseline = "alphabetic";
  pen.textAlign = "center";
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
    if (at < 0) continue;
    const x = Math.round(toX(at)) + 0.5;
    pen.strokeStyle = paint.grid;
    pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(x, 24); pen.lineTo(x, size.height); pen.stroke();
    pen.fillStyle = paint.soft;
    pen.fillText(seconds(at, step * 4) + " s", x, 16);
  }
}

function drawNames() {
  pen.fillStyle = paint.paper;
  pen.globalAlpha = 0.9;
  pen.fillRect(0, 24, LEFT - 4, size.height);
  pen.globalAlpha = 1;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  pen.fillStyle = paint.ink;
  pen.font = "600 15px system-ui, 'Liberation Sans', sans-serif";
  for (let machine = 0; machine < run.machines; machine += 1) pen.fillText(name(machine), LEFT - 14, laneY(machine));
}

function drawViolations() {
  for (const violation of violations) {
    const x = toX(violation.at);
    if (x < LEFT || x > size.width) continue;
    const glow = pen.createLinearGradient(x - 26, 0, x + 26, 0);
    const clear = "rgb(230 40 40 / 0)", full = "rgb(230 40 40 / 0.3)";
    glow.addColorStop(0, clear); glow.addColorStop(0.5, full); glow.addColorStop(1, clear);
    pen.fillStyle = glow;
    pen.fillRect(x - 26, 24, 52, size.height - 24);
    pen.strokeStyle = paint.bad;
    pen.lineWidth = 1.5;
    pen.beginPath(); pen.moveTo(x, 24); pen.lineTo(x, size.height); pen.stroke();
  }
}

function band(x, y, width, height) {
  pen.beginPath();
  pen.roundRect(x, y, width, height, Math.min(5, width / 2));
}

function drawSpans() {
  const h = half();
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  pen.font = "600 12px system-ui, 'Liberation Sans', sans-serif";
  for (let machine = 0; machine < run.machines; machine += 1) {
    pen.strokeStyle = paint.line;
    pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(LEFT, laneY(machine)); pen.lineTo(size.width, laneY(machine)); pen.stroke();
  }
  for (const one of run.spans) {
    if (one.to < view.from || one.from > view.to || (one.group !== null && one.group !== group)) continue;
    const left = Math.max(LEFT - 8, toX(one.from)), right = Math.min(size.width + 8, toX(one.to));
    const width = Math.max(1, right - left), y = laneY(one.machine), colour = termColour(one.term);
    let label = `term ${one.term}`, ink = paint.ink;
    band(left, y - h, width, h * 2);
    pen.fillStyle = paint.paper; pen.fill();
    if (one.what === "leader") {
      pen.fillStyle = colour; pen.fill();
      [label, ink] = [`leads term ${one.term}`, dark.matches ? "#10131a" : "#ffffff"];
    } else if (one.what === "candidate") {
      pen.fillStyle = termColour(one.term, 0.16); pen.fill();
      pen.fillStyle = hatch(termColour(one.term, 0.75)); pen.fill();
      label = `candidate in term ${one.term}`;
    } else if (one.what === "down") {
      pen.fillStyle = paint.paper; pen.fill();
      pen.fillStyle = hatch(paint.down); pen.fill();
      label = "down"; ink = paint.soft;
    } else if (one.what === "paused") {
      pen.fillStyle = hatch(paint.soft); pen.fill();
      label = "paused";
    } else if (one.what === "aside") {
      pen.fillStyle = hatch(paint.bad); pen.fill();
      label = "stands aside"; ink = paint.bad;
    } else {
      pen.fillStyle = termColour(one.term, 0.25); pen.fill();
      if (one.leader !== null) label += `, follows ${name(one.leader)}`;
    }
    if (width > 46) {
      const seen = Math.max(left, LEFT) + 7, room = right - seen - 6;
      const text = pen.measureText(label).width < room ? label : one.term ? `t${one.term}` : "";
      if (text && pen.measureText(text).width < room) {
        if (["candidate", "down", "paused", "aside"].includes(one.what)) {
          pen.fillStyle = paint.paper; pen.globalAlpha = 0.8;
          pen.fillRect(seen - 4, y - 8, pen.measureText(text).width + 8, 16);
          pen.globalAlpha = 1;
        }
        pen.fillStyle = ink;
        pen.fillText(text, seen, y + 0.5);
      }
    }
  }
}

const matches = (thing) => !wanted || thing.search.includes(wanted);
for (const event of events) event.search = `${name(event.machine)} ${event.text}`.toLowerCase();
for (const message of messages) message.search = `${name(message.from)} > ${name(message.to)} ${message.text} ${message.fate}`.toLowerCase();

/// Where a message begins and ends on the canvas; a lost one ends on its way.
function line(message) {
  const down = message.to > message.from ? 1 : -1, h = half();
  const x1 = toX(message.at), y1 = laneY(message.from) + down * h;
  let x2 = toX(message.arrives ?? message.at + usual), y2 = laneY(message.to) - down * h;
  if (message.fate === "lost") { x2 = x1 + (x2 - x1) * 0.45; y2 = y1 + (y2 - y1) * 0.45; }
  return { x1, y1, x2, y2 };
}

function inView() {
  const found = [];
  for (let place = first(messages, view.from - longest - usual); place < messages.length; place += 1) {
    const message = messages[place];
    if (message.at > view.to) break;
    if ((message.arrives ?? message.at + usual) >= view.from && shown.has(message.what)) found.push(message);
  }
  return found;
}

function drawMessages() {
  const all = inView();
  const stride = Math.ceil(all.length / MOST_MESSAGES);
  const paths = new Map(), crosses = [], crowd = all.length > 1500, there = new Set();
  // Where many lie on one pixel, each is faint.
  const strength = Math.max(0.16, Math.min(0.9, 1.1 / (1 + all.length / 900)));
  let count = 0;
  all.forEach((message, place) => {
    const bad = message.fate !== "arrived";
    if (stride > 1 && place % stride && message.what !== "vote" && !(bad && all.length < 40000)) return;
    count += 1;
    const l = line(message), dim = !matches(message);
    drawn.push({ message, ...l });
    const key = `${message.what}|${message.term ?? 0}|${dim ? 1 : 0}`;
    if (crowd) {
      // Nobody sees two on the same pixels.
      const place = `${key}|${message.from}|${message.to}|${bad}|${Math.round(l.x1)}|${Math.round(l.x2)}`;
      if (there.has(place)) return;
      there.add(place);
    }
    let path = paths.get(key);
    if (!path) paths.set(key, (path = { path: new Path2D(), heads: new Path2D(), message, dim }));
    path.path.moveTo(l.x1, l.y1);
    path.path.lineTo(l.x2, l.y2);
    if (bad && !dim) crosses.push(l);
    else if (!crowd) head(path.heads, l);
  });
  for (const { path, heads, message, dim } of paths.values()) {
    const [, , width, dashes] = KINDS.find(([kind]) => kind === message.what);
    pen.strokeStyle = pen.fillStyle = termColour(message.term, dim ? 0.08 : strength);
    pen.lineWidth = width;
    pen.setLineDash(crowd ? [] : dashes);
    pen.stroke(path);
    pen.fill(heads);
  }
  pen.setLineDash([]);
  pen.strokeStyle = paint.bad;
  pen.lineWidth = 1.8;
  const r = crowd ? 2.5 : 4;
  pen.beginPath();
  for (const { x2, y2 } of crosses) {
    pen.moveTo(x2 - r, y2 - r); pen.lineTo(x2 + r, y2 + r);
    pen.moveTo(x2 + r, y2 - r); pen.lineTo(x2 - r, y2 + r);
  }
  pen.stroke();
  if (stride > 1) {
    pen.fillStyle = paint.soft;
    pen.textAlign = "right";
    pen.font = "12px system-ui, 'Liberation Sans', sans-serif";
    pen.fillText(`${all.length.toLocaleString("en")} messages in view: one of ${stride} is drawn`, size.width - 14, size.height - 9);
  }
}

function head(path, { x1, y1, x2, y2 }) {
  const dx = x2 - x1, dy = y2 - y1, far = Math.hypot(dx, dy);
  if (far < 14) return;
  const ux = dx / far, uy = dy / far, long = 7.5, wide = 3.2;
  path.moveTo(x2, y2);
  path.lineTo(x2 - ux * long - uy * wide, y2 - uy * long + ux * wide);
  path.lineTo(x2 - ux * long + uy * wide, y2 - uy * long - ux * wide);
  path.closePath();
}

// ---- marks

const MARKS = {
  start: ["starts", (c, x, y) => { c.fillStyle = paint.good; poly(c, x, y, [[-5, 4], [0, -5], [5, 4]]); }],
  crash: ["crashes", (c, x, y) => cross(c, x, y, 5.5, 2.6)],
  disk: ["disk fault", (c, x, y) => { c.fillStyle = paint.bad; poly(c, x, y, [[0, -7], [7, 0], [0, 7], [-7, 0]]); c.fillStyle = paint.paper; c.fillRect(x - 0.9, y - 3.6, 1.8, 4.4); c.fillRect(x - 0.9, y + 2, 1.8, 1.8); }],
  aside: ["stands aside", (c, x, y) => { c.fillStyle = paint.bad; c.fillRect(x - 5, y - 5, 10, 10); c.fillStyle = paint.paper; c.fillRect(x - 3.2, y - 1, 6.4, 2); }],
  cut: ["link cut", (c, x, y) => { c.strokeStyle = paint.bad; c.lineWidth = 2; stroke(c, [[x - 5, y + 5], [x - 1, y - 5]]); stroke(c, [[x + 1, y + 5], [x + 5, y - 5]]); }],
  fault: ["other fault", (c, x, y) => { c.fillStyle = "#d98a00"; poly(c, x, y, [[-6, 5], [0, -6], [6, 5]]); c.fillStyle = paint.paper; c.fillRect(x - 0.8, y - 2.5, 1.6, 4); c.fillRect(x - 0.8, y + 2.4, 1.6, 1.6); }],
  relief: ["mended", (c, x, y) => ring(c, x, y, 4.5, paint.good)],
  elected: ["elected", (c, x, y) => { c.fillStyle = paint.ink; star(c, x, y, 7); }],
  snapshot: ["snapshot", (c, x, y) => { c.fillStyle = paint.focus; c.fillRect(x - 4.5, y - 4.5, 9, 9); }],
  violation: ["rule broken", (c, x, y) => { c.fillStyle = paint.bad; poly(c, x, y, [[-6, -6], [6, -6], [0, 6]]); }],
  commit: ["commits, applies", (c, x, y) => { c.strokeStyle = paint.good; c.lineWidth = 2; stroke(c, [[x - 4, y], [x - 1, y + 3], [x + 4, y - 4]]); }],
  write: ["log write", (c, x, y) => { c.fillStyle = paint.soft; c.fillRect(x - 1.2, y - 4, 2.4, 8); }],
  client: ["client", (c, x, y) => ring(c, x, y, 3.2, paint.soft)],
  catchup: ["catchup", (c, x, y) => ring(c, x, y, 3.8, paint.focus)],
  refused: ["refused", (c, x, y) => { c.strokeStyle = paint.soft; c.lineWidth = 1.4; stroke(c, [[x - 3, y - 3], [x + 3, y + 3]]); stroke(c, [[x + 3, y - 3], [x - 3, y + 3]]); }],
  role: ["", (c, x, y) => { c.fillStyle = paint.soft; c.beginPath(); c.arc(x, y, 2, 0, 7); c.fill(); }],
  other: ["", (c, x, y) => { c.fillStyle = paint.soft; c.beginPath(); c.arc(x, y, 1.6, 0, 7); c.fill(); }],
};
function poly(c, x, y, corners) {
  c.beginPath();
  corners.forEach(([dx, dy], place) => (place ? c.lineTo(x + dx, y + dy) : c.moveTo(x + dx, y + dy)));
  c.closePath(); c.fill();
}
function stroke(c, points) {
  c.beginPath();
  points.forEach(([x, y], place) => (place ? c.lineTo(x, y) : c.moveTo(x, y)));
  c.stroke();
}
function cross(c, x, y, r, width) {
  c.strokeStyle = paint.bad; c.lineWidth = width;
  stroke(c, [[x - r, y - r], [x + r, y + r]]); stroke(c, [[x + r, y - r], [x - r, y + r]]);
}
function ring(c, x, y, r, colour) {
  c.strokeStyle = colour; c.lineWidth = 1.8; c.fillStyle = paint.paper;
  c.beginPath(); c.arc(x, y, r, 0, 7); c.fill(); c.stroke();
}
function star(c, x, y, r) {
  const corners = [];
  for (let n = 0; n < 10; n += 1) {
    const turn = (n * Math.PI) / 5 - Math.PI / 2, far = n % 2 ? r * 0.45 : r;
    corners.push([Math.cos(turn) * far, Math.sin(turn) * far]);
  }
  poly(c, x, y, corners);
}

function drawMarks() {
  const marks = [];
  for (let place = first(events, view.from); place < events.length && events[place].at <= view.to; place += 1) marks.push(events[place]);
  const few = marks.length <= MOST_MARKS, last = new Map();
  for (const event of marks) {
    if (!few && !MAJOR.has(event.what)) continue;
    const x = toX(event.at), y = markY(event), key = `${event.machine}|${event.what}`;
    if (x - (last.get(key) ?? -99) < (few ? 3 : 8) && event.what !== "violation") continue;
    last.set(key, x);
    drawn.push({ event, x, y });
    pen.globalAlpha = matches(event) ? 1 : 0.15;
    MARKS[event.what][1](pen, x, y);
    pen.globalAlpha = 1;
  }
}

// Minor marks stand below the band, major ones above it; what concerns all stands at the top.
function markY(event) {
  if (event.machine === null) return 31;
  const away = half() + 9;
  return laneY(event.machine) + (MAJOR.has(event.what) ? -away : away);
}

function drawHovered() {
  if (hovered.message) {
    const l = line(hovered.message);
    pen.strokeStyle = pen.fillStyle = paint.ink;
    pen.lineWidth = 2.6;
    stroke(pen, [[l.x1, l.y1], [l.x2, l.y2]]);
    const path = new Path2D(); head(path, l); pen.fill(path);
    pen.beginPath(); pen.arc(l.x1, l.y1, 3.4, 0, 7); pen.fill();
  } else {
    const { event } = hovered;
    pen.strokeStyle = paint.focus; pen.lineWidth = 2;
    pen.beginPath(); pen.arc(toX(event.at), markY(event), 11, 0, 7); pen.stroke();
  }
}

// ---- the whole run below

function drawOverview() {
  const { width, height } = fit(overview, smallPen), c = smallPen;
  const x = (at) => LEFT + ((at - whole.from) / (whole.to - whole.from)) * (width - LEFT - 14);
  c.clearRect(0, 0, width, height);
  const each = (height - 22) / run.machines;
  for (const one of run.spans) {
    if (one.group !== null && one.group !== group) continue;
    const y = 12 + each * one.machine, h = Math.max(2, each - 3);
    c.fillStyle = one.what === "down" ? paint.down : one.what === "aside" ? paint.bad
      : termColour(one.term, one.what === "leader" ? 1 : 0.3);
    c.fillRect(x(one.from), y, Math.max(1, x(one.to) - x(one.from)), h);
  }
  let before = -9;
  for (const event of events) {
    if (!["crash", "disk", "cut", "fault"].includes(event.what) || x(event.at) - before < 2) continue;
    before = x(event.at);
    c.fillStyle = paint.bad;
    c.fillRect(before - 0.5, height - 8, 1.5, 6);
  }
  for (const violation of violations) {
    c.fillStyle = paint.bad;
    c.fillRect(x(violation.at) - 1, 4, 2.5, height - 8);
    poly(c, x(violation.at) + 0.2, 6, [[-5, -5], [5, -5], [0, 4]]);
  }
  const left = x(view.from), right = x(view.to);
  c.fillStyle = dark.matches ? "rgb(0 0 0 / 0.45)" : "rgb(255 255 255 / 0.62)";
  c.fillRect(0, 0, Math.max(0, left), height);
  c.fillRect(right, 0, width, height);
  c.strokeStyle = paint.focus; c.lineWidth = 1.5;
  c.strokeRect(left, 2, Math.max(3, right - left), height - 4);
  c.fillStyle = paint.soft; c.textAlign = "right"; c.textBaseline = "middle";
  c.font = "11px system-ui, 'Liberation Sans', sans-serif";
  c.fillText("run", LEFT - 14, height / 2);
}

// ---- moving

function show(from, to) {
  const least = 20, most = whole.to - whole.from;
  const width = Math.min(most, Math.max(least, to - from)), middle = (from + to) / 2;
  view.from = Math.min(Math.max(middle - width / 2, whole.from), whole.to - width);
  view.to = view.from + width;
  draw();
}
const zoom = (factor, around = (view.from + view.to) / 2) =>
  show(around - (around - view.from) * factor, around + (view.to - around) * factor);
const pan = (part) => { const by = (view.to - view.from) * part; show(view.from + by, view.to + by); };
let next = 0;
function showViolation() {
  if (!violations.length) return;
  const { at } = violations[next++ % violations.length];
  // As much before it as 300 messages and events take.
  const place = Math.max(0, first(messages, at) - 250);
  const from = messages.length ? Math.max(messages[Math.min(place, messages.length - 1)].at, at - 5e6) : at - 1e6;
  const before = Math.max(at - from, 2000);
  show(at - before, at + before * 0.15);
}

lanes.addEventListener("wheel", (wheel) => {
  wheel.preventDefault();
  if (wheel.shiftKey || Math.abs(wheel.deltaX) > Math.abs(wheel.deltaY)) {
    return pan((wheel.deltaX || wheel.deltaY) / 1200);
  }
  zoom(1.0016 ** wheel.deltaY, toTime(wheel.offsetX));
}, { passive: false });

let drag = null;
lanes.addEventListener("pointerdown", (down) => {
  drag = { x: down.offsetX, from: view.from, to: view.to };
  lanes.setPointerCapture(down.pointerId);
  lanes.classList.add("dragging");
});
lanes.addEventListener("pointerup", () => { drag = null; lanes.classList.remove("dragging"); });
lanes.addEventListener("pointermove", (move) => {
  pointer = { x: move.offsetX, y: move.offsetY };
  if (drag) {
    const by = (drag.x - move.offsetX) / scale();
    hover(null);
    return show(drag.from + by, drag.to + by);
  }
  hover(nearest());
});
lanes.addEventListener("pointerleave", () => { pointer = null; hover(null); });
lanes.addEventListener("dblclick", (click) => zoom(0.3, toTime(click.offsetX)));
function overviewTo(move) {
  if (move.type === "pointermove" && !move.buttons) return;
  const at = whole.from + ((move.offsetX - LEFT) / (overview.clientWidth - LEFT - 14)) * (whole.to - whole.from);
  const width = view.to - view.from;
  show(at - width / 2, at + width / 2);
}
overview.addEventListener("pointerdown", overviewTo);
overview.addEventListener("pointermove", overviewTo);
overview.addEventListener("wheel", (wheel) => { wheel.preventDefault(); zoom(1.0016 ** wheel.deltaY); }, { passive: false });
addEventListener("keydown", (key) => {
  if (key.target.tagName === "INPUT" || key.ctrlKey || key.metaKey || key.altKey) return;
  const keys = { ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": () => zoom(0.6), "=": () => zoom(0.6),
    "-": () => zoom(1.6), 0: () => show(whole.from, whole.to), v: showViolation };
  if (keys[key.key]) { key.preventDefault(); keys[key.key](); }
});

// ---- what is under the pointer

function nearest() {
  if (!pointer) return null;
  const { x, y } = pointer;
  let best = null, closest = 11;
  for (const mark of drawn) {
    if (!mark.event) continue;
    const far = Math.hypot(mark.x - x, mark.y - y);
    if (far < closest) { closest = far; best = { event: mark.event }; }
  }
  if (best) return best;
  closest = 6;
  for (const l of drawn) {
    if (!l.message || Math.min(l.x1, l.x2) - 6 > x || Math.max(l.x1, l.x2) + 6 < x) continue;
    const dx = l.x2 - l.x1, dy = l.y2 - l.y1;
    const along = Math.max(0, Math.min(1, ((x - l.x1) * dx + (y - l.y1) * dy) / (dx * dx + dy * dy || 1)));
    const far = Math.hypot(l.x1 + along * dx - x, l.y1 + along * dy - y);
    if (far < closest) { closest = far; best = { message: l.message }; }
  }
  return best;
}

const same = (a, b) => a === b || (a && b && a.event === b.event && a.message === b.message);
function hover(found) {
  if (!same(found, hovered)) { hovered = found; drawSoon(); markLine(); }
  tip.hidden = !found || !pointer;
  if (tip.hidden) return;
  tip.replaceChildren(...(found.message ? aboutMessage(found.message) : aboutEvent(found.event)));
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(pointer.x + 16, size.width - box.width - 12)) + "px";
  tip.style.top = Math.max(8, Math.min(pointer.y + 18, size.height - box.height - 8)) + "px";
}
function part(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}
function aboutMessage(message) {
  const term = message.term === null ? "" : `, term ${message.term}`;
  const fate = {
    lost: part("em", "lost on its way"),
    missed: part("em", `reached nobody after ${length(message.arrives - message.at)}`),
    arrived: part("i", `took ${length((message.arrives ?? message.at) - message.at)}`),
  }[message.fate];
  return [part("b", `${name(message.from)} \u2192 ${name(message.to)}`), part("i", ` ${message.what}${term}`),
    part("div", message.text), part("i", `${seconds(message.at, 1)} s, `), fate];
}
const aboutEvent = (event) => [part("b", name(event.machine)), part("i", ` at ${seconds(event.at, 1)} s`), part("div", event.text)];

// ---- the log beside it

let timer = 0;
function logSoon() { clearTimeout(timer); timer = setTimeout(writeLog, 90); }
let lines = [];
function writeLog() {
  lines = [];
  let e = first(events, view.from), m = first(messages, view.from), more = 0;
  for (;;) {
    const event = events[e], message = messages[m];
    const late = (thing) => !thing || thing.at > view.to;
    if (late(event) && late(message)) break;
    const takeEvent = !late(event) && (late(message) || event.at <= message.at);
    const thing = takeEvent ? { event } : { message };
    if (takeEvent) e += 1; else m += 1;
    if (!takeEvent && !shown.has(message.what)) continue;
    if (!matches(event && takeEvent ? event : message)) continue;
    if (lines.length < MOST_LINES) lines.push(thing); else more += 1;
  }
  const rows = lines.map((thing) => {
    const row = document.createElement("li");
    const { event, message } = thing;
    const from = event ? name(event.machine) : `${name(message.from)} > ${name(message.to)}`;
    const lost = message && message.fate !== "arrived";
    row.className = event ? event.what : lost ? "lost" : "";
    row.style.borderLeftColor = message?.term ? termColour(message.term) : "transparent";
    row.append(part("time", seconds((event ?? message).at)), part("span", from),
      part("p", (event ?? message).text + (lost ? " (lost)" : "")));
    row.addEventListener("mouseenter", () => { hovered = thing; drawSoon(); });
    row.addEventListener("mouseleave", () => { hovered = null; drawSoon(); });
    row.addEventListener("click", () => {
      const at = (event ?? message).at, width = Math.min(view.to - view.from, 40 * usual + 4000);
      show(at - width / 2, at + width / 2);
    });
    thing.row = row;
    return row;
  });
  if (more) rows.push(Object.assign(part("li", `${more.toLocaleString("en")} more lines: look closer to read them`), { className: "more" }));
  if (!rows.length) rows.push(Object.assign(part("li", "nothing"), { className: "more" }));
  log.replaceChildren(...rows);
  byId("log-title").textContent =
    `${seconds(Math.max(view.from, run.from))} s to ${seconds(Math.min(view.to, run.to))} s: ${(lines.length + more).toLocaleString("en")} lines`;
}
function markLine() {
  for (const thing of lines) {
    const on = same(thing, hovered);
    thing.row.classList.toggle("on", Boolean(on));
    if (on && pointer) thing.row.scrollIntoView({ block: "nearest" });
  }
}

// ---- the parts that do not move

function icon(paintIcon, width = 18) {
  const canvas = document.createElement("canvas"), ratio = devicePixelRatio || 1;
  canvas.width = width * ratio; canvas.height = 18 * ratio;
  canvas.style.cssText = `width:${width}px;height:18px`;
  const c = canvas.getContext("2d");
  c.scale(ratio, ratio);
  paintIcon(c);
  return canvas;
}

function drawLegend() {
  const parts = [];
  const item = (text, drawIcon, width) => {
    const element = document.createElement("span");
    element.append(icon(drawIcon, width), text);
    parts.push(element);
  };
  const bands = [["leader", 1], ["follower", 0.25]];
  for (const [text, alpha] of bands) item(text, (c) => { c.fillStyle = termColour(1, alpha); c.roundRect(1, 3, 26, 12, 4); c.fill(); }, 28);
  item("candidate", (c) => { c.fillStyle = hatch(termColour(1, 0.75)); c.roundRect(1, 3, 26, 12, 4); c.fill(); }, 28);
  item("down", (c) => { c.fillStyle = hatch(paint.down); c.roundRect(1, 3, 26, 12, 4); c.fill(); }, 28);
  item("lost message", (c) => { c.strokeStyle = termColour(1); c.lineWidth = 1.6; stroke(c, [[1, 9], [14, 9]]); cross(c, 19, 9, 4, 1.8); }, 26);
  for (const [text, drawIcon] of Object.values(MARKS)) if (text) item(text, (c) => drawIcon(c, 9, 9));
  byId("legend").replaceChildren(...parts);
}

function begin() {
  const count = (list) => list.length.toLocaleString("en");
  const bad = messages.filter((message) => message.fate !== "arrived").length;
  const facts = byId("facts");
  facts.textContent = `${run.machines} machines, ${length(run.to - run.from)}, ${count(events)} events, `
    + `${count(messages)} messages, of which ${bad.toLocaleString("en")} reached nobody`
    + (run.left_out ? `; ${run.left_out.toLocaleString("en")} earlier happenings are left out` : "") + ". ";
  if (run.command) facts.append("Again: ", part("code", run.command));
  const verdict = byId("verdict");
  verdict.classList.toggle("bad", violations.length > 0);
  if (violations.length) {
    const button = part("button", "show it (v)");
    button.addEventListener("click", showViolation);
    verdict.append(violations.length === 1 ? "A rule is broken" : `${violations.length} rules are broken`, button,
      part("small", violations[0].text.replace(/^VIOLATION /, "")));
  } else {
    verdict.append("No rule is broken");
  }
  for (const [kind, text, width, dashes] of KINDS) {
    const number = messages.filter((message) => message.what === kind).length;
    if (!number) continue;
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox"; box.checked = true;
    box.addEventListener("change", () => { if (box.checked) shown.add(kind); else shown.delete(kind); draw(); });
    const line = icon((c) => { c.strokeStyle = termColour(1); c.lineWidth = width; c.setLineDash(dashes); stroke(c, [[0, 9], [26, 9]]); }, 26);
    label.append(box, line, text, part("b", number.toLocaleString("en")));
    byId("kinds").append(label);
  }
  if (run.groups.length > 1) {
    byId("group-choice").hidden = false;
    for (const one of run.groups) byId("group").append(new Option(`#${one}`, one));
    byId("group").addEventListener("change", (change) => { group = Number(change.target.value); draw(); });
  }
  byId("find").addEventListener("input", (input) => { wanted = input.target.value.trim().toLowerCase(); draw(); });
  const buttons = { earlier: () => pan(-0.3), later: () => pan(0.3), in: () => zoom(0.6), out: () => zoom(1.6), all: () => show(whole.from, whole.to) };
  for (const [id, act] of Object.entries(buttons)) byId(id).addEventListener("click", act);
  drawLegend();
  if (violations.length) showViolation(); else draw();
}

new ResizeObserver(draw).observe(byId("stage"));
begin();
