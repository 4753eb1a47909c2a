// What wheel, keys, mouse and fingers do to an image.

"use strict";

let [pinned, dragged, wheel] = [false, null, 0];

function pin(now) {
  pinned = now;
  $("pin").setAttribute("aria-pressed", pinned);
}

/** What moving by so many pixels of the screen does, as chosen under "Dragging". */
function drag(pane, event) {
  const [right, down] = [event.clientX - dragged.x, event.clientY - dragged.y];
  if (Math.hypot(right, down) > 4) dragged.moved = true;
  if (!dragged.moved) return;
  if (dragged.kind === "region") {
    const [row, column] = pane.pixelAt(event, slice, state);
    const [top, left] = dragged.pixel;
    const radius = Math.hypot((row - top) * slice.spacing[0], (column - left) * slice.spacing[1]);
    placeRegion(top, left, Math.max(radius, 1));
  } else if (dragged.kind === "scroll") {
    turnTo(dragged.number + Math.round(down / 12));
  } else if (dragged.window) {
    // Width by moving sideways, level by moving up and down, as workstations do.
    const { name, low, high } = dragged.window;
    const scale = (high - low) / 250;
    const width = Math.max((high - low) + right * scale, (high - low) / 20);
    const level = (low + high) / 2 + down * scale;
    setWindow(name, level - width / 2, level + width / 2);
  }
}

function listen(pane, i) {
  const { canvas, select } = pane;
  select.onchange = () => {
    shown[i] = select.value;
    explain(pane.legend, shown[i]);
    askForMaps();
    draw();
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) return zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
    // Trackpads send many small steps.
    wheel += event.deltaY;
    const steps = Math.trunc(wheel / 50);
    wheel -= steps * 50;
    if (steps) turnTo(state.number + Math.sign(steps));
  }, { passive: false });
  canvas.onpointerdown = (event) => {
    // A second finger does not drag.
    if (!slice || event.button || !event.isPrimary) return;
    canvas.setPointerCapture(event.pointerId);
    const name = VIEWS[shown[i]].window;
    const chosen = document.querySelector("[name=drag]:checked").value;
    dragged = { x: event.clientX, y: event.clientY, kind: chosen, number: state.number, moved: false };
    dragged.pixel = pane.pixelAt(event, slice, state);
    dragged.window = name && { name, ...WINDOWS[name] };
  };
  canvas.onpointermove = (event) => {
    if (!slice || !event.isPrimary) return;
    if (dragged) drag(pane, event);
    else if (!pinned) point(pane.pixelAt(event, slice, state));
  };
  canvas.onpointerup = (event) => {
    if (!event.isPrimary) return;
    if (dragged && !dragged.moved) {
      point(dragged.pixel);
      // A finger leaves nothing behind that could move the pixel: it needs no pin.
      if (event.pointerType === "mouse") pin(!pinned);
    }
    dragged = null;
  };
  canvas.onpointercancel = () => (dragged = null);
  canvas.onkeydown = (event) => {
    if (!slice || event.ctrlKey || event.altKey || event.metaKey) return;
    const step = event.shiftKey ? 10 : 1;
    const move = (down, right) => {
      const [row, column] = [state.pixel[0] + down * step, state.pixel[1] + right * step];
      point([Math.min(Math.max(row, 0), slice.rows - 1), Math.min(Math.max(column, 0), slice.columns - 1)]);
      if (!Pane.sees(slice, state)) state.centre = state.pixel;
      tell();
    };
    const changeWindow = (wider, higher) => {
      const { window } = VIEWS[shown[i]];
      if (!window) return;
      const { low, high } = WINDOWS[window];
      const [level, width] = [(low + high) / 2 + higher * (high - low), (high - low) * wider];
      setWindow(window, level - width / 2, level + width / 2);
      $("live").textContent = windowText(shown[i]);
    };
    const keys = {
      ArrowUp: () => move(-1, 0),
      ArrowDown: () => move(1, 0),
      ArrowLeft: () => move(0, -1),
      ArrowRight: () => move(0, 1),
      PageUp: () => turnTo(state.number - 1).then(tell),
      PageDown: () => turnTo(state.number + 1).then(tell),
      Home: () => turnTo(0).then(tell),
      End: () => turnTo(stack.length - 1).then(tell),
      "+": () => zoomBy(2),
      "-": () => zoomBy(0.5),
      b: () => changeWindow(1.25, 0),
      n: () => changeWindow(0.8, 0),
      u: () => changeWindow(1, 0.1),
      d: () => changeWindow(1, -0.1),
      w: () => $("wipe").click(),
      p: () => pin(!pinned),
      r: () => placeRegion(...state.pixel),
      ...Object.fromEntries(REPORT.presets.map(({ low, high }, n) => [n + 1, () => setWindow("hu", low, high)])),
    };
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
}
