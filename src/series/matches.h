// Which volumes of a series an input may use, and how good they are. Private to the room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "series/indication.h"
#include "tomoserve/series/study_series.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::series {

// A volume, or all time points of one, that fits the indication and can be used, with what it is ranked by:
// smaller is better.
struct Match {
  const Series* series = nullptr;
  std::vector<const Volume*> volumes;  // in order of time
  std::vector<std::string> limitations;
  std::uint32_t synthetic = 0;  // slices that nobody acquired
  int resampled = 0;            // 1: its grid is not that of its slices
  std::size_t kernel = 0;       // place in the preferred list
  long long spacing_um = 0;     // distance between slices
  long long slices = 0;         // negative count
  long long time_points = 0;    // negative count
  std::size_t order = 0;        // of the series, then the volume

  auto Rank() const { return std::tie(synthetic, resampled, kernel, spacing_um, slices, time_points, order); }
  // Without the order, which says nothing of a volume.
  auto Quality() const { return std::tie(synthetic, resampled, kernel, spacing_um, slices, time_points); }
};

// The first thing that made `other` come after `best`.
tomoserve::v1::Reason Outranked(const Match& best, const Match& other);

// What became of one series under one input.
struct Outcome {
  std::vector<Match> matches;                   // in order of volumes; without `order`
  std::vector<const Volume*> rejected_volumes;  // that fit the indication and cannot be used
  std::vector<tomoserve::v1::Reason> rejected;  // why, each once
  std::optional<Misfit> nearest_misfit;         // of the volumes that do not fit, the one that got furthest
};

// With `in_time` a match is every time point of a stack, and one that cannot be used spoils the others.
Outcome Judge(const tomoserve::v1::Input& input, const Series& series, bool in_time);

// Whether voxel (i, j, k) of one is at the same place as that of the other.
bool OnOneGrid(const Volume& a, const Volume& b);

// Unless one of the same code and value is there.
void AddOnce(std::vector<tomoserve::v1::Reason>& reasons, const tomoserve::v1::Reason& reason);
void AddOnce(std::vector<std::string>& limitations, const std::vector<std::string>& more);

// Appends the reasons, those of the nearest misses first, each once.
void AddByStage(std::vector<Misfit> misfits, std::vector<tomoserve::v1::Reason>& reasons);

// What a run does with one series: which of its volumes it analyses, or the reason why it does none.
tomoserve::v1::SeriesUse Used(const Series& series, const std::vector<const Volume*>& analysed);
tomoserve::v1::SeriesUse Unused(const Series& series, const tomoserve::v1::Reason& reason);

}  // namespace tomoserve::series
