#include "tomoserve/ipc/helper_pool.h"

#include <algorithm>

#include "ipc/lease_dispatch.h"
#include "ipc/lease_work.h"
#include "ipc/zygote_client.h"
#include "tomoserve/base/status.h"

namespace tomoserve::ipc {
namespace {

class ZygoteHelperPool final : public HelperPool {
 public:
  ZygoteHelperPool(HelperPoolOptions options, std::unique_ptr<ZygoteClient> zygotes)
      : options_(std::move(options)), zygotes_(std::move(zygotes)), dispatch_(options_, *zygotes_) {}

  std::vector<HeaderResult> ReadHeaders(int spool_fd, const std::vector<v1::SpoolRange>& ranges) override {
    HeaderWork work(spool_fd, ranges, options_.limits);
    dispatch_.Run(work, {});
    return std::move(work.results);
  }

  std::vector<HeaderResult> ReadHeadersWithin(int spool_fd, const std::vector<v1::SpoolRange>& ranges,
                                              std::uint64_t held_bytes) override {
    HeaderWork work(spool_fd, ranges, options_.limits, held_bytes);
    dispatch_.Run(work, {});
    const auto rest = std::find_if(work.results.begin(), work.results.end(),
                                   [](const HeaderResult& result) { return IsNotRead(result.status()); });
    // Those behind the first one filled it; alone it fits.
    if (rest == work.results.begin() && ranges.size() > 1) {
      work.results.clear();
      return ReadHeaders(spool_fd, {ranges.front()});
    }
    work.results.erase(rest, work.results.end());
    return std::move(work.results);
  }

  std::vector<absl::Status> Decode(int spool_fd, const std::vector<Frame>& frames, const Arena& arena,
                                   const std::function<bool()>& cancelled) override {
    DecodeWork work(spool_fd, frames, arena);
    dispatch_.Run(work, cancelled);
    return std::move(work.results);
  }

  std::vector<absl::StatusOr<std::uint64_t>> WriteInstances(const std::vector<Write>& items,
                                                            const Arena& pixels,
                                                            const Arena& files) override {
    WriteWork work(items, pixels, files);
    dispatch_.Run(work, {});
    return std::move(work.results);
  }

  pid_t zygote_pid() const override { return zygotes_->pid(); }
  std::uint64_t leases_started() const override { return zygotes_->leases_started(); }
  std::uint64_t child_deaths() const override { return dispatch_.child_deaths(); }

 private:
  const HelperPoolOptions options_;
  const std::unique_ptr<ZygoteClient> zygotes_;
  LeaseDispatch dispatch_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HelperPool>> HelperPool::Start(HelperPoolOptions options) {
  if (options.program.empty() || options.leases == 0 || options.lease_items == 0 ||
      options.item_timeout <= std::chrono::milliseconds::zero()) {
    return base::Error(absl::StatusCode::kInvalidArgument, "HELPER_OPTIONS_INVALID", "",
                       "a helper pool needs a program, leases, items per lease and a timeout");
  }
  TS_ASSIGN_OR_RETURN(std::unique_ptr<ZygoteClient> zygotes, ZygoteClient::Start(options.program));
  return std::make_unique<ZygoteHelperPool>(std::move(options), std::move(zygotes));
}

}  // namespace tomoserve::ipc
