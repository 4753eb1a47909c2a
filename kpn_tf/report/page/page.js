// The page: what is shown, and what wheel, keys, mouse and fingers do to it.

"use strict";

const NETWORK = REPORT.network && {
  ...REPORT.network,
  layers: REPORT.network.layers.map((layer) => {
    if (layer.weights === undefined) return layer;
    return { ...layer, filters: floats(textOf(`filters-${layer.weights}`)), bias: floats(textOf(`bias-${layer.weights}`)) };
  }),
  banks: REPORT.network.filters.map((_, z) => floats(textOf(`bank-${z}`))),
};
const panes = ["left", "right"].map((id) => new Pane($(id)));
const shown = ["before", "after"];
const state = { number: 0, pixel: null, region: null, zoom: 1, centre: null, side: NETWORK ? NETWORK.side : 1 };
let [slice, pinned, dragged, wheel, ticket] = [null, false, null, 0, 0];
let [engine, worker] = [null, null];

function start() {
  const wasm = bytes(textOf("wasm"));
  engine = new Engine(wasm, NETWORK);
  const source = $("engine").textContent + $("worker").textContent;
  worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  worker.postMessage({ wasm, network: NETWORK });
  worker.onerror = ({ message }) => ($("status").textContent = `This browser cannot compute maps of the kernels (${message}).`);
  worker.onmessage = ({ data }) => {
    if (data.ticket !== ticket) return;
    if (data.maps) {
      slice.maps = data.maps;
      draw();
    }
    $("status").textContent = data.maps ? "" : `Maps of the kernels: ${Math.round(100 * data.share)} %`;
  };
  Object.assign($("kernel"), { width: NETWORK.side, height: NETWORK.side });
}

function showNoKernels(reason) {
  [engine, worker] = [null, null];
  for (const option of document.querySelectorAll("figure option")) option.disabled ||= VIEWS[option.value].asks === "kernels";
  $("explanation").hidden = true;
  Object.assign($("no-kernels"), { hidden: false, textContent: reason });
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
  const about = REPORT.slices[number];
  return (about.read ||= (async () => {
    const images = await readImages(about);
    const padding = [];
    images.before.forEach((value, i) => Number.isNaN(value) && padding.push(i));
    return { ...about, ...images, number, seen: filled(images.before), padding };
  })());
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
  state.number = Math.min(Math.max(number, 0), REPORT.slices.length - 1);
  $("slice").value = state.number;
  const asked = ++turning;
  const next = await opened(state.number);
  if (asked !== turning) return;
  slice = next;
  for (const near of [1, -1]) if (REPORT.slices[state.number + near]) opened(state.number + near);
  // Only what is near stays in memory.
  REPORT.slices.forEach((about, i) => Math.abs(i - state.number) > 2 && delete about.read);
  const name = `${state.number + 1} of ${REPORT.slices.length}${slice.name ? `, ${slice.name}` : ""}`;
  $("slice-name").textContent = name;
  $("slice").setAttribute("aria-valuetext", name);
  const middle = [slice.rows >> 1, slice.columns >> 1];
  const inside = ([row, column]) => [Math.min(row, slice.rows - 1), Math.min(column, slice.columns - 1)];
  state.pixel = inside(state.pixel || middle);
  state.centre = inside(state.centre || middle);
  if (engine) withKernels(() => engine.show([slice.seen], slice.rows, slice.columns));
  ticket += 1;
  $("status").textContent = "";
  askForMaps();
  draw();
  point(state.pixel);
  showRegion(slice, state.region);
  document.body.dataset.slice = state.number;
}

function askForMaps() {
  if (!worker || slice.maps || slice.asked === ticket || !shown.some((name) => VIEWS[name].asks === "kernels")) return;
  slice.asked = ticket;
  worker.postMessage({ ticket, hu: slice.seen, rows: slice.rows, columns: slice.columns });
}

function windowText(view) {
  const window = WINDOWS[VIEWS[view].window];
  return window ? `${window.low.toFixed(0)} to ${window.high.toFixed(0)} ${window.unit}` : "";
}

/** Draws both images anew. */
function draw() {
  if (!slice) return;
  const wiped = $("wipe").checked;
  $("panes").classList.toggle("one", wiped);
  const ready = (name) => VIEWS[name].asks !== "kernels" || slice.maps;
  const images = shown.map((name) => painted(slice, ready(name) ? name : "before"));
  panes.forEach((pane, i) => {
    pane.caption.textContent = windowText(shown[i]);
    if (wiped && i) return;
    pane.fit(slice);
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
  if (engine) {
    const outside = Number.isNaN(slice.before[pixel[0] * slice.columns + pixel[1]]);
    $("explanation").hidden = outside;
    if (!outside) showKernel(slice, pixel, engine.kernelAt(...pixel), NETWORK.side);
  }
  document.body.dataset.answerMs = (performance.now() - began).toFixed(2);
  drawSoon();
}

/** Says the pixel to those who cannot see it; of a turn that another has overtaken nothing. */
function tell() {
  if (slice.number !== state.number) return;
  const i = state.pixel[0] * slice.columns + state.pixel[1];
  $("live").textContent = `Slice ${state.number + 1}, row ${state.pixel[0]}, column ${state.pixel[1]}: ${hu(slice.after[i])}`;
}

function pin(now) {
  pinned = now;
  $("pin").setAttribute("aria-pressed", pinned);
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

/** What moving by so many pixels of the screen does, as chosen under "Dragging". */
function drag(pane, event) {
  const [right, down] = [event.clientX - dragged.x, event.clientY - dragged.y];
  if (Math.hypot(right, down) > 4) dragged.moved = true;
  if (!dragged.moved) return;
  if (dragged.kind === "region") {
    const [row, column] = pane.pixelAt(event, slice, state);
    const [top, left] = dragged.pixel;
    const radius = Math.hypot((row - top) * slice.spacing[0], (column - left) * slice.spacing[1]);
    placeRegion(top, left, Math.max(radius, 1));
  } else if (dragged.kind === "scroll") {
    turnTo(dragged.number + Math.round(down / 12));
  } else if (dragged.window) {
    // Width by moving sideways, level by moving up and down, as workstations do.
    const { name, low, high } = dragged.window;
    const scale = (high - low) / 250;
    const width = Math.max((high - low) + right * scale, (high - low) / 20);
    const level = (low + high) / 2 + down * scale;
    setWindow(name, level - width / 2, level + width / 2);
  }
}

function listen(pane, i) {
  const { canvas, select } = pane;
  for (const [name, { title, asks }] of Object.entries(VIEWS)) {
    if (asks === "reference" && !REPORT.hasReference) continue;
    const option = new Option(title, name, name === shown[i], name === shown[i]);
    select.add(option);
  }
  explain(pane.legend, shown[i]);
  select.onchange = () => {
    shown[i] = select.value;
    explain(pane.legend, shown[i]);
    askForMaps();
    draw();
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) return zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
    // Trackpads send many small steps.
    wheel += event.deltaY;
    const steps = Math.trunc(wheel / 50);
    wheel -= steps * 50;
    if (steps) turnTo(state.number + Math.sign(steps));
  }, { passive: false });
  canvas.onpointerdown = (event) => {
    // A second finger does not drag.
    if (!slice || event.button || !event.isPrimary) return;
    canvas.setPointerCapture(event.pointerId);
    const name = VIEWS[shown[i]].window;
    const chosen = document.querySelector("[name=drag]:checked").value;
    dragged = { x: event.clientX, y: event.clientY, kind: chosen, number: state.number, moved: false };
    dragged.pixel = pane.pixelAt(event, slice, state);
    dragged.window = name && { name, ...WINDOWS[name] };
  };
  canvas.onpointermove = (event) => {
    if (!slice || !event.isPrimary) return;
    if (dragged) drag(pane, event);
    else if (!pinned) point(pane.pixelAt(event, slice, state));
  };
  canvas.onpointerup = (event) => {
    if (!event.isPrimary) return;
    if (dragged && !dragged.moved) {
      point(dragged.pixel);
      // A finger leaves nothing behind that could move the pixel: it needs no pin.
      if (event.pointerType === "mouse") pin(!pinned);
    }
    dragged = null;
  };
  canvas.onpointercancel = () => (dragged = null);
  canvas.onkeydown = (event) => {
    if (!slice || event.ctrlKey || event.altKey || event.metaKey) return;
    const step = event.shiftKey ? 10 : 1;
    const move = (down, right) => {
      const [row, column] = [state.pixel[0] + down * step, state.pixel[1] + right * step];
      point([Math.min(Math.max(row, 0), slice.rows - 1), Math.min(Math.max(column, 0), slice.columns - 1)]);
      if (!Pane.sees(slice, state)) state.centre = state.pixel;
      tell();
    };
    const changeWindow = (wider, higher) => {
      const { window } = VIEWS[shown[i]];
      if (!window) return;
      const { low, high } = WINDOWS[window];
      const [level, width] = [(low + high) / 2 + higher * (high - low), (high - low) * wider];
      setWindow(window, level - width / 2, level + width / 2);
      $("live").textContent = windowText(shown[i]);
    };
    const keys = {
      ArrowUp: () => move(-1, 0),
      ArrowDown: () => move(1, 0),
      ArrowLeft: () => move(0, -1),
      ArrowRight: () => move(0, 1),
      PageUp: () => turnTo(state.number - 1).then(tell),
      PageDown: () => turnTo(state.number + 1).then(tell),
      Home: () => turnTo(0).then(tell),
      End: () => turnTo(REPORT.slices.length - 1).then(tell),
      "+": () => zoomBy(2),
      "-": () => zoomBy(0.5),
      b: () => changeWindow(1.25, 0),
      n: () => changeWindow(0.8, 0),
      u: () => changeWindow(1, 0.1),
      d: () => changeWindow(1, -0.1),
      w: () => $("wipe").click(),
      p: () => pin(!pinned),
      r: () => placeRegion(...state.pixel),
      ...Object.fromEntries(REPORT.presets.map(({ low, high }, n) => [n + 1, () => setWindow("hu", low, high)])),
    };
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
}

fill($("series"), [["", "before", "after"], ...REPORT.numbers]);
$("notes").textContent = REPORT.notes.join(" ");
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
$("slice").max = REPORT.slices.length - 1;
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
panes.forEach(listen);
addEventListener("resize", drawSoon);
if (NETWORK) withKernels(start);
else showNoKernels(REPORT.noKernels);
turnTo(REPORT.slices.length >> 1);
