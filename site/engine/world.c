// What a page of the course computes: rlhf_lab's GPT-2, its PPO and its exact optimum, for WebAssembly, without a library.
//
// Every function has the name that it has in the package. Python is the truth: tests/site/test_engine.py holds this to it.
// `python3 course.py engine` compiles it to world.wasm, which is committed; CI compiles it again and compares the bytes.
#include "sizes.h"
#include "maths.h"
#include "gpt2.h"
#include "exact.h"
#include "ppo.h"

#define EXPORT(name) __attribute__((export_name(name)))

EXPORT("start") void export_start(void) { start(); }
EXPORT("rollout") void export_rollout(void) { rollout(); }
EXPORT("losses") void export_losses(void) { losses(); }
EXPORT("iterate") int export_iterate(void) { return iterate(); }
EXPORT("read_reference") void export_read_reference(int prompt) { sequence_logprobs(&sft, prompt, ref_logprobs[prompt], ref_next[prompt]); }
EXPORT("read_policy") void export_read_policy(int prompt) { sequence_logprobs(&state.policy, prompt, live_logprobs, 0); }
EXPORT("optimum") void export_optimum(int prompt, int of_gold, double eta, double beta, int k, int draws) {
  optimum(prompt, of_gold, eta, beta, k < TOP ? k : TOP, draws);
}
EXPORT("evaluate") void export_evaluate(int prompt, int k, int draws) { evaluate(prompt, k < TOP ? k : TOP, draws); }

// Where the page finds the numbers, and how many bytes they take: it reads and writes them in place.
static const struct {
  const char *name;
  void *at;
  int bytes;
} places[] = {
#define PLACE(name) {#name, &name, sizeof name}
    PLACE(sft),     PLACE(state),    PLACE(gradient), PLACE(config),    PLACE(stats),        PLACE(scores),   PLACE(golds),         PLACE(ref_logprobs),
    PLACE(live_logprobs), PLACE(ref_next), PLACE(uniforms), PLACE(responses), PLACE(lengths), PLACE(number_of), PLACE(advantages), PLACE(returns), PLACE(copies),
    PLACE(means),   PLACE(top_index), PLACE(top_share),
};
EXPORT("place_count") int place_count(void) { return sizeof places / sizeof places[0]; }
EXPORT("place_name") const char *place_name(int i) { return places[i].name; }
EXPORT("place_at") void *place_at(int i) { return places[i].at; }
EXPORT("place_bytes") int place_bytes(int i) { return places[i].bytes; }
