"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const size = Number(table.dataset.pageSize || 0);
  let page = 0, show = () => {};
  if (size) {
    const pager = document.createElement("div");
    pager.className = "pager";
    const back = document.createElement("button"), on = document.createElement("button");
    const where = document.createElement("span");
    back.type = on.type = "button";
    back.textContent = "← back"; on.textContent = "next →"; where.setAttribute("aria-live", "polite");
    pager.append(back, on, where);
    table.parentElement.after(pager);
    show = () => {
      const rows = [...body.rows], last = Math.ceil(rows.length / size) - 1;
      page = Math.min(Math.max(page, 0), last);
      rows.forEach((row, i) => { row.hidden = i < page * size || i >= (page + 1) * size; });
      where.textContent = `${page * size + 1}–${Math.min((page + 1) * size, rows.length)} of ${rows.length}`;
      back.disabled = page === 0; on.disabled = page === last;
    };
    back.onclick = () => { page -= 1; show(); };
    on.onclick = () => { page += 1; show(); };
    show();
  }
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
      page = 0; show();
    };
  });
}
