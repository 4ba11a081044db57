// The files that a TorchScript archive carries beside its code: "<archive>/extra/<name>".
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"

namespace tomoserve::models::importer {

// The JSON files among them, by name ("inference.json"). The archive's code is not looked at: the worker
// judges it before it loads it. Errors, all with the file's name as their value: IMPORT_ARCHIVE (not
// readable, no zip, no TorchScript, more than 100000 members, a member twice, more than 8 MiB of JSON in
// one).
absl::StatusOr<std::map<std::string, std::string>> ReadExtraFiles(const std::string& path);

}  // namespace tomoserve::models::importer
