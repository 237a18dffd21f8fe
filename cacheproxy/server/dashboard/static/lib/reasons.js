// Why a request was not answered from the cache, in a sentence. The words are those of docs/wire.md.

const REASONS = {
  "no-entry": "The exact layer had nothing, and the semantic layer was not asked.",
  "no-neighbor": "Its scope holds nothing to compare with: same model, system prompt, history and tools.",
  "below-threshold": "The nearest entry was not likely enough to be right.",
  expired: "There was an answer, and its time is over.",
  "too-old": "There is an answer, older than the caller allows (max-age).",
  sampling: "Fewer answers than cache.samples are stored for this request yet.",
  shadow: "A similar question's answer would have been served; shadow mode only counts.",
  uncertified: "Too little is known here to keep the error budget.",
  tripped:
    "Too many audited hits were wrong: nothing similar is served until new verdicts say that the budget is kept.",
  suspended: "Somebody said of the entry that it is wrong.",
  "turn-too-long": "The text does not fit the embedding model's window whole.",
  "not-plain-text": "The last user turn is not plain text, or there is none.",
  "tool-result": "A tool was called, or answered, after the last user turn.",
  "several-choices": "More than one choice was asked for.",
  logprobs: "Log probabilities were asked for.",
  volatile: "It speaks of now, here, or the asker's own state: exact hits only, for five minutes.",
  "retained-upstream": "The provider keeps this response under its id: exact hits only.",
  embeddings: "Vectors are cached for exact repeats only.",
  "no-embedder": "There is no embedding model.",
  "embedder-unavailable": "The embedding model failed, was too slow, or has too much to do.",
  "store-unavailable": "The store failed or was too slow.",
  "index-unavailable": "The vector index failed or was too slow.",
  "credential-unproven": "No upstream accepted this credential within the last hour.",
  "mode-off": "The operator or the caller turned the cache off.",
  "no-cache": "The caller wanted a fresh answer, which is stored.",
  "no-store": "The caller wanted no trace.",
  "not-cacheable": "The request asks for something other than an answer.",
  "server-tools": "The provider runs tools of its own, or the model always searches.",
  conversation: "Part of the request is kept by the provider.",
  "previous-response": "Part of the request is kept by the provider.",
  "stored-prompt": "Part of the request is kept by the provider.",
  background: "The answer is fetched later.",
  "stored-completion": "The provider stores the completion.",
};
const GUARDED = {
  numbers: "a number differs",
  units: "a unit differs",
  dates: "a date differs",
  ids: "an id differs",
  negation: "one of them is negated",
  antonyms: "they say opposites",
  entities: "a name differs",
  roles: "who does what differs",
  code: "code differs",
  language: "the language differs",
};

/** A reason in words. */
export function reasonMeans(reason) {
  const guard = /^guard-(.+)$/.exec(reason ?? "")?.[1];
  if (guard) return `A guard objected to the nearest question: ${GUARDED[guard] ?? guard}.`;
  return REASONS[reason] ?? "";
}

const LAYERS = {
  exact: "The same request was answered before, byte for byte in all that counts.",
  semantic: "A similar question's answer was likely enough to be right.",
  coalesced: "The same request was under way, and its answer was shared.",
};

/** What a layer's answer means. */
export function layerMeans(layer) {
  return LAYERS[layer] ?? "";
}
