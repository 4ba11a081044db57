// What the verbs that talk to a server share.
#pragma once

#include <memory>
#include <string>

#include "google/protobuf/message.h"
#include "grpcpp/grpcpp.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/study.pb.h"

namespace tomoserve::tomoctl {

std::shared_ptr<grpc::Channel> Connect(const std::string& server);

// NAME or NAME@VERSION.
v1::ModelSelector ParseModel(const std::string& text);

// The server's reason code; "code N" where there is none.
std::string ReasonOf(const grpc::Status& status);

// Prints "tomoctl: REASON: text" on stderr and returns the exit code: kUnreachable where no server answered,
// kFailed otherwise.
int Report(const grpc::Status& status, const std::string& server);

// protobuf's JSON mapping with default values, on stdout.
void PrintJson(const google::protobuf::Message& message);

// "FLAGGED URGENT", "NO_FINDING", "INCONCLUSIVE (COVERAGE_PARTIAL)", or the state of a run without a flag.
std::string Describe(const v1::Run& run);

// An enum's name without its prefix: RUN_STATE_DONE -> DONE.
std::string WithoutPrefix(const std::string& name, const std::string& prefix);

// One line per run, then a table of its findings.
void PrintRun(const v1::Run& run);

}  // namespace tomoserve::tomoctl
