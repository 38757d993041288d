"use strict";
// Text is set as text, never as HTML: names in the records are anyone's.
const STEP = 60;
const MIN_FRAME_MILLISECONDS = 60;
const MAX_FRAME_MILLISECONDS = 1000;
const byId = id => document.getElementById(id);
const dataset = JSON.parse(byId("data").textContent);
const sequences = dataset.sequences;
const large = byId("large");
let found = [], shown = 0, current = 0, timer = null;

function add(parent, name, text) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function addOptions(select, names) {
  for (const [value, text] of names) add(select, "option", text).value = value;
}

function count(items, noun) {
  return `${items.toLocaleString("en")} ${noun}${items === 1 ? "" : "s"}`;
}

function sourceOf(sequence) {
  return (sequence.metadata || {})["clip/media_id"] || "";
}

function titleOf(sequence) {
  if (sequence.damage) return "damaged record";
  if (sequence.classes) return sequence.classes.map(c => dataset.classes[c]).join(", ") || "no class";
  return sequence.text || "no label";
}

// One frame of a picture that holds all frames side by side.
function showFrame(film, sequence, index) {
  const last = sequence.frames.length - 1;
  film.style.aspectRatio = `${dataset.width} / ${dataset.height}`;
  film.style.backgroundImage = `url("${sequence.picture}")`;
  film.style.backgroundSize = `${100 * (last + 1)}% 100%`;
  film.style.backgroundPosition = `${last ? 100 * index / last : 0}% 0`;
}

function play(sequence, from, show) {
  stop();
  let index = from;
  const next = () => {
    const after = (index + 1) % sequence.frames.length;
    const gap = 1000 * (sequence.seconds[after] - sequence.seconds[index]);
    const wait = gap > 0 ? Math.max(MIN_FRAME_MILLISECONDS, Math.min(gap, MAX_FRAME_MILLISECONDS)) : 500;
    timer = setTimeout(() => { index = after; show(index); next(); }, wait);
  };
  next();
}

function stop() {
  clearTimeout(timer);
  timer = null;
  byId("play").textContent = "Play";
}

function addCard(place) {
  const sequence = found[place];
  const button = add(add(byId("list"), "li"), "button");
  button.type = "button";
  if (sequence.damage) {
    add(button, "strong", titleOf(sequence)).className = "damage";
    add(button, "span", sequence.damage);
  } else {
    const film = add(button, "span");
    film.className = "film";
    showFrame(film, sequence, 0);
    const begin = () => play(sequence, 0, index => showFrame(film, sequence, index));
    const end = () => { stop(); showFrame(film, sequence, 0); };
    button.addEventListener("pointerenter", begin);
    button.addEventListener("pointerleave", end);
    add(button, "strong", titleOf(sequence));
    add(button, "span", sourceOf(sequence));
  }
  const time = sequence.damage ? "" : `, from ${sequence.seconds[0].toFixed(2)} s`;
  add(button, "small", sequence.split + time);
  button.addEventListener("click", () => enlarge(place));
}

function addCards() {
  const end = Math.min(found.length, shown + STEP);
  while (shown < end) addCard(shown++);
  byId("more").hidden = shown === found.length;
}

function select() {
  stop();
  const split = byId("split").value, chosen = byId("class").value, part = byId("source").value;
  found = sequences.filter(s => (!split || s.split === split)
    && (!chosen || (s.classes || []).includes(Number(chosen))) && (!part || sourceOf(s).includes(part)));
  const [target, direction] = byId("order").value.split(" ").map(Number);
  const value = s => (s.targets ? s.targets[target] : NaN);
  // Damaged records have no target, and come last.
  if (direction) found.sort((a, b) => (isNaN(value(a)) - isNaN(value(b))) || direction * (value(a) - value(b)) || 0);
  byId("list").replaceChildren();
  shown = 0;
  byId("count").textContent = count(found.length, "sequence");
  addCards();
}

function showLargeFrame(index) {
  const sequence = found[current];
  showFrame(byId("film"), sequence, index);
  byId("frame").value = index;
  const frame = sequence.frames[index], label = sequence.labels ? `, ${sequence.labels[index]}` : "";
  const padding = frame >= sequence.valid ? ", padding" : "";
  byId("frame-text").textContent = `frame ${frame}, ${sequence.seconds[index].toFixed(3)} s${padding}${label}`;
}

function enlarge(place) {
  stop();
  current = place;
  const sequence = found[place];
  byId("large-title").textContent = titleOf(sequence);
  for (const id of ["film", "play", "frame"]) byId(id).hidden = Boolean(sequence.damage);
  const facts = byId("facts");
  facts.replaceChildren();
  const bytes = sequence.end - sequence.start;
  const known = [["split", sequence.split], ["shard", sequence.shard],
    ["bytes", `${sequence.start} to ${sequence.end}`],
    ["cut it out", `tail -c +${sequence.start + 1} SHARD | head -c ${bytes} > record.tfrecord`]];
  for (const [name, text] of [...known, ...Object.entries(sequence.metadata || {})]) {
    add(facts, "dt", name);
    add(add(facts, "dd"), "code", text);
  }
  if (sequence.damage) {
    byId("frame-text").textContent = sequence.damage;
  } else {
    byId("film").ariaLabel = `Frames of ${titleOf(sequence)}`;
    byId("frame").max = sequence.frames.length - 1;
    showLargeFrame(0);
  }
  byId("previous").disabled = place === 0;
  byId("next").disabled = place === found.length - 1;
  if (!large.open) large.showModal();
}

addOptions(byId("split"), dataset.splits.map(name => [name, name]));
addOptions(byId("class"), dataset.classes.map((name, index) => [index, name]));
byId("class-choice").hidden = !dataset.classes.length;
addOptions(byId("order"), dataset.targets.flatMap((name, index) =>
  [[`${index} 1`, `${name}, smallest first`], [`${index} -1`, `${name}, largest first`]]));
byId("choices").addEventListener("input", select);
byId("choices").addEventListener("submit", event => event.preventDefault());
byId("more").addEventListener("click", addCards);
byId("previous").addEventListener("click", () => enlarge(current - 1));
byId("next").addEventListener("click", () => enlarge(current + 1));
byId("close").addEventListener("click", () => large.close());
large.addEventListener("close", stop);
byId("frame").addEventListener("input", () => { stop(); showLargeFrame(Number(byId("frame").value)); });
byId("play").addEventListener("click", () => {
  if (timer !== null) return stop();
  play(found[current], Number(byId("frame").value), showLargeFrame);
  byId("play").textContent = "Pause";
});
select();
