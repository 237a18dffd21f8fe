// The frame: which page is shown, the theme, the stream of events, and the token.

import { ApiError, askAgain, onTokenNeeded } from "./lib/api.js";
import { ask } from "./lib/dialog.js";
import { announce, el, fill } from "./lib/dom.js";
import { Live } from "./lib/live.js";
import { callout } from "./lib/parts.js";

const PAGES = [
  ["overview", "Overview"],
  ["economics", "Economics"],
  ["decision", "Decision"],
  ["entries", "Entries"],
  ["live", "Live"],
  ["health", "Health"],
];
const TITLES = new Map(PAGES);
const THEMES = ["system", "light", "dark"];
const PULSE = { live: "live", connecting: "connecting", paused: "paused", refused: "no live updates" };

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const menu = document.querySelector(".menu");
const live = new Live(showPulse);
let leaving = null;
let shownFirst = false;

function showPulse(state) {
  const pulse = document.getElementById("pulse");
  if (pulse.dataset.state === state) return;
  pulse.dataset.state = state;
  document.getElementById("pulse-text").textContent = PULSE[state];
}

/** `#/entries/ID?text=...` as a page's name, what follows it, and the query. */
function address() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decoded);
  return { name: TITLES.has(name) ? name : "overview", rest: rest.join("/"), query: new URLSearchParams(query) };
}

// What somebody typed need not be an escape.
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function show() {
  leaving?.abort();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close(); // it was about the page before
  leaving = new AbortController();
  askAgain();
  const { signal } = leaving;
  const { name, rest, query } = address();
  const title = rest ? "Entry" : TITLES.get(name);
  document.title = `${title} · cacheproxy`;
  for (const link of nav.querySelectorAll("a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  open(false);
  fill(main, el("p", { class: "loading", role: "status" }, "Loading …"));
  main.removeAttribute("data-shown");
  try {
    const page = await import(`./pages/${name === "entries" && rest ? "entry" : name}.js`);
    const root = el("div", { class: "stack" });
    await page.show(root, { signal, live, query, id: rest });
    if (signal.aborted) return;
    fill(main, root);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) console.error(error); // a fault of ours, not of the proxy
    const again = el("button", { type: "button", on: { click: show } }, "Try again");
    fill(
      main,
      el(
        "div",
        { class: "stack" },
        el("h1", {}, title),
        callout(
          "bad",
          "This page could not be read",
          el("p", {}, error.message),
          el("div", { class: "actions" }, again),
        ),
      ),
    );
  }
  main.dataset.shown = name;
  if (shownFirst) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
    announce(`${title} page`);
  }
  shownFirst = true;
}

function open(whether) {
  nav.classList.toggle("open", whether);
  menu.setAttribute("aria-expanded", String(whether));
}

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function setTheme(name) {
  if (name === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("cacheproxy-theme");
  } else {
    document.documentElement.dataset.theme = name;
    localStorage.setItem("cacheproxy-theme", name);
  }
  document.getElementById("theme").textContent = `Theme: ${name}`;
  window.dispatchEvent(new Event("themechange"));
}

onTokenNeeded(async (wrong) => {
  const input = el("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    required: true,
    "aria-describedby": "token-says",
  });
  const body = [
    el(
      "p",
      { id: "token-says", class: "note" },
      wrong ? "That token was refused." : "",
      " The token is the setting admin_token of this proxy. It is kept until this tab closes.",
    ),
    el("div", { class: "field" }, el("label", { for: "token" }, "Admin token"), input),
  ];
  const answer = await ask({
    title: "This dashboard needs its token",
    body,
    actions: [{ label: "Open", value: "open", kind: "primary" }],
  });
  return answer ? input.value : null;
});

fill(
  document.getElementById("pages"),
  PAGES.map(([name, title]) => el("li", {}, el("a", { href: `#/${name}`, data: { page: name } }, title))),
);
menu.addEventListener("click", () => open(!nav.classList.contains("open")));
nav.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && nav.classList.contains("open")) {
    open(false);
    menu.focus();
  }
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the page's
  main.focus();
});
document.getElementById("theme").textContent = `Theme: ${theme()}`;
document
  .getElementById("theme")
  .addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  window.dispatchEvent(new Event("themechange")),
);
window.addEventListener("hashchange", show);
show();
