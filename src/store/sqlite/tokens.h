// Opaque positions that clients hold: cursors of the change feed and page tokens of the worklist.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tomoserve/findings/flag.h"

namespace tomoserve::store {

// A place in the change feed: after the change at `position`, whose random tag is `tag`. {0, 0} is the start.
// After a restore the feed may go another way: then the epoch or the tag does not fit any more.
struct FeedPosition {
  std::string epoch;  // 32 hex digits
  std::int64_t position = 0;
  std::int64_t tag = 0;
};

// Base64url of all three.
std::string EncodeCursor(const FeedPosition& position);
// nullopt: not made by EncodeCursor.
std::optional<FeedPosition> DecodeCursor(std::string_view cursor);

// Where a page of the worklist ended: the snapshot, what was asked for, and the last line.
struct PagePosition {
  FeedPosition snapshot;
  std::string filter;  // 16 hex digits: digest of the request's filters
  findings::UrgencyKey last;
  std::string last_run_id;
};

std::string EncodePageToken(const PagePosition& page);
// nullopt: not made by EncodePageToken.
std::optional<PagePosition> DecodePageToken(std::string_view token);

}  // namespace tomoserve::store
