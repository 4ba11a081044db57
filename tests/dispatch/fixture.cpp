#include "dispatch/fixture.h"

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "ipc/processes.h"
#include "tomoserve/base/config.h"

namespace tomoserve::dispatch {
namespace {

constexpr char kRecipe[] = R"(
card {
  intended_use: "Tests."
  regulatory_status: $STATUS
  author: "Tomoserve contributors"
  license: "Apache-2.0"
  source: "A script."
}
inputs { name: "image" modalities: "$MODALITY" when_missing: WHEN_MISSING_WARN }
windows {
  layout: WINDOW_LAYOUT_MONAI
  size: [4, 4, 4]
  overlap: 0.25
  blend: BLEND_CONSTANT
}
network {
  files: "model.ts"
  spatial_dims: 3
  axes: TENSOR_AXES_XYZ
  input_channels: 1
  output_channels: 1
  precision: PRECISION_FLOAT32
}
decode { activation: ACTIVATION_NONE }
decode { to_volume_grid { interpolation: INTERPOLATION_LINEAR } }
decode { threshold { above: 0.5 } }
labels {
  value: 1
  name: "spot"
  type { value: "27925004" scheme: "SCT" meaning: "Nodule" }
  category { value: "49755003" scheme: "SCT" meaning: "Morphologically Abnormal Structure" }
}
findings { label: 1 each_component: true }
flags { label: 1 level: FLAG_LEVEL_ATTENTION }
coverage { not_needed { because: "a test looks everywhere" } }
)";

std::string Replaced(std::string text, const std::string& what, const std::string& with) {
  text.replace(text.find(what), what.size(), with);
  return text;
}

}  // namespace

bool Eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

DispatchTest::DispatchTest() {
  std::string pattern = (std::filesystem::temp_directory_path() / "tomoserve-dispatch-XXXXXX").string();
  folder_ = ::mkdtemp(pattern.data());
  std::filesystem::create_directories(folder_ / "models");
  options_.config.set_data((folder_ / "data").string());
  options_.config.add_models((folder_ / "models").string());
  options_.config.add_devices("cpu");
  options_.config.set_helper_leases(2);
  options_.config.mutable_limits()->set_arena_bytes(64 << 20);
  options_.config.mutable_limits()->set_min_free_bytes(1);
  options_.machine_bytes = std::uint64_t{64} << 30;
  options_.worker_program = TOMOSERVE_FAKE_WORKER;
  options_.lock_folder = (folder_ / "locks").string();
  options_.patience.first_restart = std::chrono::milliseconds(10);
  options_.patience.longest_restart = std::chrono::milliseconds(50);
}

DispatchTest::~DispatchTest() {
  dispatcher_.reset();
  std::filesystem::remove_all(folder_);
}

void DispatchTest::AddModel(const std::string& name, const std::string& script, const std::string& modality,
                            bool demonstration, const std::string& version) {
  const auto folder = folder_ / "models" / name / version;
  std::filesystem::create_directories(folder);
  std::string recipe = Replaced(kRecipe, "$MODALITY", modality);
  recipe = Replaced(recipe, "$STATUS",
                    demonstration ? "REGULATORY_STATUS_DEMONSTRATION" : "REGULATORY_STATUS_RESEARCH");
  std::ofstream(folder / "recipe.textproto") << "title: \"" << script << "\"\n" << recipe;
  std::ofstream(folder / "model.ts") << "not a network " << name << version;
}

void DispatchTest::EditRecipe(const std::string& name, const std::string& what, const std::string& with) {
  const auto path = folder_ / "models" / name / "1" / "recipe.textproto";
  std::stringstream recipe;
  recipe << std::ifstream(path).rdbuf();
  std::ofstream(path) << Replaced(recipe.str(), what, with);
}

void DispatchTest::AllowSyntheticSlices(const std::string& name, int slices) {
  EditRecipe(name, "when_missing", absl::StrCat("max_synthetic_slices: ", slices, " when_missing"));
}

void DispatchTest::Start(bool wait_until_ready) {
  // Once: what a test sets afterwards stays as it is.
  if (options_.config.listen().empty()) {
    ASSERT_TRUE(base::CompleteServerConfig(options_.config).ok());
  }
  auto dispatcher = DispatcherImpl::Start(options_, std::make_unique<FakeHelpers>(helpers_));
  ASSERT_TRUE(dispatcher.ok()) << dispatcher.status();
  dispatcher_ = *std::move(dispatcher);
  for (const ModelStatus& model : dispatcher_->Models()) {
    ASSERT_TRUE(model.model->good()) << model.model->name << ": " << model.model->refused.ShortDebugString();
  }
  if (!wait_until_ready) return;
  ASSERT_TRUE(Eventually([this] { return dispatcher_->ready(); }));
}

v1::SubmissionHeader DispatchTest::Wanting(const std::vector<std::string>& models) {
  v1::SubmissionHeader header;
  for (const std::string& model : models) header.add_models()->set_name(model);
  return header;
}

absl::Status DispatchTest::SendInstance(Upload& upload, const std::string& key, const std::string& bytes) {
  v1::InstanceStart start;
  start.set_instance_key(key);
  start.set_size_bytes(bytes.size());
  TS_RETURN_IF_ERROR(upload.BeginInstance(start));
  // In two pieces, as chunks come.
  TS_RETURN_IF_ERROR(upload.Append(std::string_view(bytes).substr(0, bytes.size() / 2)));
  return upload.Append(std::string_view(bytes).substr(bytes.size() / 2));
}

absl::StatusOr<v1::SubmissionReceipt> DispatchTest::Submit(const v1::SubmissionHeader& header,
                                                           const std::vector<std::string>& files) {
  TS_ASSIGN_OR_RETURN(const std::unique_ptr<Upload> upload, dispatcher_->BeginUpload(header));
  for (std::size_t i = 0; i < files.size(); ++i) {
    TS_RETURN_IF_ERROR(SendInstance(*upload, absl::StrCat(i), files[i]));
  }
  return upload->Finish();
}

v1::SubmissionReceipt DispatchTest::MustSubmit(const v1::SubmissionHeader& header,
                                               const std::vector<std::string>& files) {
  const auto receipt = Submit(header, files);
  EXPECT_TRUE(receipt.ok()) << receipt.status();
  return receipt.ok() ? *receipt : v1::SubmissionReceipt();
}

v1::Run DispatchTest::RunOf(const std::string& model, const FakeStudy& study) {
  return WaitForRun(MustSubmit(Wanting({model}), study.Files()).run_ids(0));
}

v1::Run DispatchTest::RunNow(const std::string& run_id) {
  const auto run = dispatcher_->store().GetRun(run_id);
  EXPECT_TRUE(run.ok()) << run.status();
  return run.ok() ? run->run : v1::Run();
}

v1::Run DispatchTest::WaitForRun(const std::string& run_id) {
  EXPECT_TRUE(Eventually([&] {
    const v1::RunState state = StateOf(run_id);
    return state != v1::RUN_STATE_QUEUED && state != v1::RUN_STATE_RUNNING;
  })) << "the run is not final";
  return RunNow(run_id);
}

std::vector<pid_t> DispatchTest::Workers() { return ipc::ChildrenOf(::getpid()); }

pid_t DispatchTest::WaitForWorker() {
  EXPECT_TRUE(Eventually([] { return !Workers().empty(); }));
  const std::vector<pid_t> workers = Workers();
  return workers.empty() ? -1 : workers.front();
}

}  // namespace tomoserve::dispatch
