// Phase diagram: a click puts a point, and its curves stand beside it; theory or trained models answer.
import { ask, choice, copyButton, element, facts, figurePlace, following, number, readLines, statusLine } from "./parts.js";

export const title = "Phase diagram";
export const lead = "Two features compete for one dimension of a network. What part of it a feature owns is its capacity C, from 0 (ignored) to 1 (the whole dimension). How important the second feature is beside the first, and how heavy-tailed both are (their kurtosis F, large where features are rarely active), decides who gets what.";
export const words = ["feature", "capacity C", "importance v", "kurtosis F", "marginal benefit, returns", "price μ", "quadratic model", "autoencoder", "start"];
export const defaults = { kurtosis: 2, ratio: 0.8, who: "theory", cells: 16 };

const WHO = {
  theory: "quadratic model, by theory", quadratic: "quadratic model, trained", "tied relu": "ReLU autoencoders, trained",
  "tied abs": "|x| autoencoders, trained", "tied identity": "linear autoencoders, trained",
};
// Around a place on logarithmic axes: a circle's corners could not be negative there.
const CIRCLE = "M9,0 C9,5 5,9 0,9 C-5,9 -9,5 -9,0 C-9,-5 -5,-9 0,-9 C5,-9 9,-5 9,0 Z";
const GRIDS = [8, 16, 24].map((cells) => [String(cells), `${cells} × ${cells} cells`]);

export function mount(root, state, { keep, tell }) {
  let code = "";
  const map = figurePlace("map", 460);
  const ring = element("div", { class: "ring", hidden: true });
  map.append(ring);
  const curves = figurePlace("curves", 460);
  const note = element("p", { id: "note", hidden: true }, "The first lines below tell of the nearest trained cell of the map. The curves are those of the quadratic theory, at the place itself.");
  const list = element("dl", { class: "facts", id: "facts", "aria-live": "polite" });
  const reader = readerOf(goTo);
  const who = choice("who", "model whose capacities the map shows", Object.entries(WHO), state, chosen);
  const cells = choice("cells", "grid of trained models", GRIDS, state, chosen);
  const controls = [
    number("kurtosis", { label: "kurtosis F of both features", min: 1.2, max: 40, log: true }, state, moved),
    number("ratio", { label: "importance of feature 2 beside feature 1, v₂/v₁", min: 0.04, max: 25, log: true }, state, moved),
  ];
  const progress = element("progress", { max: 1, value: 0, "aria-label": "trained so far" });
  const percent = element("span");
  const [status, tellStatus] = statusLine();
  const going = element("div", { class: "row", hidden: true }, progress, percent);
  const [copy, shown] = copyButton(() => code);
  root.append(
    reader.place,
    element("div", { class: "controls" }, who, cells, ...controls), status, going,
    element("div", { class: "plots" }, map, curves),
    note, list, element("div", { class: "row" }, copy), shown,
  );

  let theory = null; // the map by theory, once it has come
  let answers = { who: "theory" }; // what the map that is drawn shows
  let training = null; // ends the work on the server when aborted

  function goTo(point) {
    Object.assign(state, { kurtosis: point.kurtosis, ratio: point.ratio });
    controls.forEach((control) => control.show());
    moved();
  }
  function moved() {
    keep();
    reader.at(state);
    if (map.plot.figure) mark();
    return show();
  }
  // A circle that lies over the map, so that moving it draws nothing again; only what is saved has it inside.
  function mark() {
    const { xaxis, yaxis } = map.plot._fullLayout;
    const [x, y] = [xaxis.d2p(state.kurtosis), yaxis.d2p(state.ratio)];
    ring.hidden = x < 0 || y < 0 || x > xaxis._length || y > yaxis._length;
    ring.style.left = `${map.plot.offsetLeft + xaxis._offset + x}px`;
    ring.style.top = `${map.plot.offsetTop + yaxis._offset + y}px`;
  }
  map.plot.seen = (figure, saving) => {
    if (!saving) return figure;
    const circle = {
      type: "path", xref: "x", yref: "y", xsizemode: "pixel", ysizemode: "pixel", xanchor: state.kurtosis, yanchor: state.ratio,
      path: CIRCLE, line: { width: 3, color: "#ffffff" },
    };
    return { ...figure, layout: { ...figure.layout, shapes: [circle] } };
  };
  const show = following(async () => {
    const place = { kurtosis: state.kurtosis, ratio: state.ratio };
    const trained = answers.who !== "theory" ? answers : null;
    try {
      const [answer, cell] = await Promise.all([
        ask("place", "/api/phase/place", place),
        trained && ask("cell", "/api/phase/trained/place", { ...place, ...trained }),
      ]);
      if (!answer || (trained && !cell)) return;
      tell(null);
      code = (cell || answer).code;
      const said = cell ? [...cell.facts, ...answer.facts.map(([label, value]) => [`theory: ${label}`, value])] : answer.facts;
      facts(list, said);
      note.hidden = !cell;
      await curves.draw(answer.figures.curves);
      root.dataset.drawn = `${place.kurtosis},${place.ratio}`;
      root.dataset.who = Object.values(trained || answers).join();
    } catch (error) {
      tell(error);
    }
  });
  async function draw(figure, whose) {
    answers = whose;
    await map.draw(figure);
    await moved();
  }
  function end() {
    training?.abort();
    training = null;
    going.hidden = true;
    tellStatus("");
  }
  function chosen() {
    keep();
    end();
    tell(null);
    cells.hidden = state.who === "theory";
    if (state.who !== "theory") train();
    else if (theory) draw(structuredClone(theory), { who: "theory" });
  }
  async function train() {
    const here = new AbortController();
    const asked = { who: state.who, cells: state.cells };
    training = here;
    progress.value = 0;
    percent.textContent = "";
    going.hidden = false;
    tellStatus("Waiting for the models.");
    let figure = null;
    try {
      await readLines("/api/phase/trained/map", asked, here.signal, (answer) => {
        if (here.signal.aborted) return;
        if (answer.done) figure = answer.figures.map;
        else {
          progress.value = answer.progress;
          percent.textContent = `${Math.round(100 * answer.progress)} %`;
          tellStatus(`${asked.cells * asked.cells} pairs of features are trained, each from 16 starts. Until then the map is as before.`);
        }
      });
      if (here.signal.aborted) return;
      end();
      if (!figure) throw new Error("The training was ended by the server; choose again what the map shows.");
      await draw(figure, asked);
    } catch (error) {
      if (here.signal.aborted) return;
      end();
      tell(error);
    }
  }
  async function start() {
    try {
      const answer = await ask("map", "/api/phase/map");
      if (!answer || !root.isConnected) return;
      theory = answer.figures.map;
      reader.fill(answer.numbers.points);
      map.onfirst = (plot) => {
        plot.on("plotly_click", (event) => {
          const point = event.points[0];
          goTo({ kurtosis: Number(point.x.toPrecision(5)), ratio: Number(point.y.toPrecision(5)) });
        });
        plot.on("plotly_afterplot", mark);
      };
      await draw(structuredClone(theory), { who: "theory" });
      if (state.who !== "theory" && root.isConnected) chosen();
    } catch (error) {
      tell(error);
    }
  }
  cells.hidden = state.who === "theory";
  start();
  return end;
}

// The points A to F as steps of an argument: their letters, the text of the one that is open, and the way on.
function readerOf(goTo) {
  const letters = element("div", { class: "row", role: "group", "aria-label": "Points A to F" });
  const story = element("div", { id: "story", "aria-live": "polite" });
  const previous = element("button", { type: "button", id: "previous" }, "Previous");
  const next = element("button", { type: "button", id: "next" }, "Next");
  const place = element("section", { class: "reader", "aria-label": "The argument in six points" }, letters, story, element("div", { class: "row" }, previous, next));
  let points = [];
  let current = -1;
  const step = (by) => () => goTo(points[current < 0 ? 0 : (current + by + points.length) % points.length]);
  previous.addEventListener("click", step(-1));
  next.addEventListener("click", step(1));
  const fill = (known) => {
    points = known;
    letters.replaceChildren(...points.map((point) => element("button", {
      type: "button", "data-name": point.name, title: point.says, "aria-pressed": "false", onclick: () => goTo(point),
    }, point.name)));
  };
  const at = (state) => {
    if (!points.length) return;
    current = points.findIndex((point) => point.kurtosis === state.kurtosis && point.ratio === state.ratio);
    const open = points[current];
    for (const button of letters.children) button.setAttribute("aria-pressed", String(button.dataset.name === open?.name));
    previous.disabled = !open;
    const name = (by) => points[(current + by + points.length) % points.length].name;
    previous.textContent = open ? `← Previous: ${name(-1)}` : "← Previous";
    next.textContent = open ? `Next: ${name(1)} →` : "Begin at A →";
    if (!open) {
      story.replaceChildren(element("p", {}, "A place of your own. The points A to F lead through the argument, one step at a time."));
      return;
    }
    story.replaceChildren(
      element("h2", {}, `${open.name}: ${open.says}`), element("p", {}, open.reads),
      element("p", { class: "look" }, element("strong", {}, "In the curves: "), open.look),
    );
  };
  return { place, fill, at };
}
