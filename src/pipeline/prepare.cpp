// From stored slices to the prepared volumes of a run's inputs.
#include <ATen/ops/zeros.h>

#include <string>
#include <utility>
#include <vector>

#include "pipeline/decode_rules.h"
#include "pipeline/input_rules.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/crop.h"
#include "tomoserve/compute/intensity.h"
#include "tomoserve/compute/nnunet_windows.h"
#include "tomoserve/compute/region.h"
#include "tomoserve/compute/resample.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/pipeline/prepared_run.h"

namespace tomoserve::pipeline {
namespace {

constexpr double kDefaultSigmaScale = 0.125;

// Slices of an input's volume.
std::span<const compute::StoredSlice> OfInput(std::span<const compute::StoredSlice> slices,
                                              const volume::Geometry& volume, std::size_t input) {
  const std::size_t size_k = volume.size_ijk()[2];
  return slices.subspan(input * size_k, size_k);
}

}  // namespace

absl::Status PreparedRun::Prepare(std::span<const compute::StoredSlice> slices,
                                  const std::optional<RegionLabels>& region) {
  if (slices.size() != InputVolumes(recipe_) * plan_.volume.size_ijk()[2]) {
    return base::Error(absl::StatusCode::kInvalidArgument, "SLICE_COUNT", std::to_string(slices.size()),
                       "there are not as many slices as the volumes of all inputs have");
  }
  const std::span<const compute::StoredSlice> of_first = OfInput(slices, plan_.volume, 0);
  TS_ASSIGN_OR_RETURN(areas_, compute::StoredAreas(of_first, plan_.volume.size_ijk()));
  if (recipe_.has_region()) TS_RETURN_IF_ERROR(UseRegion(region));
  TS_RETURN_IF_ERROR(PrepareNetworks(slices));
  if (region_.defined()) {
    region_ =
        compute::CropTo(std::exchange(region_, at::Tensor()), plan_.box, {at::kCPU, /*plain_loops=*/false});
  }
  if (recipe_.coverage().has_lung_inside() && !placement_.UsesLoops()) {
    // The host has time while the device resamples, and the stored values are at hand.
    TS_ASSIGN_OR_RETURN(lung_, compute::FindEnclosedAir(of_first, plan_.volume, parallel_));
  }
  SetImportance();
  if (plan_.heads) {
    maps_.emplace(*plan_.heads, *models::DetectorOf(recipe_), recipe_.network().output_channels(),
                  placement_.device);
  }
  if (!placement_.UsesLoops()) {
    finite_ = at::zeros({windows()}, at::TensorOptions(at::kBool).device(placement_.device));
  }
  return absl::OkStatus();
}

absl::Status PreparedRun::UseRegion(const std::optional<RegionLabels>& region) {
  if (!region) {
    return base::Error(absl::StatusCode::kInvalidArgument, "REGION_MISSING", recipe_.region().model(),
                       "the recipe has a region, and no label map came with the run");
  }
  const auto& values = recipe_.region().labels();
  TS_ASSIGN_OR_RETURN(
      at::Tensor mask,
      compute::RegionMask(region->labels, region->bytes_per_voxel, plan_.volume.size_ijk(),
                          {values.data(), static_cast<std::size_t>(values.size())}, parallel_));
  const v1::Crop& crop = recipe_.preparation().crop();
  if (crop.to_region()) {
    TS_ASSIGN_OR_RETURN(const volume::Box box, compute::BoxOfMask(mask, crop.margin_voxels(), parallel_));
    TS_RETURN_IF_ERROR(UseBox(box));
  }
  if (KeepsInRegion(recipe_)) region_ = std::move(mask);
  return absl::OkStatus();
}

absl::Status PreparedRun::UseBox(const volume::Box& box) {
  if (box == plan_.box) return absl::OkStatus();
  TS_ASSIGN_OR_RETURN(plan_, PlanRun(recipe_, plan_.volume, placement_, box));
  return absl::OkStatus();
}

absl::Status PreparedRun::PrepareNetworks(std::span<const compute::StoredSlice> slices) {
  prepared_.resize(networks_.size());
  TS_RETURN_IF_ERROR(PrepareInputs(0, slices));
  const bool before_spacing = recipe_.preparation().intensity_before_spacing();
  for (std::size_t part = 1; part < networks_.size(); ++part) {
    if (prepared_by_[part] != part) continue;
    if (before_spacing) {
      TS_RETURN_IF_ERROR(PrepareInputs(part, slices));
      continue;
    }
    for (const at::Tensor& volume : prepared_[0]) prepared_[part].push_back(volume.clone());
    TS_RETURN_IF_ERROR(Normalise(part, 0, prepared_[part]));
  }
  return before_spacing ? absl::OkStatus() : Normalise(0, 0, prepared_[0]);
}

absl::Status PreparedRun::PrepareInputs(std::size_t part, std::span<const compute::StoredSlice> slices) {
  const bool together = PreparesTogether(networks_[part]);
  std::vector<at::Tensor> volumes;
  for (std::size_t input = 0; input < InputVolumes(recipe_); ++input) {
    TS_ASSIGN_OR_RETURN(at::Tensor volume,
                        compute::StoredToFloat(OfInput(slices, plan_.volume, input), plan_.volume.size_ijk(),
                                               parallel_, placement_));
    if (part == 0 && input == 0 && recipe_.coverage().has_lung_inside() && placement_.UsesLoops()) {
      TS_ASSIGN_OR_RETURN(lung_, compute::FindEnclosedAir(volume, plan_.volume, areas_, parallel_));
    }
    volumes.push_back(std::move(volume));
    if (!together) TS_RETURN_IF_ERROR(AddPrepared(part, std::exchange(volumes, {})));
  }
  return together ? AddPrepared(part, std::move(volumes)) : absl::OkStatus();
}

absl::Status PreparedRun::AddPrepared(std::size_t part, std::vector<at::Tensor> volumes) {
  const v1::Preparation& preparation = recipe_.preparation();
  if (preparation.has_crop() && !preparation.crop().to_region()) {
    TS_ASSIGN_OR_RETURN(const volume::Box box,
                        compute::BoxOfOthers(volumes, preparation.crop().background(),
                                             preparation.crop().margin_voxels(), parallel_, placement_));
    TS_RETURN_IF_ERROR(UseBox(box));
  }
  if (plan_.IsCropped()) {
    for (at::Tensor& volume : volumes) {
      volume = compute::CropTo(std::exchange(volume, at::Tensor()), plan_.box, placement_);
    }
  }
  if (preparation.intensity_before_spacing())
    TS_RETURN_IF_ERROR(Normalise(part, prepared_[part].size(), volumes));
  const v1::Interpolation interpolation =
      preparation.has_spacing() ? preparation.spacing().interpolation() : v1::INTERPOLATION_NEAREST;
  const compute::GridMap to_model = compute::MapToModel(plan_.cropped, plan_.grid);
  for (at::Tensor& volume : volumes) {
    TS_ASSIGN_OR_RETURN(at::Tensor prepared, compute::Resample(std::exchange(volume, at::Tensor()), to_model,
                                                               interpolation, parallel_, placement_));
    prepared_[part].push_back(std::move(prepared));
  }
  return absl::OkStatus();
}

absl::Status PreparedRun::Normalise(std::size_t part, std::size_t first_input,
                                    std::vector<at::Tensor>& volumes) const {
  const v1::Recipe& network = networks_[part];
  at::Tensor nonzero;  // undefined: that of one volume is found where it is needed
  if (InputVolumes(network) > 1 && NormalisesInRegion(network)) {
    TS_ASSIGN_OR_RETURN(nonzero, compute::FilledNonzero(volumes, parallel_, placement_));
  }
  for (std::size_t n = 0; n < volumes.size(); ++n) {
    TS_RETURN_IF_ERROR(compute::ApplyIntensity(IntensityOf(network, first_input + n), volumes[n], parallel_,
                                               placement_, nonzero));
  }
  return absl::OkStatus();
}

void PreparedRun::SetImportance() {
  const v1::Windows& windows = recipe_.windows();
  if (windows.blend() != v1::BLEND_GAUSSIAN || windows.layout() == v1::WINDOW_LAYOUT_SLICES) return;
  const double sigma_scale = windows.sigma_scale() == 0 ? kDefaultSigmaScale : windows.sigma_scale();
  const auto weights =
      windows.layout() == v1::WINDOW_LAYOUT_NNUNET ? compute::NnunetImportance : compute::GaussianImportance;
  importance_ = weights(plan_.windows.output_size, sigma_scale).to(placement_.device);
}

}  // namespace tomoserve::pipeline
