// Keeps a page up to date and lets episodes be labelled by keyboard. Every page can be used without it.
"use strict";

const live = () => document.querySelectorAll("[data-live]");
let pending = null;

// Take the live parts of this page anew from the server; what somebody is about to use is left alone.
async function renew(only) {
  const parts = only ? [only] : [...live()];
  if (!parts.length || document.hidden) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.redirected && new URL(answer.url).pathname === "/login") {
    location.assign(answer.url);
    return;
  }
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (fresh.querySelector("[data-done]") && !document.querySelector("[data-done]")) return location.reload();
  for (const part of parts) {
    const next = fresh.getElementById(part.id);
    if (!next || part.contains(document.activeElement)) continue;
    if (part.innerHTML !== next.innerHTML) part.replaceChildren(...next.childNodes);
  }
}

function renewSoon() {
  clearTimeout(pending);
  pending = setTimeout(() => renew().catch(() => {}), 400);
}

function showProgress(told) {
  const run = document.querySelector(
    `[data-iteration="${told.iteration}"] [data-run="${CSS.escape(`${told.phase}-${told.attempt}`)}"]`,
  );
  if (!run) return renewSoon();
  run.querySelector("progress").value = told.progress;
  run.querySelector("[data-share]").textContent = `${Math.round(100 * told.progress)} %`;
  run.querySelector("[data-says]").textContent = told.text;
}

function listen() {
  if (!live().length) return;
  let source = null;
  const open = () => {
    source = new EventSource("/v1/events/stream");
    source.addEventListener("progress", (event) => showProgress(JSON.parse(event.data)));
    for (const name of (document.body.dataset.kinds || "").split(" ").filter(Boolean)) {
      source.addEventListener(name, (event) => {
        const line = document.getElementById("live");
        if (line) line.textContent = JSON.parse(event.data).text;
        renewSoon();
      });
    }
  };
  const close = () => source && source.close();
  document.addEventListener("visibilitychange", () => {
    close();
    if (!document.hidden) {
      open();
      renewSoon();
    }
  });
  open();
  for (const part of document.querySelectorAll("[data-every]")) {
    setInterval(() => renew(part).catch(() => {}), 1000 * Number(part.dataset.every));
  }
}

// s, f, u, n: the button or link that says so; w: the field to write in. Not while somebody types: Escape ends that.
function labelByKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, textarea, select, [contenteditable]");
  if (field) {
    if (event.key === "Escape" && "key" in field.dataset) field.blur();
    return;
  }
  const named = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!named) return;
  event.preventDefault();
  if (named.matches("input")) named.focus();
  else named.click();
}

// The line in the curves stands where the film is; a click on a curve takes the film there.
function followFilm(film) {
  const around = film.closest("[data-film]") || document;
  const cursors = around.querySelectorAll("svg [data-cursor]");
  const share = () => (film.duration ? film.currentTime / film.duration : 0);
  const show = () => {
    for (const line of cursors) {
      const at = Number(line.dataset.from) + share() * (Number(line.dataset.to) - Number(line.dataset.from));
      line.setAttribute("x1", at);
      line.setAttribute("x2", at);
    }
    const step = around.querySelector("[data-step]");
    if (step) step.textContent = `step ${Math.round(share() * Number(film.dataset.steps))} of ${film.dataset.steps}`;
  };
  film.addEventListener("timeupdate", show);
  film.addEventListener("seeked", show);
  for (const line of cursors) {
    const chart = line.ownerSVGElement;
    chart.addEventListener("click", (event) => {
      const box = chart.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      const [from, to] = [Number(line.dataset.from), Number(line.dataset.to)];
      if (film.duration) film.currentTime = Math.min(1, Math.max(0, (x - from) / (to - from))) * film.duration;
    });
  }
}

// Cameras, about twice a second while this page is seen. What is shown always says how old it is.
function watchCameras() {
  const cameras = document.querySelector("[data-cameras]");
  const figures = cameras ? [...cameras.querySelectorAll("[data-camera]")] : [];
  if (!figures.length) return;
  let answeredAt = performance.now();
  let asking = false;

  const say = (figure, state, text) => {
    figure.className = `camera ${state}`;
    figure.querySelector("[data-says]").textContent = text;
  };
  const show = async (figure, told) => {
    const shown = figure.querySelector("img");
    if (told.picture && shown?.getAttribute("src") !== told.picture) {
      const next = new Image();
      next.alt = figure.dataset.alt;
      next.src = told.picture;
      await next.decode();
      if (shown) shown.replaceWith(next);
      else figure.prepend(next);
    }
    if (!told.picture && shown) shown.remove();
    say(figure, told.state, told.says);
  };
  const mark = (text) => figures.forEach((figure) => figure.querySelector("img") && say(figure, "old", text));
  const ask = async () => {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch(cameras.dataset.cameras, { signal: AbortSignal.timeout(3000) });
      if (!answer.ok) throw new Error(answer.statusText);
      const { items } = await answer.json();
      await Promise.all(figures.map((figure) => show(figure, items[Number(figure.dataset.camera)])));
      answeredAt = performance.now();
    } catch {
      // `look` says so once it lasts
    } finally {
      asking = false;
    }
  };
  const look = () => {
    if (document.hidden) return;
    const silent = Math.round((performance.now() - answeredAt) / 1000);
    if (silent >= 2) mark(`Not live: nothing newer came from the daemon for ${silent} s.`);
    ask();
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) mark("Not live: nothing is fetched while this page is hidden.");
    else look();
  });
  setInterval(look, 500);
  look();
}

document.addEventListener("keydown", labelByKey);
listen();
watchCameras();
document.querySelectorAll("video[data-steps]").forEach(followFilm);
