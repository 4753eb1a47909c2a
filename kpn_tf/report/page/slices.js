// Slices out of the text they travel in: `kpn_tf.report.codec` is the other side of this.

"use strict";

const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";
const DIGITS = new Uint8Array(128);
for (let i = 0; i < 85; i++) DIGITS[LETTERS.charCodeAt(i)] = i;

/** Base 85: five letters to four bytes; a shorter last group has as many bytes as letters, less one. */
function bytes(text) {
  const groups = Math.ceil(text.length / 5);
  const values = new Uint8Array(groups * 4);
  for (let group = 0; group < groups; group++) {
    let number = 0;
    for (let i = group * 5; i < group * 5 + 5; i++) number = number * 85 + (i < text.length ? DIGITS[text.charCodeAt(i)] : 84);
    for (let i = 3; i >= 0; i--, number = Math.floor(number / 256)) values[group * 4 + i] = number % 256;
  }
  return values.slice(0, groups * 4 - (groups * 5 - text.length));
}

const floats = (text) => new Float32Array(bytes(text).buffer);

const textOf = (id) => document.getElementById(id).textContent;

const MARGIN = 2;

async function inflated(id) {
  const stream = new Blob([bytes(textOf(id))]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const ROWS_AT_ONCE = 64;

/** Lets the browser answer the mouse before it goes on; a timer would wait for milliseconds. */
function pause() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** Codes of an image, with a margin of zeros, from the errors of their prediction and the images known before. */
async function codesOf(planes, weights, rows, columns, known) {
  const width = columns + 2 * MARGIN;
  const codes = new Int32Array((rows + 2 * MARGIN) * width);
  const { own, others, unit } = REPORT.codec;
  const places = (offsets) => offsets.map(([row, column]) => row * width + column);
  const [near, around] = [places(own), places(others)];
  for (let row = 0, i = 0; row < rows; row++) {
    if (row % ROWS_AT_ONCE === 0) await pause();
    for (let column = 0; column < columns; column++, i++) {
      const at = (row + MARGIN) * width + column + MARGIN;
      let sum = unit / 2;
      let n = 0;
      for (let k = 0; k < near.length; k++) sum += weights[n++] * codes[at + near[k]];
      for (const image of known) for (let k = 0; k < around.length; k++) sum += weights[n++] * image[at + around[k]];
      const expected = Math.min(Math.max(Math.floor(sum / unit), 0), 65535);
      const folded = planes[i] | (planes[rows * columns + i] << 8);
      codes[at] = (expected + (folded & 1 ? -((folded + 1) >> 1) : folded >> 1)) & 65535;
    }
  }
  return codes;
}

// What was read last of what networks see beside slices: neighbours are asked for again.
const LATELY = new Map();
const MOST_LATELY = 12;

/** One image in HU, NaN outside the field of view, that was predicted from no other. */
function readAlone(image, rows, columns) {
  const read = LATELY.get(image.id) || readImages({ images: [{ ...image, kind: "alone" }], rows, columns }).then(({ alone }) => alone);
  LATELY.delete(image.id);
  LATELY.set(image.id, read);
  if (LATELY.size > MOST_LATELY) LATELY.delete(LATELY.keys().next().value);
  return read;
}

/** Images of a slice by name, each a Float32Array in HU, NaN outside the field of view. */
async function readImages({ images, rows, columns }) {
  const planes = await Promise.all(images.map(({ id }) => inflated(id)));
  const [known, read] = [[], {}];
  for (const [n, { kind, weights, origin, step }] of images.entries()) {
    const codes = await codesOf(planes[n], weights, rows, columns, known);
    known.push(codes);
    const hu = (read[kind] = new Float32Array(rows * columns));
    for (let row = 0, i = 0; row < rows; row++)
      for (let column = 0; column < columns; column++, i++) {
        const code = codes[(row + MARGIN) * (columns + 2 * MARGIN) + column + MARGIN];
        hu[i] = code ? origin + code * step : NaN;
      }
  }
  return read;
}
