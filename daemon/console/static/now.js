// Keeps the page Now up to date by server-sent events. All text goes in as text.
"use strict";
const link = document.getElementById("link");
const source = new EventSource("/api/v1/live");
const make = (tag, className, text) => { const e = document.createElement(tag); if (className) e.className = className; if (text !== undefined) e.textContent = text; return e; };
const fact = (name, text) => { document.querySelector(`[data-fact=${name}]`).textContent = text; };
source.addEventListener("now", (event) => {
  const now = JSON.parse(event.data);
  fact("service", now.service.running ? "runs" : "does not run");
  fact("queue", now.queue.length);
  fact("halted", now.halted);
  fact("disk", `${now.disk.free_mb} MB free` + (now.disk.days_left === null ? "" : `, ${now.disk.days_left} days left`));
  document.getElementById("working").replaceChildren(...(now.working.length ? now.working.map((item) => {
    const li = make("li", "card"), a = make("a", "", `Job ${item.job}`);
    a.href = `/studies/${item.study_instance_uid}`;
    li.append(a, `: ${item.stage}, ${Math.round(item.seconds)} s `);
    if (item.progress !== null) { const bar = make("progress"); bar.max = 1; bar.value = item.progress; bar.setAttribute("aria-label", `Progress of job ${item.job}`); li.append(bar); }
    return li;
  }) : [make("li", "", "Nothing.")]));
  document.getElementById("lights").replaceChildren(...now.destinations.map((item) => {
    const li = make("li", "card light"), lamp = make("span", `lamp ${item.light}`), words = make("div");
    lamp.setAttribute("aria-hidden", "true");
    let more = `${item.waiting} waiting, ${item.failed} failed`;
    if (item.last_status) more += `, last status ${item.last_status}`;
    if (item.next_at) more += `, next try ${item.next_at}`;
    if (item.last_success_at) more += `, last success ${item.last_success_at}`;
    words.append(make("strong", "", item.destination), ` ${item.words}`, make("br"), make("span", "hint", more));
    li.append(lamp, words);
    return li;
  }));
  document.getElementById("states").textContent = Object.entries(now.states).map(([state, count]) => `${state} ${count}`).join(", ");
  link.textContent = `Live, as of ${now.at}`;
});
source.onerror = () => { link.textContent = "Not connected: asking again"; };
