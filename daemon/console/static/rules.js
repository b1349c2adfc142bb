// Tries rules with files, and asks for `porta check`. All text goes in as text.
"use strict";
const csrf = document.querySelector("meta[name=csrf]").content;
const post = async (path, body) => {
  const answer = await fetch(path, { method: "POST", headers: { "X-CSRF-Token": csrf }, body });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail);
  return said;
};
const trial = document.getElementById("trial"), verdicts = document.getElementById("verdicts");
const line = (text) => { const p = document.createElement("p"); p.textContent = text; return p; };
async function test(files) {
  verdicts.replaceChildren(line("Asking"));
  const lines = [], seen = new Set();
  for (const file of files) {
    try {
      const said = await post("/api/v1/rules/test", file);
      for (const item of said.trials) {
        if (seen.has(item.series_instance_uid)) continue;
        seen.add(item.series_instance_uid);
        lines.push(line(`Series ${item.series_instance_uid}: ${item.rule || "no rule"}`));
        for (const [rule, why] of Object.entries(item.others)) lines.push(line(`not ${rule}: ${why}`));
      }
      if (said.unreadable) lines.push(line(`${said.unreadable} files cannot be read`));
    } catch (error) { lines.push(line(error.message)); }
  }
  verdicts.replaceChildren(...(lines.length ? lines : [line("No file")]));
}
if (trial) {
  trial.addEventListener("submit", (event) => { event.preventDefault(); test([...trial.elements.files.files]); });
  for (const name of ["dragover", "dragleave", "drop"]) trial.addEventListener(name, (event) => { event.preventDefault(); trial.classList.toggle("over", name === "dragover"); });
  trial.addEventListener("drop", (event) => test([...event.dataTransfer.files]));
}
const check = document.getElementById("check"), checks = document.getElementById("checks");
if (check) check.addEventListener("submit", async (event) => {
  event.preventDefault();
  const item = (text) => { const li = document.createElement("li"); li.textContent = text; return li; };
  checks.replaceChildren(item("Asking each peer"));
  try {
    const said = await post("/api/v1/check");
    checks.replaceChildren(...said.map((each) => { const li = item(`${each.result} ${each.name}: ${each.said}` + (each.remedy ? `: ${each.remedy}` : "")); li.className = each.result; return li; }));
  } catch (error) { checks.replaceChildren(item(error.message)); }
});
