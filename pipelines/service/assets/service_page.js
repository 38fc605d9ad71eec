"use strict";
const limits = JSON.parse(document.body.dataset.limits);
const find = (id) => document.getElementById(id);
const results = find("results"), drop = find("drop"), form = find("token");
// Few at a time, so that the first words appear soon.
const AT_ONCE = Math.min(8, limits.images);
const ROOM_FOR_HEADERS = 4096;
const SLOWEST_RETRY_MS = 8000;

if (limits.detects) {
  find("about").textContent = "Finds the words in each picture and reads them. You see the pixels that the model saw.";
  find("lead").textContent = "Drop pictures here";
}

let token = sessionStorage.getItem("token") || "";
let queue = [], isSending = false;

function add(files) {
  const cards = [...files].map((file) => ({ file, card: place(file) }));
  if (!cards.length) return;
  results.prepend(...cards.map(({ card }) => card));
  for (const entry of cards) {
    if (entry.file.size > limits.bytes - ROOM_FOR_HEADERS)
      fail(entry.card, `This file has more than the ${(limits.bytes / 2 ** 20).toFixed(0)} MB that the service takes.`);
    else queue.push(entry);
  }
  summarise();
  send();
}

function place(file) {
  const card = find("card").content.firstElementChild.cloneNode(true);
  const given = card.querySelector(".given"), picture = given.querySelector("img");
  const address = URL.createObjectURL(file);
  picture.onload = () => URL.revokeObjectURL(address);
  picture.onerror = () => { URL.revokeObjectURL(address); given.classList.add("unseen"); };
  picture.src = address;
  picture.alt = "The picture given";
  const name = file.name || "pasted picture";
  given.querySelector("figcaption").textContent = name;
  given.title = name;
  return card;
}

async function send() {
  if (isSending || !form.hidden) return;
  isSending = true;
  while (queue.length && form.hidden) {
    const group = nextGroup();
    try {
      await read(group);
    } catch (error) {
      for (const { card } of group) fail(card, "The service cannot be reached. Is it still running?");
    }
    summarise();
  }
  isSending = false;
}

function nextGroup() {
  const group = [];
  let bytes = 0;
  while (queue.length && group.length < AT_ONCE) {
    bytes += queue[0].file.size + ROOM_FOR_HEADERS;
    if (group.length && bytes > limits.bytes) break;
    group.push(queue.shift());
  }
  return group;
}

async function read(group) {
  for (let pause = 500; ; pause *= 2) {
    const body = new FormData();
    for (const { file } of group) body.append("images", file, file.name || "pasted");
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch("read?seen=png", { method: "POST", body, headers });
    if (response.status === 401) return askForToken(group);
    if (response.status === 503 && pause <= SLOWEST_RETRY_MS) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      continue;
    }
    const answer = await response.json();
    group.forEach(({ card }, index) => {
      const word = answer.images ? answer.images[index] : { error: answer.detail };
      word.error === undefined ? show(card, word) : fail(card, word.error);
    });
    return;
  }
}

function askForToken(group) {
  queue.unshift(...group);
  find("refused").textContent = token ? "That is not the token." : "";
  form.hidden = false;
  find("word").focus();
}

const tone = (share) => (share >= 0.9 ? "good" : share >= 0.5 ? "fair" : "poor");
// Never 100 for what is not: 0.9996 is more than 99.9, and 0.0004 less than 0.1.
function percent(share, digits) {
  const step = 10 ** -digits, value = Math.floor((share * 100) / step) * step;
  return value.toFixed(value >= 100 ? 0 : digits);
}

function element(name, content, kind) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.append(...[content].flat());
  return made;
}

function show(card, answer) {
  const words = answer.words || [answer];
  if (!words.length) return fail(card, "No text was found in this picture.");
  card.classList.remove("waiting");
  card.classList.toggle("many", words.length > 1);
  card.style.setProperty("--rows", words.length);
  const first = [card.querySelector(".told"), card.querySelector(".seen")];
  const rows = words.map((_, index) => (index ? first.map((part) => part.cloneNode(true)) : first));
  card.append(...rows.slice(1).flat());
  words.forEach((word, index) => tell(...rows[index], word));
}

function tell(told, seen, word) {
  const letters = [...word.text].map((character, index) => {
    const share = word.character_confidences[index];
    const fill = document.createElement("i");
    fill.style.setProperty("--share", `${share * 100}%`);
    const letter = element(
      "span",
      [element("b", character), element("span", fill), element("small", percent(share, 0))],
      `letter ${tone(share)}`,
    );
    letter.title = `${character}: ${percent(share, 1)} %`;
    return letter;
  });
  told.querySelector(".word").append(...(letters.length ? letters : [element("span", "no characters", "nothing")]));
  const sure = told.querySelector(".sure");
  sure.classList.add(tone(word.confidence));
  sure.querySelector("i").style.setProperty("--share", `${word.confidence * 100}%`);
  sure.querySelector("output").textContent = `${percent(word.confidence, 1)} % confident`;
  told.querySelector(".spoken").textContent = `Read: ${word.text || "nothing"}`;
  const picture = seen.querySelector("img");
  picture.onload = () => {
    const size = `${picture.naturalHeight}×${picture.naturalWidth}`;
    picture.style.aspectRatio = `${picture.naturalWidth} / ${picture.naturalHeight}`;
    picture.alt = `The ${size} pixels that the model saw`;
    seen.querySelector("figcaption").textContent = `the model saw ${size}`;
  };
  picture.src = `data:image/png;base64,${word.seen}`;
}

function fail(card, sentence) {
  card.classList.remove("waiting");
  card.classList.add("failed");
  card.querySelector(".fault").textContent = sentence;
}

function summarise() {
  const all = results.children.length;
  const failed = results.querySelectorAll(".failed").length, waiting = results.querySelectorAll(".waiting").length;
  const parts = [`${all - failed - waiting} read`];
  if (waiting) parts.push(`${waiting} to go`);
  if (failed) parts.push(`${failed} could not be read`);
  find("summary").textContent = parts.join(", ");
  find("bar").hidden = !all;
}

find("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
find("clear").addEventListener("click", () => { queue = []; results.replaceChildren(); summarise(); });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("word").value.trim();
  sessionStorage.setItem("token", token);
  form.hidden = true;
  send();
});
addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
  if (files.length) { event.preventDefault(); add(files); }
});
let depth = 0;
addEventListener("dragenter", () => { depth += 1; drop.classList.add("over"); });
addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) drop.classList.remove("over"); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  drop.classList.remove("over");
  add(event.dataTransfer.files);
});
