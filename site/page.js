"use strict";
// A page of the site brought to life. Explorer and cockpit are the notebooks' own (rlhf_lab/ui/front); behind them stands
// the engine instead of a kernel. What a reader guesses stays in the reader's browser.

const rlhfPage = (() => {
  const { escaped, tr } = rlhfParts;
  const TOO_OLD = tr(
    "To move this, open the page in a browser of 2023 or later (it needs WebAssembly with SIMD). The picture below shows one place.",
  );

  /** A host as the front end wants it: settings in the element, numbers from the engine. See explorer.js. */
  function explorerHost(engine, start) {
    const { explorer, charts } = engine.data,
      listeners = {};
    const settings = { prompt: "food", score: "reward model", eta: 0.3, beta: 0, ...start };
    return {
      constants: explorer,
      get: (name) => settings[name],
      set(name, value) {
        settings[name] = value;
        for (const heard of listeners[name] ?? []) heard();
      },
      on(name, callback) {
        (listeners[name] ??= new Set()).add(callback);
        return () => listeners[name].delete(callback);
      },
      async world(prompt, score) {
        const { ref, scores, golds } = engine.tables(engine.data.prompts.indexOf(prompt));
        return { tables: { ref, score: scores, gold: golds }, still: charts[prompt][score] };
      },
      solve({ prompt, score, eta, beta }, reference) {
        const { rows } = rlhfOptimum,
          s = engine.optimum(
            engine.data.prompts.indexOf(prompt),
            score === "gold",
            eta,
            beta,
            rows,
            explorer.draws,
          );
        for (const one of s.said) one.compared = one.ref;
        return { eta, beta, ...s, kind: rlhfOptimum.kind(s, reference) };
      },
      links: links(),
      trouble: () => () => {},
    };
  }

  /** Where PPO is trained; a page that is alone, outside the site, has no such places. */
  function links() {
    const root = document.documentElement.dataset.content_root;
    if (root === undefined) return {};
    return { ppo: `${root}notebooks/09_the_ppo_loop.html`, cockpit: `${root}notebooks/cockpit.html` };
  }

  const KINDS = {
    explorer: (root, engine, start) => rlhfExplorer.mount(root, explorerHost(engine, start)),
    cockpit: (root, engine, start) => rlhfCockpit.mount(root, rlhfRun.host(engine, start)),
    collapse: (root, engine, start) =>
      rlhfCollapse.mount(root, new rlhfEngine.Run(engine, { seed: 3 }), start),
  };

  /** The settings that an element names in its data-… attributes. */
  function settingsOf(element) {
    const { kind, ...rest } = element.dataset;
    return Object.fromEntries(
      Object.entries(rest).map(([name, value]) => [
        name,
        value !== "" && Number.isFinite(+value) ? +value : value,
      ]),
    );
  }

  const turnFull = (element) =>
    document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen();

  /** For projectors: a button that gives an element the whole screen, and back. */
  function fullScreen(element) {
    const button = document.createElement("button");
    button.className = "full";
    button.type = "button";
    button.setAttribute("aria-keyshortcuts", "F");
    const name = () => {
      const leaves = document.fullscreenElement === element;
      button.innerHTML = `<span>${leaves ? tr("⤡ Leave full screen") : tr("⤢ Full screen")}</span><kbd aria-hidden="true">F</kbd>`;
    };
    button.addEventListener("click", () => turnFull(element));
    element.addEventListener("fullscreenchange", name);
    name();
    return button;
  }

  /** F does it too, for the live part that has the keyboard, else for the first one in sight; not while somebody types. */
  function pressed(event) {
    const types = event.target.closest?.('textarea, select, [contenteditable], input:not([type="range"])'),
      held = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
    if (event.key.toLowerCase() !== "f" || types || held) return;
    const seen = (element) => {
      const { top, bottom } = element.getBoundingClientRect();
      return top < 0.7 * innerHeight && bottom > 0.3 * innerHeight;
    };
    const parts = [...document.querySelectorAll(".rlhf-live:has(> .full)")],
      chosen = parts.find((element) => element.contains(event.target)) ?? parts.find(seen);
    if (!chosen) return;
    event.preventDefault();
    turnFull(chosen);
  }

  /** Bring an element to life. Until then, and where that fails, it shows the picture that is in it. */
  async function enliven(element) {
    const make = KINDS[element.dataset.kind],
      says = document.createElement("p");
    if (!make) return;
    says.className = "says";
    says.setAttribute("role", "status");
    element.prepend(says);
    const progress = (prompt, reviews) => {
      const n = reviews.toLocaleString("en");
      says.textContent = tr("Reading all {n} reviews of the {prompt}, once …", { n, prompt });
      return new Promise((next) => setTimeout(next));
    };
    try {
      const engine = await rlhfEngine.open(progress),
        root = document.createElement("div");
      element.off?.();
      element.replaceChildren(root);
      element.live = make(root, engine, settingsOf(element));
      if (document.fullscreenEnabled) element.append(fullScreen(element));
    } catch (error) {
      element.off?.();
      element.querySelector(".rlhf-collapse")?.remove();
      element.classList.add("failed");
      const old = error instanceof WebAssembly.CompileError || typeof DecompressionStream === "undefined";
      says.textContent = old
        ? TOO_OLD
        : tr("This cannot be moved here: {error}. The picture below shows one place.", {
            error: error.message,
          });
    }
  }

  // --- guesses: first the reader's, then the answer -------------------------------------------------------------------
  const place = (question) => `rlhf_lab guess: ${question}`;
  function kept(question) {
    try {
      return localStorage.getItem(place(question));
    } catch {
      return null;
    } // some browsers refuse this to files
  }
  function keep(question, guess) {
    try {
      localStorage.setItem(place(question), guess);
    } catch {
      /* then it lasts as long as the page */
    }
  }

  function answersTo(question) {
    return [...document.querySelectorAll(".rlhf-answer")].filter(
      (answer) => answer.dataset.question === question,
    );
  }

  /** What stands between a question and its answer waits for the guess, too: it would give the answer away. */
  function between(box, answers) {
    const after = (a, b) => Boolean(a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING);
    return [...document.querySelectorAll(".cell_output")].filter(
      (output) =>
        after(box, output) &&
        answers.some((answer) => after(output, answer)) &&
        !output.querySelector(".rlhf-guess, .rlhf-answer"),
    );
  }
  const wait = (element, by) => {
    element.dataset.waits = Number(element.dataset.waits ?? 0) + by;
  };

  function reveal(question, guess) {
    for (const answer of answersTo(question)) {
      if (guess === null || answer.querySelector(".yours")) continue;
      answer.insertAdjacentHTML(
        "beforeend",
        `<p class="yours">${tr("You guessed <b>{guess}</b>.", { guess: escaped(guess) })}</p>`,
      );
    }
  }

  function askFor(box) {
    const { question, low, high } = box.dataset,
      answers = answersTo(question),
      guess = kept(question);
    if (!answers.length) return;
    const name = `guess-${Math.random().toString(36).slice(2)}`;
    const field =
      low === undefined
        ? `<ul>${[...box.querySelectorAll("li")].map((li) => `<li><label><input type="radio" name="${name}" value="${escaped(li.textContent)}"> ${li.innerHTML}</label></li>`).join("")}</ul>`
        : `<label>${tr("a number from {low} to {high}", { low: escaped(low), high: escaped(high) })} <input type="text" inputmode="decimal" size="8" name="${name}"></label> `;
    box.querySelector("ul").outerHTML =
      `<form>${field}<button>${tr("Commit")}</button> <button type="button" class="skip">${tr("Show the answer without a guess")}</button><p class="says" role="status"></p></form>`;
    const form = box.querySelector("form"),
      says = form.querySelector(".says");
    const waiting = [...between(box, answers), ...answers];
    for (const element of waiting) wait(element, 1);
    const done = (said) => {
      for (const element of waiting) wait(element, -1);
      for (const control of form.elements) control.disabled = true;
      says.textContent =
        said === null
          ? tr("The answer stands below.")
          : tr("You guessed {said}. The answer stands below.", { said });
      reveal(question, said);
    };
    if (guess !== null) return done(guess);
    form.querySelector(".skip").addEventListener("click", () => done(null));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = new FormData(form).get(name)?.trim() ?? "",
        number = Number(given.replace(",", ".") || NaN);
      if (low === undefined && !given) says.textContent = tr("Choose one of the answers first.");
      else if (low !== undefined && !(number >= Number(low) && number <= Number(high)))
        says.textContent = tr("Give a number from {low} to {high}.", { low, high });
      else {
        keep(question, given);
        done(given);
      }
    });
  }

  function start() {
    document.querySelectorAll(".rlhf-guess").forEach(askFor);
    document.addEventListener("keydown", pressed);
    const near = new IntersectionObserver(
      (entries) => {
        for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
          near.unobserve(target);
          enliven(target);
        }
      },
      { rootMargin: "400px" },
    );
    document.querySelectorAll(".rlhf-live").forEach((element) => near.observe(element));
  }

  start();
  return { explorerHost };
})();
