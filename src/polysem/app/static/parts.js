// What views are made of: elements, controls, questions to the server, figures.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// An answer of the server, or the error that it tells; settings without a value are left out.
async function answerTo(path, parameters, options) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== null));
  const answer = await fetch(`${path}?${query}`, options);
  if (answer.ok) return answer;
  const content = await answer.json().catch(() => ({}));
  throw new Error(content.error || content.detail || `The server answered ${answer.status}.`);
}

// Asks the server; of questions on one channel only the last is answered, the others end in null.
const asking = new Map();
export async function ask(channel, path, parameters = {}, options = {}) {
  asking.get(channel)?.abort();
  const here = new AbortController();
  asking.set(channel, here);
  try {
    const answer = await answerTo(path, parameters, { ...options, signal: here.signal });
    const content = await answer.json();
    return here.signal.aborted ? null : content;
  } catch (error) {
    if (error.name === "AbortError") return null;
    throw error;
  }
}

// Reads lines of JSON from an address until they end or the signal says so.
export async function readLines(path, parameters, signal, take) {
  const answer = await answerTo(path, parameters, { signal });
  const lines = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await lines.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const line of parts) {
        const said = JSON.parse(line);
        if (said.error) throw new Error(said.error);
        take(said);
      }
    }
  } finally {
    lines.cancel().catch(() => {}); // where something went wrong here, the server need not go on
  }
}

// A task that keeps up with a control: called while it runs, however often, it runs once more when it has ended.
export function following(task) {
  let running = false;
  let wanted = false;
  return async () => {
    wanted = true;
    if (running) return;
    running = true;
    try {
      while (wanted) {
        wanted = false;
        await task();
      }
    } finally {
      running = false;
    }
  };
}

// A number with a slider; a logarithmic one where `log` is set.
export function number(name, { label, min, max, step, log = false, whole = false }, state, changed) {
  const identifier = `control-${name}`;
  const toSlider = (value) => (log ? Math.log10(Math.max(value, min)) : value);
  const slider = element("input", {
    type: "range", id: identifier, min: toSlider(min), max: toSlider(max), step: log ? 0.005 : step, value: toSlider(state[name]),
  });
  const exact = element("input", { type: "number", min, max, step: "any", value: state[name], "aria-label": `${label}, exact` });
  const set = (value) => {
    state[name] = value;
    changed(name);
  };
  slider.addEventListener("input", () => {
    const value = log ? Number((10 ** Number(slider.value)).toPrecision(4)) : Number(slider.value);
    exact.value = value;
    set(value);
  });
  exact.addEventListener("change", () => {
    const value = whole ? Math.round(Number(exact.value)) : Number(exact.value);
    const bounded = Math.min(max, Math.max(min, Number.isFinite(value) ? value : min));
    exact.value = bounded;
    slider.value = toSlider(bounded);
    set(bounded);
  });
  const made = element("div", { class: "control" }, element("label", { for: identifier }, label), slider, exact);
  made.show = () => {
    exact.value = state[name];
    slider.value = toSlider(state[name]);
  };
  made.limit = (largest, least = min) => {
    exact.min = min = least;
    exact.max = max = largest;
    [slider.min, slider.max] = [toSlider(min), toSlider(max)];
  };
  return made;
}

export function choice(name, label, options, state, changed) {
  const identifier = `control-${name}`;
  const select = element("select", { id: identifier },
    ...options.map(([value, text]) => element("option", { value, selected: String(state[name]) === value }, text)));
  select.addEventListener("change", () => {
    state[name] = select.value;
    changed(name);
  });
  const made = element("div", { class: "control" }, element("label", { for: identifier }, label), select);
  made.show = () => { select.value = state[name]; };
  return made;
}

// A line that says what goes on, read aloud whenever that changes: so what counts on stands elsewhere.
export function statusLine() {
  const line = element("p", { id: "status", role: "status" });
  return [line, (text) => { if (line.textContent !== text) line.textContent = text; }];
}

export function facts(list, entries) {
  list.replaceChildren(...entries.flatMap(([label, value]) => [element("dt", {}, label), element("dd", {}, value)]));
}

// Figures

let template = null;
const touched = window.matchMedia("(any-pointer: coarse)").matches; // then a drag scrolls, and no tools lie over the figure
const drawn = new Set();

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  return coloured(layout, style.getPropertyValue("--text").trim(), style.getPropertyValue("--line").trim());
}

function coloured(layout, text, line) {
  const changed = { ...layout, template, font: { ...layout.font, color: text }, ...(touched && { dragmode: false }) };
  for (const name of Object.keys({ xaxis: 0, yaxis: 0, ...layout })) {
    if (/^[xyz]axis\d*$/.test(name)) changed[name] = { ...layout[name], gridcolor: line, linecolor: line, tickcolor: line };
  }
  return changed;
}

// A figure as it is saved: on white, with the title that the page has above it.
const SAVED = { width: 1000, height: 700 };
function saved({ data, layout }) {
  const plain = coloured(layout, "#1d2330", "#d4d9e2");
  const title = { text: (layout.meta || {}).title || "", x: 0.5, yref: "container", y: 0.98, yanchor: "top" };
  const margin = { ...plain.margin, t: Math.max(90, (plain.margin || {}).t || 0) };
  return { data, layout: { ...plain, ...SAVED, title, margin, paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff" } };
}

// A figure as it is drawn, or saved: a view may turn it first, or add to it.
const seen = (plot, saving = false) => (plot.seen ? plot.seen(plot.figure, saving) : plot.figure);

export function recolour() {
  for (const place of drawn) {
    if (!place.isConnected || !place.figure) {
      drawn.delete(place);
      continue;
    }
    const { data, layout } = seen(place);
    Plotly.react(place, data, themed(layout));
  }
}

// The place of a figure: heading, plot, caption, and what can be exported.
export function figurePlace(name, height) {
  const heading = element("h2");
  const plot = element("div", { class: "plot", id: `plot-${name}`, role: "img", style: `min-height:${height}px` });
  const caption = element("figcaption");
  const save = (format) => () => Plotly.downloadImage(saved(seen(plot, true)), { format, filename: `polysem-${name}`, ...SAVED, scale: 2 });
  const exports = element("div", { class: "row" },
    element("button", { type: "button", onclick: save("png") }, "PNG"),
    element("button", { type: "button", onclick: save("svg") }, "SVG"),
    element("button", { type: "button", onclick: () => download(`polysem-${name}.csv`, table(plot.figure)) }, "CSV"));
  const made = element("figure", {}, heading, plot, caption, exports);
  made.plot = plot;
  made.draw = async (figure) => {
    template ??= await (await fetch("/template.json")).json();
    plot.figure = figure;
    const meta = figure.layout.meta || {};
    heading.textContent = meta.title || "";
    caption.textContent = meta.caption || "";
    plot.setAttribute("aria-label", meta.title || name);
    const options = { responsive: true, displaylogo: false, displayModeBar: touched ? false : "hover", modeBarButtonsToRemove: ["select2d", "lasso2d"] };
    const { data, layout } = seen(plot);
    await Plotly.react(plot, data, themed(layout), options);
    drawn.add(plot);
    made.onfirst?.(plot);
    made.onfirst = null;
  };
  // Points, lines and bars take their new places; axes and all the rest stay as they are, which is several times faster.
  made.move = () => {
    const { data } = seen(plot);
    const traces = data.map((_, index) => index);
    if (data.every((trace) => trace.type === "bar")) {
      return Plotly.restyle(plot, { y: data.map((trace) => trace.y), "marker.color": data.map((trace) => trace.marker.color) }, traces);
    }
    const places = data.map(({ x, y, marker }) => ({ x, y, ...(marker && { marker }) }));
    const at = { mode: "immediate", frame: { duration: 0, redraw: false }, transition: { duration: 0 } };
    return Plotly.animate(plot, { data: places, traces }, at);
  };
  // Of each trace what has changed; what stands under `extend` is appended. Nothing is drawn yet where `later` is set.
  made.change = async (changes, later = false) => {
    const data = plot.figure.data.map((trace, index) => {
      const { extend = {}, marker, ...rest } = changes[index] || {};
      const longer = Object.entries(extend).map(([axis, values]) => [axis, numbers(trace[axis]).concat(values)]);
      return { ...trace, ...rest, ...(marker && { marker: { ...trace.marker, ...marker } }), ...Object.fromEntries(longer) };
    });
    plot.figure = { ...plot.figure, data };
    if (!later) await (made.fixed ? made.move() : made.draw(plot.figure));
  };
  return made;
}

function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// Every point of every trace as a line of CSV.
function table(figure) {
  const quoted = (value) => (/[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));
  const lines = ["trace,x,y,z"];
  for (const trace of figure ? figure.data : []) {
    const name = quoted(trace.name || trace.type || "trace");
    const [x, y, z] = ["x", "y", "z"].map((axis) => numbers(trace[axis]));
    if (trace.type === "heatmap") {
      y.forEach((v, row) => x.forEach((u, column) => lines.push([name, u, v, numbers(z[row])[column]].map(quoted).join(","))));
    } else {
      x.forEach((u, index) => lines.push([name, quoted(u), quoted(y[index]), quoted(z[index])].join(",")));
    }
  }
  return lines.join("\n") + "\n";
}

// Arrays come as such, or packed as base64.
const TYPES = { f8: Float64Array, f4: Float32Array, i8: BigInt64Array, i4: Int32Array, i2: Int16Array, i1: Int8Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
export function numbers(values) {
  if (!values || !values.bdata) return Array.from(values || []);
  const bytes = Uint8Array.from(atob(values.bdata), (c) => c.charCodeAt(0));
  const flat = Array.from(new TYPES[values.dtype](bytes.buffer), Number);
  if (!values.shape) return flat;
  const [rows, columns] = String(values.shape).split(",").map(Number);
  return columns ? Array.from({ length: rows }, (_, row) => flat.slice(row * columns, (row + 1) * columns)) : flat;
}

export function copyButton(code) {
  const button = element("button", { type: "button", id: "copy" }, "Copy as Python");
  const shown = element("pre", { id: "code", hidden: true, tabindex: "0", "aria-label": "Python code of this view" });
  button.addEventListener("click", async () => {
    shown.textContent = code();
    shown.hidden = false;
    try {
      await navigator.clipboard.writeText(code());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copy it from below";
    }
    setTimeout(() => { button.textContent = "Copy as Python"; }, 1500);
  });
  return [button, shown];
}
