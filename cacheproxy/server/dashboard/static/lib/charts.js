// Charts by plotly, which is loaded when the first one is drawn. Each has a table with the same numbers: for screen
// readers, for copying, and for installations without plotly.

import { el, fill } from "./dom.js";
import { table } from "./table.js";

const SOURCE = document.querySelector('meta[name="cacheproxy-charts"]').content;
const CONFIG = { displayModeBar: false, scrollZoom: false, doubleClick: false };
let loading = null;

function plotly() {
  loading ??= new Promise((resolve, reject) => {
    if (!SOURCE) reject(new Error("plotly is not installed"));
    const script = el("script", { src: SOURCE, on: { load: () => resolve(window.Plotly), error: reject } });
    document.head.append(script);
  });
  return loading;
}

/** The colour that a custom property has in today's theme, as plotly understands it. */
export function colour(name, opacity = 1) {
  const probe = el("span", { class: "unseen" });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return opacity === 1 ? found : found.replace("rgb(", "rgba(").replace(")", `, ${opacity})`);
}

/** One chart, made once and drawn anew with fresh numbers. */
export class Chart {
  #plot;
  #table = el("div", { class: "scroll", tabindex: "0", role: "region" });
  #details = el("details", {}, el("summary", {}, "Show as a table"), this.#table);
  #nothing = el("p", { class: "empty", hidden: true });
  #spec = null;

  /** `signal` ends it. `height` is in pixels. */
  constructor({ title, note = "", height = 240, signal }) {
    this.title = title;
    this.#plot = el("div", { class: "plot", role: "img" });
    this.#plot.style.height = `${height}px`;
    this.#table.setAttribute("aria-label", `${title}, as a table`);
    const caption = el("figcaption", {}, el("h3", {}, title), note && el("p", { class: "note" }, note));
    this.element = el("figure", { class: "chart" }, caption, this.#plot, this.#nothing, this.#details);
    window.addEventListener("themechange", () => this.#show(), { signal });
    // plotly asks the element for its size, which it has once the page is shown, and when the window changes it.
    const sizes = new ResizeObserver(() => this.#show());
    sizes.observe(this.#plot);
    signal.addEventListener("abort", () => {
      sizes.disconnect();
      window.Plotly?.purge(this.#plot);
    });
    this.#signal = signal;
  }

  #signal;

  /**
   * Draw. `traces()` and `layout()` are called for the colours of the theme; `says` tells in a sentence what is to be
   * seen; `head` and `rows` are the table. Without rows the sentence is all that is shown.
   */
  draw({ traces, layout = () => ({}), says, head, rows }) {
    this.#spec = { traces, layout };
    this.#plot.hidden = this.#details.hidden = !rows.length;
    this.#nothing.hidden = rows.length > 0;
    fill(this.#nothing, says);
    this.#plot.setAttribute("aria-label", `${this.title}. ${says}`);
    fill(this.#table, table(head, rows, { caption: this.title, stacked: false }));
    this.#show();
  }

  async #show() {
    if (!this.#spec || !this.#plot.clientWidth) return;
    let drawing;
    try {
      drawing = await plotly();
    } catch {
      this.#plot.hidden = true;
      this.#details.open = true;
      return;
    }
    if (this.#signal.aborted || !this.#plot.clientWidth) return;
    const { traces, layout } = this.#spec;
    const size = { width: this.#plot.clientWidth, height: this.#plot.clientHeight };
    await drawing.react(this.#plot, traces(), { ...framed(layout()), ...size }, CONFIG);
  }
}

function axis(own) {
  const line = colour("line");
  return {
    gridcolor: line,
    linecolor: line,
    zerolinecolor: line,
    automargin: true,
    fixedrange: true,
    ticks: "",
    ...own,
  };
}

function framed({ xaxis, yaxis, ...own }) {
  const text = colour("text-soft");
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.documentElement).fontFamily, size: 12, color: text },
    margin: { l: 8, r: 10, t: 8, b: 8 },
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line-strong"), font: { color: colour("text") } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal", font: { size: 12 } },
    bargap: 0.18,
    dragmode: false,
    xaxis: axis({ showgrid: false, ...xaxis }),
    yaxis: axis({ rangemode: "tozero", ...yaxis }),
    ...own,
  };
}
