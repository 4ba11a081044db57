// tomoctl analyze: sends a study, waits for its runs, writes what came back.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "apps/tomoctl/client.h"
#include "apps/tomoctl/files.h"
#include "apps/tomoctl/nifti.h"
#include "apps/tomoctl/progress.h"
#include "apps/tomoctl/verbs.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/findings/flag.h"
#include "tomoserve/v1/study_service.grpc.pb.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kChunkBytes = 1 << 20;

struct Options {
  std::string path;
  std::vector<std::string> models;
  std::string output;
  std::string key;
  std::string priority = "routine";
  bool save_labels = false;
  bool force = false;
  bool json = false;
};

using Stream = grpc::ClientReaderWriter<v1::AnalyzeStudyRequest, v1::AnalyzeStudyResponse>;

// What the server said, gathered by the reading thread.
struct Answer {
  std::vector<v1::InstanceStatus> refused;
  std::optional<v1::SubmissionReceipt> receipt;
  std::map<std::string, v1::Run> runs;
  std::optional<v1::Study> study;
};

v1::SubmissionHeader MakeHeader(const Options& options) {
  v1::SubmissionHeader header;
  header.set_idempotency_key(options.key);
  header.set_completion(v1::COMPLETION_FINAL);
  header.set_force_rerun(options.force);
  header.set_priority(options.priority == "stat"     ? v1::PRIORITY_STAT
                      : options.priority == "urgent" ? v1::PRIORITY_URGENT
                                                     : v1::PRIORITY_ROUTINE);
  for (const std::string& model : options.models) *header.add_models() = ParseModel(model);
  return header;
}

// Sends one file; false when the stream is broken or the file cannot be read.
bool SendFile(Stream& stream, const fs::path& path, const std::string& key, std::string& buffer) {
  std::ifstream file(path, std::ios::binary);
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (!file || error) {
    std::cerr << "tomoctl: " << path.string() << " cannot be read\n";
    return false;
  }
  v1::AnalyzeStudyRequest request;
  request.mutable_instance()->set_instance_key(key);
  request.mutable_instance()->set_size_bytes(size);
  if (!stream.Write(request)) return false;
  for (std::uintmax_t sent = 0; sent < size;) {
    buffer.resize(std::min<std::uintmax_t>(kChunkBytes, size - sent));
    if (!file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()))) {
      std::cerr << "tomoctl: " << path.string() << " changed while it was read\n";
      return false;
    }
    sent += buffer.size();
    request.mutable_chunk()->set_data(std::move(buffer));
    if (!stream.Write(request)) return false;
    buffer = std::move(*request.mutable_chunk()->mutable_data());
  }
  return true;
}

void PrintRefused(const std::vector<v1::InstanceStatus>& statuses, const std::vector<fs::path>& files) {
  for (const v1::InstanceStatus& status : statuses) {
    std::size_t number = files.size();
    if (!absl::SimpleAtoi(status.instance_key(), &number) || number >= files.size()) continue;
    std::fprintf(stderr, "  refused %s: %s: %s\n", files[number].filename().c_str(),
                 status.reason().code().c_str(), status.reason().text().c_str());
  }
}

// Reads events until the stream ends. Progress of the runs is shown once the upload is acknowledged.
void ReadEvents(Stream& stream, const std::vector<fs::path>& files, Answer& answer) {
  Progress progress;
  v1::AnalyzeStudyResponse response;
  std::size_t judged = 0;
  while (stream.Read(&response)) {
    switch (response.event_case()) {
      case v1::AnalyzeStudyResponse::kInstance:
        progress.Show("send", static_cast<double>(++judged), static_cast<double>(files.size()), "files");
        if (response.instance().outcome() == v1::INSTANCE_OUTCOME_REFUSED)
          answer.refused.push_back(response.instance());
        break;
      case v1::AnalyzeStudyResponse::kReceipt: {
        progress.End();
        answer.receipt = response.receipt();
        const v1::SubmissionReceipt& receipt = response.receipt();
        std::fprintf(stderr, "acknowledged: %u instances (%u there already), %u refused\n",
                     receipt.instances_accepted(), receipt.instances_duplicate(),
                     receipt.instances_refused());
        break;
      }
      case v1::AnalyzeStudyResponse::kRun: {
        const v1::Run& run = response.run();
        if (run.state() == v1::RUN_STATE_RUNNING) progress.Show(run.model(), run.progress() * 100, 100, "%");
        answer.runs[run.run_id()] = run;
        break;
      }
      case v1::AnalyzeStudyResponse::kStudy:
        answer.study = response.study();
        break;
      default:
        break;
    }
  }
  progress.End();
  PrintRefused(answer.refused, files);
}

// Fetches a result object of a run.
absl::StatusOr<std::string> Download(v1::StudyService::Stub& stub, const std::string& run_id,
                                     v1::ResultKind kind, v1::ResultInfo& info) {
  grpc::ClientContext context;
  v1::DownloadResultRequest request;
  request.set_run_id(run_id);
  request.set_kind(kind);
  const auto reader = stub.DownloadResult(&context, request);
  std::string bytes;
  v1::DownloadResultResponse response;
  while (reader->Read(&response)) {
    if (response.has_info()) {
      info = response.info();
      bytes.reserve(info.size_bytes());
    } else {
      bytes += response.data();
    }
  }
  if (const grpc::Status status = reader->Finish(); !status.ok()) {
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  }
  if (bytes.size() != info.size_bytes() || base::Sha256Hex(bytes) != info.sha256()) {
    return base::Error(absl::StatusCode::kDataLoss, "RESULT_DAMAGED", "", "a result arrived damaged");
  }
  return bytes;
}

// What a run's files are called: its model; "model@version" where the model ran in several versions. No name
// or version has an '@'.
std::string FileName(const v1::Run& run, const std::vector<v1::Run>& runs) {
  const bool several = std::any_of(runs.begin(), runs.end(), [&](const v1::Run& other) {
    return other.model() == run.model() && other.version() != run.version();
  });
  return several ? absl::StrCat(run.model(), "@", run.version()) : run.model();
}

absl::Status WriteResults(const Options& options, v1::StudyService::Stub& stub, const v1::Study& study,
                          const std::vector<v1::Run>& runs) {
  const fs::path folder = options.output;
  std::error_code error;
  fs::create_directories(folder, error);
  std::ofstream file(folder / "findings.json", std::ios::binary);
  file << findings::FindingsJson(study, runs);
  if (error || !file.flush()) {
    return base::Error(absl::StatusCode::kInternal, "OUTPUT", folder.string(),
                       absl::StrCat("cannot write to ", folder.string()));
  }
  for (const v1::Run& run : runs) {
    if (!options.save_labels || !run.has_label_map()) continue;
    v1::ResultInfo info;
    TS_ASSIGN_OR_RETURN(const std::string voxels,
                        Download(stub, run.run_id(), v1::RESULT_KIND_LABEL_MAP, info));
    const fs::path prefix = folder / absl::StrCat("labels_", FileName(run, runs));
    TS_RETURN_IF_ERROR(WriteLabelMap(prefix.string(), info.label_map(), voxels));
  }
  return absl::OkStatus();
}

int Analyze(const Options& options, const Context& context) {
  const auto files = RegularFiles(options.path);
  if (!files.ok()) {
    std::cerr << "tomoctl: " << files.status().message() << '\n';
    return kUsage;
  }
  const auto stub = v1::StudyService::NewStub(Connect(context.server));
  grpc::ClientContext call;
  const std::unique_ptr<Stream> stream = stub->AnalyzeStudy(&call);
  Answer answer;
  std::thread reader([&] { ReadEvents(*stream, *files, answer); });

  v1::AnalyzeStudyRequest request;
  *request.mutable_header() = MakeHeader(options);
  bool sending = stream->Write(request);
  std::string buffer;
  for (std::size_t index = 0; sending && index < files->size(); ++index) {
    sending = SendFile(*stream, (*files)[index], std::to_string(index), buffer);
  }
  if (sending) {
    request.mutable_end()->set_instances(static_cast<std::uint32_t>(files->size()));
    stream->Write(request);
  }
  stream->WritesDone();
  reader.join();
  const grpc::Status status = stream->Finish();
  if (!status.ok()) {
    const int code = Report(status, context.server);
    // Before the receipt an invalid argument is about the study itself.
    const bool refused = !answer.receipt && status.error_code() == grpc::StatusCode::INVALID_ARGUMENT;
    return refused ? kRefused : code;
  }
  if (!answer.study) return kFailed;

  std::vector<v1::Run> runs;
  bool failed = false;
  for (const std::string& id : answer.receipt->run_ids()) {
    const auto run = answer.runs.find(id);
    failed = failed || run == answer.runs.end() || run->second.state() != v1::RUN_STATE_DONE;
    if (run != answer.runs.end()) runs.push_back(run->second);
  }
  if (options.json) {
    std::cout << findings::FindingsJson(*answer.study, runs) << '\n';
  } else {
    for (const v1::Run& run : runs) PrintRun(run);
    if (runs.empty()) std::puts("no model was run: none is active for this study (name one with --model)");
  }
  if (!options.output.empty()) {
    if (const absl::Status written = WriteResults(options, *stub, *answer.study, runs); !written.ok()) {
      std::cerr << "tomoctl: " << written.message() << '\n';
      return kFailed;
    }
    std::fprintf(stderr, "results: %s\n", options.output.c_str());
  }
  return failed ? kFailed : kDone;
}

}  // namespace

void AddAnalyze(CLI::App& app, Context& context) {
  CLI::App* verb =
      app.add_subcommand("analyze", "Send a study, wait for its findings, write them to a folder");
  const auto options = std::make_shared<Options>();
  verb->add_option("path", options->path, "A DICOM file, or a folder with one study")->required();
  verb->add_option("--model", options->models,
                   "NAME[@VERSION], may be given several times; without: all active ones");
  verb->add_option("--output", options->output, "Folder for findings.json and label maps");
  verb->add_flag("--save-labels", options->save_labels,
                 "Also write label maps as labels_<model>.nii.gz, or labels_<model>@<version>.nii.gz")
      ->needs("--output");
  verb->add_option("--priority", options->priority, "routine, urgent or stat")
      ->check(CLI::IsMember({"routine", "urgent", "stat"}));
  verb->add_option("--key", options->key, "Idempotency key: an interrupted upload goes on where it stopped");
  verb->add_flag("--force", options->force, "Run again even if this input has a result");
  verb->add_flag("--json", options->json, "Print findings.json on standard output");
  verb->callback([options, &context] { context.exit_code = Analyze(*options, context); });
}

}  // namespace tomoserve::tomoctl
