// Which cameras changed, since when, where in the network, and does the model still cope?
import { get, bytes, make, level, number, whole } from './api.js';
import { crop, drawStrip, drawLine, drawRamp, drawQuadrant, recent } from './strips.js';

const look = 6;
const streamsHelp = total => `${whole(total)} streams, worst at the top; point at a row for its name`;

export function fleetPage() {
  const counts = make('p', { class: 'counts' });
  const strip = make('canvas', { id: 'strip', role: 'img', 'aria-label': 'Drift of every stream over time, worst first' });
  const stripHelp = make('p', { id: 'hover', class: 'quiet' });
  const start = make('span', null);
  const worst = make('div', { class: 'multiples' });
  const quadrant = make('canvas', { role: 'img', 'aria-label': 'Drift against the entropy of the predictions, a dot a stream' });
  const ramp = make('canvas', { class: 'ramp' });
  const element = make('div', null,
    make('h1', null, 'Fleet'), counts,
    make('div', { class: 'frame' }, strip),
    make('div', { class: 'axis' }, start, make('span', null, 'now')), stripHelp,
    make('div', { class: 'legend' }, 'drift score, ½', ramp, '32; 1 is the edge of what normal frames do, 3 is critical'),
    make('div', { class: 'columns' },
      make('section', { 'aria-label': 'Streams that need a look' }, make('h2', null, 'Needs a look'), worst),
      make('section', null, make('h2', null, 'Do the predictions cope?'), make('div', { class: 'frame' }, quadrant),
        make('p', { class: 'quiet' }, 'Right: drifted. Up: less sure than on normal frames. Drift with normal entropy is what adaptation is for; drift with high entropy needs a person.'))));
  drawRamp(ramp);
  let names = [];
  let rows = 0;
  let total = 0;
  let dots = [];
  const rowAt = event => names[Math.floor(event.offsetY / strip.clientHeight * rows)];
  strip.addEventListener('mousemove', event => { stripHelp.textContent = rowAt(event) ?? ''; });
  strip.addEventListener('mouseleave', () => { stripHelp.textContent = streamsHelp(total); });
  strip.addEventListener('click', event => { if (rowAt(event)) { location.hash = `#/streams/${encodeURIComponent(rowAt(event))}`; } });
  quadrant.addEventListener('click', event => {
    const hit = dots.find(dot => Math.hypot(dot.x - event.offsetX, dot.y - event.offsetY) < 8);
    if (hit) {
      location.hash = `#/streams/${encodeURIComponent(hit.name)}`;
    }
  });

  async function update(fleet) {
    const model = encodeURIComponent(fleet.model?.name ?? '');
    const [map, page, dotted] = await Promise.all([
      get(`api/v1/strip?model=${model}&rows=400`),
      get(`api/v1/streams?model=${model}&sort=drift&limit=${look}`),
      get(`api/v1/streams?model=${model}&sort=drift&limit=1000`),
    ]);
    ({ names, rows, total } = map);
    const data = bytes(map.data);
    const shown = recent(data, map.rows, map.columns);
    counts.replaceChildren(...Object.entries(fleet.levels).map(([name, count]) => make('span', null, `${whole(count)} `, level(name))));
    if (page.total === 0) {
      counts.textContent = 'No stream yet. Start one: tta demo, or open a stream with any gRPC client.';
    }
    drawStrip(strip, crop(data, map.rows, map.columns, shown), map.rows, shown);
    strip.style.height = `${Math.min(400, Math.max(12, map.rows * (map.rows < 30 ? 8 : map.rows < 130 ? 3 : 1)))}px`;
    start.textContent = `${Math.round(shown * map.columnSeconds / 60)} min ago`;
    if (!strip.matches(':hover')) {
      stripHelp.textContent = streamsHelp(total);
    }
    worst.replaceChildren(...await Promise.all(page.streams.map(stream => multiple(stream, shown))));
    dots = drawQuadrant(quadrant, dotted.streams);
  }

  return { element, update };
}

async function multiple(stream, shown) {
  const sites = make('canvas', { class: 'sites', role: 'img', 'aria-label': `Drift of ${stream.name} by site, input at the top` });
  const line = make('canvas', { class: 'line', role: 'img', 'aria-label': `Drift score of ${stream.name} over time` });
  const drift = await get(`api/v1/streams/${encodeURIComponent(stream.name)}/drift`);
  drawStrip(sites, crop(bytes(drift.data), drift.sites.length, drift.columns, shown), drift.sites.length, shown);
  requestAnimationFrame(() => drawLine(line, bytes(drift.scores).subarray(-shown)));
  return make('article', { class: 'multiple' },
    make('a', { href: `#/streams/${encodeURIComponent(stream.name)}` }, stream.name), ' ', level(stream.level),
    make('div', { class: 'frame' }, sites), make('div', { class: 'frame' }, line),
    make('p', { class: 'quiet' }, `score ${number(stream.score)}, ${stream.hint ?? stream.method}${stream.changedAtStep ? `, changed at step ${whole(stream.changedAtStep)}` : ''}`));
}
