#include <gmock/gmock.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "findings/builders.h"

namespace tomoserve::findings {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::Study PatientStudy() {
  v1::Study study;
  study.mutable_ref()->set_study_instance_uid("1.2.3");
  study.mutable_ref()->set_patient_id("CANARY-PATIENT");
  study.mutable_ref()->set_institution("CANARY-HOUSE");
  study.mutable_ref()->add_orders()->set_accession_number("A17");
  return study;
}

v1::Run FlaggedRun() {
  v1::Run run;
  run.set_run_id("r1");
  run.set_model("nodule_blob");
  run.set_version("1");
  run.set_state(v1::RUN_STATE_DONE);
  run.mutable_flag()->set_state(v1::FLAG_STATE_FLAGGED);
  run.mutable_flag()->set_level(v1::FLAG_LEVEL_URGENT);
  *run.mutable_coverage() = Covered(v1::COVERAGE_TARGET_PARTIAL);
  for (const double mm : {300.0, 200.0, 250.0}) run.mutable_coverage()->add_extent_mm(mm);
  v1::Finding& finding = *run.add_findings();
  finding = Nodule(8.25, 0.75);
  finding.set_tracking_uid("2.25.7");
  finding.set_key_sop_instance_uid("1.2.3.4");
  finding.set_time_point(2);
  for (const double mm : {7.0, 8.0, 7.5}) finding.add_extent_mm(mm);
  finding.mutable_long_axis_mm()->set_value(8.0);
  finding.mutable_short_axis_mm()->set_value(6.5);
  finding.mutable_mean_hu()->set_value(-612.5);
  finding.mutable_standard_deviation_hu()->set_value(40.25);
  v1::Distance& distance = *finding.add_distances();
  distance.set_to_label(3);
  distance.set_label("pleura");
  distance.mutable_mm()->set_value(4.5);
  finding.set_laterality(v1::LATERALITY_RIGHT);
  finding.mutable_anatomic_site()->set_value("39607008");
  finding.mutable_anatomic_site()->set_scheme("SCT");
  finding.mutable_anatomic_site()->set_meaning("Lung");
  finding.add_limitations("TOUCHES_VOLUME_EDGE");
  for (const auto& [stage, ms] :
       {std::pair("decode", 12.5), std::pair("forward", 100.0), std::pair("decode", 0.5)}) {
    v1::StageTiming* timing = run.add_timings();
    timing->set_stage(stage);
    timing->set_ms(ms);
  }
  run.mutable_provenance()->set_precision(v1::PRECISION_FLOAT32);
  run.mutable_provenance()->set_regulatory_status(v1::REGULATORY_STATUS_DEMONSTRATION);
  return run;
}

TEST(FindingsJsonTest, KeepsTheContract) {
  const auto json = nlohmann::json::parse(FindingsJson(PatientStudy(), {FlaggedRun()}));
  EXPECT_EQ(json["study"]["studyInstanceUid"], "1.2.3");
  EXPECT_EQ(json["study"]["accessionNumber"], "A17");
  const auto& run = json["runs"][0];
  EXPECT_EQ(run["model"], "nodule_blob");
  EXPECT_EQ(run["version"], "1");
  EXPECT_EQ(run["state"], "DONE");
  EXPECT_EQ(run["flag"]["state"], "FLAGGED");
  EXPECT_EQ(run["flag"]["level"], "URGENT");
  EXPECT_EQ(run["coverage"]["target"], "PARTIAL");
  EXPECT_EQ(run["coverage"]["extentMm"], (std::vector<double>{300, 200, 250}));
  EXPECT_EQ(run["coverage"]["reasons"][0]["code"], "MARGIN_HIGH_MM");
  const auto& finding = run["findings"][0];
  EXPECT_EQ(finding["trackingUid"], "2.25.7");
  EXPECT_EQ(finding["label"], "nodule");
  EXPECT_EQ(finding["score"], 0.75);
  EXPECT_EQ(finding["centreLpsMm"], (std::vector<double>{10.04, -20, 30}));
  EXPECT_EQ(finding["extentMm"], (std::vector<double>{7, 8, 7.5}));
  EXPECT_EQ(finding["longestDiameterMm"], 8.25);
  EXPECT_EQ(finding["longAxisMm"], 8.0);
  EXPECT_EQ(finding["shortAxisMm"], 6.5);
  EXPECT_EQ(finding["volumeMl"], 0.3);
  EXPECT_EQ(finding["meanHu"], -612.5);
  EXPECT_EQ(finding["standardDeviationHu"], 40.25);
  ASSERT_EQ(finding["distances"].size(), 1u);
  EXPECT_EQ(finding["distances"][0]["toLabel"], "pleura");
  EXPECT_EQ(finding["distances"][0]["toLabelValue"], 3);
  EXPECT_EQ(finding["distances"][0]["distanceMm"], 4.5);
  EXPECT_EQ(finding["laterality"], "RIGHT");
  EXPECT_EQ(finding["anatomicSite"]["value"], "39607008");
  EXPECT_EQ(finding["anatomicSite"]["scheme"], "SCT");
  EXPECT_EQ(finding["anatomicSite"]["meaning"], "Lung");
  EXPECT_EQ(finding["keySopInstanceUid"], "1.2.3.4");
  EXPECT_EQ(finding["timePoint"], 2);
  EXPECT_EQ(finding["limitations"][0], "TOUCHES_VOLUME_EDGE");
  EXPECT_EQ(run["timingsMs"]["decode"], 13.0);
  EXPECT_EQ(run["timingsMs"]["forward"], 100.0);
  EXPECT_EQ(run["provenance"]["precision"], "FLOAT32");
  EXPECT_EQ(run["provenance"]["regulatoryStatus"], "DEMONSTRATION");
}

TEST(FindingsJsonTest, HoldsNothingElseOfThePatient) {
  EXPECT_THAT(FindingsJson(PatientStudy(), {FlaggedRun()}), Not(HasSubstr("CANARY")));
}

TEST(FindingsJsonTest, NamesEveryFlagStateWithoutPrefix) {
  const std::pair<v1::FlagState, const char*> names[] = {{v1::FLAG_STATE_FLAGGED, "FLAGGED"},
                                                         {v1::FLAG_STATE_NO_FINDING, "NO_FINDING"},
                                                         {v1::FLAG_STATE_INCONCLUSIVE, "INCONCLUSIVE"},
                                                         {v1::FLAG_STATE_NOT_APPLICABLE, "NOT_APPLICABLE"}};
  for (const auto& [state, name] : names) {
    v1::Run run;
    run.mutable_flag()->set_state(state);
    const auto json = nlohmann::json::parse(FindingsJson({}, {run}));
    EXPECT_EQ(json["runs"][0]["flag"]["state"], name);
    EXPECT_TRUE(json["runs"][0]["flag"]["level"].is_null());
  }
}

TEST(FindingsJsonTest, WhatWasNotMeasuredIsNull) {
  v1::Run run;
  *run.add_findings() = Nodule(8, 0.5);
  const auto json = nlohmann::json::parse(FindingsJson({}, {run}));
  const auto& finding = json["runs"][0]["findings"][0];
  for (const char* field : {"meanHu", "standardDeviationHu", "laterality", "anatomicSite"}) {
    ASSERT_TRUE(finding.contains(field)) << field;
    EXPECT_TRUE(finding[field].is_null()) << field;
  }
  EXPECT_EQ(finding["distances"], nlohmann::json::array());
}

TEST(FindingsJsonTest, FailedRunSaysWhyAndHasNoFlag) {
  v1::Run run;
  run.set_state(v1::RUN_STATE_FAILED);
  run.mutable_failure()->set_code("OUT_OF_MEMORY");
  const auto json = nlohmann::json::parse(FindingsJson({}, {run}));
  EXPECT_EQ(json["runs"][0]["state"], "FAILED");
  EXPECT_EQ(json["runs"][0]["failure"]["code"], "OUT_OF_MEMORY");
  EXPECT_TRUE(json["runs"][0]["flag"]["state"].is_null());
  EXPECT_EQ(json["study"]["accessionNumber"], "");
}

TEST(FindingsJsonTest, StaysValidWithNumbersThatAreNoneAndBrokenText) {
  v1::Run run = FlaggedRun();
  run.mutable_findings(0)->mutable_volume_ml()->set_value(std::numeric_limits<double>::infinity());
  run.mutable_flag()->add_reasons()->set_text("\xff");
  const auto json = nlohmann::json::parse(FindingsJson(PatientStudy(), {run}));
  EXPECT_TRUE(json["runs"][0]["findings"][0]["volumeMl"].is_null());
}

TEST(FindingsJsonTest, IsIndentedByTwoAndWithoutRunsAnEmptyList) {
  EXPECT_EQ(FindingsJson({}, {}),
            "{\n  \"study\": {\n    \"studyInstanceUid\": \"\",\n    \"accessionNumber\": \"\"\n  },\n  "
            "\"runs\": []\n}\n");
}

}  // namespace
}  // namespace tomoserve::findings
