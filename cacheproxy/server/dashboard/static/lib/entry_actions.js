// What can be done to an entry, from its page and from lists. Each asks first where it cannot be undone.

import { post, remove } from "./api.js";
import { ask, confirmed } from "./dialog.js";
import { el, toast } from "./dom.js";
import { field } from "./parts.js";

const DAY_S = 86400;

/** Say of an answer that it is wrong; whether it was said. */
export async function markWrong(id) {
  const note = el("textarea", { id: "wrong-note", rows: "3", maxlength: "1000" });
  const body = [
    el(
      "p",
      {},
      "It is served to nobody from now on, until somebody says that it is right after all. It does not count as a verdict in any certificate.",
    ),
    field("What is wrong with it? (optional)", note),
  ];
  const actions = [
    { label: "Mark wrong", value: "wrong", kind: "danger" },
    { label: "Cancel", value: "" },
  ];
  if ((await ask({ title: "Mark this answer wrong?", body, actions })) !== "wrong") return false;
  await post("feedback", { entry: id, verdict: "wrong", note: note.value });
  toast("Marked wrong: it is served to nobody now.");
  return true;
}

export async function markRight(id) {
  await post("feedback", { entry: id, verdict: "right" });
  toast("Marked right: it may be served again.");
}

export async function pin(id) {
  await post(`entries/${encodeURIComponent(id)}/expiry`, { at: null });
  toast("Pinned: it never expires and is never evicted.");
}

export async function unpin(id) {
  await post(`entries/${encodeURIComponent(id)}/expiry`, { at: Date.now() / 1000 + DAY_S });
  toast("Unpinned: it expires in 24 hours.");
}

/** End an entry now; whether it was done. */
export async function expire(id) {
  const body = el("p", {}, "The next request asks the upstream again, and its answer takes this one's place.");
  if (!(await confirmed({ title: "Expire this answer now?", body, yes: "Expire now" }))) return false;
  await post(`entries/${encodeURIComponent(id)}/expiry`, { at: Date.now() / 1000 });
  toast("Expired.");
  return true;
}

/** Delete an entry; whether it was done. */
export async function drop(id) {
  if (
    !(await confirmed({ title: "Delete this entry?", body: el("p", {}, "It cannot be brought back."), yes: "Delete" }))
  )
    return false;
  await remove(`entries/${encodeURIComponent(id)}`);
  toast("Deleted.");
  return true;
}
