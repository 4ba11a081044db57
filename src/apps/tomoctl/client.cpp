#include "apps/tomoctl/client.h"

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "apps/tomoctl/verbs.h"
#include "google/protobuf/util/json_util.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace tomoserve::tomoctl {

std::string ReasonOf(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  if (details.ParseFromString(status.error_details())) {
    for (const auto& detail : details.details()) {
      if (detail.UnpackTo(&info)) return info.reason();
    }
  }
  return absl::StrCat("code ", static_cast<int>(status.error_code()));
}

std::shared_ptr<grpc::Channel> Connect(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

int Report(const grpc::Status& status, const std::string& server) {
  if (status.ok()) return kDone;
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && status.error_details().empty()) {
    std::cerr << "tomoctl: no server answers at " << server << " (start one: build/bin/tomoserve --help)\n";
    return kUnreachable;
  }
  std::cerr << "tomoctl: " << ReasonOf(status) << ": " << status.error_message() << '\n';
  return kFailed;
}

v1::ModelSelector ParseModel(const std::string& text) {
  const std::size_t at = text.find('@');
  v1::ModelSelector selector;
  selector.set_name(text.substr(0, at));
  if (at != std::string::npos) selector.set_version(text.substr(at + 1));
  return selector;
}

void PrintJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  std::string json;
  if (google::protobuf::util::MessageToJsonString(message, &json, options).ok()) std::cout << json;
}

std::string WithoutPrefix(const std::string& name, const std::string& prefix) {
  return name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : name;
}

std::string Describe(const v1::Run& run) {
  const auto codes = [](const auto& reasons) {
    return absl::StrJoin(reasons, ", ", [](std::string* out, const v1::Reason& reason) {
      absl::StrAppend(out, reason.code(),
                      reason.value().empty() ? "" : absl::StrCat("(", reason.value(), ")"));
    });
  };
  if (run.state() != v1::RUN_STATE_DONE) {
    std::string text = WithoutPrefix(v1::RunState_Name(run.state()), "RUN_STATE_");
    if (run.has_failure()) absl::StrAppend(&text, " ", run.failure().code(), ": ", run.failure().text());
    return text;
  }
  std::string text = WithoutPrefix(v1::FlagState_Name(run.flag().state()), "FLAG_STATE_");
  if (run.flag().state() == v1::FLAG_STATE_FLAGGED) {
    absl::StrAppend(&text, " ", WithoutPrefix(v1::FlagLevel_Name(run.flag().level()), "FLAG_LEVEL_"));
  }
  if (!run.flag().reasons().empty()) absl::StrAppend(&text, " [", codes(run.flag().reasons()), "]");
  return text;
}

namespace {

void PrintMean(const v1::Finding& finding) {
  const std::string hu = finding.has_mean_hu() ? absl::StrFormat("%.1f HU", finding.mean_hu().value()) : "-";
  std::printf("  %9s", hu.c_str());
}

}  // namespace

void PrintRun(const v1::Run& run) {
  std::printf("%s %s: %s\n", run.model().c_str(), run.version().c_str(), Describe(run).c_str());
  if (run.findings().empty()) return;
  const bool values = std::any_of(run.findings().begin(), run.findings().end(),
                                  [](const v1::Finding& finding) { return finding.has_mean_hu(); });
  const bool sides = std::any_of(
      run.findings().begin(), run.findings().end(),
      [](const v1::Finding& finding) { return finding.laterality() != v1::LATERALITY_UNSPECIFIED; });
  const bool times = run.label_map().time_points() > 1 ||
                     std::any_of(run.findings().begin(), run.findings().end(),
                                 [](const v1::Finding& finding) { return finding.time_point() > 0; });
  std::printf("  %-3s %-10s %6s  %-26s %9s %9s %6s%s%s%s\n", "#", "label", "score", "centre L,P,S mm",
              "longest", "volume", "slice", values ? "       mean" : "", sides ? "  side   " : "",
              times ? "  time" : "");
  int number = 0;
  for (const v1::Finding& finding : run.findings()) {
    const v1::PointLps& centre = finding.centre_lps();
    std::printf("  %-3d %-10s %6.3f  %-26s %6.1f mm %6.2f ml %6u", ++number, finding.label().c_str(),
                finding.score(),
                absl::StrFormat("%.1f, %.1f, %.1f", centre.x_mm(), centre.y_mm(), centre.z_mm()).c_str(),
                finding.longest_diameter_3d_mm().value(), finding.volume_ml().value(), finding.key_slice_k());
    if (values) PrintMean(finding);
    if (sides) {
      const std::string side = WithoutPrefix(v1::Laterality_Name(finding.laterality()), "LATERALITY_");
      const bool known = finding.laterality() != v1::LATERALITY_UNSPECIFIED;
      std::printf("  %-7s", known ? absl::AsciiStrToLower(side).c_str() : "-");
    }
    if (times) std::printf(" %5u", finding.time_point());
    std::putchar('\n');
  }
}

}  // namespace tomoserve::tomoctl
