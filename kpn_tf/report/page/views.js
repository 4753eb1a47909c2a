// What an image of the page can show of a slice, and in which colours.

"use strict";

const nothing = ({ rows, columns }) => new Float32Array(rows * columns).fill(NaN);

const minus = (a, b) => a.map((value, i) => value - b[i]);

/** Air where nothing was reconstructed, as the network sees it. */
const filled = (hu) => hu.map((value) => (Number.isNaN(value) ? REPORT.airHu : value));

// Names of the other series that lie beside any that is shown, and the strengths that have an image each.
const KINDS = REPORT.series.flatMap(({ planes }) => planes.axial.flatMap(({ images }) => images.map(({ kind }) => kind)));
const BESIDE = [...new Set(KINDS)].filter((kind) => !["before", "after", "reference"].includes(kind));
const FIXED = REPORT.strengths.length > 1 ? REPORT.strengths : [];

/**
 * The slice after at a strength, rounded as the derived series stores it: both images have whole steps.
 */
function afterAt({ before, full, step }, strength) {
  if (strength === 1) return full;
  return full.map((value, i) => before[i] + Math.round((strength * (value - before[i])) / step) * step);
}

/** What every image of the page can show. `of` is the image that it needs, `moves` what follows the strength. */
const VIEWS = {
  before: { title: "Before", window: "hu", values: (slice) => slice.before },
  after: { title: "After", window: "hu", values: (slice) => slice.after, moves: true },
  reference: { title: "Reference (normal dose)", window: "hu", values: (slice) => slice.reference, of: "reference" },
  ...Object.fromEntries(BESIDE.map((name) => [name, { title: name, window: "hu", values: (slice) => slice[name] || nothing(slice), of: name }])),
  ...Object.fromEntries(
    FIXED.map((at) => [`after, ${at}`, { title: `After, strength ${at}`, window: "hu", values: (slice) => afterAt(slice, at) }]),
  ),
  change: { title: "After minus before", window: "difference", values: (slice) => minus(slice.after, slice.before), moves: true },
  error: {
    ...{ title: "After minus reference", window: "difference", of: "reference", moves: true },
    values: (slice) => minus(slice.after, slice.reference),
  },
  noiseBefore: { title: "Noise SD before", window: "noise", values: (slice) => noiseOf(slice, slice.before), ramp: MAP, asks: "axial" },
  noiseAfter: {
    ...{ title: "Noise SD after", window: "noise", ramp: MAP, asks: "axial", moves: true },
    values: (slice) => noiseOf(slice, slice.after),
  },
  radius: { title: "Kernel radius", window: "radius", values: (slice) => slice.maps.radius, ramp: MAP, asks: "kernels", moves: true },
  direction: { title: "Kernel direction", asks: "kernels" },
  // How much of each pixel came from other slices than its own.
  ...(REPORT.networks.some((network) => network && network.filters.length > 1) && {
    others: { title: "From other slices", window: "share", values: (slice) => slice.maps.others, ramp: MAP, asks: "kernels", moves: true },
  }),
  structure: { title: "Structure", asks: "axial", moves: true },
};

const WINDOWS = {
  hu: { unit: "HU", low: REPORT.presets[0].low, high: REPORT.presets[0].high },
  difference: { unit: "HU", low: -50, high: 50 },
  noise: { unit: "HU", low: 0, high: 30 },
  radius: { unit: "pixels", low: 3, high: 7 },
  share: { unit: "%", low: 0, high: 50 },
};

function noiseOf(slice, hu) {
  const map = noiseMap(filled(hu), slice.rows, slice.columns, slice.noiseSide);
  return map.map((value, i) => (Number.isNaN(hu[i]) ? NaN : value));
}

/** Gives a slice the strength that is chosen, and forgets what followed the one that it had. */
function strengthen(slice, strength) {
  if (slice.strength === strength) return;
  slice.strength = strength;
  slice.after = afterAt(slice, strength);
  slice.maps = slice.asked = null;
  if (!slice.reference) slice.structure = null;
  for (const name in slice.computed) if (VIEWS[name].moves) delete slice.computed[name];
}

/** Paints a view of a slice onto a canvas of its own, one canvas pixel to a pixel; what is painted already is kept. */
function painted(slice, name) {
  const view = VIEWS[name];
  const { low, high } = WINDOWS[view.window] || {};
  const kept = (slice.painted ||= {})[name];
  const as = [low, high, view.moves && slice.strength].join();
  if (kept && kept.as === as) return kept.canvas;
  const canvas = kept ? kept.canvas : Object.assign(document.createElement("canvas"), { width: slice.columns, height: slice.rows });
  const context = canvas.getContext("2d");
  const image = context.createImageData(slice.columns, slice.rows);
  const target = new Uint32Array(image.data.buffer);
  if (name === "direction") paintDirection(target, slice.maps.angle, slice.maps.anisotropy);
  else if (name === "structure") paintStructure(target, structureOf(slice));
  else paintRamp(target, valuesOf(slice, name), view.ramp || GREY, { low, high });
  for (const i of slice.padding) target[i] = OUTSIDE;
  context.putImageData(image, 0, 0);
  slice.painted[name] = { canvas, as };
  return canvas;
}

function valuesOf(slice, name) {
  return ((slice.computed ||= {})[name] ||= VIEWS[name].values(slice));
}

function structureOf(slice) {
  return (slice.structure ||= structureMap(filled(slice.reference || slice.after), slice.rows, slice.columns, REPORT.structure));
}

/**
 * Weights of the loss at one pixel: of a part of the slice that is just large enough, because the whole takes longer
 * than the 16 ms between two frames of a screen.
 */
function structureAt(slice, row, column) {
  // One pixel more than the window: central differences look at it.
  const reach = (REPORT.structure.size >> 1) + 1;
  const [top, left] = [Math.max(row - reach, 0), Math.max(column - reach, 0)];
  const [bottom, right] = [Math.min(row + reach + 1, slice.rows), Math.min(column + reach + 1, slice.columns)];
  const source = slice.reference || slice.after;
  const part = new Float32Array((bottom - top) * (right - left));
  for (let y = top, i = 0; y < bottom; y++)
    for (let x = left; x < right; x++, i++) part[i] = source[y * slice.columns + x];
  const weights = structureMap(filled(part), bottom - top, right - left, REPORT.structure);
  return weights.map((weight) => weight[(row - top) * (right - left) + column - left]);
}

/** Shows what the colours of a view mean. */
function explain(element, name) {
  const view = VIEWS[name];
  element.replaceChildren();
  const say = (text) => element.append(Object.assign(document.createElement("span"), { textContent: text }));
  const bar = (colours) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 256, height: 1 });
    const image = canvas.getContext("2d").createImageData(256, 1);
    new Uint32Array(image.data.buffer).set(colours);
    canvas.getContext("2d").putImageData(image, 0, 0);
    element.append(canvas);
  };
  if (name === "direction") {
    say("along the row 0°");
    bar(CYCLE);
    say("180°, up at the middle; grey where the kernel is round");
  } else if (name === "structure") {
    for (const [kind, colour] of Object.entries(STRUCTURE)) {
      const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
      swatch.style.background = `rgb(${colour})`;
      element.append(swatch);
      say(kind);
    }
    say(`weights of the loss, of the ${REPORT.hasReference ? "reference" : "slice after"}`);
  } else if (view.ramp) {
    const { low, high, unit } = WINDOWS[view.window];
    say(low.toFixed(1));
    bar(view.ramp);
    say(`${high.toFixed(1)} ${unit}`);
    if (view.window === "noise") say("about a plane in 10 mm windows, edges included");
  }
}
