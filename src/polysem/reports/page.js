"use strict";
// Draws every figure from the data beside it, and recolours text and grid when the page turns light or dark.
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function colours(layout) {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--text").trim();
  const line = style.getPropertyValue("--line").trim();
  const change = { "font.color": text };
  for (const name of Object.keys(layout)) {
    if (/^[xyz]axis\d*$/.test(name)) {
      change[name + ".gridcolor"] = line;
      change[name + ".linecolor"] = line;
      change[name + ".tickcolor"] = line;
    }
  }
  (layout.sliders || []).forEach((_, index) => {
    change[`sliders[${index}].font.color`] = text;
    change[`sliders[${index}].bgcolor`] = line;
  });
  return change;
}

for (const figure of document.querySelectorAll("figure")) {
  const plot = figure.querySelector(".plot");
  const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  Plotly.newPlot(plot, data, layout, options).then(() => Plotly.relayout(plot, colours(plot.layout)));
  dark.addEventListener("change", () => Plotly.relayout(plot, colours(plot.layout)));
}
