'use strict';
// Graphs: the wheel zooms about the pointer, dragging moves, a click on a box opens what is said of its value.
for (const pane of document.querySelectorAll('.zoom')) {
  const svg = pane.querySelector('svg');
  const whole = svg.viewBox.baseVal;
  const size = [whole.width, whole.height];
  svg.removeAttribute('width');
  svg.removeAttribute('height');
  pane.classList.add('live');
  let view = [0, 0, 1, 1];
  const show = v => { view = v; svg.setAttribute('viewBox', v.join(' ')); };
  const ratio = () => pane.clientHeight / pane.clientWidth;
  // From the top, as wide as the network but with text that can be read, the input in the middle.
  const near = () => {
    const width = Math.max(pane.clientWidth, Math.min(size[0], pane.clientWidth / 0.6));
    const first = svg.querySelector('.node').getBBox();
    show([first.x + first.width / 2 - width / 2, 0, width, width * ratio()]);
  };
  const all = () => show([0, 0, ...size]);
  const at = e => {
    const p = new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [p.x, p.y];
  };
  pane.addEventListener('wheel', e => {
    e.preventDefault();
    const [x, y] = at(e), by = Math.exp(e.deltaY / 500);
    show([x + (view[0] - x) * by, y + (view[1] - y) * by, view[2] * by, view[3] * by]);
  }, { passive: false });
  let grip = null, moved = false;
  pane.addEventListener('pointerdown', e => { grip = at(e); moved = false; });
  pane.addEventListener('pointermove', e => {
    if (!grip || !e.buttons) { grip = null; return; }
    const [x, y] = at(e);
    moved ||= Math.hypot(x - grip[0], y - grip[1]) > 3;
    show([view[0] + grip[0] - x, view[1] + grip[1] - y, view[2], view[3]]);
  });
  pane.addEventListener('click', e => {
    const node = e.target.closest('.node');
    if (node && !moved) open(node.dataset.name);
  });
  pane.previousElementSibling.append(...[['whole graph', all], ['readable size', near]].map(([text, act]) => {
    const button = document.createElement('button');
    button.textContent = text;
    button.onclick = act;
    return button;
  }));
  near();
}
function open(name) {
  const found = [...document.querySelectorAll('details[data-name]')].find(d => d.dataset.name === name);
  document.querySelectorAll('details.found').forEach(d => d.classList.remove('found'));
  if (!found) return;
  found.open = true;
  found.classList.add('found');
  found.scrollIntoView({ behavior: 'smooth', block: 'start' });
}
// Tables: a click on a heading sorts by it, once more the other way.
for (const table of document.querySelectorAll('table.sorted')) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, k) => {
    let up = false;
    head.onclick = () => {
      up = !up;
      const key = row => {
        const text = row.cells[k].textContent, number = parseFloat(text);
        return Number.isNaN(number) ? text : number;
      };
      const order = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === 'number' ? -1 : 1);
      body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * order(key(a), key(b))));
    };
  });
}
