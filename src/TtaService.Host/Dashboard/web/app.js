// Routes by the part behind #, keeps the header up to date, asks the server every few seconds.
import { get, make, number, whole, duration } from './api.js';
import { fleetPage } from './fleet.js';
import { streamsPage } from './streams.js';
import { streamPage } from './stream.js';
import { servicePage } from './service.js';

const period = 5000;
const main = document.getElementById('main');
const models = document.getElementById('model');
let page = null;
let shown = null;
let timer = 0;

const pages = [
  [/^#\/streams\/(.+)$/, (match, query) => streamPage(decodeURIComponent(match[1]), query)],
  [/^#\/streams$/, (_, query) => streamsPage(query, replaceQuery)],
  [/^#\/service$/, () => servicePage()],
  [/^/, () => fleetPage()],
];

// The state of a page is in its address, so that it can be sent to somebody.
function replaceQuery(path, query) {
  const text = query.toString();
  history.replaceState(null, '', text ? `${path}?${text}` : path);
}

function parts() {
  const [path, query] = (location.hash || '#/').split('?');
  return { path, query: new URLSearchParams(query ?? '') };
}

function header(fleet) {
  if (models.options.length !== fleet.models.length) {
    models.replaceChildren(...fleet.models.map(model => make('option', { value: model.name }, model.name)));
    models.value = sessionStorage.getItem('model') ?? fleet.models[0]?.name ?? '';
    models.closest('label').hidden = fleet.models.length < 2;
  }
  const model = fleet.models.find(candidate => candidate.name === models.value) ?? fleet.models[0];
  const facts = [
    ['model', `${model?.name ?? 'none'} (${model?.defaultMethod ?? '–'})`],
    ['reference', model?.reference ? `calibrated ${new Date(model.reference.created).toLocaleDateString()} on ${whole(model.reference.frames)} frames` : 'uncalibrated'],
    ['streams', `${whole(fleet.streams.known)} of ${whole(fleet.streams.limit)}, ${whole(fleet.streams.resident)} in memory`],
    ['frames/s', number(fleet.rates.framesPerSecond, 1)],
    ['p99', fleet.rates.p99Milliseconds === null ? '–' : `${number(fleet.rates.p99Milliseconds, 1)} ms`],
    ['unsaved', duration(fleet.checkpoints.lagSeconds)],
  ];
  document.getElementById('facts').replaceChildren(...facts.map(([name, value]) => make('div', null, make('dt', null, name), make('dd', null, value))));
  document.getElementById('alerts').replaceChildren(...fleet.alerts.map(alert => make('p', null, alert)));
  document.getElementById('state').textContent = `replica ${fleet.replica}, ${new Date(fleet.time).toLocaleTimeString()}`;
  return { ...fleet, model };
}

async function refresh() {
  clearTimeout(timer);
  const drawing = page;
  const start = performance.now();
  try {
    const fleet = header(await get(`api/v1/fleet?model=${encodeURIComponent(models.value)}`));
    if (drawing === page) {
      await page.update(fleet);
    }
    // For whoever asks why it is slow; a page that is open for weeks must not keep them all.
    if (performance.getEntriesByName('tta-update').length >= 100) {
      performance.clearMeasures('tta-update');
    }
    performance.measure('tta-update', { start, end: performance.now() });
  } catch (failed) {
    document.getElementById('state').textContent = `not up to date: ${failed.message}`;
  }
  if (drawing === page) {
    timer = setTimeout(refresh, period);
  }
}

function route() {
  const { path, query } = parts();
  const [pattern, open] = pages.find(([candidate]) => candidate.test(path));
  page?.close?.();
  page = open(pattern.exec(path), query);
  for (const link of document.querySelectorAll('nav a:not(.brand)')) {
    const current = link.getAttribute('href') === (path.startsWith('#/streams') ? '#/streams' : path);
    current ? link.setAttribute('aria-current', 'page') : link.removeAttribute('aria-current');
  }
  main.replaceChildren(page.element);
  if (shown !== null && shown !== path) {
    main.focus();
  }
  shown = path;
  refresh();
}

addEventListener('hashchange', route);
document.addEventListener('visibilitychange', () => { if (!document.hidden) { refresh(); } });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', refresh);
models.addEventListener('change', () => {
  sessionStorage.setItem('model', models.value);
  refresh();
});
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
    return;
  }
  const target = { f: '#/', s: '#/streams', v: '#/service' }[event.key];
  if (target) {
    location.hash = target;
  } else if (event.key === '/') {
    event.preventDefault();
    document.getElementById('filter')?.focus() ?? (location.hash = '#/streams');
  }
});

// Level changes are shown as they happen, not with the next question.
const events = new EventSource('api/v1/events');
events.addEventListener('level', refresh);
events.addEventListener('not_learned', refresh);
events.addEventListener('rolled_back', refresh);
route();
