// A training that is watched: its answers come line by line and are drawn one by one; pause, step, stop, restart.
import { narrowed, solid } from "./solid.js";
import { sparsity } from "./sparsity.js";
import { choice, copyButton, element, facts, figurePlace, number, readLines, statusLine } from "./parts.js";

export const ARCHITECTURES = {
  quadratic: "quadratic model", "tied relu": "ReLU autoencoder, tied", "untied relu": "ReLU autoencoder, untied",
  "tied identity": "linear autoencoder, tied", "untied identity": "linear autoencoder, untied", "tied abs": "|x| autoencoder, tied",
  "tied gelu": "GELU autoencoder, tied", "tied softplus": "softplus autoencoder, tied", "tied square": "x² autoencoder, tied", "untied square": "x² autoencoder, untied",
};
const BETWEEN = 40; // milliseconds from one drawing to the next, at least
const still = window.matchMedia("(prefers-reduced-motion: reduce)"); // then only what has come last is drawn
const SLOW = 120; // where a drawing takes longer, every other moment is left out
const COURSES = ["loss", "index"]; // figures that only grow, drawn with every fifth moment
const COURSE_EVERY = 5;

// Controls of a training: those that matter most, and a fold with the others.
export function controlsOf({ architectures, most = 60, defaults }, state, { changed, tell }) {
  const rarity = sparsity(state, defaults, { changed, tell });
  const set = (name) => {
    changed(name);
    if (name === "architecture") rarity.pair();
  };
  const known = (names) => Object.entries(names).map(([name, settings]) => number(name, settings, state, set));
  const main = [
    choice("architecture", "architecture", architectures.map((name) => [name, ARCHITECTURES[name]]), state, set),
    ...known({
      n_features: { label: "number of features N", min: 1, max: most, step: 1, whole: true },
      d_hidden: { label: "dimensions D", min: 1, max: 20, step: 1, whole: true },
    }),
    ...rarity.controls,
  ];
  const others = known({
    decay: { label: "importance of each feature, over that of the one before", min: 0.3, max: 1, step: 0.01 },
    n_seeds: { label: "random starts, side by side", min: 1, max: 4, step: 1, whole: true },
    shown: { label: "start whose features are shown one by one", min: 1, max: 4, step: 1, whole: true },
    seed: { label: "seed", min: 0, max: 100, step: 1, whole: true },
    steps: { label: "steps of training", min: 50, max: 3000, step: 50, whole: true },
  });
  const fold = (title, open, inside) => element("details", { class: "more", open }, element("summary", {}, title), element("div", { class: "controls" }, ...inside));
  const wide = window.matchMedia("(min-width: 700px)").matches; // on a phone the figures come first
  return [fold("Model and features", wide, main), fold("Importance, starts, steps", false, others)];
}

// Buttons, facts and figures of a training, and the training itself.
export function player(root, state, { path, figures, keep, tell, controls }) {
  const places = Object.fromEntries(figures.map((name) => [name, figurePlace(name, ["embedding", "capacity"].includes(name) ? 360 : 480)]));
  for (const name of ["embedding", "capacity"]) places[name].fixed = true; // their axes
  solid(places.embedding, state, keep);
  for (const name of ["gram", "loss", "index"]) if (places[name]) places[name].plot.seen = (figure) => narrowed(figure, places[name].plot);
  const list = element("dl", { class: "facts", id: "facts" });
  const [status, tellStatus] = statusLine();
  const before = element("span", { class: "lead" });
  const button = (name, text, act) => element("button", { type: "button", id: name, onclick: act }, text);
  const buttons = {
    pause: button("pause", "Pause", () => (mode === "running" ? pause() : go())),
    step: button("step", "Step", step),
    stop: button("stop", "Stop", stop),
    restart: button("restart", "Restart", start),
  };
  let code = "";
  const [copy, shownCode] = copyButton(() => code);
  root.append(
    ...controls,
    element("div", { class: "row", role: "group", "aria-label": "Training" }, ...Object.values(buttons)), element("div", { class: "row said" }, status, before),
    element("div", { class: "plots" }, ...Object.values(places)), list, element("div", { class: "row" }, copy), shownCode,
  );

  let mode = "stopped"; // running, paused, stopped or ended
  let stream = null; // ends the work on the server when aborted
  let waiting = []; // answers that are not drawn yet
  let received = -1; // the last step that has come
  let complete = false;
  let single = false; // draw one moment, then pause
  let said = new Map();
  let later = 0;
  let run = 0; // counts the loops that draw, of which only the last goes on
  let shown = 0;

  function become(next, text) {
    mode = root.dataset.mode = next;
    buttons.pause.textContent = mode === "running" ? "Pause" : "Continue";
    buttons.pause.disabled = mode === "ended" || mode === "stopped";
    buttons.step.disabled = mode !== "paused";
    buttons.stop.disabled = mode === "ended" || mode === "stopped";
    tellStatus(text);
    before.textContent = "";
  }
  function end() {
    stream?.abort();
    stream = null;
  }
  async function open() {
    const here = new AbortController();
    stream = here;
    try {
      const { turn, tilt, ...asked } = state;
      await readLines(path, { ...asked, from_step: received + 1 }, here.signal, (answer) => {
        if (here.signal.aborted) return;
        if ("before" in answer) {
          if (mode !== "running") return;
          tellStatus(received < 0 ? "The model is trained first, as it is; then it is changed." : "The training catches up.");
          before.textContent = received < 0 ? `Step ${answer.before}` : "";
          return;
        }
        received = answer.step;
        complete = Boolean(answer.done);
        waiting.push(answer);
      });
      if (stream === here) stream = null;
      if (!complete && !here.signal.aborted) throw new Error("The training was ended by the server; restart it.");
    } catch (error) {
      if (here.signal.aborted) return;
      stream = null;
      become("stopped", "");
      tell(error);
    }
  }
  function start() {
    end();
    clearTimeout(later);
    tell(null);
    [waiting, received, complete, single, said] = [[], -1, false, false, new Map()];
    root.dataset.starts = Number(root.dataset.starts || 0) + 1;
    root.dataset.step = "";
    delete root.dataset.drawn;
    go();
  }
  function go() {
    become("running", "The model trains.");
    if (!complete && !stream) open();
    draw(run += 1);
  }
  function pause() {
    single = false;
    run += 1;
    end();
    for (const name of COURSES) if (places[name]?.plot.figure) places[name].draw(places[name].plot.figure);
    become("paused", root.dataset.step ? "Paused: nothing is computed." : "Paused before the first step: there is nothing to show yet.");
  }
  function step() {
    single = true;
    if (!complete && !waiting.length && !stream) open();
    draw(run += 1);
  }
  function stop() {
    run += 1;
    end();
    waiting = [];
    become("stopped", "Stopped.");
  }
  async function draw(mine) {
    let took = 0;
    while (mine === run) {
      const began = performance.now();
      const answer = waiting.shift();
      if (answer) {
        const slow = (still.matches || took > SLOW) && waiting.length > 1 && !single;
        await show(answer, slow && answer.changes);
        took = slow && !still.matches ? 0 : performance.now() - began;
        if (mine !== run || answer.done) return;
        if (single && "step" in answer) {
          pause();
          return;
        }
        if (!still.matches) await new Promise((resolve) => { setTimeout(resolve, Math.max(4, BETWEEN - (performance.now() - began))); });
      } else {
        if (mode === "stopped") return;
        await new Promise((resolve) => { setTimeout(resolve, 20); });
      }
    }
  }
  async function show(answer, later = false) {
    if (answer.done) {
      code = answer.code;
      root.dataset.drawn = `${answer.step}`;
      root.dataset.loss = JSON.stringify(answer.numbers.loss);
      root.dataset.capacity = JSON.stringify(answer.numbers.capacity);
      become("ended", "The training has ended.");
      return;
    }
    const wanted = (shown += 1) % COURSE_EVERY === 0 || single || answer.step >= state.steps;
    for (const [label, value] of answer.facts) said.set(label, value);
    facts(list, [...said]);
    if (answer.figures) await Promise.all(Object.entries(answer.figures).map(([name, figure]) => places[name].draw(figure)));
    else await Promise.all(Object.entries(answer.changes).map(([name, changes]) => places[name].change(changes, later || (COURSES.includes(name) && !wanted))));
    if (mode === "running") tellStatus("The model trains.");
    before.textContent = "";
    if (!later) root.dataset.step = answer.step;
  }
  function changed() {
    if (!root.isConnected) return; // an answer has come after the view was left
    keep();
    clearTimeout(later);
    run += 1;
    end();
    later = setTimeout(start, 250);
  }
  function leave() {
    run += 1;
    clearTimeout(later);
    end();
  }
  return { places, start, changed, leave };
}
