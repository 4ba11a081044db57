#include "tomoserve/ipc/refused_identity.h"

#include <string>

#include "absl/strings/cord.h"

namespace tomoserve::ipc {
namespace {

constexpr char kUrl[] = "tomoserve/refused_identity";

}  // namespace

void SetRefusedIdentity(const v1::Refusal& refusal, absl::Status& status) {
  v1::Refusal identity = refusal;
  identity.clear_code();
  identity.clear_value();
  identity.clear_text();
  if (const std::string bytes = identity.SerializeAsString(); !bytes.empty()) {
    status.SetPayload(kUrl, absl::Cord(bytes));
  }
}

v1::Refusal RefusedIdentity(const absl::Status& status) {
  v1::Refusal identity;
  const auto payload = status.GetPayload(kUrl);
  if (payload && !identity.ParseFromString(std::string(*payload))) identity.Clear();
  return identity;
}

}  // namespace tomoserve::ipc
