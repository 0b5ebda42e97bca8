// The list of runs: rows from /api/runs, asked for again every few seconds. Names from storage are only ever text.
"use strict";

const POLL_MS = 5000, PAGE = 50;
const COLUMNS = [
  ["name", "run"], ["task", "task"], ["state", "state"], ["created", "created"], ["updated", "last sign"],
  ["done", "done"], ["metric", "metric"], ["best", "best"], ["tags", "tags"], ["error", "error"],
];
const NUMBERS = new Set(["done", "best"]);
const find = (id) => document.getElementById(id);
const view = { text: "", state: "", tag: "", sort: "created", offset: 0 };
const chosen = new Set();
let timer = null, asked = 0;

function time(seconds) {
  if (typeof seconds !== "number") return "";
  const two = (n) => String(n).padStart(2, "0"), d = new Date(seconds * 1000);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}`;
}

function number(value) {
  if (typeof value !== "number") return value === null || value === undefined ? "" : String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

function text(row, column) {
  if (column === "created" || column === "updated") return time(row[column]);
  if (column === "tags") return row.tags.join(", ");
  if (column === "done") return row.done === null ? "" : `${row.done}${row.target ? `/${row.target}` : ""} ${row.unit || ""}`;
  if (column === "state") return row.silent ? `${row.state}, silent for ${Math.round(row.silent / 60)} min` : row.state;
  return number(row[column]);
}

function element(name, content, attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (content !== undefined) made.append(content);
  return made;
}

function head([column, title]) {
  const cell = element("th", undefined, { scope: "col" });
  const name = view.sort.replace("-", "");
  if (name === column) cell.setAttribute("aria-sort", view.sort.startsWith("-") ? "ascending" : "descending");
  if (NUMBERS.has(column)) cell.className = "number";
  const button = element("button", title, { type: "button" });
  button.addEventListener("click", () => change({ sort: view.sort === column ? `-${column}` : column, offset: 0 }));
  cell.append(button);
  return cell;
}

function line(row) {
  const made = element("tr", undefined, { "data-run": row.name });
  const box = element("input", undefined, { type: "checkbox", "aria-label": `compare ${row.name}` });
  box.checked = chosen.has(row.name);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(row.name); else chosen.delete(row.name);
    showCompare();
  });
  made.append(element("td", box));
  for (const [column] of COLUMNS) {
    const cell = element("td", undefined, { "data-column": column });
    if (NUMBERS.has(column)) cell.className = "number";
    if (column === "name" && row.state !== "damaged") {
      cell.append(element("a", row.name, { href: `/report?run=${encodeURIComponent(row.name)}` }));
    } else {
      cell.append(text(row, column));
      if (column === "state") cell.className = row.state;
      if (column === "error") { cell.className = "wrap"; cell.title = row.error; }
    }
    made.append(cell);
  }
  return made;
}

function showCompare() {
  find("compare").disabled = chosen.size < 2;
  find("compare").textContent = chosen.size ? `Compare ${chosen.size}` : "Compare";
}

function options(id, values) {
  const select = find(id), known = [...select.options].map((option) => option.value);
  for (const value of values) if (!known.includes(value)) select.append(element("option", value, { value }));
}

function show(page) {
  const focused = document.activeElement && document.activeElement.closest("tr[data-run]");
  const kept = focused && { run: focused.dataset.run, link: document.activeElement.tagName };
  find("uri").textContent = page.uri;
  const left = page.known > page.read ? `, ${page.read} of ${page.known} read` : "";
  find("count").textContent = `${page.matching} runs${left}`;
  find("problem").hidden = !page.problem;
  find("problem").textContent = page.problem;
  find("tag-label").hidden = page.tags.length === 0;
  options("state", page.states);
  options("tag", page.tags);
  find("heads").replaceChildren(element("th", undefined, { "aria-label": "compare", scope: "col" }), ...COLUMNS.map(head));
  find("rows").replaceChildren(...page.rows.map(line));
  find("back").disabled = view.offset === 0;
  find("next").disabled = view.offset + PAGE >= page.matching;
  find("place").textContent = page.matching ? `${view.offset + 1} to ${Math.min(view.offset + PAGE, page.matching)}` : "";
  if (kept) {
    const row = [...find("rows").children].find((one) => one.dataset.run === kept.run);
    const target = row && row.querySelector(kept.link.toLowerCase());
    if (target) target.focus();
  }
}

async function ask() {
  clearTimeout(timer);
  const mine = ++asked;
  let reading = false;
  try {
    const answer = await fetch(`/api/runs?${new URLSearchParams({ ...view, limit: PAGE })}`);
    if (!answer.ok) throw new Error(await answer.text());
    const page = await answer.json();
    if (mine === asked) show(page);
    reading = page.known > page.read;
  } catch (error) {
    find("problem").hidden = false;
    find("problem").textContent = `no answer: ${error.message}`;
  }
  if (mine === asked) timer = setTimeout(ask, reading ? 500 : POLL_MS);
}

function change(more) {
  Object.assign(view, more);
  history.replaceState(null, "", `?${new URLSearchParams(Object.entries(view).filter(([, value]) => value))}`);
  ask();
}

const start = new URLSearchParams(location.search);
for (const key of Object.keys(view)) if (start.has(key)) view[key] = key === "offset" ? Number(start.get(key)) || 0 : start.get(key);
find("text").value = view.text;
options("state", [view.state].filter(Boolean));
options("tag", [view.tag].filter(Boolean));
find("state").value = view.state;
find("tag").value = view.tag;
let typing = null;
find("text").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ text: find("text").value, offset: 0 }), 150);
});
find("state").addEventListener("change", () => change({ state: find("state").value, offset: 0 }));
find("tag").addEventListener("change", () => change({ tag: find("tag").value, offset: 0 }));
find("back").addEventListener("click", () => change({ offset: Math.max(0, view.offset - PAGE) }));
find("next").addEventListener("click", () => change({ offset: view.offset + PAGE }));
find("compare").addEventListener("click", () => {
  location.href = `/report?${new URLSearchParams([...chosen].map((name) => ["run", name]))}`;
});
ask();
