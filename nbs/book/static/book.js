// A click on a column's heading sorts its table: numbers by value, all else by name
const value = cell => {
  const number = parseFloat(cell.textContent.replace(/[,\s]/g, '').replace('−', '-'));
  return Number.isNaN(number) ? cell.textContent.trim() : number;
};
const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === 'number' ? -1 : 1);

function sortBy(table, heading) {
  const column = heading.cellIndex;
  const up = heading.getAttribute('aria-sort') !== 'ascending';
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(value(a.cells[column]), value(b.cells[column])));
  table.querySelectorAll('th[aria-sort]').forEach(th => th.removeAttribute('aria-sort'));
  heading.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  body.append(...(up ? rows : rows.reverse()));
}

// On a page marked `folds-h2` or `folds-h3`, sections under such headings open with a click
function fold(heading) {
  const section = heading.parentElement;
  const details = document.createElement('details');
  const summary = document.createElement('summary');
  details.className = 'fold';
  summary.append(heading);
  details.append(summary, ...section.childNodes);
  section.append(details);
}

// A link into a folded section opens it
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  target.querySelector(':scope > details')?.setAttribute('open', '');
  for (let place = target; place; place = place.parentElement) if (place.tagName === 'DETAILS') place.open = true;
  target.scrollIntoView();
}

document.addEventListener('DOMContentLoaded', () => {
  for (const level of ['h2', 'h3']) {
    if (document.querySelector(`.folds-${level}`)) document.querySelectorAll(`article section > ${level}`).forEach(fold);
  }
  addEventListener('hashchange', unfold);
  unfold();
  for (const table of document.querySelectorAll('article table')) {
    const last = table.tHead && table.tHead.rows[table.tHead.rows.length - 1];
    const plain = last && table.tBodies[0].querySelectorAll('[rowspan]').length === 0;
    if (!plain) continue;
    table.classList.add('sortable');
    for (const heading of last.cells) heading.addEventListener('click', () => sortBy(table, heading));
  }
});
