"use strict";
// The cockpit: PPO while it trains. The run itself lives elsewhere; the `host` sends what happened,
// and takes orders:
//
//   host.constants  {etas, betas, prompts, panels, klModes, rates, frontier, first, folder}; `first` is what the
//       first policy says most often of each prompt, as [probability, text, gold score]
//   host.send(order)  {do: "start" | "pause" | "step" | "reset" | "fork" | "save" | "load", …}, {slow: true | false},
//       {move: {eta, beta}, page, asked}, {all: true} to be sent everything, {heard: serial} now and then
//   host.listen(callback) -> function that undoes it; what it is called with: see `Cockpit._news`
//       in cockpit.py. News bring the rows since the last ones; a page that missed some asks for all.
//   host.trouble(callback)  calls back with a sentence if the run is lost
//
// Curves jump as the run did: nothing here eases what time moves.

const rlhfCockpit = (() => {
  const {
    tr,
    regionName,
    letters,
    NEUTRAL,
    REGIONS,
    SFT,
    SFT_DRAWN,
    printed,
    flag,
    flagWidth,
    pole,
    star,
    nearest,
    slider,
    asNumber,
    liking,
    number,
    share,
    escaped,
    clip,
    face,
    gauge,
    icon,
    rope,
    textures,
    polyline,
    twoTone,
  } = rlhfParts;
  const [SCORE, GOLD, KL, ENTROPY] = [0, 1, 2, 3];
  const HEARD_EVERY = 10,
    SPOKEN_EVERY = 5000,
    ROWS = 4,
    WAYS = [0, 0.5, 1, 1.3, 1.8, 2.3, 2.8, 3.3, 3.8, 4.3, 5, 6], // how far a name may stand from its point, in lines
    NEAR = 5, // iterations: flags that are nearer are one
    AGES = [
      [15, 0.2],
      [0, 1],
    ]; // of a trail: up to so many iterations ago, it is drawn so strongly
  const ICONS = {
    start: "M-5-7L7 0L-5 7Z",
    pause: "M-6-7h4v14h-4zM2-7h4v14h-4z",
    step: "M-7-7L3 0L-7 7ZM4-7h3v14h-3z",
    fork: "M-6 8V-8M-6 3C-6-3 6-1 6-8M2-5l4-4l4 4",
    reset: "M6-3A7 7 0 1 0 6 4M7-8v6h-6",
  };
  const columns = () => ["E[score]", "E[gold]", "KL(π ‖ π_SFT)", "H(π)", tr("regret J* − J")];

  const sign = (name) =>
    `<svg class="sign is-${name}" width="16" height="16" viewBox="-9 -9 18 18" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;
  const button = (name, text, means = "") =>
    `<button type="button" class="${name}" data-do="${name}" title="${means}">${ICONS[name] ? sign(name) : ""}<b>${text}</b></button>`;
  const field = (name, label, input) => `<label class="field">${label} ${input}</label>`;
  const options = (values) => values.map((value) => `<option value="${value}">${value}</option>`).join("");

  function skeleton(id, { etas, betas, prompts, panels, klModes, rates, folder }) {
    const hidden = (panel) => (panels.includes(panel) ? "" : "hidden");
    return `${textures(id)}<div class="deck"><p class="trouble" role="alert"></p>
      <div class="top">${button("start", tr("Start"), tr("train the model"))}${button("step", tr("Step"), tr("one iteration"))}${button("fork", tr("Fork"), tr("keep this run in grey"))}${button("reset", tr("Start over"), tr("as at the beginning"))}
        <fieldset class="choice pace" aria-label="${tr("pace")}">${Object.entries({
          slow: tr("slow"),
          fast: tr("fast"),
        })
          .map(
            ([pace, name]) =>
              `<input type="radio" name="${id}-pace" id="${id}-${pace}" value="${pace}"><label for="${id}-${pace}">${name}</label>`,
          )
          .join("")}</fieldset><p class="status"></p></div>
      <div class="levers">${slider("eta", "η", tr("price of a nat from π_SFT"), ["", tr("leash")], etas.length - 1)}${slider("beta", "β", tr("bonus for entropy"), ["", tr("variety")], betas.length - 1)}</div>
      <p class="wrong" role="alert"></p>
      <div class="guide"><ol></ol><p class="task"></p><button type="button" class="again" data-again="true" hidden></button><button type="button" class="dismiss" aria-label="${tr("Hide this guide")}" title="${tr("Hide this guide")}">×</button></div>
      <div class="saying" ${hidden("samples")}>${prompts.map((prompt) => `<section class="said" data-prompt="${prompt}"></section>`).join("")}<div class="judges"><figure class="by-model"></figure><figure class="by-readers"></figure></div></div>
      <p class="tells"><span class="chip"></span><span class="sentence"></span></p>
      <div class="charts"><figure class="curves" ${hidden("curves")}></figure><figure class="way" ${hidden("landscape")}></figure></div>
      <div class="tiles" ${hidden("curves")}><div class="tile of-kl"></div><div class="tile of-h"></div><div class="tile of-regret" ${hidden("regret")}></div></div>
      <div class="more"><details class="all"><summary>${tr("In numbers")}</summary><div tabindex="0" role="region" aria-label="${tr("All numbers")}"><table class="numbers"></table></div></details>
      <details class="settings"><summary>${tr("Settings, save and load")}</summary><div>
        ${field("kl_mode", tr("KL mode"), `<select name="kl_mode">${options(klModes)}</select>`)}
        ${field("lr", tr("learning rate"), `<select name="lr">${options(rates)}</select>`)}
        ${field("seed", tr("seed"), `<input name="seed" inputmode="numeric" size="6">`)}
        ${field("kl_target", tr("target KL, nats"), `<input name="kl_target" inputmode="decimal" size="6" placeholder="${tr("none")}" title="${tr("With a target, η moves by itself.")}">`)}
        <span class="soft">${tr("take effect with Start over")}</span>
        ${field("folder", tr("run folder"), `<input name="folder" size="18" value="${escaped(folder)}">`)}${button("save", tr("Save"))}${button("load", tr("Load"))}</div></details></div>
      <p class="heard" role="status"></p></div>`;
  }

  /** What happens, in one sentence, from the rows of the run; without any, from the exact numbers of its start. */
  function sentence(rows, start) {
    if (!rows.length) return tr("Before training: {happens}.", { happens: happens([start]) });
    const k = rows.length.toLocaleString("en-US");
    return tr("Iteration {k}: {happens}.", { k, happens: happens(rows) });
  }

  function happens(rows) {
    const [score, gold] = rows.at(-1),
      golds = rows.map((m) => m[GOLD]),
      less = score < Math.max(...rows.slice(-6).map((m) => m[SCORE])) - 0.2, // the reward model has noticed
      turned = gold < Math.max(...golds.slice(-6)) - 0.8,
      lately = gold - (golds.at(-6) ?? golds[0]),
      [likes, dislikes] = [gold >= NEUTRAL, gold <= -NEUTRAL],
      pays = score >= NEUTRAL;
    if (gold === null) return tr("nobody asks careful readers here");
    if (dislikes && pays && lately > 0.5) return tr("it is on its way back, and readers still dislike it");
    const passed = gold < Math.max(...golds) - 0.3; // readers have liked it better
    if (likes && pays && ((turned && less) || (passed && !turned && Math.min(...golds) >= -1)))
      return tr("both like it, but less than before");
    if (pays && !dislikes && turned && !less)
      return tr("readers turn away, the reward model has not noticed");
    if (dislikes && pays)
      return !less && golds.slice(-6).some((g) => g >= NEUTRAL)
        ? tr("readers have turned, the reward model has not noticed")
        : tr("the reward model is pleased, readers are not");
    if (likes && pays) {
      if (Math.min(...golds) < -1) return tr("it is back, and both like it");
      return lately > 0.2 ? tr("it learns, and both like it more and more") : tr("both like it");
    }
    if (likes) return tr("readers like it, and the reward model hardly pays for it");
    if (dislikes) return score <= -NEUTRAL ? tr("both dislike it") : tr("readers dislike it");
    return pays
      ? tr("the reward model likes it, readers neither like nor dislike it")
      : score <= -NEUTRAL
        ? tr("the reward model dislikes it")
        : tr("neither likes nor dislikes it yet");
  }

  const ALIKE = 0.8, // nats of entropy: one or two sentences are most of what it says
    MANY = 1,
    SALAD = 4,
    SURE = 3, // iterations in a row
    HELD = 0.1, // η from here on pulls a policy home
    BEGUN = 6, // iterations on the leash, before it is let go
    FAR = 8; // nats from π_SFT, from where a small η pulls hard
  // What the steps are called, and what they are called where there is little room.
  const GUIDE = (free) =>
    free
      ? [
          [tr("Train without a leash"), tr("Train")],
          [tr("Bring it back"), tr("Bring back")],
        ]
      : [[tr("Train")], [tr("Let go")], [tr("Bring back")]];

  /** Whether a run began without a leash, as far as its moves tell. */
  function beganFree(moves, eta) {
    const first = moves.find(([, text]) => text.startsWith("η "));
    return first ? Number(first[1].slice(2)) >= HELD : eta < HELD;
  }

  /** Where a collapse has settled: the first of so many iterations in a row whose sentences are alike. */
  const collapsed = (rows) =>
    rows.findIndex((_, k) => rows.slice(k, k + SURE).filter((m) => m[ENTROPY] < ALIKE).length === SURE);

  /** How far η must go up to bring it home: far away, a small one pulls hard. */
  const up = (kl) => (kl > FAR ? 0.3 : 1);

  /** A path of three steps through a run: how many are done, what to do now, and which controls to touch. */
  function guide(rows, { eta, running, exact, distinct, written, twins = false, parent = null }) {
    if (!rows.length) {
      if (exact[ENTROPY] < ALIKE)
        return [2, tr("π says one thing only. Press Start, then pull η up."), "start"];
      return eta >= HELD
        ? [0, tr("Press Start. Then pull η to 0 and watch what π says."), "start"]
        : [0, tr("Press Start and watch what π says. At η = 0 nothing holds it."), "start"];
    }
    const alike = collapsed(rows);
    if (alike < 0) {
      if (eta >= HELD && rows.length < BEGUN) return [0, tr("π learns on a leash."), running ? "" : "start"];
      if (eta >= HELD) return [1, tr("π learns on a leash. Now pull η to 0 and watch what it says."), "eta"];
      const n = Object.values(written).reduce((sum, one) => sum + one, 0);
      return [
        1,
        tr("Nothing holds π. Different reviews among its last {n}: {distinct}.", { distinct, n }),
        running ? "" : "start",
      ];
    }
    const [, gold, kl, entropy] = rows.at(-1),
      since = rows.slice(alike),
      fell = since.some((m) => m[GOLD] !== null && m[GOLD] <= -NEUTRAL), // else both judges like the one sentence
      good = (m) => (m[GOLD] === null ? m[KL] < FAR : m[GOLD] >= NEUTRAL) && (fell || m[ENTROPY] > MANY);
    const back = (_, k) => k >= SURE && since.slice(k - SURE, k).every(good); // more than luck
    if (eta >= HELD && since.some(back))
      return [
        3,
        !parent
          ? tr("π is back. Steer as you like; Fork first, to compare.")
          : parent[GOLD] >= NEUTRAL
            ? tr("π is back, and so is its grey parent. Steer as you like.")
            : tr("π is back, and the grey parent is not. Steer as you like."),
        "",
      ];
    const salad = entropy > SALAD && gold !== null && gold < NEUTRAL;
    if (eta >= HELD)
      return [
        2,
        salad
          ? tr("Many sentences again, but word salad. Where do they go?")
          : fell
            ? tr("The leash pulls. Will readers like what π says?")
            : tr("The leash pulls. Do different sentences come back?"),
        running ? "" : "start",
      ];
    if (salad)
      return [2, tr("Many sentences again, but word salad. Pull η up to {up}.", { up: up(kl) }), "eta"];
    if (!fell && gold !== null)
      return [2, tr("Lucky: one good answer. Readers like it, but it has only one thing to say."), "again"];
    if (twins || parent)
      return [2, tr("All sentences alike: mode collapse. Now pull η up to {up}.", { up: up(kl) }), "eta"];
    return [2, tr("Mode collapse. Press Fork, then pull η up to {up}.", { up: up(kl) }), "fork"];
  }

  const finite = (values) => values.filter((x) => Number.isFinite(x));

  /** What π* is called beside the stars of a chart of this width. */
  const stands = (width, size) =>
    width > 34 * size ? [tr("π*: reward model"), tr("π*: readers")] : ["π*", "π*"];

  /** The axis of time: its margins, and how many iterations it shows, with room for names after the last. */
  function axis(width, size, run) {
    const left = 2.6 * size,
      right = 2.4 * size + 0.56 * size * Math.max(...stands(width, size).map(letters)), // for the stars, and their labels
      last = Math.max(run.rows.length, run.parent.length, 1),
      part = Math.max(0.5, 1 - (9 * size) / (width - left - right));
    let end = 50;
    for (let k = 1; last > part * end; k++) end = (k % 2 ? 75 : 50) * 2 ** Math.floor(k / 2);
    return { left, right, last, end };
  }

  /** Both scores over the iterations: the run, its parent in grey, exact values, the moves, π*. */
  function curves(width, high, size, run, now) {
    const { left, right, last, end } = axis(width, size, run),
      labels = stands(width, size),
      top = 0.5 * size,
      bottom = high - 2 * size,
      floor = bottom - 2 * size; // below it, flags
    const values = finite([...run.rows, ...run.parent].flatMap((m) => [m[SCORE], m[GOLD]]));
    const low = Math.min(-2.3, ...values) - 0.1,
      most = Math.max(2.9, ...values) + 0.1;
    const x = (k) => left + (k / end) * (width - left - right),
      y = (v) => floor - ((v - low) / (most - low)) * (floor - top);
    const points = (rows, of) => rows.map((m, k) => [x(k), y(m[of])]).filter(([, v]) => Number.isFinite(v));
    const [score, gold] = [points(run.rows, SCORE), points(run.rows, GOLD)];
    const parted = ([px]) => px >= x(run.forked ?? 0); // before that, parent and child are one
    const parents = [SCORE, GOLD].map((of) => points(run.parent, of).filter(parted));
    const ghosts = parents
      .map((line) =>
        line.length ? polyline(line, `stroke="var(--ghost)" stroke-width="${Math.max(3, 0.2 * size)}"`) : "",
      )
      .join("");
    const since = x(run.moves.at(-1)?.[0] ?? 0),
      best = now.optimum;
    const aside = Math.max(0, 1.6 * size - Math.abs(y(best[SCORE]) - y(best[GOLD]))) / 2,
      upper = best[SCORE] > best[GOLD] ? SCORE : GOLD;
    const level = (of) => {
      const [colour, at] = [of === SCORE ? "score" : liking(best[GOLD]), y(best[of])],
        ends = width - right,
        word = clip(at + (of === upper ? -aside : aside), top + 0.3 * size, bottom); // stars step aside from each other
      return `<path d="M${since} ${at}H${ends}" stroke="var(--${colour})" stroke-width="2.5" stroke-dasharray="1 5" stroke-linecap="round"/><path d="M${ends} ${at}L${ends + 0.5 * size} ${word}" stroke="var(--${colour})" stroke-width="1.5"/>${star(ends + 0.9 * size, word, 0.7 * size, `var(--${colour})`, "var(--bg)")}<text class="name star" x="${ends + 1.9 * size}" y="${word + 0.35 * size}" style="fill:var(--${colour});font-size:${size}px">${labels[of]}</text>`;
    };
    const flags = raised(run, x, width - right, top, floor + 0.2 * size, size);
    // Steps are measured one by one: of many exact values, those show that do not hide each other.
    const apart = run.exact.filter(
      ([k], n) => n === run.exact.length - 1 || k % Math.max(10, end / 20) === 0,
    );
    const diamonds = apart
      .map(([k, ...m]) =>
        [SCORE, GOLD]
          .map(
            (of) =>
              `<path transform="translate(${x(k)} ${y(m[of])}) scale(${0.38 * size})" d="M0-1L1 0L0 1L-1 0Z" fill="var(--bg)" stroke="var(--ink)" stroke-width=".3"/>`,
          )
          .join(""),
      )
      .join("");
    const whole = tr("{n} iterations", { n: end }),
      begins = x(end) - 0.56 * size * letters(whole) - size;
    const ticks = [0, 0.2, 0.4, 0.6, 1]
      .filter((part) => part === 1 || x(part * end) + 0.3 * size * String(part * end).length < begins)
      .map(
        (part) =>
          `<text x="${x(part * end)}" y="${bottom + 1.4 * size}" text-anchor="${part === 1 ? "end" : "middle"}" style="font-size:${size}px">${part === 1 ? whole : Math.round(part * end)}</text>`,
      )
      .join("");
    const unit = `<text x="0" y="${top + 0.5 * size}" style="font-size:${size}px">${tr("score")}</text>`;
    const sides = [-2, 0, 2]
      .map(
        (v) =>
          `<text x="${left - 0.65 * size}" y="${y(v) + 0.35 * size}" text-anchor="end" style="font-size:${size}px">${number(v, 0)}</text>`,
      )
      .join("");
    const at = score.at(-1),
      under = gold.at(-1),
      olds = parents.map((line) => line.at(-1));
    // What names keep away from, and by how much; each that finds its place becomes one of them.
    const taken = [y(0), y(best[SCORE]), y(best[GOLD])].map((v) => [v, 0.8 * size]);
    const room = (middle) => Math.min(...taken.map(([v, need]) => Math.abs(v - middle) / need));
    const named = (text, colour, x0, near, way) => {
      // The nearest place with room for a line of text, first on the side that is named; else the roomiest.
      const middles = WAYS.flatMap((step) => [step * way, -step * way])
          .map((step) => near + step * size)
          .filter((middle) => middle > top + 0.5 * size && middle < floor),
        middle =
          middles.find((one) => room(one) >= 1) ??
          middles.reduce((found, next) => (room(next) > room(found) ? next : found), near);
      taken.push([middle, size]);
      return `<text class="name halo" x="${x0}" y="${middle + 0.35 * size}" style="fill:var(--${colour});font-size:${size}px">${text}</text>`;
    };
    const beside = ([px]) => px + 1.1 * size,
      side = under && at && under[1] > at[1] ? -1 : 1, // −1: the score is the upper one
      apartFrom = (line, end) => line && end && Math.abs(line[1] - end[1]) > 0.8 * size;
    const names = [
      at && under && named(tr("reward model"), "score", beside(at), at[1], side),
      at &&
        under &&
        named(tr("careful readers"), liking(run.rows.at(-1)[GOLD]), beside(under), under[1], -side),
      apartFrom(olds[0], at) && named(tr("parent’s score"), "soft", beside(olds[0]), olds[0][1], -1),
      apartFrom(olds[1], under) && named(tr("parent’s gold"), "soft", beside(olds[1]), olds[1][1], 1),
    ]
      .filter(Boolean)
      .join("");
    return `<figcaption>${tr("What it is paid, and what readers think")} <small>${tr("◇ exact")}</small></figcaption><svg width="${width}" height="${high}" role="img" aria-label="${tr("Score and gold score over {n} iterations.", { n: last })}"><path d="M${left} ${y(0)}H${width - right}" stroke="var(--line)" stroke-width="1.5"/>${ticks}${unit}${sides}${level(SCORE)}${level(GOLD)}${flags.poles}${ghosts}
      ${score.length ? polyline(score, `stroke="var(--score)" stroke-width="${0.21 * size}"`) : ""}${gold.length ? twoTone(gold, y(0), 0.21 * size) : ""}${flags.flags}${diamonds}
      ${at ? `<circle cx="${at[0]}" cy="${at[1]}" r="${0.45 * size}" fill="var(--score)"/>` : ""}${under ? `<g transform="translate(${under.join(" ")}) scale(${0.8 * size})">${face(run.rows.at(-1)[GOLD])}</g>` : ""}${names}</svg>`;
  }

  /** The moves of a hand as flags in one row at `level`; one that finds no room keeps its pole. */
  function raised(run, x, end, top, level, size) {
    const marks = []; // [iteration, what happened then, by its letter]
    for (const [k, text] of [...(run.forked === null ? [] : [[run.forked, "fork"]]), ...run.moves].sort(
      ([a], [b]) => a - b,
    )) {
      if (!marks.length || k - marks.at(-1)[0] >= NEAR) marks.push([k, new Map()]);
      marks.at(-1)[1].set(text.split(" ")[0], text === "fork" ? tr("fork") : text.replace(" ", " → "));
    }
    const open = (texts) => [...texts.keys()].join() === "fork";
    let free = Infinity; // where the last flag begins
    const flags = [...marks].reverse().map(([k, texts]) => {
      const words = [...texts.values()].join(", "),
        long = flagWidth(words, size),
        from = Math.min(x(k), end - long, free - long - 4);
      if (from < Math.max(0, x(k) - long)) return "";
      free = from;
      return flag(from, level, words, size, open(texts));
    });
    return {
      poles: marks.map(([k, texts]) => pole(x(k), top, level, open(texts))).join(""),
      flags: flags.join(""),
    };
  }

  /** The run as a path over what a distance can buy at most, and the rope. */
  function way(width, high, size, run, now, frontier) {
    const left = 3.6 * size,
      right = 1.2 * size,
      top = 1.8 * size,
      bottom = high - 4.6 * size,
      at = high - 2.3 * size;
    const far =
      Math.sqrt(
        Math.max(now.optimum[KL], ...frontier.map((m) => m[KL]), ...finite(run.rows.map((m) => m[KL]))),
      ) * 1.02;
    const x = (kl) => left + (Math.sqrt(Math.max(kl, 0)) / far) * (width - left - right);
    const values = finite(run.rows.flatMap((m) => [m[SCORE], m[GOLD]]));
    const low = Math.min(-2.3, ...values),
      most = Math.max(2.6, ...values) + 0.2,
      y = (v) => bottom - ((v - low) / (most - low)) * (bottom - top);
    const path = (rows, of) => rows.filter((m) => Number.isFinite(m[of])).map((m) => [x(m[KL]), y(m[of])]);
    const pale = `<g opacity=".35">${polyline(path(frontier, SCORE), `stroke="var(--score)" stroke-width="${0.29 * size}"`)}${twoTone(path(frontier, GOLD), y(0), 0.29 * size)}</g>`;
    const regions = bands(frontier, x, width - right, bottom, size),
      ticks = [1, 5, 10, 20].filter((kl) => Math.sqrt(kl) < far);
    const scale = ticks
      .map(
        (kl) =>
          `<path d="M${x(kl)} ${bottom}v5" stroke="var(--ghost)"/><text x="${x(kl)}" y="${bottom + 1.35 * size}" text-anchor="middle" style="font-size:${size}px">${kl === ticks.at(-1) ? tr("{kl} nats", { kl }) : kl}</text>`,
      )
      .join("");
    const sides = [-2, 2]
      .map(
        (v) =>
          `<text x="${left - 0.65 * size}" y="${y(v) + 0.35 * size}" text-anchor="end" style="font-size:${size}px">${number(v, 0)}</text>`,
      )
      .join("");
    const unit = `<text x="0" y="${size}" style="font-size:${size}px">${tr("score")}</text>`;
    const stride = Math.ceil(run.rows.length / 300); // the whole way, in at most 300 points
    const recent = run.rows.filter((_, k) => k % stride === 0 || k === run.rows.length - 1),
      ghost = path(run.parent.slice(-1), SCORE)[0],
      last = run.rows.at(-1) ?? now.exact,
      here = x(last[KL]);
    const edge = `stroke="var(--bg)" stroke-width="${0.21 * size + 2}"`; // of one px on both sides
    const lines = (rows, opacity) => {
      const [score, gold] = [path(rows, SCORE), path(rows, GOLD)],
        wide = (opacity === 1 ? 0.21 : 0.12) * size,
        edges = opacity === 1 ? polyline(score, edge) + (gold.length ? polyline(gold, edge) : "") : "";
      return `<g opacity="${opacity}">${edges}${polyline(score, `stroke="var(--score)" stroke-width="${wide}"`)}${gold.length ? twoTone(gold, y(0), wide) : ""}</g>`;
    };
    // Older is paler: a rescued run crosses its own way out.
    const ends = AGES.map(([age]) => Math.max(0, recent.length - Math.ceil(age / stride)));
    const trail = AGES.map(([, opacity], k) => {
      const rows = recent.slice(Math.max(0, (ends[k - 1] ?? 0) - 1), ends[k]);
      return rows.length > 1 ? lines(rows, opacity) : "";
    }).join("");
    const spots = [last[SCORE], last[GOLD]].map(y);
    // Where the landscape ends, its curves get their names: off the curve, and off where the run is.
    const names = [
      [SCORE, tr("best score"), "score", 1],
      [GOLD, tr("its gold"), liking(frontier.at(-1)[GOLD]), -1],
    ]
      .map(([of, name, colour, way]) => {
        const curve = path(frontier, of),
          [end, level] = curve.at(-1) ?? [0, 0],
          begins = end - 0.6 * size * letters(name),
          near = curve.filter(([v], k) => v > begins || curve[k + 1]?.[0] > begins).map(([, v]) => v),
          keep = [...near, ...(here > begins - size ? spots : [])],
          middle = [1.3, 1.9, 2.5, 3.1, 3.7, 4.3]
            .map((lines) => level + way * lines * size)
            .find((one) => keep.every((v) => Math.abs(v - one) > 0.95 * size));
        return middle
          ? `<text class="name halo" x="${end}" y="${middle + 0.35 * size}" text-anchor="end" style="fill:var(--${colour});font-size:${size}px">${name}</text>`
          : "";
      })
      .join("");
    const parent =
      ghost && Math.abs(ghost[0] - here) > 3 * size && ghost[0] < width - right - 10 * size
        ? `<text class="name halo" x="${ghost[0]}" y="${ghost[1] + 1.6 * size}" text-anchor="middle" style="fill:var(--soft);font-size:${size}px">${tr("parent’s score")}</text>`
        : "";
    const turned = here > 0.55 * width,
      sag = 8 * clip(1 - now.eta / 0.3, 0, 1) * Math.min(1, (here - left) / 120);
    return `<figcaption>${tr("The same by distance")} <small>${tr("pale: the best that is possible")}</small></figcaption><svg width="${width}" height="${high}" role="img" aria-label="${tr("Score and gold score over the distance from π_SFT, {kl} nats now.", { kl: number(last[KL], 1) })}">${regions}<path d="M${left} ${y(0)}H${width - right}" stroke="var(--ghost)" opacity=".5"/>${scale}${unit}${sides}${pale}
      ${trail}${names}
      ${ghost ? `<circle cx="${ghost[0]}" cy="${ghost[1]}" r="${0.4 * size}" fill="var(--ghost)"/>${parent}` : ""}${star(x(now.optimum[KL]), y(now.optimum[SCORE]), 0.85 * size)}
      <circle cx="${here}" cy="${y(last[SCORE])}" r="${0.45 * size}" fill="var(--score)"/>${Number.isFinite(last[GOLD]) ? `<g transform="translate(${here} ${y(last[GOLD])}) scale(${0.85 * size})">${face(last[GOLD])}</g>` : ""}
      <path d="M${left} ${at + 9}v-20M${left - 8} ${at + 9}h16" stroke="var(--ink)" stroke-width="4" stroke-linecap="round"/>${rope(left, here, at, sag, 0.4 * size)}<circle cx="${here}" cy="${at}" r="${0.45 * size}" fill="var(--bg)" stroke="var(--leash-dark)" stroke-width="3.5"/>
      <text class="name halo" x="${turned ? here - size : here + size}" y="${at + (turned ? 1.7 : 0.4) * size}" text-anchor="${turned ? "end" : "start"}" style="fill:var(--leash);font-size:${size}px">${tr("{kl} nats from {home}", { kl: number(last[KL], 1), home: SFT_DRAWN })}</text></svg>`;
  }

  /** What the best of a distance is called, as the explorer's map calls it at β = 0. */
  function bands(frontier, x, end, bottom, size) {
    const [frozen, last] = [0.2, frontier.at(-1)[KL]],
      from = frontier.findIndex((m) => m[KL] > 1 && m[GOLD] < 0),
      [a, b] = [frontier[from - 1], frontier[from]];
    const turn = a && b ? a[KL] + ((b[KL] - a[KL]) * a[GOLD]) / (a[GOLD] - b[GOLD]) : last;
    return [
      [0, frozen, "cool", regionName("frozen")],
      [frozen, turn, "liked", regionName("useful")],
      [turn, Infinity, "bad", regionName("collapse")],
    ]
      .map(([low, high, tint, name]) => {
        const [left, right] = [x(low), high === Infinity ? end : Math.min(x(high), end)];
        const fits = right - left > 0.55 * size * letters(name), // else it is written upwards, if it is a narrow band
          at = `translate(${(left + right) / 2 + (fits ? 0 : 0.35 * size)} ${fits ? 1.15 * size : 0.6 * size})${fits ? "" : " rotate(-90)"}`,
          text = `<text class="name" transform="${at}" text-anchor="${fits ? "middle" : "end"}" style="fill:var(--ink);font-size:${size}px">${name}</text>`;
        return right > left
          ? `<rect x="${left}" width="${right - left}" height="${bottom}" fill="var(--${tint}-tint)" opacity=".5"/>${right - left > 1.1 * size && (fits || !low) ? text : ""}`
          : "";
      })
      .join("");
  }

  /** One quantity: its last value, large, and its course as a small curve above 0. */
  function tile(width, high, title, value, colour, rows, of, best, { end, moved }) {
    const known = finite([...rows.map((m) => m[of]), best]),
      most = Math.max(...known, 1) * 1.05;
    const x = (k) => (k / end) * width,
      y = (v) => high - (Math.max(v, 0) / most) * high;
    const points = rows.map((m, k) => [x(k), y(m[of])]).filter(([, v]) => Number.isFinite(v));
    const level = `<path d="M0 ${y(best)}H${width}" stroke="var(--ink)" stroke-width="2" stroke-dasharray="1 5" stroke-linecap="round"/>${star(width - 6, y(best), 6, "var(--ink)", "var(--bg)")}`; // π*, as in the curves
    const poles = moved
      .map((k) => `<path d="M${x(k)} 0V${high}" stroke="var(--ink)" stroke-width="1" opacity=".6"/>`)
      .join("");
    return `<p><span>${title}</span><b style="color:var(--${colour})">${value}</b></p><svg width="${width}" height="${high + 2}" aria-hidden="true"><path d="M0 ${high}H${width}" stroke="var(--line)"/>${points.length ? `<path d="M${points[0][0]} ${high}${points.map(([a, b]) => `L${a.toFixed(1)} ${b.toFixed(1)}`).join("")}V${high}Z" fill="var(--${colour}-tint)"/>${polyline(points, `stroke="var(--${colour})" stroke-width="2.5"`)}` : ""}${poles}${level}</svg>`;
  }

  /** How far every batch was below the best of the present η and β, as one more column. */
  function regrets(run, now) {
    const goal = (m) => m[SCORE] - now.eta * m[KL] + now.beta * m[ENTROPY],
      best = goal(now.optimum);
    return run.rows.map((m) => [best - goal(m)]);
  }

  /** All numbers, one row per policy; what is older than the last batch is grey and says so. */
  function table(now, run) {
    const goal = (m) => m[SCORE] - now.eta * m[KL] + now.beta * m[ENTROPY],
      best = goal(now.optimum);
    const row = (name, m, old = false) =>
      `<tr class="${old ? "old" : ""}"><th scope="row">${name}</th>${m ? [...m, best - goal(m)].map((x) => `<td>${x === null || !Number.isFinite(x) ? "–" : number(x)}</td>`).join("") : "<td>–</td>".repeat(5)}</tr>`;
    return `<caption>${tr("In numbers, for η = {eta} and β = {beta}", now)}</caption><thead><tr><th></th>${columns()
      .map((name) => `<th scope="col">${printed(name)}</th>`)
      .join("")}</tr></thead><tbody>
      ${row(tr("last batch"), run.rows.at(-1))}${run.parent.length ? row(tr("the parent’s last batch"), run.parent.at(-1)) : ""}${row(tr("exact, after iteration {k}", { k: now.exactAt.toLocaleString("en-US") }), now.exact, now.exactAt < now.iteration)}${row(tr("exact optimum π*"), now.optimum)}</tbody>`;
  }

  /** What it says of a prompt: the reviews of the last batch, or what the first policy says most often. */
  function said(prompt, reviews, total, first) {
    const begun = reviews.length > 0,
      shown = (begun ? reviews : (first ?? [])).slice(0, ROWS);
    if (!shown.length)
      return `<p class="soft">${tr("of <b>{prompt}</b>: the first reviews come with Step or Start.", { prompt })}</p>`;
    const [most, text] = shown[0];
    const lines = shown.map(
      ([often, review, gold]) =>
        `<li class="${gold < 0 ? "bad" : ""}"><b>${begun ? often : share(often)}</b><span class="voice">${escaped(review)}</span><span class="bar"><i style="width:${((100 * often) / (begun ? total : most)).toFixed(1)}%"></i></span><span class="gold">${number(gold, 1, true)}${icon(face(gold), 20)}</span></li>`,
    );
    // What it said at first and says no more keeps its row: that is what collapsed.
    const gone = (begun ? (first ?? []) : [])
      .filter(([, review]) => !reviews.some(([, now]) => now === review))
      .slice(0, ROWS - shown.length)
      .map(
        ([p, review]) =>
          `<li class="gone"><b>0</b><s class="voice">${escaped(review)}</s><span class="was">${tr("was {p}", { p: share(p) })}</span></li>`,
      );
    lines.push(...gone);
    const empty = `<li class="none" aria-hidden="true"><b>0</b><span class="voice">.</span><span class="bar"></span><span class="gold">${icon("", 20)}</span></li>`;
    const lead = begun
      ? tr("of <b>{prompt}</b>, <b>{most}</b> of {total} reviews now say", { prompt, most, total })
      : tr("of <b>{prompt}</b>, π says most often", { prompt });
    return `<p class="soft">${lead}</p><p class="voice headline" style="--letters:${text.length}">“${escaped(text)}”</p><ol class="${begun ? "" : "before"}">${lines.join("")}${empty.repeat(Math.max(0, ROWS - lines.length))}</ol>`;
  }

  const judge = (shapes, value, name, means, colour) =>
    `${icon(shapes, 60)}<b style="color:var(--${colour})">${number(value, 2, true)}</b><figcaption>${name}<small>${means}</small></figcaption>`;

  /** The same in sentences, for those who hear it. */
  function spoken({ status, eta, beta, batch, distinct, regret, reviews, written }, task) {
    const told = [tr("{status} η is {eta} and β is {beta}.", { status, eta, beta })];
    for (const [prompt, [most]] of Object.entries(reviews))
      if (most)
        told.push(
          tr("Of {prompt}, {most} of {total} reviews say “{text}”.", {
            prompt,
            most: most[0],
            total: written[prompt],
            text: most[1],
          }),
        );
    if (batch)
      told.push(
        tr(
          "The last batch has {distinct} different reviews: the reward model gives {score}, careful readers give {gold}. It is {kl} nats from π_SFT, and its entropy is {h} nats.",
          {
            score: number(batch[SCORE]),
            gold: number(batch[GOLD] ?? NaN),
            kl: number(batch[KL]),
            h: number(batch[ENTROPY]),
            distinct,
          },
        ),
      );
    told.push(tr("The regret is {regret}.", { regret: number(regret) }), task);
    return told.join(" ");
  }

  /** Draw a cockpit into `root`; returns a function that takes it away. */
  function mount(root, host) {
    const id = `rlhf-${Math.random().toString(36).slice(2, 9)}`,
      { constants } = host,
      { etas, betas, prompts, panels } = constants,
      values = { eta: etas, beta: betas };
    const frontier = constants.frontier;
    root.classList.add("rlhf-front", "rlhf-cockpit");
    root.innerHTML = skeleton(id, constants);
    const find = (selector) => root.querySelector(selector),
      all = (selector) => [...root.querySelectorAll(selector)];
    for (const input of all("input, button, select")) input.dataset.lmSuppressShortcuts = "true";
    const run = { id: null, rows: [], parent: [], exact: [], moves: [], forked: null };
    let now = null,
      arrived = null, // what the guide says at its end
      guided = true, // until somebody hides it
      free = null, // whether the run began without a leash
      reached = null, // steps of the path that were done when we last looked
      waits = false, // it was paused for a move of the hand, and goes on with it
      moved = true, // since the last fork
      frame = 0,
      spokenAt = -Infinity,
      held = {},
      asked = 0,
      settings = "",
      width = 0,
      rooms = null;

    function hear(news) {
      const fresh = news.run !== run.id;
      const gap =
        news.from > (fresh ? 0 : run.rows.length) || news.parentFrom > (fresh ? 0 : run.parent.length);
      if (gap) return host.send({ all: true });
      if (fresh) Object.assign(run, { id: news.run, rows: [], parent: [] });
      run.rows.splice(news.from, Infinity, ...news.rows);
      run.parent.splice(news.parentFrom, Infinity, ...news.parent);
      [run.exact, run.moves, run.forked] = [news.allExact, news.moves, news.forked];
      now = news;
      if ((news.moved[id] ?? 0) >= asked) held = {}; // else these news are older than the hand's last move
      if (news.serial % HEARD_EVERY === 0) host.send({ heard: news.serial });
      update();
    }

    const update = () => {
      frame ||= requestAnimationFrame(draw);
    };

    /** Widths in px, by selector. Asking for one lays out the whole page, so it is not done often. */
    const measured = () => ({
      size: parseFloat(getComputedStyle(find(".charts")).getPropertyValue("--size")),
      ...Object.fromEntries(
        [".deck", ".curves", ".way", ".of-kl", ".of-h", ".of-regret"].map((name) => [
          name,
          find(name).clientWidth,
        ]),
      ),
    });

    function draw() {
      frame = 0;
      if (!now || !width) return; // out of sight; once it is in sight, it has a size, and we are called
      const began = performance.now();
      rooms ??= measured();
      if (!rooms[".deck"]) return void (rooms = null); // hidden since then
      const { size } = rooms;
      find(".status").classList.toggle("runs", now.running);
      find(".status").innerHTML = `<b>${escaped(now.status)}</b> <span>${escaped(now.note)}</span>`;
      find(".wrong").textContent = now.error ?? "";
      const start = find(".start");
      const order = now.running ? "pause" : "start";
      const name = now.running ? tr("Pause") : run.rows.length ? tr("Go on") : tr("Start");
      if (start.dataset.shown !== name) {
        start.innerHTML = `${sign(order)}<b>${name}</b>`;
        start.title = now.running ? tr("take a look") : tr("train the model");
        start.dataset.do = order;
        start.dataset.shown = name;
      }
      find(`.pace [value=${now.slow ? "slow" : "fast"}]`).checked = true;
      levers();
      lead();
      const batch = now.batch ?? now.exact;
      if (panels.includes("samples")) {
        for (const prompt of prompts)
          find(`.said[data-prompt="${prompt}"]`).innerHTML = said(
            prompt,
            now.reviews[prompt],
            now.written[prompt],
            constants.first?.[prompt],
          );
        find(".by-model").innerHTML = judge(
          gauge(batch[SCORE]),
          batch[SCORE],
          tr("reward model"),
          tr("what PPO is paid"),
          "score",
        );
        find(".by-readers").innerHTML = judge(
          face(batch[GOLD] ?? 0),
          batch[GOLD] ?? NaN,
          tr("careful readers"),
          tr("what PPO never sees"),
          liking(batch[GOLD]),
        );
      }
      const kind =
        now.batch && batch[GOLD] !== null
          ? rlhfOptimum.kind(
              { gold: batch[GOLD], kl: batch[KL], entropy: batch[ENTROPY] },
              { entropy: frontier[0][ENTROPY] },
            )
          : "";
      find(".tells .chip").textContent = regionName(kind);
      find(".tells .chip").className = `chip ${REGIONS[kind] ?? ""}`;
      find(".sentence").textContent = sentence(run.rows, now.exact);
      const room = (selector) => rooms[selector],
        high = Math.round((size > 20 ? 14.6 : size > 18 ? 17.5 : size > 14 ? 19 : 17.3) * size);
      const times = {
        end: axis(room(".curves") || room(".deck"), size, run).end,
        moved: [...(run.forked === null ? [] : [run.forked]), ...run.moves.map(([k]) => k)],
      };
      if (panels.includes("curves")) {
        find(".curves").innerHTML = curves(room(".curves"), high, size, run, now);
        find(".of-kl").innerHTML = tile(
          room(".of-kl"),
          2.6 * size,
          tr("distance from {home}, nats", { home: SFT }),
          number(batch[KL]),
          "leash",
          run.rows,
          KL,
          now.optimum[KL],
          times,
        );
        find(".of-h").innerHTML = tile(
          room(".of-h"),
          2.6 * size,
          tr("variety H(π), nats"),
          number(batch[ENTROPY]),
          "many",
          run.rows,
          ENTROPY,
          now.optimum[ENTROPY],
          times,
        );
      }
      if (panels.includes("landscape"))
        find(".way").innerHTML = way(room(".way"), high, size, run, now, frontier);
      if (panels.includes("regret"))
        find(".of-regret").innerHTML = tile(
          room(".of-regret"),
          2.6 * size,
          tr("regret J* − J, at this η and β"),
          number(now.estimate ?? now.regret),
          "plain",
          regrets(run, now),
          0,
          0,
          times,
        );
      find(".numbers").innerHTML = table(now, run);
      fields();
      if (!now.running || began > spokenAt + SPOKEN_EVERY) {
        spokenAt = began;
        find(".heard").textContent = spoken(now, find(".task").textContent);
      }
      root.state = now;
      root.run = run;
      root.drawMs = performance.now() - began;
      root.draws = (root.draws ?? 0) + 1;
    }

    /** Sliders and fields: where the run has them, or, until it has heard, where a hand put them. */
    function levers() {
      for (const name of ["eta", "beta"]) {
        const value = held[name] ?? now[name],
          input = find(`[data-of=${name}]`),
          typed = find(`[data-typed=${name}]`),
          k = nearest(values[name], value);
        input.value = k;
        input.style.setProperty("--at", `${(100 * k) / (values[name].length - 1)}%`);
        input.setAttribute("aria-valuetext", String(value));
        if (root.ownerDocument.activeElement !== typed || typed.dataset.done)
          typed.value = +value.toPrecision(4);
      }
    }

    /** The next step of the guided path; one that keeps a target for the KL has its own hand on η. */
    function lead() {
      const box = find(".guide");
      box.hidden = !guided || Boolean(now.settings.kl_target);
      if (!run.rows.length) arrived = free = reached = null;
      free ??= run.rows.length ? beganFree(run.moves, now.eta) : now.eta < HELD;
      const twins = !moved && run.parent.length > 0;
      const [done, said, next] = box.hidden
        ? [0, "", ""]
        : (arrived ?? guide(run.rows, { ...now, twins, parent: run.parent.at(-1) }));
      if (done === 3) arrived = [done, said, next]; // whatever is tried after that
      if (!run.rows.length) free = now.eta < HELD;
      const same = twins && !box.hidden,
        task = same ? tr("Now move η: until then parent and child are the same.") : said;
      find(".deck").dataset.next = same ? "eta" : next;
      find(".deck").classList.toggle("tells-a-story", !box.hidden && done < 3);
      const ticked = free ? Math.max(0, done - 1) : done; // a free run has no step of letting go
      rest(box.hidden ? null : ticked);
      steps(box, ticked, task, next);
    }

    /** At the slow pace a run rests when a step of the path is done, until η moves. */
    function rest(done) {
      const step = reached !== null && done !== null && done > reached;
      reached = done;
      if (!step || !now.running || !now.slow) return;
      waits = true;
      host.send({ do: "pause" });
    }

    function steps(box, done, task, next) {
      const path = GUIDE(free),
        shown = `${done} ${free} ${task}`;
      if (box.dataset.shown === shown) return;
      box.dataset.shown = shown;
      if (all(".guide li").length !== path.length)
        find(".guide ol").innerHTML = path
          .map(
            ([name, brief], k) =>
              `<li><button type="button" data-take="${k}"><i></i>${brief ? `<span class="long">${name}</span><span class="brief">${brief}</span>` : name}</button></li>`,
          )
          .join("");
      find(".task").textContent = task;
      find(".again").hidden = next !== "again";
      find(".again").textContent = free
        ? tr("Start over with another seed")
        : tr("Start over without a leash");
      all(".guide li").forEach((step, k) => {
        step.className = k < done ? "done" : k === done ? "now" : "";
        step.querySelector("i").textContent = k < done ? "✓" : k + 1;
        step.firstChild.disabled = k > done;
        step.ariaCurrent = k === done ? "step" : null;
      });
    }

    /** Do a step of the path for those who want to see it done. */
    function take(k) {
      const last = GUIDE(free).length - 1,
        kl = (now.batch ?? now.exact)[KL],
        leash = k === last ? up(kl) : k === 0 && !free ? Math.max(now.eta, 0.3) : 0;
      waits = false;
      if (find(".deck").dataset.next === "fork") host.send({ do: "fork" }); // the parent stays where it fell
      if (leash !== now.eta) move("eta", leash);
      if (!now.running) host.send({ do: "start" });
    }

    /** The same without a leash, where readers will frown; or, if that was lucky, with another seed. */
    function again() {
      const settings = chosen();
      if (free) settings.seed = String(Number(settings.seed) + 1);
      waits = false;
      host.send({ do: "reset", settings, eta: 0, beta: now.beta });
      host.send({ do: "start" });
    }

    /** The settings of the run, once they have changed; what a hand typed since then stays. */
    function fields() {
      const text = JSON.stringify(now.settings);
      if (text === settings) return;
      settings = text;
      for (const [name, value] of Object.entries(now.settings)) find(`[name=${name}]`).value = value ?? "";
    }

    function chosen() {
      const value = (name) => find(`[name=${name}]`).value.trim();
      return {
        kl_mode: value("kl_mode"),
        lr: Number(value("lr")),
        seed: value("seed"),
        kl_target: value("kl_target").replace(",", "."),
      };
    }

    function move(name, value) {
      held[name] = value;
      moved = true;
      host.send({ move: { [name]: value }, page: id, asked: ++asked });
      if (waits) host.send({ do: "start" });
      waits = false;
      levers();
      if (now) update();
    }

    const clicked = (event) => {
      const order = event.target.closest("[data-do]")?.dataset.do;
      const step = event.target.closest("[data-take]")?.dataset.take;
      if (step) return take(Number(step));
      if (event.target.closest(".again")) return again();
      if (event.target.closest(".dismiss")) {
        guided = false;
        update();
      }
      if (order) waits = order === "fork" && (waits || now.running);
      if (order === "fork") moved = false;
      if (order === "reset")
        host.send({
          do: order,
          settings: chosen(),
          eta: asNumber(find("[data-typed=eta]").value),
          beta: asNumber(find("[data-typed=beta]").value),
        });
      else if (order === "save" || order === "load")
        host.send({ do: order, folder: find("[name=folder]").value });
      else if (order) host.send({ do: order });
      if (order === "fork" && now.running) host.send({ do: "pause" }); // until parent and child differ
    };
    const changed = (event) => {
      const { of, typed } = event.target.dataset;
      if (event.target.closest(".pace") && event.type === "change")
        host.send({ slow: event.target.value === "slow" });
      if (of && event.type === "input") move(of, values[of][event.target.value]);
      if (typed && event.type === "input") delete event.target.dataset.done;
      if (!typed || event.type !== "change") return;
      event.target.dataset.done = "true";
      const value = asNumber(event.target.value);
      if (value >= 0 && Number.isFinite(value)) move(typed, value);
      else
        find(".wrong").textContent = tr("“{typed}” is not a number that is at least 0.", {
          typed: event.target.value,
        });
      if (now) levers();
    };
    const listeners = [
      ["click", clicked],
      ["input", changed],
      ["change", changed],
    ];
    for (const [kind, listener] of listeners) root.addEventListener(kind, listener);
    const resized = new ResizeObserver(([entry]) => {
      if (width === entry.contentRect.width) return;
      width = entry.contentRect.width;
      rooms = null;
      update();
    });
    resized.observe(find(".deck"));
    const undo = [
      host.listen(hear),
      host.trouble((text) => {
        find(".trouble").textContent = text;
      }),
    ];
    host.send({ all: true });
    return () => {
      cancelAnimationFrame(frame);
      resized.disconnect();
      for (const off of undo) off();
      for (const [kind, listener] of listeners) root.removeEventListener(kind, listener);
      root.innerHTML = "";
    };
  }

  return { mount, sentence, guide, beganFree };
})();
