"""How the page looks and what it does by itself: sorting and paging; nothing is fetched from anywhere."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1f2933; --grey: #5b6673; --rule: #dfe3e8; --tint: #f5f7f9; --link: #0b5cad;
  --shade: #9aa7b4;
  --right: #176f31; --wrong: #b80d27; --wrong-paper: #fdecee; --notice: #fff7e0; --notice-ink: #6b4a00;
  --c0: #1f2933; --c1: #0b6bcb; --c2: #c2570c; --c3: #1a7f37; --c4: #7b3fa0; --c5: #b8860b; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14181d; --ink: #e6eaee; --grey: #9aa7b4; --rule: #313a44; --tint: #1c2229; --link: #7ab8ff;
  --shade: #53606d;
  --right: #5fd07f; --wrong: #ff8a94; --wrong-paper: #3a1d22; --notice: #33290f; --notice-ink: #f0d48a;
  --c0: #e6eaee; --c1: #5aa9ff; --c2: #ff9a57; --c3: #5fd07f; --c4: #c79bec; --c5: #e5bd4f; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 82rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: .4rem 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: .9rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; overflow-wrap: anywhere; }
p { max-width: 68ch; margin: .4rem 0 .8rem; }
a { color: var(--link); }
.quiet { color: var(--grey); font-size: .9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: 1rem 0 0; list-style: none; }
.frame { overflow-x: auto; margin: .8rem 0; border: 1px solid var(--rule); border-radius: 8px; max-width: 100%;
  background: linear-gradient(to left, var(--paper) 40%, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / .6rem 100% no-repeat scroll; }
.frame:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.frame.fit { width: fit-content; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .75rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--rule);
  vertical-align: middle; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 600; position: sticky; left: 0; background: var(--paper); }
@media (max-width: 40rem) { tbody th { white-space: normal; min-width: 7rem; max-width: 8.5rem; }
  th, td, thead button { padding-left: .5rem; padding-right: .5rem; } }
thead th { background: var(--tint); vertical-align: bottom; padding: 0; white-space: normal; }
thead th:first-child { position: sticky; left: 0; z-index: 1; }
tbody tr:hover > * { background: var(--tint); }
thead button { all: unset; display: block; width: 100%; padding: .5rem .75rem; cursor: pointer; font-weight: 600;
  box-sizing: border-box; }
thead button:focus-visible { outline: 2px solid var(--link); outline-offset: -2px; }
thead button::after { content: "\\00a0↕"; color: var(--grey); opacity: .55; font-weight: 400; }
th[aria-sort=ascending] button::after { content: "\\00a0↑"; color: var(--link); opacity: 1; }
th[aria-sort=descending] button::after { content: "\\00a0↓"; color: var(--link); opacity: 1; }
.number { text-align: right; }
td.best { font-weight: 700; }
.error { color: var(--grey); font-size: .82em; font-weight: 400; }
.word { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
.right { color: var(--right); } .wrong { color: var(--wrong); }
.notice { background: var(--notice); border-radius: 8px; padding: .1rem 1rem .4rem; margin: 1.4rem 0; }
.notice h3 { color: var(--notice-ink); margin-top: .9rem; }
.notice .frame { background-color: var(--paper); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem 1.6rem; }
.chart { margin: 0; min-width: 0; max-width: 32rem; }
.chart figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .2rem; }
.chart svg { display: block; width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.3rem; padding: 0; margin: .6rem 0 1rem; list-style: none;
  font-size: .88rem; }
.key { display: inline-block; width: 1.5rem; border-top: 3px solid; margin-right: .45rem; vertical-align: middle; }
.d1 { border-top-style: dashed; } .d2, .d3 { border-top-style: dotted; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); }
.legend .key { border-color: currentColor; }
.words { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: .9rem; }
.card { border: 1px solid var(--rule); border-radius: 8px; padding: .7rem; min-width: 0; }
.card .pictures { display: grid; gap: .35rem; }
.card img, .steps img { display: block; width: 100%; height: auto; border-radius: 3px; image-rendering: pixelated; }
.card dl { display: grid; grid-template-columns: minmax(0, 1.2fr) minmax(0, 1fr); gap: .15rem .8rem; margin: .6rem 0 0;
  font-size: .86rem; }
.card dt { color: var(--grey); line-height: 1.3; } .card dd { margin: 0; overflow-wrap: anywhere; }
.steps { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .6rem;
  margin: .5rem 0 1rem; }
.steps figure { margin: 0; } .steps figcaption { font-size: .85rem; text-align: center; }
.pager { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem; font-size: .9rem; }
.pager button { font: inherit; padding: .3rem .9rem; border: 1px solid var(--rule); border-radius: 6px;
  background: var(--tint); color: var(--ink); cursor: pointer; }
.pager button:disabled { opacity: .45; cursor: default; }
@media print { .pager, nav { display: none; } .frame { overflow: visible; } }
"""

SCRIPT = """
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
    back.textContent = "← back"; on.textContent = "on →"; where.setAttribute("aria-live", "polite");
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
"""
