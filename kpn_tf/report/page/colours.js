// Numbers to colours. Safe with every kind of colour vision: grey, cividis (Nunez, Anderton and Renslow 2018), the
// cyclic twilight of matplotlib (CC0), and three of the colours of Okabe and Ito (2008).

"use strict";

const CIVIDIS =
  "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c cdbb63 dec958 f0d846 fee838";
const TWILIGHT =
  "e2d9e2 c4ced4 95b5c7 7297c1 6276ba 5e51ad 592a8f 45135c 2f1436 4a1342 741e4f 983550 b25652 c27c63 cca389 d8c7be e2d9e2";

/** 256 colours, each a number as ImageData lays them out in memory, between anchors. */
function ramp(anchors) {
  const stops = anchors.split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1);
    const below = Math.min(Math.floor(at), stops.length - 2);
    return packed(stops[below].map((value, c) => value + (stops[below + 1][c] - value) * (at - below)));
  });
}

const packed = ([red, green, blue]) =>
  (255 << 24) | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red);

const GREY = ramp("000000 ffffff");
const MAP = ramp(CIVIDIS);
const CYCLE = ramp(TWILIGHT);

// The colours of `kpn_tf.figures.structure`.
const STRUCTURE = { edge: [86, 180, 233], flat: [0, 0, 0], fine: [230, 159, 0] };

const OUTSIDE = packed([0, 0, 0]);

function paintRamp(target, values, colours, { low, high }) {
  const scale = 255 / (high - low);
  for (let i = 0; i < target.length; i++) {
    const value = values[i];
    // NaN, outside the field of view, is not equal to itself.
    target[i] = value === value ? colours[Math.round(Math.min(Math.max((value - low) * scale, 0), 255))] : OUTSIDE;
  }
}

/** The direction as a colour of the cycle; grey, which is not in it, the rounder the kernel. */
function paintDirection(target, angle, anisotropy) {
  for (let i = 0; i < target.length; i++) {
    const colour = CYCLE[Math.round((angle[i] / 180) * 255)];
    // Kernels twice as long as wide, 0.6, are as directed as they get.
    const share = Math.min(1, anisotropy[i] / 0.6);
    target[i] = packed([0, 8, 16].map((shift) => ((colour >> shift) & 255) * share + 128 * (1 - share)));
  }
}

function paintStructure(target, [edge, flat, fine]) {
  const { edge: e, flat: f, fine: n } = STRUCTURE;
  for (let i = 0; i < target.length; i++)
    target[i] = packed([0, 1, 2].map((c) => e[c] * edge[i] + f[c] * flat[i] + n[c] * fine[i]));
}

/** A tap as a share of the largest, from -1 to 1, by its root: blue below zero, red above, white at zero. */
function tapColour(share) {
  const depth = Math.sqrt(Math.min(1, Math.abs(share)));
  const pure = share < 0 ? [33, 102, 172] : [178, 24, 43];
  return packed(pure.map((value) => 255 + (value - 255) * depth));
}
