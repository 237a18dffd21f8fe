// Entries out of the store and into it: purge with a preview, export, import.

import { call, pathOf, post } from "./api.js";
import { ask } from "./dialog.js";
import { el, toast } from "./dom.js";
import { count, shortened } from "./format.js";
import { field } from "./parts.js";
import { scrolled, table } from "./table.js";

const CANCEL = { label: "Cancel", value: "" };

/** Purge what the conditions select, after showing what that is. Whether anything went. */
export async function purge(conditions) {
  const everything = Object.keys(conditions).length === 0;
  const asked = { ...conditions, everything };
  const preview = await post("purge", { ...asked, dry_run: true });
  if (!preview.selected) {
    await ask({
      title: "Nothing to purge",
      body: el("p", {}, "No entry meets these conditions."),
      actions: [{ label: "Close", value: "close" }],
    });
    return false;
  }
  const rows = preview.sample.map((entry) => [shortened(entry.prompt) || entry.id, entry.model, count(entry.hits)]);
  const more = preview.selected - rows.length;
  const body = [
    el(
      "p",
      {},
      `${everything ? "Every entry" : "What meets these conditions"}: ${count(preview.selected)} ${preview.selected === 1 ? "entry goes" : "entries go"}, and cannot be brought back. An export keeps them.`,
    ),
    el(
      "p",
      { class: "mono break" },
      everything
        ? "no condition"
        : Object.entries(conditions)
            .map(([name, value]) => `${name}: ${name === "ids" ? `the ${count(value.length)} that are listed` : value}`)
            .join(", "),
    ),
    scrolled("What goes", table(["Question", "Model", "Hits#"], rows, { caption: "What goes", id: "purge-sample" })),
    more > 0 && el("p", { class: "note" }, `and ${count(more)} more`),
  ];
  const word = el("input", { id: "purge-word", autocomplete: "off", spellcheck: "false" });
  if (everything) body.push(field('Type "purge" to go on', word));
  const yes = `Purge ${count(preview.selected)}`;
  const guarded = (dialog) => {
    dialog.classList.add("wide");
    if (!everything) return;
    const button = dialog.querySelector("button.danger");
    button.disabled = true;
    word.addEventListener("input", () => (button.disabled = word.value.trim().toLowerCase() !== "purge"));
  };
  const said = await ask({
    title: "Purge these entries?",
    body,
    actions: [{ label: yes, value: "yes", kind: "danger" }, CANCEL],
    onOpen: guarded,
  });
  if (said !== "yes") return false;
  const done = await post("purge", { ...asked, dry_run: false });
  toast(`Purged ${count(done.removed)} entries.`);
  return true;
}

/** Save what the conditions select as a file of JSON lines. */
export async function exportEntries(conditions) {
  const response = await call(pathOf("export", conditions));
  const link = el("a", {
    href: URL.createObjectURL(await response.blob()),
    download: `cacheproxy-${new Date().toISOString().slice(0, 10)}.jsonl`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** Store the entries of an export; whether any came. */
export async function importEntries() {
  const file = el("input", {
    id: "import-file",
    type: "file",
    accept: ".jsonl,.ndjson,application/x-ndjson",
    required: true,
  });
  const body = [
    el(
      "p",
      { class: "note" },
      "A file that was exported here or by `cacheproxy cache export`. Entries that are there already are kept as they are in the file; expired ones are left out.",
    ),
    field("File", file),
  ];
  if (
    (await ask({
      title: "Import entries",
      body,
      actions: [{ label: "Import", value: "import", kind: "primary" }, CANCEL],
    })) !== "import"
  )
    return false;
  const response = await call("import", {
    method: "POST",
    body: file.files[0],
    headers: { "Content-Type": "application/x-ndjson" },
  });
  const { entries, expired, to_embed: waiting } = await response.json();
  toast(
    `Imported ${count(entries)} entries${expired ? `, left out ${count(expired)} expired ones` : ""}${waiting ? `; ${count(waiting)} are found by identical questions only` : ""}.`,
  );
  return entries > 0;
}
