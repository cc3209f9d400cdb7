// Keeps the list of decisions up to date and lets one pause that. Every page works without it: the server makes all of
// the HTML, this only asks for the same page again when something is new.
(() => {
  'use strict';

  const list = document.querySelector('[data-live]');
  const bar = document.querySelector('[data-live-bar]');
  if (!list || !bar || !('EventSource' in window)) return;

  const button = document.createElement('button');
  button.type = 'button';
  const status = document.createElement('span');
  status.setAttribute('role', 'status');
  bar.replaceChildren(button, status);

  let paused = false;
  let busy = false;
  let again = false;

  function say(text) {
    if (status.textContent !== text) status.textContent = text;
  }

  async function refresh() {
    if (busy) { again = true; return; }
    // Nobody is to lose the row that they are on.
    if (paused || list.contains(document.activeElement)) { say('New decisions have come.'); return; }
    busy = true;
    try {
      const answer = await fetch(window.location.href, { headers: { 'X-Riskgate-Script': '1' }, redirect: 'error' });
      if (answer.status === 401) { say('The session has ended: reload to sign in.'); events.close(); return; }
      if (!answer.ok) { say('The gateway answers with an error: reload to see which.'); return; }
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const fresh = page.querySelector('[data-live]');
      if (fresh && !paused) list.replaceChildren(...fresh.childNodes);
      say('Live.');
    } catch {
      say('The gateway does not answer.');
    } finally {
      busy = false;
      if (again) { again = false; setTimeout(refresh, 250); }
    }
  }

  const events = new EventSource('/console/events');
  events.onopen = () => { if (!paused) say('Live.'); };
  events.onmessage = refresh;
  events.onerror = () => { say('The gateway does not answer.'); };

  function show() {
    button.textContent = paused ? 'Go on' : 'Pause';
    if (paused) say('Paused.');
  }
  button.addEventListener('click', () => {
    paused = !paused;
    show();
    button.blur();
    if (!paused) refresh();
  });
  window.addEventListener('pagehide', () => { events.close(); });
  show();
})();
