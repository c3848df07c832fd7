"use strict";
// The first minute: PPO without a leash, live. What the policy says is the largest thing; two judges stand below it, and
// one slider holds the policy back.

const rlhfCollapse = (() => {
  const { tr, letters, clip, liking, number, flag, pole, face, gauge, icon, polyline, twoTone } = rlhfParts;
  const ETAS = [0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 2];
  const HELD = 0.3,
    ITERATIONS = 100,
    FREE = 45,
    FALL = 12; // after so many iterations
  /** For an iteration, in ms: during the fall, somebody who speaks can say what happens. */
  const pauseOf = (iteration) => (iteration >= FALL && iteration < 20 ? 200 : 80);

  /** The acts: how each looks, its name, and the iteration where it begins. */
  const STAGES = [
    ["is-learning", tr("It learns"), 0],
    ["is-fallen", tr("It collapses"), FALL],
    ["is-held", tr('The leash<span class="wide"> brings it back</span>'), FREE],
  ];

  /** Faces are drawn once for each of these gold scores, and used 128 times. */
  const MOODS = [-2, -1, 0, 1, 2];

  const skeleton = (id) => `
    <ol class="stages" aria-label="${tr("What happens")}">${STAGES.map(([kind, text], k) => `<li class="${kind}"><button type="button"><b>${k + 1}</b><span>${text}</span></button></li>`).join("")}</ol>
    <p class="of"><span class="share"></span><span class="step"></span></p>
    <p class="voice big" aria-hidden="true"></p>
    <div class="judges"><figure class="by-model"></figure><figure class="by-readers"></figure></div>
    <svg width="0" height="0" aria-hidden="true"><defs>${MOODS.map((gold, k) => `<symbol id="${id}-${k}" viewBox="-1.08 -1.08 2.16 2.16">${face(gold)}</symbol>`).join("")}</defs></svg>
    <div class="scene"><div class="chart"></div><figure class="crowd"><div></div><figcaption>${tr('all 128 reviews<span class="more">, as readers see them</span>')}</figcaption></figure></div>
    <p class="why"></p>
    <div class="hold eta"><label for="${id}-eta"><i class="voice">η</i> ${tr("the leash")}</label>
      <input id="${id}-eta" type="range" min="0" max="${ETAS.length - 1}" value="0"><b></b></div>
    <p class="buttons"><button class="leash"></button> <button class="again">${tr("Start again, without a leash")}</button> <a class="onward" hidden>${tr("Now find the best leash →")}</a></p>
    <p class="heard" role="status"></p>`;

  /** Both curves by name: the reward model's at its end, the readers' above its maximum. Neither stands where a curve or
   *  the pole of a flag runs, if there is any other place near. */
  function names(records, x, y, { size, low, right, poles }) {
    const last = records.at(-1),
      most = records.reduce((best, record) => (record.gold > best.gold ? record : best)),
      taken = [];
    const curves = ["score", "gold"].flatMap((of) => records.map((r) => [x(r.iteration), y(r[of])]));
    const hits = ([left, at, long]) =>
      curves.filter(
        ([px, py]) => px > left - 6 && px < left + long + 6 && py > at - 1.1 * size && py < at + 0.5 * size,
      ).length +
      poles.filter((px) => px > left - 4 && px < left + long + 4).length +
      taken.filter(
        ([px, py, wide]) =>
          px < left + long + size && left < px + wide + size && Math.abs(py - at) < 1.2 * size,
      ).length *
        9;
    const name = (text, colour, px, py, away) => {
      const long = 0.56 * size * letters(text),
        at = (across, up) => [
          clip(px + across * long, 2.6 * size, right - long),
          clip(py + up * size, 1.1 * size, low - 0.4 * size),
          long,
        ];
      const found = away
        .flatMap((up) => [-0.5, 0, -1, 0.5, -1.5].map((across) => at(across, up)))
        .reduce((best, next) => (hits(next) < hits(best) ? next : best));
      taken.push(found);
      return `<text class="name halo" x="${found[0]}" y="${found[1]}" style="fill:var(--${colour});font-size:${size}px">${text}</text>`;
    };
    const above = [-0.9, -1.4, -2, -2.8, 2.1, 3],
      below = [2.1, 3, -0.9, -1.4];
    return (
      name(tr("careful readers"), liking(most.gold), x(most.iteration), y(most.gold), above) +
      name(
        tr("reward model"),
        "score",
        x(last.iteration),
        y(last.score),
        last.score < last.gold ? [...below, ...above] : above,
      )
    );
  }

  function chart(records, moves, width, large) {
    const height = Math.round(Math.min(Math.max(0.38 * width, 176), 0.34 * innerHeight, 420)),
      size = large ? Math.max(17, 0.026 * innerHeight) : innerWidth >= 1500 ? 17 : 13,
      left = large ? 60 : 34,
      right = 20,
      x = (k) => left + ((width - left - right) * k) / ITERATIONS;
    const low = height - 1.7 * size,
      top = 1.8 * size, // above, room for a name; below, for the flags
      y = (v) => top + ((2.2 - v) / 4.4) * (low - 1.9 * size - top),
      last = records.at(-1);
    const line = (name) => records.map((r) => [x(r.iteration), y(r[name])]);
    const ticks = [-2, 0, 2]
      .map(
        (v) =>
          `<text x="${left - 8}" y="${y(v) + 4}" text-anchor="end" style="font-size:${size}px">${number(v, 0)}</text>`,
      )
      .join("");
    const marks = (width > 37 * size ? [0, 25, 50, 75, 100] : [0, 25, 50, 100])
      .map(
        (k) =>
          `<text x="${x(k)}" y="${height - 4}" text-anchor="${k === 100 ? "end" : "middle"}" style="font-size:${size}px">${k === 100 ? tr("{k} iterations", { k }) : k}</text>`,
      )
      .join("");
    const flags = moves
      .map(([k, eta]) => pole(x(k), 0, low) + flag(x(k), low - 1.6 * size, `η → ${eta}`, size))
      .join("");
    const named = last
      ? names(records, x, y, { size, low, right: width - right, poles: moves.map(([k]) => x(k)) })
      : "";
    const ends = last
      ? `<circle cx="${x(last.iteration)}" cy="${y(last.score)}" r="${0.46 * size}" fill="var(--score)" stroke="var(--bg)" stroke-width="2"/>
      <g transform="translate(${x(last.iteration)} ${y(last.gold)}) scale(${0.85 * size})">${face(last.gold)}</g>`
      : "";
    const thick = 0.23 * size;
    const curves =
      records.length > 1
        ? polyline(line("score"), `stroke="var(--score)" stroke-width="${thick}"`) +
          twoTone(line("gold"), y(0), thick)
        : "";
    return `<svg width="${width}" height="${height}" role="img" aria-label="${tr("Both judges over {n} iterations", { n: ITERATIONS })}">
      <path d="M${left} ${y(0)}H${width - right}" stroke="var(--line)" stroke-width="1.5"/>${ticks}${marks}${flags}${curves}${ends}${named}</svg>`;
  }

  /** A face for every review of the last batch, the same ones together, so that sameness is seen. */
  function crowd(run, id, columns) {
    const { prompts } = run.engine.data,
      groups = new Map();
    for (const i of prompts.keys())
      for (const [times, text, gold] of run.reviews(i, run.config.batch_size))
        groups.set(`${gold} ${text}`, [(groups.get(`${gold} ${text}`)?.[0] ?? 0) + times, gold]);
    const faces = [...groups.values()]
      .sort(([a], [b]) => b - a)
      .flatMap(([times, gold], group) => Array(times).fill([gold, group]));
    const rows = run.config.batch_size / columns,
      mood = (gold) =>
        MOODS.reduce((best, x, k) => (Math.abs(x - gold) < Math.abs(MOODS[best] - gold) ? k : best), 0);
    return `<svg viewBox="0 0 ${columns} ${rows}" role="img" aria-label="${tr("{n} different reviews", { n: groups.size })}">${faces.map(([gold, group], n) => `<use href="#${id}-${mood(gold)}" x="${(n % columns) + 0.06}" y="${Math.floor(n / columns) + 0.06}" width=".88" height=".88"${group % 2 ? ' opacity=".55"' : ""}/>`).join("")}</svg>`;
  }

  function why(record, held, over) {
    if (!record || record.iteration < 4)
      return tr("PPO trains a small GPT-2 in this page, now. The reward model pays for what it writes.");
    if (!held && record.gold < 0)
      return over
        ? tr(
            "Nothing held it: it found a sentence that the reward model has never seen, and loves. A penalty for going far, the leash η, can bring it back.",
          )
        : tr("Nothing held it: it found a sentence that the reward model has never seen, and loves.");
    if (held && record.gold < 0)
      return tr(
        "The penalty η·KL grows with the distance from where training began. It pulls the policy back.",
      );
    return held
      ? tr(
          "On the leash it stays near what people write, where judge and readers agree. That is why RLHF has a leash.",
        )
      : tr("It learns: the judge and the readers like it more and more.");
  }

  const judge = (shapes, value, name, colour) =>
    `${icon(shapes, 46)}<b style="color:var(--${colour})">${number(value, 2, true)}${value === value ? `<small class="wide">${tr("mean score")}</small>` : ""}</b><figcaption>${name}</figcaption>`;

  /** How far the story has come: 0 it learns, 1 it has collapsed, 2 the leash pulls, 3 it is back. */
  function stage(records, held) {
    if (!records.some((record) => record.gold < -1)) return 0;
    return held ? (records.at(-1).gold > 0 ? 3 : 2) : 1;
  }

  /** `waits`: only a picture of what comes, as long as there is no engine. */
  function mount(root, run, { onward, waits } = {}) {
    const id = `rlhf-${Math.random().toString(36).slice(2, 9)}`,
      find = (selector) => root.querySelector(selector);
    root.classList.add("rlhf-front", "rlhf-collapse");
    root.innerHTML = skeleton(id);
    const slider = find("input"),
      still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (onward) find(".onward").href = onward;
    let records = [],
      moves = [],
      until = FREE,
      frame = 0,
      due = 0, // when the next iteration comes, in ms
      hurry = 0, // up to this iteration, without a pause
      rescue = false, // whether the leash is put on by itself when nothing has held it for long enough
      paused = false,
      trouble = "";

    function draw() {
      const record = records.at(-1),
        said = record ? run.batch()[0] : null,
        held = run.config.eta > 0;
      const at = stage(records, held),
        over = !frame && !paused;
      root.querySelectorAll(".stages button").forEach((button, k) => {
        button.classList.toggle("is-past", Boolean(record) && k <= at);
        if (record && k === Math.min(at, 2)) button.setAttribute("aria-current", "step");
        else button.removeAttribute("aria-current");
      });
      find(".share").innerHTML = said
        ? tr('<span class="wide">The language model: </span><b>{n}</b> of {all} reviews say', { n: said.count, all: run.config.batch_size })
        : "";
      find(".step").textContent = tr("iteration {k}", { k: run.iteration });
      find(".big").textContent = said ? `“${said.text}”` : "“ … ”";
      find(".big").style.setProperty("--letters", said ? said.text.length : 8);
      const { score, gold } = record ?? { score: NaN, gold: NaN }; // nothing has been written yet
      find(".by-model").innerHTML = judge(
        gauge(score || 0),
        score,
        tr('<span class="wide">the judge: a </span>reward model'),
        "score",
      );
      find(".by-readers").innerHTML = judge(face(gold || 0), gold, tr("careful readers"), liking(gold));
      find(".by-readers").classList.toggle("is-bad", record?.gold < -1);
      find(".crowd div").innerHTML = crowd(run, id, innerWidth > 560 ? 16 : 32);
      find(".chart").innerHTML = chart(records, moves, find(".chart").clientWidth, large());
      find(".why").textContent = trouble || why(record, held, over);
      const k = ETAS.indexOf(run.config.eta);
      slider.value = k;
      slider.style.setProperty("--at", `${(100 * k) / (ETAS.length - 1)}%`);
      slider.setAttribute("aria-valuetext", String(run.config.eta));
      find(".hold b").textContent = run.config.eta;
      const begun = Boolean(record || frame);
      find(".leash").textContent = held ? tr("Let it go") : tr("Put it on a leash");
      find(".leash").hidden = !begun;
      find(".again").innerHTML = !begun
        ? tr("Start")
        : frame
          ? tr("Pause")
          : paused
            ? tr("Go on")
            : `<span>${tr('Start again<span class="wide">, without a leash</span>')}</span>`;
      find(".leash").className = `leash ${at < 3 ? "first" : ""} ${over && at === 1 ? "next" : ""}`;
      find(".again").className = `again ${begun ? "" : "first next"}`;
      find(".onward").hidden = !onward || !(over && at === 3);
      root.state = { iteration: run.iteration, eta: run.config.eta, records, said: said?.text };
    }

    function play(now) {
      const comes = now >= due;
      if (comes) {
        if (rescue && run.iteration === FREE) hold(HELD);
        due = run.iteration < hurry ? now : now + pauseOf(run.iteration);
        const record = run.step();
        if (record) records.push(record);
        else
          trouble = tr(
            "A number became too large in this iteration, so the run stopped before it. Start again.",
          );
      }
      const goes = !trouble && run.iteration < until && root.isConnected;
      frame = goes ? requestAnimationFrame(play) : 0;
      if (comes || !goes) draw();
      if (!goes) tell();
    }
    const tell = () => {
      find(".heard").textContent = tr("After {k} iterations: {share} {said}. {why}", {
        k: run.iteration,
        share: find(".share").textContent,
        said: find(".big").textContent,
        why: find(".why").textContent,
      });
    };
    const go = (iterations) => {
      until = Math.min(iterations, ITERATIONS);
      paused = false;
      frame ||= requestAnimationFrame(play);
    };
    const halt = () => {
      cancelAnimationFrame(frame);
      frame = 0;
    };
    /** The second button, and the space bar: start, pause, go on, start again. */
    function next() {
      if (frame) {
        halt();
        paused = true;
        tell();
      } else if (paused) go(until);
      else return again(0);
      draw();
    }

    function hold(eta) {
      if (eta === run.config.eta) return;
      [hurry, rescue] = [0, false];
      run.config.eta = eta;
      if (run.iteration) moves = [...moves.filter(([k]) => k !== run.iteration), [run.iteration, eta]];
      if (run.iteration >= ITERATIONS) again(eta);
      else go(ITERATIONS);
      draw();
    }
    function reset(eta) {
      run.config.eta = eta;
      run.start();
      [records, moves, due, trouble, paused, hurry, rescue] = [[], [], 0, "", false, 0, false];
    }
    function again(eta) {
      reset(eta);
      go(eta ? ITERATIONS : FREE);
      draw();
    }
    /** Play an act from where it begins. What comes before it happens too, only faster. */
    function act(k) {
      reset(0);
      [hurry, rescue] = [STAGES[k][2], k === 2];
      go(rescue ? ITERATIONS : FREE);
      draw();
    }
    const large = () => Boolean(document.fullscreenElement?.contains(root));
    /** On a wall it waits for Start, unless a hand has already paused or steered it. */
    function enlarged() {
      if (large()) {
        if (!paused && !moves.length && !run.config.eta) {
          halt();
          reset(0);
        }
        find(".again").focus(); // so that the space bar presses it
      }
      draw();
    }
    function typed(event) {
      const free = !event.target.closest?.("button, a");
      if (event.key !== " " || !free || !(large() || root.contains(event.target))) return;
      event.preventDefault(); // else the page scrolls
      next();
    }

    slider.addEventListener("input", () => hold(ETAS[slider.value]));
    find(".leash").addEventListener("click", () => hold(run.config.eta > 0 ? 0 : HELD));
    find(".again").addEventListener("click", next);
    root.querySelectorAll(".stages button").forEach((button, k) =>
      button.addEventListener("click", ({ detail }) => {
        act(k);
        if (detail) find(".again").focus(); // after a mouse, the space bar pauses what it began
      }),
    );
    root.tabIndex = -1; // a click into it gives it the space bar
    document.addEventListener("keydown", typed);
    document.addEventListener("fullscreenchange", enlarged);
    const resized = new ResizeObserver(draw);
    resized.observe(root);
    if (!still && !waits) go(FREE);
    draw();
    return () => {
      halt();
      resized.disconnect();
      document.removeEventListener("keydown", typed);
      document.removeEventListener("fullscreenchange", enlarged);
    };
  }

  /** The card at iteration 0, drawn before anything large has been read: what comes later has the same size. */
  function preview(element) {
    const root = document.createElement("div"),
      nobody = { iteration: 0, config: { eta: 0, batch_size: 128 }, engine: { data: { prompts: [] } } };
    element.prepend(root);
    root.inert = true;
    element.off = mount(root, nobody, { waits: true });
  }
  document.querySelectorAll('.rlhf-live[data-kind="collapse"]').forEach(preview);

  return { mount };
})();
