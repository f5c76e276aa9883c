// Embeddings as they are seen: three dimensions as a parallel projection, without WebGL, so that it moves smoothly on
// any machine and is saved as vectors; and panels that fit a phone.
import { element, number } from "./parts.js";

const NARROW = 480;
const EDGE = { color: "#9aa3b2", width: 1 };
const axisName = (letter, panel) => `${letter}axis${panel ? panel + 1 : ""}`;

// Seen from a direction `turn` degrees around the third axis and `tilt` degrees above the other two.
export function projection(turn, tilt) {
  const [a, e] = [turn, tilt].map((angle) => (angle * Math.PI) / 180);
  return (x, y, z) => {
    const towards = Math.cos(a) * x + Math.sin(a) * y;
    return [Math.cos(a) * y - Math.sin(a) * x, Math.cos(e) * z - Math.sin(e) * towards, Math.cos(e) * towards + Math.sin(e) * z];
  };
}

// The edges of the cube from −1 to 1, as one line with gaps.
const CORNERS = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => [k & 1, (k >> 1) & 1, k >> 2].map((bit) => 2 * bit - 1));
const CUBE = CORNERS.flatMap((from, k) => [1, 2, 4].filter((bit) => !(k & bit)).flatMap((bit) => [from, CORNERS[k + bit], null]));

function flat(figure, { turn, tilt }) {
  const project = projection(turn, tilt);
  const { data, layout } = figure;
  const scenes = Object.keys(layout).filter((name) => name.startsWith("scene")).sort();
  const axes = {};
  scenes.forEach((scene, panel) => {
    const shared = { visible: false, fixedrange: true, range: [-1.8, 1.8], constrain: "domain" };
    const { x, y } = layout[scene].domain;
    const number = panel ? panel + 1 : "";
    axes[axisName("x", panel)] = { ...shared, domain: x, anchor: `y${number}` };
    axes[axisName("y", panel)] = { ...shared, domain: y, anchor: `x${number}`, scaleanchor: `x${number}` };
  });
  const axesOf = (panel) => ({ xaxis: `x${panel ? panel + 1 : ""}`, yaxis: `y${panel ? panel + 1 : ""}` });
  const corners = CUBE.map((corner) => (corner ? project(...corner) : [null, null]));
  const cube = { type: "scatter", mode: "lines", line: EDGE, opacity: 0.5, hoverinfo: "skip", showlegend: false, x: corners.map(([x]) => x), y: corners.map(([, y]) => y) };
  const drawn = data.map(({ z, scene, ...trace }) => {
    const places = Array.from(z, (height, index) => project(trace.x[index], trace.y[index], height));
    const marker = trace.marker && { ...trace.marker, size: places.map(([, , near]) => Math.max(5, 10 + 3 * near)) };
    return { ...trace, type: "scatter", ...axesOf(scenes.indexOf(scene || "scene")), x: places.map(([x]) => x), y: places.map(([, y]) => y), ...(marker && { marker }) };
  });
  const others = Object.fromEntries(Object.entries(layout).filter(([name]) => !name.startsWith("scene")));
  return { data: [...scenes.map((_, panel) => ({ ...cube, ...axesOf(panel) })), ...drawn], layout: { ...others, ...axes, dragmode: false } };
}

// On a phone: panels without words on their axes and as high as they are wide, colours explained below.
export function narrowed({ data, layout }, plot) {
  const width = plot.clientWidth;
  if (width >= NARROW) return { data, layout };
  const panels = Object.keys(layout).filter((name) => /^xaxis\d*$/.test(name));
  const changed = { ...layout };
  if (data.some((trace) => trace.type === "heatmap")) {
    const colorbar = { orientation: "h", x: 0.5, y: -0.2, yanchor: "top", thickness: 12, len: 0.9, title: { text: "cosine", side: "bottom" } };
    changed.height = width + 100;
    return { data: data.map((trace) => ({ ...trace, colorbar: { ...trace.colorbar, ...colorbar } })), layout: changed };
  }
  if (panels.length > 1) {
    for (const name of panels.flatMap((x) => [x, x.replace("x", "y")])) changed[name] = { ...layout[name], title: { text: "" } };
    changed.height = 40 + Math.ceil(panels.length / 2) * (width / 2 + 20);
  } else changed.height = 300;
  plot.style.minHeight = `${changed.height}px`;
  return { data, layout: changed };
}

// Lets the place of embeddings show them so; returns what turns solid ones.
export function solid(place, state, keep) {
  const { plot } = place;
  const isSolid = (figure) => figure.data.some((trace) => trace.type === "scatter3d");
  const controls = element("div", { class: "turn", hidden: true },
    number("turn", { label: "turn the view, in degrees (or drag the figure)", min: 0, max: 360, step: 1 }, state, turned),
    number("tilt", { label: "look from above, in degrees", min: -90, max: 90, step: 1 }, state, turned));
  plot.after(controls);
  plot.seen = (figure) => {
    controls.hidden = !isSolid(figure);
    plot.classList.toggle("solid", !controls.hidden);
    return narrowed(controls.hidden ? figure : flat(figure, state), plot);
  };
  let waiting = false;
  function turned() {
    keep();
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (plot.figure) place.move();
    });
  }
  let from = null;
  function drag(event) {
    const [dx, dy] = [event.clientX - from[0], event.clientY - from[1]];
    from = [event.clientX, event.clientY];
    state.turn = Math.round((state.turn - dx + 720) % 360);
    state.tilt = Math.round(Math.min(90, Math.max(-90, state.tilt + (event.pointerType === "touch" ? 0 : dy)))); // touch: up and down scrolls
    for (const control of controls.children) control.show();
    turned();
  }
  plot.addEventListener("pointerdown", (event) => {
    if (controls.hidden || !event.target.closest(".draglayer")) return;
    from = [event.clientX, event.clientY];
    const end = new AbortController(); // while a button is down Plotly covers the page: only the window hears of moves
    window.addEventListener("pointermove", drag, { signal: end.signal });
    for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => end.abort(), { signal: end.signal });
  });
}
