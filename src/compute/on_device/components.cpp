#include "tomoserve/compute/on_device/components.h"

#include <ATen/ops/stack.h>

#include <optional>
#include <utility>
#include <vector>

#include "compute/run_sets.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"
#include "tomoserve/compute/on_device/chunks.h"
#include "tomoserve/compute/on_device/runs.h"

namespace tomoserve::compute::on_device {
namespace {

// An index of a voxel and what it is made from, in float32 values.
constexpr std::int64_t kValuesOfIndex = 4;

// First and last index of every run of `rows` [row][i] and its label, int32 [3][runs] on the host. Only runs
// of one label where that is given.
at::Tensor RunTable(const at::Tensor& rows, std::optional<std::int64_t> label) {
  const std::int64_t steps = rows.size(1) - 1;
  const at::Tensor starts = label ? rows.eq(*label) : rows.ne(0);
  const at::Tensor ends = starts.clone();
  const at::Tensor changes = rows.narrow(1, 1, steps).ne(rows.narrow(1, 0, steps));
  starts.narrow(1, 1, steps).logical_and_(changes);
  ends.narrow(1, 0, steps).logical_and_(changes);
  // In ascending order: the n-th start and the n-th end are one run's.
  const at::Tensor first = starts.view({-1}).nonzero().view({-1});
  const at::Tensor last = ends.view({-1}).nonzero().view({-1});
  const std::int64_t bits = rows.scalar_type() == at::kByte ? 0xff : 0xffff;
  const at::Tensor labels = rows.view({-1}).index_select(0, first).to(at::kInt).bitwise_and_(bits);
  return at::stack({first.to(at::kInt), last.to(at::kInt), labels}).cpu();
}

// Appends the runs of rows that begin with row 0 of slice `first_k`.
void Append(const at::Tensor& table, std::int64_t first_k, std::int64_t rows_of_slice, std::int64_t columns,
            LabelledRuns& found) {
  const std::int64_t count = table.size(1);
  const std::int32_t* const first = table.const_data_ptr<std::int32_t>();
  const std::int32_t* const last = first + count;
  const std::int32_t* const label = last + count;
  for (std::int64_t n = 0; n < count; ++n) {
    const std::int64_t row = first[n] / columns;
    found.runs.push_back({static_cast<std::int32_t>(first_k + row / rows_of_slice),
                          static_cast<std::int32_t>(row % rows_of_slice),
                          static_cast<std::int32_t>(first[n] - row * columns),
                          static_cast<std::int32_t>(last[n] - row * columns)});
    found.labels.push_back(static_cast<std::uint32_t>(label[n]));
  }
}

// Which runs are looked for, by the label as the tensor stores it.
struct Wanted {
  std::optional<std::int64_t> only;     // of this label
  std::optional<std::int64_t> all_but;  // of everything else than this label, whatever it is
};

absl::StatusOr<LabelledRuns> FindRuns(const at::Tensor& labels, const Wanted& wanted,
                                      const Parallel& parallel) {
  const std::int64_t rows = labels.size(1), columns = labels.size(2);
  const std::int64_t step = SlicesOfChunk(rows * columns);
  LabelledRuns found;
  for (std::int64_t k = 0; k < labels.size(0); k += step) {
    TS_RETURN_IF_ERROR(CheckCancelled(parallel));
    const std::int64_t count = std::min(step, labels.size(0) - k);
    at::Tensor part = labels.narrow(0, k, count).view({count * rows, columns});
    if (wanted.all_but) part = part.ne(*wanted.all_but).to(at::kByte);
    Append(RunTable(part, wanted.only), k, rows, columns, found);
    TS_RETURN_IF_ERROR(CheckRunCount(found.runs.size()));
  }
  return found;
}

std::uint32_t HighestOf(const at::Tensor& labels) {
  return labels.scalar_type() == at::kByte ? 0xff : 0xffff;
}

// A label as the tensor stores it.
std::int64_t Stored(const at::Tensor& labels, std::uint32_t label) {
  return labels.scalar_type() == at::kByte ? std::int64_t{label}
                                           : std::int64_t{static_cast<std::int16_t>(label)};
}

std::array<std::int64_t, 3> SizeOf(const at::Tensor& labels) {
  return {labels.size(0), labels.size(1), labels.size(2)};
}

// Sets the voxels of these runs to 0.
void Remove(std::span<const RowRun> runs, const at::Tensor& labels) {
  for (const std::span<const RowRun> batch : Batches(runs, kValuesOfIndex)) {
    labels.view({-1}).index_fill_(0, FlatIndices(batch, SizeOf(labels), labels.device()), 0.0);
  }
}

}  // namespace

absl::StatusOr<ComponentSet> FindComponents(const at::Tensor& labels, const Parallel& parallel) {
  return Fenced([&]() -> absl::StatusOr<ComponentSet> {
    TS_ASSIGN_OR_RETURN(LabelledRuns found, FindRuns(labels, {}, parallel));
    return JoinRuns(std::move(found), labels.size(0), labels.size(1), parallel);
  });
}

absl::Status KeepLargestComponents(const at::Tensor& labels, std::uint32_t label, std::size_t count,
                                   const Parallel& parallel) {
  if (label == 0 || label > HighestOf(labels)) return absl::OkStatus();  // no voxel has a component of it
  return Fenced([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(LabelledRuns found,
                        FindRuns(labels, {.only = Stored(labels, label), .all_but = {}}, parallel));
    TS_ASSIGN_OR_RETURN(const ComponentSet set,
                        JoinRuns(std::move(found), labels.size(0), labels.size(1), parallel));
    std::vector<RowRun> removed;
    for (const Component* component : AllButLargest(set, label, count)) {
      const std::span<const RowRun> runs = set.RunsOf(*component);
      removed.insert(removed.end(), runs.begin(), runs.end());
    }
    Remove(removed, labels);
    return absl::OkStatus();
  });
}

absl::Status FillHoles(const at::Tensor& labels, std::uint32_t label, const Parallel& parallel) {
  if (label == 0 || label > HighestOf(labels)) return absl::OkStatus();  // no voxel is enclosed by it
  return Fenced([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(LabelledRuns between,
                        FindRuns(labels, {.only = {}, .all_but = Stored(labels, label)}, parallel));
    TS_ASSIGN_OR_RETURN(const ComponentSet set, JoinRuns(std::move(between), labels.size(0), labels.size(1),
                                                         parallel, Neighbours::kFaces));
    const std::vector<RowRun> within = RunsWithin(set, SizeOf(labels));
    const at::Tensor flat = labels.view({-1});
    for (const std::span<const RowRun> batch : Batches(within, kValuesOfIndex)) {
      const at::Tensor indices = FlatIndices(batch, SizeOf(labels), labels.device());
      flat.index_fill_(0, indices.masked_select(flat.index_select(0, indices).eq(0)), Stored(labels, label));
    }
    return absl::OkStatus();
  });
}

absl::Status KeepInRegion(const at::Tensor& labels, const at::Tensor& region, bool whole_components,
                          const Parallel& parallel) {
  return Fenced([&]() -> absl::Status {
    if (!whole_components) {
      ForRanges(labels.numel(), kChunkValues, [&](std::int64_t first, std::int64_t count) {
        const at::Tensor inside = region.view({-1}).narrow(0, first, count).to(labels.device());
        labels.view({-1}).narrow(0, first, count).masked_fill_(inside.eq(0), 0);
      });
      return absl::OkStatus();
    }
    TS_ASSIGN_OR_RETURN(const ComponentSet set, FindComponents(labels, parallel));
    const std::span inside(region.const_data_ptr<std::uint8_t>(), static_cast<std::size_t>(region.numel()));
    Remove(RunsApart(set, SizeOf(labels), inside), labels);
    return absl::OkStatus();
  });
}

}  // namespace tomoserve::compute::on_device
