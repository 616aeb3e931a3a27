// Makes the page quicker; everything works without it. Search as one types, and keys:
// "/" goes to the search, "j" and "k" to the next and the previous row, Enter opens it (as of any link).
"use strict";

(() => {
  const REPEATING = ["form.moment", ".was", "footer"];
  const PAUSE = 200; // milliseconds without a key before the question is sent
  const search = document.querySelector("form.search");
  const field = search && search.querySelector("input[type=search]");
  let timer = 0;
  let asked = null;

  const address = () => {
    const words = new URLSearchParams(new FormData(search));
    if (!words.get("q")) words.delete("q");
    const text = words.toString();
    return location.pathname + (text ? "?" + text : "");
  };

  // Takes the marked part of the answer, and the parts whose links and fields repeat the question.
  const show = (html, url) => {
    const answer = new DOMParser().parseFromString(html, "text/html");
    const fresh = answer.querySelector("[data-live]");
    const old = document.querySelector("[data-live]");
    if (!fresh || !old) return location.assign(url);
    const open = [...old.querySelectorAll("details")].map((each) => each.open);
    old.replaceWith(fresh);
    fresh.querySelectorAll("details").forEach((each, number) => { each.open = open[number] || false; });
    for (const part of REPEATING) {
      const before = document.querySelector(part);
      const after = answer.querySelector(part);
      if (before && after) before.replaceWith(after);
    }
    history.replaceState(null, "", url);
  };

  const ask = async () => {
    if (asked) asked.abort();
    asked = new AbortController();
    const url = address();
    try {
      const reply = await fetch(url, { signal: asked.signal, credentials: "same-origin" });
      const html = await reply.text();
      if (reply.ok && !reply.redirected) show(html, url);
      else location.assign(url); // the page says what is wrong, or the proxy asks to log in again
    } catch (error) {
      if (error.name !== "AbortError") location.assign(url);
    }
  };

  if (field) {
    field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(ask, PAUSE);
    });
    search.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(timer);
      ask();
    });
  }

  const rows = () => [...document.querySelectorAll("table.rows tbody th a")];
  const step = (by) => {
    const links = rows();
    const here = links.indexOf(document.activeElement);
    const next = here < 0 ? (by > 0 ? 0 : links.length - 1) : here + by;
    if (links[next]) links[next].focus();
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === field) return field.blur();
    if (typing) return;
    if (event.key === "/" && field) {
      event.preventDefault();
      field.focus();
      field.select();
    } else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });
})();
