#include <nlohmann/json.hpp>

#include "tomoserve/findings/flag.h"

namespace tomoserve::findings {
namespace {

using Json = nlohmann::ordered_json;

// An enum value's name without the enum's prefix ("FLAG_STATE_FLAGGED" -> "FLAGGED"); null when unspecified.
template <typename Enum>
Json NameOf(const std::string& (*name)(Enum), std::string_view prefix, Enum value) {
  if (static_cast<int>(value) == 0) return nullptr;
  const std::string& full = name(value);
  return full.size() > prefix.size() ? full.substr(prefix.size()) : std::to_string(static_cast<int>(value));
}

Json ReasonJson(const v1::Reason& reason) {
  return {{"code", reason.code()}, {"value", reason.value()}, {"text", reason.text()}};
}

Json ReasonsJson(const google::protobuf::RepeatedPtrField<v1::Reason>& reasons) {
  Json list = Json::array();
  for (const v1::Reason& reason : reasons) list.push_back(ReasonJson(reason));
  return list;
}

template <typename Numbers>
Json NumbersJson(const Numbers& numbers) {
  Json list = Json::array();
  for (const double number : numbers) list.push_back(number);
  return list;
}

Json PointJson(const v1::PointLps& point) { return Json::array({point.x_mm(), point.y_mm(), point.z_mm()}); }

Json CoverageJson(const v1::Coverage& coverage) {
  Json series = Json::array();
  for (const v1::SeriesUse& use : coverage.series()) {
    series.push_back({{"seriesInstanceUid", use.series_instance_uid()},
                      {"analysed", use.analysed()},
                      {"reasons", ReasonsJson(use.reasons())}});
  }
  return {
      {"target", NameOf(&v1::CoverageTarget_Name<v1::CoverageTarget>, "COVERAGE_TARGET_", coverage.target())},
      {"extentMm", NumbersJson(coverage.extent_mm())},
      {"syntheticSlices", coverage.synthetic_slices()},
      {"series", std::move(series)},
      {"reasons", ReasonsJson(coverage.reasons())}};
}

// Null for what was not measured.
Json ValueJson(bool measured, const v1::Measurement& measurement) {
  return measured ? Json(measurement.value()) : Json(nullptr);
}

Json DistancesJson(const v1::Finding& finding) {
  Json list = Json::array();
  for (const v1::Distance& distance : finding.distances()) {
    list.push_back({{"toLabel", distance.label()},
                    {"toLabelValue", distance.to_label()},
                    {"distanceMm", distance.mm().value()}});
  }
  return list;
}

Json SiteJson(const v1::Finding& finding) {
  if (!finding.has_anatomic_site()) return nullptr;
  const v1::Code& site = finding.anatomic_site();
  return {{"value", site.value()}, {"scheme", site.scheme()}, {"meaning", site.meaning()}};
}

Json FindingJson(const v1::Finding& finding) {
  Json limitations = Json::array();
  for (const std::string& limitation : finding.limitations()) limitations.push_back(limitation);
  return {
      {"trackingUid", finding.tracking_uid()},
      {"label", finding.label()},
      {"labelValue", finding.label_value()},
      {"score", finding.score()},
      {"calibration", NameOf(&v1::Calibration_Name<v1::Calibration>, "CALIBRATION_", finding.calibration())},
      {"centreLpsMm", PointJson(finding.centre_lps())},
      {"boxLpsMm",
       {{"min", PointJson(finding.box_lps().min())}, {"max", PointJson(finding.box_lps().max())}}},
      {"extentMm", NumbersJson(finding.extent_mm())},
      {"longestDiameterMm", finding.longest_diameter_3d_mm().value()},
      {"longAxisMm", finding.long_axis_mm().value()},
      {"shortAxisMm", finding.short_axis_mm().value()},
      {"meanDiameterMm", finding.mean_diameter_mm().value()},
      {"volumeMl", finding.volume_ml().value()},
      {"voxels", finding.voxels()},
      {"meanHu", ValueJson(finding.has_mean_hu(), finding.mean_hu())},
      {"standardDeviationHu",
       ValueJson(finding.has_standard_deviation_hu(), finding.standard_deviation_hu())},
      {"distances", DistancesJson(finding)},
      {"laterality", NameOf(&v1::Laterality_Name<v1::Laterality>, "LATERALITY_", finding.laterality())},
      {"anatomicSite", SiteJson(finding)},
      {"keySopInstanceUid", finding.key_sop_instance_uid()},
      {"keySliceK", finding.key_slice_k()},
      {"timePoint", finding.time_point()},
      {"limitations", std::move(limitations)}};
}

Json ProvenanceJson(const v1::Provenance& p) {
  return {{"model", p.model()},
          {"version", p.version()},
          {"modelDigest", p.model_digest()},
          {"recipeDigest", p.recipe_digest()},
          {"inputDigest", p.input_digest()},
          {"generation", p.generation()},
          {"build", p.build()},
          {"deviceKind", p.device_kind()},
          {"precision", NameOf(&v1::Precision_Name<v1::Precision>, "PRECISION_", p.precision())},
          {"determinism", NameOf(&v1::Determinism_Name<v1::Determinism>, "DETERMINISM_", p.determinism())},
          {"torchVersion", p.torch_version()},
          {"driverVersion", p.driver_version()},
          {"cudnnVersion", p.cudnn_version()},
          {"regulatoryStatus", NameOf(&v1::RegulatoryStatus_Name<v1::RegulatoryStatus>, "REGULATORY_STATUS_",
                                      p.regulatory_status())}};
}

Json RunJson(const v1::Run& run) {
  Json findings = Json::array();
  for (const v1::Finding& finding : run.findings()) findings.push_back(FindingJson(finding));
  Json timings = Json::object();
  for (const v1::StageTiming& timing : run.timings()) {
    timings[timing.stage()] = timings.value(timing.stage(), 0.0) + timing.ms();
  }
  const v1::Flag& flag = run.flag();
  return {{"runId", run.run_id()},
          {"model", run.model()},
          {"version", run.version()},
          {"state", NameOf(&v1::RunState_Name<v1::RunState>, "RUN_STATE_", run.state())},
          {"flag",
           {{"state", NameOf(&v1::FlagState_Name<v1::FlagState>, "FLAG_STATE_", flag.state())},
            {"level", NameOf(&v1::FlagLevel_Name<v1::FlagLevel>, "FLAG_LEVEL_", flag.level())},
            {"reasons", ReasonsJson(flag.reasons())}}},
          {"failure", run.has_failure() ? ReasonJson(run.failure()) : Json(nullptr)},
          {"coverage", CoverageJson(run.coverage())},
          {"findings", std::move(findings)},
          {"timingsMs", std::move(timings)},
          {"provenance", ProvenanceJson(run.provenance())}};
}

}  // namespace

std::string FindingsJson(const v1::Study& study, const std::vector<v1::Run>& runs) {
  const v1::StudyRef& ref = study.ref();
  Json list = Json::array();
  for (const v1::Run& run : runs) list.push_back(RunJson(run));
  const Json document = {
      {"study",
       {{"studyInstanceUid", ref.study_instance_uid()},
        {"accessionNumber", ref.orders().empty() ? std::string() : ref.orders(0).accession_number()}}},
      {"runs", std::move(list)}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tomoserve::findings
