// The kernels of a network of preset `edge`, computed from its weights where and when they are asked for.
//
// Every layer keeps what it has computed of a slice. What a pixel lacks of its 91 x 91 pixels of context is computed
// then: the first pixel costs milliseconds, its neighbours next to nothing. Runs in the page and in its worker.

"use strict";

// Channels that the WebAssembly function computes at once.
const GROUP = 32;

// As the network grows a slice: a short side repeats its edge up to 21, then 1234 goes on as 1234 32 up to whole fours.
const [LEAST, MULTIPLE] = [21, 4];

/** How long a side is as the network sees it. */
const grownLength = (length) => Math.ceil(Math.max(length, LEAST) / MULTIPLE) * MULTIPLE;

/** The pixel of the slice at a place of the grown slice, along one side. */
function sourceOf(at, length) {
  const long = Math.max(length, LEAST);
  return Math.min(at < long ? at : 2 * (long - 1) - at, length - 1);
}

/** One layer's numbers over a slice, with a margin of zeros that 3 x 3 filters may look into. */
class Plane {
  constructor(rows, columns, channels) {
    Object.assign(this, { rows, columns, channels });
    this.rowBytes = (columns + 2) * channels * 4;
    this.bytes = (rows + 2) * this.rowBytes;
    this.done = new Uint8Array(rows * columns);
  }

  /** Where a cell lies in memory, in bytes; -1 is the margin. */
  place(row, column) {
    return this.start + (row + 1) * this.rowBytes + (column + 1) * this.channels * 4;
  }

  /** The part of a box [top, bottom, left, right) that is still to be computed, as a box; null if none is. */
  missing([top, bottom, left, right]) {
    let box = null;
    for (let row = Math.max(top, 0); row < Math.min(bottom, this.rows); row++)
      for (let column = Math.max(left, 0); column < Math.min(right, this.columns); column++)
        if (!this.done[row * this.columns + column]) {
          if (!box) box = [row, row, column, column];
          box = [box[0], row, Math.min(box[2], column), Math.max(box[3], column)];
        }
    return box && [box[0], box[1] + 1, box[2], box[3] + 1];
  }
}

class Engine {
  /**
   * @param {BufferSource} wasm `cell.wat`, assembled.
   * @param {object} network `convolutions`, each with `shape` (rows, columns, in, out), `filters` and `bias`; `bank`
   *   (side, side, filters) with `side`; `seenHu`, `unitHu`, `softHu`.
   */
  constructor(wasm, network) {
    this.network = network;
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), {});
    this.memory = exports.memory;
    this.cell = exports.cell;
    this.end = 16; // A place of 0 means that nothing is added.
    const last = network.convolutions.length - 1;
    // What spreads over phases of the slice is kept apart by the phase: two rows of the cells above, four pixels.
    this.weights = network.convolutions.map((convolution, i) => this.packed(convolution, { 12: 2, [last]: 4 }[i] || 1));
    this.bank = this.packed(this.taps(), 1)[0];
    this.shares = this.reserve(GROUP * 4);
    this.kernel = this.reserve(this.bank.outputs * 4);
    this.free = this.end;
    this.grown = [0, 0];
  }

  reserve(bytes) {
    const start = this.end;
    this.end += (bytes + 15) & ~15;
    const missing = this.end - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / 65536));
    return start;
  }

  /** Lays weights (rows, columns, in, out) out as (rows, columns, in, 32) for each 32 channels out, in `parts`. */
  packed({ shape, filters, bias }, parts) {
    const [rows, columns, inputs, outputs] = shape;
    const [taps, size] = [columns * inputs, outputs / parts];
    const start = this.reserve(filters.length * 4);
    const biasStart = this.reserve(outputs * 4);
    const target = new Float32Array(this.memory.buffer, start, filters.length);
    let at = 0;
    for (let group = 0; group < outputs; group += GROUP)
      for (let tap = 0; tap < rows * taps; tap++)
        for (let c = 0; c < GROUP; c++) target[at++] = filters[tap * outputs + group + c];
    new Float32Array(this.memory.buffer, biasStart, outputs).set(bias);
    return Array.from({ length: parts }, (_, part) => ({
      ...{ rows, taps, outputs: size },
      start: start + part * rows * taps * size * 4,
      bias: biasStart + part * size * 4,
    }));
  }

  /** The bank as a convolution of the shares: taps beyond the last whole group are zero. */
  taps() {
    const { bank, side } = this.network;
    const outputs = Math.ceil((side * side) / GROUP) * GROUP;
    const filters = new Float32Array(GROUP * outputs);
    for (let tap = 0; tap < side * side; tap++)
      for (let c = 0; c < GROUP; c++) filters[c * outputs + tap] = bank[tap * GROUP + c];
    return { shape: [1, 1, GROUP, outputs], filters, bias: new Float32Array(outputs) };
  }

  /** Turns to another slice: a Float32Array of rows x columns in HU, air where nothing was reconstructed. */
  show(hu, rows, columns) {
    const grown = [rows, columns].map(grownLength);
    if (grown.some((length, i) => length !== this.grown[i])) this.lay(grown);
    for (const plane of this.planes) plane.done.fill(0);
    const input = this.planes[0];
    input.done.fill(1);
    const { seenHu, unitHu, softHu } = this.network;
    const [[lowest, highest], [low, high]] = [seenHu, softHu];
    for (let row = 0; row < grown[0]; row++) {
      const from = sourceOf(row, rows) * columns;
      for (let column = 0; column < grown[1]; column++) {
        const value = Math.min(Math.max(hu[from + sourceOf(column, columns)], lowest), highest);
        const at = (input.place(row >> 1, column >> 1) >> 2) + (row & 1) * 4 + (column & 1) * 2;
        this.numbers[at] = value / unitHu;
        this.numbers[at + 1] = (Math.min(Math.max(value, low), high) - (low + high) / 2) / ((high - low) / 4);
      }
    }
  }

  /** Makes room for slices of another size; the order of the convolutions is that of `EdgeNetwork.shares`. */
  lay(grown) {
    this.end = this.free;
    const half = grown.map((length) => length / 2);
    const quarter = grown.map((length) => length / 4);
    this.planes = [new Plane(...half, 8)];
    this.layers = [null];
    const add = (size, number, from, more) => {
      const layer = { parts: this.weights[number], from, relu: 0, added: null, stride: 1, ...more };
      this.planes.push(new Plane(...size, layer.channels || layer.parts[0].outputs));
      return this.layers.push(layer) - 1;
    };
    const block = (size, number, from) =>
      add(size, number + 1, add(size, number, from, { relu: 1 }), { added: from });
    const fine = block(half, 1, add(half, 0, 0));
    let coarse = add(quarter, 3, fine, { stride: 2 });
    for (let number = 4; number < 12; number += 2) coarse = block(quarter, number, coarse);
    const joined = add(half, 12, coarse, { added: fine, stride: 0.5, channels: GROUP });
    block(half, 13, joined);
    for (const plane of this.planes) plane.start = this.reserve(plane.bytes);
    this.numbers = new Float32Array(this.memory.buffer);
    for (const plane of this.planes) this.numbers.fill(0, plane.start >> 2, (plane.start + plane.bytes) >> 2);
    this.grown = grown;
  }

  /** Computes what is missing of a layer in a box [top, bottom, left, right) of its cells. */
  need(number, wanted) {
    const [plane, layer] = [this.planes[number], this.layers[number]];
    let box = plane.missing(wanted);
    if (!box) return;
    const { parts, from, relu, added, stride } = layer;
    const source = this.planes[from];
    // A cell of the coarse plane becomes two by two.
    if (stride < 1) box = box.map((edge, i) => (i % 2 ? edge + (edge & 1) : edge & ~1));
    const margin = parts[0].rows === 3 ? 1 : 0;
    const [top, bottom, left, right] = box;
    this.need(from, [top * stride - margin, bottom * stride + margin, left * stride - margin, right * stride + margin]);
    if (added !== null) this.need(added, box);
    const groups = parts[0].outputs / GROUP;
    const step = stride < 1 ? 2 : 1;
    for (let row = top; row < bottom; row++) {
      const { rows, taps, start, bias } = parts[row % parts.length];
      for (let column = left; column < right; column += step) {
        const cell = row * plane.columns + column;
        if (plane.done[cell]) continue;
        const input = source.place(Math.floor(row * stride) - margin, Math.floor(column * stride) - margin);
        const output = plane.place(row, column);
        const more = added === null ? 0 : this.planes[added].place(row, column);
        this.cell(input, source.rowBytes, rows, taps, start, bias, more, output, groups, relu);
        plane.done.fill(1, cell, cell + step);
      }
    }
  }

  /** The kernel of a pixel: side x side taps, rows first, which lie in memory until the next call. */
  kernelAt(row, column) {
    const last = this.planes.length - 1;
    const [y, x] = [row >> 1, column >> 1];
    this.need(last, [y, y + 1, x, x + 1]);
    const predictor = this.weights.at(-1)[(row & 1) * 2 + (column & 1)];
    this.cell(this.planes[last].place(y, x), 0, 1, predictor.taps, predictor.start, predictor.bias, 0, this.shares, 1, 0);
    const shares = this.numbers.subarray(this.shares >> 2, (this.shares >> 2) + GROUP);
    let [largest, sum] = [-Infinity, 0];
    for (let c = 0; c < GROUP; c++) if (shares[c] > largest) largest = shares[c];
    for (let c = 0; c < GROUP; c++) sum += shares[c] = Math.exp(shares[c] - largest);
    for (let c = 0; c < GROUP; c++) shares[c] /= sum;
    const { taps, start, bias, outputs } = this.bank;
    this.cell(this.shares, 0, 1, taps, start, bias, 0, this.kernel, outputs / GROUP, 0);
    return this.numbers.subarray(this.kernel >> 2, (this.kernel >> 2) + this.network.side ** 2);
  }
}

/**
 * What a kernel of side x side taps says: `radius`, the root mean square distance of its taps from the middle, weighed
 * by their size without sign, in pixels; `angle` of its long axis in degrees from 0 to 180, 0 along the rows and 90
 * upwards, and `anisotropy` from 0, round, to 1, a line, both weighed by their squares, for the many small taps far out
 * have no direction; `noise`, what is left of white noise.
 */
function describe(kernel, side) {
  const radius = side >> 1;
  let [size, squares, energy, yy, xx, yx] = [0, 0, 0, 0, 0, 0];
  for (let y = -radius, tap = 0; y <= radius; y++)
    for (let x = -radius; x <= radius; x++, tap++) {
      const weight = Math.abs(kernel[tap]);
      size += weight;
      squares += weight * (y * y + x * x);
      const square = weight * weight;
      energy += square;
      yy += square * y * y;
      xx += square * x * x;
      yx += square * y * x;
    }
  const degrees = (Math.atan2(-2 * yx, xx - yy) * 90) / Math.PI;
  return {
    radius: Math.sqrt(squares / size),
    angle: (degrees + 180) % 180,
    anisotropy: yy + xx > 0 ? Math.hypot(xx - yy, 2 * yx) / (yy + xx) : 0,
    noise: Math.sqrt(energy),
  };
}
