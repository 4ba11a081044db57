#include "tomoserve/compute/components.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

// Sets of runs; a set's root is its first run, so that roots are found in k, j, i order.
class UnionFind {
 public:
  void Add() { parents_.push_back(static_cast<std::uint32_t>(parents_.size())); }
  std::uint32_t Root(std::uint32_t run) {
    while (parents_[run] != run) {
      parents_[run] = parents_[parents_[run]];
      run = parents_[run];
    }
    return run;
  }
  void Join(std::uint32_t a, std::uint32_t b) {
    a = Root(a);
    b = Root(b);
    if (a != b) parents_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<std::uint32_t> parents_;
};

// First index from `i` on with a label, or `size`; eight zero bytes at a time.
template <typename Label>
std::int32_t SkipBackground(const Label* row, std::int32_t i, std::int32_t size) {
  constexpr std::int32_t kStep = 8 / sizeof(Label);
  while (i + kStep <= size) {
    std::uint64_t word;
    std::memcpy(&word, row + i, sizeof(word));
    if (word != 0) break;
    i += kStep;
  }
  while (i < size && row[i] == 0) ++i;
  return i;
}

// Runs of a whole grid, row by row, and their sets.
template <typename Label>
class RunFinder {
 public:
  explicit RunFinder(const LabelGrid<const Label>& grid)
      : grid_(grid),
        rows_(static_cast<std::size_t>(grid.size_kji[0] * grid.size_kji[1])),
        row_begin_(rows_ + 1) {}

  absl::Status Find(const Parallel& parallel) {
    const auto slices = static_cast<std::int32_t>(grid_.size_kji[0]);
    const auto rows = static_cast<std::int32_t>(grid_.size_kji[1]);
    for (std::int32_t k = 0; k < slices; ++k) {
      TS_RETURN_IF_ERROR(CheckCancelled(parallel));
      for (std::int32_t j = 0; j < rows; ++j) {
        AddRow(k, j);
        if (j > 0) JoinRows(RowNumber(k, j), RowNumber(k, j - 1));
        if (k == 0) continue;
        for (std::int32_t dj = -1; dj <= 1; ++dj) {
          if (j + dj >= 0 && j + dj < rows) JoinRows(RowNumber(k, j), RowNumber(k - 1, j + dj));
        }
      }
      if (runs_.size() > kMaxRuns) {
        return base::Error(absl::StatusCode::kResourceExhausted, "LABELS_TOO_FRAGMENTED",
                           std::to_string(runs_.size()), "the labels fall into too many pieces");
      }
    }
    return absl::OkStatus();
  }

  // Runs grouped by component, both in order.
  ComponentSet Group() {
    constexpr std::uint32_t kNone = ~std::uint32_t{0};
    ComponentSet set;
    std::vector<std::uint32_t> component_of(runs_.size(), kNone);  // by root, then by run
    for (std::uint32_t run = 0; run < runs_.size(); ++run) {
      const std::uint32_t root = sets_.Root(run);
      if (root == run) {
        component_of[run] = static_cast<std::uint32_t>(set.components.size());
        set.components.push_back({labels_[run], 0, 0, 0});
      } else {
        component_of[run] = component_of[root];
      }
      Component& component = set.components[component_of[run]];
      component.voxels += static_cast<std::uint64_t>(runs_[run].voxels());
      ++component.runs;
    }
    std::size_t first = 0;
    for (Component& component : set.components) {
      component.first_run = first;
      first += component.runs;
    }
    std::vector<std::size_t> next(set.components.size());
    for (std::size_t c = 0; c < next.size(); ++c) next[c] = set.components[c].first_run;
    set.runs.resize(runs_.size());
    for (std::size_t run = 0; run < runs_.size(); ++run) set.runs[next[component_of[run]]++] = runs_[run];
    return set;
  }

 private:
  std::size_t RowNumber(std::int32_t k, std::int32_t j) const {
    return static_cast<std::size_t>(k) * static_cast<std::size_t>(grid_.size_kji[1]) +
           static_cast<std::size_t>(j);
  }

  void AddRow(std::int32_t k, std::int32_t j) {
    const auto size = static_cast<std::int32_t>(grid_.size_kji[2]);
    const std::size_t number = RowNumber(k, j);
    const Label* const row = grid_.voxels.data() + number * static_cast<std::size_t>(size);
    row_begin_[number] = runs_.size();
    for (std::int32_t i = SkipBackground(row, 0, size); i < size; i = SkipBackground(row, i, size)) {
      const Label label = row[i];
      const std::int32_t first = i;
      while (i < size && row[i] == label) ++i;
      runs_.push_back({k, j, first, i - 1});
      labels_.push_back(label);
      sets_.Add();
    }
    row_begin_[number + 1] = runs_.size();
  }

  // Joins runs of one label that overlap or touch at a corner, walking both rows once.
  void JoinRows(std::size_t row, std::size_t other_row) {
    std::size_t a = row_begin_[row];
    std::size_t b = row_begin_[other_row];
    while (a < row_begin_[row + 1] && b < row_begin_[other_row + 1]) {
      const RowRun& run = runs_[a];
      const RowRun& other = runs_[b];
      if (run.first_i <= other.last_i + 1 && other.first_i <= run.last_i + 1 && labels_[a] == labels_[b]) {
        sets_.Join(static_cast<std::uint32_t>(a), static_cast<std::uint32_t>(b));
      }
      // The run that ends first is done: what follows the other one starts beyond its corner. Where both end
      // together, each may still touch the corner of the other's neighbour of another label.
      if (run.last_i < other.last_i) {
        ++a;
      } else if (other.last_i < run.last_i) {
        ++b;
      } else {
        JoinCorner(a + 1, row_begin_[row + 1], b);
        JoinCorner(b + 1, row_begin_[other_row + 1], a);
        ++a;
        ++b;
      }
    }
  }

  // Joins run `next`, if it is before `end`, with `run` of another row where they touch at a corner.
  void JoinCorner(std::size_t next, std::size_t end, std::size_t run) {
    if (next < end && runs_[next].first_i <= runs_[run].last_i + 1 && labels_[next] == labels_[run]) {
      sets_.Join(static_cast<std::uint32_t>(next), static_cast<std::uint32_t>(run));
    }
  }

  LabelGrid<const Label> grid_;
  std::size_t rows_;
  std::vector<std::size_t> row_begin_;
  std::vector<RowRun> runs_;
  std::vector<std::uint32_t> labels_;
  UnionFind sets_;
};

}  // namespace

template <typename Label>
absl::StatusOr<ComponentSet> FindComponents(const LabelGrid<const Label>& grid, const Parallel& parallel) {
  RunFinder<Label> finder(grid);
  TS_RETURN_IF_ERROR(finder.Find(parallel));
  return finder.Group();
}

template <typename Label>
absl::Status KeepLargestComponents(const LabelGrid<Label>& grid, std::uint32_t label, std::size_t count,
                                   const Parallel& parallel) {
  TS_ASSIGN_OR_RETURN(const ComponentSet set, FindComponents<Label>({grid.voxels, grid.size_kji}, parallel));
  std::vector<const Component*> of_label;
  for (const Component& component : set.components) {
    if (component.label == label) of_label.push_back(&component);
  }
  if (of_label.size() <= count) return absl::OkStatus();
  std::stable_sort(of_label.begin(), of_label.end(),
                   [](const Component* a, const Component* b) { return a->voxels > b->voxels; });
  for (std::size_t c = count; c < of_label.size(); ++c) {
    for (const RowRun& run : set.RunsOf(*of_label[c])) {
      const std::size_t row = (static_cast<std::size_t>(run.k) * static_cast<std::size_t>(grid.size_kji[1]) +
                               static_cast<std::size_t>(run.j)) *
                              static_cast<std::size_t>(grid.size_kji[2]);
      std::fill_n(grid.voxels.data() + row + static_cast<std::size_t>(run.first_i),
                  static_cast<std::size_t>(run.voxels()), Label{0});
    }
  }
  return absl::OkStatus();
}

template absl::StatusOr<ComponentSet> FindComponents<std::uint8_t>(const LabelGrid<const std::uint8_t>&,
                                                                   const Parallel&);
template absl::StatusOr<ComponentSet> FindComponents<std::uint16_t>(const LabelGrid<const std::uint16_t>&,
                                                                    const Parallel&);
template absl::Status KeepLargestComponents<std::uint8_t>(const LabelGrid<std::uint8_t>&, std::uint32_t,
                                                          std::size_t, const Parallel&);
template absl::Status KeepLargestComponents<std::uint16_t>(const LabelGrid<std::uint16_t>&, std::uint32_t,
                                                           std::size_t, const Parallel&);

}  // namespace tomoserve::compute
