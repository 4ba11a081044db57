// The tables and how older databases reach them.
#pragma once

#include "store/sqlite/database.h"

namespace tomoserve::store {

// Brings the database to this program's schema, one transaction a step (user_version counts them). Errors:
// kFailedPrecondition DATABASE_NEWER where a newer program has been here.
absl::Status Migrate(Database& database);

// kDataLoss DATABASE_CORRUPT unless quick_check finds every page well.
absl::Status CheckIntegrity(Database& database);

}  // namespace tomoserve::store
