// Sorts and filters the table of hosts. Without scripts the page is whole, only not sortable.
"use strict";
(() => {
  const table = document.getElementById("host-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const text = document.getElementById("filter-text");
  const state = document.getElementById("filter-state");
  const kernel = document.getElementById("filter-kernel");
  const shown = document.getElementById("shown");

  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;

  const compare = (column, sign) => (one, other) =>
    sign * value(one, column).localeCompare(value(other, column), undefined, { numeric: true });

  function sort(head) {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const byNumber = rows.every((row) => "value" in row.cells[head.cellIndex].dataset);
    const sign = ascending ? 1 : -1;
    rows.sort(byNumber
      ? (one, other) => sign * (value(one, head.cellIndex) - value(other, head.cellIndex))
      : compare(head.cellIndex, sign));
    body.append(...rows);
  }

  function filter() {
    const wanted = text.value.toLowerCase();
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted)
        || (state.value !== "" && row.dataset.state !== state.value)
        || (kernel.value !== "" && row.dataset.kernel !== kernel.value);
    }
    shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} hosts`;
  }

  for (const head of table.tHead.rows[0].cells) head.firstElementChild.addEventListener("click", () => sort(head));
  for (const control of [text, state, kernel]) control.addEventListener("input", filter);
  document.querySelector("form.filters").addEventListener("submit", (event) => event.preventDefault());
  // On paper nothing can be opened; of the ledger, the longest part, the file is the better copy.
  addEventListener("beforeprint", () => document.querySelectorAll("#patches ~ details").forEach((one) => { one.open = true; }));
})();
