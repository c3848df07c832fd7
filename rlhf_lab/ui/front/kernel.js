"use strict";
// The host of the explorer in notebooks: settings are traits of the widget, and what is large comes
// from the kernel as answers to questions of the page, once for each prompt and score.

const rlhfKernel = (() => {
  const hosts = new WeakMap();
  const KINDS_OF_TABLE = ["ref", "score", "gold", "compared"];
  const LOST = "The kernel was restarted or has gone: what you move here is no longer in Python. Run this cell again.";

  const floats = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

  function connect(model) {
    const asked = new Map(), waiting = new Map();
    model.on("msg:custom", ({ answer, trouble, ...content }, buffers) => {
      const [done, failed] = waiting.get(answer) ?? [];
      if (trouble) failed?.(new Error(trouble)); else done?.({ ...content, buffers });
    });
    const ask = (what) => {
      const key = JSON.stringify(what);
      if (!asked.has(key)) {
        const answer = new Promise((done, failed) => waiting.set(key, [done, failed]));
        asked.set(key, answer.catch((error) => { asked.delete(key); throw error; }));
        model.send({ ask: key, ...what });
      }
      return asked.get(key);
    };
    const tables = new Map();
    const tablesOf = async (prompt) => {
      const { buffers } = await ask({ tables: prompt });
      if (!tables.has(prompt)) tables.set(prompt, Object.fromEntries(buffers.map((view, k) => [KINDS_OF_TABLE[k], floats(view)])));
      return tables.get(prompt);
    };
    let timer = 0;
    return {
      get: (name) => model.get(name),
      set(name, value, done) {
        model.set(name, value);
        clearTimeout(timer);
        if (done) model.save_changes(); else timer = setTimeout(() => model.save_changes(), 150);
      },
      on(name, callback) { model.on(`change:${name}`, callback); return () => model.off(`change:${name}`, callback); },
      get constants() { return model.get("constants"); },
      async world(prompt, score) {
        const [t, { still }] = await Promise.all([tablesOf(prompt), ask({ still: prompt, score })]);
        return { tables: t, still };
      },
      trouble(callback) {
        const lost = () => callback(LOST);
        for (const kind of ["comm_live_update", "comm:close"]) model.on(kind, lost);
        return () => { for (const kind of ["comm_live_update", "comm:close"]) model.off(kind, lost); };
      },
    };
  }

  const render = (mount) => ({ model, el }) => {
    if (!hosts.has(model)) hosts.set(model, connect(model));
    return mount(el, hosts.get(model));
  };
  return { render };
})();
