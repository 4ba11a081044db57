// tomoctl inspect: what the server would make of a folder. The JSON document is a contract; docs/API.md.
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "apps/tomoctl/files.h"
#include "apps/tomoctl/local_study.h"
#include "apps/tomoctl/verbs.h"
#include "tomoserve/base/status.h"
#include "tomoserve/volume/orientation.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Options {
  std::string path;
  bool json = false;
};

// A volume as it is shown: a slice that does not decode makes it REJECT.
struct Shown {
  const series::Volume* volume = nullptr;
  series::Verdict verdict = series::Verdict::kReject;
  std::vector<v1::Reason> reasons;
  std::optional<VoxelStatistics> voxels;
};

Shown Look(const series::Volume& volume, const LocalStudies& local, ipc::HelperPool& helpers) {
  Shown shown{&volume, volume.verdict, volume.reasons, std::nullopt};
  if (volume.verdict == series::Verdict::kReject) return shown;
  auto measured = local.Measure(volume, helpers);
  if (measured.ok()) {
    shown.voxels = *std::move(measured);
    const auto implausible = volume::WhyNotHounsfield(shown.voxels->hounsfield);
    if (volume.unit == "HU" && implausible) {
      v1::Reason& remark = shown.reasons.emplace_back();
      remark.set_code("HU_IMPLAUSIBLE");
      remark.set_value(*implausible);
      remark.set_text("a patient's CT in Hounsfield units has other shares of tissue and dense values");
    }
    return shown;
  }
  shown.verdict = series::Verdict::kReject;
  v1::Reason reason;
  reason.set_code(base::ReasonOf(measured.status()));
  reason.set_value(base::ValueOf(measured.status()));
  reason.set_text(std::string(measured.status().message()));
  shown.reasons.insert(shown.reasons.begin(), std::move(reason));
  return shown;
}

const char* Name(series::Verdict verdict) {
  switch (verdict) {
    case series::Verdict::kAccept:
      return "ACCEPT";
    case series::Verdict::kResample:
      return "RESAMPLE";
    case series::Verdict::kReject:
      break;
  }
  return "REJECT";
}

// The six fields of a grid; null without one.
void AddGrid(const volume::Geometry* geometry, Json& json) {
  if (geometry == nullptr) {
    for (const char* key :
         {"sizeIjk", "spacingMm", "originLpsMm", "directionI", "directionJ", "directionK"}) {
      json[key] = nullptr;
    }
    return;
  }
  json["sizeIjk"] = geometry->size_ijk();
  json["spacingMm"] = geometry->spacing_mm();
  json["originLpsMm"] = geometry->origin_lps().mm;
  json["directionI"] = geometry->directions()[0];
  json["directionJ"] = geometry->directions()[1];
  json["directionK"] = geometry->directions()[2];
}

const volume::Geometry* AcquiredGrid(const series::Volume& volume) {
  if (volume.acquired) return &*volume.acquired;
  return volume.geometry ? &*volume.geometry : nullptr;
}

Json ToJson(const Shown& shown) {
  Json json;
  AddGrid(AcquiredGrid(*shown.volume), json);
  json["channels"] = 1;
  json["verdict"] = Name(shown.verdict);
  json["reasons"] = Json::array();
  for (const v1::Reason& reason : shown.reasons) {
    json["reasons"].push_back({{"code", reason.code()}, {"value", reason.value()}, {"text", reason.text()}});
  }
  json["voxelsSha256"] = shown.voxels ? Json(shown.voxels->sha256) : Json(nullptr);
  json["min"] = shown.voxels ? Json(shown.voxels->min) : Json(nullptr);
  json["max"] = shown.voxels ? Json(shown.voxels->max) : Json(nullptr);
  json["mean"] = shown.voxels ? Json(shown.voxels->mean) : Json(nullptr);
  json["unit"] = shown.volume->unit.empty() ? Json(nullptr) : Json(shown.volume->unit);
  json["syntheticSlices"] = shown.volume->synthetic_slices();
  json["analysedGrid"] = nullptr;
  if (shown.verdict == series::Verdict::kResample) AddGrid(&*shown.volume->geometry, json["analysedGrid"]);
  return json;
}

std::string Sentence(const v1::Reason& reason) {
  return absl::StrCat(reason.code(), reason.value().empty() ? "" : absl::StrCat("(", reason.value(), ")"),
                      reason.text().empty() ? "" : absl::StrCat(": ", reason.text()));
}

void PrintVolume(const Shown& shown) {
  std::printf("  %s", Name(shown.verdict));
  if (const volume::Geometry* const geometry = AcquiredGrid(*shown.volume)) {
    const auto& size = geometry->size_ijk();
    const auto& spacing = geometry->spacing_mm();
    std::printf("  %u x %u x %u voxels of %.4g x %.4g x %.4g mm, axes %s", size[0], size[1], size[2],
                spacing[0], spacing[1], spacing[2], volume::AxisCode(*geometry).c_str());
  } else {
    std::printf("  %zu slices", shown.volume->slices.size());
  }
  std::printf("\n");
  if (shown.voxels) {
    std::printf("    values %.6g to %.6g, mean %.6g\n", shown.voxels->min, shown.voxels->max,
                shown.voxels->mean);
  }
  for (const v1::Reason& reason : shown.reasons) std::printf("    %s\n", Sentence(reason).c_str());
}

int Inspect(const Options& options) {
  const auto fail = [](const absl::Status& status) {
    std::cerr << "tomoctl: " << base::ReasonOf(status) << ": " << status.message() << '\n';
    return kFailed;
  };
  const auto files = RegularFiles(options.path);
  if (!files.ok()) {
    std::cerr << "tomoctl: " << files.status().message() << '\n';
    return kUsage;
  }
  const auto helpers = StartHelpers();
  if (!helpers.ok()) return fail(helpers.status());
  const auto local = LocalStudies::Read(*files, **helpers);
  if (!local.ok()) return fail(local.status());

  Json document;
  document["series"] = Json::array();
  for (const series::StudySeries& study : local->studies()) {
    if (!options.json) {
      std::printf("study %s\n", study.ref.study_instance_uid().c_str());
      for (const v1::Reason& notice : study.notices) std::printf("  %s\n", Sentence(notice).c_str());
    }
    for (const series::Series& series : study.series) {
      Json entry;
      entry["seriesInstanceUid"] = series.series_instance_uid;
      entry["modality"] = series.modality;
      entry["instances"] = series.instances;
      entry["frames"] = series.frames;
      entry["setAside"] = Json::array();
      entry["volumes"] = Json::array();
      if (!options.json) {
        std::printf("series %s  %s, %u instances, %u frames\n", series.series_instance_uid.c_str(),
                    series.modality.c_str(), series.instances, series.frames);
      }
      for (const series::SetAside& aside : series.set_aside) {
        entry["setAside"].push_back({{"count", aside.count}, {"reason", aside.reason.code()}});
        if (!options.json) std::printf("  set aside: %u, %s\n", aside.count, aside.reason.code().c_str());
      }
      for (const series::Volume& volume : series.volumes) {
        const Shown shown = Look(volume, *local, **helpers);
        entry["volumes"].push_back(ToJson(shown));
        if (!options.json) PrintVolume(shown);
      }
      document["series"].push_back(std::move(entry));
    }
  }
  document["refused"] = Json::array();
  const fs::path root =
      fs::is_directory(options.path) ? fs::path(options.path) : fs::path(options.path).parent_path();
  for (const RefusedFile& refused : local->refused()) {
    const std::string name = refused.file.lexically_relative(root).string();
    document["refused"].push_back({{"file", name.empty() ? refused.file.string() : name},
                                   {"code", refused.code},
                                   {"text", refused.text}});
    if (!options.json) {
      std::printf("refused %s: %s: %s\n", name.c_str(), refused.code.c_str(), refused.text.c_str());
    }
  }
  if (options.json) {
    // File names need not be UTF-8.
    std::cout << document.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
  }
  return std::cout.flush() ? kDone : kFailed;
}

}  // namespace

void AddInspect(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand("inspect", "What the server would make of a folder; needs no server");
  const auto options = std::make_shared<Options>();
  verb->add_option("path", options->path, "A DICOM file, or a folder")->required();
  verb->add_flag("--json", options->json, "One JSON document on standard output");
  verb->callback([options, &context] { context.exit_code = Inspect(*options); });
}

}  // namespace tomoserve::tomoctl
