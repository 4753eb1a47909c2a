// One image on the screen: part of a slice, enlarged, with the pixel and the region marked in it.

"use strict";

class Pane {
  /** Adds an image to the page; `name` tells it from the others. */
  constructor(name) {
    this.figure = $("pane").content.firstElementChild.cloneNode(true);
    const { figure } = this;
    figure.id = name;
    figure.querySelector(".hidden").textContent = name;
    figure.querySelector("select").setAttribute("aria-label", `Image ${name}`);
    const keys = "arrow keys move the pixel, Page Up and Page Down the slice";
    figure.querySelector("canvas").setAttribute("aria-label", `Image ${name}: ${keys}`);
    $("panes").append(figure);
    this.canvas = figure.querySelector("canvas");
    this.select = figure.querySelector("select");
    this.caption = figure.querySelector(".window");
    this.legend = figure.querySelector(".legend");
  }

  /** Fits the canvas to the page, no higher than so many pixels, and to the shape of the slice in mm. */
  fit(slice, highest) {
    const shape = (slice.columns * slice.spacing[1]) / (slice.rows * slice.spacing[0]);
    this.canvas.style.maxWidth = `max(12rem, ${shape * highest}px)`;
    const width = Math.round(this.canvas.clientWidth * devicePixelRatio) || 1;
    const height = Math.round(width / shape) || 1;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
  }

  /** The part of the slice that is seen: its first row and column, and how many of each. */
  static part(slice, { zoom, centre }) {
    const [rows, columns] = [slice.rows / zoom, slice.columns / zoom];
    const inside = (start, length, whole) => Math.min(Math.max(start, 0), whole - length);
    return {
      ...{ rows, columns },
      top: inside(centre[0] + 0.5 - rows / 2, rows, slice.rows),
      left: inside(centre[1] + 0.5 - columns / 2, columns, slice.columns),
    };
  }

  /** Whether the pixel lies in the part that is seen. */
  static sees(slice, state) {
    const { rows, columns, top, left } = Pane.part(slice, state);
    const [row, column] = state.pixel;
    return row >= top && row + 1 <= top + rows && column >= left && column + 1 <= left + columns;
  }

  /** Draws images side by side: `images` are [canvas of the slice, share of the width where it ends]. */
  draw(slice, state, images) {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    const part = Pane.part(slice, state);
    context.imageSmoothingEnabled = false;
    let from = 0;
    for (const [image, share] of images) {
      const to = Math.round(share * width);
      if (to <= from) continue;
      const left = part.left + (from / width) * part.columns;
      const columns = ((to - from) / width) * part.columns;
      context.drawImage(image, left, part.top, columns, part.rows, from, 0, to - from, height);
      if (to < width) {
        context.fillStyle = "#ffd400";
        context.fillRect(to - 1, 0, 2, height);
      }
      from = to;
    }
    const x = (column) => ((column - part.left) / part.columns) * width;
    const y = (row) => ((row - part.top) / part.rows) * height;
    this.mark(context, slice, state, x, y);
    this.name(context, slice.sides);
  }

  /** Writes the sides of the patient onto the edges: letters for left, right, top and bottom. */
  name(context, sides) {
    const { width, height } = this.canvas;
    const size = 13 * devicePixelRatio;
    Object.assign(context, { font: `${size}px system-ui`, fillStyle: "#ffd400", textAlign: "center", textBaseline: "middle" });
    const places = [[size, height / 2], [width - size, height / 2], [width / 2, size], [width / 2, height - size]];
    [...sides].forEach((letter, i) => context.fillText(letter, ...places[i]));
  }

  mark(context, slice, { pixel, region, side }, x, y) {
    const [row, column] = pixel;
    const lines = (style, width, trace) => {
      for (const [colour, extra] of [["#000", 2], [style, 0]]) {
        Object.assign(context, { strokeStyle: colour, lineWidth: width + extra });
        context.beginPath();
        trace();
        context.stroke();
      }
    };
    // The frame of the kernel, its pixel open in the middle.
    const reach = side >> 1;
    lines("#ffd400", 1.5, () => {
      const [left, top] = [x(column - reach), y(row - reach)];
      context.rect(left, top, x(column + reach + 1) - left, y(row + reach + 1) - top);
      const [a, b] = [x(column), y(row)];
      context.rect(a - 1, b - 1, x(column + 1) - a + 2, y(row + 1) - b + 2);
    });
    if (!region) return;
    const [across, down] = [region.radiusMm / slice.spacing[1], region.radiusMm / slice.spacing[0]];
    lines("#56b4e9", 2, () => {
      const [middle, centre] = [x(region.column + 0.5), y(region.row + 0.5)];
      context.ellipse(middle, centre, x(across) - x(0), y(down) - y(0), 0, 0, 2 * Math.PI);
    });
  }

  /** The pixel under the pointer. */
  pixelAt(event, slice, state) {
    const box = this.canvas.getBoundingClientRect();
    const part = Pane.part(slice, state);
    const at = (position, length, start, count, whole) =>
      Math.min(Math.max(Math.floor(start + (position / length) * count), 0), whole - 1);
    return [
      at(event.clientY - box.top, box.height, part.top, part.rows, slice.rows),
      at(event.clientX - box.left, box.width, part.left, part.columns, slice.columns),
    ];
  }
}
