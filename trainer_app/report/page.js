"use strict";
// Draws the document in #data. Text from it only ever becomes text: no element is made from a string.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const live = document.documentElement.dataset.live; // where `trainer ui` has a newer document; a file has none
  const ROWS = 100; // of one page of a table
  const SPECIAL = { nan: NaN, inf: Infinity, "-inf": -Infinity };
  const number = (value) => (typeof value === "string" && value in SPECIAL ? SPECIAL[value] : value);
  const finite = (value) => typeof value === "number" && Math.abs(value) < 1e100; // larger ones can't be drawn: their differences overflow

  // --- text

  const show = (value, digits = 5) => {
    value = number(value);
    if (value === null || value === undefined) return "–";
    if (typeof value === "number") {
      if (Number.isNaN(value)) return "NaN";
      if (Math.abs(value) === Infinity) return value > 0 ? "∞" : "-∞";
      if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
      const rounded = Number(value.toPrecision(digits));
      return Math.abs(rounded) < 1e-3 ? rounded.toExponential().replace("e+", "e") : String(rounded);
    }
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  };
  const date = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "–");
  const duration = (seconds) => {
    if (!finite(seconds)) return "–";
    if (seconds < 60) return `${seconds.toFixed(1)} s`;
    const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
    return hours ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : `${minutes} min ${String(Math.round(seconds % 60)).padStart(2, "0")} s`;
  };
  const bytes = (size) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (size >= 1024 && unit < units.length - 1) { size /= 1024; unit += 1; }
    return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
  };
  const short = (text, length = 60) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
  const plain = (text) => String(text).replace(/\{/g, "{\u200b"); // a chart reads {name|text} as a style

  // --- elements

  const h = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== undefined && value !== false && value !== null) element.setAttribute(name, value === true ? "" : String(value));
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  };
  const section = (title, ...children) => h("section", { "aria-label": title }, h("div", { class: "head" }, h("h2", {}, title)), ...children);
  const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => h("div", { class: typeof value === "string" && value.length > 40 ? "wide" : undefined }, h("dt", {}, name), h("dd", {}, value))));
  const badge = (state) => h("span", { class: `state ${/^[a-z]+$/.test(state || "") ? state : ""}` }, state || "unknown");
  const select = (label, options, value, change) => h("label", {}, label, h("select", { onchange: (event) => change(event.target.value) },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text))));
  const check = (label, value, change) => h("label", {}, h("input", { type: "checkbox", checked: value, onchange: (event) => change(event.target.checked) }), label);
  const fold = (title, ...children) => h("details", {}, h("summary", {}, title), ...children);
  const simpleTable = (headers, rows, numbers = []) => h("div", { class: `scroll ${rows.length > 12 ? "high" : ""}`, tabindex: 0 }, h("table", {},
    h("thead", {}, h("tr", {}, headers.map((name, at) => h("th", { class: numbers.includes(at) ? "number" : undefined }, name)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, at) => h("td", { class: numbers.includes(at) ? "number" : typeof cell !== "string" || cell.length > 40 ? "wrap" : undefined }, cell)))))));

  // --- charts

  const SERIES = {
    light: ["#1d5fd1", "#d9730d", "#0a8f5b", "#c2297e", "#6d3fc4", "#0b8aa3", "#8a6d00", "#b3261e"],
    dark: ["#7db0ff", "#ffab5e", "#5fd397", "#ff8ac2", "#b79bff", "#5fd0e6", "#e2c34d", "#ff8f8f"],
  };
  const HEAT = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"];
  const DIVIDE = { light: ["#c9d6ea", "#7ea5e0", "#1d5fd1", "#0b2f73"], dark: ["#263447", "#3b66a6", "#7db0ff", "#dbe9ff"] };
  const PHASES = { queued: "#cfd6de", waiting: "#9aa5b1", starting: "#d9a13b", training: "#2f7de1", committing: "#8a5cd6", ending: "#2fa36b", stopped: "#5b6572", lost: "#d0454c" };
  const EPOCHS = { min: (range) => (range.min === range.max ? range.min - 1 : range.min), max: (range) => (range.min === range.max ? range.max + 1 : range.max) };
  const UNDER = -1; // the layer of a canvas below, which fades as a whole while something is selected
  const charts = [];
  let scheme = "light";
  const theme = () => {
    const style = getComputedStyle(document.documentElement), read = (name) => style.getPropertyValue(name).trim();
    return { ink: read("--ink"), dim: read("--dim"), line: read("--line"), paper: read("--paper"), panel: read("--panel"), bad: read("--bad"), series: SERIES[scheme], ramp: DIVIDE[scheme] };
  };
  const base = (t) => ({
    animation: false, textStyle: { color: t.ink, fontFamily: "system-ui, sans-serif" }, color: t.series,
    grid: { left: 12, right: 18, top: 34, bottom: 8, containLabel: true },
    tooltip: { renderMode: "richText", confine: true, backgroundColor: t.panel, borderColor: t.line, textStyle: { color: t.ink, fontSize: 12 } },
  });
  const axis = (t, more) => ({
    nameTextStyle: { color: t.dim }, axisLabel: { color: t.dim, hideOverlap: true }, axisLine: { lineStyle: { color: t.line } },
    splitLine: { lineStyle: { color: t.line, opacity: 0.6 } }, ...more,
  });
  const watcher = "IntersectionObserver" in window ? new IntersectionObserver((entries) => entries.forEach((entry) => entry.target.onview(entry.isIntersecting)), { rootMargin: "200px" }) : null;

  /** A chart that is drawn when it is in view. `mark` adds what is selected, above what was drawn before: 1,000 curves are not drawn again. */
  const chart = (name, build, { size = "", bind = null, mark = null, axes = 0 } = {}) => {
    const element = h("div", { class: `chart ${size}`, role: "img", "aria-label": name, "data-chart": name });
    const self = {
      name, element, instance: null, group: null, inView: false, stale: true, unmarked: false,
      draw() {
        if (!self.instance) {
          self.instance = echarts.init(element, null, { renderer: "canvas" });
          if (bind) bind(self.instance);
        }
        self.stale = false;
        self.instance.setOption(build(theme()), { notMerge: true });
        if (self.after) self.after();
        self.marks();
      },
      marks() {
        self.unmarked = false;
        if (!mark) return;
        if (self.group) self.instance.getZr().remove(self.group);
        self.group = new echarts.graphic.Group({ silent: true });
        const faded = mark(self.group, theme(), (point) => self.instance.convertToPixel({ xAxisIndex: axes, yAxisIndex: axes }, point));
        self.instance.getZr().add(self.group);
        element.querySelectorAll(`canvas[data-zr-dom-id^="zr_${UNDER}"]`).forEach((layer) => { layer.style.opacity = faded ? "0.16" : "1"; });
      },
      refresh() {
        if (!self.inView) return;
        if (self.stale) self.draw(); else if (self.unmarked) self.marks();
      },
      update() { self.stale = true; self.refresh(); },
      remark() { self.unmarked = true; self.refresh(); },
    };
    element.onview = (inView) => { self.inView = inView; self.refresh(); };
    charts.push(self);
    if (watcher) watcher.observe(element); else { self.inView = true; requestAnimationFrame(self.draw); }
    return self;
  };
  const forget = () => charts.splice(0).forEach((one) => { if (watcher) watcher.unobserve(one.element); if (one.instance) one.instance.dispose(); });
  const heading = (element, ...controls) => { element.querySelector(".head").append(h("span", { class: "spacer" }), ...controls); return element; };
  const card = (title, drawn, { controls = [], notes = [] } = {}) => heading(section(title, drawn.element, ...notes), ...controls);

  const points = (curve, log = false) => curve.values.map((value, at) => {
    const y = number(value);
    return [(curve.epochs ? curve.epochs[at] : at) + 1, finite(y) && (!log || y > 0) ? y : null];
  });
  const gaps = (curve) => curve.values.map((value, at) => [(curve.epochs ? curve.epochs[at] : at) + 1, number(value)]).filter(([, y]) => !finite(y));
  const smooth = (pairs, weight) => {
    let last = null, scale = 0;
    return pairs.map(([x, y]) => {
      if (y === null) return [x, null];
      last = (last === null ? 0 : last * weight) + (1 - weight) * y;
      scale = scale * weight + (1 - weight);
      return [x, last / scale];
    });
  };

  // --- a train run's curves: train and validation of one quantity together

  const quantity = (name) => name.replace(/^(train|training|val|valid|validation|test)[_/.-]/, "").replace(/[_/.-](train|val|valid|test)$/, "");
  const groups = (metrics) => {
    const found = new Map();
    for (const name of metrics) { const key = quantity(name); found.set(key, [...(found.get(key) || []), name]); }
    return [...found];
  };

  const curveCards = (run) => {
    const fit = run.fits.find((one) => one.trial === null);
    if (!fit || !Object.keys(fit.curves).length) return [h("p", { class: "note" }, "No epoch has ended yet: there are no curves.")];
    const state = { weight: 0 }, drawn = [];
    const redraw = () => drawn.forEach((one) => one.update());
    const cards = groups(run.metrics.filter((name) => name in fit.curves)).map(([title, names]) => curveCard(fit, title, names, state, drawn));
    const slider = h("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: 0, "aria-label": "Smoothing", oninput: (event) => { state.weight = Number(event.target.value); redraw(); } });
    return [h("div", { class: "chips title" }, h("h2", {}, "Learning curves"), h("span", { class: "spacer" }), h("label", {}, "Smoothing", slider)), h("div", { class: "grid" }, cards)];
  };

  const curveCard = (fit, title, names, state, drawn) => {
    let log = false;
    const one = chart(`Curves of ${names.join(", ")} by epoch`, (t) => ({
      ...base(t), legend: { top: 0, left: 0, textStyle: { color: t.ink }, icon: "roundRect", itemHeight: 3, itemWidth: 16, formatter: (name) => short(name, 40) },
      tooltip: { ...base(t).tooltip, trigger: "axis", formatter: (items) => [`epoch ${items[0].value[0]}`, ...items.filter((item) => !item.seriesName.endsWith("\u200b")).map((item) => `${plain(item.seriesName)}: ${show(item.value[1], 6)}`)].join("\n") },
      xAxis: axis(t, { type: "value", ...EPOCHS, minInterval: 1, splitLine: { show: false } }), yAxis: axis(t, { type: log ? "log" : "value", scale: true }),
      series: names.flatMap((name, at) => {
        const raw = points(fit.curves[name], log), line = { type: "line", connectNulls: false, symbolSize: 5, color: t.series[at % t.series.length] };
        const main = { ...line, name, showSymbol: raw.length < 40, data: state.weight ? smooth(raw, state.weight) : raw };
        return state.weight ? [main, { ...line, name: `${name}\u200b`, data: raw, showSymbol: false, silent: true, lineStyle: { opacity: 0.25 } }] : [main];
      }),
    }));
    one.legendNames = names;
    drawn.push(one);
    const notes = names.filter((name) => gaps(fit.curves[name]).length).map((name) => h("p", { class: "note" }, `${name} is no finite number at ${gapText(gaps(fit.curves[name]))}`));
    return card(title, one, { controls: [check("log", false, (value) => { log = value; one.update(); })], notes });
  };
  const gapText = (pairs) => `${pairs.slice(0, 8).map(([x, y]) => `epoch ${x} (${show(y)})`).join(", ")}${pairs.length > 8 ? ` and ${pairs.length - 8} more` : ""}`;

  // --- trials, or runs side by side: every view shows one selection

  const trialsView = (view) => {
    const fits = view.fits, metric = view.metric || "metric", what = view.what;
    const values = fits.map((fit) => number(fit.value));
    const isMin = view.mode === "min";
    const order = fits.map((_, at) => at).filter((at) => finite(values[at])).sort((a, b) => (isMin ? values[a] - values[b] : values[b] - values[a]));
    const best = order.length ? order[0] : -1;
    const selection = new Set(), listeners = [];
    const rank = new Map(order.map((at, place) => [at, place]));
    let origin = null;
    const choose = (indexes, from) => { selection.clear(); for (const at of indexes) selection.add(at); origin = from; listeners.forEach((listener) => listener(from)); };
    const toggle = (at, from) => { const next = new Set(selection); if (!next.delete(at)) next.add(at); choose(next, from); };
    const param = (fit, one) => { const value = fit.params[one.key]; return value === undefined ? null : one.kind === "category" ? value : number(value); };
    const label = (at) => `${fits[at].trial}  ${metric} ${show(values[at])}${fits[at].state ? `  ${fits[at].state}` : ""}`;
    const about = (at) => plain([label(at), ...view.parameters.map((one) => `${one.label} = ${show(param(fits[at], one))}`), short(fits[at].reason || "", 90)].filter(Boolean).join("\n"));
    const v = { view, fits, metric, what, values, isMin, order, best, rank, selection, listeners, choose, toggle, param, about, label, origin: () => origin };

    const chip = h("div", { class: "chips noprint", "aria-live": "polite" });
    const say = () => chip.replaceChildren(...(selection.size
      ? [h("strong", {}, `${selection.size} of ${fits.length} ${what} selected`), h("button", { onclick: () => choose([], "clear") }, "Clear")]
      : [h("span", { class: "note" }, `Select ${what} in any view: drag along an axis or over points, click a curve, a point or a row.`)]));
    listeners.push(say); say();
    return { v, chip };
  };

  const trialCurves = (v) => {
    const { fits, selection } = v, names = v.view.metrics.filter((name) => fits.some((fit) => name in fit.curves));
    if (!names.length) return null;
    let name = names.includes(v.metric) ? v.metric : names[0], log = false, weight = 0;
    const pieces = (at) => {
      const parts = [[]];
      for (const [x, y] of weight ? smooth(points(fits[at].curves[name], log), weight) : points(fits[at].curves[name], log)) {
        if (y !== null) parts[parts.length - 1].push([x, y]); else if (parts[parts.length - 1].length) parts.push([]);
      }
      return parts.filter((part) => part.length);
    };
    const style = (t, at) => {
      if (at === v.best) return { color: t.series[1], opacity: 1, width: 2.6 };
      if (fits[at].state === "failed") return { color: t.bad, opacity: 0.45, width: 1 };
      return fits[at].state === "stopped" ? { color: t.dim, opacity: 0.22, width: 1 } : { color: t.series[0], opacity: fits.length > 60 ? 0.35 : 0.75, width: 1.2 };
    };
    const build = (t) => {
      const shown = fits.map((_, at) => at).filter((at) => name in fits[at].curves).sort((a, b) => (a === v.best) - (b === v.best));
      const all = shown.flatMap((at) => pieces(at).map((coords) => ({ name: at, coords, lineStyle: style(t, at) })));
      const lines = all.filter((line) => line.coords.length > 1), alone = all.filter((line) => line.coords.length === 1);
      const ends = all.flatMap((line) => line.coords);
      const limit = (axisAt, pick) => ends.reduce((most, point) => pick(most, point[axisAt]), ends.length ? ends[0][axisAt] : 1);
      const corners = ends.length ? [[limit(0, Math.min), limit(1, Math.min)], [limit(0, Math.max), limit(1, Math.max)]] : [];
      return {
        ...base(t), tooltip: { ...base(t).tooltip, formatter: (item) => v.about(Number(item.name)) },
        grid: { ...base(t).grid, top: 14, bottom: 26 },
        xAxis: axis(t, { type: "value", ...EPOCHS, minInterval: 1, name: "epoch", nameLocation: "middle", nameGap: 24, splitLine: { show: false } }),
        yAxis: axis(t, { type: log ? "log" : "value", scale: true }),
        series: [
          { type: "scatter", silent: true, symbolSize: 0, data: corners },
          { type: "lines", zlevel: UNDER, coordinateSystem: "cartesian2d", polyline: true, progressive: 0, data: lines, emphasis: { lineStyle: { width: 3, opacity: 1 } } },
          { type: "scatter", zlevel: UNDER, symbolSize: 5, data: alone.map((line) => ({ name: String(line.name), value: line.coords[0], itemStyle: { color: line.lineStyle.color, opacity: line.lineStyle.opacity } })) },
        ],
      };
    };
    const mark = (group, t, place) => {
      const few = selection.size <= 8;
      [...selection].filter((at) => name in fits[at].curves).forEach((at, order) => pieces(at).forEach((part) => {
        const color = few ? t.series[order % t.series.length] : t.series[0], opacity = few ? 1 : 0.6;
        if (part.length > 1) group.add(new echarts.graphic.Polyline({ shape: { points: part.map(place) }, z: 5, style: { stroke: color, lineWidth: few ? 2.2 : 1.2, opacity, fill: null } }));
        else group.add(new echarts.graphic.Circle({ shape: { cx: place(part[0])[0], cy: place(part[0])[1], r: 3 }, z: 5, style: { fill: color, opacity } }));
      }));
      return selection.size > 0;
    };
    const one = chart(`Curves of all ${v.what} by epoch`, build, { size: "tall", mark, bind: (instance) => instance.on("click", (item) => { v.toggle(Number(item.name), "curves"); }) });
    v.listeners.push(() => one.remark());
    const lost = fits.flatMap((fit) => (name in fit.curves ? gaps(fit.curves[name]).map(([x, y]) => [fit.trial, x, y]) : []));
    const note = lost.length ? [h("p", { class: "note" }, `No finite number: ${lost.slice(0, 6).map(([trial, x, y]) => `${trial} at epoch ${x} (${show(y)})`).join(", ")}${lost.length > 6 ? ` and ${lost.length - 6} more` : ""}`)] : [];
    return card("Learning curves", one, {
      controls: [select("Metric", names.map((key) => [key, short(key)]), name, (value) => { name = value; one.update(); }), check("log", false, (value) => { log = value; one.update(); }),
        h("label", {}, "Smoothing", h("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: 0, "aria-label": "Smoothing", oninput: (event) => { weight = Number(event.target.value); one.update(); } }))],
      notes: [h("p", { class: "legend" }, `The best is thick. ${v.what === "trials" ? "Stopped trials are faded, failed ones red." : ""}`), ...note],
    });
  };

  const parallel = (v) => {
    const { fits, values, selection, view } = v;
    const dims = [...view.parameters.map((one) => ({ ...one, value: (at) => v.param(fits[at], one) })), { key: null, label: v.metric, kind: "number", log: false, value: (at) => values[at] }];
    const rows = v.order.filter((at) => dims.every((dim) => dim.value(at) !== null));
    if (view.parameters.length < 1 || rows.length < 2) return null;
    const cells = (at) => dims.map((dim) => dim.value(at));
    const low = values[v.order[v.isMin ? 0 : v.order.length - 1]], high = values[v.order[v.isMin ? v.order.length - 1 : 0]];
    let areas = {};
    const build = (t) => {
      const outside = selection.size && v.origin() !== "parallel";
      const line = { width: rows.length > 200 ? 1 : 1.6, opacity: outside ? 0.05 : rows.length > 200 ? 0.45 : 0.7 };
      return {
        ...base(t),
        parallel: { left: 46, right: 60, top: 46, bottom: 24, parallelAxisDefault: { nameLocation: "end", nameGap: 14, nameTextStyle: { color: t.ink, fontSize: 12 }, axisLine: { lineStyle: { color: t.dim } }, axisTick: { lineStyle: { color: t.dim } }, axisLabel: { color: t.ink, fontSize: 11, textBorderColor: t.paper, textBorderWidth: 3, formatter: (value) => short(show(value, 4), 16) }, areaSelectStyle: { width: 16, color: t.series[1], borderColor: t.series[1], opacity: 0.3 } } },
        parallelAxis: dims.map((dim, at) => ({ dim: at, id: `axis${at}`, name: short(dim.label, 20), type: dim.kind === "category" ? "category" : dim.log ? "log" : "value", scale: true, ...(dim.kind === "category" ? { data: dim.values } : {}) })),
        visualMap: { show: false, type: "continuous", dimension: dims.length - 1, min: Math.min(low, high), max: Math.max(low, high) === Math.min(low, high) ? low + 1 : Math.max(low, high), inRange: { color: v.isMin ? [...t.ramp].reverse() : t.ramp }, seriesIndex: [0, 1] },
        tooltip: { ...base(t).tooltip, formatter: (item) => (item.data && item.data.name !== undefined ? v.about(Number(item.data.name)) : "") },
        series: [
          { type: "parallel", smooth: false, progressive: 0, lineStyle: line, activeOpacity: 0.9, inactiveOpacity: 0.03, data: rows.map((at) => ({ name: String(at), value: cells(at) })), emphasis: { lineStyle: { width: 3, opacity: 1 } } },
          { type: "parallel", smooth: false, silent: true, progressive: 0, lineStyle: { width: 2, opacity: 0.95 }, data: outside ? rows.filter((at) => selection.has(at)).map((at) => ({ name: String(at), value: cells(at) })) : [] },
        ],
      };
    };
    const one = chart("Parallel coordinates of parameters and metric", build, {
      size: "tall",
      bind: (instance) => instance.on("axisareaselected", () => {
        const series = instance.getModel().getSeriesByIndex(0), active = series.getRawIndicesByActiveState("active");
        v.choose(active.map((at) => rows[at]), "parallel");
      }),
    });
    v.listeners.push((from) => { if (from !== "parallel") one.update(); });
    const left = fits.length - rows.length;
    const notes = [h("p", { class: "note" }, `Drag along an axis to select; click beside the selection to undo it. Lines are coloured by ${v.metric}.${left ? ` ${left} of ${fits.length} have no value, or not every parameter, and are not drawn.` : ""}`)];
    return card("Parallel coordinates", one, { notes });
  };

  /** Marks of what is selected: a dot at `where(trial)`. */
  const dots = (v, where) => (group, t, place) => {
    for (const at of v.selection) {
      const point = where(at);
      if (!point) continue;
      const [cx, cy] = place(point);
      group.add(new echarts.graphic.Circle({ shape: { cx, cy, r: 4 }, z: 5, style: { fill: t.series[1], stroke: t.paper, lineWidth: 1 } }));
    }
    return v.selection.size > 0;
  };

  const scatterCard = (v, one) => {
    const { values, fits } = v, shown = v.order.filter((at) => v.param(fits[at], one) !== null);
    const kinds = one.kind === "category", shownSet = new Set(shown);
    const spot = (at) => ({ name: String(at), value: [v.param(fits[at], one), values[at]] });
    const drawn = chart(`${v.metric} by ${one.label}`, (t) => ({
      ...base(t), grid: { left: 8, right: 16, top: 12, bottom: 6, containLabel: true },
      tooltip: { ...base(t).tooltip, formatter: (item) => v.about(Number(item.name)) },
      xAxis: axis(t, { type: kinds ? "category" : one.log ? "log" : "value", scale: true, splitLine: { show: false }, ...(kinds ? { data: one.values } : {}), axisLabel: { color: t.dim, hideOverlap: true, formatter: (value) => short(show(value, 3), 14) } }), yAxis: axis(t, { type: "value", scale: true }),
      toolbox: { show: false }, brush: { toolbox: [], xAxisIndex: 0, yAxisIndex: 0, brushStyle: { color: "rgba(217,115,13,.15)", borderColor: "#d9730d" }, outOfBrush: {}, inBrush: {} },
      series: [
        { type: "scatter", zlevel: UNDER, symbolSize: shown.length > 300 ? 5 : 8, data: shown.map(spot), itemStyle: { color: t.series[0], opacity: 0.55 } },
      ],
    }), {
      size: "low",
      mark: dots(v, (at) => (shownSet.has(at) ? spot(at).value : null)),
      bind: (instance) => {
        instance.on("click", (item) => { if (item.seriesType === "scatter") v.toggle(Number(item.name), "scatter"); });
        instance.on("brushEnd", (event) => {
          const area = event.areas[0];
          if (!area) return;
          drawn.brushed = true;
          const [[left, right], [low, high]] = area.coordRange;
          const at = (value) => (kinds ? one.values.indexOf(value) : value);
          v.choose(shown.filter((index) => { const x = at(v.param(fits[index], one)); return x >= left && x <= right && values[index] >= low && values[index] <= high; }), "scatter");
        });
      },
    });
    drawn.after = () => drawn.instance.dispatchAction({ type: "takeGlobalCursor", key: "brush", brushOption: { brushType: "rect", brushMode: "single" } });
    v.listeners.push((from) => {
      if (drawn.brushed && from !== "scatter") { drawn.brushed = false; drawn.instance.dispatchAction({ type: "brush", areas: [] }); }
      drawn.remark();
    });
    return card(one.label, drawn);
  };

  const importanceCard = (v) => {
    const { importance, importance_missing: missing, parameters } = v.view;
    const title = "What matters";
    if (!importance || !importance.length) return missing ? section(title, h("p", { class: "note" }, `Left out: ${missing}.`)) : null;
    const name = (key) => { const one = parameters.find((item) => item.key === key); return one ? one.label : key; };
    const rows = [...importance].reverse();
    const one = chart("Importance of each parameter", (t) => ({
      ...base(t), grid: { left: 8, right: 48, top: 6, bottom: 6, containLabel: true },
      tooltip: { ...base(t).tooltip, formatter: (item) => `${plain(item.name)}: ${(item.value * 100).toFixed(1)} %` },
      xAxis: axis(t, { type: "value", min: 0, axisLabel: { show: false } }), yAxis: axis(t, { type: "category", data: rows.map((row) => name(row.key)), axisLabel: { color: t.ink, formatter: (text) => short(text, 24) } }),
      series: [{ type: "bar", barMaxWidth: 22, data: rows.map((row) => row.share), label: { show: true, position: "right", color: t.ink, formatter: (item) => `${(item.value * 100).toFixed(0)} %` } }],
    }), { size: "low" });
    return card(title, one, { notes: [h("p", { class: "note" }, `fANOVA (optuna): the part of the spread of ${v.metric} that each parameter explains alone.`)] });
  };

  const contourCard = (v) => {
    const map = v.view.contour;
    if (!map || !map.values.every((row) => row.every((value) => finite(number(value))))) return null;
    const of = (key) => v.view.parameters.find((one) => one.key === key), x = of(map.x), y = of(map.y);
    const spot = (at) => (finite(v.param(v.fits[at], x)) && finite(v.param(v.fits[at], y)) ? [span(map.xs, x.log, v.param(v.fits[at], x)), span(map.ys, y.log, v.param(v.fits[at], y))] : null);
    const cells = map.values.flatMap((row, up) => row.map((value, across) => [across, up, number(value)])).filter((cell) => finite(cell[2]));
    const all = cells.map((cell) => cell[2]);
    const span = (list, log, value) => { const f = log ? Math.log : (n) => n, first = f(list[0]), step = (f(list[list.length - 1]) - first) / (list.length - 1); return (f(value) - first) / step; };
    const tick = (list) => ({ type: "category", data: list.map((value) => show(value, 3)) });
    const one = chart(`${v.metric} over ${x.label} and ${y.label}`, (t) => ({
      ...base(t), grid: { left: 12, right: 66, top: 28, bottom: 24, containLabel: true },
      tooltip: { ...base(t).tooltip, formatter: (item) => (item.seriesType === "heatmap" ? `${plain(x.label)} ${show(map.xs[item.value[0]], 3)}, ${plain(y.label)} ${show(map.ys[item.value[1]], 3)}\n${plain(v.metric)} about ${show(item.value[2], 4)}` : v.about(Number(item.name))) },
      xAxis: [axis(t, { ...tick(map.xs), name: x.label, nameLocation: "middle", nameGap: 26, axisLabel: { color: t.dim, interval: 4 } }), { type: "value", show: false, min: -0.5, max: map.xs.length - 0.5 }],
      yAxis: [axis(t, { ...tick(map.ys), name: y.label, axisLabel: { color: t.dim, interval: 4 } }), { type: "value", show: false, min: -0.5, max: map.ys.length - 0.5 }],
      visualMap: { type: "continuous", min: Math.min(...all), max: Math.max(...all), calculable: false, right: 0, top: "middle", itemHeight: 150, itemWidth: 12, textStyle: { color: t.dim }, text: [show(Math.max(...all), 3), show(Math.min(...all), 3)], inRange: { color: v.isMin ? [...HEAT].reverse() : HEAT }, seriesIndex: 0 },
      series: [
        { type: "heatmap", data: cells, progressive: 0 },
        { type: "scatter", xAxisIndex: 1, yAxisIndex: 1, symbolSize: 5, itemStyle: { color: "#fff", borderColor: "#000", borderWidth: 1, opacity: 0.75 },
          data: v.order.filter(spot).map((at) => ({ name: String(at), value: spot(at) })) },
      ],
    }), {
      bind: (instance) => instance.on("click", (item) => { if (item.seriesType === "scatter") v.toggle(Number(item.name), "contour"); }),
      mark: dots(v, spot), axes: 1,
    });
    v.listeners.push(() => one.remark());
    return card("Contour of the two that matter most", one);
  };

  const bestCard = (run) => {
    if (run.best_so_far.length < 1) return null;
    const first = run.created, rows = run.best_so_far, last = Math.max(run.last_sign || 0, rows[rows.length - 1].time);
    const one = chart("Best value so far over time", (t) => ({
      ...base(t), grid: { left: 12, right: 26, top: 16, bottom: 8, containLabel: true },
      tooltip: { ...base(t).tooltip, trigger: "axis", formatter: ([item]) => { const row = rows[item.dataIndex]; return row ? `${plain(run.metric)} ${show(row.value, 6)}\n${row.trial ? `${plain(row.trial)}, ` : ""}epoch ${row.epoch + 1}\n${date(row.time)}` : ""; } },
      xAxis: axis(t, { type: "value", min: 0, splitLine: { show: false }, splitNumber: 4, axisLabel: { color: t.dim, hideOverlap: true, formatter: (value) => duration(value) } }), yAxis: axis(t, { type: "value", scale: true }),
      series: [{ type: "line", step: "end", symbolSize: 6, areaStyle: { opacity: 0.08 }, data: [...rows.map((row) => [Math.max(0, row.time - first), number(row.value)]), ...(last > rows[rows.length - 1].time ? [{ value: [last - first, number(rows[rows.length - 1].value)], symbol: "none" }] : [])] }],
    }), { size: "low" });
    return card("Best so far", one);
  };

  const costCard = (v) => {
    const rows = v.fits.map((fit, at) => [at, fit.seconds]).filter(([, seconds]) => finite(seconds));
    if (!rows.length) return null;
    const total = rows.reduce((sum, [, seconds]) => sum + seconds, 0);
    const one = chart(`Seconds of each of the ${v.what}`, (t) => ({
      ...base(t), grid: { left: 12, right: 16, top: 16, bottom: 8, containLabel: true },
      tooltip: { ...base(t).tooltip, formatter: (item) => `${duration(item.value[1])}\n${v.about(rows[item.dataIndex][0])}` },
      xAxis: axis(t, { type: "category", data: rows.map(([at]) => v.fits[at].trial), splitLine: { show: false }, axisLabel: { color: t.dim, hideOverlap: true, formatter: (text) => short(text, 14) } }), yAxis: axis(t, { type: "value", axisLabel: { color: t.dim, formatter: (value) => duration(value) } }),
      series: [{ type: "bar", large: false, barMinWidth: 1, data: rows.map(([at, seconds]) => ({ value: [v.fits[at].trial, seconds], itemStyle: { color: v.selection.size ? (v.selection.has(at) ? t.series[1] : t.line) : at === v.best ? t.series[1] : t.series[0] } })) }],
    }), { size: "low", bind: (instance) => instance.on("click", (item) => v.toggle(rows[item.dataIndex][0], "cost")) });
    v.listeners.push(() => one.update());
    return card("What each cost", one, { notes: [h("p", { class: "note" }, `${duration(total)} of training in all.`)] });
  };

  const rungCard = (run) => (run.rungs && run.rungs.length ? section("Rungs", simpleTable(["epochs", "reached by", "stopped here", `best ${run.metric}`],
    run.rungs.map((rung) => [String(rung.epochs), String(rung.reached), String(rung.stopped), show(rung.best)]), [0, 1, 2, 3])) : null);

  // --- the table

  const trialTable = (v) => {
    const { fits, view, selection } = v, hidden = new Set();
    const columns = [
      { key: "trial", label: v.what === "trials" ? "trial" : "run", get: (fit) => fit.trial },
      { key: "state", label: "state", get: (fit) => fit.state },
      { key: "epochs", label: "epochs", number: true, get: (fit) => fit.epochs },
      { key: "value", label: v.metric, number: true, get: (fit) => number(fit.value) },
      ...view.parameters.map((one) => ({ key: `param:${one.key}`, label: one.label, full: one.key, number: one.kind === "number", get: (fit) => v.param(fit, one) })),
      { key: "seconds", label: "seconds", number: true, get: (fit) => fit.seconds },
      { key: "reason", label: "reason", wrap: true, get: (fit) => fit.reason },
    ];
    let sortBy = "value", down = !v.isMin, query = "", page = 0, only = true;
    const body = h("tbody"), head = h("tr"), count = h("span", { class: "note", "aria-live": "polite" }), detail = h("div");
    const byKey = new Map(columns.map((column) => [column.key, column]));
    const find = (name) => columns.find((column) => column.label === name || column.full === name || column.key === name);
    const test = (word) => {
      const match = /^(.+?)(<=|>=|!=|=|<|>)(.*)$/.exec(word), column = match && find(match[1]);
      if (!column) { const text = word.toLowerCase(); return (fit) => columns.some((one) => show(one.get(fit), 17).toLowerCase().includes(text)); }
      const [, , sign, right] = match, value = Number(right), numeric = right.trim() !== "" && Number.isFinite(value);
      return (fit) => {
        const left = column.get(fit);
        if (sign === "=" || sign === "!=") return ((numeric && typeof left === "number" ? left === value : show(left, 17) === right) === (sign === "="));
        if (typeof left !== "number" || !numeric) return false;
        return sign === "<" ? left < value : sign === ">" ? left > value : sign === "<=" ? left <= value : left >= value;
      };
    };
    const rows = () => {
      const tests = query.split(/\s+/).filter(Boolean).map(test), narrow = selection.size && v.origin() !== "table" && only;
      const list = fits.map((_, at) => at).filter((at) => (!narrow || selection.has(at)) && tests.every((one) => one(fits[at])));
      const get = byKey.get(sortBy).get, cell = (at) => { const value = get(fits[at]); return value === undefined || (typeof value === "number" && Number.isNaN(value)) ? null : value; };
      const cells = new Map(list.map((at) => [at, cell(at)]));
      return list.sort((a, b) => {
        const left = cells.get(a), right = cells.get(b);
        if (left === null || right === null) return left === right ? a - b : left === null ? 1 : -1; // empty cells come last
        const before = typeof left === "number" && typeof right === "number" ? left - right : String(left).localeCompare(String(right));
        return (down ? -before : before) || a - b;
      });
    };
    const shown = () => columns.filter((column) => !hidden.has(column.key));
    const drawHead = () => head.replaceChildren(...shown().map((column) => h("th", { scope: "col", class: column.number ? "number" : undefined, title: column.full, "aria-sort": column.key === sortBy ? (down ? "descending" : "ascending") : "none" },
      h("button", { onclick: () => { if (sortBy === column.key) down = !down; else { sortBy = column.key; down = column.key === "value" && !v.isMin; } page = 0; draw(); } }, short(column.label, 30)))));
    const cellOf = (column, fit, at) => {
      const value = column.get(fit);
      if (column.key === "trial") return h("td", {}, h("button", { title: String(value), onclick: (event) => { event.stopPropagation(); open(at); } }, short(String(value), 40)));
      const text = show(value);
      return h("td", { class: column.number ? "number" : column.wrap && text.length > 40 ? "wrap" : undefined, title: typeof value === "number" ? String(value) : text.length > 40 ? short(text, 1000) : undefined }, column.wrap ? short(text, 160) : short(text, 60));
    };
    const draw = () => {
      const list = rows(), columnsNow = shown(), pages = Math.max(1, Math.ceil(list.length / ROWS));
      page = Math.min(page, pages - 1);
      drawHead();
      body.replaceChildren(...list.slice(page * ROWS, (page + 1) * ROWS).map((at) => h("tr", { class: [selection.has(at) ? "selected" : "", at === v.best ? "best" : ""].join(" ").trim() || undefined, "data-trial": fits[at].trial, onclick: () => v.toggle(at, "table") }, columnsNow.map((column) => cellOf(column, fits[at], at)))));
      count.textContent = `${list.length} of ${fits.length} ${v.what}${pages > 1 ? `, page ${page + 1} of ${pages}` : ""}`;
      back.disabled = page === 0; forth.disabled = page >= pages - 1;
    };
    const open = (at) => { detail.replaceChildren(fitDetail(view, fits[at], () => detail.replaceChildren())); detail.scrollIntoView({ block: "nearest" }); };
    const back = h("button", { onclick: () => { page -= 1; draw(); } }, "Previous"), forth = h("button", { onclick: () => { page += 1; draw(); } }, "Next");
    const menu = h("details", { class: "menu" }, h("summary", {}, "Columns"), h("div", {}, columns.map((column) => check(column.label, true, (value) => { if (value) hidden.delete(column.key); else hidden.add(column.key); draw(); }))));
    const search = h("input", { type: "search", placeholder: "search, or lr<0.01 state=stopped", "aria-label": `Search and filter ${v.what}`, oninput: (event) => { query = event.target.value; page = 0; draw(); } });
    v.listeners.push(draw);
    draw();
    return heading(section(v.what === "trials" ? "Trials" : "Runs", h("div", { class: "scroll high", tabindex: 0 }, h("table", { id: "trials" }, h("thead", {}, head), body)), h("div", { class: "chips noprint" }, count, back, forth), detail),
      search, check("selected only", true, (value) => { only = value; draw(); }), h("button", { onclick: () => v.choose(rows(), "table") }, "Select these"), menu);
  };

  const fitDetail = (view, fit, close) => section(`${fit.trial}`, h("div", { class: "chips" }, badge(fit.state), h("span", {}, short(fit.reason || "", 2000)), h("button", { onclick: close }, "Close")),
    facts([["value", show(fit.value, 8)], ["best epoch", fit.best_epoch === null || fit.best_epoch === undefined ? null : String(fit.best_epoch + 1)], ["epochs", String(fit.epochs)], ["trained for", duration(fit.seconds)], ["started", date(fit.started)], ["ended", date(fit.ended)],
      ...Object.entries(fit.params).map(([key, value]) => [key, show(value, 8)])]),
    ...(fit.attempts ? attemptTable(fit) : []), ...(fit.checkpoints && fit.checkpoints.length ? [h("h3", {}, "Checkpoints"), checkpointTable(view, [fit])] : []), ...(fit.traceback ? [h("h3", {}, "Traceback"), h("pre", { tabindex: 0 }, fit.traceback)] : []));

  // --- how it went

  const attemptTable = (fit) => (fit.attempts.length ? [h("h3", {}, "Starts of its workers"), simpleTable(["start", "began", "first epoch", "last epoch", "epochs", "done again", "trained for", "committing", "end"], fit.attempts.map((one) => {
    const mine = fit.phases.filter((phase) => phase.attempt === one.number), end = mine.length ? mine[mine.length - 1].reason : "";
    return [String(one.number), date(one.started || one.trained), one.first_epoch === null ? "–" : String(one.first_epoch + 1), one.last_epoch === null ? "–" : String(one.last_epoch + 1), String(one.epochs),
      one.again.length ? one.again.map((epoch) => epoch + 1).join(", ") : "–", duration(one.last !== null && one.trained !== null ? one.last - one.trained : null), one.committing ? duration(one.committing) : "–", end || "–"];
  }), [0, 2, 3, 4])] : []);

  const driverTable = (run) => (run.attempts.length > 1 || run.queued ? section("Attempts of its driver", simpleTable(["attempt", "queued", "started", "ended", "took", "end"], run.attempts.map((one) => [
    String(one.number), date(one.queued), date(one.started), date(one.ended), duration(one.started !== null && one.ended !== null ? one.ended - one.started : null), [one.state, one.reason].filter(Boolean).join(": ")]), [0])) : null);

  const timelineCard = (run) => {
    const own = run.task === "tune" ? [{ trial: null, phases: run.phases, attempts: [] }] : [];
    const fits = [...own, ...run.fits].filter((fit) => fit.phases.length);
    if (!fits.length) return null;
    const bars = fits.flatMap((fit, row) => fit.phases.map((phase) => ({ value: [row, phase.start * 1000, phase.end * 1000], phase, fit, itemStyle: { color: PHASES[phase.phase] } })));
    const commits = fits.flatMap((fit, row) => fit.attempts.flatMap((one) => one.commits.map((time) => [time * 1000, row]))).filter(([time]) => time >= run.created * 1000);
    const one = chart("Timeline of attempts", (t) => ({
      ...base(t), grid: { left: 12, right: 18, top: 10, bottom: 8, containLabel: true },
      tooltip: { ...base(t).tooltip, formatter: (item) => (item.data.phase ? plain(`${item.data.fit.trial || run.name}${item.data.phase.attempt ? `, attempt ${item.data.phase.attempt}` : ""}: ${item.data.phase.phase}\n${date(item.data.phase.start)}, ${duration(item.data.phase.end - item.data.phase.start)}\n${short(item.data.phase.reason, 120)}`) : `checkpoint\n${date(item.value[0] / 1000)}`) },
      xAxis: axis(t, { type: "time", splitLine: { show: false } }), yAxis: axis(t, { type: "category", inverse: true, data: fits.map((fit) => fit.trial || "run"), axisLabel: { color: t.dim, interval: Math.ceil(fits.length / 20) - 1, formatter: (text) => short(text, 14) }, splitLine: { show: false } }),
      series: [
        { type: "custom", clip: true, progressive: 0, encode: { x: [1, 2], y: 0 }, data: bars, renderItem: (params, api) => {
          const start = api.coord([api.value(1), api.value(0)]), end = api.coord([api.value(2), api.value(0)]), height = Math.min(26, Math.max(1, api.size([0, 1])[1] * 0.7));
          return { type: "rect", shape: { x: start[0], y: start[1] - height / 2, width: Math.max(1, end[0] - start[0]), height }, style: { fill: api.visual("color") } };
        } },
        { type: "scatter", symbol: "diamond", symbolSize: fits.length > 40 ? 0 : 8, data: commits, itemStyle: { color: t.ink } },
      ],
    }), { size: fits.length > 8 ? "tall" : fits.length > 1 ? "low" : "slim" });
    const legend = h("p", { class: "legend" }, Object.keys(PHASES).map((phase) => h("span", { class: `phase-${phase}` }, phase)), h("span", {}, "◆ checkpoint"));
    legend.querySelectorAll("span").forEach((span) => { const phase = span.textContent; if (PHASES[phase]) { const dot = h("i"); dot.style.background = PHASES[phase]; span.prepend(dot); } });
    return card("Timeline", one, { notes: [legend, ...(run.task === "train" ? attemptTable(fits[0]) : [])] });
  };

  const download = (run, key, text) => (live && run.name
    ? h("a", { href: `/file/${encodeURIComponent(run.name)}/${key.split("/").map(encodeURIComponent).join("/")}`, download: true }, text) : text);

  const checkpointTable = (run, fits) => {
    const rows = fits.flatMap((fit) => fit.checkpoints);
    return simpleTable([...(run.task === "tune" ? ["trial"] : []), "after epoch", "step", run.metric || "metric", "size", "time", "load it with"], rows.map((one) => [
      ...(run.task === "tune" ? [one.trial || "–"] : []), String(one.epochs), String(one.step), show(one.metrics[run.metric]),
      download(run, `${one.trial ? `trials/${one.trial}/` : ""}checkpoints/${one.name}/checkpoint.ckpt`, bytes(one.size)), date(one.time),
      h("span", {}, h("code", {}, one.load), one.uri === run.checkpoint ? h("strong", {}, "  best") : "")]), run.task === "tune" ? [1, 2, 3, 4] : [0, 1, 2, 3]);
  };

  const checkpointsCard = (run) => {
    const count = run.fits.reduce((sum, fit) => sum + fit.checkpoints.length, 0);
    if (!count) return section("Checkpoints", h("p", { class: "note" }, "There are none."));
    const fits = [...run.fits].sort((a, b) => Number(b.trial === (run.best && run.best.trial)) - Number(a.trial === (run.best && run.best.trial)));
    let left = ROWS;
    const few = fits.map((fit) => { const checkpoints = fit.checkpoints.slice(0, Math.max(0, left)); left -= checkpoints.length; return { checkpoints }; });
    return section(`Checkpoints (${count})`, checkpointTable(run, few), ...(count > ROWS ? [h("p", { class: "note" }, `The first ${ROWS}; those of a trial are in its details.`)] : []));
  };

  const folded = (run) => [
    ...(run.run_file ? [h("section", {}, fold("Run file", h("pre", { tabindex: 0 }, run.run_file)))] : []),
    ...(run.artifacts.length ? [h("section", {}, fold(`Artifacts (${run.artifacts.length})`, simpleTable(["file", "size"], run.artifacts.slice(0, 500).map((one) => [download(run, `artifacts/${one.name}`, one.name), bytes(one.size)]), [1])))] : []),
    ...(run.log ? [h("section", {}, fold(`Last lines of ${run.log.name}`, live ? h("p", {}, download(run, run.log.name, "the whole log")) : null, h("pre", { tabindex: 0 }, run.log.lines.join("\n"))))] : []),
    ...(run.traceback ? [h("section", {}, fold("Traceback", h("pre", { tabindex: 0 }, run.traceback)))] : []),
  ];

  // --- a run, and several

  const runFacts = (run) => {
    const best = run.best, versions = Object.entries(run.versions || {}).map(([name, number]) => `${name} ${number}`).join(", ");
    const resolved = Object.entries(run.resolved || {}).map(([key, value]) => `${key} = ${show(value)}`).join(", ");
    return facts([
      ["State", badge(run.state)], [run.metric ? `Best ${run.metric} (${run.mode || "max"})` : "Best", best ? h("strong", {}, show(best.value, 6)) : "–"],
      ["Best at", best ? `${best.trial ? `${best.trial}, ` : ""}epoch ${best.epoch + 1}` : null],
      [run.task === "tune" ? "Trials" : "Epochs", `${run.done}${run.target && run.target > 0 ? ` of ${run.target}` : ""}`],
      ["Started", date(run.created)], ["Last sign of life", date(run.last_sign)], ["Took", duration(run.last_sign - run.created)], ["Attempts of its driver", String(run.attempt)],
      ["Driver's host", run.host], ["GPU", run.use_gpu ? "yes" : "no"], ["Seed", run.seed === null ? null : String(run.seed)], ["Submission", run.submission], ["Tags", (run.tags || []).join(", ")],
      ["Versions", versions], ["Chosen for it", resolved], ["Storage", run.uri],
    ]);
  };

  const drawRun = (run) => {
    if (run.problem) return [facts([["State", badge("damaged")], ["Storage", run.uri]]), h("div", { class: "error" }, run.problem)];
    const parts = [runFacts(run)];
    if (run.error) parts.push(h("div", { class: "error", tabindex: 0 }, run.error));
    if (run.silent) parts.push(h("div", { class: "error warning" }, `It says that it is running, and has written nothing for ${duration(run.silent)}.`));
    if (run.problems.length) parts.push(h("div", { class: "error warning", tabindex: 0 }, `What could not be read:\n${run.problems.slice(0, 50).join("\n")}${run.problems.length > 50 ? `\nand ${run.problems.length - 50} more` : ""}`));
    if (run.task === "tune") parts.push(...drawSweep({ ...run, what: "trials", fits: run.fits.filter((fit) => fit.trial !== null) }));
    else parts.push(...curveCards(run), timelineCard(run), bestCard(run));
    parts.push(driverTable(run));
    return [...parts.filter(Boolean), checkpointsCard(run), ...folded(run)];
  };

  const drawSweep = (view) => {
    if (!view.fits.length) return [h("p", { class: "note" }, "No trial has begun yet.")];
    const { v, chip } = trialsView(view);
    window.trainerReport.view = v;
    const scatters = view.parameters.slice(0, 24).map((one) => scatterCard(v, one));
    return [chip, trialTable(v), h("div", { class: "grid" }, [trialCurves(v), parallel(v)].filter(Boolean)),
      ...(scatters.length && v.order.length ? [h("h3", {}, `${v.metric} by parameter`), h("div", { class: "grid small" }, scatters)] : []),
      h("div", { class: "grid" }, [importanceCard(v), contourCard(v), view.best_so_far ? bestCard(view) : null, costCard(v), rungCard(view), view.created ? timelineCard(view) : null].filter(Boolean))].filter(Boolean);
  };

  const drawComparison = () => [
    ...drawSweep({ ...data.comparison, what: "runs" }),
    section("What differs between the run files", data.differences.length ? simpleTable(["key", ...data.runs.map((run) => run.name)], data.differences.map((row) => [row.key, ...row.values.map((value) => (value === null ? "–" : JSON.stringify(JSON.parse(value))))])) : h("p", { class: "note" }, "Nothing.")),
  ];

  const page = document.getElementById("page"), content = h("div"), title = h("h1");
  const several = data.runs.length > 1;
  let shown = -1;
  const open = (at) => {
    forget();
    shown = at;
    const run = at < 0 ? null : data.runs[at];
    title.textContent = run ? run.name : `${data.runs.length} runs`;
    content.replaceChildren(...(run ? drawRun(run) : drawComparison()));
    document.querySelectorAll("nav.tabs button").forEach((button, place) => button.setAttribute("aria-pressed", String(place === at + 1)));
  };
  const dark = window.matchMedia ? window.matchMedia("(prefers-color-scheme: dark)") : { matches: false };
  const paint = (wanted) => { scheme = wanted; document.documentElement.dataset.theme = wanted; charts.forEach((one) => one.update()); };
  const themeButton = h("button", { class: "noprint", onclick: () => paint(scheme === "dark" ? "light" : "dark") }, "Light or dark");
  if (dark.addEventListener) dark.addEventListener("change", () => paint(dark.matches ? "dark" : "light"));
  window.trainerReport = { data, charts, view: null };
  page.append(h("header", { class: "top" }, title, h("span", { class: "spacer" }), themeButton),
    ...(several ? [h("nav", { class: "tabs noprint", "aria-label": "Runs" }, h("button", { onclick: () => open(-1) }, "Compare"), data.runs.map((run, at) => h("button", { onclick: () => open(at) }, short(run.name, 40))))] : []),
    content, h("footer", {}, h("span", { class: "written" }, `Written ${date(data.generated)}`), ` by trainer ${data.version}. Times are those of this browser's zone.`));
  paint(dark.matches ? "dark" : "light");
  open(several ? -1 : 0);

  // --- of `trainer ui`: a newer document is drawn at once, or when it is asked for if somebody has typed or selected something

  if (live) {
    const status = h("span", { class: "note noprint", role: "status" }), button = h("button", { class: "noprint", hidden: true }, "Show new data");
    title.after(status, button);
    title.before(h("a", { href: "/", class: "noprint" }, "All runs"));
    let tag = `"${document.documentElement.dataset.tag}"`, fresh = null;
    const busy = () => [...content.querySelectorAll("input[type=search]")].some((one) => one.value) || content.querySelector("tr.selected, details.menu[open]");
    const redraw = () => {
      const top = window.scrollY;
      Object.assign(data, fresh);
      fresh = null;
      button.hidden = true;
      document.querySelector("footer .written").textContent = `Written ${date(data.generated)}`;
      open(shown);
      window.scrollTo(0, top);
    };
    button.addEventListener("click", redraw);
    const poll = async () => {
      try {
        const answer = await fetch(live, { headers: { "If-None-Match": tag } });
        if (answer.status === 200) {
          tag = answer.headers.get("ETag") || "";
          fresh = await answer.json();
          if (busy()) button.hidden = false;
          else redraw();
        } else if (answer.status !== 304) throw new Error(await answer.text());
        status.textContent = data.runs.some((run) => run.state === "running") ? "live" : "";
      } catch (error) { status.textContent = `no answer: ${error.message}`; }
      setTimeout(poll, data.runs.some((run) => run.state === "running") ? 3000 : 15000);
    };
    poll();
  }
  let resizing = 0;
  const resize = () => charts.forEach((one) => { if (one.instance) { one.instance.resize(); one.remark(); } });
  window.addEventListener("resize", () => { cancelAnimationFrame(resizing); resizing = requestAnimationFrame(resize); });
  window.addEventListener("beforeprint", () => { paint("light"); resize(); charts.forEach((one) => one.draw()); });
  window.addEventListener("afterprint", () => paint(dark.matches ? "dark" : "light"));
})();
