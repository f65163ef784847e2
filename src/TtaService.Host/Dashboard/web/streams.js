// All streams: sorted and filtered by the server, a page at a time.
import { get, bytes, make, level, number, whole, percent, duration } from './api.js';
import { drawStrip } from './strips.js';

const pageSize = 100;
const columns = [
  ['name', 'stream'], ['drift', 'level'], ['drift', 'score'], [null, 'last hour'], ['entropy', 'entropy', 'wide'], ['label_shift', 'label shift', 'wide'],
  ['agreement', 'agrees with source', 'wide'], ['steps', 'steps'], ['saved', 'saved', 'wide'],
];

export function streamsPage(query, replaceQuery) {
  const filter = make('input', { id: 'filter', type: 'search', placeholder: 'part of a name, a method or a level', value: query.get('filter') ?? '', 'aria-label': 'Filter' });
  const total = make('span', { class: 'quiet', role: 'status' });
  const head = make('tr', null);
  const body = make('tbody', null);
  const earlier = make('button', { onclick: () => turn(-pageSize) }, 'Earlier');
  const later = make('button', { onclick: () => turn(pageSize) }, 'Later');
  const element = make('div', null, make('h1', null, 'Streams'), make('div', { class: 'tools' }, filter, total),
    make('div', { class: 'scroll' }, make('table', null, make('thead', null, head), body)), make('div', { class: 'tools' }, earlier, later));
  let fleet = null;
  let waiting = 0;

  const offset = () => Number(query.get('offset') ?? 0);
  const set = (name, value) => {
    value ? query.set(name, value) : query.delete(name);
    replaceQuery('#/streams', query);
    update(fleet);
  };
  const turn = by => set('offset', Math.max(0, offset() + by) || '');
  filter.addEventListener('input', () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      query.delete('offset');
      set('filter', filter.value);
    }, 200);
  });

  function heading([sort, title, only]) {
    const current = (query.get('sort') ?? 'drift') === sort && title !== 'level';
    return make('th', { scope: 'col', class: only, 'aria-sort': current ? (sort === 'name' ? 'ascending' : 'descending') : null },
      sort ? make('button', { onclick: () => set('sort', sort) }, title) : title);
  }

  async function update(latest) {
    if (!latest) {
      return;
    }
    fleet = latest;
    const page = await get(`api/v1/streams?model=${encodeURIComponent(fleet.model?.name ?? '')}&sort=${query.get('sort') ?? 'drift'}&filter=${encodeURIComponent(query.get('filter') ?? '')}&offset=${offset()}&limit=${pageSize}`);
    head.replaceChildren(...columns.map(heading));
    body.replaceChildren(...page.streams.map(row));
    total.textContent = page.total === 0 ? 'no stream' : `${whole(offset() + 1)} to ${whole(offset() + page.streams.length)} of ${whole(page.total)}`;
    earlier.disabled = offset() === 0;
    later.disabled = offset() + page.streams.length >= page.total;
  }

  return { element, update };
}

function row(stream) {
  const strip = make('canvas', { role: 'img', 'aria-label': 'drift over the last hour' });
  const data = bytes(stream.strip);
  drawStrip(strip, data, 1, data.length);
  return make('tr', null,
    make('td', null, make('a', { href: `#/streams/${encodeURIComponent(stream.name)}` }, stream.name)),
    make('td', null, level(stream.level)),
    make('td', null, number(stream.score)),
    make('td', null, strip),
    make('td', { class: 'wide' }, percent(stream.entropy)),
    make('td', { class: 'wide' }, number(stream.labelShift)),
    make('td', { class: 'wide' }, percent(stream.agreement)),
    make('td', null, whole(stream.steps)),
    make('td', { class: 'wide' }, stream.unsavedSeconds === null ? 'yes' : `${duration(stream.unsavedSeconds)} ago`));
}
