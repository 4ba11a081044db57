// Which batch sizes of a model have been proved where: kept over restarts, so that they are not proved again.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/models/repository.h"

namespace tomoserve::dispatch {

// A proof is one of the model's files and recipe on a kind of device, with versions of LibTorch, driver and
// cuDNN, and of the server, whose own padding and precision decide bits, too: with any other of these there
// is none. Lies in a small text file, one proof a line; one that cannot be read or written is no error, the
// worker proves again. Confined to one thread.
class BucketProofs {
 public:
  // An empty name keeps nothing. `build`: the server's version and commit.
  BucketProofs(std::string file, std::string build);

  std::optional<ipc::v1::BucketProof> Find(const models::Model& model, const ipc::v1::Hello& device) const;
  // Writes the file where that is news. A proof that cannot be (sizes that do not ascend from 1 to at most
  // 64, or were not tried) is not kept.
  void Keep(const models::Model& model, const ipc::v1::Hello& device, const ipc::v1::BucketProof& proof);

 private:
  struct Proof {
    std::string buckets;  // "1,2,4"
    std::string tried;
    bool operator==(const Proof&) const = default;
  };
  void Write() const;

  const std::string file_;
  const std::string build_;
  std::map<std::string, Proof> proofs_;  // by digest of what they hold for
};

// Whether sizes of batches ascend from 1 to at most 64.
bool AreBuckets(const google::protobuf::RepeatedField<std::uint32_t>& sizes);

}  // namespace tomoserve::dispatch
