// Phase diagram: a click puts a point, and its curves stand beside it.
import { ask, copyButton, element, facts, figurePlace, following, number } from "./parts.js";

export const title = "Phase diagram";
export const lead = "Two features compete for one dimension. How important the second is beside the first, and how heavy-tailed both are (their kurtosis F), decides who gets it.";
export const defaults = { kurtosis: 6, ratio: 0.6 };

export function mount(root, state, { keep, tell }) {
  let code = "";
  const map = figurePlace("map", 460);
  const curves = figurePlace("curves", 460);
  const list = element("dl", { class: "facts", id: "facts", "aria-live": "polite" });
  const story = element("p", { id: "story" });
  const presets = element("div", { class: "row", role: "group", "aria-label": "Points A to F" });
  const controls = [
    number("kurtosis", { label: "kurtosis F of both features", min: 1.2, max: 40, log: true }, state, moved),
    number("ratio", { label: "relative importance v₂/v₁", min: 0.04, max: 25, log: true }, state, moved),
  ];
  const [copy, shown] = copyButton(() => code);
  root.append(
    presets, story,
    element("div", { class: "controls" }, ...controls),
    element("div", { class: "plots" }, map, curves),
    list, element("div", { class: "row" }, copy), shown,
  );

  let points = [];
  function moved() {
    keep();
    const at = points.find((point) => point.kurtosis === state.kurtosis && point.ratio === state.ratio);
    for (const button of presets.children) button.setAttribute("aria-pressed", String(button.dataset.name === at?.name));
    story.textContent = at ? `${at.name}: ${at.says}.` : "";
    show();
  }
  async function mark({ kurtosis, ratio }) {
    if (!map.plot.data) return;
    const here = { data: [{ x: [kurtosis], y: [ratio] }], traces: [map.plot.data.length - 1] };
    // Unlike a restyle this does not draw all cells again.
    await Plotly.animate(map.plot, here, { mode: "immediate", transition: { duration: 0 }, frame: { duration: 0, redraw: false } });
  }
  const show = following(async () => {
    const place = { kurtosis: state.kurtosis, ratio: state.ratio };
    try {
      const [answer] = await Promise.all([ask("place", "/api/phase/place", place), mark(place)]);
      if (!answer) return;
      tell(null);
      code = answer.code;
      facts(list, answer.facts);
      await curves.draw(answer.figures.curves);
      root.dataset.drawn = `${place.kurtosis},${place.ratio}`;
    } catch (error) {
      tell(error);
    }
  });
  async function start() {
    try {
      const answer = await ask("map", "/api/phase/map");
      if (!answer) return;
      points = answer.numbers.points;
      presets.replaceChildren(...points.map((point) => element("button", {
        type: "button", "data-name": point.name, title: point.says, "aria-pressed": "false",
        onclick: () => {
          Object.assign(state, { kurtosis: point.kurtosis, ratio: point.ratio });
          controls.forEach((control) => control.show());
          moved();
        },
      }, point.name)));
      const figure = answer.figures.map;
      figure.data.push({
        type: "scatter", mode: "markers", name: "here", showlegend: false, hoverinfo: "skip", x: [state.kurtosis], y: [state.ratio],
        marker: { symbol: "circle-open", size: 18, line: { width: 3 }, color: "#ffffff" },
      });
      await map.draw(figure);
      map.plot.on("plotly_click", (event) => {
        const point = event.points[0];
        Object.assign(state, { kurtosis: Number(point.x.toPrecision(5)), ratio: Number(point.y.toPrecision(5)) });
        controls.forEach((control) => control.show());
        moved();
      });
      moved();
    } catch (error) {
      tell(error);
    }
  }
  start();
}
