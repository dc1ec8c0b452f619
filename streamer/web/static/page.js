// The page: one snapshot, then every change as a server-sent event.

import { clock, iso, level, place, row, seconds, toMs } from "./format.js";
import { NetworkMap } from "./map.js";
import { showRecordSection } from "./record.js";
import { Strips } from "./waves.js";

const MOST_ROWS = 300;
const state = { stations: {}, picks: new Map(), events: new Map() };
const strips = new Strips(document.getElementById("waves"), state);
const map = new NetworkMap("map", choose, openEvent);
const body = (tab) => document.querySelector(`#${tab} tbody`);

function choose(instrument) {
  strips.toggle(instrument);
  drawStations();
}

function openEvent(event) {
  showRecordSection(event, state);
}

function drawStations() {
  const worstFirst = Object.entries(state.stations)
    .sort((a, b) => (b[1].data_latency_s ?? 0) - (a[1].data_latency_s ?? 0));
  body("stations").replaceChildren(...worstFirst.slice(0, MOST_ROWS).map(([name, s]) => {
    const line = row([
      name, [seconds(s.data_latency_s), level(s.data_latency_s)], seconds(s.feed_latency_s),
      s.gaps ?? "", s.picks_p ?? "", s.picks_s ?? "",
      s.last_pick_ns ? clock(toMs(s.last_pick_ns)) : "",
    ], () => choose(name));
    line.dataset.station = name;
    if (strips.has(name)) line.className = "chosen";
    return line;
  }));
}

function drawPicks() {
  const newest = [...state.picks.values()].sort((a, b) => toMs(b.t_ns) - toMs(a.t_ns));
  body("picks").replaceChildren(...newest.slice(0, MOST_ROWS).map((pick) => {
    const instrument = `${pick.net}.${pick.sta}.${pick.loc}.${pick.cha.slice(0, -1)}`;
    const done = pick.status === "retract" ? "retracted" : pick.final === "1" ? "final" : "provisional";
    const line = row([
      iso(toMs(pick.t_ns), 2), `${pick.net}.${pick.sta}.${pick.loc}.${pick.cha}`,
      [pick.phase, pick.phase], (+pick.prob).toFixed(2),
      seconds((toMs(pick.made_ns) - toMs(pick.t_ns)) / 1000), done,
    ], () => { strips.show(instrument, toMs(pick.t_ns)); drawStations(); });
    line.className = pick.status;
    return line;
  }));
}

function drawEvents() {
  const newest = [...state.events.values()].sort((a, b) => toMs(b.t_ns) - toMs(a.t_ns));
  body("events").replaceChildren(...newest.slice(0, MOST_ROWS).map((event) => {
    const line = row([
      iso(toMs(event.t_ns)), place(event.lat, event.lon),
      `${event.depth_km.toFixed(1)} ± ${event.depth_error_km.toFixed(1)} km`,
      event.mag === undefined ? "" : `${event.mag_type ?? "M"} ${event.mag.toFixed(1)}`,
      `${event.n_p} + ${event.n_s}`, `${event.rms_s.toFixed(2)} s`, event.status,
    ], () => { map.centre(event); openEvent(event); });
    line.className = event.status === "retracted" ? "retract" : "";
    line.dataset.event = event.id;
    return line;
  }));
}

const drawing = new Set();
// Drawn at most once a frame, however many messages come.
function later(draw) {
  if (!drawing.size) requestAnimationFrame(() => {
    const due = [...drawing];
    drawing.clear();
    due.forEach((each) => each());
  });
  drawing.add(draw);
}

function take(kind, data) {
  if (kind === "pick") {
    state.picks.set(data.id, data);
    if (state.picks.size > 2000) state.picks.delete(state.picks.keys().next().value);
    later(drawPicks);
  } else if (kind === "event") {
    state.events.set(data.id, data);
    later(drawEvents);
    later(drawMap);
  } else {
    state.stations = data;
    later(drawStations);
    later(drawMap);
  }
  later(drawSummary);
}

const drawMap = () => map.draw(state.stations, [...state.events.values()]);

function drawSummary() {
  const all = Object.values(state.stations);
  const alive = all.filter((s) => s.data_latency_s < 120).length;
  const events = [...state.events.values()].filter((e) => e.status !== "retracted").length;
  document.getElementById("summary").textContent =
    `${alive} of ${all.length} stations with data · ${state.picks.size} picks · ${events} events`;
}

async function begin() {
  const snapshot = await (await fetch("/api/snapshot")).json();
  state.stations = snapshot.stations;
  snapshot.picks.forEach((pick) => state.picks.set(pick.id, pick));
  snapshot.events.forEach((event) => state.events.set(event.id, event));
  [drawStations, drawPicks, drawEvents, drawMap, drawSummary].forEach((draw) => draw());
  map.fit(state.stations);
  const source = new EventSource(`/api/stream?after=${snapshot.number}`);
  const shown = document.getElementById("connection");
  source.onopen = () => { shown.textContent = "live"; shown.className = ""; };
  source.onerror = () => { shown.textContent = "away, trying again"; shown.className = "away"; };
  for (const kind of ["pick", "event", "stations"])
    source.addEventListener(kind, (message) => take(kind, JSON.parse(message.data)));
}

for (const button of document.querySelectorAll("nav button"))
  button.addEventListener("click", () => {
    for (const each of document.querySelectorAll("nav button, .tab")) each.classList.remove("on");
    button.classList.add("on");
    document.getElementById(button.dataset.tab).classList.add("on");
  });
setInterval(() => {
  document.getElementById("clock").textContent = iso(Date.now(), 0) + " UTC";
}, 500);
begin().catch((error) => {
  document.getElementById("connection").textContent = String(error);
});
