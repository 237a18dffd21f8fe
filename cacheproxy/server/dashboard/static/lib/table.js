// Tables: a head of names, rows of cells. A name that ends in "#" is of numbers, and stands to the right.

import { el } from "./dom.js";

const named = (name) => (name.endsWith("#") ? [name.slice(0, -1), "n"] : [name, null]);

/**
 * `rows` are arrays of cells (text, numbers, nodes), ready `<tr>` elements, or a `<tbody>` that somebody else fills.
 * On narrow screens each row is a list of its own, unless `stacked` is false.
 */
export function table(head, rows, { caption = "", id = null, stacked = true } = {}) {
  return el(
    "table",
    { id, class: stacked ? "stacked" : null },
    caption && el("caption", { class: "unseen" }, caption),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        head
          .map(named)
          .map(([name, kind]) =>
            el("th", { scope: "col", class: kind }, name || el("span", { class: "unseen" }, "More")),
          ),
      ),
    ),
    rows instanceof Node
      ? rows
      : el(
          "tbody",
          {},
          rows.map((each) => (each instanceof Node ? each : row(head, each))),
        ),
  );
}

/** One row under a head; each cell knows the name of its column. */
export function row(head, cells, props = {}) {
  return el(
    "tr",
    props,
    cells.map((cell, position) => {
      const [name, kind] = named(head[position]);
      return el("td", { class: kind, data: { name } }, cell);
    }),
  );
}

/** A table that scrolls sideways in its own box, also by keyboard. */
export function scrolled(label, inside) {
  return el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, inside);
}
