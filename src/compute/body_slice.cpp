#include "compute/body_slice.h"

#include <algorithm>

namespace tomoserve::compute {
namespace {

// CT stores no air below -1024 HU; scanners fill what they did not reconstruct with -2000 or -3024.
constexpr float kPaddingBelowHu = -1100;

}  // namespace

void BodySlice::Resize(std::int32_t rows, std::int32_t columns) {
  rows_ = rows;
  columns_ = columns;
  values_.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));
  marks_.resize(values_.size());
  padding_.resize(values_.size());
  row_spans_.resize(static_cast<std::size_t>(rows));
  column_spans_.resize(static_cast<std::size_t>(columns));
}

template <typename Visit>
void BodySlice::ForNeighbours(std::size_t at, Visit visit) const {
  const auto columns = static_cast<std::size_t>(columns_);
  const std::size_t i = at % columns;
  if (i > 0) visit(at - 1);
  if (i + 1 < columns) visit(at + 1);
  if (at >= columns) visit(at - columns);
  if (at + columns < marks_.size()) visit(at + columns);
}

template <typename Visit>
void BodySlice::Flood(std::size_t seed, Mark from, Mark to, Visit visit) {
  const auto enter = [&](std::size_t at) {
    if (marks_[at] != from) return;
    marks_[at] = to;
    stack_.push_back(at);
  };
  enter(seed);
  while (!stack_.empty()) {
    const std::size_t at = stack_.back();
    stack_.pop_back();
    visit(at);
    ForNeighbours(at, enter);
  }
}

EdgeOfView BodySlice::Find(const Samples& samples, const std::optional<InnerCircle>& circle,
                           std::uint8_t* air, std::size_t air_row_step) {
  Resize(samples.rows, samples.columns);
  std::size_t at = 0;
  for (std::int32_t j = 0; j < rows_; ++j) {
    const float* const row = samples.hu + j * samples.row_step;
    for (std::int32_t i = 0; i < columns_; ++i, ++at) {
      values_[at] = row[i * samples.column_step];
      marks_[at] = values_[at] < kAirBelowHu ? kOpen : kTissue;
    }
  }
  KeepLargestTissue();
  FindBodySpans();
  FindPadding(circle);
  for (at = 0; at < marks_.size(); ++at) {
    if (padding_[at] != 0 && marks_[at] == kOpen) marks_[at] = kOutside;
  }
  EdgeOfView edge;
  for (at = 0; at < marks_.size(); ++at) {
    const bool body = marks_[at] == kBody;
    if ((!body && marks_[at] != kOpen) || !IsAtEdge(at)) continue;
    if (body) {
      edge.touches_body = true;
      continue;
    }
    std::size_t all = 0;
    std::size_t along_row = 0;
    std::size_t along_column = 0;
    Flood(at, kOpen, kOutside, [&](std::size_t sample) {
      if (values_[sample] >= kAirBelowHu) return;
      ++all;
      const std::size_t j = sample / static_cast<std::size_t>(columns_);
      const std::size_t i = sample % static_cast<std::size_t>(columns_);
      if (row_spans_[j].HasInside(static_cast<std::int32_t>(i))) ++along_row;
      if (column_spans_[i].HasInside(static_cast<std::int32_t>(j))) ++along_column;
    });
    if (2 * std::max(along_row, along_column) >= all) edge.cut_air += all;
  }
  at = 0;
  for (std::int32_t j = 0; j < rows_; ++j) {
    std::uint8_t* const row = air + static_cast<std::size_t>(j) * air_row_step;
    for (std::int32_t i = 0; i < columns_; ++i, ++at) {
      row[i] = values_[at] < kAirBelowHu && marks_[at] == kOpen ? 1 : 0;
    }
  }
  return edge;
}

void BodySlice::KeepLargestTissue() {
  std::size_t largest = 0;
  std::size_t seed_of_largest = 0;
  for (std::size_t at = 0; at < marks_.size(); ++at) {
    if (marks_[at] != kTissue) continue;
    std::size_t samples = 0;
    Flood(at, kTissue, kCounted, [&](std::size_t) { ++samples; });
    if (samples > largest) {
      largest = samples;
      seed_of_largest = at;
    }
  }
  if (largest > 0) Flood(seed_of_largest, kCounted, kBody, [](std::size_t) {});
  std::replace(marks_.begin(), marks_.end(), kCounted, kOpen);
}

void BodySlice::FindBodySpans() {
  std::fill(row_spans_.begin(), row_spans_.end(), Span{});
  std::fill(column_spans_.begin(), column_spans_.end(), Span{});
  std::size_t at = 0;
  for (std::int32_t j = 0; j < rows_; ++j) {
    for (std::int32_t i = 0; i < columns_; ++i, ++at) {
      if (marks_[at] != kBody) continue;
      row_spans_[static_cast<std::size_t>(j)].Add(i);
      column_spans_[static_cast<std::size_t>(i)].Add(j);
    }
  }
}

void BodySlice::FindPadding(const std::optional<InnerCircle>& circle) {
  std::fill(padding_.begin(), padding_.end(), std::uint8_t{0});
  PadFromCorners();
  if (circle) PadOutside(*circle);
}

// Values that only padding has, from the corners on, and one sample more: values between padding and body are
// neither.
void BodySlice::PadFromCorners() {
  std::vector<std::size_t> padded;
  const auto enter = [&](std::size_t at) {
    if (padding_[at] != 0 || values_[at] >= kPaddingBelowHu) return;
    padding_[at] = 1;
    padded.push_back(at);
  };
  for (const std::int32_t j : {0, rows_ - 1}) {
    for (const std::int32_t i : {0, columns_ - 1}) enter(Index(j, i));
  }
  for (std::size_t n = 0; n < padded.size(); ++n) ForNeighbours(padded[n], enter);
  for (const std::size_t at : padded) {
    ForNeighbours(at, [&](std::size_t neighbour) { padding_[neighbour] = 1; });
  }
}

// Padding with the value of air shows by being all the same outside the circle of reconstruction.
void BodySlice::PadOutside(const InnerCircle& circle) {
  const float corner = values_[0];
  if (corner >= kAirBelowHu) return;
  const auto square_of_distance = [&](std::int32_t j, std::int32_t i) {
    return (j - circle.row) * (j - circle.row) + (i - circle.column) * (i - circle.column);
  };
  const double surely_outside = circle.radius + 1;
  const double surely_inside = circle.radius - 1.5;
  for (std::int32_t j = 0; j < rows_; ++j) {
    for (std::int32_t i = 0; i < columns_; ++i) {
      if (square_of_distance(j, i) > surely_outside * surely_outside && values_[Index(j, i)] != corner)
        return;
    }
  }
  for (std::int32_t j = 0; j < rows_; ++j) {
    for (std::int32_t i = 0; i < columns_; ++i) {
      if (square_of_distance(j, i) > surely_inside * surely_inside) padding_[Index(j, i)] = 1;
    }
  }
}

bool BodySlice::IsAtEdge(std::size_t at) const {
  const std::size_t columns = static_cast<std::size_t>(columns_);
  const std::size_t i = at % columns;
  if (i == 0 || i + 1 == columns || at < columns || at + columns >= marks_.size()) return true;
  bool beside_padding = false;
  ForNeighbours(at,
                [&](std::size_t neighbour) { beside_padding = beside_padding || padding_[neighbour] != 0; });
  return beside_padding;
}

}  // namespace tomoserve::compute
