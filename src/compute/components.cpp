#include "tomoserve/compute/components.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

#include "compute/run_sets.h"
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

// Joins runs of a whole grid that are added row by row.
class RunJoiner {
 public:
  RunJoiner(std::int64_t slices, std::int64_t rows, Neighbours neighbours)
      : slices_(static_cast<std::int32_t>(slices)),
        rows_(static_cast<std::int32_t>(rows)),
        reach_(neighbours == Neighbours::kCorners ? 1 : 0),
        row_begin_(static_cast<std::size_t>(slices * rows) + 1) {}

  // Calls add_row(k, j) for all rows in order; it adds the row's runs in order.
  template <typename AddRow>
  absl::Status Join(const Parallel& parallel, AddRow add_row) {
    for (std::int32_t k = 0; k < slices_; ++k) {
      TS_RETURN_IF_ERROR(CheckCancelled(parallel));
      for (std::int32_t j = 0; j < rows_; ++j) {
        const std::size_t number = RowNumber(k, j);
        row_begin_[number] = runs_.size();
        add_row(k, j);
        row_begin_[number + 1] = runs_.size();
        if (j > 0) JoinRows(number, RowNumber(k, j - 1));
        if (k == 0) continue;
        for (std::int32_t dj = -reach_; dj <= reach_; ++dj) {
          if (j + dj >= 0 && j + dj < rows_) JoinRows(number, RowNumber(k - 1, j + dj));
        }
      }
      TS_RETURN_IF_ERROR(CheckRunCount(runs_.size()));
    }
    return absl::OkStatus();
  }

  void Add(const RowRun& run, std::uint32_t label) {
    runs_.push_back(run);
    labels_.push_back(label);
    sets_.Add();
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
    return static_cast<std::size_t>(k) * static_cast<std::size_t>(rows_) + static_cast<std::size_t>(j);
  }

  // Joins runs of one label that overlap or, with corners, touch at one, walking both rows once.
  void JoinRows(std::size_t row, std::size_t other_row) {
    std::size_t a = row_begin_[row];
    std::size_t b = row_begin_[other_row];
    while (a < row_begin_[row + 1] && b < row_begin_[other_row + 1]) {
      const RowRun& run = runs_[a];
      const RowRun& other = runs_[b];
      if (run.first_i <= other.last_i + reach_ && other.first_i <= run.last_i + reach_ &&
          labels_[a] == labels_[b]) {
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
    if (next < end && runs_[next].first_i <= runs_[run].last_i + reach_ && labels_[next] == labels_[run]) {
      sets_.Join(static_cast<std::uint32_t>(next), static_cast<std::uint32_t>(run));
    }
  }

  std::int32_t slices_;
  std::int32_t rows_;
  std::int32_t reach_;  // of a voxel beyond its own place in a neighbouring row
  std::vector<std::size_t> row_begin_;
  std::vector<RowRun> runs_;
  std::vector<std::uint32_t> labels_;
  UnionFind sets_;
};

// Calls add(run, label) for the runs of one row.
template <typename Label, typename Add>
void FindRunsOfRow(const LabelGrid<const Label>& grid, std::int32_t k, std::int32_t j, Add add) {
  const auto size = static_cast<std::int32_t>(grid.size_kji[2]);
  const Label* const row = grid.voxels.data() + (k * grid.size_kji[1] + j) * grid.size_kji[2];
  for (std::int32_t i = SkipBackground(row, 0, size); i < size; i = SkipBackground(row, i, size)) {
    const Label label = row[i];
    const std::int32_t first = i;
    while (i < size && row[i] == label) ++i;
    add(RowRun{k, j, first, i - 1}, label);
  }
}

}  // namespace

absl::Status CheckRunCount(std::size_t runs) {
  if (runs <= kMaxRuns) return absl::OkStatus();
  return base::Error(absl::StatusCode::kResourceExhausted, "LABELS_TOO_FRAGMENTED", std::to_string(runs),
                     "the labels fall into too many pieces");
}

absl::StatusOr<ComponentSet> JoinRuns(LabelledRuns found, std::int64_t slices, std::int64_t rows,
                                      const Parallel& parallel, Neighbours neighbours) {
  RunJoiner joiner(slices, rows, neighbours);
  std::size_t next = 0;
  TS_RETURN_IF_ERROR(joiner.Join(parallel, [&](std::int32_t k, std::int32_t j) {
    for (; next < found.runs.size() && found.runs[next].k == k && found.runs[next].j == j; ++next) {
      joiner.Add(found.runs[next], found.labels[next]);
    }
  }));
  return joiner.Group();
}

std::vector<const Component*> AllButLargest(const ComponentSet& set, std::uint32_t label, std::size_t count) {
  std::vector<const Component*> of_label;
  for (const Component& component : set.components) {
    if (component.label == label) of_label.push_back(&component);
  }
  std::stable_sort(of_label.begin(), of_label.end(),
                   [](const Component* a, const Component* b) { return a->voxels > b->voxels; });
  of_label.erase(of_label.begin(),
                 of_label.begin() + static_cast<std::ptrdiff_t>(std::min(count, of_label.size())));
  return of_label;
}

template <typename Label>
absl::StatusOr<ComponentSet> FindComponents(const LabelGrid<const Label>& grid, const Parallel& parallel) {
  RunJoiner joiner(grid.size_kji[0], grid.size_kji[1], Neighbours::kCorners);
  TS_RETURN_IF_ERROR(joiner.Join(parallel, [&](std::int32_t k, std::int32_t j) {
    FindRunsOfRow(grid, k, j, [&](const RowRun& run, std::uint32_t label) { joiner.Add(run, label); });
  }));
  return joiner.Group();
}

template <typename Label>
absl::Status KeepLargestComponents(const LabelGrid<Label>& grid, std::uint32_t label, std::size_t count,
                                   const Parallel& parallel) {
  TS_ASSIGN_OR_RETURN(const ComponentSet set, FindComponents<Label>({grid.voxels, grid.size_kji}, parallel));
  for (const Component* component : AllButLargest(set, label, count)) {
    for (const RowRun& run : set.RunsOf(*component)) {
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
