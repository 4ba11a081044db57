// A study on its way to the server and its answer back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/grpcpp.h"
#include "tomoserve/v1/study_service.grpc.pb.h"

namespace tomoserve::tomoctl {

// What the server said.
struct Answer {
  std::vector<v1::InstanceStatus> refused;  // instance_key: the file's number
  std::optional<v1::SubmissionReceipt> receipt;
  std::map<std::string, v1::Run> runs;  // by run id, as each was last
  std::optional<v1::Study> study;
};

// Sends the files, waits until every wanted run is final. `show`: progress, the receipt and refused files go
// to stderr. A file that cannot be read ends the stream without an acknowledgement, and is named there.
grpc::Status Submit(v1::StudyService::Stub& stub, const v1::SubmissionHeader& header,
                    const std::vector<std::filesystem::path>& files, bool show, Answer& answer);

// Fetches a result object of a run. Errors: those of the server, RESULT_DAMAGED.
absl::StatusOr<std::string> Download(v1::StudyService::Stub& stub, const std::string& run_id,
                                     v1::ResultKind kind, v1::ResultInfo& info);

}  // namespace tomoserve::tomoctl
