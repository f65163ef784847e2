// One stream: where in the network it drifted and when, what it predicts, and what an operator can do.
import { get, act, bytes, make, level, number, whole, percent, duration } from './api.js';
import { crop, drawStrip, drawLine, recent, scoreOf } from './strips.js';

export function streamPage(name) {
  const facts = make('p', null);
  const strip = make('canvas', { id: 'sites', tabindex: '0', role: 'img', 'aria-label': 'Drift by normalization site, input at the top, over time; arrow keys read it' });
  const line = make('canvas', { class: 'line', role: 'img', 'aria-label': 'Drift score over time' });
  const start = make('span', null);
  const hover = make('p', { id: 'hover', class: 'quiet', role: 'status' });
  const sites = make('tbody', null);
  const classes = make('tbody', null);
  const events = make('ol', { class: 'events', reversed: true });
  const actions = make('div', { class: 'tools' });
  const said = make('p', { role: 'status' });
  const element = make('div', null, make('h1', null, name), facts, actions, said,
    make('div', { class: 'frame' }, strip), make('div', { class: 'frame' }, line), make('div', { class: 'axis' }, start, make('span', null, 'now')), hover,
    make('div', { class: 'columns' },
      make('section', { class: 'scroll' }, make('h2', null, 'Sites'), make('table', null,
        make('thead', null, make('tr', null, ...['site', 'KL', 'limit', 'Wasserstein'].map(title => make('th', { scope: 'col' }, title)))), sites)),
      make('section', null, make('h2', null, 'Predicted classes'), make('table', null, classes), make('h2', null, 'Events'), events)));
  let drift = null;
  let shown = 0;
  let data = null;
  let cursor = null;

  function read(row, column) {
    if (!drift || row < 0 || row >= drift.sites.length || column < 0 || column >= shown) {
      return;
    }
    cursor = [row, column];
    const score = scoreOf(data[row * shown + column]);
    hover.textContent = `${drift.sites[row]}, ${duration((shown - 1 - column) * drift.columnSeconds)} ago: ${score === null ? 'no data' : `${number(score)} of its limit`}`;
  }

  strip.addEventListener('mousemove', event => read(Math.floor(event.offsetY / strip.clientHeight * drift?.sites.length), Math.floor(event.offsetX / strip.clientWidth * shown)));
  strip.addEventListener('keydown', event => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (move && drift) {
      event.preventDefault();
      const [row, column] = cursor ?? [0, shown - 1];
      read(row + move[0], column + move[1]);
    }
  });

  async function run(action, body, done) {
    said.textContent = '';
    try {
      const answer = await act(name, action, body);
      said.textContent = done(answer);
      await update({ ...latest });
    } catch (failed) {
      said.textContent = failed.message;
    }
  }

  let latest = null;
  let frozen = false;
  const freeze = make('button', { onclick: () => run('freeze', { frozen: !frozen }, answer => (answer.frozen ? 'frozen: its state is used, not updated' : 'adapts again')) });
  const target = make('input', { 'aria-label': 'Name of the fork', placeholder: 'name of the new stream' });
  // Made once: drawing them anew would take the focus from whoever is at them.
  const buttons = [
    make('button', { onclick: () => confirm(`Put ${name} back to the source statistics? What it learned is kept in its last checkpoints only.`) && run('reset', {}, () => 'reset to the source statistics') }, 'Reset'),
    freeze,
    make('a', { href: `api/v1/streams/${encodeURIComponent(name)}/export`, download: `${name}.safetensors` }, 'Export'),
    target,
    make('button', { onclick: () => target.value && run('fork', { name: target.value }, () => `${target.value} starts from here`) }, 'Fork'),
  ];

  async function update(fleet) {
    latest = fleet;
    let stream;
    try {
      [stream, drift] = await Promise.all([get(`api/v1/streams/${encodeURIComponent(name)}`), get(`api/v1/streams/${encodeURIComponent(name)}/drift`)]);
    } catch (failed) {
      facts.textContent = failed.message;
      return;
    }
    facts.replaceChildren(level(stream.level), `, score ${number(stream.score)}${stream.hint ? ` (${stream.hint})` : ''}; ${stream.model}, ${stream.method}${stream.frozen ? ', frozen' : ''}${stream.pinned ? ', pinned' : ''}; ${whole(stream.steps)} steps and ${whole(stream.frames)} frames in ${duration(stream.ageSeconds)}; `,
      `entropy ${percent(stream.entropy)}${stream.entropyRatio ? `, ${number(stream.entropyRatio)} of normal` : ''}; label shift ${number(stream.labelShift)}; diversity ${percent(stream.diversity)}; agrees with source on ${percent(stream.agreement)} of sampled frames`,
      stream.testWeight === null ? '' : `; adapted by ${percent(stream.testWeight)}`,
      stream.occupancyEntropy === null ? '' : `; components used evenly to ${percent(stream.occupancyEntropy)}`,
      stream.blankFrames + stream.frozenFrames === 0 ? '' : `; ${whole(stream.blankFrames)} blank and ${whole(stream.frozenFrames)} repeated frames`,
      stream.changedAtStep ? `; its domain changed at step ${whole(stream.changedAtStep)}` : '');
    frozen = stream.frozen;
    freeze.textContent = frozen ? 'Unfreeze' : 'Freeze';
    if (!fleet.canAct) {
      actions.textContent = 'Actions are for operators: open this page on the server’s own machine, or set Dashboard:AllowActions.';
    } else if (!freeze.isConnected) {
      actions.replaceChildren(...buttons);
    }
    data = bytes(drift.data);
    shown = recent(data, drift.sites.length, drift.columns);
    data = crop(data, drift.sites.length, drift.columns, shown);
    drawStrip(strip, data, drift.sites.length, shown);
    strip.style.height = `${Math.min(480, Math.max(60, drift.sites.length * 8))}px`;
    drawLine(line, bytes(drift.scores).subarray(-shown));
    start.textContent = `${Math.round(shown * drift.columnSeconds / 60)} min ago`;
    sites.replaceChildren(...stream.sites.map(site => make('tr', null, make('td', null, site.name), make('td', null, number(site.kl, 3)), make('td', null, number(site.limit, 3)), make('td', null, number(site.wasserstein, 3)))));
    classes.replaceChildren(...stream.classes.map(entry => make('tr', null, make('td', null, entry.label),
      make('td', null, percent(entry.share)), make('td', { class: 'barcell' }, bar('bar', entry.share), make('br'), entry.reference === null ? null : bar('bar reference', entry.reference)))));
    events.replaceChildren(...stream.events.map(event => make('li', null, `${new Date(event.time).toLocaleTimeString()} `, ...(event.rolledBack ? [`collapsed to one class; back to the source statistics at step ${whole(event.step)}`] : event.notLearned ? [`${whole(event.frames)} frames not learned: ${event.notLearned}`] : [level(event.level), `, score ${number(event.score)} at step ${whole(event.step)}`]))));
    if (stream.events.length === 0) {
      events.replaceChildren(make('li', { class: 'quiet' }, 'none yet'));
    }
  }

  return { element, update };
}

// The width is set from script: the page allows no inline styles.
function bar(name, share) {
  const element = make('span', { class: name });
  element.style.width = `${Math.round(140 * share)}px`;
  return element;
}
