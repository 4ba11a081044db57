#include <algorithm>

#include "absl/strings/str_cat.h"
#include "store/sqlite/sqlite_store.h"
#include "tomoserve/base/digest.h"

namespace tomoserve::store {
namespace {

constexpr std::uint32_t kDefaultPage = 100;
constexpr std::uint32_t kLargestPage = 1000;

std::uint32_t PageSize(std::uint32_t asked) {
  return asked == 0 ? kDefaultPage : std::min(asked, kLargestPage);
}

// Names what was asked for, so that a token does not go on in another list.
std::string FilterDigest(const v1::ListFlagsRequest& request) {
  const std::string filter = absl::StrCat(request.study_instance_uid().size(), ":",
                                          request.study_instance_uid(), request.accession_number());
  return base::Sha256Hex(filter).substr(0, 16);
}

}  // namespace

absl::StatusOr<FeedPosition> SqliteStore::EndOfFeed() {
  FeedPosition end{.epoch = epoch_};
  TS_ASSIGN_OR_RETURN(Statement query,
                      database_->Query("SELECT position, tag FROM changes ORDER BY position DESC LIMIT 1"));
  TS_ASSIGN_OR_RETURN(const bool row, query.Step());
  if (row) {
    end.position = query.Int(0);
    end.tag = query.Int(1);
  }
  return end;
}

absl::StatusOr<bool> SqliteStore::Fits(const FeedPosition& position) {
  if (position.epoch != epoch_) return false;
  if (position.position == 0) return position.tag == 0;
  TS_ASSIGN_OR_RETURN(Statement query,
                      database_->Query("SELECT tag FROM changes WHERE position = ?1", position.position));
  TS_ASSIGN_OR_RETURN(const bool row, query.Step());
  return row && query.Int(0) == position.tag;
}

absl::StatusOr<FlagPage> SqliteStore::ListFlags(const v1::ListFlagsRequest& request) {
  PagePosition page;
  const std::string filter = FilterDigest(request);
  const bool first = request.page_token().empty();
  if (!first) {
    const std::optional<PagePosition> decoded = DecodePageToken(request.page_token());
    if (!decoded || decoded->filter != filter) {
      return base::Error(absl::StatusCode::kInvalidArgument, "PAGE_TOKEN_INVALID", "",
                         "the page token was not made for this list");
    }
    page = *decoded;
  }
  const std::uint32_t size = PageSize(request.page_size());

  const std::scoped_lock lock(mutex_);
  if (first) {
    page.filter = filter;
    page.last.rank = -1;  // before every rank
    TS_ASSIGN_OR_RETURN(page.snapshot, EndOfFeed());
  } else {
    TS_ASSIGN_OR_RETURN(const bool fits, Fits(page.snapshot));
    if (!fits) {
      return base::Error(absl::StatusCode::kOutOfRange, "PAGE_TOKEN_EXPIRED", "",
                         "the snapshot of this page is gone; list again");
    }
  }

  // The change that a line had at the snapshot's position: lines that change later are shown as they were.
  std::string sql =
      "SELECT entry, rank, time_us, run_id FROM changes WHERE tenant = ?1 AND position <= ?2 AND "
      "(replaced_by IS NULL OR replaced_by > ?2) AND gone = 0 AND (rank, time_us, run_id) > (?3, ?4, ?5) ";
  // An empty filter matches everything, but its parameter must be there.
  sql += request.study_instance_uid().empty() ? "AND ?6 = '' " : "AND study_uid = ?6 ";
  sql += request.accession_number().empty() ? "AND ?7 = '' "
                                            : "AND study_uid IN (SELECT study_uid FROM study_orders WHERE "
                                              "tenant = ?1 AND accession_number = ?7) ";
  sql += "ORDER BY rank, time_us, run_id LIMIT ?8";
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database_->Query(sql, kTenant, page.snapshot.position, page.last.rank, page.last.time_us,
                       page.last_run_id, request.study_instance_uid(), request.accession_number(), size + 1));
  FlagPage answer;
  answer.cursor = EncodeCursor(page.snapshot);
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return answer;
    if (answer.flags.size() == size) break;  // there is one more than fits
    TS_RETURN_IF_ERROR(query.Message(0, answer.flags.emplace_back()));
    page.last = {.rank = static_cast<int>(query.Int(1)), .time_us = query.Int(2)};
    page.last_run_id = query.Text(3);
  }
  answer.next_page_token = EncodePageToken(page);
  return answer;
}

absl::StatusOr<ChangePage> SqliteStore::ListChanges(std::string_view cursor, std::uint32_t limit) {
  FeedPosition position{.epoch = epoch_};
  if (!cursor.empty()) {
    const std::optional<FeedPosition> decoded = DecodeCursor(cursor);
    if (!decoded) {
      return base::Error(absl::StatusCode::kInvalidArgument, "CURSOR_INVALID", "",
                         "the cursor was not made by this server");
    }
    position = *decoded;
  }
  const std::scoped_lock lock(mutex_);
  TS_ASSIGN_OR_RETURN(const bool fits, Fits(position));
  if (!fits) {
    return base::Error(absl::StatusCode::kOutOfRange, "CURSOR_EXPIRED", EncodeCursor({.epoch = epoch_}),
                       "the change feed no longer holds this position; list the flags again");
  }
  TS_ASSIGN_OR_RETURN(Statement query,
                      database_->Query("SELECT position, tag, kind, entry FROM changes WHERE tenant = ?1 AND "
                                       "position > ?2 ORDER BY position LIMIT ?3",
                                       kTenant, position.position, PageSize(limit)));
  ChangePage page;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) break;
    position.position = query.Int(0);
    position.tag = query.Int(1);
    v1::FlagChange& change = page.changes.emplace_back();
    change.set_change_id(absl::StrCat(position.position, "-", absl::Hex(position.tag, absl::kZeroPad16)));
    change.set_kind(query.EnumOf<v1::ChangeKind>(2));
    TS_RETURN_IF_ERROR(query.Message(3, *change.mutable_flag()));
    change.set_cursor(EncodeCursor(position));
  }
  page.cursor = EncodeCursor(position);
  return page;
}

}  // namespace tomoserve::store
