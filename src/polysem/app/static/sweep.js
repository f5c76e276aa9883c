// A sweep among the files: any of its outputs over one or two of its dimensions.
import { choice, copyButton, element, facts, figurePlace } from "./parts.js";

export function sweep(place, root, state, { keep, tell, lines }) {
  let code = "";
  const [copy, shown] = copyButton(() => code);
  const list = element("dl", { class: "facts", id: "facts" });
  const figure = figurePlace("sweep", 460);
  const controls = element("div", { class: "controls" });
  place.replaceChildren(controls, element("div", { class: "plots" }, figure), list, element("div", { class: "row" }, copy), shown);

  async function show() {
    keep();
    tell(null);
    const { file, output, across, down } = state;
    const whole = await lines("/api/sweeps", { file, output, across, down }, async (answer) => {
      place.hidden = false;
      code = answer.code;
      facts(list, answer.facts);
      const { outputs, dimensions, chosen } = answer.numbers;
      Object.assign(state, chosen);
      keep();
      const named = (names) => names.map((name) => [name, name]);
      const others = dimensions.filter((name) => name !== state.across);
      const focused = document.activeElement?.id; // on a control that is replaced
      controls.replaceChildren(
        choice("output", "what was computed", named(outputs), state, () => { state.across = state.down = ""; show(); }),
        choice("across", "along the horizontal axis", named(dimensions), state, () => { if (state.down === state.across) state.down = ""; show(); }),
        choice("down", "along the vertical axis", [["", "nothing: a single line"], ...named(others)], state, show));
      if (focused) document.getElementById(focused)?.focus();
      await figure.draw(answer.figures.sweep);
    });
    if (whole) root.dataset.drawn = [file, state.output, state.across, state.down].join("|");
  }
  return show();
}
