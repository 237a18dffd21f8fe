// Work that a click, or an event of the stream, sets off: what fails is told, and nothing runs after its page is left.

import { toast } from "./dom.js";

/** A handler of a button: what fails is shown, and further clicks are nothing until it is done. */
export function doing(work) {
  return async ({ currentTarget }) => {
    if (currentTarget.ariaBusy === "true") return;
    currentTarget.ariaBusy = "true"; // not disabled: a dialog that it opened gives the focus back to it
    try {
      await work();
    } catch (error) {
      toast(error.message, { failed: true });
    } finally {
      currentTarget.ariaBusy = null;
    }
  };
}

/** Work of a page that nobody waits for. */
export async function unattended(work, signal) {
  try {
    await work();
  } catch (error) {
    if (!signal.aborted) toast(error.message, { failed: true });
  }
}

/** `work` whenever the returned function is called, at most once in `ms` and never twice at a time, until the signal. */
export function paced(work, ms, signal) {
  let last = 0;
  let due = null;
  const run = async () => {
    last = performance.now();
    try {
      await work();
    } catch (error) {
      // The next event tries again; whether the proxy can be reached is told beside the pages.
      if (!signal.aborted) console.debug(error);
    } finally {
      due = null;
    }
  };
  return () => {
    if (due === null && !signal.aborted)
      due = setTimeout(() => !signal.aborted && run(), Math.max(0, last + ms - performance.now()));
  };
}
