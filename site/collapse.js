"use strict";
// The first minute: PPO without a leash, live. What the policy says is the largest thing; two judges stand below it, and
// one slider holds the policy back.

const rlhfCollapse = (() => {
  const { tr, letters, liking, number, flag, pole, face, gauge, icon, polyline, twoTone } = rlhfParts;
  const ETAS = [0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 2];
  const HELD = 0.3,
    ITERATIONS = 100,
    FREE = 45,
    PEAK = 13; // readers like it best after so many iterations

  /** How long an iteration stays, in ms: long enough to read the headline before the fall, and to say what happens
   *  during it. The first batch is π_SFT's own, so it is what the model says before training. */
  function stay(iteration) {
    if (iteration === 1) return Math.min(Math.max(2400 - performance.now(), 1300), 2000);
    if (iteration < PEAK) return 530;
    if (iteration === PEAK) return 1500;
    return iteration < 20 ? 600 : iteration < 30 ? 200 : 90;
  }

  /** The acts: how each looks, its name, and the iteration where it begins. */
  const STAGES = [
    ["is-learning", tr("It learns"), 0],
    ["is-fallen", tr("It collapses"), PEAK],
    ["is-held", tr('The leash<span class="wide"> brings it back</span>'), FREE],
  ];

  /** Faces are drawn once for each of these gold scores, and used 128 times. */
  const MOODS = [-2, -1, 0, 1, 2];

  const skeleton = (id) => `
    <ol class="stages" aria-label="${tr("What happens")}">${STAGES.map(([kind, text], k) => `<li class="${kind}"><button type="button"><b>${k + 1}</b><span>${text}</span></button></li>`).join("")}</ol>
    <p class="of"><span class="share"></span><span class="step"></span></p>
    <p class="voice big" aria-hidden="true"></p>
    <p class="once"></p>
    <div class="judges"><figure class="by-model"></figure><figure class="by-readers"></figure></div>
    <svg width="0" height="0" aria-hidden="true"><defs>${MOODS.map((gold, k) => `<symbol id="${id}-${k}" viewBox="-1.08 -1.08 2.16 2.16">${face(gold)}</symbol>`).join("")}</defs></svg>
    <div class="scene"><div class="chart"></div><figure class="crowd"><div></div><figcaption>${tr('all 128 reviews<span class="more">, as readers see them</span>')}</figcaption></figure></div>
    <p class="why"></p>
    <div class="hold eta"><label for="${id}-eta"><i class="voice">η</i> ${tr("the leash")}</label>
      <input id="${id}-eta" type="range" min="0" max="${ETAS.length - 1}" value="0"><b></b></div>
    <p class="buttons"><a class="onward" hidden>${tr("Now find the best leash →")}</a> <button class="leash"></button> <button class="again">${tr("Start again, without a leash")}</button></p>
    <p class="heard" role="status"></p>`;

  /** Where both curves have come to: a dot for the reward model, a face for the readers, and their names beside them. The
   *  face makes way for the dot; names begin once there is a curve to be named, and never cross each other. */
  function ends({ score, gold, iteration }, x, y, { size, right }) {
    const [dot, round] = [0.46 * size, 0.85 * size],
      at = x(iteration),
      [up, down] = [y(score), y(gold)],
      beside = Math.abs(up - down) < dot + round ? dot + round + 2 : 0;
    const marks = `<circle cx="${at}" cy="${up}" r="${dot}" fill="var(--score)" stroke="var(--bg)" stroke-width="2"/>
      <g transform="translate(${at + beside} ${down}) scale(${round})">${face(gold)}</g>`;
    if (iteration < 6) return marks;
    const curves = [
      { text: tr("reward model"), colour: "score", level: up, reach: beside ? beside + round : dot },
      { text: tr("careful readers"), colour: liking(gold), level: down, reach: beside + round },
    ].sort((a, b) => a.level - b.level);
    const long = Math.max(...curves.map(({ text }) => 0.56 * size * letters(text))),
      name = ({ text, colour }, left, low, anchor) =>
        `<text class="name halo" x="${left}" y="${low}" text-anchor="${anchor}" style="fill:var(--${colour});font-size:${size}px">${text}</text>`;
    if (at + beside + round + 8 + long > right) {
      // no room beside them: below, or above what is low; both below the lower one where no name fits between them
      const close = curves[1].level - curves[0].level < 3.6 * size,
        first = curves[close ? 1 : 0].level + 1.9 * size,
        second = Math.max(curves[1].level + 1.9 * size, first + 1.25 * size),
        fits = close || second < y(-1.6);
      return `${marks}${name(curves[0], right, first, "end")}${name(curves[1], right, fits ? second : curves[1].level - 1.3 * size, "end")}`;
    }
    const apart = Math.max(0, 1.2 * size - (curves[1].level - curves[0].level)) / 2;
    return (
      marks +
      curves
        .map((one, k) =>
          name(one, at + one.reach + 8, one.level + (k ? apart : -apart) + 0.34 * size, "start"),
        )
        .join("")
    );
  }

  function chart(records, moves, width, large) {
    const narrow = innerWidth <= 560,
      height = narrow ? 126 : Math.round(Math.min(Math.max(0.38 * width, 176), 0.34 * innerHeight, 420)),
      size = large ? Math.max(17, 0.026 * innerHeight) : innerWidth >= 1500 ? 17 : 13,
      left = large ? 60 : 34,
      right = narrow ? 28 : 3.4 * size, // room for the face beside the dot
      x = (k) => left + ((width - left - right) * k) / ITERATIONS;
    const low = height - 2.4 * size, // below, room for the iterations
      floor = low - 1.7 * size, // and for the flags, also before there are any: the axis stays
      y = (v) => 4 + ((2.6 - v) / 5) * (floor - 4),
      last = records.at(-1);
    const line = (name) => records.map((r) => [x(r.iteration), y(r[name])]);
    const text = (px, py, anchor, words) =>
      `<text x="${px}" y="${py}" text-anchor="${anchor}" style="font-size:${size}px">${words}</text>`;
    const ticks = [-2, 0, 2].map((v) => text(left - 8, y(v) + 0.34 * size, "end", number(v, 0)));
    const marks = [0, 25, 50, 75, 100].map((k) => text(x(k), low + 1.1 * size, "middle", k));
    const axis = text(width, height - 2, "end", tr("iterations"));
    const flags = moves
      .map(([k, eta]) => pole(x(k), 0, low) + flag(x(k), low - 1.6 * size, `η → ${eta}`, size))
      .join("");
    const thick = 0.23 * size;
    const curves =
      records.length > 1
        ? polyline(line("score"), `stroke="var(--score)" stroke-width="${thick}"`) +
          twoTone(line("gold"), y(0), thick)
        : "";
    return `<svg width="${width}" height="${height}" role="img" aria-label="${tr("Both judges over {n} iterations", { n: ITERATIONS })}">
      <path d="M${left} ${y(0)}H${x(ITERATIONS)}" stroke="var(--line)" stroke-width="1.5"/>${ticks.join("")}${marks.join("")}${axis}${flags}${curves}${last ? ends(last, x, y, { size, right: width }) : ""}</svg>`;
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

  /** How often π_SFT says a review, of both prompts alike: what the page's tables hold. */
  function before(engine, index) {
    const { prompts } = engine.data;
    return prompts.reduce((sum, _, i) => sum + Math.exp(engine.tables(i).ref[index]), 0) / prompts.length;
  }

  /** One in how many, with two digits. */
  const oneIn = (p) => Number((1 / p).toPrecision(2)).toLocaleString("en-US");

  /** What has become of the sentence, in one line: how rare it was, or that there are many again. */
  function once(run, records, said, at) {
    const { gold, distinct } = records.at(-1),
      fallen = records.findLast((r) => r.gold < -1 && r.eta === 0)?.distinct,
      now = { count: said.count, all: run.config.batch_size };
    if (at === 3)
      return distinct > fallen
        ? tr('Varied again: <b>{n}</b> different reviews.<span class="wide"> In the collapse: {m}.</span>', {
            n: distinct,
            m: fallen,
          })
        : "";
    if (at === 0 || gold > 0) return "";
    const p = before(run.engine, said.index);
    return p < 1e-9
      ? tr("Before training: <b>practically never</b>. Now: {count} of {all}.", now)
      : tr(
          'Before training: once in <b>{n}</b><span class="wide"> reviews</span>. Now: {count}<span class="wide"> of {all}</span>.',
          {
            n: oneIn(p),
            ...now,
          },
        );
  }

  /** What happens, in one sentence, and in few words for small windows and for walls. */
  function why(records, held, over, moved) {
    const record = records.at(-1);
    if (!record || record.iteration < 2)
      return [
        tr("This is what it says before training. Watch the face."),
        tr("Before training. Watch the face."),
      ];
    if (record.iteration < 6)
      return [
        tr("PPO trains a small GPT-2 in this page, now. The reward model pays for what it writes."),
        tr("PPO trains a GPT-2 in this page, now."),
      ];
    if (held && record.gold < 0)
      return [
        tr("The penalty η·KL grows with the distance from where training began. It pulls the policy back."),
        tr("The penalty η·KL pulls it back."),
      ];
    if (held)
      return [
        tr(
          "On the leash it stays near what people write, where judge and readers agree. That is why RLHF has a leash.",
        ),
        tr("On the leash, judge and readers agree."),
      ];
    if (record.gold < 0 && over)
      return [
        tr(
          "Nothing held it: it found a sentence that the reward model has never seen, and loves. A penalty for going far, the leash η, can bring it back.",
        ),
        tr("Nothing held it. Pull the leash."),
      ];
    if (record.gold < 0)
      return [
        tr("Nothing held it: it found a sentence that the reward model has never seen, and loves."),
        tr("Nothing held it: the judge loves this."),
      ];
    if (moved)
      return [tr("Nothing holds it now: it goes where the judge pays most."), tr("Nothing holds it now.")];
    return turns(records, held)
      ? [tr("Readers begin to turn away.")]
      : [tr("It learns: the judge and the readers like it more and more."), tr("Judge and readers like it.")];
  }

  const judge = (shapes, value, name, colour) =>
    `${icon(shapes, 46)}<b style="color:var(--${colour})">${number(value, 2, true)}</b><figcaption>${name}</figcaption>`;

  /** Whether readers have turned away from what nothing holds: half a point below their best. */
  const turns = (records, held) =>
    !held && records.length > 0 && records.at(-1).gold < Math.max(...records.map(({ gold }) => gold)) - 0.5;

  /** How far the story has come: 0 it learns, 1 it has collapsed, 2 the leash pulls, 3 it is back. */
  function stage(records, held) {
    if (!records.some((record) => record.gold < -1))
      return turns(records, held) && records.at(-1).gold < 0 ? 1 : 0;
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
        ? tr('<span class="wide">The language model: </span><b>{n}</b> of {all} reviews say', {
            n: said.count,
            all: run.config.batch_size,
          })
        : "";
      find(".step").textContent =
        run.iteration < 2 ? tr("before training") : tr("iteration {k}", { k: run.iteration });
      find(".big").textContent = said ? `“${said.text}”` : "“ … ”";
      find(".big").style.setProperty("--letters", said ? said.text.length : 8);
      find(".once").innerHTML = said ? once(run, records, said, at) : "";
      const { score, gold } = record ?? { score: NaN, gold: NaN }; // nothing has been written yet
      find(".by-model").innerHTML = judge(
        gauge(score || 0),
        score,
        tr('<span class="wide">the judge: a </span>reward model <small>(score)</small>'),
        "score",
      );
      find(".by-readers").innerHTML = judge(
        face(gold || 0),
        gold,
        tr("careful readers <small>(gold score)</small>"),
        liking(gold),
      );
      find(".by-readers").classList.toggle("is-bad", record?.gold < -1);
      find(".crowd div").innerHTML = crowd(run, id, 16);
      find(".chart").innerHTML = chart(records, moves, find(".chart").clientWidth, large());
      const [long, short = long] = trouble ? [trouble] : why(records, held, over, moves.length > 0);
      find(".why").innerHTML = `<span class="long">${long}</span><span class="short">${short}</span>`;
      const k = ETAS.indexOf(run.config.eta);
      slider.value = k;
      slider.style.setProperty("--at", `${(100 * k) / (ETAS.length - 1)}%`);
      slider.setAttribute("aria-valuetext", String(run.config.eta));
      find(".hold b").textContent = run.config.eta;
      const begun = records.length > 1 || frame || trouble;
      find(".leash").textContent = held ? tr("Let it go") : tr("Put it on a leash");
      find(".leash").hidden = !begun;
      find(".again").innerHTML = !begun
        ? tr("Start")
        : frame
          ? tr("Pause")
          : paused
            ? tr("Go on")
            : `<span>${tr('Start again<span class="wide">, without a leash</span>')}</span>`;
      const done = over && at === 3;
      find(".leash").className = `leash ${at < 3 ? "first" : ""} ${over && at === 1 ? "next" : ""}`;
      find(".again").className = `again ${begun ? "" : "first next"}`;
      find(".onward").hidden = !onward || !done;
      root.state = { iteration: run.iteration, eta: run.config.eta, records, said: said?.text };
    }

    function step() {
      const record = run.step();
      if (record) records.push(record);
      else
        trouble = tr(
          "A number became too large in this iteration, so the run stopped before it. Start again.",
        );
    }

    function play(now) {
      const comes = now >= due;
      if (comes) {
        if (rescue && run.iteration === FREE) hold(HELD);
        step();
        due = run.iteration < hurry ? now : now + stay(run.iteration);
      }
      const goes = !trouble && run.iteration < until && root.isConnected;
      frame = goes ? requestAnimationFrame(play) : 0;
      if (comes || !goes) draw();
      if (!goes) {
        tell();
        onwards();
      }
    }
    /** What the space bar presses: the button that goes on, and none that throws away what is shown. */
    const ahead = () =>
      frame || paused || run.iteration < 2
        ? find(".again")
        : find(".onward").hidden
          ? find(".leash")
          : find(".onward");
    /** At the end the focus leaves a button that has become another one. */
    function onwards() {
      const { activeElement } = document;
      if (activeElement === find(".again") || (activeElement === find(".leash") && !find(".onward").hidden))
        ahead().focus({ preventScroll: true });
    }
    const tell = () => {
      find(".heard").textContent = tr("After {k} iterations: {share} {said}. {why}", {
        k: run.iteration,
        share: find(".share").textContent,
        said: find(".big").textContent,
        why: find(".long").textContent,
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
      else if (run.iteration < 2 && !trouble) {
        due = 0;
        go(FREE);
      } else return again(0);
      draw();
    }

    function hold(eta) {
      if (eta === run.config.eta) return;
      [hurry, rescue] = [0, false];
      run.config.eta = eta;
      if (run.iteration > 1) moves = [...moves.filter(([k]) => k !== run.iteration), [run.iteration, eta]];
      if (run.iteration < 2 || run.iteration >= ITERATIONS) again(eta);
      else go(ITERATIONS);
      draw();
    }
    /** Back to what the model says before training. */
    function reset(eta) {
      run.config.eta = eta;
      run.start();
      [records, moves, trouble, paused, hurry, rescue] = [[], [], "", false, 0, false];
      step();
      due = performance.now() + stay(1);
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
      if (k) due = 0;
      go(rescue ? ITERATIONS : FREE);
      draw();
    }
    const large = () => Boolean(document.fullscreenElement?.contains(root));
    /** On a wall it goes on, but what has not yet begun waits for Start. */
    function enlarged() {
      if (large()) {
        if (run.iteration < 2) halt();
        draw();
        ahead().focus(); // so that the space bar presses it
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
    if (!waits) reset(0);
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
