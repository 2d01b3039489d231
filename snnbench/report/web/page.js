"use strict";

// All the script of the page, about 9 kB: no library is behind it.

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const LINES = 200; // drawn at once: a browser lays out some thousand rows slowly

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children); // strings become text, never markup
  return node;
}

// --- the table ---

const state = { column: null, descending: false, limit: LINES, open: new Set() };

function wanted() {
  const rule = element("rule").value;
  const dataset = element("dataset").value;
  const words = element("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const view = data.views[element("view").value];
  return view.blocks
    .filter((block) => !dataset || block.dataset === dataset)
    .map((block) => ({
      ...block,
      lines: block.lines.filter((line) => {
        if (rule && line.rule !== rule) return false;
        if (!words.length) return true;
        line.search ??= [...line.texts, ...line.details, block.caption].join(" ").toLowerCase();
        return words.every((word) => line.search.includes(word));
      }),
    }))
    .filter((block) => block.lines.length);
}

const collator = new Intl.Collator("en", { numeric: true });

function sorted(lines, view) {
  if (state.column === null) return lines;
  const { numeric } = view.columns[state.column];
  const sign = state.descending ? -1 : 1;
  const value = (line) => (numeric ? line.values : line.texts)[state.column];
  const missing = (found) => found === null || found === "";
  return [...lines].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y); // last, whichever the direction
    return sign * (numeric ? x - y : collator.compare(x, y));
  });
}

function head(view) {
  const cells = view.columns.map((column, index) => {
    const button = make("button", { type: "button" }, column.title);
    const order = state.column !== index ? "none" : state.descending ? "descending" : "ascending";
    const cell = make("th", { scope: "col", "aria-sort": order }, button);
    if (column.numeric) cell.classList.add("number");
    button.addEventListener("click", () => {
      // best first, then worst first, then the board's own order
      const first = column.numeric && column.title !== "#" && column.title !== "seed";
      if (state.column !== index) [state.column, state.descending] = [index, first];
      else if (state.descending === first) state.descending = !first;
      else state.column = null;
      draw();
      element("table").tHead.rows[0].cells[index].firstChild.focus();
    });
    return cell;
  });
  return make("tr", {}, ...cells);
}

function row(line, view) {
  const cells = line.texts.map((text, index) => {
    const { title, numeric } = view.columns[index];
    if (title !== "rule") return make("td", numeric ? { class: "number" } : {}, text);
    const opening = line.details.length ? [opener(line, text)] : [];
    return make("th", { scope: "row", class: "name" }, make("div", {}, ...opening, make("span", {}, text)));
  });
  return make("tr", line.bold ? { class: "bold" } : {}, ...cells);
}

function opener(line, text) {
  const open = state.open.has(line);
  const label = `parameters, failures and results of ${text}`;
  const button = make("button", { type: "button", "aria-expanded": open, "aria-label": label }, open ? "−" : "+");
  button.addEventListener("click", () => {
    if (!state.open.delete(line)) state.open.add(line);
    const tr = button.closest("tr");
    if (tr.nextSibling?.classList.contains("details")) tr.nextSibling.remove();
    else tr.after(details(line, tr.cells.length));
    button.setAttribute("aria-expanded", state.open.has(line));
    button.textContent = state.open.has(line) ? "−" : "+";
  });
  return button;
}

function details(line, width) {
  const cell = make("td", { colspan: width }, make("div", {}, ...line.details.map((text) => make("p", {}, text))));
  return make("tr", { class: "details" }, cell);
}

function draw() {
  const view = data.views[element("view").value];
  const table = element("table");
  table.tHead.replaceChildren(head(view));
  for (const body of [...table.tBodies]) body.remove();
  const blocks = wanted();
  const total = blocks.reduce((sum, block) => sum + block.lines.length, 0);
  let room = state.limit;
  for (const block of blocks) {
    if (room <= 0) break;
    const title = make("th", { scope: "rowgroup", colspan: view.columns.length }, make("span", {}, block.caption));
    const body = make("tbody", {}, make("tr", { class: "block" }, title));
    for (const line of sorted(block.lines, view).slice(0, room)) {
      body.append(row(line, view));
      if (state.open.has(line)) body.append(details(line, view.columns.length));
    }
    room -= block.lines.length;
    table.append(body);
  }
  const drawn = Math.min(total, state.limit);
  element("more").hidden = drawn === total;
  element("count").textContent = drawn < total ? `${drawn} of ${total} lines` : `${total} lines`;
}

function filter() {
  state.limit = LINES;
  draw();
}

element("view").addEventListener("change", () => {
  state.column = null;
  filter();
});
for (const id of ["rule", "dataset"]) element(id).addEventListener("change", filter);
element("text").addEventListener("input", filter);
element("more").addEventListener("click", () => {
  state.limit += LINES;
  draw();
});

// --- figures ---

const NEAR = 14; // points of the figure's own size
const WIDE = 500; // likewise; what is wider has a row of the page

function drawFigures() {
  const all = data.figures[element("block").value] ?? [];
  const fronts = all.filter((figure) => figure.name.startsWith("pareto-"));
  const chosen = element("cost").value;
  const options = fronts.map((figure) => make("option", { value: figure.name }, figure.label));
  element("cost").replaceChildren(...options);
  if (fronts.some((figure) => figure.name === chosen)) element("cost").value = chosen;
  element("cost-label").hidden = !fronts.length;
  const front = fronts.find((figure) => figure.name === element("cost").value);
  const others = all.filter((figure) => !fronts.includes(figure));
  const drawn = [...(front ? [front] : []), ...others].map(show);
  const nothing = make("p", { class: "hint" }, "No result of this block has anything to draw.");
  element("drawn").replaceChildren(...(drawn.length ? drawn : [nothing]));
}

function show(figure) {
  const parsed = new DOMParser().parseFromString(figure.svg, "image/svg+xml");
  const svg = document.importNode(parsed.documentElement, true);
  svg.setAttribute("role", "group");
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("aria-label", `${figure.title}. ${figure.points.length} marks; arrow keys walk through them.`);
  const ring = document.createElementNS(svg.namespaceURI, "circle");
  for (const [name, value] of Object.entries({ r: 7, fill: "none", stroke: "currentColor", visibility: "hidden" }))
    ring.setAttribute(name, value);
  svg.append(ring);
  const tip = make("div", { class: "tip", role: "status", hidden: "" });
  const wide = svg.viewBox.baseVal.width > WIDE ? { class: "wide" } : {};
  const holder = make("figure", wide, make("figcaption", {}, figure.title), svg, tip);
  let at = -1;

  const point = (index) => {
    at = index;
    tip.hidden = index < 0;
    ring.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    if (index < 0) return;
    const [x, y, text, keys] = figure.points[index];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    tip.replaceChildren(text, make("code", {}, figure.keys[keys]));
    const scale = svg.clientWidth / svg.viewBox.baseVal.width;
    tip.style.left = `${Math.max(0, Math.min(x * scale, holder.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${svg.getBoundingClientRect().top - holder.getBoundingClientRect().top + (y + 12) * scale}px`;
  };
  svg.addEventListener("pointermove", (event) => {
    const scale = svg.viewBox.baseVal.width / svg.clientWidth;
    const box = svg.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const far = figure.points.map(([px, py]) => Math.hypot(px - x, py - y));
    const nearest = far.indexOf(Math.min(...far));
    point(far[nearest] <= NEAR ? nearest : -1);
  });
  svg.addEventListener("pointerleave", () => point(-1));
  svg.addEventListener("blur", () => point(-1));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") point(-1);
    if (!step || !figure.points.length) return;
    event.preventDefault();
    point((at + step + figure.points.length + (at < 0 && step < 0 ? 1 : 0)) % figure.points.length);
  });
  return holder;
}

element("block").addEventListener("change", drawFigures);
element("cost").addEventListener("change", drawFigures);

draw();
drawFigures();
