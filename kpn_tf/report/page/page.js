// The page: which series, plane, slice, strength and images are shown.

"use strict";

// The network, and the one for slices without neighbours if there is one; null for one without kernels.
const NETWORKS = REPORT.networks.map((network, n) => network && {
  ...network,
  layers: network.layers.map((layer) => {
    if (layer.weights === undefined) return layer;
    const [filters, bias] = ["filters", "bias"].map((name) => floats(textOf(`${name}-${n}-${layer.weights}`)));
    return { ...layer, filters, bias };
  }),
  banks: network.filters.map((_, z) => floats(textOf(`bank-${n}-${z}`))),
});
const PANES = ["left", "right", "third", "fourth", "fifth", "sixth"];
const panes = [];
const shown = [];
const state = { number: 0, pixel: null, region: null, zoom: 1, centre: null, side: 1, plane: "axial", strength: REPORT.strengths[0] };
// The series, and of it the images of one plane, through which the page scrolls.
let [series, stack] = [null, null];
let [slice, ticket] = [null, 0];
// An engine for each network, and that of the slice that is shown.
let [engines, engine, worker] = [[], null, null];

function start() {
  const wasm = bytes(textOf("wasm"));
  engines = NETWORKS.map((network) => network && new Engine(wasm, network));
  const source = $("engine").textContent + $("worker").textContent;
  worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  worker.postMessage({ wasm, networks: NETWORKS });
  worker.onerror = ({ message }) => ($("status").textContent = `This browser cannot compute maps of the kernels (${message}).`);
  worker.onmessage = ({ data }) => {
    if (data.ticket !== ticket) return;
    if (data.maps) {
      slice.maps = data.maps;
      draw();
    }
    $("status").textContent = data.maps ? "" : `Maps of the kernels: ${Math.round(100 * data.share)} %`;
  };
}

function showNoKernels(reason) {
  [engines, engine, worker] = [[], null, null];
  Object.assign($("no-kernels"), { hidden: false, textContent: reason });
  $("explanation").hidden = true;
  panes.forEach(offer);
}

/** Does something that not every browser can; without it the rest is shown. */
function withKernels(action) {
  try {
    action();
  } catch (error) {
    showNoKernels(`No kernels are shown: this browser cannot compute them (${error}).`);
  }
}

/** Reads a slice, once; its neighbours are read ahead. */
function opened(number) {
  const about = stack[number];
  return (about.read ||= (async () => {
    const images = await readImages(about);
    const padding = [];
    images.before.forEach((value, i) => Number.isNaN(value) && padding.push(i));
    const { step } = about.images.find(({ kind }) => kind === "before");
    const more = { number, plane: state.plane, step, padding, full: images.after };
    return { ...about, ...images, ...more, ...(await stackOf(about, filled(images.before))) };
  })());
}

/** What the network saw, `seen` in the middle, which also stands for a neighbour that is not there; distances in mm. */
async function stackOf({ around, rows, columns }, seen) {
  const beside = await Promise.all(around.map((one) => one && readAlone(one, rows, columns)));
  const seenBeside = beside.map((hu) => (hu ? filled(hu) : seen));
  const distances = around.map((one) => (one ? one.distance : 0));
  seenBeside.splice(around.length >> 1, 0, seen);
  distances.splice(around.length >> 1, 0, 0);
  return { seen, stack: seenBeside, distances };
}

let turning = 0;

async function turnTo(number) {
  try {
    await turn(number);
  } catch (error) {
    $("status").textContent = `This browser cannot show the slice (${error}); one from 2023 or later can.`;
  }
}

async function turn(number) {
  state.number = Math.min(Math.max(number, 0), stack.length - 1);
  $("slice").value = state.number;
  const asked = ++turning;
  const next = await opened(state.number);
  if (asked !== turning) return;
  slice = next;
  strengthen(slice, state.strength);
  for (const near of [1, -1]) if (stack[state.number + near]) opened(state.number + near);
  // Only what is near stays in memory.
  stack.forEach((about, i) => Math.abs(i - state.number) > 2 && delete about.read);
  const name = `${state.number + 1} of ${stack.length}${slice.name ? `, ${slice.name}` : ""}`;
  $("slice-name").textContent = name;
  $("slice").setAttribute("aria-valuetext", name);
  const middle = [slice.rows >> 1, slice.columns >> 1];
  const inside = ([row, column]) => [Math.min(row, slice.rows - 1), Math.min(column, slice.columns - 1)];
  state.pixel = inside(state.pixel || middle);
  state.centre = inside(state.centre || middle);
  engine = engines[slice.network] || null;
  state.side = kernels() ? engine.network.side : 1;
  if (kernels()) withKernels(() => engine.show(slice.stack, slice.rows, slice.columns, slice.distances));
  if (engines.length && state.plane === "axial") {
    if (!engine) $("explanation").hidden = true;
    Object.assign($("no-kernels"), { hidden: Boolean(engine), textContent: REPORT.noKernels });
  }
  ticket += 1;
  $("status").textContent = "";
  askForMaps();
  draw();
  point(state.pixel);
  showRegion(slice, state.region);
  document.body.dataset.slice = state.number;
}

/** Whether kernels of the slice can be shown: they lie in axial slices. */
const kernels = () => engine && state.plane === "axial";

function askForMaps() {
  if (!kernels() || slice.maps || slice.asked === ticket || !shown.some((name) => VIEWS[name].asks === "kernels")) return;
  slice.asked = ticket;
  const { stack: seen, distances, network, rows, columns } = slice;
  worker.postMessage({ ticket, stack: seen, distances, network, rows, columns, strength: state.strength });
}

function windowText(view) {
  const window = WINDOWS[VIEWS[view].window];
  return window ? `${window.low.toFixed(0)} to ${window.high.toFixed(0)} ${window.unit}` : "";
}

/** What stands beside an image: its window, and the strength of what follows it. */
function captionOf(view) {
  const { of, moves } = VIEWS[view];
  if (of && !slice[of]) return "has no slice here";
  return [windowText(view), moves && `strength ${state.strength}`].filter(Boolean).join(", ");
}

// Height of the heading and the legend of an image, in pixels.
const BESIDES = 36;

/** Draws all images anew. */
function draw() {
  if (!slice) return;
  const wiped = $("wipe").checked;
  $("panes").classList.toggle("one", wiped);
  // Up to three side by side, more in two rows.
  const across = panes.length > 3 ? Math.ceil(panes.length / 2) : panes.length;
  $("panes").style.setProperty("--across", across);
  // What the window leaves to images, between what stands above them and the line at its bottom.
  const [top, rows] = [panes[0].canvas.getBoundingClientRect().top + scrollY, wiped ? 1 : Math.ceil(panes.length / across)];
  const highest = (innerHeight - top - document.querySelector("footer").offsetHeight - BESIDES) / rows - BESIDES * (rows - 1);
  const ready = (name) => VIEWS[name].asks !== "kernels" || slice.maps;
  const images = shown.map((name) => painted(slice, ready(name) ? name : "before"));
  panes.forEach((pane, i) => {
    pane.caption.textContent = captionOf(shown[i]);
    if (wiped && i) return;
    pane.fit(slice, highest);
    pane.draw(slice, state, wiped ? [[images[0], $("wipe-at").value / 100], [images[1], 1]] : [[images[i], 1]]);
  });
  const { low, high } = WINDOWS.hu;
  const read = (input, value) => document.activeElement !== input && (input.value = Math.round(value));
  read($("level"), (low + high) / 2);
  read($("width"), high - low);
  for (const button of $("presets").children) {
    const preset = REPORT.presets[button.value];
    button.setAttribute("aria-pressed", preset.low === low && preset.high === high);
  }
}

const drawSoon = (() => {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
})();

/** Shows everything about a pixel. */
function point(pixel) {
  const began = performance.now();
  state.pixel = pixel;
  showValues(slice, pixel);
  if (kernels()) {
    const outside = Number.isNaN(slice.before[pixel[0] * slice.columns + pixel[1]]);
    $("explanation").hidden = outside;
    if (!outside) showKernel(slice, pixel, weakened(engine.kernelAt(...pixel), state.strength), engine.network.side);
  }
  document.body.dataset.answerMs = (performance.now() - began).toFixed(2);
  drawSoon();
}

/** Says the pixel to those who cannot see it; of a turn that another has overtaken nothing. */
function tell() {
  if (slice.number !== state.number) return;
  const i = state.pixel[0] * slice.columns + state.pixel[1];
  $("live").textContent = `${slice.name}, row ${state.pixel[0]}, column ${state.pixel[1]}: ${hu(slice.after[i])}`;
}

function zoomBy(factor) {
  state.zoom = Math.min(Math.max(state.zoom * factor, 1), 16);
  state.centre = state.pixel;
  draw();
}

function setWindow(name, low, high) {
  const least = name === "radius" ? 0.2 : 2;
  Object.assign(WINDOWS[name], { low, high: Math.max(high, low + least) });
  shown.forEach((view, i) => explain(panes[i].legend, view));
  drawSoon();
}

function placeRegion(row, column, radiusMm = Math.max(Number($("radius").value) || 7.5, 1)) {
  state.region = { row, column, radiusMm };
  $("radius").value = radiusMm.toFixed(1);
  showRegion(slice, state.region);
  drawSoon();
}

/** Whether the plane that is shown has a view, or could have it in this browser. */
function offered(name) {
  const { of, asks } = VIEWS[name];
  if (of) return stack.some(({ images }) => images.some(({ kind }) => kind === of));
  return asks === "kernels" ? engines.length > 0 && state.plane === "axial" : !asks || state.plane === "axial";
}

/** Fills the list of what an image can show; what is not there any more gives way to the slice after. */
function offer(pane, i) {
  if (!offered(shown[i])) shown[i] = "after";
  const options = Object.keys(VIEWS).filter((name) => offered(name) || VIEWS[name].asks);
  pane.select.replaceChildren(...options.map((name) => new Option(VIEWS[name].title, name, false, name === shown[i])));
  for (const option of pane.select.options) option.disabled = !offered(option.value);
  explain(pane.legend, shown[i]);
}

function addPane(view) {
  const i = panes.length;
  panes.push(new Pane(PANES[i]));
  shown.push(view);
  offer(panes[i], i);
  listen(panes[i], i);
}

function removePane() {
  panes.pop().figure.remove();
  shown.pop();
}

/** The images that the page begins with: what was given, side by side. */
function layOut() {
  while (panes.length) removePane();
  const after = FIXED.length ? FIXED.map((at) => `after, ${at}`) : ["after"];
  for (const view of ["before", ...after, ...BESIDE.filter(offered)].slice(0, PANES.length)) addPane(view);
}

/** Turns to a series and one of its planes. */
function choose(number, plane) {
  stack?.forEach((about) => delete about.read);
  // Nothing of the slice that is left behind belongs to the place where the next will be seen.
  slice = null;
  ticket += 1;
  const another = series !== REPORT.series[number];
  series = REPORT.series[number];
  state.plane = series.planes[plane] ? plane : "axial";
  stack = series.planes[state.plane];
  Object.assign(state, { pixel: null, centre: null, region: null, zoom: 1 });
  const planes = Object.keys(series.planes);
  $("chosen-plane").replaceChildren(...planes.map((name) => new Option(name, name, false, name === state.plane)));
  $("chosen-plane").parentElement.hidden = planes.length < 2;
  $("slice").max = stack.length - 1;
  if (engines.length) {
    const axial = state.plane === "axial";
    $("explanation").hidden = !axial;
    const where = "Kernels lie in axial slices: choose that plane to see the kernel of a pixel.";
    Object.assign($("no-kernels"), { hidden: axial, textContent: where });
  }
  fill($("series"), series.rows);
  showStrength();
  if (another) layOut();
  else panes.forEach(offer);
  return turnTo(stack.length >> 1);
}

/** Noise in flat tissue at a strength, as the table of the series has it; NaN without such tissue. */
function noiseAt(strength) {
  const squares = series.variances.map(([still, slope, bend]) => still + slope * strength + bend * strength ** 2);
  return squares.reduce((sum, square) => sum + Math.sqrt(Math.max(square, 0)), 0) / squares.length;
}

function showStrength() {
  const [noise, before] = [noiseAt(state.strength), noiseAt(0)].map((value) => value.toFixed(1));
  const text = noise === "NaN" ? "" : `: noise ${noise} HU in flat tissue, ${before} HU before`;
  $("strength").value = state.strength;
  $("strength-text").textContent = `${state.strength}${text}`;
  $("strength").setAttribute("aria-valuetext", $("strength-text").textContent);
}

function setStrength(strength) {
  state.strength = strength;
  showStrength();
  if (!slice) return;
  strengthen(slice, strength);
  point(state.pixel);
  showRegion(slice, state.region);
}

$("notes").textContent = REPORT.notes.join(" ");
$("chosen-series").replaceChildren(...REPORT.series.map(({ name }, i) => new Option(name, i)));
$("chosen-series").parentElement.hidden = REPORT.series.length < 2;
$("chosen-series").onchange = () => choose(Number($("chosen-series").value), state.plane);
$("chosen-plane").onchange = () => choose(REPORT.series.indexOf(series), $("chosen-plane").value);
$("strength").oninput = () => setStrength($("strength").valueAsNumber);
$("strength").onchange = () => {
  if (!slice) return;
  ticket += 1;
  askForMaps();
};
$("more").onclick = () => {
  if (panes.length === PANES.length) return;
  addPane(Object.keys(VIEWS).find((name) => offered(name) && !shown.includes(name)) || "before");
  askForMaps();
  draw();
};
$("fewer").onclick = () => {
  if (panes.length > 2) removePane();
  draw();
};
REPORT.presets.forEach(({ name, low, high }, i) => {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: name, value: i });
  button.onclick = () => setWindow("hu", low, high);
  $("presets").append(button);
});
const typed = () => {
  const [level, width] = [$("level"), $("width")].map((input) => input.valueAsNumber);
  if (level === level && width > 0) setWindow("hu", level - width / 2, level + width / 2);
};
$("level").oninput = $("width").oninput = typed;
$("slice").oninput = () => turnTo(Number($("slice").value));
$("wipe").onchange = draw;
$("wipe-at").oninput = drawSoon;
$("zoom-in").onclick = () => zoomBy(2);
$("zoom-out").onclick = () => zoomBy(0.5);
$("pin").onclick = () => pin(!pinned);
$("numbers").ontoggle = () => slice && point(state.pixel);
$("place-region").onclick = () => slice && placeRegion(...state.pixel);
$("radius").onchange = () => state.region && placeRegion(state.region.row, state.region.column);
// A finger scrolls through slices, a mouse has a wheel for that; a phone has no room for two images.
const finger = matchMedia("(pointer: coarse)").matches;
document.querySelector(`[name=drag][value=${finger ? "scroll" : "window"}]`).checked = true;
$("wipe").checked = matchMedia("(max-width: 40rem)").matches;
addEventListener("resize", drawSoon);
if (NETWORKS.some(Boolean)) withKernels(start);
else showNoKernels(REPORT.noKernels);
choose(0, "axial");
