// What can be computed from slices alone: noise and structure. Pixels outside the field of view count as air.

"use strict";

/**
 * Weighted sums over the window around every pixel, along rows and then columns, as far as it lies inside. Added up
 * anew for every pixel: a running sum would leave traces of an edge in the air beside it.
 */
function windowSums(values, rows, columns, down, across) {
  const radius = across.length >> 1;
  let source = values;
  for (const [weights, length, step] of [
    [across, columns, 1],
    [down, rows, columns],
  ]) {
    const target = new Float64Array(values.length);
    for (let i = 0; i < values.length; i++) {
      const at = Math.floor(i / step) % length;
      let sum = 0;
      for (let tap = Math.max(-radius, -at); tap <= Math.min(radius, length - 1 - at); tap++)
        sum += weights[tap + radius] * source[i + tap * step];
      target[i] = sum;
    }
    source = target;
  }
  return source;
}

/**
 * Standard deviation about a plane in the window around every pixel, in HU, NaN nearer to the border than half a
 * window; `kpn_tf.metrics.noise_std_map` is the definition.
 */
function noiseMap(hu, rows, columns, side) {
  const radius = side >> 1;
  const ones = new Array(side).fill(1);
  const ramp = ones.map((_, i) => i - radius);
  const [count, moment] = [side * side, side * ramp.reduce((sum, i) => sum + i * i, 0)];
  const sums = (values, down, across) => windowSums(values, rows, columns, down, across);
  const squares = sums(Float64Array.from(hu, (value) => value * value), ones, ones);
  const [total, slope, tilt] = [sums(hu, ones, ones), sums(hu, ramp, ones), sums(hu, ones, ramp)];
  return Float32Array.from(squares, (square, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    if (Math.min(row, column, rows - 1 - row, columns - 1 - column) < radius) return NaN;
    const residual = square - total[i] ** 2 / count - (slope[i] ** 2 + tilt[i] ** 2) / moment;
    return Math.sqrt(Math.max(0, residual) / (count - 3));
  });
}

/**
 * Weights of squared error (edge), absolute error (flat) and similarity (fine structure) in the structure-aware loss;
 * `kpn_tf.losses.StructureAwareLoss.weights` is the definition. Three Float32Arrays that sum to one.
 */
function structureMap(hu, rows, columns, { size, softHu, sigmaL2, sigmaL1 }) {
  const [low, high] = softHu;
  const unit = hu.map((value) => (Math.min(Math.max(value, low), high) - low) / (high - low));
  const products = [0, 1, 2].map(() => new Float64Array(rows * columns));
  // The border mirrored, the edge not repeated: there, central differences are zero.
  for (let row = 0, i = 0; row < rows; row++)
    for (let column = 0; column < columns; column++, i++) {
      const inRow = column > 0 && column < columns - 1;
      const inColumn = row > 0 && row < rows - 1;
      const x = inRow ? (unit[i + 1] - unit[i - 1]) / 2 : 0;
      const y = inColumn ? (unit[i + columns] - unit[i - columns]) / 2 : 0;
      products[0][i] = x * x;
      products[1][i] = x * y;
      products[2][i] = y * y;
    }
  const ones = new Array(size).fill(1);
  const sums = products.map((product) => windowSums(product, rows, columns, ones, ones));
  // At the border the sum is scaled up to a whole window.
  const inside = (at, length) => Math.min(at + (size >> 1), length - 1) - Math.max(at - (size >> 1), 0) + 1;
  const weights = [0, 1, 2].map(() => new Float32Array(rows * columns));
  for (let i = 0; i < rows * columns; i++) {
    const scale = (size * size) / (inside(Math.floor(i / columns), rows) * inside(i % columns, columns));
    const [xx, xy, yy] = sums.map((sum) => sum[i] * scale);
    const [middle, spread] = [(xx + yy) / 2, Math.hypot((xx - yy) / 2, xy)];
    const [larger, smaller] = [middle + spread, Math.max(middle - spread, 0)];
    const [s1, s2] = [Math.sqrt(larger), Math.sqrt(smaller)];
    const coherence = (s1 - s2) / Math.max(s1 + s2, 1e-12);
    const scores = [coherence * sigmaL2, sigmaL1, larger].map(Math.exp);
    const sum = scores[0] + scores[1] + scores[2];
    weights.forEach((weight, channel) => (weight[i] = scores[channel] / sum));
  }
  return weights;
}

/** Mean and sample standard deviation over a disc, in HU; pixels outside the field of view are left out. */
function discStatistics(hu, rows, columns, spacing, { row, column, radiusMm }) {
  let [count, sum, squares] = [0, 0, 0];
  const [up, across] = spacing.map((mm) => Math.ceil(radiusMm / mm));
  for (let y = Math.max(0, row - up); y <= Math.min(rows - 1, row + up); y++)
    for (let x = Math.max(0, column - across); x <= Math.min(columns - 1, column + across); x++) {
      const value = hu[y * columns + x];
      if (Math.hypot((y - row) * spacing[0], (x - column) * spacing[1]) > radiusMm || Number.isNaN(value)) continue;
      count += 1;
      sum += value;
      squares += value * value;
    }
  const mean = sum / count;
  return { count, mean, sd: count > 1 ? Math.sqrt(Math.max(0, squares / count - mean * mean) * (count / (count - 1))) : NaN };
}
