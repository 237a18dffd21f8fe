// What most pages are made of.

import { el } from "./dom.js";

export function pageHead(title, says, ...aside) {
  return el("header", { class: "page-head" }, el("div", {}, el("h1", {}, title), el("p", {}, says)), aside);
}

export function card(title, { note = "", aside = null } = {}, ...children) {
  const heading = title && el("header", {}, el("div", {}, el("h2", {}, title), note && el("p", {}, note)), aside);
  return el("section", { class: "card" }, heading, children);
}

/** `figures`: {name, value, under, id} each. */
export function figures(list) {
  return el(
    "dl",
    { class: "figures" },
    list.map(({ name, value, under = "", id = null }) =>
      el(
        "div",
        { class: "figure" },
        el("dt", {}, name),
        el("dd", { class: "value", id }, value),
        under && el("dd", { class: "under" }, under),
      ),
    ),
  );
}

export function badge(text, kind = "") {
  return el("span", { class: `badge ${kind}`.trim() }, text);
}

export function facts(pairs) {
  return el(
    "dl",
    { class: "facts" },
    pairs.filter(Boolean).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
}

/** Where there is nothing yet: what that means, and what to do. */
export function empty(title, says, command = "") {
  return el("div", { class: "empty" }, el("strong", {}, title), says, command && el("div", {}, el("pre", {}, command)));
}

export function callout(kind, title, ...says) {
  return el("div", { class: `callout ${kind}` }, el("div", {}, el("h2", {}, title), says));
}

/** A button of ours. */
export function button(text, onClick, { kind = "", ...props } = {}) {
  return el("button", { type: "button", class: kind || null, on: { click: onClick }, ...props }, text);
}

/** A labelled input, select or textarea: `field("Model", input)`. */
export function field(label, control) {
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control);
}

/** Buttons of which one is chosen: `choices` are [value, label]; `choose(value)` is told. */
export function segments(label, choices, chosen, choose) {
  const buttons = choices.map(([value, text]) =>
    el(
      "button",
      { type: "button", "aria-pressed": String(value === chosen), data: { value }, on: { click: () => pick(value) } },
      text,
    ),
  );
  const pick = (value) => {
    for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.value === String(value)));
    choose(value);
  };
  return el("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

/** What the layers and outcomes are called, and in which colour they are drawn. */
export const OUTCOMES = [
  ["exact", "Exact hit"],
  ["semantic", "Semantic hit"],
  ["coalesced", "Coalesced"],
  ["miss", "Forwarded"],
];
