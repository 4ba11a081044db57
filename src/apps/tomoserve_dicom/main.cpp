// tomoserve-dicom: the zygote of the sandboxed DICOM helpers. It is started by the front, which holds the
// other end of descriptor 3.
#include <stdlib.h>
#include <time.h>

#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/dicom/lease_server.h"
#include "tomoserve/dicom/runtime.h"
#include "tomoserve/ipc/child.h"
#include "tomoserve/ipc/zygote.h"

int main() {
  using namespace tomoserve;
  // The time zone's file is read once, here; children cannot.
  setenv("TZ", "UTC", 1);
  tzset();
  const auto runtime = dicom::Runtime::Create();
  if (!runtime.ok()) {
    base::Log(base::LogLevel::kError, "dicom_runtime_failed",
              {{"code", base::ReasonOf(runtime.status())}, {"value", base::ValueOf(runtime.status())}});
    return 1;
  }
  return ipc::RunZygote(ipc::RecordSocket(base::UniqueFd(ipc::kChildSocketFd)),
                        [&](const ipc::v1::LeaseRequest& request, ipc::RecordSocket& lease) {
                          dicom::ServeLease(**runtime, request, lease);
                        });
}
