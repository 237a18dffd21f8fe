// One stream of events for all pages. It comes back by itself, and rests while nobody looks.

import { ApiError, events } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;

export class Live {
  #listeners = new Set();
  #show;
  #stop = null;

  /** `show(state)` is told `live`, `connecting`, `paused` or `refused`. */
  constructor(show) {
    this.#show = show;
    document.addEventListener("visibilitychange", () => this.#follow());
    window.addEventListener("tokengiven", () => this.#follow());
    this.#follow();
  }

  /** `listener(event)` for each `{type, data}`, until the signal. */
  on(listener, signal) {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener));
  }

  #follow() {
    if (document.hidden) {
      this.#stop?.abort();
      this.#stop = null;
      this.#show("paused");
    } else if (!this.#stop) {
      this.#stop = new AbortController();
      this.#run(this.#stop.signal);
    }
  }

  async #run(signal) {
    let wait = FIRST_WAIT_MS;
    while (!signal.aborted) {
      this.#show("connecting");
      try {
        for await (const event of events("events", { signal })) {
          this.#show("live");
          wait = FIRST_WAIT_MS;
          for (const listener of this.#listeners) listener(event);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && error.status < 500) {
          this.#show("refused");
          this.#stop = null; // until a token is given, or the page is looked at again
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
  }
}
