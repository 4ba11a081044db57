#include "apps/tomoctl/load_call.h"

#include <algorithm>
#include <map>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "apps/tomoctl/client.h"
#include "grpcpp/grpcpp.h"

namespace tomoserve::tomoctl {
namespace {

using Clock = std::chrono::steady_clock;
using Stream = grpc::ClientReaderWriter<v1::AnalyzeStudyRequest, v1::AnalyzeStudyResponse>;

constexpr std::size_t kChunkBytes = 1 << 20;

std::unique_ptr<v1::StudyService::Stub> OwnConnection(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(64 << 20);
  return v1::StudyService::NewStub(
      grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments));
}

v1::Priority PriorityOf(const std::string& name) {
  return name == "stat" ? v1::PRIORITY_STAT : name == "urgent" ? v1::PRIORITY_URGENT : v1::PRIORITY_ROUTINE;
}

void SendFiles(Stream& stream, const v1::SubmissionHeader& header, const LoadStudy& study,
               const std::string& submission) {
  v1::AnalyzeStudyRequest request;
  *request.mutable_header() = header;
  bool sending = stream.Write(request);
  for (std::size_t index = 0; sending && index < study.files(); ++index) {
    const std::string bytes = study.File(index, submission);
    request.mutable_instance()->set_instance_key(std::to_string(index));
    request.mutable_instance()->set_size_bytes(bytes.size());
    sending = stream.Write(request);
    for (std::size_t sent = 0; sending && sent < bytes.size(); sent += kChunkBytes) {
      request.mutable_chunk()->set_data(bytes.substr(sent, kChunkBytes));
      sending = stream.Write(request);
    }
  }
  if (sending) {
    request.mutable_end()->set_instances(static_cast<std::uint32_t>(study.files()));
    stream.Write(request);
  }
  stream.WritesDone();
}

// What is wrong with a run, or nothing.
std::string CodeOf(const v1::Run& run) {
  if (run.state() != v1::RUN_STATE_DONE) {
    return run.has_failure() ? run.failure().code()
                             : WithoutPrefix(v1::RunState_Name(run.state()), "RUN_STATE_");
  }
  return run.flag().state() == v1::FLAG_STATE_NOT_APPLICABLE ? "NOT_APPLICABLE" : "";
}

std::string CodeOf(const grpc::Status& status) {
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) return "UNFINISHED";
  // Where no server answered there is no reason of it.
  return status.error_details().empty()
             ? absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code()))
             : ReasonOf(status);
}

double ForwardSeconds(const v1::Run& run) {
  double seconds = 0;
  for (const v1::StageTiming& timing : run.timings()) {
    if (timing.stage() == "forward") seconds += timing.ms() / 1000;
  }
  return seconds;
}

}  // namespace

LoadCall::LoadCall(const LoadOptions& options, const std::string& nonce)
    : options_(options), nonce_(nonce), stub_(OwnConnection(options.server)) {}

void LoadCall::Send(const LoadStudy& study, std::size_t number, Clock::time_point start, double until_s,
                    LoadSample& sample) {
  const auto now_s = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  sample.started_s = now_s();
  if (sample.started_s >= until_s) {
    sample.code = "NOT_SENT";
    return;
  }
  v1::SubmissionHeader header;
  header.set_completion(v1::COMPLETION_FINAL);
  header.set_priority(PriorityOf(options_.priorities[sample.priority].name));
  for (const std::string& model : options_.models) *header.add_models() = ParseModel(model);

  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(static_cast<std::int64_t>(
                                                              1000 * (until_s - sample.started_s))));
  const auto stream = stub_->AnalyzeStudy(&context);
  // The server answers while it is sent to: what it says must not wait.
  std::thread sender([&] { SendFiles(*stream, header, study, absl::StrCat(nonce_, "|", number)); });
  std::map<std::string, v1::Run> runs;
  v1::SubmissionReceipt receipt;
  std::optional<double> final_s;
  v1::AnalyzeStudyResponse response;
  while (stream->Read(&response)) {
    if (response.has_receipt()) {
      sample.acknowledged_s = now_s();
      receipt = response.receipt();
    } else if (response.has_run()) {
      runs[response.run().run_id()] = response.run();
    } else if (response.has_study()) {
      final_s = now_s();
    }
  }
  sender.join();
  const grpc::Status status = stream->Finish();
  sample.study_uid = receipt.study_instance_uid();
  if (!status.ok()) {
    sample.code = CodeOf(status);
  } else if (!final_s || receipt.run_ids().empty()) {
    sample.code = "LOST";
  }
  for (const std::string& id : receipt.run_ids()) {
    if (!sample.code.empty()) return;
    const auto run = runs.find(id);
    sample.code = run == runs.end() ? "LOST" : CodeOf(run->second);
    if (run != runs.end()) sample.forward_s += ForwardSeconds(run->second);
  }
  if (sample.code.empty() && receipt.instances_refused() > 0) sample.code = "INSTANCES_REFUSED";
  if (sample.code.empty()) sample.final_s = final_s;
}

}  // namespace tomoserve::tomoctl
