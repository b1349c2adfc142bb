// Slices, overlay, diameters and calipers on one canvas. Values come as int16, so that windows change without asking again.
"use strict";
const viewer = document.getElementById("viewer"), picture = document.getElementById("picture"), pen = picture.getContext("2d");
const byId = (id) => document.getElementById(id);
const screen_ = byId("screen"), place = byId("place"), where = byId("where"), corner = byId("corner");
const base = `/api/v1/jobs/${viewer.dataset.job}/volumes/${viewer.dataset.volume}`;
const WINDOWS = { Liver: [60, 160], Abdomen: [40, 400], Lung: [-600, 1500], Bone: [400, 1800], Full: null };
const COLOURS = [[64, 160, 255], [255, 80, 80], [255, 190, 40], [90, 220, 120], [220, 110, 255], [60, 230, 230], [255, 140, 190]];
let about = null, index = 0, centre = 40, width = 400, overlay = true, outline = false, axes = true, measuring = false, line = null, opacity = 0.4, chosen = -1;
const slices = new Map();
window.viewerState = () => ({ index, centre, width, overlay, opacity, ready: slices.get(index)?.done === true });

async function bytes(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.arrayBuffer();
}

function slice(k) {
  if (!slices.has(k)) {
    const entry = { done: false };
    entry.loaded = Promise.all([bytes(`${base}/slices/${k}`), bytes(`${base}/labels/${k}`)]).then(([values, labels]) => {
      entry.values = new Int16Array(values); entry.labels = new Uint8Array(labels); entry.done = true;
      if (k === index) draw();
    }, (error) => { slices.delete(k); corner.textContent = error.message; });
    slices.set(k, entry);
    if (slices.size > 80) for (const old of slices.keys()) { if (Math.abs(old - index) > 30) slices.delete(old); if (slices.size <= 60) break; }
  }
  return slices.get(k);
}

function colourOf(number) { return number === 1 ? COLOURS[0] : COLOURS[1 + (number - 2) % (COLOURS.length - 1)]; }

function draw() {
  const [, rows, columns] = about.shape, now = slice(index);
  where.textContent = `${index + 1} of ${about.shape[0]}`;
  place.value = index; place.setAttribute("aria-valuetext", where.textContent);
  corner.textContent = now.done ? `C ${Math.round(centre)} W ${Math.round(width)}` : "Loading";
  if (!now.done) return;
  const image = pen.createImageData(columns, rows), out = image.data, low = centre - width / 2, scale = 255 / width;
  const [flipRows, flipColumns] = about.flip, labels = now.labels;
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
    const from = (flipRows ? rows - 1 - r : r) * columns + (flipColumns ? columns - 1 - c : c), to = 4 * (r * columns + c);
    let grey = (now.values[from] - low) * scale;
    grey = grey < 0 ? 0 : grey > 255 ? 255 : grey;
    const label = labels[from];
    let part = 0;
    if (overlay && label) {
      part = opacity;
      if (outline) part = labels[from - 1] !== label || labels[from + 1] !== label || labels[from - columns] !== label || labels[from + columns] !== label ? 1 : 0;
    }
    const colour = part ? colourOf(label) : [0, 0, 0];
    out[to] = grey * (1 - part) + colour[0] * part; out[to + 1] = grey * (1 - part) + colour[1] * part; out[to + 2] = grey * (1 - part) + colour[2] * part; out[to + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
  if (axes) for (const lesion of about.lesions) if (lesion.index === index && lesion.axes) {
    const [a, b, c, d] = lesion.axes.map(shown);
    stroke(a, b, "#fff"); if (c && d) stroke(c, d, "#9fe870");
  }
  if (line) {
    stroke(line[0], line[1], "#ffe14d");
    pen.fillStyle = "#ffe14d"; pen.font = "16px sans-serif"; pen.fillText(`${distance(line).toFixed(1)} mm`, line[1][1] + 6, line[1][0] - 6);
  }
  for (const near of [index + 1, index - 1, index + 2]) if (near >= 0 && near < about.shape[0]) slice(near);
}

function shown([r, c]) { return [about.flip[0] ? about.shape[1] - 1 - r : r, about.flip[1] ? about.shape[2] - 1 - c : c]; }
function stroke(a, b, colour) { pen.strokeStyle = colour; pen.lineWidth = 1.5; pen.beginPath(); pen.moveTo(a[1] + 0.5, a[0] + 0.5); pen.lineTo(b[1] + 0.5, b[0] + 0.5); pen.stroke(); }
function distance([a, b]) { return Math.hypot((a[0] - b[0]) * about.spacing_mm[1], (a[1] - b[1]) * about.spacing_mm[2]); }
function go(to) { index = Math.max(0, Math.min(about.shape[0] - 1, to)); line = null; draw(); }
function setWindow(name) {
  for (const button of document.querySelectorAll("[data-window]")) button.setAttribute("aria-pressed", String(button.dataset.window === name));
  const preset = WINDOWS[name];
  if (preset) [centre, width] = preset;
  else if (slice(index).done) { const values = slice(index).values; let low = 32767, high = -32768; for (const v of values) { if (v < low) low = v; if (v > high) high = v; } centre = (low + high) / 2; width = Math.max(1, high - low); }
  draw();
}
function toggle(id, change) { byId(id).addEventListener("click", () => { const on = change(); byId(id).setAttribute("aria-pressed", String(on)); draw(); }); }
function jump(lesion) { if (lesion.index !== null) go(lesion.index); }
function nextLesion() { if (about.lesions.length) { chosen = (chosen + 1) % about.lesions.length; jump(about.lesions[chosen]); } }

function at(event) {
  const box = picture.getBoundingClientRect();
  return [(event.clientY - box.top) * picture.height / box.height, (event.clientX - box.left) * picture.width / box.width];
}

const touches = new Map();
let start = null;
screen_.addEventListener("contextmenu", (event) => event.preventDefault());
screen_.addEventListener("pointerdown", (event) => {
  screen_.setPointerCapture(event.pointerId);
  touches.set(event.pointerId, event);
  start = { x: event.clientX, y: event.clientY, index, centre, width };
  if (measuring && touches.size === 1) line = [at(event), at(event)];
});
screen_.addEventListener("pointermove", (event) => {
  if (!touches.has(event.pointerId) || !start) return;
  const dx = event.clientX - start.x, dy = event.clientY - start.y;
  if (measuring && line && touches.size === 1) { line[1] = at(event); draw(); }
  else if (event.buttons === 2 || touches.size > 1) { centre = start.centre + dy * 2; width = Math.max(1, start.width + dx * 2); draw(); }
  else { const to = start.index + Math.round(dy / 8); if (to !== index) go(to); }
});
for (const name of ["pointerup", "pointercancel"]) screen_.addEventListener(name, (event) => { touches.delete(event.pointerId); if (!touches.size) start = null; });
screen_.addEventListener("wheel", (event) => { event.preventDefault(); go(index + Math.sign(event.deltaY)); }, { passive: false });
screen_.addEventListener("keydown", (event) => {
  const keys = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e6, End: 1e6 };
  if (event.key in keys) { event.preventDefault(); go(index + keys[event.key]); }
  if (event.key === "o") byId("overlay").click();
  if (event.key === "n") nextLesion();
});
place.addEventListener("input", () => go(Number(place.value)));
byId("opacity").addEventListener("input", (event) => { opacity = event.target.value / 100; draw(); });
byId("next").addEventListener("click", nextLesion);
for (const button of document.querySelectorAll("[data-window]")) button.addEventListener("click", () => setWindow(button.dataset.window));

const text = (value, digits = 1) => value === null || value === undefined ? "–" : typeof value === "number" ? value.toFixed(digits) : String(value);
function cell(row, value) { const td = document.createElement("td"); if (value instanceof Node) td.append(value); else td.textContent = value; row.append(td); }
function fact(name, value) { const div = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd"); dt.textContent = name; dd.textContent = value; div.append(dt, dd); byId("summary").append(div); }

function tell() {
  const found = about.findings;
  fact("Liver", `${text(found.liver.volume_ml, 0)} mL`);
  fact("Lesions", text(found.lesion_count, 0));
  fact("Burden", `${text(found.burden_percent)} %`);
  fact("Severity", text(found.severity && found.severity.level));
  fact("Model", `${found.model.name} ${found.model.version}`);
  const body = document.querySelector("#lesions tbody");
  for (const lesion of about.lesions) {
    const row = document.createElement("tr"), button = document.createElement("button");
    button.className = "quiet"; button.textContent = `${lesion.number}`; button.setAttribute("aria-label", `Go to lesion ${lesion.number}`);
    button.addEventListener("click", () => { chosen = about.lesions.indexOf(lesion); jump(lesion); });
    cell(row, button); cell(row, text(lesion.volume_ml)); cell(row, `${text(lesion.long_axis_mm)} x ${text(lesion.short_axis_mm)}`);
    cell(row, text(lesion.hu_mean, 0)); cell(row, lesion.confidence === null ? "–" : `${Math.round(100 * lesion.confidence)} %${lesion.certain === false ? ", uncertain" : ""}`);
    cell(row, lesion.status ? `${lesion.status}${lesion.growth_percent === null ? "" : `, ${text(lesion.growth_percent, 0)} %`}` : "–");
    body.append(row);
  }
  if (!about.lesions.length) { const row = document.createElement("tr"); const td = document.createElement("td"); td.colSpan = 6; td.textContent = found.lesion_count === 0 ? "No liver lesion was found." : "None."; row.append(td); body.append(row); }
  if (found.prior) byId("earlier").replaceChildren(...found.prior.studies.map((study) => { const p = document.createElement("p"); p.textContent = `${study.days} days before: ${study.lesions.length} lesions, sum of target diameters ${text(study.target_diameter_sum_mm)} mm`; return p; }));
  for (const warning of [...found.warnings, ...(found.severity ? found.severity.reasons : [])]) { const li = document.createElement("li"); li.textContent = warning; byId("warnings").append(li); }
}

(async () => {
  const answer = await fetch(base);
  about = await answer.json();
  if (!answer.ok) { corner.textContent = about.detail; return; }
  const [count, rows, columns] = about.shape;
  picture.width = columns; picture.height = rows;
  picture.style.aspectRatio = `${columns * about.spacing_mm[2]} / ${rows * about.spacing_mm[1]}`;
  place.max = count - 1;
  toggle("overlay", () => (overlay = !overlay)); toggle("outline", () => (outline = !outline)); toggle("axes", () => (axes = !axes)); toggle("calipers", () => { measuring = !measuring; line = null; return measuring; });
  tell();
  const liver = about.slices_with["1"] || [], first = about.lesions.find((lesion) => lesion.index !== null);
  index = first ? first.index : liver.length ? liver[Math.floor(liver.length / 2)] : Math.floor(count / 2);
  await slice(index).loaded;
  setWindow(about.modality === "CT" ? "Abdomen" : "Full");
})();
