// The bias explorer. Numbers lie in the chunk-STEP-LAYER elements as pack.py writes them, and are read when they are shown.
"use strict";

const element = (name) => document.getElementById(name);
const meta = JSON.parse(element("meta").textContent);
const T = meta.tokens.length, CELLS = T * (T + 1) / 2;
const state = { layer: 0, head: 0, step: meta.steps.length - 1, quantity: "bias", query: T - 1, key: Math.max(0, T - 2) };
const read = new Map();

// -- numbers ---------------------------------------------------------------------------------------------------------

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Every float16, by its bit pattern.
const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + mantissa / 1024) : sign * 2 ** -14 * mantissa / 1024;
});

function halves(bytes, start, count, scale) {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = scale * HALVES[(bytes[start + i] << 8) | bytes[start + count + i]];
  return values;
}

async function layerAt(step, layer) {
  const name = `chunk-${meta.steps[step]}-${layer}`;
  if (!read.has(name)) read.set(name, inflate(element(name).textContent).then((bytes) => unpacked(bytes, layer)));
  return read.get(name);
}

function unpacked(bytes, layer) {
  const count = meta.heads * CELLS, view = new DataView(bytes.buffer);
  const floats = (start, size) => Float32Array.from({ length: size }, (_, i) => view.getFloat32(start + 4 * i, true));
  const found = { bias: halves(bytes, 4, count, view.getFloat32(0, true)), weight: halves(bytes, 4 + 2 * count, count, 1) };
  let at = 4 + 4 * count;
  if (meta.has_positions[layer]) { found.positions = floats(at, meta.heads * T); at += 4 * meta.heads * T; }
  if (meta.has_gates[layer]) found.gates = floats(at, meta.heads * T);
  return found;
}

const place = (head, i, j) => head * CELLS + i * (i + 1) / 2 + j;

// S_i - S_j of a pair, with the query's gate on it where there is one.
function clock(found, head, i, j) {
  const gate = found.gates ? found.gates[head * T + i] : 1;
  return gate * (found.positions[head * T + i] - found.positions[head * T + j]);
}

function value(found, quantity, head, i, j) {
  return quantity === "clock" ? clock(found, head, i, j) : found[quantity][place(head, i, j)];
}

// -- colours ---------------------------------------------------------------------------------------------------------

// Even in lightness, and told apart by the colour-blind: cividis; for signs, blue and red from white.
const SEQUENTIAL = ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838"];
const DIVERGING = ["#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"];
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function ramp(colours) {
  const stops = colours.map(rgb);
  return Array.from({ length: 256 }, (_, i) => {
    const at = i / 255 * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2), share = at - low;
    return stops[low].map((c, k) => Math.round(c + share * (stops[low + 1][k] - c)));
  });
}

const RAMPS = { sequential: ramp(SEQUENTIAL), diverging: ramp(DIVERGING) };

// One scale for all heads of a layer; what lies beyond its ends is drawn as the end, and the label says so.
function scaleOf(found, quantity) {
  if (quantity === "weight") return { ramp: RAMPS.sequential, low: -6, high: 0, of: (v) => Math.log10(Math.max(v, 1e-6)), label: "weight (share of the query's attention, log scale; below 1e-6 as 1e-6)" };
  const seen = [];
  for (let head = 0; head < meta.heads; head++)
    for (let i = 0; i < T; i++) for (let j = 0; j <= i; j++) {
      const v = value(found, quantity, head, i, j);
      if (Number.isFinite(v)) seen.push(v);
    }
  const sorted = Float32Array.from(seen).sort();
  const least = sorted[0] ?? 0, most = sorted[sorted.length - 1] ?? 0, at = (share) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
  const identity = (v) => v;
  if (quantity === "clock") return { ramp: RAMPS.sequential, low: 0, high: Math.max(most, 1e-9), of: identity, label: "contextual distance S_i - S_j, times the query's gate if it has one" };
  if (least < 0 && most > 1e-3 * -least) {
    const end = Math.max(-at(0.02), at(0.98), 1e-9);
    return { ramp: RAMPS.diverging, low: -end, high: end, of: identity, label: `bias (added to the logit); 2% beyond each end, down to ${short(least)}, up to ${short(most)}` };
  }
  const low = at(0.02);
  return { ramp: RAMPS.sequential, low: low < most ? low : most - 1, high: most, of: identity, label: `bias (added to the logit)${least < low ? `; 2% lie lower, down to ${short(least)}` : ""}` };
}

function colourOf(scale, v) {
  const share = (scale.of(v) - scale.low) / (scale.high - scale.low);
  return scale.ramp[Math.max(0, Math.min(255, Math.round(255 * share)))];
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A T x T picture of one head.
function picture(found, quantity, head, scale) {
  const image = new ImageData(T, T), later = rgb(style("--later")), masked = rgb(style("--masked"));
  for (let i = 0; i < T; i++) for (let j = 0; j < T; j++) {
    const hidden = j <= i && !Number.isFinite(found.bias[place(head, i, j)]);
    const [r, g, b] = j > i ? later : hidden ? masked : colourOf(scale, value(found, quantity, head, i, j));
    image.data.set([r, g, b, 255], 4 * (i * T + j));
  }
  return image;
}

// -- what is shown ---------------------------------------------------------------------------------------------------

function short(v) {
  if (!Number.isFinite(v)) return "not seen";
  if (v === 0) return "0";
  const size = Math.abs(v);
  return size >= 1e5 || size < 1e-3 ? v.toExponential(2) : String(Number(v.toPrecision(4)));
}

const told = (token) => token.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣") || "∅";
const wide = document.createElement("canvas");
wide.width = wide.height = T;
let shown = null, scale = null, latest = 0;

async function show() {
  if (state.quantity === "clock" && !meta.has_positions[state.layer]) state.quantity = "bias";
  const ticket = ++latest, found = await layerAt(state.step, state.layer);
  if (ticket !== latest) return;
  shown = found;
  scale = scaleOf(found, state.quantity);
  wide.getContext("2d").putImageData(picture(found, state.quantity, state.head, scale), 0, 0);
  for (const name of ["layer", "head", "step"]) element(name).value = state[name];
  element("layer-value").textContent = `${state.layer} of 0-${meta.layers - 1}`;
  element("head-value").textContent = `${state.head} of 0-${meta.heads - 1}`;
  element("step-value").textContent = meta.steps[state.step].toLocaleString("en");
  document.querySelector(`input[name=quantity][value=${state.quantity}]`).checked = true;
  element("clock-choice").style.display = meta.has_positions[state.layer] ? "" : "none";
  showBar();
  showHeads();
  showPassage();
  showCell();
  document.body.dataset.ready = `${state.step}-${state.layer}-${state.head}-${state.quantity}`;
}

function showBar() {
  const image = new ImageData(256, 1);
  scale.ramp.forEach((colour, i) => image.data.set([...colour, 255], 4 * i));
  element("bar-colours").getContext("2d").putImageData(image, 0, 0);
  const end = (v) => state.quantity === "weight" ? `1e${v}` : short(v);
  element("bar-low").textContent = end(scale.low);
  element("bar-high").textContent = state.quantity === "weight" ? "1" : end(scale.high);
  element("bar-label").textContent = scale.label;
}

function showHeads() {
  const box = element("heads");
  while (box.children.length < meta.heads) {
    const head = box.children.length, button = document.createElement("button"), canvas = document.createElement("canvas");
    canvas.width = canvas.height = T;
    button.append(canvas, `head ${head}`);
    button.type = "button";
    button.onclick = () => { state.head = head; show(); };
    box.append(button);
  }
  [...box.children].forEach((button, head) => {
    button.setAttribute("aria-pressed", String(head === state.head));
    button.firstChild.getContext("2d").putImageData(picture(shown, state.quantity, head, scale), 0, 0);
  });
}

// Increments where tokens drive the positions, else how the query's attention is spread over the text.
function showPassage() {
  const ticks = Boolean(shown.positions), box = element("passage"), ramp = RAMPS.sequential;
  const values = meta.tokens.map((_, t) => ticks ? (t ? shown.positions[state.head * T + t] - shown.positions[state.head * T + t - 1] : 0) : t > state.query ? NaN : shown.weight[place(state.head, state.query, t)]);
  const ends = values.filter(Number.isFinite), low = Math.min(...ends.slice(ticks ? 1 : 0)), high = Math.max(...ends);
  element("passage-title").textContent = ticks ? `increments S_t - S_(t-1) of head ${state.head}: how far each token moves the clock (${short(low)} to ${short(high)})` : `weights that query ${state.query} gives (head ${state.head}; no positions are driven by the tokens here)`;
  if (box.children.length === 0) meta.tokens.forEach((token, t) => {
    const span = document.createElement("span");
    span.append(told(token), document.createElement("small"));
    span.onclick = () => move(t, Math.min(state.key, t));
    box.append(span);
  });
  [...box.children].forEach((span, t) => {
    const v = values[t], blank = !Number.isFinite(v) || (ticks && t === 0), share = high > low ? (v - low) / (high - low) : 0;
    const [r, g, b] = blank ? rgb(style("--later")) : ramp[Math.max(0, Math.min(255, Math.round(255 * share)))];
    span.style.background = `rgb(${r} ${g} ${b})`;
    span.style.color = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff";
    span.lastChild.textContent = blank ? " " : Number.isInteger(v) ? v : short(Number(v.toPrecision(3)));
  });
}

function showCell() {
  const { query: i, key: j, head } = state, map = element("map"), ratio = window.devicePixelRatio || 1;
  const side = Math.max(64, Math.round(map.clientWidth * ratio)), pen = map.getContext("2d"), cell = side / T;
  if (map.width !== side) map.width = map.height = side;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(wide, 0, 0, side, side);
  pen.strokeStyle = style("--mark");
  pen.lineWidth = Math.max(1, ratio);
  pen.strokeRect(0, i * cell, (i + 1) * cell, cell);
  pen.lineWidth = Math.max(2, 2 * ratio);
  pen.strokeRect(j * cell - 1, i * cell - 1, cell + 2, cell + 2);
  if (meta.train_length < T) {
    pen.setLineDash([6, 4]);
    pen.strokeRect(-2, meta.train_length * cell, side + 4, side);
    pen.setLineDash([]);
  }
  const bias = shown.bias[place(head, i, j)], weight = shown.weight[place(head, i, j)];
  element("read-query").textContent = `${told(meta.tokens[i])} at ${i}`;
  element("read-key").textContent = `${told(meta.tokens[j])} at ${j}`;
  element("read-distance").textContent = `${i - j} token${i - j === 1 ? "" : "s"}`;
  const gate = shown.gates ? ` (gate ${short(shown.gates[head * T + i])})` : "";
  element("read-clock").textContent = shown.positions ? `${short(clock(shown, head, i, j))}${gate}` : "none: positions are places here";
  element("read-bias").textContent = short(bias);
  element("read-weight").textContent = Number.isFinite(bias) ? short(weight) : "not seen";
  Object.assign(element("reading").dataset, { query: i, key: j, bias, weight, clock: shown.positions ? clock(shown, head, i, j) : "" });
  [...element("passage").children].forEach((span, t) => { span.className = t === i ? "query" : t === j ? "key" : ""; });
}

function move(query, key) {
  state.query = Math.max(0, Math.min(T - 1, query));
  state.key = Math.max(0, Math.min(state.query, key));
  if (!shown) return;
  if (!shown.positions) showPassage();
  showCell();
}

// -- what people do --------------------------------------------------------------------------------------------------

function pointed(event) {
  const box = element("map").getBoundingClientRect();
  move(Math.floor((event.clientY - box.top) / box.height * T), Math.floor((event.clientX - box.left) / box.width * T));
}

function shift(name, by, count) {
  state[name] = Math.max(0, Math.min(count - 1, state[name] + by));
  show();
}

const COUNTS = { layer: meta.layers, head: meta.heads, step: meta.steps.length };
const KEYS = { ",": ["layer", -1], ".": ["layer", 1], "[": ["head", -1], "]": ["head", 1], "-": ["step", -1], "+": ["step", 1], "=": ["step", 1] };
const SHOWN = { b: "bias", w: "weight", c: "clock" };
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in KEYS) shift(KEYS[event.key][0], KEYS[event.key][1], COUNTS[KEYS[event.key][0]]);
  else if (event.key in SHOWN && (event.key !== "c" || meta.has_positions[state.layer])) { state.quantity = SHOWN[event.key]; show(); }
  else if (event.key in ARROWS && event.target.tagName !== "INPUT") {
    const by = event.shiftKey ? 8 : 1, [down, right] = ARROWS[event.key];
    move(state.query + by * down, state.key + by * right);
  } else if (event.key === "Home") move(state.query, 0);
  else return;
  event.preventDefault();
});

for (const name of ["layer", "head", "step"]) {
  element(name).max = COUNTS[name] - 1;
  element(name).disabled = COUNTS[name] === 1;
  element(name).addEventListener("input", (event) => { state[name] = Number(event.target.value); show(); });
}
for (const choice of document.querySelectorAll("input[name=quantity]"))
  choice.addEventListener("change", (event) => { state.quantity = event.target.value; show(); });
element("map").addEventListener("pointermove", pointed);
element("map").addEventListener("pointerdown", pointed);
window.addEventListener("resize", () => { if (shown) showCell(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

const many = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
element("title").textContent = document.title = `${meta.encoding}: biases of ${meta.run}`;
element("about").textContent = `${many(meta.layers, "layer")} of ${many(meta.heads, "head")}, trained at T = ${meta.train_length.toLocaleString("en")}; the first ${many(T, "token")} of the validation text of ${meta.corpus}. Rows: queries; columns: keys.`;
element("foot").textContent = `Bias: what is added to s q.k. Weight: what the key counts in the query's output. Numbers are within ${short(100 * meta.precision)}% of what was computed; weights below 6e-8 are 0. ${meta.steps.length < meta.recorded_steps ? `Of ${meta.recorded_steps} recorded steps ${meta.steps.length} are here.` : ""}`;
show();
