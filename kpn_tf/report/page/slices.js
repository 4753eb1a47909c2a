// Slices out of the text they travel in: `kpn_tf.report.codec` is the other side of this.

"use strict";

function bytes(text) {
  const letters = atob(text);
  const values = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) values[i] = letters.charCodeAt(i);
  return values;
}

const floats = (text) => new Float32Array(bytes(text).buffer);

const textOf = (id) => document.getElementById(id).textContent.trim();

/** HU of a slice as a Float32Array, NaN outside the field of view. */
async function readSlice({ id, origin, step }, rows, columns) {
  const inflated = new Blob([bytes(textOf(id))]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(inflated).arrayBuffer());
  const count = rows * columns;
  const codes = new Uint16Array(count);
  const hu = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const column = i % columns;
    const left = column ? codes[i - 1] : 0;
    const above = i < columns ? 0 : codes[i - columns];
    const corner = column && i >= columns ? codes[i - columns - 1] : 0;
    const low = Math.min(left, above);
    const high = Math.max(left, above);
    const expected = Math.min(Math.max(left + above - corner, low), high);
    const folded = planes[i] | (planes[count + i] << 8);
    codes[i] = expected + (folded & 1 ? -((folded + 1) >> 1) : folded >> 1);
    hu[i] = codes[i] ? origin + codes[i] * step : NaN;
  }
  return hu;
}
