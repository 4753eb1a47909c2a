// The numbers beside the images: of the pixel, of its kernel, of the region.

"use strict";

const $ = (id) => document.getElementById(id);
const hu = (value) => (Number.isNaN(value) || value === undefined ? "outside" : `${value.toFixed(1)} HU`);

/** Replaces the rows of a table: each a heading and cells; a row without a heading has those of the columns. */
function fill(table, rows) {
  while (table.rows.length < rows.length) table.insertRow();
  while (table.rows.length > rows.length) table.deleteRow(-1);
  rows.forEach(([heading, ...cells], i) => {
    const row = table.rows[i];
    const scope = heading ? "row" : "col";
    if (row.cells.length !== cells.length + 1 || row.cells[0].scope !== scope) {
      const kinds = cells.map(() => (heading ? "td" : "th"));
      row.replaceChildren(...["th", ...kinds].map((kind) => document.createElement(kind)));
      for (const cell of row.querySelectorAll("th")) cell.scope = scope;
    }
    [heading, ...cells].forEach((text, c) => {
      if (row.cells[c].textContent !== text) row.cells[c].textContent = text;
    });
  });
}

/** Every image of a slice that holds HU, and its name in tables. */
function imagesOf(slice) {
  const names = ["before", "after", "reference", ...BESIDE].filter((name) => slice[name]);
  return [...names.map((name) => [name, slice[name]]), ...FIXED.map((at) => [`after, ${at}`, valuesOf(slice, `after, ${at}`)])];
}

function showValues(slice, [row, column]) {
  $("place").textContent = `Row ${row}, column ${column}`;
  const i = row * slice.columns + column;
  const rows = imagesOf(slice).map(([name, values]) => [name, hu(values[i])]);
  rows.push(["after minus before", hu(slice.after[i] - slice.before[i])]);
  if (slice.plane === "axial") {
    const weights = structureAt(slice, row, column);
    const shares = Object.keys(STRUCTURE).map((name, c) => `${name} ${(100 * weights[c]).toFixed(0)} %`);
    rows.push(["structure", Number.isNaN(slice.before[i]) ? "outside" : shares.join(", ")]);
  }
  fill($("values"), rows);
}

/** Size of the picture of the kernels of so many slices, up to three abreast. */
function kernelPicture(slices, side) {
  const across = Math.min(slices, 3);
  return { width: across * (side + 1) - 1, height: Math.ceil(slices / across) * (side + 1) - 1 };
}

/** How a slice of a stack is called: by its place from the slice itself. */
const placeName = (place) => (place ? `slice ${place > 0 ? "+" : "−"}${Math.abs(place)}` : "the slice itself");

/** Shows the kernels of a pixel, their numbers, and what they make of the slices before, which must be the slice after. */
function showKernel(slice, [row, column], kernel, side) {
  const shape = describe(kernel, side);
  const [centre, radius] = [kernel[kernel.length >> 1], side >> 1];
  const size = side * side;
  const froms = slice.stack.map(() => 0);
  let [sum, made, largest] = [0, 0, 0];
  kernel.forEach((tap, i) => {
    const z = Math.floor(i / size);
    const y = engine.sourceOf(row + Math.floor((i % size) / side) - radius, slice.rows);
    const x = engine.sourceOf(column + (i % side) - radius, slice.columns);
    sum += tap;
    froms[z] += tap;
    made += tap * slice.stack[z][y * slice.columns + x];
    largest = Math.max(largest, Math.abs(tap));
  });
  const mm = shape.radius * Math.sqrt(slice.spacing[0] * slice.spacing[1]);
  const round = shape.anisotropy < 0.05;
  fill($("shape"), [
    ["effective radius", `${shape.radius.toFixed(2)} pixels, ${mm.toFixed(2)} mm`],
    ["centre weight", centre.toFixed(4)],
    ["anisotropy", `${shape.anisotropy.toFixed(2)}${round ? ", round" : ` at ${shape.angle.toFixed(0)}°`}`],
    ["sum of taps", sum.toFixed(6)],
    ["residual noise", `${(100 * shape.noise).toFixed(0)} %`],
    ["kernel times before", hu(made)],
    ...(froms.length > 1 ? froms.map((from, z) => fromRow(slice, z, from)) : []),
  ]);
  const canvas = Object.assign($("kernel"), kernelPicture(froms.length, side));
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const target = new Uint32Array(image.data.buffer);
  const across = Math.min(froms.length, 3);
  kernel.forEach((tap, i) => {
    const [z, place] = [Math.floor(i / size), i % size];
    const top = Math.floor(z / across) * (side + 1) + Math.floor(place / side);
    target[top * canvas.width + (z % across) * (side + 1) + (place % side)] = tapColour(tap / largest);
  });
  context.putImageData(image, 0, 0);
  $("scale").textContent = `Red above zero, blue below, by the root of the tap; the largest is ${largest.toFixed(4)}.`;
  if ($("numbers").open) {
    const lines = Array.from({ length: side * froms.length }, (_, y) => [...kernel.subarray(y * side, (y + 1) * side)]);
    $("taps").textContent = lines.map((line) => line.map((tap) => tap.toFixed(7)).join(" ")).join("\n");
  }
}

/** How much of the pixel came from a slice of the stack. */
function fromRow({ distances }, z, from) {
  const place = z - (distances.length >> 1);
  const there = place === 0 || distances[z] > 0;
  const where = place && there ? `, ${distances[z].toFixed(1)} mm` : "";
  return [`from ${placeName(place)}${where}`, there ? `${(100 * from).toFixed(1)} %` : "not there"];
}

function showRegion(slice, region) {
  if (!region) return fill($("region"), [["no region yet", ""]]);
  const of = (values) => discStatistics(values, slice.rows, slice.columns, slice.spacing, region);
  const rows = [["", "mean (HU)", "SD (HU)"]];
  // Where a region holds no pixel, or one alone, it has no mean, or no deviation.
  const said = (value) => (Number.isNaN(value) ? "–" : value.toFixed(1));
  const add = (name, { mean, sd }) => rows.push([name, said(mean), said(sd)]);
  for (const [name, values] of imagesOf(slice)) add(name, of(values));
  add("after minus before", of(valuesOf(slice, "change")));
  rows.push(["pixels", String(of(slice.before).count), ""]);
  fill($("region"), rows);
}
