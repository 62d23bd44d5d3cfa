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

document.addEventListener('DOMContentLoaded', () => {
  for (const table of document.querySelectorAll('article table')) {
    const last = table.tHead && table.tHead.rows[table.tHead.rows.length - 1];
    const plain = last && table.tBodies[0].querySelectorAll('[rowspan]').length === 0;
    if (!plain) continue;
    table.classList.add('sortable');
    for (const heading of last.cells) heading.addEventListener('click', () => sortBy(table, heading));
  }
});
