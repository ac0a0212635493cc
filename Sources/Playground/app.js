"use strict";

// The page of comfy-bridge: submits a workflow with POST /api/v2/jobs and follows the job's event stream.
// No build step, no foreign code. Text from the server only ever becomes a text node or an attribute, never markup.

const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);
const LOG_LIMIT = 200;
const HISTORY_LIMIT = 30;
const HISTORY_KEY = "comfy-bridge.jobs";
const TOKEN_KEY = "comfy-bridge.token";
const READINESS_INTERVAL = 15_000;

/** Where the bridge is: a proxy may have put it below a path. */
const ROOT = new URL(".", document.currentScript.src);

const byId = (id) => document.getElementById(id);

/** An element with attributes (null leaves one out) and children (strings become text). */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Links of the bridge as this page reaches it, whatever host name and path the server put before them; null for what is no http link. */
function localURL(link) {
  let url;
  try { url = new URL(link, ROOT); } catch { return null; }
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  const own = url.pathname.indexOf("/api/v2/");
  return own >= 0 ? new URL(url.pathname.slice(own + 1) + url.search, ROOT) : url;
}

function sizeText(bytes) {
  if (!Number.isFinite(bytes)) return "";
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function durationText(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

// ------------------------------------------------------------------------------------------------ examples

const EXAMPLES = {
  plain: {
    "1": { class_type: "EmptyImage", inputs: { width: 512, height: 512, batch_size: 1, color: 1015680 }, _meta: { title: "Plain picture" } },
    "2": { class_type: "ImageInvert", inputs: { image: ["1", 0] }, _meta: { title: "Invert" } },
    "3": { class_type: "SaveImage", inputs: { images: ["2", 0], filename_prefix: "comfy-bridge" }, _meta: { title: "Save" } },
  },
  txt2img: {
    "3": {
      class_type: "KSampler",
      inputs: {
        seed: 42, steps: 20, cfg: 7, sampler_name: "euler", scheduler: "normal", denoise: 1,
        model: ["4", 0], positive: ["6", 0], negative: ["7", 0], latent_image: ["5", 0],
      },
      _meta: { title: "Sampler" },
    },
    "4": { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: "sd15.safetensors" }, _meta: { title: "Checkpoint" } },
    "5": { class_type: "EmptyLatentImage", inputs: { width: 512, height: 512, batch_size: 1 }, _meta: { title: "Size" } },
    "6": { class_type: "CLIPTextEncode", inputs: { text: "a stone bridge over a quiet river at dawn", clip: ["4", 1] }, _meta: { title: "Prompt" } },
    "7": { class_type: "CLIPTextEncode", inputs: { text: "blurry, text, watermark", clip: ["4", 1] }, _meta: { title: "Negative prompt" } },
    "8": { class_type: "VAEDecode", inputs: { samples: ["3", 0], vae: ["4", 2] }, _meta: { title: "Decode" } },
    "9": { class_type: "SaveImage", inputs: { filename_prefix: "comfy-bridge", images: ["8", 0] }, _meta: { title: "Save" } },
  },
};

/** Readable JSON with one line per input, links on one line. */
function exampleText(name) {
  return JSON.stringify(EXAMPLES[name], null, 2).replace(/\[\s+("[^"]*"),\s+(\d+)\s+\]/g, "[$1, $2]");
}

// ------------------------------------------------------------------------------------------------ workflow

/**
 * What the text is, for the note below it and the node list. The text itself is sent as it was typed: a seed above 2^53 would
 * lose digits on a way through JSON.parse and JSON.stringify.
 */
function readWorkflow(text) {
  if (text.trim() === "") return { kind: "empty" };
  let value;
  try { value = JSON.parse(text); } catch (error) { return { kind: "broken", reason: error.message }; }
  if (value === null || typeof value !== "object" || Array.isArray(value)) return { kind: "odd" };
  const wrapped = isObject(value.workflow) && !("class_type" in value.workflow);
  const graph = wrapped ? value.workflow : value;
  if (Array.isArray(graph.nodes) && Array.isArray(graph.links)) return { kind: "ui", wrapped, graph };
  return { kind: "api", wrapped, graph };
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** Rows for the node list: `[{id, classType, title}]`. */
function nodesOf(graph) {
  if (!isObject(graph)) return [];
  return Object.entries(graph)
    .filter(([, node]) => isObject(node) && typeof node.class_type === "string")
    .map(([id, node]) => ({ id, classType: node.class_type, title: node._meta?.title }));
}

/** The workflow that ComfyUI writes into the PNGs it saves: the text chunk `prompt`. Null when there is none. */
function workflowInPNG(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  if (!signature.every((byte, index) => bytes[index] === byte)) return null;
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, Math.min(at + 8 + length, bytes.length));
    const zero = data.indexOf(0);
    const keyword = zero < 0 ? "" : String.fromCharCode(...data.subarray(0, Math.min(zero, 79)));
    if (keyword === "prompt" && type === "tEXt") return new TextDecoder("latin1").decode(data.subarray(zero + 1));
    if (keyword === "prompt" && type === "iTXt" && data[zero + 1] === 0) {
      const language = data.indexOf(0, zero + 3);
      const translated = data.indexOf(0, language + 1);
      return new TextDecoder().decode(data.subarray(translated + 1));
    }
    at += 12 + length;
  }
  return null;
}

// ------------------------------------------------------------------------------------------------ the token

/** Kept for this tab only. Asked for when an answer is 401; whoever needs it waits, all for the same form. */
const access = {
  token: null,
  asking: null,
  restore() {
    try { this.token = sessionStorage.getItem(TOKEN_KEY); } catch { /* storage is off: the token lives as long as the page */ }
  },
  headers() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  },
  /** `refused`: the token that the answer was about. A newer one is tried before anybody is asked. */
  ask(refused) {
    if (this.token !== refused) return Promise.resolve();
    this.asking ??= new Promise((resolve) => {
      const form = byId("access");
      byId("access-note").textContent = refused ? "The bridge does not know that token." : "";
      byId("token").value = "";
      form.hidden = false;
      byId("token").focus();
      form.onsubmit = (event) => {
        event.preventDefault();
        this.token = byId("token").value.trim();
        try { sessionStorage.setItem(TOKEN_KEY, this.token); } catch { /* as above */ }
        form.hidden = true;
        this.asking = null;
        showReadiness();
        showCurl();
        resolve();
      };
    });
    return this.asking;
  },
};

/** `fetch` with the token. */
async function send(url, options = {}) {
  for (;;) {
    const token = access.token;
    const response = await fetch(url, { cache: "no-store", ...options, headers: { ...options.headers, ...access.headers() } });
    if (response.status !== 401) return response;
    await access.ask(token);
  }
}

/** The address of a job whose answer brings a stream that can be read without the header, since EventSource sends none. */
function jobURL(path) {
  const url = localURL(path);
  url.searchParams.set("signed_events", "1");
  return url;
}

// ------------------------------------------------------------------------------------------------ requests and errors

/** What each error code means, before the server's own message. */
const WORDS = {
  invalid_json: "The workflow is not valid JSON",
  invalid_parameter: "A parameter is not valid",
  invalid_request: "The request is not valid",
  invalid_workflow: "ComfyUI cannot run this workflow",
  workflow_format_ui: "This is the editor's format, not the API format",
  not_found: "Not found",
  payload_too_large: "The workflow is too large",
  queue_full: "The queue is full",
  node_execution_error: "A node failed",
  out_of_memory: "ComfyUI ran out of memory",
  device_error: "ComfyUI's device failed",
  poison: "The job takes ComfyUI down",
  canceled: "The job was canceled",
  timed_out: "The job took too long",
  upstream_unreachable: "ComfyUI cannot be reached",
  upstream_error: "ComfyUI answered with an error",
  upstream_lost: "ComfyUI lost the job",
  upstream_stuck: "ComfyUI is stuck",
  invalid_output: "ComfyUI's result could not be read",
  shutting_down: "The bridge is shutting down",
  forbidden: "This page may not use the bridge",
  overloaded: "The bridge has too much to do",
  internal_error: "The bridge failed",
  bridge_unreachable: "The bridge cannot be reached",
};

class BridgeError extends Error {
  constructor({ code, message, details = null }, { status = 0, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { code, details, status, retryAfter });
  }
}

/** A JSON answer, or a BridgeError for everything else. */
async function request(url, options = {}) {
  let response;
  try {
    response = await send(url, options);
  } catch (error) {
    throw new BridgeError({ code: "bridge_unreachable", message: `No answer from ${location.origin}: ${error.message}` });
  }
  const text = await response.text();
  let body = null;
  try { body = JSON.parse(text); } catch { /* an answer of something between us and the bridge; reported below */ }
  if (response.ok && body !== null) return body;
  const fallback = { code: `http_${response.status}`, message: text.trim().slice(0, 300) || `HTTP status ${response.status}` };
  throw new BridgeError(isObject(body?.error) ? body.error : fallback, { status: response.status, retryAfter: response.headers.get("Retry-After") });
}

/** The error as a box: what it means, what the server says, the nodes it names. */
function errorContent(error) {
  const code = error.code ?? "error";
  const parts = [
    h("p", {}, h("strong", {}, WORDS[code] ?? "The request failed"), " ", h("code", { "data-code": code }, code)),
    h("p", { class: "error-message" }, String(error.message ?? "")),
  ];
  const where = error.node_id ?? error.details?.node_id;
  const classType = error.class_type ?? error.details?.class_type;
  if (where !== null && where !== undefined && !String(error.message).startsWith("Node ")) parts.push(h("p", {}, `Node ${where}${classType ? ` (${classType})` : ""}`));
  const lines = nodeErrorLines(error.details?.node_errors).filter((line) => line.text !== error.message);
  if (lines.length > 0) {
    parts.push(h("ul", { class: "node-errors" }, ...lines.map((line) => h("li", { "data-node-id": line.id }, line.text))));
  }
  if (error.details?.parameter) parts.push(h("p", {}, "Parameter: ", h("code", {}, String(error.details.parameter))));
  if (error.retryAfter) parts.push(h("p", {}, `Try again in ${error.retryAfter} s.`));
  if (typeof error.traceback === "string" && error.traceback !== "") {
    parts.push(h("details", {}, h("summary", {}, "Traceback"), h("pre", { tabindex: 0 }, error.traceback)));
  }
  return parts;
}

function nodeErrorLines(nodeErrors) {
  if (!isObject(nodeErrors)) return [];
  return Object.entries(nodeErrors).flatMap(([id, errors]) => (Array.isArray(errors) ? errors : [errors]).map((entry) => {
    const text = entry?.message ?? entry?.reason ?? JSON.stringify(entry);
    // Most messages name their node; faults of the workflow as a whole stand under the id "".
    if (id === "" || text.startsWith("Node ")) return { id, text };
    return { id, text: `Node ${id}${entry?.class_type ? ` (${entry.class_type})` : ""}${entry?.field ? `, ${entry.field}` : ""}: ${text}` };
  }));
}

// ------------------------------------------------------------------------------------------------ the event stream

/**
 * Follows one job until its terminal status, over every break of the connection.
 *
 * EventSource reconnects by itself after a lost connection and says Last-Event-ID. It gives up (CLOSED) after any answer that is no
 * stream: 204 after the end, an error, a bridge that is restarting. Then the job itself tells whether it is over; if not, the
 * stream is opened again here, with `last_event_id`, since a new EventSource starts without one.
 */
class Watch {
  static #types = ["status", "progress", "preview", "node", "output", "log", "reset"];
  #source = null;
  #timer = null;
  #lastID = "";
  #seen = new Set();
  #attempt = 0;
  #over = false;

  constructor(job, previews, handlers) {
    this.job = job;
    this.previews = previews;
    this.handlers = handlers;   // event(type, data, id), state(word), ended(), gone(error)
  }

  open() {
    const url = localURL(this.job.urls.events);
    url.searchParams.set("previews", this.previews);
    // From the beginning at first: the snapshot tells no nodes. On its own reconnects EventSource sends the header, which wins.
    url.searchParams.set("last_event_id", this.#lastID === "" ? "0" : this.#lastID);
    const source = new EventSource(url);
    this.#source = source;
    source.onopen = () => { this.#attempt = 0; this.handlers.state("live"); };
    source.onerror = () => this.#broken(source);
    for (const type of Watch.#types) source.addEventListener(type, (event) => this.#take(type, event));
  }

  close() {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  #take(type, event) {
    if (this.#over) return;
    const hasOwnID = event.lastEventId !== this.#lastID;
    if (type === "reset") {
      this.#seen.clear();
    } else if (hasOwnID || type === "node" || type === "output" || type === "log") {
      // An event without an id shows the id of the one before it, so the id alone does not make two events the same one.
      // Progress, previews and places in the queue have none and may well come twice.
      const key = `${event.lastEventId}\n${type}\n${event.data}`;
      if (this.#seen.has(key)) return;
      this.#seen.add(key);
      if (this.#seen.size > 4096) this.#seen.delete(this.#seen.values().next().value);
    }
    const id = hasOwnID ? event.lastEventId : "";
    this.#lastID = event.lastEventId;
    let data;
    try { data = JSON.parse(event.data); } catch { data = { text: event.data }; }
    this.handlers.event(type, data, id);
    if (type === "status" && TERMINAL.has(data.status)) {
      this.close();
      this.handlers.state("closed");
      this.handlers.ended();
    }
  }

  #broken(source) {
    if (this.#over || source !== this.#source) return;
    this.handlers.state("reconnecting");
    if (source.readyState === EventSource.CLOSED) this.#reopen();
  }

  async #reopen() {
    try {
      // It also brings a new signature, should the stream's have expired.
      const job = await request(jobURL(this.job.urls.self));
      if (this.#over) return;
      this.job = job;
      if (TERMINAL.has(job.status)) {
        this.close();
        this.handlers.state("closed");
        this.handlers.ended(job);
        return;
      }
    } catch (error) {
      if (this.#over) return;
      if (error.status === 404) {
        this.close();
        this.handlers.state("closed");
        this.handlers.gone(error);
        return;
      }
    }
    const wait = Math.min(10_000, 500 * 2 ** this.#attempt) * (0.5 + Math.random() / 2);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.open(), wait);
  }
}

// ------------------------------------------------------------------------------------------------ the job panel

/** Shows one job at a time; everything that comes in may come twice and changes nothing the second time. */
class JobPanel {
  #watch = null;
  #nodes = new Map();
  #outputs = new Map();
  #frames = 0;
  #events = 0;
  #started = new Map();
  #lastLog = null;
  #progressLine = "";
  job = null;

  constructor(onChange) {
    this.onChange = onChange;   // (job, outputs): for the history and the curl command
  }

  /** A new submission is on its way: an empty panel, without a job yet. */
  clear() {
    this.#watch?.close();
    this.#watch = null;
    this.job = null;
    this.#nodes.clear();
    this.#outputs.clear();
    this.#started.clear();
    this.#frames = 0;
    this.#events = 0;
    this.#lastLog = null;
    this.#progressLine = "";
    for (const id of ["nodes", "outputs", "log"]) byId(id).replaceChildren();
    for (const id of ["error", "reset", "job-id", "other-outputs"]) byId(id).hidden = true;
    byId("outputs-empty").hidden = false;
    byId("log-count").textContent = "0";
    const preview = byId("preview");
    preview.removeAttribute("src");
    preview.hidden = true;
    preview.dataset.frames = "0";
    byId("preview-box").dataset.empty = "true";
    byId("preview-caption").textContent = "Live preview";
    byId("progress").value = 0;
    byId("progress-text").textContent = "";
    this.#showStatus("none");
    this.#showStream("closed");
  }

  /** Shows `job` and follows it to its end. `nodes`: rows of the node list, in the order of the graph. */
  show(job, nodes, previews) {
    this.clear();
    this.job = job;
    byId("job-id").hidden = false;
    byId("job-id").textContent = job.id;
    for (const node of nodes) this.#nodeRow(node.id, node.classType, node.title);
    this.#apply(job);
    this.#watch = new Watch(job, previews, {
      event: (type, data, id) => this.#event(type, data, id),
      state: (word) => this.#showStream(word),
      ended: (finished) => this.#finish(finished),
      gone: (error) => this.fail(error),
    });
    this.#showStream("connecting");
    this.#watch.open();
  }

  fail(error) {
    byId("error").replaceChildren(...errorContent(error));
    byId("error").classList.toggle("mild", error.code === "canceled");
    byId("error").hidden = false;
    for (const id of Object.keys(error.details?.node_errors ?? {})) this.#setNode(id, "error");
  }

  /** Node rows of a graph that was refused, so that its errors have a place. */
  listNodes(nodes) {
    for (const node of nodes) this.#nodeRow(node.id, node.classType, node.title);
  }

  #event(type, data, id) {
    this.#log(type, data, id);
    switch (type) {
      case "status": this.#status(data); break;
      case "progress": this.#progress(data); break;
      case "preview": this.#preview(data); break;
      case "node": this.#node(data); break;
      case "output": this.#output(data); this.onChange(this.job, [...this.#outputs.values()]); break;
      case "reset": this.#reset(data); break;
    }
  }

  #status(data) {
    this.job = { ...this.job, status: data.status, queue_position: data.queue_position ?? null };
    this.#showStatus(data.status, data.queue_position);
    this.onChange(this.job, [...this.#outputs.values()]);
  }

  #progress(progress) {
    const value = Number(progress.value) || 0;
    byId("progress").value = value;
    const parts = [`${Math.round(value * 100)} %`, `${progress.nodes_done} of ${progress.nodes_total} nodes`];
    if (progress.message) parts.push(progress.message);
    else if (progress.current_node_class) {
      parts.push(progress.current_node_class + (progress.steps ? ` ${progress.step ?? 0}/${progress.steps}` : ""));
    }
    this.#progressLine = parts.join(" · ");
    byId("progress-text").textContent = this.#progressLine;
    const row = this.#nodes.get(progress.current_node);
    if (row?.dataset.state === "running" && progress.steps > 1) row.querySelector(".state").textContent = `${progress.step ?? 0}/${progress.steps}`;
    if (!TERMINAL.has(this.job.status)) document.title = `${Math.round(value * 100)} % · comfy-bridge`;
  }

  #preview(data) {
    const source = data.data_base64 ? `data:${data.content_type};base64,${data.data_base64}` : localURL(data.url)?.href;
    if (!source) return;
    const image = byId("preview");
    this.#frames += 1;
    image.src = source;
    image.alt = `Preview ${this.#frames} of ${this.#nameOf(data.node_id)}`;
    image.hidden = false;
    image.dataset.frames = String(this.#frames);
    image.dataset.nodeId = data.node_id ?? "";
    byId("preview-box").dataset.empty = "false";
    byId("preview-caption").textContent = `${this.#nameOf(data.node_id)}, preview ${this.#frames}`;
  }

  #node(data) {
    // Nodes that a subgraph made at run time belong to the node that stands in the workflow.
    const id = !this.#nodes.has(data.node_id) && this.#nodes.has(data.display_node_id) ? data.display_node_id : data.node_id;
    if (id !== data.node_id && data.state !== "running") return;
    this.#nodeRow(id, data.class_type, data.title);
    this.#setNode(id, data.state);
  }

  #nodeRow(id, classType, title) {
    if (this.#nodes.has(id)) return;
    const row = h("li", { "data-node-id": id, "data-state": "pending" },
      h("span", { class: "mark", "aria-hidden": "true" }),
      h("span", { class: "name", title: `${id}: ${classType ?? ""}` }, `${id} `, title ?? classType ?? "", title && classType && title !== classType ? h("span", { class: "class" }, ` ${classType}`) : null),
      h("span", { class: "state" }, "pending"));
    this.#nodes.set(id, row);
    byId("nodes").append(row);
  }

  #setNode(id, state) {
    const row = this.#nodes.get(id);
    if (!row) return;
    row.dataset.state = state;
    let text = state;
    if (state === "running") this.#started.set(id, performance.now());
    if (state === "finished" && this.#started.has(id)) text = durationText(performance.now() - this.#started.get(id));
    row.querySelector(".state").textContent = text;
  }

  #nameOf(id) {
    return this.#nodes.get(id)?.querySelector(".name").textContent.trim() ?? `node ${id}`;
  }

  #output(output) {
    if (this.#outputs.has(output.id)) return;
    this.#outputs.set(output.id, output);
    byId("outputs-empty").hidden = true;
    byId("outputs").append(outputItem(output));
  }

  #reset(data) {
    const box = byId("reset");
    box.replaceChildren(h("p", {}, h("strong", {}, "Some events are missing. "), `The bridge no longer has them (${data.reason ?? "no reason given"}); the job itself is complete and is read again.`));
    box.hidden = false;
    this.#refresh();
  }

  async #refresh() {
    const watched = this.#watch;
    try {
      const job = await request(jobURL(this.job.urls.self));
      if (watched === this.#watch) this.#apply(job);
    } catch (error) {
      if (watched === this.#watch) this.fail(error);
    }
  }

  async #finish(finished) {
    if (finished) this.#apply(finished);
    else await this.#refresh();
  }

  /** The job object is the truth: it brings what the stream could not, and the reason of a failure. */
  #apply(job) {
    this.job = job;
    for (const output of job.outputs ?? []) this.#output(output);
    if (job.progress) this.#progress(job.progress);
    this.#showStatus(job.status, job.queue_position);
    if (job.error) {
      this.fail(job.error);
      if (job.error.node_id) this.#setNode(job.error.node_id, "error");
    }
    if (isObject(job.other_outputs) && Object.keys(job.other_outputs).length > 0) {
      byId("other-outputs").hidden = false;
      byId("other-outputs").querySelector("pre").textContent = JSON.stringify(job.other_outputs, null, 2);
    }
    if (TERMINAL.has(job.status)) {
      for (const row of this.#nodes.values()) {
        if (row.dataset.state === "pending") row.querySelector(".state").textContent = "not run";
        if (row.dataset.state === "running") { row.dataset.state = "pending"; row.querySelector(".state").textContent = "stopped"; }
      }
      if (this.#frames === 0) byId("preview-caption").textContent = "This job sent no previews";
      const took = job.metrics?.execution_ms;
      const waited = job.metrics?.queue_ms;
      const parts = [this.#progressLine];
      if (Number.isFinite(took)) parts.push(`ran ${durationText(took)}`);
      if (Number.isFinite(waited)) parts.push(`waited ${durationText(waited)}`);
      byId("progress-text").textContent = parts.filter(Boolean).join(" · ");
    }
    this.onChange(job, [...this.#outputs.values()]);
  }

  #showStatus(status, position = null) {
    const chip = byId("job-status");
    chip.dataset.status = status;
    chip.hidden = status === "none";
    chip.textContent = status === "queued" && Number.isFinite(position) ? `queued, place ${position}` : status;
    byId("job").dataset.status = status;
    byId("cancel").disabled = status === "none" || status === "canceling" || TERMINAL.has(status);
    if (TERMINAL.has(status) || status === "none") document.title = status === "none" ? "comfy-bridge" : `${status} · comfy-bridge`;
  }

  #showStream(word) {
    const texts = { closed: "", connecting: "connecting …", live: "live", reconnecting: "reconnecting …" };
    const element = byId("stream-state");
    if (element.dataset.state === word) return;
    element.dataset.state = word;
    element.textContent = texts[word];
    if (word === "reconnecting") this.#log("stream", { message: "connection lost" }, "");
  }

  /** One line per event; a run of progress or preview events is one line that counts. The oldest lines go at the limit. */
  #log(type, data, id) {
    this.#events += 1;
    byId("log-count").textContent = String(this.#events);
    const list = byId("log");
    const follow = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const repeat = type === "progress" || type === "preview";
    const now = new Date();
    const time = `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, "0")}`;
    if (repeat && this.#lastLog?.[type]?.parentNode === list) {
      const row = this.#lastLog[type];
      row.dataset.count = String(Number(row.dataset.count) + 1);
      row.children[0].textContent = time;
      row.children[3].textContent = `${summary(type, data)}  ×${row.dataset.count}`;
    } else {
      const row = h("li", { "data-type": type, "data-event-id": id, "data-count": 1 },
        h("span", { class: "soft" }, time), h("span", { class: "soft" }, id), h("span", {}, type), h("span", { class: "what" }, summary(type, data)));
      list.append(row);
      this.#lastLog = repeat ? { ...this.#lastLog, [type]: row } : null;
      while (list.children.length > LOG_LIMIT) list.firstElementChild.remove();
    }
    if (follow) list.scrollTop = list.scrollHeight;
  }
}

function summary(type, data) {
  switch (type) {
    case "status": return data.status + (Number.isFinite(data.queue_position) ? `, place ${data.queue_position}` : "");
    case "progress": return `${Math.round((Number(data.value) || 0) * 100)} %${data.message ? `, ${data.message}` : ""}`;
    case "preview": return `node ${data.node_id}, ${data.content_type}${data.data_base64 ? `, ${sizeText(Math.floor(data.data_base64.length * 0.75))}` : ""}${data.url ? `, ${data.url}` : ""}`;
    case "node": return `${data.node_id} ${data.class_type ?? ""}: ${data.state}`;
    case "output": return `node ${data.node_id}, ${data.name}, ${data.content_type}, ${sizeText(data.size_bytes)}`;
    case "log": return `${data.level}: ${data.message}`;
    case "stream": return data.message;
    default: return JSON.stringify(data).slice(0, 300);
  }
}

function outputItem(output) {
  const href = localURL(output.url)?.href ?? null;
  const item = h("li", { "data-output-id": output.id, "data-type": output.type, "data-node-id": output.node_id });
  const name = output.name || output.id;
  switch (output.type) {
    case "image":
      item.append(h("a", { href, target: "_blank", rel: "noopener" }, h("img", { src: href, alt: `Output ${name} of node ${output.node_id}` })));
      // Some picture formats no browser shows, and SVG is never sent as one that it would run: then the download link remains.
      item.querySelector("img").addEventListener("error", (event) => event.target.parentElement.remove());
      break;
    case "video":
      item.append(h("video", { src: href, controls: true, loop: true, muted: true, preload: "metadata", "aria-label": `Output ${name}` }));
      break;
    case "audio":
      item.append(h("audio", { src: href, controls: true, preload: "metadata", "aria-label": `Output ${name}` }));
      break;
    case "text":
      if (typeof output.text === "string") item.append(h("pre", { tabindex: 0 }, output.text));
      break;
  }
  const facts = [output.content_type, sizeText(output.size_bytes), `node ${output.node_id}`, output.temporary ? "temporary" : ""].filter(Boolean).join(" · ");
  item.append(h("a", { href, download: name, class: "download" }, name), h("span", { class: "note" }, facts));
  return item;
}

// ------------------------------------------------------------------------------------------------ history of this session

const sessionJobs = {
  read() {
    try {
      const list = JSON.parse(sessionStorage.getItem(HISTORY_KEY) ?? "[]");
      return Array.isArray(list) ? list : [];
    } catch { return []; }
  },
  write(list) {
    try { sessionStorage.setItem(HISTORY_KEY, JSON.stringify(list.slice(0, HISTORY_LIMIT))); } catch { /* storage is off: the list lives as long as the page */ }
  },
  entries: [],
  note(job, outputs, title) {
    const known = this.entries.find((entry) => entry.id === job.id);
    const links = outputs.map(({ name, url }) => ({ name, url }));
    if (known) Object.assign(known, { status: job.status, outputs: links });
    else this.entries = [{ id: job.id, at: job.created_at, title, status: job.status, outputs: links }, ...this.entries].slice(0, HISTORY_LIMIT);
    this.write(this.entries);
    this.render(job.id);
  },
  render(current) {
    byId("history-empty").hidden = this.entries.length > 0;
    byId("clear-history").hidden = this.entries.length === 0;
    byId("history").replaceChildren(...this.entries.map((entry) => h("li", { "data-job-id": entry.id, "aria-current": entry.id === current ? "true" : null },
      h("span", { class: "chip", "data-status": entry.status }, entry.status),
      h("time", { datetime: entry.at, class: "note" }, new Date(entry.at).toLocaleTimeString()),
      h("a", { href: `#job/${encodeURIComponent(entry.id)}`, class: "mono", "aria-label": `Show job ${entry.id}` }, entry.id.slice(0, 8)),
      h("span", { class: "note" }, entry.title ?? ""),
      h("span", { class: "links" }, ...entry.outputs.map((output) => h("a", { href: localURL(output.url)?.href, target: "_blank", rel: "noopener" }, output.name || "output"))))));
  },
};

// ------------------------------------------------------------------------------------------------ curl

/** A word for a POSIX shell. */
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function curlCommand(variant, { origin, text, fileName, inline, jobID, previews }) {
  // The token itself has no business on a screen.
  const token = access.token ? ` -H "Authorization: Bearer $COMFY_BRIDGE_TOKEN"` : "";
  if (variant === "watch") return jobID ? `curl -sSN${token} ${quoted(`${origin}/api/v2/jobs/${jobID}/events?previews=${previews}`)}` : "# Run a workflow first; then this is the command that watches its job.";
  const stream = variant === "events";
  const options = {
    json: ["-sS"],
    picture: ["-sS", "--fail-with-body", "-H 'Accept: image/*'", "-o result.png"],
    events: ["-sSN", "-H 'Accept: text/event-stream'"],
    async: ["-sSi", "-H 'Prefer: respond-async'"],
  }[variant];
  const url = quoted(`${origin}/run${stream ? `?previews=${previews}` : ""}`);
  if (!inline) return `curl ${options.join(" ")}${token} ${url} --data-binary ${quoted(`@${fileName}`)}`;
  const lines = text.split("\n");
  let end = "WORKFLOW";
  while (lines.includes(end)) end += "_";
  return `curl ${options.join(" ")}${token} ${url} --data-binary @- <<'${end}'\n${text.replace(/\n+$/, "")}\n${end}`;
}

async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = h("textarea", { readonly: true, class: "visually-hidden", "aria-hidden": "true" });
  area.value = text;   // Plain http on another host than localhost has no clipboard API.
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not let this page copy");
}

// ------------------------------------------------------------------------------------------------ the page

const panel = new JobPanel((job, outputs) => {
  if (job) sessionJobs.note(job, outputs, titles.get(job.id));
  showCurl();
});
const titles = new Map();
let fileName = "workflow_api.json";

function showCurl() {
  byId("curl").textContent = curlCommand(byId("curl-variant").value, {
    origin: ROOT.href.replace(/\/$/, ""),
    text: byId("workflow").value,
    fileName,
    inline: byId("curl-inline").checked,
    jobID: panel.job?.id,
    previews: byId("previews").value,
  });
}

function showWorkflow() {
  const note = byId("workflow-note");
  const workflow = readWorkflow(byId("workflow").value);
  const say = (state, text) => { note.dataset.state = state; note.textContent = text; };
  switch (workflow.kind) {
    case "empty": say("empty", "No workflow yet."); break;
    case "broken": say("bad", `Not valid JSON: ${workflow.reason}`); break;
    case "odd": say("bad", "A workflow is a JSON object: node ids with class_type and inputs."); break;
    case "ui": say("bad", "This looks like the editor's format; the bridge takes the API format."); break;
    case "api": {
      const count = nodesOf(workflow.graph).length;
      say("good", `${count} ${count === 1 ? "node" : "nodes"}${workflow.wrapped ? ", in a request with workflow" : ""}`);
    }
  }
  showCurl();
}

function setWorkflow(text, name = "workflow_api.json") {
  byId("workflow").value = text.replace(/^\uFEFF/, "");
  fileName = name;
  showWorkflow();
}

async function takeFile(file) {
  const isPNG = file.type === "image/png" || file.name.toLowerCase().endsWith(".png");
  if (!isPNG) {
    setWorkflow(await file.text(), file.name || undefined);
    return;
  }
  const text = workflowInPNG(await file.arrayBuffer());
  if (text === null) panel.fail({ code: "invalid_workflow", message: `${file.name} carries no workflow. Only PNG files that ComfyUI saved do.` });
  else setWorkflow(text);
}

async function run() {
  const text = byId("workflow").value;
  const workflow = readWorkflow(text);
  panel.clear();
  sessionJobs.render(null);
  window.history.replaceState(null, "", location.pathname);
  if (workflow.kind === "empty") {
    panel.fail({ code: "invalid_workflow", message: "Paste a workflow first, or take one of the examples." });
    return;
  }
  if (workflow.kind === "broken") {
    panel.fail({ code: "invalid_json", message: workflow.reason });
    return;
  }
  const nodes = workflow.kind === "api" ? nodesOf(workflow.graph) : [];
  byId("run").disabled = true;
  try {
    const job = await request(jobURL("/api/v2/jobs"), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: workflow.wrapped ? text : `{"workflow":${text}}`,
    });
    titles.set(job.id, nodes.length > 0 ? `${nodes.length} nodes, ${nodes.at(-1).classType}` : "");
    panel.show(job, nodes, byId("previews").value);
    // Not location.hash: that would fire hashchange and attach to the job a second time.
    window.history.replaceState(null, "", `#job/${job.id}`);
  } catch (error) {
    panel.listNodes(nodes);
    panel.fail(error);
  } finally {
    byId("run").disabled = false;
  }
}

async function cancel() {
  if (!panel.job) return;
  byId("cancel").disabled = true;
  try {
    await request(localURL(panel.job.urls.cancel), { method: "POST" });
  } catch (error) {
    panel.fail(error);
    byId("cancel").disabled = false;
  }
}

/** `#job/ID`: any job of the bridge, also one that curl started. */
async function showJobOfAddress() {
  const id = location.hash.match(/^#job\/(.+)$/)?.[1];
  if (!id || decodeURIComponent(id) === panel.job?.id) return;
  panel.clear();
  try {
    const job = await request(jobURL(`/api/v2/jobs/${id}`));
    const { workflow } = await request(localURL(`/api/v2/jobs/${id}/workflow`)).catch(() => ({ workflow: {} }));
    const nodes = nodesOf(workflow);
    if (!titles.has(job.id)) titles.set(job.id, nodes.length > 0 ? `${nodes.length} nodes, ${nodes.at(-1).classType}` : "");
    panel.show(job, nodes, byId("previews").value);
  } catch (error) {
    panel.fail(error);
  }
}

async function showReadiness() {
  const chip = byId("bridge");
  const say = (state, text) => { chip.dataset.state = state; chip.textContent = text; };
  try {
    const response = await fetch(new URL("readyz", ROOT), { cache: "no-store", headers: access.headers() });
    const body = await response.json();
    // Without a token the bridge says no more than whether it is ready.
    const workers = body.comfyui ?? [{ connected: body.ready }];
    const connected = workers.filter((worker) => worker.connected);
    const version = connected.find((worker) => worker.version)?.version;
    if (connected.length > 0) say("ready", `ComfyUI${version ? ` ${version}` : ""} connected${workers.length > 1 ? ` (${connected.length} of ${workers.length})` : ""}`);
    else say("waiting", "ComfyUI is not connected");
  } catch {
    say("down", "No answer from the bridge");
  }
}

function start() {
  access.restore();
  sessionJobs.entries = sessionJobs.read();
  sessionJobs.render(null);
  for (const entry of sessionJobs.entries) titles.set(entry.id, entry.title);

  byId("workflow").addEventListener("input", showWorkflow);
  byId("workflow").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
  });
  for (const button of document.querySelectorAll("[data-example]")) {
    button.addEventListener("click", () => setWorkflow(exampleText(button.dataset.example)));
  }
  byId("open-file").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) takeFile(file);
    event.target.value = "";
  });
  byId("run").addEventListener("click", run);
  byId("cancel").addEventListener("click", cancel);
  byId("clear-history").addEventListener("click", () => { sessionJobs.entries = []; sessionJobs.write([]); sessionJobs.render(null); });
  for (const id of ["curl-variant", "curl-inline", "previews"]) byId(id).addEventListener("change", showCurl);
  byId("copy-curl").addEventListener("click", async () => {
    const button = byId("copy-curl");
    try {
      await copyText(byId("curl").textContent);
      button.textContent = "Copied";
      byId("copy-note").textContent = "The curl command was copied.";
    } catch (error) {
      getSelection().selectAllChildren(byId("curl"));
      button.textContent = "Press Ctrl+C";
      byId("copy-note").textContent = `Not copied: ${error.message}. The command is selected.`;
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  // Files may be dropped anywhere on the page, and pasted.
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    byId("drop").classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => { if (event.relatedTarget === null) byId("drop").classList.remove("dragging"); });
  document.addEventListener("drop", (event) => {
    byId("drop").classList.remove("dragging");
    const [file] = event.dataTransfer.files;
    if (!file) return;
    event.preventDefault();
    takeFile(file);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (!file) return;
    event.preventDefault();
    takeFile(file);
  });

  window.addEventListener("hashchange", showJobOfAddress);
  setInterval(() => { if (!document.hidden) showReadiness(); }, READINESS_INTERVAL);
  showReadiness();
  showWorkflow();
  showJobOfAddress();
}

start();
