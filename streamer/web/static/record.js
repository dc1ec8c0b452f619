// The record section of an event: vertical components by distance, picks, and theoretical arrivals.

import { colour, iso, place, toMs } from "./format.js";
import { drawTrace, waveforms } from "./waves.js";

const BEFORE_MS = 3000, AFTER_MS = 6000, LONGEST_MS = 120000;

// Waveforms are in memory for two minutes: what was got once is kept for as long as the page is.
const kept = new Map();

class Piece {
  constructor(trace) { Object.assign(this, trace); }
  *between() {
    for (let n = 0; n < this.samples.length; n++) {
      const v = this.samples[n];
      yield [this.startMs + (n / this.rate) * 1000, Number.isNaN(v) ? undefined : v];
    }
  }
}

function stationsOf(event) {
  const found = new Map();
  for (const arrival of event.arrivals) {
    const name = `${arrival.net}.${arrival.sta}`;
    if (!found.has(name)) found.set(name, { name, km: arrival.distance_km, arrivals: [] });
    found.get(name).arrivals.push(arrival);
  }
  return [...found.values()].sort((a, b) => a.km - b.km);
}

const instrumentOf = (arrival) => arrival.pick_id.split(".").slice(0, 4).join(".");

async function load(event, station, view) {
  const key = `${event.id} ${station.name}`;
  if (kept.has(key)) return kept.get(key);
  const found = await waveforms(instrumentOf(station.arrivals[0]), view.startMs, view.stopMs);
  const vertical = found && Object.keys(found.components).sort().pop();
  const piece = vertical ? new Piece(found.components[vertical]) : null;
  if (piece && piece.samples.some((v) => !Number.isNaN(v))) kept.set(key, piece);
  return kept.get(key);
}

export async function showRecordSection(event) {
  const dialog = document.getElementById("record"), canvas = dialog.querySelector("canvas");
  const stations = stationsOf(event), origin = toMs(event.t_ns);
  const times = event.arrivals.map((a) => Date.parse(a.time));
  const stopMs = Math.min(Math.max(...times) + AFTER_MS, origin + LONGEST_MS);
  const view = { startMs: origin - BEFORE_MS, stopMs };
  dialog.querySelector("h2").textContent =
    `${iso(origin)} UTC, ${place(event.lat, event.lon)}, ${event.depth_km.toFixed(1)} km deep, ` +
    `${event.status}`;
  dialog.querySelector(".note").textContent = "Solid: picks. Dashed: arrivals of the located event.";
  dialog.showModal();
  const pieces = await Promise.all(stations.map((station) => load(event, station, view)));
  draw(canvas, event, stations, pieces, view, origin);
  const lacking = pieces.filter((piece) => !piece).length;
  if (lacking)
    dialog.querySelector(".note").textContent +=
      ` ${lacking} of ${stations.length} waveforms are no longer in the memory of the picker.`;
}

function draw(canvas, event, stations, pieces, view, origin) {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const left = 130, bottom = height - 22, each = (bottom - 6) / stations.length;
  view.x = (ms) => left + ((ms - view.startMs) / (view.stopMs - view.startMs)) * (width - left - 12);
  context.font = "11px system-ui";
  stations.forEach((station, n) => {
    const top = 6 + n * each;
    context.fillStyle = colour("text");
    context.fillText(station.name, 6, top + each / 2);
    context.fillStyle = colour("dim");
    context.fillText(`${station.km.toFixed(1)} km`, 6, top + each / 2 + 13);
    context.strokeStyle = colour("text");
    context.lineWidth = 0.8;
    if (pieces[n]) drawTrace(context, pieces[n], view, top, each);
    for (const arrival of station.arrivals) {
      const ms = Date.parse(arrival.time);
      context.strokeStyle = context.fillStyle = colour(arrival.phase.toLowerCase());
      line(context, view.x(ms), top + 2, top + each - 2, [], 2);
      line(context, view.x(ms - arrival.residual_s * 1000), top + 2, top + each - 2, [3, 3], 1);
      context.fillText(arrival.phase, view.x(ms) + 3, top + 11);
    }
  });
  context.fillStyle = colour("dim");
  const step = [1, 2, 5, 10, 20].find((s) => (view.stopMs - origin) / 1000 / s < 14) ?? 30;
  for (let s = 0; origin + s * 1000 < view.stopMs; s += step)
    context.fillText(`${s} s`, view.x(origin + s * 1000) - 8, height - 6);
}

function line(context, x, top, bottom, dash, width) {
  context.setLineDash(dash);
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(x, top);
  context.lineTo(x, bottom);
  context.stroke();
  context.setLineDash([]);
}
