// The server's JSON, and what all pages do with it.
export async function get(path) {
  const answer = await fetch(path, { headers: { accept: 'application/json' } });
  if (!answer.ok) {
    throw new Error((await answer.json().catch(() => null))?.error ?? `${path} answered ${answer.status}`);
  }
  return answer.json();
}

// The header makes a browser ask first when another site's page tries this, and the server never allows that.
export async function act(stream, action, body) {
  const answer = await fetch(`api/v1/streams/${encodeURIComponent(stream)}/${action}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-tta-action': action },
    body: JSON.stringify(body ?? {}),
  });
  if (!answer.ok) {
    throw new Error((await answer.json().catch(() => null))?.error ?? `${action} answered ${answer.status}`);
  }
  return answer.json();
}

export function bytes(base64) {
  const text = atob(base64 ?? '');
  const data = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    data[i] = text.charCodeAt(i);
  }
  return data;
}

// An element with attributes and children; text is always text, never markup.
export function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) {
      element.addEventListener(name.slice(2), value);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...children.filter(child => child !== null && child !== undefined).map(child => (child instanceof Node ? child : String(child))));
  return element;
}

export const number = (value, digits = 2) => (value === null || value === undefined ? '–' : value.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: Math.min(digits, Math.abs(value) < 100 ? digits : 0) }));
export const whole = value => (value === null || value === undefined ? '–' : Math.round(value).toLocaleString('en'));
export const percent = value => (value === null || value === undefined ? '–' : `${Math.round(value * 100)} %`);

export function duration(seconds) {
  if (seconds === null || seconds === undefined) {
    return '–';
  }
  const units = [['d', 86400], ['h', 3600], ['min', 60]];
  for (const [name, size] of units) {
    if (seconds >= size) {
      return `${Math.floor(seconds / size)} ${name}`;
    }
  }
  return `${Math.round(seconds)} s`;
}

const marks = { warming_up: '◌ warming up', normal: '○ normal', warning: '◐ warning', critical: '● critical', uncalibrated: '– uncalibrated' };

// A word and a shape, never colour alone.
export const level = name => make('span', { class: `level ${name}` }, marks[name] ?? name);
