#include "dispatch/bucket_proofs.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/log.h"

namespace tomoserve::dispatch {
namespace {

using Sizes = google::protobuf::RepeatedField<std::uint32_t>;

constexpr std::uint32_t kLargest = 64;
constexpr std::size_t kMostProofs = 4096;

std::string KeyOf(const models::Model& model, const ipc::v1::Hello& device, const std::string& build) {
  std::string text;
  for (const std::string& part :
       {model.model_digest, model.recipe_digest, device.device_kind(), device.torch_version(),
        device.driver_version(), device.cudnn_version(), build}) {
    absl::StrAppend(&text, part.size(), ":", part);
  }
  return base::Sha256Hex(text);
}

// Sizes of "1,2,4"; empty where it is anything else.
Sizes SizesOf(const std::string& text) {
  Sizes sizes;
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(text, ','))) {
    std::uint32_t size = 0;
    if (!absl::SimpleAtoi(word, &size)) return {};
    sizes.Add(size);
  }
  return AreBuckets(sizes) ? sizes : Sizes();
}

bool IsProof(const Sizes& buckets, const Sizes& tried) {
  return AreBuckets(buckets) && AreBuckets(tried) &&
         std::includes(tried.begin(), tried.end(), buckets.begin(), buckets.end());
}

}  // namespace

bool AreBuckets(const Sizes& sizes) {
  return !sizes.empty() && sizes.Get(0) == 1 && sizes.Get(sizes.size() - 1) <= kLargest &&
         std::adjacent_find(sizes.begin(), sizes.end(), std::greater_equal<>()) == sizes.end();
}

BucketProofs::BucketProofs(std::string file, std::string build)
    : file_(std::move(file)), build_(std::move(build)) {
  if (file_.empty()) return;
  std::ifstream lines(file_);
  // A line without its end was not written to its end.
  for (std::string line; std::getline(lines, line) && !lines.eof() && proofs_.size() < kMostProofs;) {
    std::istringstream words(line);
    std::string key;
    Proof proof;
    words >> key >> proof.buckets >> proof.tried;
    if (IsProof(SizesOf(proof.buckets), SizesOf(proof.tried))) proofs_.insert_or_assign(key, proof);
  }
}

std::optional<ipc::v1::BucketProof> BucketProofs::Find(const models::Model& model,
                                                       const ipc::v1::Hello& device) const {
  const auto found = proofs_.find(KeyOf(model, device, build_));
  if (found == proofs_.end()) return std::nullopt;
  ipc::v1::BucketProof proof;
  *proof.mutable_buckets() = SizesOf(found->second.buckets);
  *proof.mutable_tried() = SizesOf(found->second.tried);
  return proof;
}

void BucketProofs::Keep(const models::Model& model, const ipc::v1::Hello& device,
                        const ipc::v1::BucketProof& proof) {
  if (file_.empty() || !IsProof(proof.buckets(), proof.tried())) return;
  const Proof kept{.buckets = absl::StrJoin(proof.buckets(), ","),
                   .tried = absl::StrJoin(proof.tried(), ",")};
  const std::string key = KeyOf(model, device, build_);
  const auto known = proofs_.find(key);
  if (known != proofs_.end() && known->second == kept) return;
  if (known == proofs_.end() && proofs_.size() >= kMostProofs) proofs_.erase(proofs_.begin());
  proofs_.insert_or_assign(key, kept);
  Write();
}

void BucketProofs::Write() const {
  const std::string temporary = file_ + ".new";
  std::ofstream lines(temporary, std::ios::trunc);
  for (const auto& [key, proof] : proofs_) {
    lines << key << ' ' << proof.buckets << ' ' << proof.tried << '\n';
  }
  lines.close();
  std::error_code error;
  if (lines) std::filesystem::rename(temporary, file_, error);
  if (!lines || error) base::Log(base::LogLevel::kWarning, "bucket_proofs_not_written");
}

}  // namespace tomoserve::dispatch
