// Maps of all kernels of a slice, beside the page, a band of rows at a time so that a newer slice need not wait long.

"use strict";

const BAND = 16;
let engines = [];
let newest = 0;

onmessage = async ({ data }) => {
  if (data.networks) {
    engines = data.networks.map((network) => network && new Engine(data.wasm, network));
    return;
  }
  const { ticket, stack, distances, network, rows, columns, strength } = data;
  newest = ticket;
  const engine = engines[network];
  engine.show(stack, rows, columns, distances);
  const maps = { radius: new Float32Array(rows * columns), angle: new Float32Array(rows * columns) };
  for (const name of ["anisotropy", "others"]) maps[name] = new Float32Array(rows * columns);
  for (let top = 0; top < rows; top += BAND) {
    const bottom = Math.min(top + BAND, rows);
    engine.prepare(top, bottom);
    for (let row = top; row < bottom; row++)
      for (let column = 0; column < columns; column++) {
        const kernel = describe(weakened(engine.kernelAt(row, column), strength), engine.network.side);
        for (const name in maps) maps[name][row * columns + column] = kernel[name];
      }
    postMessage({ ticket, share: bottom / rows });
    await new Promise((resolve) => setTimeout(resolve));
    if (newest !== ticket) return;
  }
  postMessage({ ticket, maps }, Object.values(maps).map((map) => map.buffer));
};
