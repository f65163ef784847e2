// What the service itself does: time by phase, batches, queue, errors.
import { get, make, number, whole, duration } from './api.js';

export function servicePage() {
  const body = make('div', null, make('p', { class: 'quiet' }, 'Loading …'));
  const element = make('div', null, make('h1', null, 'Service'), body);

  async function update(fleet) {
    const { window: service, models } = await get('api/v1/service');
    const table = (title, rows) => make('section', null, make('h2', null, title), make('table', null, make('tbody', null,
      ...rows.map(([name, value]) => make('tr', null, make('th', { scope: 'row' }, name), make('td', null, value))))));
    const milliseconds = value => (value === null ? '–' : `${number(value, 2)} ms`);
    body.replaceChildren(
      make('p', { class: 'quiet' }, `the last ${whole(service.windowSeconds)} seconds`),
      make('div', { class: 'columns words' },
        make('div', null,
          table('Steps', [['steps/s', number(service.stepsPerSecond, 1)], ['p50', milliseconds(service.p50Milliseconds)], ['p99', milliseconds(service.p99Milliseconds)], ['failed/s', number(service.errorsPerSecond, 2)]]),
          table('Mean time by phase', service.phases.map(phase => [phase.name, milliseconds(phase.milliseconds)])),
          table('Batches', [['frames a pass', number(service.framesPerBatch, 1)], ['streams a pass', number(service.stepsPerBatch, 1)]])),
        make('div', null,
          table('Models', models.map(model => [`${model.name} on ${model.device}`, `${whole(model.residentStreams)} streams in memory, ${number(model.arenaBytes / 2 ** 20, 1)} of ${number(model.arenaLimit / 2 ** 20, 0)} MiB; ${whole(model.queuedSteps)} of ${whole(model.queueLimit)} steps wait`])),
          table('State store', [['oldest unsaved change', duration(fleet.checkpoints.lagSeconds)], ['streams with unsaved changes', whole(fleet.checkpoints.dirty)], ['store', fleet.checkpoints.trouble ?? 'serves']]),
          table('Refused frames', service.rejected.length ? service.rejected.map(reason => [reason.name, whole(reason.count)]) : [['none', '']]),
          table('Errors', service.errors.length ? service.errors.map(error => [error.name, whole(error.count)]) : [['none', '']]))));
  }

  return { element, update };
}
