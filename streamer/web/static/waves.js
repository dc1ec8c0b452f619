// Scrolling waveforms of chosen stations, the probabilities of P and S under them, picks on them.

import { clock, colour, seconds, toMs } from "./format.js";

const WINDOW_MS = 60000;
const LAG_MS = 1500;       // the newest second has seldom arrived
const EVERY_MS = 1000;
const KEEP_MS = 150000;
const MOST_STRIPS = 8;
const BEHIND_S = 55;       // beyond, a window that ends now would have nothing to show
// So far back is asked again: a record may be that late, and probabilities are final only five
// seconds after its samples.
const AGAIN_MS = 25000;

export async function waveforms(instrument, startMs, stopMs) {
  const query = new URLSearchParams({
    instrument, start_ns: `${Math.floor(startMs)}000000`, stop_ns: `${Math.floor(stopMs)}000000`,
  });
  const response = await fetch(`/api/waveforms?${query}`);
  if (!response.ok) return null;
  const found = await response.json();
  const unpack = (trace) => ({
    startMs: Number(BigInt(trace.start_ns) / 1000n) / 1000, rate: trace.rate_hz,
    samples: new Float32Array(Uint8Array.from(atob(trace.samples), (c) => c.charCodeAt(0)).buffer),
  });
  const all = (traces) => Object.fromEntries(Object.entries(traces).map(([k, v]) => [k, unpack(v)]));
  return { components: all(found.components), probability: all(found.probability), reason: found.reason };
}

// A trace by sample number, so that pieces that overlap fall on each other.
class Trace {
  constructor() { this.values = new Map(); }
  add(piece) {
    this.rate = piece.rate;
    const first = Math.round((piece.startMs / 1000) * piece.rate);
    this.shiftMs = piece.startMs - (first / piece.rate) * 1000;
    piece.samples.forEach((v, n) => { if (!Number.isNaN(v)) this.values.set(first + n, v); });
  }
  forget(beforeMs) {
    const before = (beforeMs / 1000) * (this.rate ?? 1);
    for (const n of this.values.keys()) { if (n >= before) break; this.values.delete(n); }
  }
  *between(startMs, stopMs) {
    if (!this.rate) return;
    const stop = Math.ceil((stopMs / 1000) * this.rate);
    for (let n = Math.floor((startMs / 1000) * this.rate); n < stop; n++)
      yield [(n / this.rate) * 1000 + this.shiftMs, this.values.get(n)];
  }
}

export function drawTrace(context, trace, view, top, height, fixed) {
  const points = [...trace.between(view.startMs, view.stopMs)];
  const values = points.map(([, v]) => v).filter((v) => v !== undefined);
  if (!values.length) return;
  let low = 0, high = 1;
  if (!fixed) {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const reach = values.reduce((a, v) => Math.max(a, Math.abs(v - mean)), 0) || 1;
    [low, high] = [mean - reach, mean + reach];
  }
  context.beginPath();
  let drawn = false;
  for (const [ms, v] of points) {
    if (v === undefined) { drawn = false; continue; }     // a gap stays a gap
    const x = view.x(ms), y = top + height * (1 - (v - low) / (high - low));
    drawn ? context.lineTo(x, y) : context.moveTo(x, y);
    drawn = true;
  }
  context.stroke();
}

class Strip {
  constructor(instrument, parent, state, onClose) {
    this.instrument = instrument;
    this.state = state;
    this.traces = {};
    this.probability = { P: new Trace(), S: new Trace() };
    this.element = document.createElement("div");
    this.element.className = "strip";
    this.element.dataset.strip = instrument;
    this.canvas = document.createElement("canvas");
    const close = document.createElement("button");
    close.textContent = "×";
    close.title = "close";
    close.addEventListener("click", onClose);
    this.element.append(this.canvas, close);
    parent.append(this.element);
    this.heldAt = null;      // a time to stay at instead of now
  }

  // Of a station that is far behind (silent, or an archive that is played back): its own last time.
  now() {
    const station = this.state.stations[this.instrument];
    return this.behind() ? toMs(station.end_ns) + LAG_MS : Date.now();
  }

  behind() {
    const station = this.state.stations[this.instrument];
    return Boolean(station?.end_ns) && station.data_latency_s > BEHIND_S;
  }

  async load() {
    const stop = this.heldAt ? this.heldAt + 20000 : this.now();
    const start = this.loaded && !this.heldAt ? stop - AGAIN_MS : stop - (this.heldAt ? 60000 : KEEP_MS);
    const found = await waveforms(this.instrument, start, stop);
    this.problem = found ? found.reason ?? "" : "the page has lost its server";
    if (!found) return;
    this.loaded ||= Object.keys(found.components).length > 0;
    for (const [channel, piece] of Object.entries(found.components))
      (this.traces[channel] ??= new Trace()).add(piece);
    for (const [phase, piece] of Object.entries(found.probability)) this.probability[phase].add(piece);
    if (!this.heldAt)
      for (const trace of [...Object.values(this.traces), ...Object.values(this.probability)])
        trace.forget(this.now() - KEEP_MS);
  }

  draw() {
    const { canvas } = this, scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== width * scale || canvas.height !== height * scale) {
      canvas.width = width * scale;
      canvas.height = height * scale;
    }
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const left = 110, stopMs = this.heldAt ? this.heldAt + 20000 : this.now() - LAG_MS;
    const view = { startMs: stopMs - WINDOW_MS, stopMs,
                   x: (ms) => left + ((ms - stopMs + WINDOW_MS) / WINDOW_MS) * (width - left - 10) };
    this.drawAxis(context, view, height);
    const names = Object.keys(this.traces).sort().reverse(), bottom = height - 18, low = bottom - 38;
    context.lineWidth = 1;
    names.forEach((name, n) => {
      const top = 4 + ((low - 8) / names.length) * n, each = (low - 8) / names.length;
      context.strokeStyle = colour("text");
      drawTrace(context, this.traces[name], view, top + 2, each - 4);
      context.fillStyle = colour("dim");
      context.fillText(name, 78, top + each / 2 + 4);
    });
    context.lineWidth = 1.6;
    for (const phase of ["P", "S"]) {
      context.strokeStyle = colour(phase.toLowerCase());
      drawTrace(context, this.probability[phase], view, low, bottom - low, true);
    }
    this.drawPicks(context, view, bottom);
    context.fillStyle = colour("text");
    context.font = "600 12px system-ui";
    context.fillText(this.instrument, 8, 18);
    context.font = "11px system-ui";
    context.fillStyle = colour("dim");
    context.fillText(this.problem || "P, S", this.problem ? 120 : 78, low + 22);
    if (!this.heldAt && this.behind()) {
      const old = seconds(this.state.stations[this.instrument].data_latency_s);
      context.fillStyle = colour("poor");
      context.fillText(`ends ${old} ago`, width - 120, 18);
    }
  }

  drawAxis(context, view, height) {
    context.font = "11px system-ui";
    context.fillStyle = colour("dim");
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    for (let ms = Math.ceil(view.startMs / 10000) * 10000; ms < view.stopMs; ms += 10000) {
      context.beginPath();
      context.moveTo(view.x(ms), 2);
      context.lineTo(view.x(ms), height - 16);
      context.stroke();
      context.fillText(clock(ms), view.x(ms) - 24, height - 4);
    }
  }

  drawPicks(context, view, bottom) {
    for (const pick of this.state.picks.values()) {
      const ms = toMs(pick.t_ns);
      if (ms < view.startMs || ms > view.stopMs || pick.status === "retract") continue;
      if (!this.instrument.startsWith(`${pick.net}.${pick.sta}.`)) continue;
      context.strokeStyle = context.fillStyle = colour(pick.phase.toLowerCase());
      context.setLineDash(pick.final === "1" ? [] : [4, 3]);
      context.lineWidth = 1.5;
      context.beginPath();
      context.moveTo(view.x(ms), 2);
      context.lineTo(view.x(ms), bottom);
      context.stroke();
      context.setLineDash([]);
      context.fillText(pick.phase, view.x(ms) + 3, 12);
    }
  }
}

export class Strips {
  constructor(parent, state) {
    this.parent = parent;
    this.state = state;
    this.strips = new Map();
    setInterval(() => this.strips.forEach((strip) => {
      if (!strip.heldAt && !document.hidden) strip.load();
    }), EVERY_MS);
    const frame = () => {
      this.strips.forEach((strip) => strip.draw());
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  has(instrument) { return this.strips.has(instrument); }

  toggle(instrument) { this.has(instrument) ? this.close(instrument) : this.open(instrument); }

  open(instrument) {
    document.getElementById("hint")?.remove();
    if (this.strips.size >= MOST_STRIPS) this.close(this.strips.keys().next().value);
    const strip = new Strip(instrument, this.parent, this.state, () => this.close(instrument));
    this.strips.set(instrument, strip);
    strip.load();
    return strip;
  }

  // A pick: live if it is on the screen anyway, else the minute around it.
  show(instrument, ms) {
    const strip = this.strips.get(instrument) ?? this.open(instrument);
    strip.heldAt = strip.now() - ms < WINDOW_MS ? null : ms;
    strip.load();
  }

  close(instrument) {
    this.strips.get(instrument)?.element.remove();
    this.strips.delete(instrument);
  }
}
