#include "tomoserve/compute/distance.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tomoserve::compute {
namespace {

// Voxels between two ranges of them; 0 where they touch or overlap.
std::int64_t Gap(std::int64_t first, std::int64_t last, std::int64_t other_first, std::int64_t other_last) {
  return std::max<std::int64_t>({0, other_first - last - 1, first - other_last - 1});
}

// Searches outwards from where the other object is nearest, and leaves out what cannot be nearer than what
// has been found: gaps of boxes are no larger than those of the runs in them, and rounding is monotone.
class Search {
 public:
  explicit Search(const std::array<double, 3>& spacing_mm) : spacing_mm_(spacing_mm) {}

  void Compare(const RunsBySlice::Slice& slice, const std::vector<RunsBySlice::Slice>& others) {
    const auto above =
        std::lower_bound(others.begin(), others.end(), slice.k,
                         [](const RunsBySlice::Slice& other, std::int32_t k) { return other.k < k; });
    for (auto other = above; other != others.end() && IsNearer(0, 0, GapK(slice, *other)); ++other) {
      Compare(slice, *other);
    }
    for (auto other = above; other != others.begin();) {
      --other;
      if (!IsNearer(0, 0, GapK(slice, *other))) break;
      Compare(slice, *other);
    }
  }

  double mm() const { return std::sqrt(squared_); }

 private:
  static std::int64_t GapK(const RunsBySlice::Slice& a, const RunsBySlice::Slice& b) {
    return Gap(a.k, a.k, b.k, b.k);
  }

  double Squared(std::int64_t i, std::int64_t j, std::int64_t k) const {
    const double along_i = static_cast<double>(i) * spacing_mm_[0];
    const double along_j = static_cast<double>(j) * spacing_mm_[1];
    const double along_k = static_cast<double>(k) * spacing_mm_[2];
    return along_i * along_i + along_j * along_j + along_k * along_k;
  }
  bool IsNearer(std::int64_t i, std::int64_t j, std::int64_t k) const { return Squared(i, j, k) < squared_; }

  void Compare(const RunsBySlice::Slice& slice, const RunsBySlice::Slice& other) {
    const std::int64_t k = GapK(slice, other);
    const auto gap = [&](std::size_t axis) {
      return Gap(slice.first_ij[axis], slice.last_ij[axis], other.first_ij[axis], other.last_ij[axis]);
    };
    if (!IsNearer(gap(0), gap(1), k)) return;
    for (const RowRun& run : slice.runs) {
      const std::int64_t i = Gap(run.first_i, run.last_i, other.first_ij[0], other.last_ij[0]);
      const std::int64_t j = Gap(run.j, run.j, other.first_ij[1], other.last_ij[1]);
      if (IsNearer(i, j, k)) Compare(run, other.runs, k);
    }
  }

  void Compare(const RowRun& run, std::span<const RowRun> others, std::int64_t k) {
    const auto above = std::lower_bound(others.begin(), others.end(), run.j,
                                        [](const RowRun& other, std::int32_t j) { return other.j < j; });
    // False: neither this run nor one in a row farther away is nearer.
    const auto take = [&](const RowRun& other) {
      const std::int64_t j = Gap(run.j, run.j, other.j, other.j);
      if (!IsNearer(0, j, k)) return false;
      const std::int64_t i = Gap(run.first_i, run.last_i, other.first_i, other.last_i);
      squared_ = std::min(squared_, Squared(i, j, k));
      return true;
    };
    for (auto other = above; other != others.end() && take(*other); ++other) {
    }
    for (auto other = above; other != others.begin();) {
      if (!take(*--other)) break;
    }
  }

  const std::array<double, 3>& spacing_mm_;
  double squared_ = std::numeric_limits<double>::infinity();
};

}  // namespace

RunsBySlice::RunsBySlice(std::span<const RowRun> runs) {
  for (std::size_t begin = 0; begin < runs.size();) {
    Slice slice{runs[begin].k, {runs[begin].first_i, runs[begin].j}, {runs[begin].last_i, runs[begin].j}, {}};
    std::size_t end = begin;
    for (; end < runs.size() && runs[end].k == slice.k; ++end) {
      slice.first_ij[0] = std::min(slice.first_ij[0], runs[end].first_i);
      slice.last_ij[0] = std::max(slice.last_ij[0], runs[end].last_i);
      slice.last_ij[1] = runs[end].j;
    }
    slice.runs = runs.subspan(begin, end - begin);
    slices_.push_back(slice);
    begin = end;
  }
}

double LeastDistanceMm(const RunsBySlice& object, const RunsBySlice& other,
                       const std::array<double, 3>& spacing_mm) {
  Search search(spacing_mm);
  for (const RunsBySlice::Slice& slice : object.slices()) search.Compare(slice, other.slices());
  return search.mm();
}

}  // namespace tomoserve::compute
