// What a worker may say of a finding's mean value and distances.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "dispatch/worker_reply.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

// A run on 20 x 10 x 2 voxels of 1 x 1 x 5 mm with unsigned bytes from -100 to 410 HU, and the true answer to
// it.
struct Reply {
  v1::Recipe recipe;
  ipc::v1::StartRun start;
  ipc::v1::RunDone done;

  v1::Finding& finding() { return *done.mutable_findings(0); }
  v1::Distance& distance(int n) { return *finding().mutable_distances(n); }
};

Reply TrueReply() {
  Reply reply;
  for (const std::uint32_t label : {1u, 2u, 3u}) {
    reply.recipe.add_labels()->set_value(label);
    reply.done.add_labels()->set_label(label);
  }
  v1::FindingRule& rule = *reply.recipe.add_findings();
  rule.set_label(1);
  rule.add_distance_to(3);
  rule.add_distance_to(2);
  for (int k = 0; k < 2; ++k) {
    ipc::v1::Slice& slice = *reply.start.add_slices();
    slice.set_stored_type(ipc::v1::STORED_TYPE_U8);
    slice.set_slope(2);
    slice.set_intercept(-100);
  }
  reply.start.add_hounsfield_channels(0);
  reply.done.mutable_hounsfield();
  reply.done.set_windows(1);
  reply.done.set_has_label_map(true);
  v1::Finding& finding = *reply.done.add_findings();
  finding.set_label_value(1);
  finding.set_voxels(6);
  finding.mutable_centre_lps();
  finding.mutable_box_lps()->mutable_min();
  finding.mutable_box_lps()->mutable_max();
  for (int axis = 0; axis < 3; ++axis) finding.add_extent_mm(1);
  finding.mutable_mean_hu()->set_value(-20);
  finding.mutable_standard_deviation_hu()->set_value(30);
  for (const std::uint32_t label : {3u, 2u}) {
    v1::Distance& distance = *finding.add_distances();
    distance.set_to_label(label);
    distance.mutable_mm()->set_value(12);
  }
  return reply;
}

std::string WhatIsALie(const Reply& reply) {
  const volume::Geometry grid =
      volume::Geometry::Create({20, 10, 2}, {1, 1, 5}, {}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}).value();
  const absl::Status status = CheckRunDone(reply.recipe, grid, reply.start, reply.done, 1);
  EXPECT_EQ(status.ok() ? "WORKER_LIED" : base::ReasonOf(status), "WORKER_LIED") << status;
  return base::ValueOf(status);
}

struct Claim {
  const char* name;
  std::function<void(Reply&)> change;
  const char* lie;  // field; empty: it can be true
};

class FindingReplyTest : public ::testing::TestWithParam<Claim> {};

TEST_P(FindingReplyTest, IsJudged) {
  Reply reply = TrueReply();
  EXPECT_EQ(WhatIsALie(reply), "");
  GetParam().change(reply);
  EXPECT_EQ(WhatIsALie(reply), GetParam().lie);
}

std::string Name(const ::testing::TestParamInfo<Claim>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    MeanHu, FindingReplyTest,
    ::testing::Values(
        Claim{"Lowest", [](Reply& r) { r.finding().mutable_mean_hu()->set_value(-100); }, ""},
        Claim{"Highest", [](Reply& r) { r.finding().mutable_mean_hu()->set_value(410); }, ""},
        Claim{"TooLow", [](Reply& r) { r.finding().mutable_mean_hu()->set_value(-101); }, "findings.mean_hu"},
        Claim{"TooHigh", [](Reply& r) { r.finding().mutable_mean_hu()->set_value(411); }, "findings.mean_hu"},
        Claim{"NegativeSlope",
              [](Reply& r) {
                r.start.mutable_slices(1)->set_slope(-2);
                r.finding().mutable_mean_hu()->set_value(-610);
              },
              ""},
        Claim{"NoNumber",
              [](Reply& r) {
                r.finding().mutable_mean_hu()->set_value(std::numeric_limits<double>::quiet_NaN());
              },
              "findings.mean_hu"},
        Claim{"NegativeUncertainty", [](Reply& r) { r.finding().mutable_mean_hu()->set_uncertainty(-1); },
              "findings.mean_hu"},
        Claim{"LongMethod",
              [](Reply& r) { r.finding().mutable_mean_hu()->set_method(std::string(1000, 'x')); },
              "findings.mean_hu"},
        Claim{"Nothing",
              [](Reply& r) {
                r.finding().clear_mean_hu();
                r.finding().clear_standard_deviation_hu();
              },
              ""},
        Claim{"DeviationAlone", [](Reply& r) { r.finding().clear_mean_hu(); }, "findings.mean_hu"},
        Claim{"MeanAlone", [](Reply& r) { r.finding().clear_standard_deviation_hu(); },
              "findings.standard_deviation_hu"},
        Claim{"NegativeDeviation",
              [](Reply& r) { r.finding().mutable_standard_deviation_hu()->set_value(-1e-9); },
              "findings.standard_deviation_hu"},
        Claim{"DeviationBeyondHalfTheRange",
              [](Reply& r) { r.finding().mutable_standard_deviation_hu()->set_value(256); },
              "findings.standard_deviation_hu"},
        Claim{"NoHounsfieldUnits",
              [](Reply& r) {
                r.start.clear_hounsfield_channels();
                r.done.clear_hounsfield();
              },
              "findings.mean_hu"}),
    Name);

INSTANTIATE_TEST_SUITE_P(
    Distances, FindingReplyTest,
    ::testing::Values(
        Claim{"OneLabelIsAbsent", [](Reply& r) { r.finding().mutable_distances()->RemoveLast(); }, ""},
        Claim{"TheOtherIs", [](Reply& r) { r.finding().mutable_distances()->DeleteSubrange(0, 1); }, ""},
        Claim{"BothAre", [](Reply& r) { r.finding().clear_distances(); }, ""},
        Claim{"ToALabelThatTheRuleDoesNotName", [](Reply& r) { r.distance(1).set_to_label(1); },
              "findings.distances.to_label"},
        Claim{"Twice", [](Reply& r) { r.distance(1).set_to_label(3); }, "findings.distances.to_label"},
        Claim{"InAnotherOrder", [](Reply& r) { r.finding().mutable_distances()->SwapElements(0, 1); },
              "findings.distances.to_label"},
        Claim{"OneMore", [](Reply& r) { *r.finding().add_distances() = r.distance(0); },
              "findings.distances.to_label"},
        Claim{"Negative", [](Reply& r) { r.distance(0).mutable_mm()->set_value(-1); },
              "findings.distances.mm"},
        Claim{
            "Infinite",
            [](Reply& r) { r.distance(1).mutable_mm()->set_value(std::numeric_limits<double>::infinity()); },
            "findings.distances.mm"},
        Claim{"BeyondTheGrid", [](Reply& r) { r.distance(1).mutable_mm()->set_value(1e4); },
              "findings.distances.mm"},
        Claim{"LongName", [](Reply& r) { r.distance(1).set_label(std::string(1000, 'x')); },
              "findings.distances.label"}),
    Name);

TEST(BoxReplyTest, OfABoxThereIsNoMean) {
  Reply reply = TrueReply();
  reply.recipe.add_decode()->mutable_detect_boxes();
  reply.finding().clear_distances();
  EXPECT_EQ(WhatIsALie(reply), "findings.mean_hu");
}

}  // namespace
}  // namespace tomoserve::dispatch
