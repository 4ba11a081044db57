#include "apps/tomoctl/check_study.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "apps/tomoctl/client.h"
#include "apps/tomoctl/files.h"
#include "apps/tomoctl/phantom_files.h"
#include "apps/tomoctl/submission.h"
#include "tomoserve/base/status.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExplicitLittleEndian = "1.2.840.10008.1.2.1";
constexpr const char* kDate = "20200101";
constexpr int kBrighterHu = 40;  // of each further input
constexpr int kFatHu = -60;
constexpr int kMostHu = 3071;
constexpr double kWeaker = 0.15;

// Texts that the input asks for; a Series Description has 64 letters.
std::string DescriptionFor(const v1::Input& input) {
  std::vector<std::string> texts;
  if (!input.region_texts().empty()) texts.push_back(input.region_texts(0));
  if (!input.phase_texts().empty()) texts.push_back(input.phase_texts(0));
  return absl::StrJoin(texts, " ").substr(0, 64);
}

}  // namespace

std::vector<std::int16_t> ValuesOfChannel(const phantom::Options& options, const phantom::Phantom& phantom,
                                          std::uint32_t channel) {
  std::vector<std::int16_t> values = phantom.values;
  if (channel == 0) return values;
  const int number = static_cast<int>(channel);
  for (std::int16_t& value : values) {
    if (options.modality == phantom::Modality::kMr) {
      value = static_cast<std::int16_t>(std::lround(value * std::max(0.1, 1 - kWeaker * number)));
    } else if (value > kFatHu) {
      value = static_cast<std::int16_t>(std::min(value + kBrighterHu * number, kMostHu));
    }
  }
  return values;
}

absl::StatusOr<Outcome> Look(const models::Model& model, const phantom::Options& options,
                             const phantom::Phantom& phantom, const fs::path& folder,
                             ipc::HelperPool& helpers, v1::StudyService::Stub& stub) {
  std::error_code error;
  for (int n = 0; n < model.recipe.inputs_size(); ++n) {
    const v1::Input& input = model.recipe.inputs(n);
    const fs::path series = folder / input.name();
    fs::create_directories(series, error);
    phantom::Phantom seen = phantom;
    seen.values = ValuesOfChannel(options, phantom, static_cast<std::uint32_t>(n));
    const SeriesOptions written{.transfer_syntax = kExplicitLittleEndian,
                                .date = kDate,
                                .description = DescriptionFor(input),
                                .name = model.recipe.inputs_size() > 1 ? input.name() : "",
                                .contrast_agent = input.contrast() == v1::CONTRAST_WITH ? "PHANTOM" : ""};
    TS_RETURN_IF_ERROR(WriteSeries(series, options, seen, written, helpers));
  }
  TS_ASSIGN_OR_RETURN(const std::vector<fs::path> files, RegularFiles(folder));
  v1::SubmissionHeader header;
  header.set_completion(v1::COMPLETION_FINAL);
  *header.add_models() = ParseModel(absl::StrCat(model.name, "@", model.version));
  Answer answer;
  const grpc::Status status = Submit(stub, header, files, /*show=*/false, answer);
  fs::remove_all(folder, error);
  if (!status.ok())
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  Outcome outcome;
  for (const auto& [id, run] : answer.runs) {
    if (run.model() == model.name) outcome.run = run;
  }
  for (const v1::StageTiming& timing : outcome.run.timings()) {
    if (timing.stage() != "queue") outcome.seconds += timing.ms() / 1000;
  }
  v1::ResultInfo info;
  if (outcome.run.has_label_map()) {
    TS_ASSIGN_OR_RETURN(outcome.labels,
                        Download(stub, outcome.run.run_id(), v1::RESULT_KIND_LABEL_MAP, info));
    outcome.label_map = info.label_map();
  }
  TS_ASSIGN_OR_RETURN(outcome.answer, InPatientAxes(outcome.run, info.label_map(), outcome.labels));
  return outcome;
}

bool Looked(const v1::Run& run) {
  return run.state() == v1::RUN_STATE_DONE && run.flag().state() != v1::FLAG_STATE_NOT_APPLICABLE &&
         (run.has_label_map() || run.flag().state() != v1::FLAG_STATE_INCONCLUSIVE ||
          run.findings_size() > 0);
}

}  // namespace tomoserve::tomoctl
