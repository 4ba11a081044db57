#include <gmock/gmock.h>

#include <cmath>
#include <string>
#include <vector>

#include "apps/tomoctl/load_metrics.h"
#include "apps/tomoctl/load_plan.h"
#include "apps/tomoctl/load_report.h"
#include "tomoserve/base/status.h"

namespace tomoserve::tomoctl {
namespace {

using ::testing::DoubleNear;
using ::testing::Eq;
using ::testing::Optional;
using ::testing::SizeIs;

std::vector<double> Numbers(int count) {
  std::vector<double> values;
  for (int value = 1; value <= count; ++value) values.push_back(value);
  return values;
}

TEST(LoadQuantile, IsAMeasuredValueByNearestRank) {
  EXPECT_EQ(Quantile({}, 0.5), std::nullopt);
  EXPECT_THAT(Quantile({7}, 0.01), Optional(7));
  EXPECT_THAT(Quantile({1, 2}, 0.5), Optional(1));
  EXPECT_THAT(Quantile({1, 2}, 0.51), Optional(2));
  EXPECT_THAT(Quantile(Numbers(100), 0.99), Optional(99));
  EXPECT_THAT(Quantile(Numbers(101), 0.99), Optional(100));
  EXPECT_THAT(Quantile(Numbers(20), 0.95), Optional(19)) << "0.95 * 20 is not above 19";
  EXPECT_THAT(Quantile(Numbers(9), 1), Optional(9));
}

TEST(LoadMix, IsScaledToOne) {
  const auto mix = ParseMix("routine:80,urgent:15,stat:5");
  ASSERT_TRUE(mix.ok());
  ASSERT_THAT(*mix, SizeIs(3));
  EXPECT_EQ((*mix)[0].name, "routine");
  EXPECT_DOUBLE_EQ((*mix)[0].share, 0.8);
  EXPECT_DOUBLE_EQ((*mix)[2].share, 0.05);
  const auto even = ParseMix("128x60,256x120");
  ASSERT_TRUE(even.ok());
  EXPECT_DOUBLE_EQ((*even)[1].share, 0.5);
}

TEST(LoadMix, RefusesWhatIsNoMix) {
  for (const char* text : {"", ",", "stat:", "stat:x", "stat:0", "stat:-1", "stat:inf", "stat:nan", ":1",
                           "stat:1,", "stat:1,stat:2", "stat:1:2"}) {
    const auto mix = ParseMix(text);
    EXPECT_FALSE(mix.ok()) << text;
    EXPECT_EQ(base::ReasonOf(mix.status()), "LOAD_MIX") << text;
  }
}

TEST(LoadSize, IsRowsAndSlices) {
  const auto size = ParsePhantomSize("128x60");
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(size->rows, 128u);
  EXPECT_EQ(size->slices, 60u);
  for (const char* text : {"", "128", "x", "128x", "0x60", "128x0", "-1x3", "128x60x3", "1e3x4"})
    EXPECT_EQ(base::ReasonOf(ParsePhantomSize(text).status()), "LOAD_SIZE") << text;
}

struct Counts {
  int arrivals = 0;
  int stat = 0;
  int large = 0;
  double squares = 0;  // of the gaps
};

Counts Count(Arrivals arrivals, double until_s) {
  Counts counts;
  double before = 0;
  for (Arrival next = arrivals.Next(); next.at_s < until_s; next = arrivals.Next()) {
    ++counts.arrivals;
    counts.stat += next.priority == 1;
    counts.large += next.study == 1;
    counts.squares += std::pow(next.at_s - before, 2);
    before = next.at_s;
  }
  return counts;
}

const std::vector<Share> kPriorities = {{"routine", 0.9}, {"stat", 0.1}};
const std::vector<Share> kSizes = {{"64x40", 0.7}, {"128x60", 0.3}};

TEST(LoadArrivals, ArePoissonWithTheStatedRateAndMix) {
  const Counts counts = Count(Arrivals(3, 2, kPriorities, kSizes), 50000);
  EXPECT_NEAR(counts.arrivals, 100000, 1300) << "four deviations";
  EXPECT_NEAR(counts.stat, 10000, 450);
  EXPECT_NEAR(counts.large, 30000, 700);
  // Of an exponential gap the mean square is twice the square of the mean.
  EXPECT_NEAR(counts.squares / counts.arrivals, 2.0 / 4, 0.02);
}

TEST(LoadArrivals, ASeedIsReproducible) {
  Arrivals one(7, 0.5, kPriorities, kSizes);
  Arrivals same(7, 0.5, kPriorities, kSizes);
  Arrivals other(8, 0.5, kPriorities, kSizes);
  bool differs = false;
  for (int n = 0; n < 1000; ++n) {
    const Arrival a = one.Next();
    const Arrival b = same.Next();
    EXPECT_EQ(a.at_s, b.at_s);
    EXPECT_EQ(a.priority, b.priority);
    EXPECT_EQ(a.study, b.study);
    differs = differs || a.at_s != other.Next().at_s;
  }
  EXPECT_TRUE(differs);
}

TEST(LoadArrivals, ARateStretchesTheSameArrivals) {
  Arrivals slow(7, 1, kPriorities, kSizes);
  Arrivals fast(7, 4, kPriorities, kSizes);
  for (int n = 0; n < 100; ++n) {
    const Arrival a = slow.Next();
    const Arrival b = fast.Next();
    EXPECT_THAT(a.at_s, DoubleNear(4 * b.at_s, 1e-9 * a.at_s));
    EXPECT_EQ(a.priority, b.priority);
  }
}

TEST(LoadUids, AreOthersOfTheSameForm) {
  const std::string uid = "2.25.329800735698586629295641978511506172918";
  const std::string fresh = FreshUid(uid, "a|1");
  EXPECT_EQ(fresh, FreshUid(uid, "a|1"));
  EXPECT_NE(fresh, FreshUid(uid, "a|2"));
  EXPECT_NE(fresh, uid);
  EXPECT_THAT(fresh, SizeIs(uid.size()));
  EXPECT_EQ(fresh.substr(0, 6), "2.25.3");
  EXPECT_EQ(fresh.find_first_not_of("0123456789", 5), std::string::npos);
}

TEST(LoadUids, KeepTheirComponents) {
  const std::string uid = "1.2.840.113619.2.55.3.604688119.971.1390.0.4";
  const std::string fresh = FreshUid(uid, "s");
  ASSERT_THAT(fresh, SizeIs(uid.size()));
  for (std::size_t n = 0; n < uid.size(); ++n) {
    EXPECT_EQ(fresh[n] == '.', uid[n] == '.');
    if (n == 0 || uid[n - 1] == '.') {
      EXPECT_EQ(fresh[n], uid[n]) << "a component may not begin with 0";
    }
  }
}

TEST(LoadUids, OnesThatDifferOnlyAtTheEndStayDifferent) {
  const std::string series = "2.25.12345678901234567890123456789.";
  EXPECT_NE(FreshUid(series + "11", "s"), FreshUid(series + "12", "s"));
}

TEST(LoadUids, AreRefusedWhereTooFewDigitsAreFree) { EXPECT_EQ(FreshUid("1.2.3.4.123456789", "s"), ""); }

std::string Element(const std::string& tag, const std::string& vr_and_length, const std::string& value) {
  return tag + vr_and_length + value;
}

TEST(LoadUids, AreFoundInLittleEndianFiles) {
  const std::string uid = "2.25.329800735698586629295641978511506172";  // 41 bytes and padding
  const std::string padded = uid + std::string(1, '\0');
  ASSERT_THAT(padded, SizeIs(42));
  const std::string explicit_vr = std::string("UI\x2a\x00", 4);
  const std::string implicit_vr = std::string("\x2a\x00\x00\x00", 4);
  const std::string study("\x20\x00\x0d\x00", 4);
  const std::string instance("\x08\x00\x18\x00", 4);
  const std::string other("\x08\x00\x55\x11", 4);  // a reference to another instance
  const std::string file = std::string(132, 'x') + Element(study, explicit_vr, padded) +
                           Element(other, explicit_vr, padded) + Element(instance, implicit_vr, padded);
  const std::vector<UidPlace> places = FindUids(file);
  ASSERT_THAT(places, SizeIs(2));
  for (const UidPlace& place : places) EXPECT_EQ(file.substr(place.offset, place.length), uid);
}

TEST(LoadUids, WhatOnlyLooksLikeATagIsLeftAlone) {
  const std::string tag("\x20\x00\x0d\x00", 4);
  EXPECT_THAT(FindUids(tag), SizeIs(0));
  EXPECT_THAT(FindUids(tag + "UI"), SizeIs(0));
  EXPECT_THAT(FindUids(tag + std::string("UI\xff\xff", 4) + "1.2"), SizeIs(0));
  EXPECT_THAT(FindUids(tag + std::string("UI\x04\x00", 4) + "1.x4"), SizeIs(0));
  EXPECT_THAT(FindUids(tag + std::string("\xff\xff\xff\xff", 4) + "1.2.3"), SizeIs(0));
}

TEST(LoadMetrics, TheTextFormatIsRead) {
  const auto lines = ParseMetrics(
      "# HELP tomoserve_device_busy 1 while the worker has a run\n# TYPE tomoserve_device_busy gauge\n"
      "tomoserve_device_busy{device=\"cpu\",worker=\"0\"} 1\n"
      "tomoserve_device_busy{device=\"cpu\",worker=\"1\"} 0\r\n"
      "tomoserve_runs_waiting{priority=\"ROUTINE\"} 4\ntomoserve_runs_waiting{priority=\"STAT\"} 1\n"
      "tomoserve_runs_in_flight{priority=\"STAT\"} 2\nno number here\n\ntomoserve_ready 1e0\n");
  ASSERT_THAT(lines, SizeIs(6));
  EXPECT_THAT(SumOf(lines, "tomoserve_ready"), Optional(1));
  EXPECT_EQ(SumOf(lines, "tomoserve_windows_total"), std::nullopt);
  const MetricSample sample = ToSample(lines, 2.5);
  EXPECT_EQ(sample.at_s, 2.5);
  EXPECT_EQ(sample.busy, 0.5);
  EXPECT_EQ(sample.waiting, 5);
  EXPECT_EQ(sample.waiting_by_priority.at("ROUTINE"), 4);
  EXPECT_EQ(sample.in_flight, 2);
  EXPECT_EQ(sample.batch_slots, std::nullopt);
}

TEST(LoadMetrics, AUrlIsChecked) {
  for (const char* url : {"", "127.0.0.1:80", "https://127.0.0.1:80/", "http://example.org:80/",
                          "http://127.0.0.1/", "http://127.0.0.1:99999/"})
    EXPECT_EQ(base::ReasonOf(FetchMetrics(url).status()), "METRICS_URL") << url;
}

LoadSample Sample(double intended_s, double started_s, std::optional<double> final_s,
                  std::size_t priority = 0) {
  LoadSample sample;
  sample.intended_s = intended_s;
  sample.started_s = started_s;
  sample.acknowledged_s = started_s + 0.5;
  sample.final_s = final_s;
  sample.priority = priority;
  sample.forward_s = 2;
  return sample;
}

LoadOptions TwoPriorities() {
  LoadOptions options;
  options.models = {"m"};
  options.priorities = kPriorities;
  options.sizes = {{"64x40", 1}};
  options.per_second = 0.5;
  options.warm_up_s = 10;
  options.duration_s = 100;
  options.max_open = 2;
  return options;
}

TEST(LoadReport, LatencyCountsFromTheIntendedArrival) {
  LoadRun run;
  run.samples = {Sample(1, 1, 90), Sample(20, 50, 53), Sample(30, 30, 34, 1)};
  run.samples[1].held = true;
  const auto report = LoadReport(TwoPriorities(), run, {std::uint64_t{8}}, {});
  EXPECT_EQ(report["priorities"]["routine"]["offered"], 1) << "the warm-up does not count";
  EXPECT_EQ(report["priorities"]["routine"]["latency_s"]["p50"], 33);
  EXPECT_EQ(report["priorities"]["routine"]["acknowledged_s"]["max"], 30.5);
  EXPECT_EQ(report["priorities"]["stat"]["latency_s"]["p99"], 4);
  EXPECT_EQ(report["sent_late_s"]["max"], 30);
  EXPECT_EQ(report["held_by_max_open"], 1);
  EXPECT_NE(LoadTable(report).find("--max-open 2 held 1"), std::string::npos);
}

TEST(LoadReport, ThroughputIsWhatBecameFinalInTheMeasuredTime) {
  LoadRun run;
  run.samples = {Sample(1, 1, 5), Sample(2, 2, 12), Sample(20, 20, 60), Sample(100, 100, 130)};
  const auto report = LoadReport(TwoPriorities(), run, {std::uint64_t{8}}, {});
  EXPECT_EQ(report["throughput"]["completed"], 2);
  EXPECT_EQ(report["throughput"]["studies_per_hour"], 72);
  EXPECT_THAT(report["throughput"]["windows_per_s"].get<double>(), DoubleNear(0.16, 1e-12));
  EXPECT_THAT(report["throughput"]["forward_share"].get<double>(), DoubleNear(0.04, 1e-12));
  EXPECT_EQ(report["all"]["offered"], 2);
  EXPECT_EQ(report["all"]["completed"], 2) << "the last one came after the end, but it came";
  EXPECT_TRUE(LoadReport(TwoPriorities(), run, {std::nullopt}, {})["throughput"]["windows_per_s"].is_null());
}

TEST(LoadReport, EveryFailureIsNamed) {
  LoadRun run;
  run.samples = {Sample(1, 1, {}), Sample(20, 20, {}), Sample(21, 21, 22)};
  run.samples[0].code = "LOST";
  run.samples[1].code = "TOO_MANY_UPLOADS";
  const auto report = LoadReport(TwoPriorities(), run, {std::nullopt}, {});
  EXPECT_EQ(report["failures"], nlohmann::json::parse(R"({"LOST": 1, "TOO_MANY_UPLOADS": 1})"));
  EXPECT_EQ(report["failed_in_warm_up"], 1);
  EXPECT_EQ(report["all"]["offered"], 2);
  EXPECT_EQ(report["all"]["completed"], 1);
  EXPECT_NE(LoadTable(report).find("FAILED LOST: 1"), std::string::npos);
  EXPECT_NE(LoadCsv(TwoPriorities(), run).find("routine,64x40,1,0,20.0000,20.0000,20.5000,,,2.0000,TOO_MANY"),
            std::string::npos);
}

TEST(LoadReport, NothingCompletedIsNoQuantile) {
  const auto report = LoadReport(TwoPriorities(), {}, {std::nullopt}, {});
  EXPECT_TRUE(report["all"]["latency_s"]["p99"].is_null());
  EXPECT_EQ(report["failures"], nlohmann::json::object());
  EXPECT_NE(LoadTable(report).find(" -"), std::string::npos);
}

TEST(LoadReport, TheServersSideIsOfTheMeasuredTime) {
  std::vector<MetricSample> metrics(4);
  for (std::size_t n = 0; n < metrics.size(); ++n) {
    metrics[n].at_s = 40.0 * static_cast<double>(n);
    metrics[n].busy = n == 1 ? 0.5 : 1;
    metrics[n].waiting = static_cast<double>(n);
    metrics[n].windows = 80.0 * static_cast<double>(n);
    metrics[n].batch_windows = 80.0 * static_cast<double>(n);
    metrics[n].batch_slots = 100.0 * static_cast<double>(n);
    metrics[n].lane_seconds = 60.0 * static_cast<double>(n);
  }
  const auto report = LoadReport(TwoPriorities(), {}, {std::nullopt}, metrics);
  EXPECT_THAT(report["server"]["samples"], SizeIs(2));
  EXPECT_EQ(report["server"]["busy_share"], 0.75);
  EXPECT_EQ(report["server"]["waiting_max"], 2);
  EXPECT_EQ(report["server"]["windows_per_s"], 2);
  EXPECT_EQ(report["server"]["batch_fill"], 0.8);
  EXPECT_EQ(report["server"]["lanes_busy"], 1.5);
}

}  // namespace
}  // namespace tomoserve::tomoctl
