#include "apps/tomoctl/load_plan.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::tomoctl {
namespace {

// Of a new UID: with 20 random digits two of 10^9 are alike by a chance of 1 in 200.
constexpr std::size_t kFewestDigits = 20;
constexpr std::size_t kMostDigits = 30;
constexpr std::size_t kLongestUid = 64;  // PS3.5 9.1

std::vector<double> Sums(const std::vector<Share>& shares) {
  std::vector<double> sums;
  double sum = 0;
  for (const Share& share : shares) sums.push_back(sum += share.share);
  return sums;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Bytes of the UID that stands at `offset` as the value of an element that was written with this length.
std::size_t UidLength(std::string_view file, std::size_t offset, std::size_t length) {
  if (length == 0 || length > kLongestUid || offset + length > file.size()) return 0;
  std::string_view value = file.substr(offset, length);
  while (!value.empty() && (value.back() == '\0' || value.back() == ' ')) value.remove_suffix(1);
  const bool plain = std::all_of(value.begin(), value.end(), [](char c) { return IsDigit(c) || c == '.'; });
  return plain ? value.size() : 0;
}

}  // namespace

absl::StatusOr<std::vector<Share>> ParseMix(std::string_view text) {
  std::vector<Share> shares;
  double sum = 0;
  for (const absl::string_view entry : absl::StrSplit(base::ToAbsl(text), ',')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(entry, absl::MaxSplits(':', 1));
    Share share{std::string(parts.first), 1};
    const bool number = entry.size() == parts.first.size() ||
                        (absl::SimpleAtod(parts.second, &share.share) && std::isfinite(share.share));
    const bool again = std::any_of(shares.begin(), shares.end(),
                                   [&](const Share& other) { return other.name == share.name; });
    if (share.name.empty() || !number || share.share <= 0 || again) {
      return base::Error(absl::StatusCode::kInvalidArgument, "LOAD_MIX", std::string(entry),
                         "a mix is NAME:SHARE,... with positive shares and each name once");
    }
    sum += share.share;
    shares.push_back(std::move(share));
  }
  for (Share& share : shares) share.share /= sum;
  return shares;
}

absl::StatusOr<PhantomSize> ParsePhantomSize(std::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(base::ToAbsl(text), 'x');
  PhantomSize size;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &size.rows) ||
      !absl::SimpleAtoi(parts[1], &size.slices) || size.rows == 0 || size.slices == 0) {
    return base::Error(absl::StatusCode::kInvalidArgument, "LOAD_SIZE", std::string(text),
                       "a size is ROWSxSLICES, for example 128x60");
  }
  return size;
}

Arrivals::Arrivals(std::uint64_t seed, double per_second, const std::vector<Share>& priorities,
                   const std::vector<Share>& studies)
    : random_(seed), per_second_(per_second), priorities_(Sums(priorities)), studies_(Sums(studies)) {}

double Arrivals::Uniform() { return std::ldexp(static_cast<double>(random_() >> 11), -53); }

std::size_t Arrivals::Choose(const std::vector<double>& until, double uniform) {
  const auto found = std::upper_bound(until.begin(), until.end(), uniform);
  // The sum may be a hair below 1.
  return std::min(static_cast<std::size_t>(found - until.begin()), until.size() - 1);
}

Arrival Arrivals::Next() {
  now_s_ -= std::log1p(-Uniform()) / per_second_;
  const double priority = Uniform();
  return {now_s_, Choose(priorities_, priority), Choose(studies_, Uniform())};
}

std::optional<double> Quantile(const std::vector<double>& values, double share) {
  if (values.empty()) return std::nullopt;
  // 0.95 of 20 is 19, not 19.000000000000004.
  const double rank = std::ceil(share * static_cast<double>(values.size()) - 1e-9);
  const auto place = static_cast<std::size_t>(std::max(rank, 1.0)) - 1;
  return values[std::min(place, values.size() - 1)];
}

std::string FreshUid(std::string_view uid, std::string_view seed) {
  std::string fresh(uid);
  const std::string digest = base::Sha256Hex(absl::StrCat(base::ToAbsl(seed), "|", base::ToAbsl(uid)));
  std::size_t changed = 0;
  for (std::size_t place = fresh.size(); place-- > 0 && changed < kMostDigits;) {
    // A component's first digit stays: it is 0 only where it is the only one.
    if (!IsDigit(fresh[place]) || place == 0 || fresh[place - 1] == '.') continue;
    const auto hex = digest.substr(2 * changed++, 2);
    fresh[place] = static_cast<char>('0' + std::stoi(hex, nullptr, 16) % 10);
  }
  return changed < kFewestDigits ? "" : fresh;
}

std::vector<UidPlace> FindUids(std::string_view file) {
  // (0002,0003), (0008,0018), (0020,000D), (0020,000E) as little endian has them.
  static constexpr std::array<std::string_view, 4> kTags = {
      std::string_view("\x02\x00\x03\x00", 4), std::string_view("\x08\x00\x18\x00", 4),
      std::string_view("\x20\x00\x0d\x00", 4), std::string_view("\x20\x00\x0e\x00", 4)};
  std::vector<UidPlace> places;
  const auto byte = [&](std::size_t at) {
    return static_cast<std::size_t>(static_cast<unsigned char>(file[at]));
  };
  for (const std::string_view tag : kTags) {
    for (std::size_t at = file.find(tag); at != std::string_view::npos; at = file.find(tag, at + 1)) {
      if (at + 8 > file.size()) break;
      const bool named = file.substr(at + 4, 2) == "UI";
      const std::size_t length =
          named ? byte(at + 6) | byte(at + 7) << 8
                : byte(at + 4) | byte(at + 5) << 8 | byte(at + 6) << 16 | byte(at + 7) << 24;
      const std::size_t found = UidLength(file, at + 8, length);
      if (found > 0) places.push_back({at + 8, found});
    }
  }
  return places;
}

}  // namespace tomoserve::tomoctl
