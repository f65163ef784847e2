// Heat strips: a byte a cell, 0 for no data, else 1 + 16 (log2(score) + 4). One pixel a cell; the style sheet scales it.
const light = [[-1, [255, 253, 248]], [0, [253, 226, 178]], [1.5, [243, 150, 72]], [3, [190, 40, 110]], [5, [32, 12, 48]]];
const dark = [[-1, [20, 18, 26]], [0, [62, 36, 74]], [1.5, [168, 40, 118]], [3, [244, 140, 72]], [5, [255, 240, 200]]];

export const scoreOf = byte => (byte === 0 ? null : 2 ** ((byte - 1) / 16 - 4));

let table = null;

function colours() {
  const stops = matchMedia('(prefers-color-scheme: dark)').matches ? dark : light;
  if (table?.stops === stops) {
    return table.pixels;
  }
  const pixels = new Uint32Array(256);
  const view = new DataView(pixels.buffer);
  for (let byte = 1; byte < 256; byte++) {
    const at = Math.min(5, Math.max(-1, (byte - 1) / 16 - 4));
    const upper = Math.max(1, stops.findIndex(([stop]) => stop >= at));
    const [[from, a], [to, b]] = [stops[upper - 1], stops[upper]];
    const share = (at - from) / (to - from);
    a.forEach((value, i) => view.setUint8(4 * byte + i, Math.round(value + share * (b[i] - value))));
    view.setUint8(4 * byte + 3, 255);
  }
  table = { stops, pixels };
  return pixels;
}

// The last columns of a strip of an hour, as many as hold all data: a server that runs for two minutes shows two minutes.
export function recent(data, rows, columns, least = 8) {
  let first = columns;
  for (let i = 0; i < rows * columns; i++) {
    if (data[i] !== 0) {
      first = Math.min(first, i % columns);
    }
  }
  return [least, 20, 40, 120, columns].find(shown => shown >= columns - first);
}

// Of each row its last columns.
export function crop(data, rows, columns, shown) {
  const cropped = new Uint8Array(rows * shown);
  for (let row = 0; row < rows; row++) {
    cropped.set(data.subarray((row + 1) * columns - shown, (row + 1) * columns), row * shown);
  }
  return cropped;
}

// Draws rows of bytes; the last column is now.
export function drawStrip(canvas, data, rows, columns) {
  canvas.width = Math.max(1, columns);
  canvas.height = Math.max(1, rows);
  const context = canvas.getContext('2d');
  const image = context.createImageData(canvas.width, canvas.height);
  const target = new Uint32Array(image.data.buffer);
  const palette = colours();
  for (let i = 0; i < rows * columns; i++) {
    target[i] = palette[data[i]];
  }
  context.putImageData(image, 0, 0);
}

// The ramp of the legend.
export function drawRamp(canvas) {
  const data = new Uint8Array(96);
  data.forEach((_, i) => { data[i] = 1 + 16 * 3 + i; });
  drawStrip(canvas, data, 1, data.length);
}

const style = name => getComputedStyle(document.documentElement).getPropertyValue(name);

// Scores over time on a log axis from 1/4 to 64, with the lines of warning (1) and critical (3).
export function drawLine(canvas, data) {
  const [width, height] = [canvas.clientWidth || 300, canvas.clientHeight || 46];
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext('2d');
  context.scale(scale, scale);
  const y = score => height - 2 - (height - 4) * (Math.min(6, Math.max(-2, Math.log2(score))) + 2) / 8;
  context.lineWidth = 1;
  for (const [limit, colour] of [[1, '--warning'], [3, '--critical']]) {
    context.strokeStyle = style(colour);
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(0, y(limit));
    context.lineTo(width, y(limit));
    context.stroke();
  }
  context.setLineDash([]);
  context.strokeStyle = style('--ink');
  context.lineWidth = 1.5;
  context.beginPath();
  context.fillStyle = context.strokeStyle;
  let open = false;
  data.forEach((byte, i) => {
    const score = scoreOf(byte);
    if (score === null) {
      open = false;
      return;
    }
    const x = (i + .5) * width / data.length;
    open ? context.lineTo(x, y(score)) : context.moveTo(x, y(score));
    // A score of its own would be a line of no length.
    if (!open && !data[i + 1]) {
      context.fillRect(x - 2, y(score) - 2, 4, 4);
    }
    open = true;
  });
  context.stroke();
}

// A dot a stream: x is the drift score, y the entropy of the predictions over what is normal.
export function drawQuadrant(canvas, streams) {
  const [width, height] = [canvas.clientWidth || 400, 260];
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext('2d');
  context.scale(scale, scale);
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const x = score => 8 + (width - 16) * (clamp(Math.log2(score), -3, 6) + 3) / 9;
  const y = ratio => height - 8 - (height - 16) * (clamp(Math.log2(ratio), -3, 3) + 3) / 6;
  context.strokeStyle = style('--line');
  context.beginPath();
  context.moveTo(x(1), 0);
  context.lineTo(x(1), height);
  context.moveTo(0, y(1.5));
  context.lineTo(width, y(1.5));
  context.stroke();
  context.fillStyle = style('--quiet');
  context.font = '12px system-ui, sans-serif';
  [['fine', 10, height - 12], ['adaptation copes', x(1) + 6, height - 12], ['unsure without drift', 10, 16], ['out of depth', x(1) + 6, 16]].forEach(([text, left, top]) => context.fillText(text, left, top));
  context.fillStyle = style('--link');
  context.globalAlpha = .7;
  const dots = [];
  for (const stream of streams) {
    if (stream.score > 0 && stream.entropyRatio > 0) {
      const dot = { x: x(stream.score), y: y(stream.entropyRatio), name: stream.name };
      context.beginPath();
      context.arc(dot.x, dot.y, 4, 0, 2 * Math.PI);
      context.fill();
      dots.push(dot);
    }
  }
  context.globalAlpha = 1;
  return dots;
}
