// How numbers and times are written.

export const iso = (ms, digits = 1) => {
  const text = new Date(ms).toISOString();
  return text.slice(0, 10) + " " + text.slice(11, 19) + (digits ? text.slice(19, 20 + digits) : "");
};
export const clock = (ms) => new Date(ms).toISOString().slice(11, 19);
// Whole milliseconds of a time in ns that is too large for a number.
export const toMs = (ns) => Number(BigInt(ns) / 1000000n);
export const seconds = (s) =>
  s === undefined || s === null ? "" :
  Math.abs(s) < 100 ? s.toFixed(1) + " s" :
  s < 6000 ? (s / 60).toFixed(0) + " min" : s < 172800 ? (s / 3600).toFixed(0) + " h" :
  (s / 86400).toFixed(0) + " d";
export const level = (latency_s) => (latency_s < 30 ? "good" : latency_s < 120 ? "fair" : "poor");
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
export const place = (lat, lon) =>
  Math.abs(lat).toFixed(3) + "°" + (lat < 0 ? "S" : "N") + " " +
  Math.abs(lon).toFixed(3) + "°" + (lon < 0 ? "W" : "E");

// A row of text cells; [text, class] gives a cell a class. Never HTML: codes come from outside.
export function row(cells, onclick) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const [text, style] = Array.isArray(cell) ? cell : [cell, ""];
    const td = document.createElement("td");
    td.textContent = text ?? "";
    if (style) td.className = style;
    line.append(td);
  }
  if (onclick) line.addEventListener("click", onclick);
  return line;
}
