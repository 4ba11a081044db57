// Networks of golden cases.
#pragma once

#include <fcntl.h>

#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/engine/network.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::testing {

// Errors: those of the file and of Network::Load.
inline absl::StatusOr<std::shared_ptr<engine::Network>> LoadNetwork(const std::filesystem::path& file,
                                                                    const v1::Recipe& recipe) {
  const base::UniqueFd opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  const int fd = opened.get();
  TS_ASSIGN_OR_RETURN(const std::string digest, base::Sha256HexOfFile(fd));
  return engine::Network::Load({&fd, 1}, recipe, {&digest, 1});
}

}  // namespace tomoserve::testing
