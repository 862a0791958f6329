#include "ops/attention/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <vector>

#include "runtime/half.h"
#include "runtime/scratch.h"
#include "runtime/threads.h"

namespace hilnas {
namespace {

void attention_store_rows__scalar(void* cache, CacheDtype dtype, int64_t offset, const float* source, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (dtype == CacheDtype::kFp16) {
      static_cast<uint16_t*>(cache)[offset + i] = float_to_half(source[i]);
    } else {
      static_cast<float*>(cache)[offset + i] = source[i];
    }
  }
}

struct Kernels {
  decltype(&attention_store_rows__scalar) store_rows;
  void (*tile)(const AttentionArgs&, const KeySegments&, int64_t, int64_t, int64_t, float*);
  void (*decode_part)(const AttentionArgs&, const KeySegment&, int64_t, int64_t, int64_t, float*);
};

Kernels select(Isa isa) {
#define HILNAS_ATTENTION_CASE(name)                                                               \
  if (std::string(isa_name(isa)) == #name) {                                                      \
    return {attention_store_rows__##name, attention_tile__##name, attention_decode_part__##name}; \
  }
  HILNAS_ATTENTION_VARIANTS(HILNAS_ATTENTION_CASE)
#undef HILNAS_ATTENTION_CASE
  return {attention_store_rows__scalar, nullptr, nullptr};
}

int64_t lanes(Isa isa) { return isa == Isa::kAvx512 ? 16 : isa == Isa::kAvx2 ? 8 : isa == Isa::kNeon ? 4 : 0; }

// A window ring takes only the chunk's last `window` tokens.
void write_chunk(const AttentionArgs& a, KvState& state, const Kernels& kernels) {
  const KvGeometry& g = state.geometry;
  const int64_t first = g.window != 0 ? std::max<int64_t>(0, a.T - g.window) : 0;
  const int64_t tasks = a.T * a.Hkv * a.D > 65536 ? a.Hkv : 1;
  parallel_tasks(tasks, [&](int64_t task) {
    for (int64_t h = task; h < a.Hkv; h += tasks) {
      for (int64_t t = first; t < a.T; ++t) {
        const int64_t row = g.window != 0 ? (a.pos + t) % g.window : a.pos + t;
        const int64_t offset = (h * g.capacity + row) * a.D, source = (t * a.Hkv + h) * a.D;
        kernels.store_rows(state.k.data(), g.dtype, offset, a.k + source, a.D);
        kernels.store_rows(state.v.data(), g.dtype, offset, a.v + source, a.D);
      }
    }
  });
}

// Latest tokens first: they see most keys, and a dear task at the end would leave the other threads idle.
Status attend_tiles(const AttentionArgs& a, const KeySegments& keys, const Kernels& kernels) {
  const int64_t tokens = std::max<int64_t>(1, kTileRows / (a.Hq / a.Hkv));
  const int64_t blocks = (a.T + tokens - 1) / tokens;
  std::atomic<bool> out_of_memory{false};
  parallel_tasks(blocks * a.Hkv, [&](int64_t task) {
    const int64_t block = blocks - 1 - task / a.Hkv;
    float* scratch = scratch_floats(ScratchUse::kTask, static_cast<size_t>(attention_tile_scratch(a.D)));
    if (scratch == nullptr) return out_of_memory.store(true);
    kernels.tile(a, keys, task % a.Hkv, block * tokens, std::min(a.T, (block + 1) * tokens), scratch);
  });
  return out_of_memory ? Status::failure("out of memory: no room for an attention tile") : Status::success();
}

// Joins the parts of one query head: parts that saw a smaller maximum are scaled down to the largest.
void merge_parts(const AttentionArgs& a, const float* parts, int64_t num_parts, int64_t part_stride, int64_t kv_head,
                 int64_t g) {
  const int64_t G = a.Hq / a.Hkv;
  float largest = parts[g];
  for (int64_t p = 1; p < num_parts; ++p) largest = std::max(largest, parts[p * part_stride + g]);
  float* out = a.out + (kv_head * G + g) * a.D;
  std::fill(out, out + a.D, 0.0f);
  float sum = 0;
  for (int64_t p = 0; p < num_parts; ++p) {
    const float* part = parts + p * part_stride;
    const float factor = std::exp(part[g] - largest);
    sum += part[G + g] * factor;
    const float* values = part + 2 * G + g * a.D;
    for (int64_t i = 0; i < a.D; ++i) out[i] += values[i] * factor;
  }
  for (int64_t i = 0; i < a.D; ++i) out[i] /= sum;
}

struct Run {
  const KeySegment* segment;
  int64_t first, count;
};

// Every segment cut into runs of at most this many keys: 128 KiB of K and V at D = 64 and fp32, a few microseconds
// of reading, so that 8 threads share 8 heads x 4096 keys evenly.
constexpr int64_t kRunKeys = 256;
constexpr int64_t kSerialFloats = 32768;  // below that many K and V values a second thread costs more than it brings

Status attend_decode(const AttentionArgs& a, const KeySegments& keys, const Kernels& kernels) {
  std::vector<Run> runs;
  for (int s = 0; s < keys.count; ++s) {
    for (int64_t j = 0; j < keys.items[s].count; j += kRunKeys) {
      runs.push_back({&keys.items[s], j, std::min(kRunKeys, keys.items[s].count - j)});
    }
  }
  const int64_t num_runs = static_cast<int64_t>(runs.size());
  const int64_t stride = decode_part_floats(a.Hq / a.Hkv, a.D);
  float* parts = scratch_floats(ScratchUse::kCall, static_cast<size_t>(a.Hkv * num_runs * stride));
  if (parts == nullptr) return Status::failure("out of memory: no room for the parts of a decode step");
  const auto run_task = [&](int64_t task) {
    const Run& run = runs[static_cast<size_t>(task % num_runs)];
    kernels.decode_part(a, *run.segment, task / num_runs, run.first, run.count, parts + task * stride);
  };
  if (keys.total() * a.Hkv * a.D * 2 < kSerialFloats) {
    for (int64_t task = 0; task < a.Hkv * num_runs; ++task) run_task(task);
  } else {
    parallel_tasks(a.Hkv * num_runs, run_task);
  }
  for (int64_t head = 0; head < a.Hq; ++head) {
    const int64_t G = a.Hq / a.Hkv, h = head / G;
    merge_parts(a, parts + h * num_runs * stride, num_runs, stride, h, head % G);
  }
  return Status::success();
}

}  // namespace

bool attention_fits(Isa isa, const AttentionArgs& args) {
  // Positions are compared as floats in the mask: exact below 2^24.
  return lanes(isa) > 0 && args.D % lanes(isa) == 0 && args.Hq / args.Hkv <= kTileRows &&
         args.pos + args.T < (int64_t{1} << 24);
}

Status attention_f32(const AttentionArgs& args, KvState& state, Isa isa) {
  const KvGeometry& g = state.geometry;
  if (g.window == 0 && args.pos + args.T > g.capacity) {
    return Status::failure("context of " + std::to_string(args.pos + args.T) +
                           " tokens exceeds the cache's capacity of " + std::to_string(g.capacity));
  }
  const bool vector = attention_fits(isa, args);
  const Kernels kernels = select(vector ? isa : Isa::kScalar);
  if (g.window == 0) write_chunk(args, state, kernels);
  Status status = Status::success();
  if (!vector) {
    attention_f32__scalar(args, state);
  } else {
    const KeySegments keys = g.window == 0 ? global_segments(args, state) : window_segments(args, state);
    status = args.T == 1 ? attend_decode(args, keys, kernels) : attend_tiles(args, keys, kernels);
  }
  if (g.window != 0) write_chunk(args, state, kernels);
  return status;
}

}  // namespace hilnas
