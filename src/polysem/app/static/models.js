// Your model: a file is chosen or brought, one of its matrices measured, and its features looked at.
import { ask, choice, copyButton, element, facts, figurePlace, number, readLines, statusLine } from "./parts.js";
import { sweep } from "./sweep.js";

export const title = "Your model";
export const lead = "Choose a file, then one of its matrices, and say whether its rows or its columns are features (such as tokens, neurons or dictionary elements). You see how much of a dimension each of them owns, its capacity C, beside what random directions would give. Files stay on the machine where the explorer runs; nothing in them is executed.";
export const words = ["feature", "capacity C", "pure, impure, ignored", "null", "rank, efficiency", "effective dimension", "rows beyond precision"];
export const defaults = {
  file: "", tensor: "", features: "rows", norm: "raw", draws: 8, seed: 0, labels: "", feature: "",
  output: "", across: "", down: "",
};
const NORMS = [["raw", "as they are"], ["unit", "each divided by its norm"]];
const MATRIX = ["file", "tensor", "features", "norm", "draws", "seed", "labels", "feature"];
const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const many = (n) => n.toLocaleString("en");
const counted = (n, one, more) => `${many(n)} ${n === 1 ? one : more}`;

export function mount(root, state, { keep, tell }) {
  let code = "";
  let work = null; // ends the measurement on the server when aborted
  let files = [];
  const file = element("select", { id: "control-file" });
  const labels = element("select", { id: "control-labels" });
  const upload = element("input", { type: "file", id: "upload", accept: ".safetensors,.pt,.pth,.bin,.npy,.npz,.onnx,.txt,.json" });
  const where = element("p", { id: "where" });
  const matrices = element("div", { id: "matrices" });
  const [status, tellStatus] = statusLine();
  const progress = element("progress", { max: 1, value: 0, "aria-label": "measured so far" });
  const percent = element("span");
  const cancel = element("button", { type: "button", id: "cancel", onclick: () => { stop(); tellStatus("Cancelled: nothing is computed."); } }, "Cancel");
  const going = element("div", { class: "row", hidden: true }, progress, percent, cancel);
  const result = element("div", { id: "result", hidden: true });
  const [copy, shown] = copyButton(() => code);
  const again = () => { keep(); if (state.tensor) measure(); };
  const settings = element("details", {}, element("summary", {}, "How it is measured"),
    element("div", { class: "controls" },
      choice("norm", "norms of the features", NORMS, state, again),
      number("draws", { label: "random matrices to compare with, of each kind", min: 2, max: 64, step: 1, whole: true }, state, later),
      number("seed", { label: "seed of the random matrices", min: 0, max: 100, step: 1, whole: true }, state, later)));
  root.append(
    element("div", { class: "controls" },
      element("div", { class: "control" }, element("label", { for: "control-file" }, "file"), file),
      element("div", { class: "control" }, element("label", { for: "upload" }, "or upload one, which is kept until the explorer ends"), upload),
      element("div", { class: "control" }, element("label", { for: "control-labels" }, "names of the features, if there are: one a line (.txt) or a vocabulary (.json)"), labels)),
    settings, where, matrices, status, going, result,
  );

  const verdict = element("p", { id: "verdict" });
  const list = element("dl", { class: "facts", id: "facts" });
  const places = { capacity: figurePlace("capacity", 420), norm: figurePlace("norm", 420), spectrum: figurePlace("spectrum", 420) };
  const purest = element("div", { class: "plots", id: "purest" });
  const partners = element("section", { id: "partners", "aria-label": "Partners of a feature", tabindex: "-1" });
  const owns = element("p", { "aria-live": "polite" });
  const asked = element("input", { id: "feature", type: "text", size: 14 });
  const every = element("a", { download: "polysem-features.csv" }, "All features as CSV");
  const question = element("form", { class: "row", onsubmit: (event) => { event.preventDefault(); ofFeature(asked.value.trim()); } },
    element("label", { for: "feature" }, "Partners of the feature with this number or name"), asked, element("button", { type: "submit" }, "Show"));
  const measured = [verdict, element("div", { class: "plots" }, places.capacity, places.norm), list,
    element("h2", {}, "Most and least pure features"), element("p", {}, "A feature owns at most 1 dimension; beside its capacity stands what it would own if all directions were random. Press one to see with whom it shares."),
    purest, question, partners, element("div", { class: "plots" }, places.spectrum), element("div", { class: "row" }, copy, every), shown];
  places.norm.onfirst = (plot) => plot.on("plotly_click", (event) => {
    const row = event.points[0].customdata;
    if (row !== undefined) pressed(String(row));
  });

  const query = (names) => Object.fromEntries(names.map((name) => [name, state[name]]));
  let waiting = 0;
  function later() {
    clearTimeout(waiting);
    waiting = setTimeout(again, 400);
  }
  function stop() {
    work?.abort();
    work = null;
    going.hidden = true;
    root.dataset.mode = "idle";
  }
  // Reads the lines of a measurement, of several only the last, and says whether it has come to its end.
  async function lines(path, parameters, take) {
    if (!root.isConnected) return false; // the view was left
    stop();
    tell(null);
    const here = new AbortController();
    let taken = null;
    work = here;
    root.dataset.mode = "running";
    try {
      await readLines(path, parameters, here.signal, (answer) => {
        if (here.signal.aborted) return;
        if ("progress" in answer) {
          going.hidden = false;
          progress.value = answer.progress;
          percent.textContent = `${Math.round(100 * answer.progress)} %`;
          tellStatus("Computing.");
        } else {
          tellStatus("");
          taken = take(answer);
        }
      });
      await taken;
    } catch (error) {
      if (here.signal.aborted) return false;
      stop();
      tellStatus("");
      tell(error);
      return false;
    }
    if (here.signal.aborted) return false;
    stop();
    return true;
  }

  async function refresh() {
    const answer = await ask("files", "/api/models/files");
    if (!answer) return;
    const { folder, left_out: leftOut } = answer.numbers;
    files = answer.numbers.files;
    where.textContent = folder === null
      ? "The explorer was started without a folder to open from: `polysem explore --models FOLDER` gives it one. Until then, upload a file."
      : `${files.length ? "The list holds the weights, sweeps and labels" : "No weights, sweeps or labels that can be opened were"} found below ${folder}${leftOut ? ", the first of them: there are more" : ""}.`;
    const of = (kind, brought) => files.filter((one) => one.kind === kind && one.name.startsWith("upload:") === brought);
    const option = (one) => element("option", { value: one.name }, one.size ? `${one.name.replace(/^upload:.*\//, "")} (${size(one.size)})` : one.name);
    const group = (label, found) => (found.length ? [element("optgroup", { label }, ...found.map(option))] : []);
    file.replaceChildren(element("option", { value: "" }, "choose a file"),
      ...group("weights", of("weights", false)), ...group("finished sweeps", of("sweep", false)), ...group("uploaded", of("weights", true)));
    labels.replaceChildren(element("option", { value: "" }, "none: numbers from 0 on"),
      ...group("labels", of("labels", false)), ...group("uploaded", of("labels", true)));
    file.value = state.file;
    labels.value = state.labels;
  }
  async function open() {
    stop();
    tell(null);
    matrices.replaceChildren();
    result.hidden = true;
    delete root.dataset.drawn;
    if (!state.file) return;
    if (files.find((one) => one.name === state.file)?.kind === "sweep") {
      await sweep(result, root, state, { keep, tell, lines });
      return;
    }
    const answer = await ask("matrices", "/api/models/matrices", { file: state.file });
    if (!answer) return;
    const { matrices: found, left_out: leftOut, skipped, format } = answer.numbers;
    const reading = (one, features, n, d) => element("button", {
      type: "button", "data-tensor": one.name, "data-features": features, "aria-pressed": "false",
      onclick: () => {
        Object.assign(state, { tensor: one.name, features, feature: "" });
        again();
      },
    }, `${counted(n, "feature", "features")} in ${counted(d, "dimension", "dimensions")}`);
    matrices.replaceChildren(
      element("p", {}, `${leftOut ? "The first " : ""}${counted(found.length, "matrix", "matrices")} (${format})${leftOut ? `, without ${many(leftOut)} more` : ""}${skipped ? `, beside ${counted(skipped, "entry that is", "entries that are")} no matrix` : ""}. Press what you want measured. Which side holds the features you must say, since neither shape nor name tells: of an nn.Embedding the rows, of a decoder that is an nn.Linear the columns.`),
      element("div", { class: "scroll" }, element("table", {},
        element("thead", {}, element("tr", {}, ...["matrix", "stored", "rows are features", "columns are features"].map((text) => element("th", { scope: "col" }, text)))),
        element("tbody", {}, ...found.map((one) => element("tr", {},
          element("th", { scope: "row" }, one.name), element("td", {}, `${many(one.shape[0])} × ${many(one.shape[1])}, ${one.dtype}`),
          element("td", { "data-side": "rows are" }, reading(one, "rows", ...one.shape)), element("td", { "data-side": "columns are" }, reading(one, "columns", one.shape[1], one.shape[0]))))))),
    );
    root.dataset.opened = state.file;
    if (state.tensor) await measure();
  }
  function press() {
    for (const button of matrices.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.tensor === state.tensor && button.dataset.features === state.features));
    }
  }
  async function measure() {
    press();
    result.replaceChildren(...measured);
    result.hidden = true;
    partners.replaceChildren();
    delete root.dataset.drawn;
    const whole = await lines("/api/models/measure", { ...query(MATRIX), feature: "" }, async (answer) => {
      result.hidden = false;
      code = answer.code;
      verdict.textContent = answer.numbers.verdict;
      facts(list, answer.facts);
      every.href = `/api/models/features.csv?${new URLSearchParams(query(MATRIX))}`;
      purest.replaceChildren(features("The purest", answer.numbers.most), features("The least pure", answer.numbers.least));
      await Promise.all(Object.entries(answer.figures).map(([name, figure]) => places[name].draw(figure)));
      root.dataset.total = answer.numbers.total;
    });
    if (!whole) return; // another one has taken its place
    root.dataset.drawn = [state.file, state.tensor, state.features, state.norm].join("|");
    if (state.feature !== "") await ofFeature(state.feature);
  }
  const name = (one) => (one.label === null ? `feature ${one.index}` : one.label);
  const side = () => (state.features === "columns" ? "column" : "row");
  const link = (one) => element("button", { type: "button", "data-feature": one.index, title: `${side()} ${one.index}`, onclick: () => pressed(String(one.index)) }, name(one));
  function table(caption, header, rows) {
    return element("div", {}, element("h3", {}, caption), element("div", { class: "scroll" }, element("table", { "aria-label": caption },
      element("thead", {}, element("tr", {}, ...header.map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, ...rows.map(([first, ...rest]) => element("tr", {}, element("th", { scope: "row" }, first), ...rest.map((text) => element("td", {}, text))))))));
  }
  const digits = (value) => (value === null ? "beyond numbers" : value.toPrecision(3));
  function features(caption, found) {
    return table(caption, ["feature", "capacity", "if random", "norm"], found.map((one) => [link(one), digits(one.capacity), digits(one.null), digits(one.norm)]));
  }
  // What was asked for far above stands below: it comes into sight, and has the focus where a partner was pressed that is gone.
  async function pressed(feature) {
    await ofFeature(feature);
    if (document.activeElement === document.body) partners.focus({ preventScroll: true });
    partners.scrollIntoView({ block: "nearest" });
  }
  async function ofFeature(feature) {
    if (!feature) return;
    await lines("/api/models/partners", { ...query(MATRIX), feature }, (answer) => {
      const { feature: one, partners: found } = answer.numbers;
      code = answer.code;
      state.feature = asked.value = String(one.index);
      keep();
      owns.textContent = `${name(one)}${one.label === null ? "" : ` (${side()} ${one.index})`} owns ${digits(one.capacity)} of a dimension: so much of the sum of its squared overlaps with all features, Σⱼ (Wᵢ·Wⱼ)², is that with itself. Of the rest these partners have the largest parts.`;
      partners.replaceChildren(owns,
        table(`Partners of ${name(one)}`, ["partner", "cosine", "part of the sum"], found.map((other) => [link(other), (other.cosine < 0 ? "−" : "+") + Math.abs(other.cosine).toFixed(3), digits(other.share)])));
      root.dataset.partner = one.index;
    });
  }

  const guarded = (act) => async (...given) => { try { await act(...given); } catch (error) { tell(error); } };
  file.addEventListener("change", guarded(async () => {
    Object.assign(state, { ...defaults, file: file.value, norm: state.norm, draws: state.draws, seed: state.seed });
    labels.value = "";
    keep();
    await open();
  }));
  labels.addEventListener("change", () => {
    state.labels = labels.value;
    again();
  });
  upload.addEventListener("change", guarded(async () => {
    if (!upload.files.length) return;
    const [brought] = upload.files;
    tell(null);
    tellStatus(`${brought.name} is being uploaded.`);
    try {
      const answer = await ask("upload", "/api/models/upload", { name: brought.name }, { method: "POST", body: brought });
      if (!answer) return;
      await refresh();
      const { name: kept } = answer.numbers;
      if (files.find((one) => one.name === kept).kind === "labels") {
        labels.value = kept;
        labels.dispatchEvent(new Event("change"));
      } else {
        file.value = kept;
        file.dispatchEvent(new Event("change"));
      }
    } finally {
      tellStatus("");
      upload.value = "";
    }
  }));
  root.dataset.mode = "idle";
  guarded(async () => { await refresh(); root.dataset.listed = files.length; await open(); })();
  return () => {
    clearTimeout(waiting);
    stop();
  };
}
