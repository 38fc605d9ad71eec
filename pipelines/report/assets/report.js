"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const key = (row, i) => {
    const cell = row.cells[i];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
  };
  heads.forEach((head, i) => {
    head.firstElementChild.onclick = () => {
      const numeric = body.rows.length && "value" in body.rows[0].cells[i].dataset;
      const before = head.getAttribute("aria-sort");
      const way = (before ? before === "descending" : !numeric) ? "ascending" : "descending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      const sign = way === "ascending" ? 1 : -1;
      const rows = [...body.rows].map(row => [key(row, i), row]);
      rows.sort(([a], [b]) => sign * (typeof a === "number" && typeof b === "number" ? a - b
        : String(a).localeCompare(String(b))));
      body.append(...rows.map(([, row]) => row));
    };
  });
}
