// Whose study it is: duplicates, missing UIDs, two patients in one study.
#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "series/internal.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::series {
namespace {

std::string Stripped(const std::string& text) { return std::string(absl::StripAsciiWhitespace(text)); }

// Distinct non-empty values of a text field: a missing value contradicts nothing.
template <typename Field>
std::map<std::string, std::uint32_t> Values(const std::vector<Known>& instances, Field field) {
  std::map<std::string, std::uint32_t> values;
  for (const Known& known : instances) {
    std::string value = Stripped(field(known.instance->header));
    if (!value.empty()) ++values[std::move(value)];
  }
  return values;
}

// The most common value, the smallest of several; empty if there is none.
std::string MostCommon(const std::map<std::string, std::uint32_t>& values) {
  const auto best = std::max_element(values.begin(), values.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return best == values.end() ? std::string() : best->first;
}

// Name components as people would compare them: case, padding and trailing separators do not count.
std::string ComparableName(const std::string& name) {
  std::string text = absl::AsciiStrToUpper(Stripped(name));
  while (!text.empty() && (text.back() == '^' || text.back() == '=' || text.back() == ' ')) text.pop_back();
  return text;
}

// The plane of an orientation in coarse steps, so that rounding of the cosines cannot split a series.
std::string PlaneOf(const Header& header) {
  if (header.image_orientation_size() != 6) return "none";
  std::string plane;
  for (int vector = 0; vector < 2; ++vector) {
    int strongest = 0;
    for (int axis = 1; axis < 3; ++axis) {
      if (std::abs(header.image_orientation(3 * vector + axis)) >
          std::abs(header.image_orientation(3 * vector + strongest))) {
        strongest = axis;
      }
    }
    plane += "xyz"[strongest];
  }
  return plane;
}

}  // namespace

std::string StudyUidOf(const Instance& instance) { return Stripped(instance.header.study_instance_uid()); }

std::vector<Known> UniqueInstances(const std::vector<Instance>& instances) {
  std::vector<Known> all;
  all.reserve(instances.size());
  for (const Instance& instance : instances) {
    std::string uid = Stripped(instance.header.sop_instance_uid());
    if (uid.empty()) uid = base::UidFromSeed("instance|" + instance.content_sha256);
    all.push_back({&instance, std::move(uid), false});
  }
  std::sort(all.begin(), all.end(), [](const Known& a, const Known& b) {
    return std::tie(a.sop_instance_uid, a.instance->content_sha256, a.instance->index) <
           std::tie(b.sop_instance_uid, b.instance->content_sha256, b.instance->index);
  });
  std::vector<Known> unique;
  for (Known& known : all) {
    if (!unique.empty() && unique.back().sop_instance_uid == known.sop_instance_uid) {
      if (unique.back().instance->content_sha256 == known.instance->content_sha256) continue;
      unique.back().conflict = true;
      known.conflict = true;
    }
    unique.push_back(std::move(known));
  }
  return unique;
}

void DescribeStudy(const std::vector<Known>& instances, StudySeries& study) {
  tomoserve::v1::StudyRef& ref = study.ref;
  if (instances.empty()) return;

  const auto study_uids = Values(instances, [](const Header& h) { return h.study_instance_uid(); });
  std::uint32_t derived = 0;
  for (const Known& known : instances) {
    const Header& header = known.instance->header;
    const bool complete = !Stripped(header.study_instance_uid()).empty() &&
                          !Stripped(header.series_instance_uid()).empty() &&
                          !Stripped(header.sop_instance_uid()).empty();
    if (!complete) ++derived;
  }
  if (study_uids.empty()) {
    std::vector<std::string> digests;
    for (const Known& known : instances) digests.push_back(known.instance->content_sha256);
    std::sort(digests.begin(), digests.end());
    ref.set_study_instance_uid(base::UidFromSeed(absl::StrCat("study|", absl::StrJoin(digests, "|"))));
  } else {
    ref.set_study_instance_uid(MostCommon(study_uids));
  }
  ref.set_identity_source(derived > 0 ? tomoserve::v1::VALUE_SOURCE_DERIVED
                                      : tomoserve::v1::VALUE_SOURCE_DICOM);
  if (derived > 0) {
    study.notices.push_back(MakeReason("UIDS_DERIVED", absl::StrCat(derived),
                                       "instances lacked a Study, Series or SOP Instance UID; stable ones "
                                       "were derived from their content"));
  }
  if (study_uids.size() > 1) {
    study.notices.push_back(MakeReason("STUDY_UID_DIFFERS", absl::StrCat(study_uids.size()),
                                       "the instances name several studies"));
  }

  // One patient? (SEMANTICS: ids with issuers, birth dates, sexes; names only warn.)
  const auto ids = Values(instances, [](const Header& h) { return h.patient_id(); });
  const auto issuers = Values(instances, [](const Header& h) { return h.issuer_of_patient_id(); });
  const auto births = Values(instances, [](const Header& h) { return h.patient_birth_date(); });
  const auto sexes = Values(instances, [](const Header& h) { return h.patient_sex(); });
  const auto names = Values(instances, [](const Header& h) { return ComparableName(h.patient_name()); });
  std::vector<std::string> conflicts;
  if (ids.size() > 1) conflicts.push_back("patient_id");
  if (issuers.size() > 1) conflicts.push_back("issuer_of_patient_id");
  if (births.size() > 1) conflicts.push_back("patient_birth_date");
  if (sexes.size() > 1) conflicts.push_back("patient_sex");
  if (!conflicts.empty()) {
    study.identity_conflict = true;
    study.notices.push_back(MakeReason("IDENTITY_CONFLICT", absl::StrJoin(conflicts, ","),
                                       "the instances name more than one patient; the study is held"));
  }
  if (names.size() > 1) {
    study.notices.push_back(MakeReason("NAME_DIFFERS", absl::StrCat(names.size()),
                                       "the patient's name is written in different ways"));
  }

  ref.set_patient_id(MostCommon(ids));
  ref.set_issuer_of_patient_id(MostCommon(issuers));
  if (!ref.patient_id().empty()) ref.set_patient_source(tomoserve::v1::VALUE_SOURCE_DICOM);
  ref.set_study_date(MostCommon(Values(instances, [](const Header& h) { return h.study_date(); })));
  ref.set_study_time(MostCommon(Values(instances, [](const Header& h) { return h.study_time(); })));
  ref.set_timezone_offset(MostCommon(Values(instances, [](const Header& h) { return h.timezone_offset(); })));
  ref.set_institution(MostCommon(Values(instances, [](const Header& h) { return h.institution(); })));
  ref.set_station(MostCommon(Values(instances, [](const Header& h) { return h.station(); })));

  std::set<std::array<std::string, 5>> orders;
  std::set<std::string> modalities;
  std::map<std::string, std::pair<std::uint32_t, std::string>> repairs;
  for (const Known& known : instances) {
    const Header& h = known.instance->header;
    std::array<std::string, 5> order{Stripped(h.accession_number()), Stripped(h.accession_issuer()),
                                     Stripped(h.requested_procedure_id()), Stripped(h.placer_order_number()),
                                     Stripped(h.filler_order_number())};
    if (std::any_of(order.begin(), order.end(), [](const std::string& text) { return !text.empty(); })) {
      orders.insert(std::move(order));
    }
    const bool image = h.kind() == ipc::v1::OBJECT_KIND_IMAGE || h.kind() == ipc::v1::OBJECT_KIND_PICTURE;
    if (image && !Stripped(h.modality()).empty()) modalities.insert(Stripped(h.modality()));
    for (const ipc::v1::Refusal& repair : h.repairs()) {
      auto& [count, text] = repairs[repair.code()];
      ++count;
      if (text.empty() || repair.text() < text) text = repair.text();
    }
  }
  for (const auto& order : orders) {
    tomoserve::v1::Order& out = *ref.add_orders();
    out.set_accession_number(order[0]);
    out.set_issuer(order[1]);
    out.set_requested_procedure_id(order[2]);
    out.set_placer_order_number(order[3]);
    out.set_filler_order_number(order[4]);
    out.set_source(tomoserve::v1::VALUE_SOURCE_DICOM);
  }
  for (const std::string& modality : modalities) ref.add_modalities(modality);
  for (const auto& [code, repair] : repairs) {
    study.notices.push_back(MakeReason(code, absl::StrCat(repair.first), repair.second));
  }
}

std::string SeriesUidOf(const Known& known, const std::string& study_uid) {
  const Header& header = known.instance->header;
  std::string uid = Stripped(header.series_instance_uid());
  if (!uid.empty()) return uid;
  return base::UidFromSeed(absl::StrCat(
      "series|", study_uid, "|", Stripped(header.modality()), "|", Stripped(header.frame_of_reference_uid()),
      "|", header.has_series_number() ? absl::StrCat(header.series_number()) : "", "|", PlaneOf(header)));
}

}  // namespace tomoserve::series
