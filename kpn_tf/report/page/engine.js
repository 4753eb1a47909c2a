// The kernels of a network, computed from its layers where and when they are asked for.
//
// The layers are those of the network's own graph (`kpn_tf.report.layers`). What works on whole HU is computed at once;
// every later layer keeps what it has computed of a slice. What a pixel lacks of its context, some 91 x 91 pixels, is
// computed then: the first pixel costs milliseconds, its neighbours next to nothing. Runs in the page and in its worker.

"use strict";

// Channels that the WebAssembly function computes at once; every layer has whole groups of them.
const GROUP = 32;
const grouped = (channels) => Math.ceil(channels / GROUP) * GROUP;

// What is computed number by number: `b` has one number, or as many as `a`. A loop each, which a browser makes fast.
const ONE_BY_ONE = {
  minimum: (a, b, step) => a.map((x, i) => Math.min(x, b[i * step])),
  maximum: (a, b, step) => a.map((x, i) => Math.max(x, b[i * step])),
  add: (a, b, step) => a.map((x, i) => x + b[i * step]),
  sub: (a, b, step) => a.map((x, i) => x - b[i * step]),
  mul: (a, b, step) => a.map((x, i) => x * b[i * step]),
  greater: (a, b, step) => a.map((x, i) => (x > b[i * step] ? 1 : 0)),
  neg: (a) => a.map((x) => -x),
  exp: (a) => a.map((x) => Math.exp(x)),
  relu: (a) => a.map((x) => Math.max(x, 0)),
};

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
   * @param {object} network `layers` of `kpn_tf.report.layers.Layers`, those with `weights` with `filters` and `bias`
   *   too; `scores`, what happens to them before their softmax; `banks`, of each slice the filters as kernels (phases, filters, side, side), and `filters`, how many;
   *   `side`; `least` and `multiple`, as which the network grows a slice.
   */
  constructor(wasm, network) {
    this.network = network;
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), {});
    this.memory = exports.memory;
    this.cell = exports.cell;
    this.end = 16; // A place of 0 means that nothing is added.
    const { layers, banks, filters, side } = network;
    this.count = filters.reduce((sum, count) => sum + count, 0);
    // How many numbers a cell of each layer has, and how far apart the cells lie: what is filled at once has no gaps.
    this.channels = [];
    this.widths = [];
    for (const layer of layers) {
      const channels = this.channelsOf(layer);
      this.channels.push(channels);
      this.widths.push(layer.kind === "space_to_depth" ? channels : grouped(channels));
    }
    this.phases = this.channels.at(-1) / this.count;
    this.weights = layers.map((layer, i) => {
      if (layer.kind !== "conv_2d") return null;
      // The scores of each phase are kept apart: a pixel has one phase.
      return this.packed(layer, this.widths[layer.from[0]], i === layers.length - 1 ? this.phases : 1);
    });
    this.banks = banks.map((taps, z) => {
      const shape = [1, 1, filters[z], side * side];
      const size = filters[z] * side * side;
      return Array.from({ length: taps.length / size }, (_, phase) => {
        const bank = { shape, filters: taps.subarray(phase * size, (phase + 1) * size), bias: new Float32Array(side * side) };
        return this.packed(bank, filters[z], 1)[0];
      });
    });
    this.shares = this.reserve(grouped(this.count) * 4);
    this.kernel = this.reserve((banks.length * side * side + GROUP) * 4);
    this.free = this.end;
    this.grown = [0, 0];
  }

  channelsOf({ kind, from, shape, block }) {
    const own = (i) => this.channels[from[i]];
    if (kind === "slice_hu" || kind === "distances_mm") return this.network.banks.length;
    if (kind === "conv_2d" || kind === "fully_connected") return shape[3];
    if (kind === "concatenation") return from.reduce((sum, layer) => sum + this.channels[layer], 0);
    if (kind === "space_to_depth") return own(0) * block * block;
    return kind === "depth_to_space" ? own(0) / (block * block) : own(0);
  }

  reserve(bytes) {
    const start = this.end;
    this.end += (bytes + 15) & ~15;
    const missing = this.end - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / 65536));
    return start;
  }

  /**
   * Lays weights (rows, columns, in, out) out as (rows, columns, width, 32) for each 32 channels out, in `parts`; what
   * is missing of `width` channels in and of the last 32 out is zero.
   */
  packed({ shape, filters, bias }, width, parts) {
    const [rows, columns, inputs, all] = shape;
    const outputs = all / parts;
    const taps = columns * width;
    return Array.from({ length: parts }, (_, part) => {
      const start = this.reserve(rows * taps * grouped(outputs) * 4);
      const biasStart = this.reserve(grouped(outputs) * 4);
      const target = new Float32Array(this.memory.buffer, start, rows * taps * grouped(outputs));
      for (let out = 0; out < outputs; out++) {
        const group = Math.floor(out / GROUP) * rows * taps * GROUP + (out % GROUP);
        for (let cell = 0; cell < rows * columns; cell++)
          for (let c = 0; c < inputs; c++)
            target[group + (cell * width + c) * GROUP] = filters[(cell * inputs + c) * all + part * outputs + out];
      }
      new Float32Array(this.memory.buffer, biasStart, outputs).set(bias.subarray(part * outputs, (part + 1) * outputs));
      return { rows, taps, start, bias: biasStart, groups: grouped(outputs) / GROUP };
    });
  }

  /** How long a side is as the network sees it: it repeats the edge of a short one, and goes on 1234 32 up to `multiple`. */
  grownLength(length) {
    const { least, multiple } = this.network;
    return Math.ceil(Math.max(length, least) / multiple) * multiple;
  }

  /** The pixel of the slice at a place of the grown slice, along one side; beyond its border it is mirrored once more. */
  sourceOf(at, length) {
    const [grown, long] = [this.grownLength(length), Math.max(length, this.network.least)];
    const inside = at < 0 ? -at : at < grown ? at : 2 * (grown - 1) - at;
    return Math.min(inside < long ? inside : 2 * (long - 1) - inside, length - 1);
  }

  /**
   * Turns to another slice.
   * @param {Float32Array[]} stack Its images, rows x columns in HU, air where nothing was reconstructed.
   * @param {number[]} distances In mm, 0 for a neighbour that is not there.
   */
  show(stack, rows, columns, distances) {
    this.distances = distances;
    const grown = [rows, columns].map((length) => this.grownLength(length));
    if (grown.some((length, i) => length !== this.grown[i])) this.lay(grown);
    const values = [];
    for (const [number, layer] of this.network.layers.entries()) {
      const plane = this.planes[number];
      if (plane) plane.done.fill(0);
      const operands = layer.from ? layer.from.map((from) => values[from]) : [];
      if (layer.kind === "slice_hu") values[number] = this.interleaved(stack, rows, columns, grown);
      else if (layer.kind === "distances_mm") values[number] = Float32Array.from(distances);
      else if (!operands[0]) continue; // A layer of planes: computed when it is asked for.
      else if (layer.kind === "space_to_depth") this.spread(operands[0], plane, layer.block);
      else values[number] = this.atOnce(layer, operands);
      if (this.vectors[number]) this.numbers.set(values[number], this.vectors[number] >> 2);
    }
  }

  interleaved(stack, rows, columns, [height, width]) {
    const all = new Float32Array(height * width * stack.length);
    for (let row = 0, at = 0; row < height; row++) {
      const from = this.sourceOf(row, rows) * columns;
      for (let column = 0; column < width; column++) {
        const pixel = from + this.sourceOf(column, columns);
        for (const image of stack) all[at++] = image[pixel];
      }
    }
    return all;
  }

  /** One of the layers before the planes: of numbers one by one, side by side, or all of them with weights. */
  atOnce({ kind, from, value, relu, filters, bias, shape }, operands) {
    let result;
    if (kind === "concatenation") {
      const counts = from.map((layer) => this.channels[layer]);
      const channels = counts.reduce((sum, count) => sum + count, 0);
      const cells = operands[0].length / counts[0];
      result = new Float32Array(cells * channels);
      let offset = 0;
      for (const [n, count] of counts.entries()) {
        for (let cell = 0; cell < cells; cell++)
          for (let c = 0; c < count; c++) result[cell * channels + offset + c] = operands[n][cell * count + c];
        offset += count;
      }
    } else if (kind === "fully_connected") {
      result = bias.map((start, out) => operands[0].reduce((sum, x, i) => sum + x * filters[i * shape[3] + out], start));
    } else {
      const other = value === undefined ? operands[1] : [value];
      result = ONE_BY_ONE[kind](operands[0], other, value === undefined ? 1 : 0);
    }
    return relu ? ONE_BY_ONE.relu(result) : result;
  }

  /** Fills a plane with the blocks of an image: row in the block, column in it, channel. */
  spread(image, plane, block) {
    const channels = plane.channels / (block * block);
    const run = block * channels;
    for (let row = 0, from = 0; row < plane.rows * block; row++)
      for (let column = 0; column < plane.columns; column++, from += run) {
        const at = (plane.place(Math.floor(row / block), column) >> 2) + (row % block) * run;
        for (let c = 0; c < run; c++) this.numbers[at + c] = image[from + c];
      }
    plane.done.fill(1);
  }

  /** Makes room for slices of another size: planes for what is computed where it is asked for, and vectors. */
  lay(grown) {
    this.end = this.free;
    this.planes = [];
    this.vectors = [];
    const { layers } = this.network;
    layers.forEach(({ kind, from, stride, block }, number) => {
      const source = from && this.planes[from[0]];
      let size = source && [source.rows, source.columns];
      if (kind === "space_to_depth") size = (size || grown).map((length) => length / block);
      else if (!source) {
        if (kind === "fully_connected") this.vectors[number] = this.reserve(this.widths[number] * 4);
        return;
      }
      if (kind === "depth_to_space") size = size.map((length) => length * block);
      if (kind === "conv_2d") size = size.map((length) => length / stride);
      // The scores are computed for one pixel at a time.
      if (number < layers.length - 1) this.planes[number] = new Plane(...size, this.widths[number]);
    });
    for (const plane of this.planes) if (plane) plane.start = this.reserve(plane.bytes);
    this.numbers = new Float32Array(this.memory.buffer);
    for (const plane of this.planes) if (plane) this.numbers.fill(0, plane.start >> 2, (plane.start + plane.bytes) >> 2);
    this.grown = grown;
  }

  /** Computes what is missing of a layer in a box [top, bottom, left, right) of its cells. */
  need(number, wanted) {
    const plane = this.planes[number];
    const box = plane.missing(wanted);
    if (!box) return;
    const { kind, from, stride = 1, block = 1, shape, relu } = this.network.layers[number];
    const margin = kind === "conv_2d" && stride === 1 ? shape[0] >> 1 : 0;
    const [top, bottom, left, right] = box;
    const first = [top * stride - margin, bottom * stride + margin, left * stride - margin, right * stride + margin];
    if (kind === "depth_to_space") this.need(from[0], box.map((edge, i) => (i % 2 ? Math.ceil : Math.floor)(edge / block)));
    else this.need(from[0], first);
    if (from[1] !== undefined && this.planes[from[1]]) this.need(from[1], box);
    const compute = this[kind](this.planes[from[0]], plane, { number, margin, stride, block, other: from[1], relu: relu ? 1 : 0 });
    for (let row = top; row < bottom; row++)
      for (let column = left; column < right; column++) {
        const cell = row * plane.columns + column;
        if (plane.done[cell]) continue;
        compute(row, column);
        plane.done[cell] = 1;
      }
  }

  /** Where the second operand of a layer lies for a cell: a plane's cell, a vector for all cells, 0 for none. */
  placeOf(other, row, column) {
    if (other === undefined) return 0;
    return this.planes[other] ? this.planes[other].place(row, column) : this.vectors[other];
  }

  // Each of these returns a function that computes one cell of a layer.

  conv_2d(source, plane, { number, margin, stride, other, relu }) {
    const [{ rows, taps, start, bias, groups }] = this.weights[number];
    return (row, column) => {
      const input = source.place(row * stride - margin, column * stride - margin);
      const added = this.placeOf(other, row, column);
      this.cell(input, source.rowBytes, rows, taps, start, bias, added, plane.place(row, column), groups, relu);
    };
  }

  depth_to_space(source, plane, { number, block }) {
    const channels = this.channels[number];
    return (row, column) => {
      const phase = (row % block) * block + (column % block);
      const from = (source.place(Math.floor(row / block), Math.floor(column / block)) >> 2) + phase * channels;
      this.numbers.copyWithin(plane.place(row, column) >> 2, from, from + channels);
    };
  }

  relu(source, plane) {
    return (row, column) => {
      const [from, to] = [source.place(row, column) >> 2, plane.place(row, column) >> 2];
      for (let c = 0; c < plane.channels; c++) this.numbers[to + c] = Math.max(this.numbers[from + c], 0);
    };
  }

  add(source, plane, { other, relu }) {
    const least = relu ? 0 : -Infinity;
    return (row, column) => {
      const [from, to] = [source.place(row, column) >> 2, plane.place(row, column) >> 2];
      const added = this.placeOf(other, row, column) >> 2;
      for (let c = 0; c < plane.channels; c++)
        this.numbers[to + c] = Math.max(this.numbers[from + c] + this.numbers[added + c], least);
    };
  }

  /** Computes all that the kernels of some rows of the slice need. */
  prepare(top, bottom) {
    const { plane, block } = this.last();
    const columns = Math.ceil(this.grown[1] / block);
    this.need(plane, [Math.floor(top / block), Math.ceil(bottom / block), 0, columns]);
  }

  /** The layer that the scores are made from, and the side of the block of pixels whose scores a cell has. */
  last() {
    return { plane: this.network.layers.at(-1).from[0], block: Math.sqrt(this.phases) };
  }

  /** The kernels of a pixel for all slices, one after the other: side x side taps, rows first, there until the next call. */
  kernelAt(row, column) {
    const { plane, block } = this.last();
    const [y, x] = [Math.floor(row / block), Math.floor(column / block)];
    this.need(plane, [y, y + 1, x, x + 1]);
    const phase = (row % block) * block + (column % block);
    const { taps, start, bias, groups } = this.weights.at(-1)[phase];
    this.cell(this.planes[plane].place(y, x), 0, 1, taps, start, bias, 0, this.shares, groups, 0);
    const shares = this.numbers.subarray(this.shares >> 2, (this.shares >> 2) + this.count);
    for (const { kind, value } of this.network.scores) {
      const by = kind === "centre" ? shares.reduce((total, score) => total + score, 0) / this.count : value;
      for (let c = 0; c < this.count; c++) {
        if (kind === "centre") shares[c] -= by;
        else shares[c] = kind === "minimum" ? Math.min(shares[c], by) : Math.max(shares[c], by);
      }
    }
    let [largest, sum] = [-Infinity, 0];
    for (let c = 0; c < this.count; c++) if (shares[c] > largest) largest = shares[c];
    for (let c = 0; c < this.count; c++) sum += shares[c] = Math.exp(shares[c] - largest);
    for (let c = 0; c < this.count; c++) shares[c] /= sum;
    const { side, filters } = this.network;
    let [from, to] = [this.shares, this.kernel];
    for (const [z, phases] of this.banks.entries()) {
      const bank = phases[phases.length > 1 ? phase : 0];
      // The last of whole groups run over into the next slice's place, which is written then.
      this.cell(from, 0, 1, bank.taps, bank.start, bank.bias, 0, to, bank.groups, 0);
      from += filters[z] * 4;
      to += side * side * 4;
    }
    const kernels = this.numbers.subarray(this.kernel >> 2, to >> 2);
    const [size, middle] = [side * side, filters.length >> 1];
    // For a neighbour that is not there the network saw the slice itself: what it took of it came from there.
    for (const [z, distance] of this.distances.entries())
      if (z !== middle && !distance)
        for (let tap = 0; tap < size; tap++) {
          kernels[middle * size + tap] += kernels[z * size + tap];
          kernels[z * size + tap] = 0;
        }
    return kernels;
  }
}

/** The kernel of `x + strength * (net(x) - x)`: its sum stays what it is. */
function weakened(kernel, strength) {
  if (strength === 1) return kernel;
  const weak = kernel.map((tap) => strength * tap);
  weak[kernel.length >> 1] += 1 - strength;
  return weak;
}

/**
 * What the kernels of a pixel say, side x side taps for each slice: of the slice itself `radius`, the root mean square distance of its taps from the middle, weighed
 * by their size without sign, in pixels; `angle` of its long axis in degrees from 0 to 180, 0 along the rows and 90
 * upwards, and `anisotropy` from 0, round, to 1, a line, both weighed by their squares, for the many small taps far out
 * have no direction; of all slices `noise`, what is left of white noise, and `others`, how much came from other slices
 * than this one, in percent.
 */
function describe(kernel, side) {
  const radius = side >> 1;
  let [size, squares, sum, energy, yy, xx, yx] = [0, 0, 0, 0, 0, 0, 0];
  for (let y = -radius, tap = (kernel.length - side * side) / 2; y <= radius; y++)
    for (let x = -radius; x <= radius; x++, tap++) {
      const weight = Math.abs(kernel[tap]);
      size += weight;
      sum += kernel[tap];
      squares += weight * (y * y + x * x);
      const square = weight * weight;
      yy += square * y * y;
      xx += square * x * x;
      yx += square * y * x;
    }
  let all = 0;
  for (let tap = 0; tap < kernel.length; tap++) {
    all += kernel[tap];
    energy += kernel[tap] * kernel[tap];
  }
  const degrees = (Math.atan2(-2 * yx, xx - yy) * 90) / Math.PI;
  return {
    radius: Math.sqrt(squares / size),
    angle: (degrees + 180) % 180,
    anisotropy: yy + xx > 0 ? Math.hypot(xx - yy, 2 * yx) / (yy + xx) : 0,
    noise: Math.sqrt(energy),
    others: 100 * (all - sum),
  };
}
