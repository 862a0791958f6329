#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>

#include "ops/attention/attention.h"
#include "runtime/op_support.h"
#include "runtime/op_time.h"

namespace hilnas {
namespace {

std::string describe_kv(int64_t heads, int64_t head_dim, int64_t window) {
  return std::to_string(heads) + " kv heads of " + std::to_string(head_dim) + ", window " + std::to_string(window);
}

Result<KvState*> find_state(const Tensor& slots, int64_t index, const AttentionArgs& a) {
  const Result<int64_t> slot = read_slot(slots, index);
  if (!slot.ok()) return slot.status();
  KvState* state = StateTable::instance().kv(slot.value());
  if (state == nullptr) return Status::failure("slot " + std::to_string(slot.value()) + " holds no kv state");
  const KvGeometry& g = state->geometry;
  if (g.num_kv_heads != a.Hkv || g.head_dim != a.D || g.window != a.window) {
    return Status::failure("slot " + std::to_string(slot.value()) + " has " +
                           describe_kv(g.num_kv_heads, g.head_dim, g.window) + ", the block needs " +
                           describe_kv(a.Hkv, a.D, a.window));
  }
  return state;
}

bool shapes_agree(const Tensor& q, const Tensor& k, const Tensor& v) {
  if (!is_float(q, 4) || !is_float(k, 4) || !is_float(v, 4) || q.size(0) != 1 || k.size(0) != 1) return false;
  for (int i = 0; i < 4; ++i) {
    if (k.size(i) != v.size(i)) return false;
  }
  return q.size(1) == k.size(1) && q.size(3) == k.size(3) && q.numel() > 0 && k.size(2) > 0 &&
         q.size(2) % k.size(2) == 0;
}

Tensor& attention_out(KernelRuntimeContext& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& slots,
                      const Tensor& pos, int64_t index, int64_t window, double scale, Tensor& out) {
  constexpr const char* kOp = "attention";
  static OpTime time(kOp);
  const OpTimer timer(time);
  HILNAS_OP_CHECK(ctx, kOp, shapes_agree(q, k, v),
                  "q " + shape_text(q) + ", k " + shape_text(k) + ", v " + shape_text(v) +
                      " are not [1,T,Hq,D] and twice [1,T,Hkv,D] in float32 with Hq a multiple of Hkv",
                  out);
  const Result<int64_t> position = read_position(pos);
  HILNAS_OP_CHECK(ctx, kOp, position.ok(), position.message(), out);
  AttentionArgs args{q.const_data_ptr<float>(),
                     k.const_data_ptr<float>(),
                     v.const_data_ptr<float>(),
                     nullptr,
                     q.size(1),
                     q.size(2),
                     k.size(2),
                     q.size(3),
                     position.value(),
                     window,
                     static_cast<float>(scale)};
  const Result<KvState*> state = find_state(slots, index, args);
  HILNAS_OP_CHECK(ctx, kOp, state.ok(), state.message(), out);
  const Status resized = resize_out(out, q);
  HILNAS_OP_CHECK(ctx, kOp, resized.ok(), resized.message(), out);
  args.out = out.mutable_data_ptr<float>();
  const Status done = attention_f32(args, *state.value(), active_isa());
  HILNAS_OP_CHECK(ctx, kOp, done.ok(), done.message(), out);
  return out;
}

}  // namespace
}  // namespace hilnas

EXECUTORCH_LIBRARY(hilnas, "attention.out", hilnas::attention_out);
