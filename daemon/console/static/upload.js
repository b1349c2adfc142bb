// Sends files one by one as bytes, and follows each study to its result.
"use strict";
const form = document.getElementById("upload"), told = document.getElementById("told"), bar = document.getElementById("sent");
const csrf = document.querySelector("meta[name=csrf]").content;
const ended = ["CONFIRMED", "REJECTED", "CANCELLED"];
const read = ["REPORTED", "DELIVERED", "CONFIRMED"];
const order = ["RECEIVING", "RECEIVED", "SEGMENTED", "REPORTED", "DELIVERED", "CONFIRMED"];
const followed = new Map();
let busy = false;

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "X-CSRF-Token": csrf }, body });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail);
  return said;
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const each of some) found.push(...await filesOf(each));
  }
}

async function send(files) {
  if (busy || !files.length) return;
  busy = true;
  bar.hidden = false;
  const counts = {}, refused = [];
  const modality = document.getElementById("modality").value;
  let done = 0;
  const queue = [...files];
  const lane = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      try {
        const taken = await post(`/api/v1/uploads/file?modality=${modality}`, file);
        for (const [verdict, count] of Object.entries(taken.verdicts)) counts[verdict] = (counts[verdict] || 0) + count;
      } catch (error) { refused.push(error.message); }
      done += 1;
      bar.value = done / files.length;
      told.textContent = `${done} of ${files.length} files sent`;
    }
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
  const verdicts = Object.entries(counts).map(([verdict, count]) => `${count} ${verdict}`).join(", ");
  told.textContent = `${files.length} files sent: ${verdicts || "nothing taken in"}` + (refused.length ? `; ${refused.length} refused: ${[...new Set(refused)].join("; ")}` : "");
  for (const item of await post("/api/v1/uploads/finished")) follow(item.study_instance_uid);
  busy = false;
}

function follow(uid) {
  if (followed.has(uid)) return;
  const li = document.createElement("li"), link = document.createElement("a"), words = document.createElement("p"), steps = document.createElement("progress");
  li.className = "card"; link.href = `/studies/${uid}`; link.textContent = "Study"; steps.max = order.length - 1; steps.setAttribute("aria-label", "Way of the study");
  li.append(link, words, steps);
  document.getElementById("studies").append(li);
  followed.set(uid, { li, link, words, steps });
  look(uid);
}

async function look(uid) {
  const { li, words, steps } = followed.get(uid);
  let pause_ms = 1000;
  try {
    const said = await (await fetch(`/api/v1/studies/${uid}`)).json();
    words.textContent = `${said.fate}: ${said.sentence}`;
    const states = said.series.map((item) => item.job.state);
    steps.value = Math.max(0, ...states.map((state) => order.indexOf(state)));
    const ready = said.series.find((item) => read.includes(item.job.state) && !item.job.reject_reason);
    if (ready && !li.querySelector(".button")) {
      const open = document.createElement("a");
      open.className = "button"; open.href = `/jobs/${ready.job.id}/view`; open.textContent = "Read";
      li.append(open);
    }
    if (states.length && states.every((state) => ended.includes(state))) return;
    // DELIVERED is the end where no destination is asked for a confirmation, which may also take hours
    if (states.length && states.every((state) => state === "DELIVERED" || ended.includes(state))) pause_ms = 10000;
  } catch (error) { words.textContent = "Not connected: asking again"; }
  setTimeout(() => look(uid), pause_ms);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send([...document.getElementById("files").files, ...document.getElementById("folder").files]);
});
for (const name of ["dragover", "dragleave", "drop"]) form.addEventListener(name, (event) => { event.preventDefault(); form.classList.toggle("over", name === "dragover"); });
form.addEventListener("drop", async (event) => {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const files = [];
  for (const entry of entries) files.push(...await filesOf(entry));
  send(files);
});
