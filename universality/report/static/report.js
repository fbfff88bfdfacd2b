"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 25;
  const STATES = [["value", "trained"], ["value_untrained", "untrained twins"], ["value_haar", "B in a random basis (Haar)"], ["value_shuffled", "stimuli shuffled"]];
  const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
  const SVG = "http://www.w3.org/2000/svg";

  // ---- small helpers: text is always set as text, never as markup
  function el(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "on") for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }
  function svg(name, attributes = {}, ...children) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  const short = (model) => model.slice(model.indexOf("/") + 1);
  function shown(value, digits = 2) {
    if (value === null || value === undefined) return "not defined";
    if (typeof value === "string") return value;
    const rounded = Number(value.toFixed(digits)) + 0;
    return (rounded === 0 ? 0 : rounded).toFixed(digits);
  }
  function brief(value) {
    if (value === null || value === undefined) return "";
    if (typeof value !== "number" || Number.isInteger(value)) return String(value);
    const size = Math.abs(value);
    return size < 0.001 && size > 0 ? value.toExponential(1) : shown(value, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
  }
  // Long names may break behind a dot, a low line or a slash; what is copied from the page holds no more than the name.
  const breakable = (name) => name.split(/(?<=[._/])/).flatMap((part, index) => (index ? [el("wbr"), part] : [part]));
  const say = (text) => { document.getElementById("status").textContent = text; };

  // ---- tables by columns
  class Table {
    constructor(plain) {
      Object.assign(this, plain);
      this.byName = new Map(plain.columns.map((column) => [column.name, column]));
    }
    has(name) { return this.byName.has(name); }
    get(name, row) {
      const column = this.byName.get(name);
      if (!column) return null;
      const value = column.values[row];
      if (value === null) return null;
      if (column.kind === "text") return column.levels[value];
      return column.kind === "bool" ? value === 1 : value;
    }
    key(row, side = "") { return [this.get("model" + side, row), this.get("tap" + side, row), this.get("unit" + side, row)].join("|"); }
  }
  const tables = Object.fromEntries(Object.entries(data.tables).map(([name, plain]) => [name, new Table(plain)]));
  const units = tables.units, pairs = tables.correspondence;
  const rowsOfUnit = new Map(), rowsOfPair = new Map();
  const into = (map, key, row) => { if (!map.has(key)) map.set(key, []); map.get(key).push(row); };
  for (let row = 0; row < units.rows; row++) into(rowsOfUnit, units.key(row), row);
  for (let row = 0; row < pairs.rows; row++) for (const side of ["_a", "_b"]) into(rowsOfPair, pairs.key(row, side), row);
  const unitRow = (key, family) => (rowsOfUnit.get(key) || []).find((row) => units.get("family", row) === family);

  // ---- pictures
  // A picture that is chosen is shown as large as the window allows; the arrows go on to its neighbours.
  const viewer = document.getElementById("viewer");
  function enlarge(pictures, index) {
    const { src, text, box } = pictures[index];
    const go = (by) => () => { if (pictures[index + by]) enlarge(pictures, index + by); };
    const bar = el("div", { class: "bar" }, el("h2", { id: "viewer-title", tabindex: -1 }, pictures.length > 1 ? `Picture ${index + 1} of ${pictures.length}` : "Picture"));
    if (pictures.length > 1) {
      bar.append(el("button", { type: "button", disabled: index === 0, "aria-label": "Previous picture", on: { click: go(-1) } }, "← previous"),
        el("button", { type: "button", disabled: index === pictures.length - 1, "aria-label": "Next picture", on: { click: go(1) } }, "next →"));
    }
    bar.append(el("button", { type: "button", on: { click: () => viewer.close() } }, "Close"));
    const image = el("img", { src, alt: text });
    // Figures are drawn for wide pages: they may be larger than the window and scroll. Small pictures are drawn larger than they are.
    // Asked before anybody else asks: its size is set when it can be drawn, while the event "load" may come a frame later.
    image.decode().then(() => {
      const { naturalWidth: width, naturalHeight: height } = image;
      if (height < 400) image.style.width = `min(${Math.round(30 * width / height)}rem, calc(100vw - 4rem))`;
    }, () => {});
    viewer.replaceChildren(bar, el("div", { class: "picture", tabindex: 0, role: "region", "aria-label": "Enlarged picture" }, el("div", { class: "framed" }, image, frame(box))), el("p", { class: "hint" }, text));
    viewer.onkeydown = (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by && pictures.length > 1) { go(by)(); event.preventDefault(); }
    };
    if (!viewer.open) viewer.showModal();
    viewer.querySelector("#viewer-title").focus();
  }
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.enlarge");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const image = link.querySelector("img");
    enlarge([{ src: image.src, text: image.alt }], 0);
  });
  // One stop for the Tab key in a row of pictures; the others are reached with the arrows of the enlarged one.
  function thumb(places, index, box) {
    const picture = data.pictures[places[index]];
    const show = () => enlarge(places.map((place) => ({ src: data.pictures[place].src, text: data.pictures[place].alt, box })), index);
    return el("button", { type: "button", class: "thumb", title: picture.alt, "aria-label": `Enlarge ${picture.alt}`, tabindex: index ? -1 : 0, on: { click: show } },
      el("img", { src: picture.src, alt: picture.alt, width: 56, height: 56, loading: "lazy" }), frame(box));
  }
  // The receptive field within a picture, as a share of its side; none where it is the whole picture.
  function frame(box) {
    if (!box || box >= 0.98) return null;
    const node = el("span", { class: "box" });
    for (const side of ["left", "top"]) node.style[side] = `${50 - 50 * box}%`;
    for (const side of ["width", "height"]) node.style[side] = `${100 * box}%`;
    return node;
  }
  function thumbs(key, name, most = 99) {
    const found = (data.unit_pictures[key] || {})[name];
    if (found === null || found === undefined) return null;
    const box = name.startsWith("drawn") ? null : data.boxes[key.split("|").slice(0, 2).join("|")];
    const places = (Array.isArray(found) ? found : [found]).slice(0, most);
    return el("div", { class: "thumbs" }, places.map((_, index) => thumb(places, index, box)));
  }

  // ---- curves
  function path(curve, place, closed) {
    const points = closed ? [...curve, curve[0]] : curve;
    return points.map((value, index) => `${index ? "L" : "M"}${place(index / (points.length - 1), value)}`).join("");
  }
  function tuningChart(lines, { period, angle }, { width = 300, height = 130, scaled = false, preferred = null, label = "" } = {}) {
    const left = 34, right = 16, top = 8, bottom = 28;
    const values = lines.flatMap((line) => (scaled ? line.curve.map((v) => v / Math.max(...line.curve)) : line.curve));
    const high = Math.max(scaled ? 1 : 0.1, ...values), low = Math.min(0, ...values);
    const x = (share) => left + share * (width - left - right);
    const y = (value) => top + (high - value) / (high - low) * (height - top - bottom);
    const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
    chart.append(svg("path", { class: "axis", d: `M${x(0)} ${top}V${height - bottom}H${x(1)}` }));
    if (low < 0) chart.append(svg("path", { class: "axis", d: `M${x(0)} ${y(0)}H${x(1)}` }));
    if (preferred !== null) chart.append(svg("path", { class: "preferred", d: `M${x(preferred / period)} ${top}V${height - bottom}` }));
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const text = svg("text", { x: x(share), y: height - bottom + 12, "text-anchor": "middle" });
      text.textContent = `${share * period}°`;
      chart.append(text);
    }
    for (const value of [low, high]) {
      const text = svg("text", { x: left - 4, y: y(value) + 4, "text-anchor": "end" });
      text.textContent = shown(value, 1);
      chart.append(text);
    }
    const name = svg("text", { x: x(0.5), y: height - 3, "text-anchor": "middle" });
    name.textContent = scaled ? `${angle}; response / peak` : `${angle}; response in sigma`;
    chart.append(name);
    for (const line of lines) {
      const peak = scaled ? Math.max(...line.curve) : 1;
      chart.append(svg("path", { class: line.style, d: path(line.curve, (s, v) => `${x(s).toFixed(1)} ${y(v / peak).toFixed(1)}`, true) }));
    }
    return chart;
  }

  // ---- the card of a unit
  const dialog = document.getElementById("card");
  let around = [], current = null;
  // A card's address is report.html#unit=MODEL|TAP|INDEX. It follows what is open, and what is open follows it: when it is edited, or with "back".
  const PREFIX = "#unit=";
  function openCard(key, list) {
    if (list) around = list;
    if (viewer.open) viewer.close();
    current = key;
    dialog.replaceChildren(...(rowsOfUnit.has(key) ? card(key) : noCard(key)));
    const address = PREFIX + encodeURIComponent(key);
    if (wanted() !== key) history[dialog.open ? "replaceState" : "pushState"](null, "", address);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    dialog.querySelector("#card-title").focus();
  }
  function noCard(key) {
    return [el("div", { class: "bar" }, el("h2", { id: "card-title", tabindex: -1 }, "No such card"), el("button", { type: "button", on: { click: () => dialog.close() } }, "Close")),
      el("p", {}, `The address asks for the unit "${key}", expected MODEL|TAP|INDEX of a unit that has a card on this page. Units that are in the run's tables and not here, because the page holds ${units.rows} of ${units.total} rows, have none.`)];
  }
  function wanted() {
    if (!location.hash.startsWith("#unit=")) return null;
    const text = location.hash.slice(PREFIX.length);
    try { return decodeURIComponent(text); } catch { return text; } // a lone % is no code for a character
  }
  function followAddress() {
    const key = wanted();
    if (key !== null) { if (!dialog.open || key !== current) openCard(key); return; }
    if (dialog.open) dialog.close();
    const place = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (let at = place; at; at = at.parentElement) if (at.matches("details")) at.open = true;
    if (place) place.scrollIntoView();
  }
  dialog.addEventListener("close", () => { if (wanted() !== null) history.replaceState(null, "", "#"); });
  function step(by) {
    const here = around.indexOf(current);
    const next = here + by;
    if (here >= 0 && next >= 0 && next < around.length) openCard(around[next]);
  }
  dialog.addEventListener("keydown", (event) => {
    if (event.target.closest("select, input")) return;
    if (event.key === "ArrowRight") { step(1); event.preventDefault(); }
    if (event.key === "ArrowLeft") { step(-1); event.preventDefault(); }
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  function unitButton(key, list) {
    const [model, tap, unit] = key.split("|");
    if (!rowsOfUnit.has(key)) return document.createTextNode(unit);
    return el("button", { type: "button", class: "unit", "aria-label": `Open the card of unit ${unit} of ${short(model)} at ${tap}`, on: { click: () => openCard(key, list && list()) } }, unit);
  }

  function card(key) {
    const [model, tap, unit] = key.split("|");
    const rows = rowsOfUnit.get(key), place = around.indexOf(key);
    const close = el("button", { type: "button", on: { click: () => dialog.close() } }, "Close");
    const bar = el("div", { class: "bar" }, el("h2", { id: "card-title", tabindex: -1 }, `${short(model)}, ${tap}, unit ${unit}`));
    if (place >= 0 && around.length > 1) {
      bar.append(
        el("button", { type: "button", disabled: place === 0, "aria-label": "Previous unit", on: { click: () => step(-1) } }, "← previous"),
        el("span", { class: "hint" }, `${place + 1} of ${around.length}`),
        el("button", { type: "button", disabled: place === around.length - 1, "aria-label": "Next unit", on: { click: () => step(1) } }, "next →"));
    }
    bar.append(close);
    const held = rows.filter((row) => units.get("detector", row)).map((row) => data.families[units.get("family", row)].noun.replace(/s$/, ""));
    const parts = [bar, el("p", {}, held.length ? `By this run's rules: ${held.join(" and ")}.` : "By this run's rules it is no detector of these families.",
      units.get("live", rows[0]) === false ? " It does not vary in one of the two halves of the natural images, so it is left out of every match." : "")];
    const top = thumbs(key, "top"), bottom = thumbs(key, "bottom");
    if (top) {
      const boxed = data.boxes[`${model}|${tap}`] < 0.98;
      parts.push(el("h3", {}, "Natural images it answers most to"), top, el("h3", {}, "and least to"), bottom,
        el("p", { class: "hint" }, boxed ? "The frame is the receptive field of the unit that is recorded, at the middle of the image." : "",
          " The most extreme first; many images of one photograph may stand beside one another, and where many responses are equal the first are shown."));
    } else parts.push(el("p", { class: "hint" }, `No pictures: ${data.no_pictures || "none were drawn"}.`));
    for (const row of rows) parts.push(...familyPart(key, row));
    parts.push(...matchesPart(key));
    return parts;
  }

  function familyPart(key, row) {
    const family = units.get("family", row), about = data.families[family];
    const curve = data.tuning[row], drawn = thumbs(key, "drawn_" + family);
    const verdict = units.get("detector", row) ? "detector" : "no detector";
    const level = units.get("level", row);
    const left = el("div", {}, tuningChart([{ curve, style: "line-a" }], about, {
      preferred: units.get("preferred_deg", row), label: `Tuning curve over ${about.angle}, ${about.noun}: preferred ${brief(units.get("preferred_deg", row))} degrees, peak ${brief(units.get("peak_sigma", row))} sigma` }));
    if (drawn) left.append(el("p", { class: "hint" }, "Drawing of the family's set with the largest response:"), drawn);
    const body = el("tbody", {}, about.criteria.map((criterion) => {
      const value = units.get(criterion.column, row);
      const number = value === "inf" ? Infinity : value === "-inf" ? -Infinity : value;
      const ok = number !== null && { ">": number > criterion.threshold, ">=": number >= criterion.threshold, "<": number < criterion.threshold, "<=": number <= criterion.threshold }[criterion.op];
      const column = units.byName.get(criterion.column);
      return el("tr", {}, el("th", { scope: "row", title: column ? column.meaning : "" }, criterion.column), el("td", { class: "num" }, value === null ? "none" : brief(value)),
        el("td", { class: "name" }, `${criterion.op} ${criterion.threshold}`), el("td", { class: ok ? "name pass" : "name fail" }, ok ? "✓ meets" : "✗ fails"), el("td", { class: "text" }, criterion.reason));
    }));
    const right = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Criteria of ${about.noun}` }, el("table", {}, el("thead", {}, el("tr", {}, ["criterion", "value", "asked", "", "reason"].map((title) => el("th", { scope: "col" }, title)))), body));
    return [el("h3", {}, `${about.noun[0].toUpperCase()}${about.noun.slice(1)}: ${verdict}${level ? ` (${level})` : ""}`), el("div", { class: "card-family" }, left, right)];
  }

  function matchesPart(key) {
    const found = (rowsOfPair.get(key) || []).slice().sort((x, y) => (pairs.get("r_natural", y) ?? -2) - (pairs.get("r_natural", x) ?? -2));
    const title = el("h3", {}, "Matches in other networks");
    if (!found.length) return [title, el("p", {}, "None among the pairs on this page: it has no match, it and its partners are no detectors, or its layer was not compared.")];
    const body = el("tbody", {}, found.map((row) => {
      const mine = pairs.key(row, "_a") === key ? "_a" : "_b", other = mine === "_a" ? "_b" : "_a";
      const verdict = pairs.get("verdict", row);
      const number = (name, text) => el("td", { class: "num", "data-value": pairs.get(name, row) ?? "" }, text);
      return el("tr", {}, el("td", { class: "name" }, short(pairs.get("model" + other, row))), el("td", { class: "verdict " + verdict, "data-value": -data.verdicts.indexOf(verdict) }, verdict),
        number("r_natural", `${shown(pairs.get("r_natural", row))} (${shown(pairs.get("r_natural_low", row))} to ${shown(pairs.get("r_natural_high", row))})`),
        el("td", { "data-value": pairs.get("unit" + other, row) }, unitButton(pairs.key(row, other))), el("td", { class: "name" }, pairs.get("tap" + other, row)),
        el("td", {}, pairs.get("family", row)), number("r_natural_haar", shown(pairs.get("r_natural_haar", row))), number("r_natural_untrained", shown(pairs.get("r_natural_untrained", row))),
        number("q", brief(pairs.get("q", row))), el("td", {}, pairs.get("method", row)), el("td", {}, mine === "_a" ? "this unit" : "the other"));
    }));
    const heads = ["network", "verdict", "held-out r (95 % interval)", "unit", "tap", "family", "random basis (Haar)", "untrained twin", "q", "matched by", "seen from"];
    return [title, el("p", { class: "hint" }, "Held-out r of the matched unit; beside it that of the best partner in a random basis of the other layer and in its untrained twin, both from the side of the unit named last."),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Matches in other networks" }, sortable(el("table", {}, el("thead", {}, el("tr", {}, heads.map((name) => el("th", { scope: "col" }, name)))), body)))];
  }
  // The heads of a table become buttons that sort its rows, by the cells' data-value or their text; a third press gives the order back.
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells], rows = [...table.tBodies[0].rows];
    const value = (row, index) => { const cell = row.cells[index]; return cell.dataset.value === undefined ? cell.textContent : cell.dataset.value === "" ? null : Number(cell.dataset.value); };
    heads.forEach((head, index) => {
      const arrow = el("span", { "aria-hidden": "true", class: "arrow" }), first = typeof value(rows[0], index) === "string" ? "ascending" : "descending";
      const press = () => {
        const before = head.getAttribute("aria-sort");
        const order = before === "none" ? first : before === first ? (first === "ascending" ? "descending" : "ascending") : "none";
        for (const other of heads) { other.setAttribute("aria-sort", "none"); other.querySelector(".arrow").textContent = ""; }
        head.setAttribute("aria-sort", order);
        arrow.textContent = { ascending: " ▲", descending: " ▼", none: "" }[order];
        table.tBodies[0].append(...(order === "none" ? rows : rows.slice().sort((x, y) => inOrder(value(x, index), value(y, index), order === "descending"))));
        say(order === "none" ? "In the first order" : `Sorted by ${head.textContent}, ${order}`);
      };
      head.setAttribute("aria-sort", "none");
      head.replaceChildren(el("button", { type: "button", on: { click: press } }, ...head.childNodes, arrow));
    });
    return table;
  }
  // What has no value comes last, either way.
  function inOrder(a, b, descending) {
    if (a === null || b === null) return (a === null) - (b === null);
    return (descending ? -1 : 1) * (typeof a === "string" && typeof b === "string" ? a.localeCompare(b, "en", { numeric: true }) : a < b ? -1 : a > b ? 1 : 0);
  }

  // ---- tables that can be searched, filtered and sorted
  const COMPARE = /^\s*(<=|>=|<|>|=)?\s*(-?\d*\.?\d+(?:e-?\d+)?)\s*$/i;
  const RANGE = /^\s*(-?\d*\.?\d+)\s*\.\.\s*(-?\d*\.?\d+)\s*$/;
  function numberTest(text) {
    const range = RANGE.exec(text);
    if (range) return (v) => v !== null && v >= Number(range[1]) && v <= Number(range[2]);
    const one = COMPARE.exec(text);
    if (!one) return null;
    const limit = Number(one[2]);
    return { "<": (v) => v < limit, "<=": (v) => v <= limit, ">": (v) => v > limit, ">=": (v) => v >= limit }[one[1]] || ((v) => v === limit || brief(v) === one[2]);
  }

  class Explorer {
    constructor(host, table) {
      this.host = host; this.table = table;
      this.filters = new Map(); this.search = ""; this.page = 0; this.all = false;
      // Who opens the units wants to see detectors first, and of matched pairs the same features; every other table comes in the order of its file.
      this.sort = { units: "detector", correspondence: "verdict" }[table.name] || null; this.descending = true; this.size = PAGE;
      this.texts = table.columns.map((column) => column.kind === "text" ? column.levels.map((level) => level.toLowerCase()) : null);
      this.frame(); this.update();
    }
    columns() { return this.all ? this.table.columns : this.table.shown.map((name) => this.table.byName.get(name)); }
    frame() {
      const id = `t-${this.table.name}`, title = this.host.dataset.title;
      const search = el("input", { type: "search", placeholder: "Search every column", "aria-label": `Search ${title}`, on: { input: (e) => { this.search = e.target.value.trim().toLowerCase(); this.page = 0; this.update(); } } });
      const tools = el("div", { class: "tool" }, search);
      if (this.table.shown.length < this.table.columns.length) {
        tools.append(el("label", {}, el("input", { type: "checkbox", on: { change: (e) => { this.all = e.target.checked; this.head(); this.update(); } } }), `more columns (all ${this.table.columns.length})`));
      }
      tools.append(
        el("button", { type: "button", on: { click: () => this.reset(search) } }, "Clear"),
        el("button", { type: "button", on: { click: () => this.save() } }, "Save rows as CSV"));
      this.count = el("p", { class: "hint", id: `${id}-count` });
      this.headRow = el("thead"); this.body = el("tbody");
      const grid = el("table", { "aria-describedby": `${id}-count` }, el("caption", { class: "visually-hidden" }, title), this.headRow, this.body);
      this.body.addEventListener("keydown", (event) => this.arrows(event));
      this.body.addEventListener("click", (event) => {
        if (event.target.closest("button") || String(getSelection())) return;
        const buttons = event.target.closest("tr").querySelectorAll("button.unit");
        if (buttons.length === 1) buttons[0].click();
      });
      this.pager = el("div", { class: "tool" });
      this.host.append(el("h3", { id }, title), tools, this.count, el("div", { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": id }, grid), this.pager);
      this.head();
    }
    reset(search) { search.value = ""; this.search = ""; this.filters.clear(); this.sort = null; this.page = 0; this.head(); this.update(); }
    head() {
      this.headRow.replaceChildren(el("tr", {}, this.columns().map((column) => {
        const button = el("button", { type: "button", title: [column.meaning, column.unit && column.unit !== "1" ? `in ${column.unit}` : ""].filter(Boolean).join("; "), on: { click: () => this.sortBy(column.name) } }, breakable(column.name), el("span", { "aria-hidden": "true", class: "arrow" }));
        return el("th", { scope: "col", "aria-sort": "none", "data-column": column.name, class: column.kind === "number" ? "num" : "" }, button, this.filterOf(column));
      })));
      this.arrowsOfSort();
    }
    filterOf(column) {
      const change = (e) => { this.filters.set(column.name, e.target.value); this.page = 0; this.update(); };
      const label = `Filter ${column.name}`, held = this.filters.get(column.name) || "";
      const choices = column.kind === "bool" ? ["true", "false"] : column.kind === "text" && column.levels.length <= 30 ? column.levels : null;
      if (choices) {
        const select = el("select", { "aria-label": label, on: { change } }, el("option", { value: "" }, "all"), choices.map((choice) => el("option", { value: `=${choice}` }, choice === "" ? "(empty)" : choice)));
        select.value = held;
        return select;
      }
      const input = el("input", { "aria-label": label, size: 4, placeholder: column.kind === "number" ? "> 0.5" : "has", on: { input: change } });
      input.value = held;
      return input;
    }
    sortBy(name) {
      const column = this.table.byName.get(name);
      const first = column.kind !== "text" || name === "verdict"; // numbers from the largest, verdicts from same_feature, words from A
      if (this.sort !== name) { this.sort = name; this.descending = first; }
      else if (this.descending === first) this.descending = !first;
      else this.sort = null;
      this.page = 0; this.arrowsOfSort(); this.update();
      say(this.sort ? `Sorted by ${name}, ${this.descending ? "largest" : "smallest"} first` : "In the order of the file");
    }
    arrowsOfSort() {
      for (const th of this.headRow.querySelectorAll("th")) {
        const here = th.dataset.column === this.sort;
        th.setAttribute("aria-sort", here ? (this.descending ? "descending" : "ascending") : "none");
        th.querySelector(".arrow").textContent = here ? (this.descending ? " ▼" : " ▲") : "";
      }
    }
    tests() {
      const tests = [];
      for (const [name, text] of this.filters) {
        if (!text) continue;
        const column = this.table.byName.get(name);
        if (text.startsWith("=") && column.kind !== "number") { const wanted = text.slice(1); tests.push((row) => String(this.table.get(name, row) ?? "") === wanted); }
        else if (column.kind === "number") { const test = numberTest(text); if (test) tests.push((row) => { const v = column.values[row]; return test(v === "inf" ? Infinity : v === "-inf" ? -Infinity : v) && v !== null; }); }
        else { const part = text.toLowerCase(); tests.push((row) => String(this.table.get(name, row) ?? "").toLowerCase().includes(part)); }
      }
      const words = this.search.split(/\s+/).filter(Boolean);
      if (words.length) tests.push((row) => words.every((word) => this.table.columns.some((column, index) => {
        const value = column.values[row];
        if (value === null) return false;
        return this.texts[index] ? this.texts[index][value].includes(word) : brief(value) === word;
      })));
      return tests;
    }
    update() {
      const tests = this.tests(), rows = [];
      for (let row = 0; row < this.table.rows; row++) if (tests.every((test) => test(row))) rows.push(row);
      if (this.sort) {
        const value = (row) => this.value(this.sort, row), strength = this.sort === "verdict" && this.table.has("r_natural") ? (row) => this.value("r_natural", row) : () => 0;
        rows.sort((x, y) => inOrder(value(x), value(y), this.descending) || inOrder(strength(x), strength(y), true) || x - y);
      }
      this.rows = rows;
      this.draw();
    }
    // What a row is sorted by: of verdicts the one that claims most is the largest.
    value(name, row) {
      const v = this.table.get(name, row);
      return v === "inf" ? Infinity : v === "-inf" ? -Infinity : name === "verdict" && v !== null ? -data.verdicts.indexOf(v) : v;
    }
    keys() { return [...new Set(this.rows.map((row) => this.table.key(row)))]; }
    cell(column, row) {
      const value = this.table.get(column.name, row);
      const unit = /^unit(_a|_b)?$/.exec(column.name);
      if (unit && this.table.has("model" + (unit[1] || "")) && value !== null && value >= 0) {
        const side = unit[1] || "";
        return el("td", { class: "num" }, unitButton(this.table.key(row, side), side ? null : () => this.keys()));
      }
      if (column.kind === "number") return el("td", { class: "num" }, brief(value));
      const text = value === null ? "" : String(value);
      if (column.name === "failed") return el("td", { class: "short", title: text }, text);
      const kind = column.name === "verdict" ? `verdict ${text}` : text.includes(" ") ? (text.length > 28 ? "text" : "name") : "long";
      return el("td", { class: kind }, kind === "long" ? breakable(text) : text);
    }
    draw() {
      const pages = Math.max(1, Math.ceil(this.rows.length / this.size));
      this.page = Math.min(this.page, pages - 1);
      const from = this.page * this.size, here = this.rows.slice(from, from + this.size);
      this.body.replaceChildren(...here.map((row) => el("tr", {}, this.columns().map((column) => this.cell(column, row)))));
      const t = this.table;
      const cut = t.total > t.rows ? ` The page holds ${t.rows} of ${t.total} rows${t.file ? `; all are in ${t.file}` : ""}.` : t.file ? ` All rows of ${t.file} are here${t.name === "units" ? ", untrained twins left out" : ""}; numbers have four digits.` : "";
      this.count.textContent = (this.rows.length ? `Rows ${from + 1} to ${from + here.length} of ${this.rows.length}${this.rows.length < t.rows ? ` that match, out of ${t.rows}` : ""}.` : "No row matches.") + cut;
      const turn = (by) => () => { this.page += by; this.draw(); this.pager.querySelectorAll("button")[by < 0 ? 0 : 1].focus(); };
      this.pager.replaceChildren(
        el("button", { type: "button", disabled: this.page === 0, on: { click: turn(-1) } }, "← rows before"),
        el("span", { class: "hint" }, `page ${this.page + 1} of ${pages}`),
        el("button", { type: "button", disabled: this.page >= pages - 1, on: { click: turn(1) } }, "rows after →"));
      this.pager.hidden = pages === 1;
    }
    arrows(event) {
      if (!["ArrowDown", "ArrowUp"].includes(event.key) || !event.target.matches("button.unit")) return;
      const column = event.target.closest("td").cellIndex;
      const rows = [...this.body.rows], next = rows[event.target.closest("tr").rowIndex - 1 + (event.key === "ArrowDown" ? 1 : -1)];
      const button = next && next.cells[column].querySelector("button.unit");
      if (button) { button.focus(); event.preventDefault(); }
    }
    save() {
      const quote = (value) => value === null ? "" : /[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
      const columns = this.table.columns;
      const lines = [columns.map((c) => c.name).join(","), ...this.rows.map((row) => columns.map((c) => quote(this.table.get(c.name, row))).join(","))];
      const link = el("a", { download: `${this.table.name}.csv`, href: URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" })) });
      link.click();
      say(`${this.rows.length} rows saved`);
    }
  }

  // ---- heatmaps
  function colourOf(share) {
    const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), low = Math.floor(place), high = Math.min(low + 1, VIRIDIS.length - 1);
    const parts = [VIRIDIS[low], VIRIDIS[high]].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    return parts[0].map((value, index) => Math.round(value + (parts[1][index] - value) * (place - low)));
  }
  // Relative luminance as in WCAG 2: text is black or white, whichever contrasts more.
  const luminance = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  function paint(node, share) {
    const rgb = colourOf(share);
    node.style.backgroundColor = `rgb(${rgb.join(",")})`;
    node.style.color = luminance(rgb) > 0.179 ? "#000" : "#fff";
  }
  function heatmaps(host, table) {
    if (!table.rows) { host.append(el("p", {}, "No two networks were compared.")); return; }
    const rows = [...Array(table.rows).keys()];
    const measures = [...new Set(rows.map((row) => table.get("measure", row)))];
    const models = [...new Set(rows.map((row) => `${table.get("model_a", row)}\n${table.get("model_b", row)}`))];
    const choose = (label, values, texts) => el("label", {}, label, el("select", { on: { change: () => draw() } }, values.map((value, index) => el("option", { value: index }, texts[index]))));
    const measure = choose("measure", measures, measures);
    const pair = choose("networks", models, models.map((text) => text.split("\n").map(short).join(" and ")));
    const area = el("div");
    function draw() {
      const [m, p] = [measure, pair].map((label) => Number(label.querySelector("select").value));
      const ofMeasure = rows.filter((row) => table.get("measure", row) === measures[m]);
      const values = ofMeasure.flatMap((row) => STATES.map(([state]) => table.get(state, row))).filter((v) => typeof v === "number");
      const low = Math.min(0, ...values), high = Math.max(...values, low + 1e-9) > 1 ? Math.max(...values) : 1;
      const [a, b] = models[p].split("\n");
      const here = ofMeasure.filter((row) => table.get("model_a", row) === a && table.get("model_b", row) === b);
      const taps = (side) => [...new Map(here.map((row) => [table.get("tap" + side, row), table.get("depth" + side, row)]))].sort((x, y) => x[1] - y[1]);
      const bar = el("span", { class: "bar", "aria-hidden": "true" }, [...Array(20).keys()].map((k) => { const cell = el("i"); paint(cell, k / 19); return cell; }));
      const distance = here.length && table.get("direction", here[0]) === "distance";
      area.replaceChildren(
        el("p", { class: "scale" }, shown(low), bar, shown(high), distance ? " (a distance: small is alike)" : "", ` one scale for all pairs and all four states of ${measures[m]}`),
        el("div", { class: "maps" }, STATES.map(([state, title]) => el("table", {}, el("caption", {}, title),
          el("thead", {}, el("tr", {}, el("td"), taps("_b").map(([tap, depth]) => el("th", { scope: "col" }, breakable(tap), ` (${Math.round(100 * depth)}\u00a0%)`)))),
          el("tbody", {}, taps("_a").map(([tapA, depth]) => el("tr", {}, el("th", { scope: "row" }, breakable(tapA), ` (${Math.round(100 * depth)}\u00a0%)`), taps("_b").map(([tapB]) => {
            const row = here.find((r) => table.get("tap_a", r) === tapA && table.get("tap_b", r) === tapB);
            const value = row === undefined ? null : table.get(state, row);
            const cell = el("td", { class: typeof value === "number" ? "" : "blank", title: row === undefined ? "not compared" : table.get("reason", row) || "" }, typeof value === "number" ? shown(value) : "none");
            if (typeof value === "number") paint(cell, (value - low) / (high - low));
            return cell;
          }))))))),
        el("p", { class: "hint" }, `Rows: ${short(a)}; columns: ${short(b)}; in brackets the relative depth.`));
    }
    host.append(el("div", { class: "tool" }, measure, pair), area);
    draw();
  }

  // ---- matched pairs as pictures
  function gallery(host) {
    const FEW = 8;
    const filled = data.gallery.filter((entry) => entry.rows.length);
    const name = (entry) => `${short(entry.a)} (${entry.taps[0]}) and ${short(entry.b)} (${entry.taps[1]}): ${data.families[entry.family].noun}`;
    if (!filled.length) { host.append(el("p", {}, data.gallery.length ? `No two detectors were matched ${data.matched} at the taps that are drawn.` : "The job draws no pair of networks.")); return; }
    const r = (row) => pairs.get("r_natural", row), rank = (row) => -data.verdicts.indexOf(pairs.get("verdict", row));
    const ORDERS = [
      ["spread evenly", (entry) => `spread evenly over the preferred ${data.families[entry.family].angle}, not the best ones`, null],
      ["strongest first", () => "those of the largest held-out r first", (x, y) => inOrder(r(x), r(y), true)],
      ["weakest first", () => "those of the smallest held-out r first", (x, y) => inOrder(r(x), r(y), false)],
      ["by verdict", () => "by verdict, and of one verdict those of the largest held-out r first", (x, y) => inOrder(rank(x), rank(y), true) || inOrder(r(x), r(y), true)],
    ];
    const fresh = () => { few = FEW; draw(); };
    const select = el("select", { on: { change: fresh } }, filled.map((entry, index) => el("option", { value: index }, name(entry))));
    const order = el("select", { on: { change: fresh } }, ORDERS.map(([text], index) => el("option", { value: index }, text)));
    const area = el("div");
    let few = FEW;
    function draw() {
      const entry = filled[Number(select.value)], [, said, compare] = ORDERS[Number(order.value)];
      const rows = compare ? entry.all.slice().sort((x, y) => compare(x, y) || x - y) : entry.rows, here = rows.slice(0, few);
      area.replaceChildren(el("p", { class: "hint" }, `${name(entry)}. ${here.length} of ${entry.all.length} pairs matched ${data.matched}, ${said(entry)}. First network: solid, blue; second: dashed, orange. Images: the natural images each answers most to.`),
        el("div", { class: "pairs" }, here.map((row) => pairCard(row, entry.family))));
      if (rows.length > here.length) {
        const more = () => { few += FEW; draw(); area.querySelectorAll(".pair h3 button")[2 * here.length]?.focus(); };
        area.append(el("button", { type: "button", class: "more", on: { click: more } }, `Show ${Math.min(FEW, rows.length - here.length)} more`));
      }
    }
    host.append(el("div", { class: "tool" }, el("label", {}, "pair", select), el("label", {}, "order", order)), area);
    draw();
  }
  function pairCard(row, family) {
    const keys = ["_a", "_b"].map((side) => pairs.key(row, side));
    const lines = keys.map((key, index) => ({ unit: unitRow(key, family), style: index ? "line-b" : "line-a" })).filter((line) => line.unit !== undefined).map((line) => ({ ...line, curve: data.tuning[line.unit] }));
    const verdict = pairs.get("verdict", row);
    const node = el("article", { class: "pair" }, el("h3", {}, unitButton(keys[0]), " and ", unitButton(keys[1]), " ", el("span", { class: `verdict ${verdict}` }, verdict)),
      el("p", {}, `r ${shown(pairs.get("r_natural", row))} (${shown(pairs.get("r_natural_low", row))} to ${shown(pairs.get("r_natural_high", row))}); random basis (Haar) ${shown(pairs.get("r_natural_haar", row))}, untrained twin ${shown(pairs.get("r_natural_untrained", row))}`),
      tuningChart(lines, data.families[family], { scaled: true, height: 105, label: "Both tuning curves, each divided by its peak" }));
    keys.forEach((key, index) => {
      const drawn = thumbs(key, "drawn_" + family), top = thumbs(key, "top", 4);
      const pictures = el("div", { class: "thumbs" }, el("b", { class: index ? "b" : "a" }, index ? "2" : "1"));
      if (drawn) pictures.append(...drawn.childNodes);
      if (top) pictures.append(...top.childNodes);
      if (drawn || top) node.append(pictures);
    });
    return node;
  }

  // ---- the atlas
  function atlas(host, table) {
    const rows = [...Array(table.rows).keys()];
    const families = [...new Set(rows.map((row) => table.get("family", row)))];
    const select = el("select", { on: { change: () => draw() } }, families.map((family) => el("option", { value: family }, data.families[family] ? data.families[family].noun : family)));
    const area = el("div");
    function cell(row, family) {
      const unit = row === undefined ? -1 : table.get("unit", row);
      if (unit === null || unit < 0) return el("td", { class: "empty" }, el("span", { "aria-label": "none" }, "–"));
      const key = table.key(row), known = unitRow(key, family), links = table.get("links", row), label = `${links} / ${table.get("n_units", row)}`;
      if (known === undefined) return el("td", {}, label);
      const curve = data.tuning[known].map((v) => Math.max(v, 0)), peak = Math.max(...curve) || 1;
      const place = (s, v) => `${(2 + 50 * s).toFixed(1)} ${(30 - 27 * v / peak).toFixed(1)}`;
      const line = path(curve, place, true);
      const picture = svg("svg", { viewBox: "0 0 54 32", width: 54, height: 32, "aria-hidden": "true" });
      if (links > 0) picture.append(svg("path", { class: "fill-a", d: `${line}L52 30L2 30Z` }));
      picture.append(svg("path", { class: "line-a", d: line }));
      const linked = table.get("linked", row);
      return el("td", {}, el("button", { type: "button", title: linked ? `same feature in ${linked}` : "no same_feature partner",
        "aria-label": `${short(table.get("model", row))}, ${table.get("angle_deg", row)} degrees, unit ${unit}, same feature in ${links} other networks, ${table.get("n_units", row)} detectors here`,
        on: { click: () => openCard(key, rows.filter((r) => table.get("family", r) === family && table.get("unit", r) >= 0).map((r) => table.key(r))) } }, picture, label));
    }
    function draw() {
      const family = select.value, here = rows.filter((row) => table.get("family", row) === family);
      const angles = [...new Set(here.map((row) => table.get("angle_deg", row)))], models = [...new Set(here.map((row) => table.get("model", row)))];
      const at = new Map(here.map((row) => [`${table.get("model", row)}|${table.get("angle_deg", row)}`, row]));
      const noun = data.families[family] ? data.families[family].noun : family;
      area.replaceChildren(el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Atlas" }, el("table", { class: "atlas" }, el("caption", {}, noun),
        el("thead", {}, el("tr", {}, el("td"), angles.map((angle) => el("th", { scope: "col" }, `${angle}°`)))),
        el("tbody", {}, models.map((model) => el("tr", {}, el("th", { scope: "row" }, short(model)), angles.map((angle) => cell(at.get(`${model}|${angle}`), family))))))));
    }
    host.append(el("div", { class: "tool" }, el("label", {}, "family", select)), area);
    draw();
  }

  // ---- light and dark
  const theme = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  let chosen = "system";
  try { chosen = themes.includes(localStorage.getItem("universality-theme")) ? localStorage.getItem("universality-theme") : "system"; } catch { /* a file without storage: the choice is not kept */ }
  function applyTheme() {
    if (chosen === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = chosen;
    theme.textContent = `Theme: ${chosen === "system" ? "as the system" : chosen}`;
  }
  theme.addEventListener("click", () => {
    chosen = themes[(themes.indexOf(chosen) + 1) % themes.length];
    try { localStorage.setItem("universality-theme", chosen); } catch { /* as above */ }
    applyTheme();
    say(theme.textContent);
  });
  theme.hidden = false;
  applyTheme();

  heatmaps(document.getElementById("heatmaps"), tables.similarity);
  gallery(document.getElementById("gallery"));
  if (tables.atlas) atlas(document.getElementById("atlas-grid"), tables.atlas);
  const explorers = [...document.querySelectorAll(".js-table")].map((host) => new Explorer(host, tables[host.dataset.table]));
  // On paper nothing opens and no page turns: short tables show all their rows, and what was closed is closed again afterwards.
  const ON_PAPER = ["families", "checks", "ledger"], MOST_ON_PAPER = 200, MOST_UNFOLDED = 30; // sentences; a hundred fill ten pages
  let opened = [];
  function paper(size) {
    for (const explorer of explorers) if (ON_PAPER.includes(explorer.table.name)) { explorer.size = size; explorer.page = 0; explorer.draw(); }
  }
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")].filter((node) => node.querySelectorAll("li").length <= MOST_UNFOLDED);
    for (const node of opened) node.open = true;
    paper(MOST_ON_PAPER);
  });
  window.addEventListener("afterprint", () => { for (const node of opened) node.open = false; opened = []; paper(PAGE); });
  window.addEventListener("hashchange", followAddress);
  if (location.hash) followAddress();
})();
