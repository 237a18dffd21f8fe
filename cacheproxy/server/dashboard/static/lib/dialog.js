// Dialogs on the browser's own <dialog>: it traps focus, closes on Escape and gives the focus back.

import { el, newId } from "./dom.js";

/**
 * Show a dialog and wait for it. `body` are nodes; `actions` are {label, value, kind} buttons, of which the first
 * submits. Resolves to the value of the button, or null when it was closed. `onOpen(dialog)` may add behaviour.
 */
export function ask({ title, body, actions, onOpen }) {
  return new Promise((resolve) => {
    const heading = newId("dialog");
    const buttons = actions.map(({ label, value, kind = "" }, position) =>
      el("button", { type: position ? "button" : "submit", class: kind, value }, label),
    );
    const form = el(
      "form",
      { method: "dialog" },
      el("h2", { id: heading, tabindex: "-1", autofocus: true }, title),
      body,
      el("div", { class: "actions" }, buttons),
    );
    const dialog = el("dialog", { "aria-labelledby": heading }, form);
    const done = (value) => {
      dialog.returnValue = value ?? "";
      dialog.close();
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      done(actions[0].value);
    });
    buttons
      .slice(1)
      .forEach((button, position) => button.addEventListener("click", () => done(actions[position + 1].value)));
    dialog.addEventListener("click", (event) => event.target === dialog && done(null));
    dialog.addEventListener("cancel", () => (dialog.returnValue = ""));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue || null);
    });
    document.body.append(dialog);
    dialog.showModal(); // the focus goes to the heading: never to a button that cannot be taken back
    dialog.querySelector("input, textarea")?.focus();
    onOpen?.(dialog);
  });
}

/** Whether the operator really means it. */
export async function confirmed({ title, body, yes, kind = "danger" }) {
  const actions = [
    { label: yes, value: "yes", kind },
    { label: "Cancel", value: "" },
  ];
  return (await ask({ title, body, actions })) === "yes";
}
