// Stations coloured by data latency, and events with their errors, over the coasts of the world.

import { colour, level, seconds } from "./format.js";

// A coast that crosses the date line goes on beyond 180 degrees instead of around the world.
function unwrap(ring) {
  for (let n = 1; n < ring.length; n++) {
    const step = ring[n][0] - ring[n - 1][0];
    if (Math.abs(step) > 180) ring[n][0] -= 360 * Math.round(step / 360);
  }
  const middle = ring.reduce((sum, [lon]) => sum + lon, 0) / ring.length;
  const turns = 360 * Math.round(middle / 360);
  ring.forEach((place) => { place[0] -= turns; });
}

export class NetworkMap {
  constructor(id, onStation, onEvent) {
    this.onStation = onStation;
    this.onEvent = onEvent;
    this.markers = new Map();
    this.map = L.map(id, { preferCanvas: true, zoomSnap: 0.25, worldCopyJump: true });
    this.map.setView([20, 0], 1);
    this.map.attributionControl.setPrefix(false).addAttribution("coasts: Natural Earth");
    L.control.scale({ imperial: false, position: "bottomright" }).addTo(this.map);
    this.events = L.layerGroup().addTo(this.map);
    this.stations = L.layerGroup().addTo(this.map);
    this.drawCoasts();
  }

  async drawCoasts() {
    const world = await (await fetch("/static/vendor/land-50m.json")).json();
    const land = topojson.feature(world, world.objects.land);
    for (const feature of land.features ?? [land])
      feature.geometry.coordinates.forEach((polygon) => polygon.forEach(unwrap));
    L.geoJSON(land, {
      interactive: false,
      style: { color: colour("dim"), weight: 0.8, fillColor: colour("panel"), fillOpacity: 0.7 },
    }).addTo(this.map).bringToBack();
  }

  draw(stations, events) {
    this.drawStations(stations);
    this.drawEvents(events);
    document.getElementById("nowhere").hidden =
      this.markers.size > 0 || !Object.keys(stations).length;
    if (!this.fitted) this.fit(stations);
  }

  drawStations(stations) {
    for (const [name, s] of Object.entries(stations)) {
      if (s.lat === undefined || s.lat === null) continue;
      let marker = this.markers.get(name);
      if (!marker) {
        marker = L.circleMarker([s.lat, s.lon], { radius: 6, weight: 1.5 }).addTo(this.stations);
        marker.on("click", () => this.onStation(name));
        marker.bindTooltip("");
        this.markers.set(name, marker);
      }
      marker.setStyle({ color: colour("back"), fillColor: colour(level(s.data_latency_s)), fillOpacity: 1 });
      const text = document.createElement("span");
      text.textContent = `${name}, data ${seconds(s.data_latency_s)} old`;
      marker.setTooltipContent(text);
    }
  }

  drawEvents(events) {
    this.events.clearLayers();
    for (const event of events.filter((each) => each.status !== "retracted").slice(-200)) {
      const size = event.mag === undefined ? 7 : 4 + 2.5 * Math.max(event.mag, 0);
      const ring = L.circleMarker([event.lat, event.lon], {
        radius: size, color: colour("event"), weight: 2,
        fillOpacity: event.status === "preliminary" ? 0 : 0.25,
      }).addTo(this.events);
      ring.on("click", () => this.onEvent(event));
      const text = document.createElement("span");
      text.textContent = `${event.time.slice(0, 19)}Z, ${event.depth_km.toFixed(1)} km deep, ${event.n_p} P + ${event.n_s} S`;
      ring.bindTooltip(text);
    }
  }

  fit(stations) {
    const places = Object.values(stations).filter((s) => s.lat !== undefined && s.lat !== null)
      .map((s) => [s.lat, s.lon]);
    if (!places.length) return;
    this.fitted = true;
    this.map.fitBounds(L.latLngBounds(places).pad(0.3), { maxZoom: 13 });
  }

  centre(event) {
    this.map.panTo([event.lat, event.lon]);
  }
}
