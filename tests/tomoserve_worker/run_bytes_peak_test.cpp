// What runs are predicted to take, beside what they take, on the executor's lanes as a CPU's worker computes
// them.
#include <ATen/ops/arange.h>
#include <ATen/ops/max_pool3d.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <future>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "compute/fixtures.h"
#include "pipeline/detector_recipes.h"
#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/executor/executor.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/window_bytes.h"
#include "tomoserve_worker/counted_memory.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using testing::SetSpacing;
using testing::StoredVolume;

constexpr std::uint32_t kLanes = 2;
// No prediction is further above what is taken.
constexpr double kMostAbove = 1.3;
// Beside arrays: records, lists of windows, what a thread needs.
constexpr std::uint64_t kSmall = 256 << 10;

// Channel c is highest where the input is about c.
absl::StatusOr<Outputs> Steps(const at::Tensor& input, std::int64_t channels) {
  const at::Tensor centres = at::arange(channels, input.options()).reshape({1, channels, 1, 1, 1});
  at::Tensor output = centres.expand({1, channels, input.size(2), input.size(3), input.size(4)}).clone();
  return Outputs(output.sub_(input.select(1, 0).unsqueeze(1)).abs_().neg_());
}

Forward StepsOf(std::int64_t channels) {
  return [channels](const at::Tensor& input) { return Steps(input, channels); };
}

struct WindowOutput final : executor::Job::Output {
  explicit WindowOutput(Outputs answer) : outputs(std::move(answer)) {}
  Outputs outputs;
};

class RunJob final : public executor::Job {
 public:
  RunJob(PreparedRun& run, const std::vector<pipeline::Forward>& networks) : run_(run), networks_(networks) {}
  std::uint32_t windows() const override { return run_.windows(); }
  absl::Status Forward(std::uint32_t index, std::uint32_t, std::unique_ptr<Output>& output) override {
    engine::UseOneThread();
    TS_ASSIGN_OR_RETURN(Outputs outputs, run_.ForwardWindow(index, networks_[run_.PartOf(index)]));
    output = std::make_unique<WindowOutput>(std::move(outputs));
    return absl::OkStatus();
  }
  absl::Status Fold(std::uint32_t index, std::unique_ptr<Output> output) override {
    return run_.Fold(index, std::move(static_cast<WindowOutput&>(*output).outputs));
  }

 private:
  PreparedRun& run_;
  const std::vector<pipeline::Forward>& networks_;
};

class RunBytesPeakTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::CountMemory()) GTEST_SKIP() << "a sanitizer's heap is its own";
    engine::UseOneThread();
    geometry_ = AxialGeometry({176, 160, 90}, {0.8, 0.8, 1.5});
  }

  // Some organs: values 1 to `labels` in spheres, 0 outside.
  StoredVolume Organs(int labels) const {
    StoredVolume stored(*geometry_);
    for (int n = 1; n <= labels; ++n) {
      testing::PaintSphere(*geometry_,
                           {20.0 + n * 100.0 / labels, 30.0 + n * 70.0 / labels, 20.0 + n * 90.0 / labels},
                           14, static_cast<std::int16_t>(n), stored);
    }
    return stored;
  }

  // Predicted and taken bytes of a run beside volume and label map.
  struct Bytes {
    std::uint64_t predicted = 0;
    std::uint64_t taken = 0;
    double above() const { return static_cast<double>(predicted) / static_cast<double>(taken); }
  };
  absl::StatusOr<Bytes> Measure(const v1::Recipe& recipe, const StoredVolume& stored,
                                const std::vector<Forward>& networks) const {
    const std::size_t inputs = static_cast<std::size_t>(std::max(1, recipe.inputs_size()));
    std::vector<compute::StoredSlice> slices;
    for (std::size_t input = 0; input < inputs; ++input) {
      const auto of_input = stored.Slices();
      slices.insert(slices.end(), of_input.begin(), of_input.end());
    }
    std::vector<std::byte> labels(static_cast<std::size_t>(geometry_->voxels()) * 2);
    TS_ASSIGN_OR_RETURN(const RunPlan plan, PlanRun(recipe, *geometry_, {}));
    TS_ASSIGN_OR_RETURN(const std::uint64_t forward_bytes, ForwardBytes(plan, networks));
    const auto lanes = executor::Executor::Create(kLanes, kLanes);
    lanes->OnEveryLane([](std::uint32_t) { engine::UseOneThread(); });
    const auto [x, y, z] = plan.grid.geometry.size_ijk();
    const std::uint64_t windows = plan.windows.starts.size() * models::NetworkCount(recipe);
    Bytes bytes;
    bytes.predicted = plan.peak_bytes + std::min<std::uint64_t>(kLanes, windows) * forward_bytes +
                      models::WindowBytes(recipe, {x, y, z}, windows,
                                          {.forward_bytes = 0, .lanes = kLanes, .ahead = kLanes});
    const std::uint64_t before = testing::RestartPeak();
    {
      TS_ASSIGN_OR_RETURN(const auto run, PreparedRun::Create(recipe, *geometry_, slices, {2, {}}));
      std::promise<absl::Status> finished;
      executor::JobOptions options;
      options.run_id = "r";
      options.progress = [](std::uint32_t, std::uint32_t) {};
      options.finished = [&](const absl::Status& status) { finished.set_value(status); };
      lanes->Submit(std::make_shared<RunJob>(*run, networks), std::move(options));
      TS_RETURN_IF_ERROR(finished.get_future().get());
      TS_RETURN_IF_ERROR(run->Finish(labels, 2).status());
    }
    bytes.taken = testing::PeakBytes() - before;
    return bytes;
  }

  void ExpectPredicted(const v1::Recipe& recipe, const StoredVolume& stored,
                       const std::vector<Forward>& networks, double most_above = kMostAbove) const {
    // What libraries keep from their first use is no run's.
    ASSERT_TRUE(Measure(recipe, stored, networks).ok());
    const auto bytes = Measure(recipe, stored, networks);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    RecordProperty("above", std::to_string(bytes->above()));
    std::cerr << "predicted " << static_cast<double>(bytes->predicted) / 1e6 << " MB, taken "
              << static_cast<double>(bytes->taken) / 1e6 << " MB, " << bytes->above() << '\n';
    EXPECT_LE(bytes->taken, bytes->predicted + kSmall);
    EXPECT_LE(bytes->above(), most_above);
  }

  std::optional<volume::Geometry> geometry_;

 private:
  // As at warm-up: the window, the network's own copy, its answer.
  static absl::StatusOr<std::uint64_t> ForwardBytes(const RunPlan& plan,
                                                    const std::vector<Forward>& networks) {
    std::uint64_t bytes = 0;
    for (const Forward& network : networks) {
      const std::uint64_t before = testing::RestartPeak();
      {
        const at::Tensor window = at::zeros(plan.input_shape);
        TS_ASSIGN_OR_RETURN(const Outputs outputs, network(window));
      }
      bytes = std::max(bytes, testing::PeakBytes() - before);
    }
    return bytes;
  }
};

v1::Recipe Labels(std::uint32_t channels, bool labels_first) {
  v1::Recipe recipe = testing::SpotRecipe();
  recipe.add_inputs()->set_name("ct");
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 48);
  recipe.mutable_network()->set_output_channels(channels);
  recipe.clear_decode();
  recipe.clear_labels();
  recipe.clear_findings();
  recipe.add_decode()->set_activation(v1::ACTIVATION_SOFTMAX);
  if (labels_first) recipe.add_decode()->mutable_arg_max();
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(labels_first ? v1::INTERPOLATION_NEAREST
                                                                                : v1::INTERPOLATION_LINEAR);
  if (!labels_first) recipe.add_decode()->mutable_arg_max();
  for (std::uint32_t value = 1; value < channels; ++value) {
    v1::Label& label = *recipe.add_labels();
    label.set_value(value);
    label.set_name("label " + std::to_string(value));
    v1::FindingRule& rule = *recipe.add_findings();
    rule.set_label(value);
    rule.set_each_component(true);
  }
  return recipe;
}

TEST_F(RunBytesPeakTest, ASegmentationOnItsOwnGrid) {
  ExpectPredicted(Labels(2, true), Organs(1), {StepsOf(2)});
}

TEST_F(RunBytesPeakTest, ASegmentationThatIsResampledAndBack) {
  v1::Recipe recipe = Labels(2, false);
  recipe.mutable_preparation()->set_orientation("RAS");
  SetSpacing(recipe, {1, 1, 1.2}, v1::INTERPOLATION_LINEAR);
  ExpectPredicted(recipe, Organs(1), {StepsOf(2)});
}

TEST_F(RunBytesPeakTest, ASegmentationOnAFinerGrid) {
  v1::Recipe recipe = Labels(3, false);
  SetSpacing(recipe, {0.6, 0.6, 1}, v1::INTERPOLATION_LINEAR);
  ExpectPredicted(recipe, Organs(2), {StepsOf(3)});
}

TEST_F(RunBytesPeakTest, ManyClassesInPieces) {
  v1::Recipe recipe = Labels(20, true);
  SetSpacing(recipe, {1, 1, 1.5}, v1::INTERPOLATION_LINEAR);
  ExpectPredicted(recipe, Organs(19), {StepsOf(20)});
}

TEST_F(RunBytesPeakTest, ManyClassesWhoseScoresAreResampled) {
  v1::Recipe recipe = Labels(8, false);
  SetSpacing(recipe, {1, 1, 1.5}, v1::INTERPOLATION_LINEAR);
  ExpectPredicted(recipe, Organs(7), {StepsOf(8)});
}

TEST_F(RunBytesPeakTest, SeveralInputs) {
  v1::Recipe recipe = Labels(3, true);
  for (const char* name : {"late", "native"}) recipe.add_inputs()->set_name(name);
  recipe.mutable_network()->set_input_channels(3);
  ExpectPredicted(recipe, Organs(2), {StepsOf(3)});
}

TEST_F(RunBytesPeakTest, MirroredWindows) {
  v1::Recipe recipe = Labels(3, true);
  recipe.mutable_network()->add_mirror_axes(0);
  recipe.mutable_network()->add_mirror_axes(1);
  ExpectPredicted(recipe, Organs(2), {StepsOf(3)});
}

TEST_F(RunBytesPeakTest, NnunetsSumsAndSplines) {
  v1::Recipe recipe = Labels(3, false);
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_NNUNET);
  recipe.mutable_windows()->set_overlap(0.5);
  SetSpacing(recipe, {1, 1, 1.5}, v1::INTERPOLATION_CUBIC);
  recipe.mutable_preparation()->mutable_spacing()->set_rule(v1::SPACING_RULE_NNUNET);
  recipe.mutable_preparation()->add_intensity()->mutable_z_score();
  ExpectPredicted(recipe, Organs(2), {StepsOf(3)});
}

TEST_F(RunBytesPeakTest, AComposite) {
  v1::Recipe recipe = Labels(2, true);
  recipe.clear_labels();
  recipe.clear_findings();
  recipe.mutable_network()->clear_output_channels();
  std::uint32_t value = 0;
  for (const std::uint32_t channels : {6u, 3u, 5u}) {
    v1::Part& part = *recipe.mutable_network()->add_parts();
    part.set_name("part " + std::to_string(channels));
    part.set_output_channels(channels);
    for (std::uint32_t c = 1; c < channels; ++c) {
      part.add_labels(++value);
      recipe.add_labels()->set_value(value);
      recipe.mutable_labels()->rbegin()->set_name("label " + std::to_string(value));
      recipe.add_findings()->set_label(value);
    }
  }
  SetSpacing(recipe, {1, 1, 1.5}, v1::INTERPOLATION_LINEAR);
  ExpectPredicted(recipe, Organs(5), {StepsOf(6), StepsOf(3), StepsOf(5)});
}

// How much a crop leaves is not foreseen: the prediction is that of the whole volume.
TEST_F(RunBytesPeakTest, ACropIsPredictedFromAbove) {
  v1::Recipe recipe = Labels(3, true);
  recipe.mutable_preparation()->mutable_crop()->set_background(0);
  ExpectPredicted(recipe, Organs(2), {StepsOf(3)}, 100);
  StoredVolume whole = Organs(2);
  for (const std::size_t corner : {std::size_t{0}, std::size_t{1}}) {
    whole.At(corner * 175, corner * 159, corner * 89) = 1;
  }
  ExpectPredicted(recipe, whole, {StepsOf(3)});
}

// Fires where a cell of 4 voxels has a bright voxel.
absl::StatusOr<Outputs> Bright(const at::Tensor& input) {
  const at::Tensor scores = at::max_pool3d(input, {4, 4, 4}).sub(0.5);
  const auto sizes = scores.sizes();
  return Outputs(
      std::vector<at::Tensor>{scores, at::zeros({1, 6, sizes[2], sizes[3], sizes[4]}, scores.options())});
}

TEST_F(RunBytesPeakTest, ADetectorInWindows) {
  v1::Recipe recipe = testing::SmallDetector();
  testing::SetWindows(recipe, {48, 48, 48}, 0.25);
  SetSpacing(recipe, {1, 1, 1.2}, v1::INTERPOLATION_LINEAR);
  ExpectPredicted(recipe, Organs(1), {Bright});
}

// The only window is counted with the arrays, as it was before its pass was measured, and with the pass.
TEST_F(RunBytesPeakTest, ADetectorThatSeesTheVolumeWhole) {
  v1::Recipe recipe = testing::SmallDetector();
  recipe.mutable_decode(0)->mutable_detect_boxes()->set_whole_below_voxels(1 << 30);
  ExpectPredicted(recipe, Organs(1), {Bright}, 2.2);
}

}  // namespace
}  // namespace tomoserve::pipeline
