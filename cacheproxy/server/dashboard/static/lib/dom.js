// Elements made from data. Text is always a text node: prompts and answers are whatever a stranger typed, and nothing
// here, or in any page, parses a string as HTML.

/**
 * An element. `props`: `class`, `on` ({event: handler}), `data` ({name: value}), any attribute; `false` and `null`
 * leave an attribute out and `true` sets it empty. Children are nodes, strings, numbers, arrays of them; `null` and
 * `false` are skipped.
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "on")
      for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...nodes(children));
  return element;
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

let counted = 0;

/** An id that no other element has. */
export function newId(prefix) {
  counted += 1;
  return `${prefix}-${counted}`;
}

/** Tell screen readers something that sighted users see happen. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** A message that goes away by itself, unless it tells of a failure. */
export function toast(text, { failed = false } = {}) {
  const close = el("button", { type: "button", class: "quiet", on: { click: () => note.remove() } }, "Dismiss");
  const note = el("div", { class: failed ? "toast failed" : "toast" }, el("span", {}, text), close);
  document.getElementById("toasts").append(note);
  if (!failed) setTimeout(() => note.remove(), 6000);
}
