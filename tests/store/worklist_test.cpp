// The worklist and its change feed.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "store/store_fixture.h"

namespace tomoserve::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WorklistTest : public StoreTest {
 protected:
  void Fail(const std::string& run_id) {
    v1::Reason reason;
    reason.set_code("OUT_OF_MEMORY");
    ASSERT_EQ(store_->CommitFailure(run_id, reason), absl::OkStatus());
  }
  std::string EndCursor() { return store_->ListFlags({})->cursor; }
  // All pages of `request` from `page` on.
  std::vector<std::string> Rest(v1::ListFlagsRequest request, FlagPage page) {
    std::vector<std::string> ids;
    while (true) {
      for (const v1::FlagEntry& flag : page.flags) ids.push_back(flag.run_id());
      if (page.next_page_token.empty()) return ids;
      EXPECT_EQ(page.flags.size(), request.page_size());
      request.set_page_token(page.next_page_token);
      auto next = store_->ListFlags(request);
      EXPECT_TRUE(next.ok()) << next.status();
      if (!next.ok()) return ids;
      EXPECT_EQ(next->cursor, page.cursor);
      page = *std::move(next);
    }
  }
};

TEST_F(WorklistTest, MostUrgentComesFirst) {
  const std::string clear = OneRun("1.1");
  const std::string info = OneRun("1.2");
  const std::string critical = OneRun("1.3");
  const std::string stat_failed = OneRun("1.4", v1::PRIORITY_STAT);
  const std::string stat_inconclusive = OneRun("1.5", v1::PRIORITY_STAT);
  const std::string open = OneRun("1.6", v1::PRIORITY_STAT);
  Finish(clear, v1::FLAG_STATE_NO_FINDING);
  Finish(info, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_INFO);
  Finish(critical, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_CRITICAL);
  Fail(stat_failed);
  Finish(stat_inconclusive, v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_THAT(FlagRuns(), ElementsAre(stat_failed, stat_inconclusive, critical, info, clear));
}

TEST_F(WorklistTest, LinesSayWhatTheRunSays) {
  const std::string id = OneRun("1.2", v1::PRIORITY_URGENT);
  Finish(id, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_ATTENTION);
  const std::string failed = OneRun("1.3");
  Fail(failed);
  const auto flags = Flags();
  ASSERT_EQ(flags.size(), 2u);
  EXPECT_EQ(flags[0].study().study_instance_uid(), "1.2");
  EXPECT_EQ(flags[0].model(), "lung");
  EXPECT_EQ(flags[0].version(), "1");
  EXPECT_EQ(flags[0].run_state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(flags[0].flag().level(), v1::FLAG_LEVEL_ATTENTION);
  EXPECT_EQ(flags[0].findings(), 2u);
  EXPECT_EQ(flags[0].highest_score(), 0.75);
  EXPECT_EQ(flags[0].priority(), v1::PRIORITY_URGENT);
  EXPECT_TRUE(flags[0].has_at());
  EXPECT_EQ(flags[1].run_state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(flags[1].failure().code(), "OUT_OF_MEMORY");
}

TEST_F(WorklistTest, ModelsThatAreNotActiveAndPriorsAreNeverListed) {
  const std::string shadow =
      Submit("1.1", {"1.1.1"}, {Model("lung", v1::ACTIVATION_STAGE_SHADOW)}).run_ids(0);
  v1::SubmissionHeader prior;
  prior.set_role(v1::STUDY_ROLE_PRIOR);
  const std::string of_prior = Submit("1.2", {"1.2.1"}, {Model("lung")}, prior).run_ids(0);
  const std::string by_name = Submit("1.3", {"1.3.1"}, {Model("demo")}).run_ids(0);
  const std::string off = Submit("1.4", {"1.4.1"}, {Model("old", v1::ACTIVATION_STAGE_OFF)}).run_ids(0);
  for (const std::string& id : {shadow, of_prior, by_name, off})
    Finish(id, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_URGENT);
  EXPECT_FALSE(Run(shadow).listed);
  EXPECT_FALSE(Run(of_prior).listed);
  EXPECT_FALSE(Run(off).listed)
      << "a version that somebody took out of use answers whom asks, not the worklist";
  EXPECT_THAT(FlagRuns(), ElementsAre(by_name));
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + by_name));

  // What becomes the study to be read, or is asked for by name, is listed from then on.
  Submit("1.2", {"1.2.1"}, {});
  Submit("1.1", {"1.1.1"}, {Model("lung", v1::ACTIVATION_STAGE_ACTIVE)});
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + by_name, "CREATED " + of_prior, "CREATED " + shadow));
  // And a later prior does not take it away.
  Submit("1.2", {"1.2.1"}, {}, prior);
  EXPECT_EQ(Flags().size(), 3u);
}

TEST_F(WorklistTest, HigherPriorityMovesTheLine) {
  const std::string first = OneRun("1.1");
  const std::string second = OneRun("1.2");
  Finish(first, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_URGENT);
  Finish(second, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_URGENT);
  EXPECT_THAT(FlagRuns(), ElementsAre(first, second));
  EXPECT_EQ(OneRun("1.2", v1::PRIORITY_STAT), second);
  EXPECT_THAT(FlagRuns(), ElementsAre(second, first));
  EXPECT_THAT(Feed(), ElementsAre("CREATED " + first, "CREATED " + second, "UPDATED " + second));
}

TEST_F(WorklistTest, PagesHoldEveryLineOnce) {
  std::set<std::string> runs;
  for (int i = 0; i < 23; ++i) {
    const std::string id =
        OneRun("1." + std::to_string(i), i % 2 == 0 ? v1::PRIORITY_STAT : v1::PRIORITY_ROUTINE);
    Finish(id, i % 3 == 0 ? v1::FLAG_STATE_FLAGGED : v1::FLAG_STATE_NO_FINDING,
           i % 3 == 0 ? v1::FLAG_LEVEL_URGENT : v1::FLAG_LEVEL_UNSPECIFIED);
    runs.insert(id);
  }
  const std::vector<std::string> whole = FlagRuns();
  EXPECT_EQ(std::set<std::string>(whole.begin(), whole.end()), runs);
  for (const std::uint32_t size : {1u, 5u, 22u, 23u, 1000u, 5000u}) {
    v1::ListFlagsRequest request;
    request.set_page_size(size);
    EXPECT_EQ(Rest(request, *store_->ListFlags(request)), whole) << size;
  }
}

TEST_F(WorklistTest, PagesStayTheSnapshotWhileLinesChange) {
  std::vector<std::string> ids;
  for (int i = 0; i < 12; ++i) {
    ids.push_back(OneRun("1." + std::to_string(i)));
    Finish(ids.back(), v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_ATTENTION);
  }
  v1::ListFlagsRequest request;
  request.set_page_size(4);
  const FlagPage first = *store_->ListFlags(request);

  // A line of a later page moves to the top, one of the first page is replaced by a lower one, a new one
  // comes.
  OneRun("1.10", v1::PRIORITY_STAT);
  const std::string again = Submit("1.1", {"1.1.9"}, {Model("lung")}).run_ids(0);
  Finish(again, v1::FLAG_STATE_NO_FINDING);
  const std::string replaced = Submit("1.7", {"1.7.9"}, {Model("lung")}).run_ids(0);
  Finish(replaced, v1::FLAG_STATE_NO_FINDING);
  Finish(OneRun("1.99"), v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_ATTENTION);

  EXPECT_EQ(Rest(request, first), ids);
  // The feed goes on exactly where the snapshot ended.
  EXPECT_THAT(Feed(first.cursor),
              ElementsAre("UPDATED " + ids[10], "CREATED " + again, "SUPERSEDED " + ids[1],
                          "CREATED " + replaced, "SUPERSEDED " + ids[7], "CREATED " + FlagRuns()[10]));
  // A line on a later page is shown as it was.
  request.set_page_token(first.next_page_token);
  request.set_page_size(100);
  const auto rest = store_->ListFlags(request);
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(rest->flags[6].run_id(), ids[10]);
  EXPECT_EQ(rest->flags[6].priority(), v1::PRIORITY_ROUTINE);
}

TEST_F(WorklistTest, FiltersByStudyAndAccessionNumber) {
  const std::string a = OneRun("1.1");
  const std::string b = OneRun("1.2");
  Finish(a, v1::FLAG_STATE_NO_FINDING);
  Finish(b, v1::FLAG_STATE_NO_FINDING);
  Acknowledgement order;
  order.submission_id = Begin();
  order.study.study_uid = "1.2";
  order.study.ref.add_orders()->set_accession_number("A17");
  ASSERT_TRUE(store_->Acknowledge(order).ok());

  v1::ListFlagsRequest request;
  request.set_study_instance_uid("1.1");
  EXPECT_THAT(Rest(request, *store_->ListFlags(request)), ElementsAre(a));
  request.set_accession_number("A17");
  EXPECT_THAT(store_->ListFlags(request)->flags, IsEmpty());
  request.clear_study_instance_uid();
  EXPECT_THAT(Rest(request, *store_->ListFlags(request)), ElementsAre(b));
  request.set_accession_number("A1");
  EXPECT_THAT(store_->ListFlags(request)->flags, IsEmpty());
}

TEST_F(WorklistTest, PageTokensFitTheirListOnly) {
  for (int i = 0; i < 3; ++i) Finish(OneRun("1." + std::to_string(i)), v1::FLAG_STATE_NO_FINDING);
  v1::ListFlagsRequest request;
  request.set_page_size(1);
  const std::string token = store_->ListFlags(request)->next_page_token;
  request.set_page_token(token);
  request.set_study_instance_uid("1.1");
  EXPECT_EQ(Reason(store_->ListFlags(request)), "PAGE_TOKEN_INVALID");
  request.clear_study_instance_uid();
  for (const std::string& broken : {std::string("x"), token.substr(0, 20), EndCursor(), token + "!"}) {
    request.set_page_token(broken);
    EXPECT_EQ(Reason(store_->ListFlags(request)), "PAGE_TOKEN_INVALID") << broken;
  }
}

TEST_F(WorklistTest, FeedIsInCommitOrderAndResumable) {
  std::vector<std::string> expected;
  for (int i = 0; i < 7; ++i) {
    const std::string id = OneRun("1." + std::to_string(i));
    Finish(id, v1::FLAG_STATE_NO_FINDING);
    expected.push_back(id);
  }
  for (const std::uint32_t limit : {1u, 3u, 7u}) {
    std::vector<std::string> seen;
    std::set<std::string> change_ids;
    std::string cursor;
    while (true) {
      const auto page = store_->ListChanges(cursor, limit);
      ASSERT_TRUE(page.ok()) << page.status();
      if (page->changes.empty()) {
        EXPECT_EQ(page->cursor, cursor);
        break;
      }
      EXPECT_LE(page->changes.size(), limit);
      for (const v1::FlagChange& change : page->changes) {
        seen.push_back(change.flag().run_id());
        change_ids.insert(change.change_id());
      }
      EXPECT_EQ(page->changes.back().cursor(), page->cursor);
      cursor = page->cursor;
    }
    EXPECT_EQ(seen, expected);
    EXPECT_EQ(change_ids.size(), expected.size());
    EXPECT_EQ(cursor, EndCursor());
  }
  // Every change's own cursor goes on right behind it; so does a cursor after a restart.
  const auto all = store_->ListChanges("", 0);
  Reopen();
  EXPECT_EQ(Feed(all->changes[4].cursor()).size(), 2u);
}

TEST_F(WorklistTest, EmptyFeedHasACursorThatWaits) {
  const auto page = store_->ListChanges("", 0);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(page->changes, IsEmpty());
  EXPECT_EQ(page->cursor, EndCursor());
  const std::string id = OneRun("1.2");
  Finish(id, v1::FLAG_STATE_NO_FINDING);
  EXPECT_THAT(Feed(page->cursor), ElementsAre("CREATED " + id));
}

TEST_F(WorklistTest, BrokenCursorsAreTyped) {
  for (const std::string& broken :
       {std::string("x"), std::string("!!!!"), EndCursor().substr(1), EndCursor() + "AAAA"}) {
    const auto page = store_->ListChanges(broken, 0);
    EXPECT_EQ(Reason(page), "CURSOR_INVALID") << broken;
    EXPECT_EQ(page.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(WorklistTest, CursorOfAnotherDatabaseIsExpiredAndNamesTheOldest) {
  Finish(OneRun("1.2"), v1::FLAG_STATE_NO_FINDING);
  const std::string cursor = EndCursor();
  const TemporaryFolder other;
  auto store = OpenSqliteStore(other.path());
  ASSERT_TRUE(store.ok());
  const auto page = (*store)->ListChanges(cursor, 0);
  EXPECT_EQ(Reason(page), "CURSOR_EXPIRED");
  EXPECT_EQ(page.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE((*store)->ListChanges(base::ValueOf(page.status()), 0).ok());
}

TEST_F(WorklistTest, CursorsExpireWhenABackupIsRestored) {
  Finish(OneRun("1.1"), v1::FLAG_STATE_NO_FINDING);
  const std::string before = EndCursor();
  store_.reset();
  const TemporaryFolder backup;
  std::filesystem::copy(
      folder_.path(), backup.path(),
      std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  Reopen();
  Finish(OneRun("1.2"), v1::FLAG_STATE_NO_FINDING);
  const std::string lost = EndCursor();
  v1::ListFlagsRequest request;
  request.set_page_size(1);
  request.set_page_token(store_->ListFlags(request)->next_page_token);

  store_ = *OpenSqliteStore(backup.path());
  EXPECT_EQ(Reason(store_->ListChanges(lost, 0)), "CURSOR_EXPIRED");
  // Also when the restored feed has grown to the same length.
  const std::string id = OneRun("1.3");
  Finish(id, v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(Reason(store_->ListChanges(lost, 0)), "CURSOR_EXPIRED");
  EXPECT_EQ(Reason(store_->ListFlags(request)), "PAGE_TOKEN_EXPIRED");
  // What the backup knew is still good.
  EXPECT_THAT(Feed(before), ElementsAre("CREATED " + id));
  store_.reset();
}

}  // namespace
}  // namespace tomoserve::store
