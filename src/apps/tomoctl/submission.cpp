#include "apps/tomoctl/submission.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <thread>

#include "absl/strings/numbers.h"
#include "apps/tomoctl/progress.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kChunkBytes = 1 << 20;
// Of a result, before it is there: what a server says of its size may be wrong.
constexpr std::uint64_t kMostReserved = 1ull << 30;

using Stream = grpc::ClientReaderWriter<v1::AnalyzeStudyRequest, v1::AnalyzeStudyResponse>;

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
void ReadEvents(Stream& stream, const std::vector<fs::path>& files, bool show, Answer& answer) {
  Progress progress;
  v1::AnalyzeStudyResponse response;
  std::size_t judged = 0;
  while (stream.Read(&response)) {
    switch (response.event_case()) {
      case v1::AnalyzeStudyResponse::kInstance:
        ++judged;
        if (show)
          progress.Show("send", static_cast<double>(judged), static_cast<double>(files.size()), "files");
        if (response.instance().outcome() == v1::INSTANCE_OUTCOME_REFUSED)
          answer.refused.push_back(response.instance());
        break;
      case v1::AnalyzeStudyResponse::kReceipt: {
        progress.End();
        answer.receipt = response.receipt();
        if (!show) break;
        const v1::SubmissionReceipt& receipt = response.receipt();
        std::fprintf(stderr, "acknowledged: %u instances (%u there already), %u refused\n",
                     receipt.instances_accepted(), receipt.instances_duplicate(),
                     receipt.instances_refused());
        break;
      }
      case v1::AnalyzeStudyResponse::kRun: {
        const v1::Run& run = response.run();
        if (show && run.state() == v1::RUN_STATE_RUNNING)
          progress.Show(run.model(), run.progress() * 100, 100, "%");
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
  if (show) PrintRefused(answer.refused, files);
}

}  // namespace

grpc::Status Submit(v1::StudyService::Stub& stub, const v1::SubmissionHeader& header,
                    const std::vector<fs::path>& files, bool show, Answer& answer) {
  grpc::ClientContext call;
  const std::unique_ptr<Stream> stream = stub.AnalyzeStudy(&call);
  std::thread reader([&] { ReadEvents(*stream, files, show, answer); });

  v1::AnalyzeStudyRequest request;
  *request.mutable_header() = header;
  bool sending = stream->Write(request);
  std::string buffer;
  for (std::size_t index = 0; sending && index < files.size(); ++index) {
    sending = SendFile(*stream, files[index], std::to_string(index), buffer);
  }
  if (sending) {
    request.mutable_end()->set_instances(static_cast<std::uint32_t>(files.size()));
    stream->Write(request);
  }
  stream->WritesDone();
  reader.join();
  return stream->Finish();
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
  while (bytes.size() <= info.size_bytes() && reader->Read(&response)) {
    if (response.has_info()) {
      info = response.info();
      bytes.reserve(std::min(info.size_bytes(), kMostReserved));
    } else {
      bytes += response.data();
    }
  }
  const bool too_long = bytes.size() > info.size_bytes();
  if (too_long) context.TryCancel();
  if (const grpc::Status status = reader->Finish(); !status.ok() && !too_long) {
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  }
  if (bytes.size() != info.size_bytes() || base::Sha256Hex(bytes) != info.sha256()) {
    return base::Error(absl::StatusCode::kDataLoss, "RESULT_DAMAGED", "", "a result arrived damaged");
  }
  return bytes;
}

}  // namespace tomoserve::tomoctl
